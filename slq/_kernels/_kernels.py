"""What a fused Lanczos step does to memory: two passes over the vectors, by numba where it is installed.

A step in separate operations reads and writes k vectors of length n about fourteen times; here it is six times, and
dot products cost nothing. Blocks are (n, k), row-major. `passes_for` tells whether an operator has a fused step, and
whether its size pays for importing numba.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._kernels import _kernels_numpy, _numba, _threads
from slq._kernels._kernels_numpy import Block, Grid, Rows, Source

# Numbers multiplied in one step from which on passes pay, and from which on they pay for importing numba (0.5 s).
_WORTH_FUSING, _WORTH_NUMBA = 200_000, 2_000_000
# Numbers that a thread should have to do before another one is worth waking.
_WORTH_A_THREAD = 65_536
# Mean distance of a column from the diagonal, in bytes of x, beyond which rows of x are not found in a core's cache.
_NEAR = 2**20
# So many rows, evenly spread, are looked at to tell.
_LOOKED_AT = 1000
# Widest row in registers; wider blocks are worked on in NumPy.
_WIDEST = 64


class Passes(Protocol):
    """The two passes. `x` and `w` are (n, k), row-major, of the operator's dtype; results are sums over rows."""

    def product(self, x: Block, w: Block, scale: Floats, back: Floats) -> Floats:
        """Overwrite `w` with scale A x - back w; return the sums of w x, shape (k,)."""
        ...

    def orthogonalise(self, x: Block, w: Block, factor: Floats, references: Block) -> Floats:
        """Overwrite `w` with w - factor x; return the sums of w w, then of x with each reference, shape (1 + r, k)."""
        ...


def passes_for(source: Source, dtype: Any, width: int) -> Passes | None:
    """Return the fastest passes for a matrix and a number of probes; None where plain operations are as good."""
    work = _entries(source) * width
    if work < _WORTH_FUSING or np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
        return None
    compiled = work >= _WORTH_NUMBA and width <= _WIDEST and _numba.usable()
    return (CompiledPasses if compiled else NumpyPasses)(source)


@dataclass(frozen=True, slots=True)
class Product:
    """Multiplies by a matrix that a fused step can read: what an operator's `product` is where there is one.

    Attributes
    ----------
    source : Grid or Rows
        The matrix.
    """

    source: Source

    def __call__(self, X: Block, /) -> Block:
        """Return A @ X, by several threads where that pays."""
        source, x = self.source, np.ascontiguousarray(X)
        if _entries(source) * x.shape[1] < 2 * _WORTH_A_THREAD:
            return source.image(x, 0, x.shape[0])
        edges = source.edges(_kernels_numpy.block_rows(x))
        image = np.empty(x.shape, dtype=x.dtype)

        def task(first: int, last: int) -> None:
            for i, j in zip(edges[first:last], edges[first + 1 : last + 1], strict=True):
                image[i:j] = source.image(x, int(i), int(j))

        _threads.run(task, len(edges) - 1, threads=_threads.limit())
        return image


class NumpyPasses:
    """Passes by NumPy and SciPy."""

    def __init__(self, source: Source) -> None:
        self._source, self._threads = source, _threads.limit()

    def product(self, x: Block, w: Block, scale: Floats, back: Floats) -> Floats:
        """Overwrite `w` with scale A x - back w; return the sums of w x."""
        factors = np.stack([scale, -back]).astype(x.dtype)
        kernel = partial(_kernels_numpy.product, self._source)
        return np.asarray(self._over_blocks(kernel, 1, x, w, factors)[0])

    def orthogonalise(self, x: Block, w: Block, factor: Floats, references: Block) -> Floats:
        """Overwrite `w` with w - factor x; return the sums of w w and of x with each reference."""
        factors = -factor[None, :].astype(x.dtype)
        return self._over_blocks(_kernels_numpy.orthogonalise, 1 + references.shape[1], x, w, factors, references)

    def _over_blocks(self, kernel: Any, count: int, x: Block, *arrays: Block) -> Floats:
        edges = self._source.edges(_kernels_numpy.block_rows(x))
        sums = np.zeros((len(edges) - 1, count, x.shape[1]))

        def task(first: int, last: int) -> None:
            for block in range(first, last):
                kernel(int(edges[block]), int(edges[block + 1]), x, *arrays, sums[block])

        _threads.run(task, len(sums), threads=self._threads)
        return np.asarray(sums.sum(axis=0))


