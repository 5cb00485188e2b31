"""The two passes of a fused Lanczos step in NumPy and SciPy, by row blocks that fit into a core's cache.

The same functions as in `_kernels_numba`, for where numba is not installed: each block is multiplied, combined and
summed before the next one is touched, and blocks are shared among threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from slq._kernels._entries import Traces, sparse_traces

Block = npt.NDArray[Any]

# A block of rows holds about so many bytes of x: it stays in a core's second cache with its image.
_BLOCK_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class Grid:
    """The Laplacian of a grid of one to three axes, zero outside; the last axis runs fastest.

    Attributes
    ----------
    sides : tuple of int
        Points along each axis.
    """

    sides: tuple[int, ...]

    def image(self, x: Block, first: int, last: int) -> Block:
        """Return rows [first, last) of the product; they must begin and end with a plane of the first axis."""
        plane = x.shape[0] // self.sides[0]
        points = x.reshape(*self.sides, -1)
        i, j = first // plane, last // plane
        image = points[i:j] * np.asarray(2 * len(self.sides), dtype=x.dtype)
        image[1 if i == 0 else 0 :] -= points[max(i - 1, 0) : j - 1]
        image[: -1 if j == self.sides[0] else None] -= points[i + 1 : j + 1]
        for axis in range(1, len(self.sides)):
            source, target = np.moveaxis(points[i:j], axis, 0), np.moveaxis(image, axis, 0)
            target[1:] -= source[:-1]
            target[:-1] -= source[1:]
        return np.asarray(image.reshape(last - first, -1))

    def traces(self) -> Traces:
        """Return (tr A, tr A^2): the diagonal, and a pair of -1 for every two neighbours."""
        n, axes = float(np.prod(self.sides, dtype=np.float64)), len(self.sides)
        pairs = sum(n - n / side for side in self.sides)
        return 2 * axes * n, (2 * axes) ** 2 * n + 2 * pairs

    def edges(self, rows: int) -> npt.NDArray[np.intp]:
        """Return where to cut the rows into blocks of about `rows`."""
        plane = int(np.prod(self.sides[1:]))
        step = max(1, rows // plane)
        return np.append(np.arange(0, self.sides[0], step), self.sides[0]) * plane


@dataclass(frozen=True, slots=True)
class Rows:
    """A CSR matrix as row blocks that share its entries.

    Attributes
    ----------
    matrix : scipy.sparse CSR matrix
        The matrix.
    """

    matrix: Any
    _pieces: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False, compare=False)

    def image(self, x: Block, first: int, last: int) -> Block:
        """Return rows [first, last) of the product."""
        piece = self._pieces.get((first, last))
        if piece is None:
            piece = self._pieces[first, last] = self._cut(first, last)
        image: Block = piece @ x
        return image

    def traces(self) -> Traces | None:
        """Return (tr A, tr A^2), None where squares leave the range of float64."""
        return sparse_traces(self.matrix)

    def edges(self, rows: int) -> npt.NDArray[np.intp]:
        """Return where to cut the rows into blocks of about `rows`."""
        n = int(self.matrix.shape[0])
        return np.append(np.arange(0, n, max(1, rows)), n)

    def _cut(self, first: int, last: int) -> Any:
        """Return some rows without copying entries, as slicing would."""
        whole = self.matrix
        start, stop = int(whole.indptr[first]), int(whole.indptr[last])
        piece = type(whole)((last - first, whole.shape[1]), dtype=whole.dtype)
        piece.indptr = whole.indptr[first : last + 1] - whole.indptr[first]
        piece.indices, piece.data = whole.indices[start:stop], whole.data[start:stop]
        return piece


Source = Grid | Rows


def block_rows(x: Block) -> int:
    """Return how many rows of a block array fit into the cache together."""
    return max(1, _BLOCK_BYTES // max(1, int(x.itemsize * x.shape[1])))


def product(source: Source, first: int, last: int, x: Block, w: Block, factors: Block, sums: Block) -> None:
    """Write s A x - c w over rows [first, last) of `w`; `factors` holds s and -c, `sums` takes the sums of w x."""
    image, old = source.image(x, first, last), w[first:last]
    image *= factors[0]
    old *= factors[1]
    old += image
    np.multiply(old, x[first:last], out=image)
    np.sum(image, axis=0, dtype=np.float64, out=sums[0])


def orthogonalise(first: int, last: int, x: Block, w: Block, factors: Block, references: Block, sums: Block) -> None:
    """Add f x to rows [first, last) of `w`; `sums` takes those of w w and of x with each reference."""
    here, old = x[first:last], w[first:last]
    scratch = here * factors[0]
    old += scratch
    np.multiply(old, old, out=scratch)
    np.sum(scratch, axis=0, dtype=np.float64, out=sums[0])
    if references.shape[1]:
        sums[1:] = references[first:last].T @ here
