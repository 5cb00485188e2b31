"""One call per quantity, continued: norms, exponentials, entropy, effective dimension to a tolerance.

Thin, as `_functions`.
"""

from __future__ import annotations

from typing import Any, Unpack

from slq._estimates import Estimate
from slq._run._tolerance import Options, reach


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
