"""One call per quantity: tr f(A), log det A, tr A^-1, any question to a tolerance, with as few products as it takes.

Thin: what is asked of a run is told in `_questions` and `_thermal`, how far a run goes in `_tolerance`; norms
and rank have their calls in `_norms`, exponentials, ensembles and moments in `_quantities`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from slq._estimates import Estimate
from slq._quadrature._integrands import Function, Name, integrand_of
from slq._run._tolerance import Options, reach
from slq._spectrum._spectrum import Spectrum


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
    until the whole interval lies within the tolerance. Both usual looks at the scatter have half the risk.

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
        `rng`, `reorth`, `basis`, `scratch`, `dtype`, `batch`, `deflate`, `confidence`, `max_products`, `memory`,
        `progress`, `callback`, `checkpoint` and `timeout` as for `slq.spectrum`; the file of another quantity is
        refused.

    Returns
    -------
    Estimate
        If a budget, memory or, with `checkpoint`, a signal ended the run before the tolerance, the interval is as wide
        as it must be.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or f needs positive eigenvalues and there certainly are others.
    RunError
        If a product fails; `.partial` holds the Spectrum so far.

    Warns
    -----
    SlqWarning
        If a signal ended the run, the operator is measurably asymmetric or its products do not repeat.

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
    integrand_of(f)  # a mistake shows before the first product
    return reach(A, lambda s: s.trace(f, shift=shift, lower=lower), rtol, atol, options)


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


def estimate(
    A: Any,
    question: Callable[[Spectrum], Estimate],
    /,
    rtol: float = 1e-2,
    *,
    atol: float = 0.0,
    **options: Unpack[Options],
) -> Estimate:
    """Answer any question to a spectrum to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    question : callable
        From a `Spectrum` to an `Estimate`, such as ``lambda s: s.heat_capacity(0.5)``.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        If a budget or memory ended the run before the tolerance, the interval is as wide as it must be.

    Examples
    --------
    >>> import slq
    >>> operator, law = slq.gallery.semicircle(500)
    >>> found = slq.estimate(operator, lambda s: s.moment(4), rtol=0.1, rng=0)
    >>> bool(found.low <= law.moment(4) <= found.high)
    True
    """
    return reach(A, question, rtol, atol, options)
