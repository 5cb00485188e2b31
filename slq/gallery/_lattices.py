"""Build the Laplacians of grids in one, two and three dimensions, zero outside (Dirichlet).

Spectra of grids are sums of those of paths: one shared builder makes all three. Source: LeVeque 2007, see
`laplacian_1d`.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from slq._kernels._kernels import Product
from slq._kernels._kernels_numpy import Grid
from slq.gallery._checks import whole
from slq.gallery._densities import arcsine_density, square_lattice_density
from slq.gallery._law import Density, Law, Reals, law_of
from slq.gallery._operator import Built, build

# Sums of eigenvalues that are held at once (0.5 GB); grids with more (above 2e8 points or so) count them in this many
# bins, each 2.4e-7 of the range wide.
_MOST_SUMS, _BINS = 2**26, 2**22


def laplacian_1d(n: int, *, dtype: npt.DTypeLike = np.float64) -> Built:
    """Build the Laplacian of a path of n points, stencil (-1, 2, -1), zero outside (Dirichlet).

    Eigenvalues 2 - 2 cos(pi j / (n + 1)), j = 1..n, all simple.

    Parameters
    ----------
    n : int
        Number of points, at least 1.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (n, n)
        Matrix-free; 3 n per product and column.
    law : Law
        Its exact spectrum; the density is the arcsine law on [0, 4].

    Raises
    ------
    ValueError
        If `n` is below 1 or `dtype` is another type.

    References
    ----------
    .. [1] R. J. LeVeque, Finite Difference Methods for Ordinary and Partial Differential Equations, SIAM 2007,
       chapter 2, doi:10.1137/1.9780898717839.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.laplacian_1d(3)
    >>> law.eigenvalues().round(4).tolist()
    [0.5858, 2.0, 3.4142]
    """
    return _laplacian("laplacian_1d", {"n": n}, dtype, partial(arcsine_density, low=0.0, high=4.0))


def laplacian_2d(nx: int, ny: int | None = None, *, dtype: npt.DTypeLike = np.float64) -> Built:
    """Build the five-point Laplacian of an nx by ny grid, zero outside (Dirichlet).

    Eigenvalues are the sums of those of `laplacian_1d` along x and y.

    Parameters
    ----------
    nx, ny : int
        Points along each axis, at least 1; `ny` defaults to `nx`. Entry ix ny + iy of a vector is the point (ix, iy).
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (nx ny, nx ny)
        Matrix-free; 5 nx ny per product and column.
    law : Law
        Its exact spectrum, found once in n log n. Sums that agree to 16 eps of the largest count as one eigenvalue:
        rounding splits equal ones by a few eps, and other sums hardly ever come that close. The density has the
        logarithmic van Hove peak at 4, where a square grid has an nx-fold eigenvalue.

    Raises
    ------
    ValueError
        If a number of points is below 1 or `dtype` is another type.

    References
    ----------
    .. [1] R. J. LeVeque, SIAM 2007, chapter 3, doi:10.1137/1.9780898717839.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.laplacian_2d(4)
    >>> law.n, law.values.size, law.count(3.999, 4.001)
    (16, 9, 4)
    """
    sides = {"nx": nx, "ny": nx if ny is None else ny}
    return _laplacian("laplacian_2d", sides, dtype, square_lattice_density)


def laplacian_3d(nx: int, ny: int | None = None, nz: int | None = None, *, dtype: npt.DTypeLike = np.float64) -> Built:
    """Build the seven-point Laplacian of an nx by ny by nz grid, zero outside (Dirichlet).

    Eigenvalues are the sums of those of `laplacian_1d` along each axis.

    Parameters
    ----------
    nx, ny, nz : int
        Points along each axis, at least 1; `ny` defaults to `nx` and `nz` to `ny`. The last axis runs fastest.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (nx ny nz, nx ny nz)
        Matrix-free; 7 nx ny nz per product and column.
    law : Law
        Its exact spectrum, grouped as in `laplacian_2d`; above some 1e8 points it is exact to 3e-6 only, in bins. No
        density.

    Raises
    ------
    ValueError
        If a number of points is below 1 or `dtype` is another type.

    References
    ----------
    .. [1] R. J. LeVeque, SIAM 2007, chapter 3, doi:10.1137/1.9780898717839.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.laplacian_3d(2)
    >>> law.multiplicities.tolist(), law.values.round(12).tolist()
    ([1, 3, 3, 1], [3.0, 5.0, 7.0, 9.0])
    """
    ny = nx if ny is None else ny
    return _laplacian("laplacian_3d", {"nx": nx, "ny": ny, "nz": ny if nz is None else nz}, dtype)


def _laplacian(name: str, sides: dict[str, int], dtype: npt.DTypeLike, density: Density | None = None) -> Built:
    """Sum one-dimensional eigenvalues axis by axis, grouped after each to keep the sums few."""
    for side, points in sides.items():
        whole(side, points, 1)
    law = law_of([0.0])
    for points in sides.values():
        if law.values.size * points > _MOST_SUMS:
            law = _binned(law, points, 4.0 * len(sides))
            continue
        sums = (law.values[:, None] + _path(points)).ravel()
        # The values of one line are simple, however close: only sums of two lines can coincide.
        tolerance = 16 * np.finfo(np.float64).eps * sums.max() if law.values.size > 1 else 0.0
        law = law_of(sums, np.repeat(law.multiplicities, points), density=density, tolerance=tolerance)
    return build(name, law, dtype, Product(Grid(tuple(sides.values()))))


def _binned(law: Law, points: int, top: float) -> Law:
    """Add one more axis to a law in [0, top], with sums counted in bins: of n values only some megabytes are kept."""
    counts, path = np.zeros(_BINS), _path(points)
    each = max(1, _MOST_SUMS // (8 * law.values.size))
    for first in range(0, points, each):
        sums = law.values[:, None] + path[first : first + each]
        weights = np.broadcast_to(law.multiplicities[:, None], sums.shape).ravel()
        counts += np.bincount((sums.ravel() * (_BINS / top)).astype(np.intp), weights, _BINS)[:_BINS]
    where = np.flatnonzero(counts)
    return law_of((where + 0.5) * (top / _BINS), counts[where].astype(np.int64))


def _path(n: int) -> Reals:
    """Return 2 - 2 cos(pi j / (n + 1)), j = 1..n, exactly symmetric about 2, so that 4 recurs."""
    lower = 4 * np.sin(np.pi * np.arange(1, n // 2 + 1) / (2 * (n + 1))) ** 2
    return np.concatenate([lower, np.full(n % 2, 2.0), 4 - lower[::-1]])
