"""Build operators whose eigenvalues follow a continuous law, some with a few that stand apart.

The quantiles come from `_points`, the densities from `_densities`.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from slq.gallery._checks import positive, vector, whole
from slq.gallery._densities import arcsine_density, marchenko_pastur_density, semicircle_density
from slq.gallery._law import Reals, law_of
from slq.gallery._operator import Built, rotated
from slq.gallery._points import arcsine_points, marchenko_pastur_points, semicircle_points

_OUTLIERS = (-2.0, -1.5, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)


def semicircle(n: int, *, radius: float = 1.0, dtype: npt.DTypeLike = np.float64) -> Built:
    """Build an operator with Wigner's semicircle as its spectrum.

    Density 2 sqrt(r^2 - x^2) / (pi r^2) on [-r, r], mean 0, variance r^2 / 4.

    Parameters
    ----------
    n : int
        Order, at least 1.
    radius : float, default 1.0
        Half-width r > 0 of the support.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (n, n)
        Dense-like; n log n per product and column.
    law : Law
        Its exact spectrum, symmetric about 0.

    Raises
    ------
    ValueError
        If `n` is below 1, `radius` is not positive, or `dtype` is another type.

    References
    ----------
    .. [1] E. P. Wigner, Ann. Math. 67 (1958) 325, doi:10.2307/1970008.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.semicircle(1000, radius=2.0)
    >>> A, round(law.moment(2), 3)
    (<semicircle: 1000 x 1000, float64>, 1.0)
    """
    whole("n", n, 1)
    positive("radius", radius)
    law = law_of(radius * semicircle_points(n), density=partial(semicircle_density, radius=radius))
    return rotated("semicircle", law, dtype)


def marchenko_pastur(
    n: int, *, ratio: float = 0.5, spikes: Sequence[float] = (), dtype: npt.DTypeLike = np.float64
) -> Built:
    """Build an operator with the spectrum of a large sample covariance matrix.

    Density sqrt((b - x)(x - a)) / (2 pi c x) between a, b = (1 -+ sqrt c)^2, mean 1, variance c. For c > 1 an atom of
    mass 1 - 1/c sits at zero. A population eigenvalue l > 1 + sqrt c stands out at l (1 + c / (l - 1)).

    Parameters
    ----------
    n : int
        Order (number of variables), at least 1.
    ratio : float, default 0.5
        Variables per sample, c > 0. For c > 1, round(n / c) eigenvalues are not zero.
    spikes : sequence of float, default none
        Population eigenvalues l; each takes the place of one eigenvalue of the bulk.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (n, n)
        Dense-like; n log n per product and column.
    law : Law
        Its exact spectrum. The quantiles of the bulk are accurate to about 1e-14 of its upper edge.

    Raises
    ------
    ValueError
        If `n` is below 1, `ratio` is not positive, a spike lies below the threshold 1 + sqrt(ratio) or the spikes
        outnumber the nonzero eigenvalues, or `dtype` is another type.

    References
    ----------
    .. [1] V. A. Marchenko and L. A. Pastur, Math. USSR-Sb. 1 (1967) 457, doi:10.1070/SM1967v001n04ABEH001994.
    .. [2] J. Baik and J. W. Silverstein, J. Multivar. Anal. 97 (2006) 1382, arXiv:math/0408165.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.marchenko_pastur(1000, ratio=2.0, spikes=[5.0])
    >>> law.count(-1.0, 0.0), law.edges
    (500, (0.0, 7.5))
    """
    whole("n", n, 1)
    positive("ratio", ratio)
    outliers = _separated(spikes, ratio)
    nonzero = n if ratio <= 1 else round(n / ratio)
    if len(outliers) > nonzero:
        msg = (
            f"`spikes` holds {len(outliers)} values, but n = {n} and ratio = {ratio} leave only "
            f"{nonzero} nonzero eigenvalues."
        )
        raise ValueError(msg)
    bulk = marchenko_pastur_points(nonzero - len(outliers), ratio)
    points = np.concatenate([np.zeros(n - nonzero), bulk, outliers])
    law = law_of(points, density=partial(marchenko_pastur_density, ratio=ratio))
    return rotated("marchenko_pastur", law, dtype)


def spiked(
    n: int,
    *,
    outliers: Sequence[float] = _OUTLIERS,
    bulk: Literal["semicircle", "arcsine"] = "semicircle",
    dtype: npt.DTypeLike = np.float64,
) -> Built:
    """Build a bulk on [-1, 1] with simple eigenvalues outside it.

    The shape of the spectrum of a network's Hessian.

    Parameters
    ----------
    n : int
        Order, larger than the number of outliers.
    outliers : sequence of float, default ten from -2 to 10
        Distinct values outside [-1, 1]; each takes the place of one eigenvalue of the bulk.
    bulk : {"semicircle", "arcsine"}, default "semicircle"
        The semicircle thins out at its edges, the arcsine law piles up there.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (n, n)
        Dense-like; n log n per product and column.
    law : Law
        Its exact spectrum; the density is that of the bulk.

    Raises
    ------
    ValueError
        If `n` is too small, an outlier is repeated or lies in [-1, 1], `bulk` is unknown, or `dtype` is another type.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.spiked(1000)
    >>> law.count(-1.0, 1.0), law.count(1.0, 10.0), law.edges
    (990, 8, (-2.0, 10.0))
    """
    apart = vector("outliers", outliers)
    whole("n", n, apart.size + 1)
    if np.unique(apart).size < apart.size or np.any(np.abs(apart) <= 1):
        msg = f"`outliers` must be distinct and lie outside [-1, 1], got {apart.tolist()}."
        raise ValueError(msg)
    if bulk == "semicircle":
        inner = semicircle_points(n - apart.size)
        density = partial(semicircle_density, radius=1.0)
    elif bulk == "arcsine":
        inner = arcsine_points(n - apart.size)
        density = partial(arcsine_density, low=-1.0, high=1.0)
    else:
        msg = f'`bulk` must be "semicircle" or "arcsine", got {bulk!r}.'
        raise ValueError(msg)
    return rotated("spiked", law_of(np.concatenate([inner, apart]), density=density), dtype)


def _separated(spikes: Sequence[float], ratio: float) -> Reals:
    """Map population spikes to where they stand out in the sample (Baik & Silverstein)."""
    population, threshold = vector("spikes", spikes), 1 + math.sqrt(ratio)
    if np.any(population <= threshold):
        msg = (
            f"`spikes` must exceed 1 + sqrt(ratio) = {threshold:.6g}, got {population.min():.6g}: it would not "
            "separate from the bulk. Raise the spike or lower `ratio`."
        )
        raise ValueError(msg)
    return population * (1 + ratio / (population - 1))
