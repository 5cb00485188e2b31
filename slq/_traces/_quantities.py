"""One call per quantity, continued: exponentials, ensembles, entropy, effective dimension, moments to a tolerance.

Thin, as `_functions`.
"""

from __future__ import annotations

from typing import Any, Unpack

from slq._estimates import Estimate
from slq._run._tolerance import Options, reach


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


def free_energy(
    A: Any, temperature: float, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]
) -> Estimate:
    """Estimate the free energy -T log tr exp(-A / T) of a Hamiltonian A to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    temperature : float
        T > 0, in the unit of the eigenvalues.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.free_energy`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.hypercube(9)
    >>> estimate = slq.free_energy(operator, 2.0, rtol=0.05, rng=0)
    >>> bool(estimate.low <= -2 * np.log(law.trace(lambda x: np.exp(-x / 2))) <= estimate.high)
    True
    """
    return reach(A, lambda s: s.free_energy(temperature), rtol, atol, options)


def heat_capacity(
    A: Any, temperature: float, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]
) -> Estimate:
    """Estimate the heat capacity (<A^2> - <A>^2) / T^2 of a Hamiltonian A to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    temperature : float
        T > 0, in the unit of the eigenvalues.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.heat_capacity`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.hypercube(9)
    >>> estimate = slq.heat_capacity(operator, 2.0, rtol=0.1, rng=0)
    >>> bool(estimate.low <= 9 / (2 * np.cosh(0.5)) ** 2 <= estimate.high)  # nine spins with energies -1 and 1
    True
    """
    return reach(A, lambda s: s.heat_capacity(temperature), rtol, atol, options)


def moment(
    A: Any, order: int, /, rtol: float = 1e-2, *, atol: float = 0.0, about: float = 0.0, **options: Unpack[Options]
) -> Estimate:
    """Estimate the mean of (eigenvalue - about)**order to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    order : int
        From 0 on.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    about : float, default 0
        In the unit of the eigenvalues.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.moment`.

    Examples
    --------
    >>> import slq
    >>> operator, law = slq.gallery.semicircle(500)
    >>> estimate = slq.moment(operator, 4, rtol=0.05, rng=0)
    >>> bool(estimate.low <= law.moment(4) <= estimate.high)
    True
    """
    return reach(A, lambda s: s.moment(order, about=about), rtol, atol, options)
