"""A tolerance goes in, as few products as it needs come out as an Estimate: the driver behind one call per quantity.

Steps grow until the quadrature error is a small part of the tolerance, then probes are added until the scatter is
small. The first is a sphere probe, which certifies the edges of the spectrum, the others are Rademacher's. Traces do
not need orthogonal Krylov vectors, so that these are kept only where they are cheap. Stopping when the
scatter looks small favours runs that underestimate it (Anscombe 1952, doi:10.1017/S0305004100027730), so each of the
two usual looks has half the risk.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from slq._errors import SlqWarning
from slq._estimates import Estimate
from slq._lanczos._basis import Precision
from slq._lanczos._probes import Seed
from slq._operators._operators import as_operator
from slq._run._choice import ONE_PROBE
from slq._run._opening import open_session
from slq._run._session import Callback, Session
from slq._spectrum._answers import signs_alone
from slq._spectrum._spectrum import Spectrum

# One sphere probe that certifies the edges, and three for the mean; one for all, where n is so large that its scatter
# is about the tolerance.
_FIRST, _FIRST_OF_LARGE = 4, 1
# Share of the tolerance that the quadrature error may take: it falls geometrically with the steps, the scatter only
# with the square root of the probes.
_QUADRATURE_SHARE = 0.2
# Steps before the first look, and between looks while steps are few.
_CHUNK, _SHORT_CHUNK = 8, 4
# Where products have taken so many seconds, or vectors are as long as for a single probe, an estimate that meets the
# tolerance is given so many times its steps to become certain, and then taken as it is.
_CHEAP_SECONDS, _PATIENCE_FOR_PROOF = 1.0, 1.5
# The intervals of two looks hold together when each takes half the risk.
_RISK_PER_LOOK = 0.5
# Before the scatter is known from so many probes, no more are run; then they grow by these factors between looks. A
# look costs time and risk, so that a few more probes are run than are thought to do.
_PILOT, _LEAST_GROWTH, _GROWTH, _MARGIN = 12, 1.25, 16, 1.05
# So much of what full re-orthogonalisation may cost elsewhere.
_PATIENCE = 0.1

Ask = Callable[[Spectrum], Estimate]


class Options(TypedDict, total=False):
    """Options that all calls share; their meaning is that of `slq.spectrum`."""

    rng: Seed
    reorth: Literal["auto", "full", "none"]
    basis: Precision | Literal["auto"]
    scratch: str | Path | None
    dtype: Any
    batch: int | Literal["auto"]
    deflate: Literal["auto", "none"]
    confidence: float
    max_products: int | None
    memory: float | None
    progress: bool
    callback: Callback | None
    checkpoint: str | Path | None
    timeout: float | None


def reach(A: Any, ask: Ask, rtol: float, atol: float, options: Options) -> Estimate:
    """Run until what is asked of the spectrum is known to a tolerance, relative or absolute."""
    if unknown := set(options) - set(Options.__annotations__):
        msg = (
            f"`{min(unknown)}` is no option here: probes and steps follow from `rtol`. Options are "
            f"{', '.join(Options.__annotations__)}. For a fixed number use slq.spectrum(A, probes=, steps=).trace(f)."
        )
        raise TypeError(msg)
    goal = _Goal(ask, rtol, atol, options.get("confidence", 0.95))
    operator = as_operator(A)
    large = operator.n >= ONE_PROBE and operator.n * rtol**2 >= 1
    first = _FIRST_OF_LARGE if large else _FIRST
    tolerance, status = {"rtol": rtol, "atol": atol}, "interrupted"
    session = open_session(operator, kind="rademacher", first=first, patience=_PATIENCE, goal=tolerance, **options)
    with session:
        status = _spend(session, goal)
    spectrum = session.result(status)
    if status == "interrupted":
        msg = f"interrupted after {spectrum.products} products; the same call goes on from {options['checkpoint']}."
        warnings.warn(msg, SlqWarning, stacklevel=3)
    return goal.estimate(spectrum)


@dataclass(frozen=True, slots=True)
class _Goal:
    """What is asked, to which tolerance, at which confidence."""

    ask: Ask
    rtol: float
    atol: float
    confidence: float

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            msg = f"`rtol` or `atol` must be positive, got rtol = {self.rtol}, atol = {self.atol}."
            raise ValueError(msg)

    def estimate(self, spectrum: Spectrum) -> Estimate:
        """Estimate from what there is, at half the risk: a run is looked at after its pilot and at its end."""
        confidence = 1 - _RISK_PER_LOOK * (1 - self.confidence)
        return replace(self.ask(replace(spectrum, confidence=confidence)), confidence=self.confidence)

    def target(self, estimate: Estimate) -> float:
        """Half-width to reach."""
        return max(self.rtol * abs(estimate.value), self.atol)


def _spend(session: Session, goal: _Goal) -> str:
    """Spend products until the goal is met or nothing more can be done; say in words which."""
    runs, most = session.runs, session.choice.steps
    if session.diagonalising_is_cheaper(session.width * _CHUNK):
        return session.diagonalise()
    runs.open(session.width)
    unproved = np.inf
    while not runs.finished and runs.steps < most:
        chunk = _CHUNK if runs.steps == 0 else max(_SHORT_CHUNK, runs.steps // 4)
        if not session.advance(min(most - runs.steps, chunk)):
            return session.why_stopped
        wanted, settled = _looked_at(session, goal)
        if not settled and session.may_drop_basis and _looked_at(session, goal, certified=False)[1]:
            unproved = min(unproved, runs.steps)
            costly = session.n >= ONE_PROBE or runs.steps * runs.product_seconds > _CHEAP_SECONDS
            if costly and runs.steps >= _PATIENCE_FOR_PROOF * unproved:
                session.drop_basis(f"the estimate met the tolerance at step {unproved}, its proof takes longer")
                wanted, settled = _looked_at(session, goal)
        missing = (wanted - runs.probes) * runs.steps
        if session.diagonalising_is_cheaper(max(runs.products, missing if settled else 0)):
            return session.diagonalise()
        if settled and (wanted <= runs.probes or not session.resolving_is_cheaper(wanted)):
            break
    while True:
        wanted, _ = _looked_at(session, goal)
        if wanted <= runs.probes:
            return "tolerance met"
        if not np.isfinite(wanted):
            return "the steps do not settle the quadrature error"
        pilot = _PILOT if runs.probes < _PILOT else int(_GROWTH * runs.probes)
        target = max(int(_MARGIN * wanted), int(_LEAST_GROWTH * runs.probes), runs.probes + 1)
        if not session.add_probes(min(target, pilot)):
            return session.why_stopped


def _looked_at(session: Session, goal: _Goal, *, certified: bool = True) -> tuple[float, bool]:
    """Return how many probes, with the one for the edges, reach the goal, and whether the steps are enough for it.

    Without `certified`, proofs are not asked for.
    """
    spectrum = session.partial()
    if not certified:
        spectrum = replace(spectrum, reorth="none")
    now, probes = goal.estimate(spectrum), spectrum.probes
    if certified:
        session.same("first look", f"{now.value:.9g}")  # of another quantity it is another one
    wanted = _wanted(spectrum, goal, now)
    return wanted, wanted <= probes or now.error.quadrature <= _QUADRATURE_SHARE * goal.target(now)


def _wanted(spectrum: Spectrum, goal: _Goal, now: Estimate) -> float:
    """Return how many probes, with the one for the edges, bring the whole error of the estimate down to the goal."""
    probes = spectrum.probes
    # One probe cannot tell simple eigenvalues from multiple ones, which a few large values of f can hang on.
    least = 2.0 if spectrum.assumes_simple else 0.0
    left = goal.target(now) - now.error.quadrature - now.error.numeric
    if now.error.sampling == 0 and left >= 0:
        return least
    if left <= 0:
        return np.inf
    ratio = (now.error.sampling / left) ** 2
    beside = int(signs_alone(spectrum))  # the sphere probe, where it does not count
    return max(least, float(np.ceil(beside + (probes - beside) * ratio)))
