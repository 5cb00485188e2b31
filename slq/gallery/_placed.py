"""Build operators whose eigenvalues are placed one by one, by a formula or by hand."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from slq.gallery._checks import ordered, positive, vector, whole
from slq.gallery._densities import log_uniform_density
from slq.gallery._law import law_of
from slq.gallery._operator import Built, diagonal, rotated


def strakos(
    n: int, *, smallest: float = 0.1, largest: float = 100.0, rho: float = 0.9, dtype: npt.DTypeLike = np.float64
) -> Built:
    """Build the model problem for the loss of orthogonality in Lanczos and conjugate gradients.

    Eigenvalues lambda_i = a + (i - 1) / (n - 1) (b - a) rho^(n - i), i = 1..n: crowded at a, sparse at b.

    Parameters
    ----------
    n : int
        Order, at least 2.
    smallest, largest : float, default 0.1 and 100.0
        The edges a < b; the defaults give a condition number of 1e3.
    rho : float, default 0.9
        In (0, 1]; 1 spaces the eigenvalues evenly, smaller values crowd them more.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (n, n)
        Dense-like; n log n per product and column.
    law : Law
        Its exact spectrum. No density. Eigenvalues that float64 cannot tell from a are one with their multiplicity.

    Raises
    ------
    ValueError
        If `n` is below 2, `smallest` is not below `largest`, `rho` is out of range, or `dtype` is another type.

    References
    ----------
    .. [1] Z. Strakos, Linear Algebra Appl. 154-156 (1991) 535, doi:10.1016/0024-3795(91)90393-B.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.strakos(24, rho=0.6)
    >>> law.edges, law.count(0.1, 1.0)
    ((0.1, 100.0), 14)
    """
    whole("n", n, 2)
    ordered("smallest", smallest, "largest", largest)
    if not 0 < rho <= 1:
        msg = f"`rho` must lie in (0, 1], got {rho}."
        raise ValueError(msg)
    i = np.arange(n)
    points = smallest + i / (n - 1) * (largest - smallest) * rho ** (n - 1.0 - i)
    return rotated("strakos", law_of(points), dtype)


def graded(n: int, *, smallest: float = 1e-7, largest: float = 1.0, dtype: npt.DTypeLike = np.float64) -> Built:
    """Build an operator whose eigenvalues are spaced evenly on a logarithmic axis, edges included.

    Density 1 / (x log(b / a)) on [a, b]: what log det and trace of the inverse find hard.

    Parameters
    ----------
    n : int
        Order, at least 2.
    smallest, largest : float, default 1e-7 and 1.0
        The edges 0 < a < b. Seven decades use up the digits of float32.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (n, n)
        Dense-like; n log n per product and column.
    law : Law
        Its exact spectrum.

    Raises
    ------
    ValueError
        If `n` is below 2, not 0 < `smallest` < `largest`, or `dtype` is another type.

    Examples
    --------
    >>> import numpy as np
    >>> from slq import gallery
    >>> A, law = gallery.graded(8)
    >>> round(law.trace(np.log10), 12)
    -28.0
    """
    whole("n", n, 2)
    positive("smallest", smallest)
    ordered("smallest", smallest, "largest", largest)
    density = partial(log_uniform_density, low=smallest, high=largest)
    return rotated("graded", law_of(np.geomspace(smallest, largest, n), density=density), dtype)


def clustered(
    n: int, *, centres: Sequence[float] = (-2.0, -0.5, 1.0, 3.0), width: float = 1e-8, dtype: npt.DTypeLike = np.float64
) -> Built:
    """Build an operator whose eigenvalues lie in tight clusters of equal share.

    Each cluster is uniform on centre +- width / 2.

    Parameters
    ----------
    n : int
        Order, at least the number of clusters; the first n mod (clusters) of them hold one eigenvalue more.
    centres : sequence of float, default (-2.0, -0.5, 1.0, 3.0)
        Where the clusters lie.
    width : float, default 1e-8
        Full width, at least 0 (one multiple eigenvalue). The default is about sqrt(eps): resolved in no feasible
        number of steps, but far above the rounding of the products.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (n, n)
        Dense-like; n log n per product and column.
    law : Law
        Its exact spectrum. No density.

    Raises
    ------
    ValueError
        If `n` is too small, `centres` is empty, `width` is negative, or `dtype` is another type.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.clustered(10, centres=[1.0, 2.0], width=0.1)
    >>> law.count(0.9, 1.1), law.values[:3].round(12).tolist()
    (5, [0.96, 0.98, 1.0])
    """
    points = vector("centres", centres)
    if points.size == 0:
        msg = "`centres` must hold at least one value, got none."
        raise ValueError(msg)
    whole("n", n, points.size)
    if not 0 <= width < math.inf:
        msg = f"`width` must be finite and at least 0, got {width}."
        raise ValueError(msg)
    share, extra = divmod(n, points.size)
    sizes = [share + (c < extra) for c in range(points.size)]
    offsets = [width * ((np.arange(size) + 0.5) / size - 0.5) for size in sizes]
    return rotated("clustered", law_of(np.repeat(points, sizes) + np.concatenate(offsets)), dtype)


def from_eigenvalues(
    values: npt.ArrayLike,
    *,
    multiplicities: npt.ArrayLike | None = None,
    rotate: bool = True,
    dtype: npt.DTypeLike = np.float64,
) -> Built:
    """Build an operator with any spectrum.

    Parameters
    ----------
    values : array_like, shape (m,)
        Eigenvalues in any order; equal ones are grouped.
    multiplicities : array_like of int, shape (m,), default all 1
        How often each occurs; they sum to the order n.
    rotate : bool, default True
        Whether to hide the eigenvalues in a dense-like matrix; False gives the diagonal matrix, eigenvalues ascending.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (n, n)
        Dense-like, n log n per product and column; diagonal, n, with `rotate=False`.
    law : Law
        Its exact spectrum. No density.

    Raises
    ------
    ValueError
        If `values` is empty, not one-dimensional, not finite or overflows `dtype`, `multiplicities` has another shape
        or entries that are not whole numbers of at least 1, or `dtype` is another type.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.from_eigenvalues([3.0, 0.0], multiplicities=[1, 999])
    >>> law.n, law.trace(lambda x: x), law.quantile(0.5).item()
    (1000, 3.0, 0.0)
    """
    points = vector("values", values)
    counts = np.ones(points.size) if multiplicities is None else vector("multiplicities", multiplicities)
    if points.size == 0 or counts.shape != points.shape:
        msg = (
            "`values` must not be empty and `multiplicities` must match it, "
            f"got {points.size} and {counts.size} entries."
        )
        raise ValueError(msg)
    if np.any(counts < 1) or np.any(counts != np.floor(counts)):
        msg = "`multiplicities` must be whole numbers of at least 1. Leave out what does not occur."
        raise ValueError(msg)
    finish = rotated if rotate else diagonal
    return finish("from_eigenvalues", law_of(points, counts.astype(np.int64)), dtype)
