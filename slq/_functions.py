"""One call per quantity: tr f(A), log det A, norms, entropies to a tolerance, with as few products as it takes.

Thin: what is asked of a run is told in `_questions` and `_thermal`, how far a run goes in `_tolerance`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from slq._estimates import Estimate
from slq._integrands import Function, Name, integrand_of
from slq._spectrum import Spectrum
from slq._tolerance import Options, reach


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


def schatten_norm(
    A: Any, p: float, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]
) -> Estimate:
    """Estimate the Schatten norm (sum of ``|eigenvalue|**p``)**(1/p) to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    p : float
        Positive, or inf for the largest magnitude.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.schatten_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.semicircle(500)
    >>> estimate = slq.schatten_norm(operator, 4, rtol=0.05, rng=0)
    >>> bool(estimate.low <= law.trace(lambda x: x**4) ** 0.25 <= estimate.high)
    True
    """
    return reach(A, lambda s: s.schatten_norm(p), rtol, atol, options)


def nuclear_norm(A: Any, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]) -> Estimate:
    """Estimate the sum of all magnitudes of eigenvalues to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.nuclear_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.semicircle(500)
    >>> estimate = slq.nuclear_norm(operator, rtol=0.05, rng=0)
    >>> bool(estimate.low <= law.trace(np.abs) <= estimate.high)
    True
    """
    return reach(A, lambda s: s.nuclear_norm(), rtol, atol, options)


def estrada_index(A: Any, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]) -> Estimate:
    """Estimate tr exp(A) to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.estrada_index`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.hypercube(9)
    >>> estimate = slq.estrada_index(operator, rtol=0.1, rng=0)
    >>> bool(estimate.low <= law.trace(np.exp) <= estimate.high)
    True
    """
    return reach(A, lambda s: s.estrada_index(), rtol, atol, options)


def log_sum_exp(A: Any, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]) -> Estimate:
    """Estimate log tr exp(A) to a tolerance, for eigenvalues of any size.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.log_sum_exp`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.hypercube(9)
    >>> estimate = slq.log_sum_exp(operator, rtol=0.05, rng=0)
    >>> bool(estimate.low <= np.log(law.trace(np.exp)) <= estimate.high)
    True
    """
    return reach(A, lambda s: s.log_sum_exp(), rtol, atol, options)


def heat_trace(
    A: Any, time: float, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]
) -> Estimate:
    """Estimate tr exp(-time A) to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    time : float
        In the unit of 1 / eigenvalue.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.heat_trace`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.laplacian_2d(20)
    >>> estimate = slq.heat_trace(operator, 0.5, rtol=0.05, rng=0)
    >>> bool(estimate.low <= law.trace(lambda x: np.exp(-0.5 * x)) <= estimate.high)
    True
    """
    return reach(A, lambda s: s.heat_trace(time), rtol, atol, options)


def von_neumann_entropy(A: Any, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]) -> Estimate:
    """Estimate the entropy -tr rho log rho of rho = A / tr A in nats to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.von_neumann_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.marchenko_pastur(500)
    >>> estimate = slq.von_neumann_entropy(operator, rtol=0.01, rng=0)
    >>> shares = law.values / law.trace(np.positive)
    >>> bool(estimate.low <= -np.sum(law.multiplicities * shares * np.log(shares)) <= estimate.high)
    True
    """
    return reach(A, lambda s: s.von_neumann_entropy(), rtol, atol, options)


def effective_dimension(
    A: Any, ridge: float, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]
) -> Estimate:
    """Estimate tr A (A + ridge I)^-1 of a positive semidefinite A to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    ridge : float
        Positive, in the unit of the eigenvalues.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.effective_dimension`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.marchenko_pastur(500)
    >>> estimate = slq.effective_dimension(operator, 0.5, rtol=0.05, rng=0)
    >>> bool(estimate.low <= law.trace(lambda x: x / (x + 0.5)) <= estimate.high)
    True
    """
    return reach(A, lambda s: s.effective_dimension(ridge), rtol, atol, options)