class CompiledPasses:
    """Passes by kernels that numba compiles for the number of probes."""

    def __init__(self, source: Source) -> None:
        from slq._kernels import _kernels_numba  # imports numba

        self._kernels, self._threads = _kernels_numba, _threads.limit()
        self._source, self._entries = source, _entries(source)
        self._reach = _reach(source.matrix) if isinstance(source, Rows) else 0.0

    def product(self, x: Block, w: Block, scale: Floats, back: Floats) -> Floats:
        """Overwrite `w` with scale A x - back w; return the sums of w x."""
        width, source = x.shape[1], self._source
        factors = np.stack([scale, -back]).astype(x.dtype)
        if isinstance(source, Grid):
            kernel: Any = self._kernels.grid_product(width)
            matrix: tuple[Any, ...] = ((1, 1, *source.sides)[-3:], 2.0 * len(source.sides))
        else:
            kernel = self._kernels.csr_product(width, self._reach * width * x.itemsize > _NEAR)
            matrix = (source.matrix.data, source.matrix.indices, source.matrix.indptr)
        return np.asarray(self._run(kernel, self._entries * width, 1, x, *matrix, x, w, factors)[0])

    def orthogonalise(self, x: Block, w: Block, factor: Floats, references: Block) -> Floats:
        """Overwrite `w` with w - factor x; return the sums of w w and of x with each reference."""
        width, count = x.shape[1], references.shape[1]
        factors = -factor[None, :].astype(x.dtype)
        kernel = self._kernels.orthogonalise(width, count)
        lanes = self._kernels.LANES
        if count == 0 and width < lanes and lanes % width == 0 and x.size % lanes == 0:
            x, w = x.reshape(-1, lanes), w.reshape(-1, lanes)  # several rows at once
            kernel, factors = self._kernels.orthogonalise(lanes, 0), np.tile(factors, lanes // width)
        sums = self._run(kernel, x.size * (2 + count), 1 + count, x, x, w, factors, references)
        return np.asarray(sums.reshape(1 + count, -1, width).sum(axis=1))

    def _run(self, kernel: Any, work: int, count: int, x: Block, *arguments: Any) -> Floats:
        """Call a kernel on all row blocks, and add up what each has summed."""
        blocks = -(-x.shape[0] // self._kernels.BLOCK)
        sums = np.zeros((blocks * count, x.shape[1]))
        least = max(1, blocks * _WORTH_A_THREAD // max(1, work))
        _threads.run(
            lambda first, last: kernel(first, last, *arguments, sums), blocks, threads=self._threads, least=least
        )
        return np.asarray(sums.reshape(blocks, count, -1).sum(axis=0))


def _entries(source: Source) -> int:
    """Return the numbers that one product touches."""
    if isinstance(source, Grid):
        return (2 * len(source.sides) + 1) * int(np.prod(source.sides))
    return int(source.matrix.nnz) + 4 * int(source.matrix.shape[0])


def _reach(matrix: Any) -> float:
    """Return the mean distance of entries from the diagonal, from a sample of rows."""
    rows = np.unique(np.linspace(0, matrix.shape[0] - 1, _LOOKED_AT).astype(np.intp))
    pieces: list[npt.NDArray[Any]] = [
        np.abs(matrix.indices[matrix.indptr[i] : matrix.indptr[i + 1]].astype(np.int64) - i) for i in rows
    ]
    distances = np.concatenate(pieces)
    return float(distances.mean()) if distances.size else 0.0
