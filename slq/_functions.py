"""One call per quantity: tr f(A), log det A, tr A^-1 to a tolerance, with as few products as it takes.

The driver of `slq.spectrum` with another goal: steps grow until Gauss and Gauss-Radau rules agree, then probes are
added until the scatter is small. Thin: what an estimate means is told in `_integrals`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from slq._estimates import Estimate
from slq._integrands import Function, Integrand, Name, integrand_of
from slq._opening import open_session
from slq._probes import Seed
from slq._session import Callback, Session
from slq._spectrum import Spectrum

# One sphere probe that certifies the edges, and three for the mean.
_FIRST = 4
# Share of the tolerance that the quadrature error may take: it falls geometrically with the steps, the scatter only
# with the square root of the probes.
_QUADRATURE_SHARE = 0.2
_CHUNK = 8
# The intervals of two looks hold together when each takes half the risk.
_RISK_PER_LOOK = 0.5
# Before the scatter is known from so many probes, no more are run; then they grow by these factors between looks.
_PILOT, _LEAST_GROWTH, _GROWTH = 12, 1.1, 16


class Options(TypedDict, total=False):
    """Options that all functions of this module share; their meaning is that of `slq.spectrum`."""

    rng: Seed
    reorth: Literal["auto", "full", "none"]
    dtype: Any
    batch: int | Literal["auto"]
    deflate: Literal["auto", "none"]
    confidence: float
    max_products: int | None
    memory: float | None
    progress: bool
    callback: Callback | None


def trace(
    A: Any,
    f: Function | Name = "identity",
    /,
    rtol: float = 1e-2,
    *,
    atol: float = 0.0,
    shift: float = 0.0,
    lower: float | None = None,
    **options: Unpack[Options],
) -> Estimate:
    """Estimate tr f(A + shift I) to a tolerance.

    Rademacher probes, with a first one of the sphere that certifies the edges of the spectrum; steps and probes grow
    until the whole interval lies within the tolerance. Stopping when the scatter looks small favours runs that
    underestimate it (Anscombe 1952, doi:10.1017/S0305004100027730), so each of the two usual looks has half the risk.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    f : callable or str
        See `Spectrum.trace`.
    rtol : float, default 0.01
        Half-width of the interval to reach, relative to the absolute value.
    atol : float, default 0
        The same, absolute; the larger of both counts.
    shift : float, default 0
        Added to every eigenvalue.
    lower : float, optional
        A bound below all eigenvalues of A + shift I that you know.
    **options
        `rng`, `reorth`, `dtype`, `batch`, `deflate`, `confidence`, `max_products`, `memory`, `progress` and `callback`
        as for `slq.spectrum`.

    Returns
    -------
    Estimate
        If a budget or memory ended the run before the tolerance, the interval is as wide as it must be.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or f needs positive eigenvalues and there certainly are others.
    RunError
        If a product fails; `.partial` holds the Spectrum so far.

    References
    ----------
    Golub & Meurant 2010, Matrices, Moments and Quadrature, chapter 6. Hutchinson 1990, doi:10.1080/03610919008812866.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.marchenko_pastur(1000)
    >>> estimate = slq.trace(operator, "log", rtol=0.05, rng=0)
    >>> bool(estimate.low <= law.trace(np.log) <= estimate.high)
    True
    """
    if unknown := set(options) - set(Options.__annotations__):
        msg = (
            f"`{min(unknown)}` is no option here: probes and steps follow from `rtol`. Options are "
            f"{', '.join(Options.__annotations__)}. For a fixed number use slq.spectrum(A, probes=, steps=).trace(f)."
        )
        raise TypeError(msg)
    confidence = options.get("confidence", 0.95)
    goal = _Goal(integrand_of(f), rtol, atol, shift, lower, confidence)
    session = open_session(A, kind="rademacher", first=_FIRST, **options)
    with session:
        status = _spend(session, goal)
    return goal.estimate(session.result(status))


def logdet(
    A: Any,
    /,
    rtol: float = 1e-2,
    *,
    atol: float = 0.0,
    shift: float = 0.0,
    lower: float | None = None,
    **options: Unpack[Options],
) -> Estimate:
    """Estimate log det(A + shift I) of a positive definite A + shift I to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    shift : float, default 0
        Added to every eigenvalue.
    lower : float, optional
        A bound below all eigenvalues of A + shift I that you know.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `slq.trace`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.laplacian_2d(20)
    >>> estimate = slq.logdet(operator, rtol=0.05, rng=0)
    >>> bool(estimate.low <= law.trace(np.log) <= estimate.high)
    True
    """
    return trace(A, "log", rtol, atol=atol, shift=shift, lower=lower, **options)


def trace_inverse(
    A: Any,
    /,
    rtol: float = 1e-2,
    *,
    atol: float = 0.0,
    shift: float = 0.0,
    lower: float | None = None,
    **options: Unpack[Options],
) -> Estimate:
    """Estimate tr (A + shift I)^-1 of a positive definite A + shift I to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    shift : float, default 0
        Added to every eigenvalue.
    lower : float, optional
        A bound below all eigenvalues of A + shift I that you know.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `slq.trace`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.laplacian_2d(20)
    >>> estimate = slq.trace_inverse(operator, rtol=0.05, rng=0)
    >>> bool(estimate.low <= law.trace(np.reciprocal) <= estimate.high)
    True
    """
    return trace(A, "inverse", rtol, atol=atol, shift=shift, lower=lower, **options)


@dataclass(frozen=True, slots=True)
class _Goal:
    """What is asked: a function, a tolerance, a confidence."""

    integrand: Integrand
    rtol: float
    atol: float
    shift: float
    lower: float | None
    confidence: float

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            msg = f"`rtol` or `atol` must be positive, got rtol = {self.rtol}, atol = {self.atol}."
            raise ValueError(msg)

    def estimate(self, spectrum: Spectrum) -> Estimate:
        """Estimate from what there is, at half the risk: a run is looked at after its pilot and at its end."""
        confidence = 1 - _RISK_PER_LOOK * (1 - self.confidence)
        found = spectrum._trace(self.integrand, shift=self.shift, lower=self.lower, confidence=confidence)
        return replace(found, confidence=self.confidence)

    def target(self, estimate: Estimate) -> float:
        """Half-width to reach."""
        return max(self.rtol * abs(estimate.value), self.atol)


def _spend(session: Session, goal: _Goal) -> str:
    """Spend products until the goal is met or nothing more can be done; say in words which."""
    runs, most = session.runs, session.choice.steps
    if session.diagonalising_is_cheaper(session.width * _CHUNK):
        return session.diagonalise()
    runs.open(session.width)
    while not runs.finished and runs.steps < most:
        if not session.advance(min(most - runs.steps, max(_CHUNK, runs.steps // 4))):
            return session.why_stopped
        wanted, now = _wanted(session, goal)
        settled = now.error.quadrature <= _QUADRATURE_SHARE * goal.target(now)
        missing = (wanted - runs.probes) * runs.steps
        if session.diagonalising_is_cheaper(max(runs.products, missing if settled else 0)):
            return session.diagonalise()
        if settled and (wanted <= runs.probes or not session.resolving_is_cheaper(wanted)):
            break
    while True:
        wanted, now = _wanted(session, goal)
        if wanted <= runs.probes:
            return "tolerance met"
        if not np.isfinite(wanted):
            return "the steps do not settle the quadrature error"
        pilot = _PILOT if runs.probes < _PILOT else int(_GROWTH * runs.probes)
        if not session.add_probes(min(max(int(wanted), int(_LEAST_GROWTH * runs.probes) + 1), pilot)):
            return session.why_stopped


def _wanted(session: Session, goal: _Goal) -> tuple[float, Estimate]:
    """Return how many probes, with the one for the edges, bring the whole error down to the goal, and the estimate."""
    now = goal.estimate(session.partial())
    left = goal.target(now) - now.error.quadrature - now.error.numeric
    if now.error.sampling == 0 and left >= 0:
        return 0.0, now
    if left <= 0:
        return np.inf, now
    return float(np.ceil(1 + (session.runs.probes - 1) * (now.error.sampling / left) ** 2)), now
