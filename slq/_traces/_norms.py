"""One call per quantity, to a tolerance: what is asked of magnitudes, such as norms, condition number and rank."""

from __future__ import annotations

from typing import Any, Unpack

from slq._estimates import Estimate
from slq._run._tolerance import Options, reach


def schatten_norm(
    A: Any, p: float, /, rtol: float = 1e-2, *, atol: float = 0.0, gram: bool = False, **options: Unpack[Options]
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
    gram : bool, default False
        Whether A is B^T B, as from `slq.gram(B)`, and the norm of B is asked, of whatever shape B is.
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
    return reach(A, lambda s: s.schatten_norm(p, gram=gram), rtol, atol, options)


def nuclear_norm(
    A: Any, /, rtol: float = 1e-2, *, atol: float = 0.0, gram: bool = False, **options: Unpack[Options]
) -> Estimate:
    """Estimate the sum of all magnitudes of eigenvalues, or of all singular values, to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    gram : bool, default False
        Whether A is B^T B, as from `slq.gram(B)`, and the norm of B is asked, of whatever shape B is.
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
    >>> B = np.eye(3, 5)
    >>> round(float(slq.nuclear_norm(slq.gram(B), gram=True, rng=0)), 6)
    3.0
    """
    return reach(A, lambda s: s.nuclear_norm(gram=gram), rtol, atol, options)


def frobenius_norm(
    A: Any, /, rtol: float = 1e-2, *, atol: float = 0.0, gram: bool = False, **options: Unpack[Options]
) -> Estimate:
    """Estimate the root of the sum of all squares of eigenvalues, or of singular values, to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes. Of a stored matrix it is told exactly.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    gram : bool, default False
        Whether A is B^T B, as from `slq.gram(B)`, and the norm of B is asked, of whatever shape B is.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.frobenius_norm`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.semicircle(500)
    >>> estimate = slq.frobenius_norm(operator, rtol=0.05, rng=0)
    >>> bool(estimate.low <= np.sqrt(law.trace(np.square)) <= estimate.high)
    True
    """
    return reach(A, lambda s: s.frobenius_norm(gram=gram), rtol, atol, options)


def condition_number(A: Any, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]) -> Estimate:
    """Estimate the ratio of the largest to the smallest magnitude of the eigenvalues to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes, definite: with eigenvalues on both sides of zero nothing bounds the ratio
        from above, and the run ends with what bounds it from below.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.condition_number`. Costs about as many steps as `slq.eigsh` for both ends.

    Examples
    --------
    >>> import slq
    >>> operator, law = slq.gallery.marchenko_pastur(500)
    >>> estimate = slq.condition_number(operator, rtol=0.05, rng=0)
    >>> bool(estimate.low <= law.edges[1] / law.edges[0] <= estimate.high)
    True
    """
    return reach(A, lambda s: s.condition_number(), rtol, atol, options)


def rank(
    A: Any, tol: float | None = None, /, rtol: float = 1e-2, *, atol: float = 0.0, **options: Unpack[Options]
) -> Estimate:
    """Estimate the numerical rank, the number of eigenvalues beyond `tol` in magnitude, to a tolerance.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    tol : float, optional
        In the unit of the eigenvalues; see `Spectrum.rank`.
    rtol, atol : float
        Half-width of the interval to reach, relative and absolute.
    **options
        As for `slq.trace`.

    Returns
    -------
    Estimate
        See `Spectrum.rank`. Where many eigenvalues lie near `tol`, the steps alone cannot tell on which side.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> slq.rank(np.diag(np.arange(50.0)), 9.5, rng=0).value
    40.0
    """
    return reach(A, lambda s: s.rank(tol), rtol, atol, options)
