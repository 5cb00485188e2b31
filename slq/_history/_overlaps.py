"""Where a gradient, a subspace or another matrix lies in the eigenspaces of a matrix: what papers measure in training.

They take vectors and operators. Nothing here knows of networks; the recorder of `slq_torch` calls these. Formulas are
written out, since normalisations differ between papers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from slq import _arrays
from slq._arrays import Array
from slq._estimates import ErrorParts, Estimate
from slq._lanczos import _probes, _rows
from slq._lanczos._probes import Seed
from slq._lanczos._stage import lanczos
from slq._operators._operators import as_symmetric
from slq._quadrature._quadrature import Rule, gauss
from slq._traces._blocks import Blocks

# Columns are orthonormal when V^T V is the identity to this many square roots of a rounding.
_ORTHONORMAL = 30.0


def gradient_concentration(gradient: Array, vectors: Array, /) -> float:
    r"""Return the share of a gradient that lies in the span of some eigenvectors.

    .. math:: \|P g\|^2 / \|g\|^2, \qquad P = V V^* .

    A random direction has k / n on average. Costs no product.

    Parameters
    ----------
    gradient : array, shape (n,)
        The gradient g, of any array library.
    vectors : array, shape (n, k)
        Orthonormal columns V of the same library, such as `slq.eigsh` returns.

    Returns
    -------
    float
        Between 0 and 1; NaN for a gradient that is zero or not finite.

    Raises
    ------
    ValueError
        If shapes do not match or columns are not orthonormal.

    References
    ----------
    Gur-Ari, Roberts & Dyer 2018, arXiv:1812.04754, section 2.1, where it is f_top, the fraction of the gradient in the
    top subspace. Ghorbani, Krishnan & Xiao 2019, arXiv:1901.10159, follow it over the steps, with the dominant
    eigenspace as V.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> round(slq.gradient_concentration(np.array([3.0, 0.0, 4.0]), np.eye(3)[:, :2]), 6)
    0.36
    """
    _require_orthonormal(vectors, "vectors")
    if tuple(gradient.shape) != (vectors.shape[0],):
        msg = f"`gradient` must have shape ({vectors.shape[0]},), the length of `vectors`, got {tuple(gradient.shape)}."
        raise ValueError(msg)
    g = _arrays.to_host(gradient)
    size = float(np.abs(g).max(initial=0.0))
    if not 0 < size < np.inf:
        return float("nan")
    along = _arrays.to_host(_adjoint(vectors) @ (gradient / size))  # squares of an extreme one leave the range
    return min(float(np.vdot(along, along).real / np.vdot(g / size, g / size).real), 1.0)


def gradient_energy(A: Any, gradient: Array, /, steps: int = 40) -> Rule:
    r"""Return how the energy of a gradient is distributed over the spectrum.

    Lanczos started at g: the Gauss rule of that run stands for the measure
    :math:`\sum_i (u_i^T g)^2 / \|g\|^2 \, \delta(\lambda - \lambda_i)`, exactly for polynomials up to degree
    2 steps - 1, without any eigenvector. So two steps are enough for the cosine between g and H g, the mean of the
    nodes over the root of their mean square. Costs `steps` products and memory for as many vectors.

    Parameters
    ----------
    A : operator
        The Hessian, or anything that `slq.as_operator` takes.
    gradient : array, shape (n,)
        The gradient g in the operator's array library; not zero.
    steps : int, default 40
        Lanczos steps; extreme eigenvalues that hold a visible share of g are resolved well before the bulk.

    Returns
    -------
    Rule
        `nodes[0]` are the places, `weights[0]` the shares of :math:`\|g\|^2`; they sum to one.

    Raises
    ------
    TypeError, ValueError, RunError
        As `slq.lanczos`.

    References
    ----------
    Golub & Meurant 2010, Matrices, Moments and Quadrature with Applications, chapter 7, for the rule of a start vector.
    Gur-Ari, Roberts & Dyer 2018, arXiv:1812.04754, equation 2, for the cosine.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> slq.gradient_energy(np.diag([1.0, 5.0]), np.array([3.0, 4.0])).weights.round(6)
    array([[0.36, 0.64]])
    """
    return gauss(lanczos(A, gradient, steps))


def subspace_overlap(first: Array, second: Array, /) -> float:
    r"""Return how much two subspaces have in common.

    .. math:: \frac{\operatorname{tr}(P_V P_W)}{\sqrt{\operatorname{tr} P_V \, \operatorname{tr} P_W}}
              = \frac{\|V^* W\|_F^2}{\sqrt{k_V k_W}},

    1 for the same subspace, 0 for orthogonal ones, about k / n for random ones. Costs no product.

    Parameters
    ----------
    first, second : array, shape (n, k)
        Orthonormal columns of the same library; the numbers of columns may differ.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If shapes do not match or columns are not orthonormal.

    References
    ----------
    Gur-Ari, Roberts & Dyer 2018, arXiv:1812.04754, equation 4, with V and W the top eigenspaces at two steps; there
    both have k columns, and the root is k.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> slq.subspace_overlap(np.eye(4)[:, :2], np.eye(4)[:, 1:3])
    0.5
    """
    _require_orthonormal(first, "first")
    _require_orthonormal(second, "second")
    if first.shape[0] != second.shape[0]:
        msg = f"`first` and `second` must have as many rows, got {first.shape[0]} and {second.shape[0]}."
        raise ValueError(msg)
    if 0 in (first.shape[1], second.shape[1]):
        msg = f"`first` and `second` must have a column at least, got {first.shape[1]} and {second.shape[1]}."
        raise ValueError(msg)
    inner = _arrays.to_host(_adjoint(first) @ second)
    return min(float(np.sum(np.abs(inner) ** 2) / np.sqrt(first.shape[1] * second.shape[1])), 1.0)


def alignment(A: Any, B: Any, /, *, probes: int = 16, rng: Seed = None, confidence: float = 0.95) -> Estimate:
    r"""Return the cosine between two matrices, such as the noise covariance of gradients and the Hessian.

    .. math:: \frac{\operatorname{tr}(A B)}{\|A\|_F \|B\|_F},

    each trace estimated from the products of both with the same Rademacher probes z, since
    :math:`E \langle A z, B z \rangle = \operatorname{tr}(A B)`. Costs `probes` products of each.

    Parameters
    ----------
    A, B : operator
        Symmetric, of one size and array library.
    probes : int, default 16
        Random vectors; the interval is by the jackknife over them, so at least 2.
    rng : int, numpy.random.Generator or None
        Seed.
    confidence : float, default 0.95
        Of the interval (Student).

    Returns
    -------
    Estimate
        Between -1 and 1, or NaN where a matrix is zero; 1 where one matrix is a positive multiple of the other.

    Raises
    ------
    ValueError
        If sizes differ or there are fewer than two probes.

    Warns
    -----
    SlqWarning
        If a matrix drifts or is not linear: one more product of each tells.

    References
    ----------
    Thomas et al. 2020, On the interplay between noise and curvature, arXiv:1906.07774, compare the two matrices by
    similar ratios. Efron 1982, The jackknife, doi:10.1137/1.9781611970319.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> round(slq.alignment(np.diag([1.0, 2.0]), np.diag([3.0, 6.0]), rng=0).value, 6)
    1.0
    """
    one, two = as_symmetric(A), as_symmetric(B)
    if one.n != two.n:
        msg = f"`A` and `B` must have one size, got {one.n} and {two.n}."
        raise ValueError(msg)
    if probes < 2:
        msg = f"`probes` must be at least 2, for an interval, got {probes}."
        raise ValueError(msg)
    if not 0 < confidence < 1:
        msg = f"`confidence` must lie strictly between 0 and 1, got {confidence}."
        raise ValueError(msg)
    seed = _probes.seed_from(rng)
    first, second = Blocks(one, seed), Blocks(two, seed)
    Z = first.draw(range(probes), "rademacher")
    AZ, BZ = first.product(Z), second.product(Z)
    for blocks in (first, second):
        blocks.test(above=1)
    sums = np.array([first.diagonal_of_inner(x, y) for x, y in ((AZ, BZ), (AZ, AZ), (BZ, BZ))])
    value = float(_cosine(sums.sum(axis=1)))
    left_out = _cosine(sums.sum(axis=1)[:, None] - sums)
    deviation = np.sqrt((probes - 1) / probes * np.sum((left_out - left_out.mean()) ** 2))
    half = float(stdtrit(probes - 1, 0.5 + confidence / 2) * deviation)
    low, high = max(value - half, -1.0), min(value + half, 1.0)
    return Estimate(value, low, high, ErrorParts(half, 0.0, 0.0), confidence, "estimate")


def _cosine(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return tr AB / sqrt(tr AA tr BB); NaN where a matrix is zero."""
    if not (sums[1].any() and sums[2].any()):
        return np.full(sums[0].shape, np.nan)
    return np.asarray(sums[0] / np.sqrt(sums[1] * sums[2]))


def _adjoint(vectors: Array) -> Array:
    """Return the conjugate transpose."""
    return _rows.conjugate(vectors, _arrays.namespace_of(vectors)).T


def _require_orthonormal(vectors: Array, name: str) -> None:
    """Refuse what are no orthonormal columns."""
    if getattr(vectors, "ndim", 0) != 2:
        msg = f"`{name}` must be a block (n, k) of columns, got shape {tuple(getattr(vectors, 'shape', ()))}."
        raise ValueError(msg)
    gram = _arrays.to_host(_adjoint(vectors) @ vectors)
    error = float(np.abs(gram - np.eye(len(gram))).max(initial=0.0))
    if not error <= _ORTHONORMAL * np.sqrt(_arrays.epsilon(vectors.dtype)):
        msg = f"the columns of `{name}` must be orthonormal; V^* V differs from the identity by {error:.2g}. Take QR."
        raise ValueError(msg)
