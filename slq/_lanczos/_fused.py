"""The Lanczos recurrence without stored vectors, fused with the product: six passes over memory in all.

The same recurrence as `_krylov`, in the same order of operations, for NumPy and for matrices that `_kernels` can read.
Vectors are columns of (n, k) blocks, row-major. They are stored as they come out, r_j = beta_j q_{j+1}: dividing by
beta is left to the factors of the next pass. The vector before the last is overwritten, so two blocks are all there
is: at n = 1e9 in float32 eight gigabytes per probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from slq._arrays import Array, Floats
from slq._kernels._kernels import Passes
from slq._lanczos._krylov import PAIRS, asymmetry_of

# Blocks begin at a cache line, so that no row of 64 bytes lies across two.
_LINE = 64
# Rows converted to float64 at once for sums that are taken outside of the kernels.
_PIECE = 65_536


class Fused:
    """The newest two Krylov vectors of all active probes, and the step to the next; stands in for a `Krylov`.

    Parameters
    ----------
    passes : Passes
        The matrix, as two passes over memory.
    current : array, shape (k, n)
        The newest Krylov vectors as rows; unit vectors.
    previous : array, shape (k, n), optional
        Those before; none at the start.
    beta : array, shape (k,), optional
        What couples the two.
    references : array, shape (r, n), optional
        Vectors whose inner products with the Krylov vectors are recorded.
    scale : float, default 1
        Factor of all products.
    owned : bool, default False
        Whether `current` may be overwritten.
    """

    __slots__ = ("_beta", "_inverse", "_new", "_old", "_old_inverse", "_passes", "_references", "_scale", "_sums")

    orthogonal = False
    kept, drift, projected = 0, 0.0, (0, 0.0, 0.0)  # there are no projections

    def __init__(
        self,
        passes: Passes,
        current: Array,
        previous: Array | None = None,
        beta: Array | None = None,
        *,
        references: Array | None = None,
        scale: float = 1.0,
        owned: bool = False,
    ) -> None:
        k, n = current.shape
        usable = owned and current.T.flags.c_contiguous and current.flags.writeable
        self._passes, self._scale = passes, scale
        self._new = current.T if usable else _block(current.T)
        self._old = _block(np.broadcast_to(current.dtype.type(0), (n, k)) if previous is None else previous.T)
        self._beta = np.zeros(k) if beta is None else np.asarray(beta, dtype=np.float64)
        self._inverse, self._old_inverse, self._sums = np.ones(k), np.ones(k), np.zeros(k)
        self._references = np.zeros((n, 0)) if references is None else np.ascontiguousarray(references.T)

    @property
    def current(self) -> Array:
        """The newest Krylov vectors as rows, shape (k, n)."""
        return (self._new * self._inverse.astype(self._new.dtype)).T

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that the recurrence goes on from."""
        numbers = np.stack([self._beta, self._inverse, self._old_inverse])
        return {"new": self._new, "old": self._old, "numbers": numbers, "scale": np.array(self._scale)}

    def restore(self, state: Mapping[str, npt.NDArray[Any]], _: Any) -> None:
        """Go on from what `state` gave."""
        self._new, self._old = _block(state["new"]), _block(state["old"])
        self._beta, self._inverse, self._old_inverse = state["numbers"]
        self._scale = float(state["scale"])

    def stored(self, _: int) -> tuple[()]:
        """Give nothing: past vectors are not kept."""
        return ()

    @np.errstate(over="ignore", invalid="ignore")
    def images(self, _: Any) -> Array:
        """Make the first pass: A times the current vectors less their part along the previous ones, as columns."""
        back = self._beta * self._old_inverse
        self._sums = self._passes.product(self._new, self._old, self._inverse * self._scale, back)
        return self._old

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, images: Array) -> Floats:
        """Make the second pass: go on to the next vectors.

        Returns an array of shape (k, 2 + r): alpha, beta, and the current vectors' inner products with the references.
        """
        alpha = self._sums * self._inverse
        squares, *overlaps = self._passes.orthogonalise(self._new, images, alpha * self._inverse, self._references)
        self._beta = np.sqrt(squares)
        columns = [alpha, self._beta, *(overlap * self._inverse for overlap in overlaps)]
        # Dividing by one instead of an exact zero; a tiny beta is caught on the host and its step cut off there.
        divisor = np.where(self._beta > 0, self._beta, 1.0)
        self._old_inverse, self._inverse = self._inverse, 1.0 / divisor
        self._old, self._new = self._new, images
        return np.stack(columns, axis=1)

    def size(self, images: Array) -> float:
        """Return the largest absolute entry."""
        return float(np.maximum(images.max(), -images.min()))

    def rescale(self, images: Array, factor: float) -> Array:
        """Multiply these images and all that come by a factor."""
        self._scale *= factor
        self._sums = self._sums * factor
        images *= images.dtype.type(factor)
        return images

    @np.errstate(over="ignore", invalid="ignore")
    def asymmetry(self, images: Array) -> float:
        """Estimate |A - A^T|_F / |A|_F from the first images; 0 for a single probe."""
        k = min(images.shape[1], PAIRS)
        if k < 2:
            return 0.0
        gram, squares = np.zeros((k, k)), np.zeros(k)
        for first in range(0, len(images), _PIECE):
            x, y = (np.asarray(v[first : first + _PIECE, :k], dtype=np.float64) for v in (self._new, images))
            gram += x.T @ y
            squares += np.sum(y * y, axis=0)
        return asymmetry_of(gram * self._inverse[:k, None], np.sqrt(squares), len(images))

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        self._new, self._old = _block(self._new[:, which]), _block(self._old[:, which])
        self._beta, self._inverse = self._beta[which], self._inverse[which]
        self._old_inverse, self._sums = self._old_inverse[which], self._sums[which]

    def combine(self, position: int, coefficients: Floats) -> None:
        """Return None: past vectors are not kept."""

    def drop_basis(self) -> None:
        """Do nothing: there is none."""


def _block(columns: Array) -> Array:
    """Copy columns into a row-major block that begins at a cache line."""
    room = np.empty(columns.size * columns.dtype.itemsize + _LINE, dtype=np.uint8)
    first = -room.ctypes.data % _LINE
    block = room[first : first + columns.size * columns.dtype.itemsize].view(columns.dtype).reshape(columns.shape)
    block[...] = columns
    return block
