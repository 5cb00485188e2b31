"""Build the adjacency of graphs with few eigenvalues of huge, exactly known multiplicity."""

import math
import operator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from slq.gallery._checks import whole
from slq.gallery._law import law_of
from slq.gallery._operator import Built, build, real_dtype

_LARGEST_GRAPH = 50_000_000  # stored entries: 0.6 GB in float64, twice that while it is built


def hypercube(d: int, *, dtype: npt.DTypeLike = np.float64) -> Built:
    """Build the adjacency of the d-dimensional cube.

    Its 2^d corners are joined where they differ in one bit. Eigenvalues d - 2 i with multiplicity C(d, i), i = 0..d.

    Parameters
    ----------
    d : int
        Dimension, 1 to 62 (n must fit in 64 bits).
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (2^d, 2^d)
        Matrix-free; d 2^d per product and column.
    law : Law
        Its exact spectrum: d + 1 integers. No density.

    Raises
    ------
    ValueError
        If `d` is out of range or `dtype` is another type.

    References
    ----------
    .. [1] A. E. Brouwer and W. H. Haemers, Spectra of Graphs, Springer 2012, chapter 1,
       doi:10.1007/978-1-4614-1939-6.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.hypercube(3)
    >>> law.values.tolist(), law.multiplicities.tolist()
    ([-3.0, -1.0, 1.0, 3.0], [1, 3, 3, 1])
    """
    whole("d", d, 1)
    if d > 62:
        msg = f"`d` must be at most 62, got {d}: a vector would hold 2^{d} entries."
        raise ValueError(msg)
    steps = range(d + 1)
    law = law_of([d - 2 * i for i in steps], [math.comb(d, i) for i in steps])
    return build("hypercube", law, dtype, partial(_flip_bits, d))


def kneser(n_items: int, k: int, *, dtype: npt.DTypeLike = np.float64) -> Built:
    """Build the adjacency of a Kneser graph.

    The k-subsets of N items are joined where they are disjoint. Eigenvalues (-1)^i C(N - k - i, k - i) with
    multiplicity C(N, i) - C(N, i - 1), i = 0..k: few and huge, a sharp test of a count. (5, 2) is the Petersen graph.
    The order is n = C(N, k).

    Parameters
    ----------
    n_items : int
        N, at least 2 k: smaller sets have no disjoint subsets.
    k : int
        Size of the subsets, at least 1.
    dtype : {float64, float32}
        Precision of the products.

    Returns
    -------
    operator : SymmetricOperator, shape (n, n)
        SciPy CSR inside; n C(N - k, k) per product and column, 12 bytes for each entry.
    law : Law
        Its exact spectrum: at most k + 1 integers. No density.

    Raises
    ------
    ValueError
        If `k` or `n_items` is too small, the graph has more than 5e7 entries, or `dtype` is another type.

    References
    ----------
    .. [1] C. Godsil and G. Royle, Algebraic Graph Theory, Springer 2001, theorem 9.4.3,
       doi:10.1007/978-1-4613-0163-9.

    Examples
    --------
    >>> from slq import gallery
    >>> A, law = gallery.kneser(5, 2)
    >>> law.values.tolist(), law.multiplicities.tolist()
    ([-2.0, 1.0, 3.0], [4, 5, 1])
    """
    whole("k", k, 1)
    whole("n_items", n_items, 2 * k)
    entries = math.comb(n_items, k) * math.comb(n_items - k, k)
    if entries > _LARGEST_GRAPH:
        msg = (
            f"`n_items` = {n_items} and `k` = {k} give a graph of {entries:.2g} entries; at most "
            f"{_LARGEST_GRAPH:.0e} are built. Try (23, 11), with 1.6e7, or fewer items."
        )
        raise ValueError(msg)
    matrix = _disjoint_subsets(n_items, k, real_dtype(dtype))
    values = [(-1) ** i * math.comb(n_items - k - i, k - i) for i in range(k + 1)]
    ranks = [math.comb(n_items, i) for i in range(k + 1)]
    law = law_of(values, np.diff(ranks, prepend=0))  # N = 2 k is a perfect matching: +1 and -1 recur and are merged
    return build("kneser", law, dtype, partial(operator.matmul, matrix))


def _flip_bits(d: int, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
    product = np.zeros(X.shape, X.dtype)
    for bit in range(d):
        split = (2 ** (d - 1 - bit), 2, 2**bit, X.shape[1])
        target = product.reshape(split)  # a view: `product` is C-ordered
        target += X.reshape(split)[:, ::-1]
    return product


def _disjoint_subsets(n_items: int, k: int, dtype: np.dtype[Any]) -> Any:
    """Build the graph in CSR: a row holds the k-subsets of what its own subset leaves over."""
    subsets = _subsets(n_items, k)
    n = len(subsets)
    left = np.ones((n, n_items), dtype=np.bool_)
    left[np.arange(n)[:, None], subsets] = False
    rest = np.nonzero(left)[1].reshape(n, n_items - k)
    choices = _subsets(n_items - k, k)
    columns = np.zeros((n, len(choices)), dtype=np.int32)
    for i in range(k):  # rank in colexicographic order: sum of C(c_i, i + 1), ascending along a row
        binomials = np.array([math.comb(c, i + 1) for c in range(n_items)], dtype=np.int32)
        columns += binomials[rest][:, choices[:, i]]
    starts = np.arange(n + 1, dtype=np.int32) * len(choices)
    ones = np.ones(columns.size, dtype=dtype)
    return sparse.csr_array((ones, columns.ravel(), starts), shape=(n, n))


def _subsets(items: int, size: int) -> npt.NDArray[np.int64]:
    """List the subsets of range(items) in colexicographic order, shape (C(items, size), size)."""
    rows = np.zeros((1, 0), dtype=np.int64)
    for j in range(size):
        # The sets with largest element m are the first C(m, j) smaller ones, each with m appended.
        counts = [math.comb(m, j) for m in range(j, items)]
        smaller = np.concatenate([np.arange(count) for count in counts])
        rows = np.column_stack([rows[smaller], np.repeat(np.arange(j, items), counts)])
    return rows
