"""tr f(A) together with what its gradient needs, from the same Krylov run: vectors v and f'(A) v.

For A that depends on parameters, d tr f(A) = tr(f'(A) dA), estimated as the mean of n v^T dA f'(A) v over unit probes.
The run that tells v^T f(A) v has all that f'(A) v needs: Q f'(T) e_1. An adapter differentiates v^T A w, where
w = f'(A) v is held constant, by one more product in its framework.

Source: for log-determinants Dong, Eriksson, Nickisch, Bindel & Wilson 2017, arXiv:1711.03481.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from slq._arrays import Array
from slq._estimates import Estimate
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import Seed
from slq._quadrature._integrands import Function, Integrand, Name, integrand_of
from slq._run._opening import open_session
from slq._run._session import Session
from slq._spectrum._answers import integral
from slq._traces._apply import coefficients_of, gathered, replayed

# Steps before the first look at the error; later looks come after a quarter more.
_FIRST = 8


class RunOptions(TypedDict, total=False):
    """Options of a run with a fixed number of probes; their meaning is that of `slq.spectrum`."""

    rng: Seed
    reorth: Literal["auto", "full", "none"]
    dtype: Any
    batch: int | Literal["auto"]
    confidence: float
    memory: float | None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """tr f(A) and the blocks by which an adapter differentiates it.

    Attributes
    ----------
    estimate : Estimate
        The trace.
    probes : array, shape (n, k)
        Unit probes v as columns.
    images : array, shape (n, k)
        n / k times f'(A) v, so that the gradient is that of the sum of v^T A(theta) image, both held constant.
    """

    estimate: Estimate
    probes: Array
    images: Array


def sensitivity(
    A: Any,
    f: Function | Name,
    *,
    derivative: Function | None,
    probes: int,
    steps: int | None,
    rtol: float,
    lower: float | None = None,
    **options: Unpack[RunOptions],
) -> Sensitivity:
    """Estimate tr f(A), keeping f'(A) v of every probe; `options` are those of `slq.trace`.

    Steps are as asked, or grow until the quadrature errors of the trace and of f'(A) v are within `rtol`.
    """
    integrand = integrand_of(f)
    slope = Integrand(slope_of(integrand, derivative), above=integrand.above, name=f"the derivative of {f}")
    session = open_session(A, probes=probes, steps=steps, kind="rademacher", deflate="none", **options)
    parts: list[tuple[Array, Array]] = []
    with session:
        while session.runs.probes < probes:
            parts.append(_batch(session, integrand, slope, probes, steps, rtol, lower))
    spectrum = session.result("as asked" if steps else "steps to the tolerance, probes as asked")
    estimate = integral(spectrum, integrand, lower=lower)
    xp, n = session.operator.xp, session.operator.n
    starts, images = (xp.concat(list(rows)) if len(parts) > 1 else rows[0] for rows in zip(*parts, strict=True))
    return Sensitivity(estimate, starts.T, (images * (n / probes)).T)


def slope_of(integrand: Integrand, derivative: Function | None) -> Function:
    """Return f', as given or as known."""
    if derivative is not None:
        return derivative
    if integrand.derivative is None:
        msg = (
            "`derivative` is missing: the gradient of tr f(A) needs f'. Pass it as a vectorised function, for example "
            "derivative=np.cos for np.sin, or name f: log, inverse, sqrt, exp, x**1.5."
        )
        raise ValueError(msg)
    return integrand.derivative


def _batch(
    session: Session,
    integrand: Integrand,
    slope: Integrand,
    probes: int,
    steps: int | None,
    rtol: float,
    lower: float | None,
) -> tuple[Array, Array]:
    """Run one more batch of probes; return them and f'(A) times them, as rows."""
    runs, first = session.runs, session.runs.probes
    goal = steps or (runs.steps if first else None)
    width = session.width if not first else session.choice.width(probes - first, runs.steps, runs.reorth)
    run, start = runs.open(width), runs.starts(range(first, first + width))
    found: dict[int, Array] = {}
    run.on_end = _keeper(run, slope, found)
    while not run.finished and run.steps < (goal or session.choice.steps):
        runs.advance(goal - run.steps if goal else max(_FIRST, run.steps // 4))
        if goal is None and _settled(session, run, integrand, slope, rtol, lower):
            break
    coefficients, _ = coefficients_of(run.tridiagonal(), slope, run.rounding)
    if run.orthogonal:
        return start, gathered(run, coefficients, found)
    return start, replayed(session.operator, start, coefficients, run.tridiagonal())


def _keeper(run: LanczosRun, slope: Integrand, found: dict[int, Array]) -> Callable[[int], None]:
    """Return what keeps f'(A) v of a probe that ends."""

    def keep(probe: int) -> None:
        T = run.tridiagonal()
        row = coefficients_of(T, slope, run.rounding)[0][probe : probe + 1, : T.lengths[probe]]
        images = run.combine(probe, row)
        if images is not None:
            found[probe] = images

    return keep


def _settled(
    session: Session, run: LanczosRun, integrand: Integrand, slope: Integrand, rtol: float, lower: float | None
) -> bool:
    """Whether neither the trace nor any f'(A) v would change by more than the tolerance."""
    spectrum = session.partial()
    estimate = integral(spectrum, integrand, lower=lower)
    coefficients, errors = coefficients_of(run.tridiagonal(), slope, run.rounding)
    settled = bool(np.all(errors <= rtol * np.linalg.norm(coefficients, axis=1)))
    return settled and estimate.error.quadrature <= rtol * abs(estimate.value)
