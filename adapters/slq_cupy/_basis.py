"""Past Krylov vectors on one device, in a dtype of their own, and the sweeps that make new ones orthogonal to them.

The same block Gram-Schmidt as the core's, by kernels that read vectors of a shorter dtype without a converted copy.
float16 has too small a range for the entries of a unit vector: there vectors are stored times about sqrt(n).
"""

from collections.abc import Iterator
from typing import Any

import cupy
import numpy as np
import numpy.typing as npt

from slq_cupy._kernels import WIDTH, kernels

# The largest scale of float16: an entry of a unit vector may be 1.
_LARGEST = 15


class Basis:
    """The past Krylov vectors of all active probes. Grows by `append`, shrinks by `keep`.

    Parameters
    ----------
    number, stored : str
        Names of the dtypes of the vectors, and of those that are kept.
    n : int
        Length of the vectors.
    """

    __slots__ = ("_blocks", "_kernels", "_scale", "_stored", "_used")

    def __init__(self, number: str, stored: str, n: int) -> None:
        self._kernels, self._stored = kernels(number, stored), stored
        self._scale = 2.0 ** min(round(np.log2(n) / 2), _LARGEST) if stored == "float16" else 1.0
        self._blocks: list[Any] = []
        self._used = WIDTH

    def append(self, rows: Any) -> None:
        """Store one more vector per probe: `rows` of shape (k, n)."""
        block, place = self._next(rows.shape)
        self._kernels.store(rows, block, self._scale, place)

    def __len__(self) -> int:
        """Return the number of vectors stored per probe."""
        return sum(count for _, count in self._filled())

    def stored(self, first: int) -> Iterator[npt.NDArray[Any]]:
        """Give the vectors from number `first` on as they are kept, on the host, each of shape (k, n)."""
        for number in range(first, len(self)):
            yield self._blocks[number // WIDTH][:, number % WIDTH].copy().get()

    def restore(self, rows: npt.NDArray[Any]) -> None:
        """Store one more vector per probe as `stored` gave it."""
        block, place = self._next(rows.shape)
        block[:, place] = cupy.asarray(rows)

    def _next(self, shape: tuple[int, int]) -> tuple[Any, int]:
        """Return the block and the place in it of the next vectors, of this shape."""
        if self._used == WIDTH:
            self._blocks.append(cupy.empty((shape[0], WIDTH, shape[1]), dtype=self._stored))
            self._used = 0
        self._used += 1
        return self._blocks[-1], self._used - 1

    def project_out(self, rows: Any) -> Any:
        """Overwrite rows with what is orthogonal to the stored vectors; return the square of what that removed."""
        removed: Any = 0.0
        for block, count in self._filled():
            factors = self._kernels.coefficients(rows, block, count)
            removed = removed + (factors * factors).sum(axis=1) * self._scale**-2
            if self._scale != 1.0:
                factors *= self._scale**-2
            self._kernels.subtract(rows, block, factors, count)
        return removed

    def combine(self, position: int, coefficients: Any) -> Any:
        """Return combinations of one probe's stored vectors as rows, from coefficients of shape (combinations, m)."""
        total: Any = 0.0
        start = 0
        for block, count in self._filled():
            vectors = block[position, :count].astype(coefficients.dtype, copy=False)
            total, start = total + coefficients[:, start : start + count] @ vectors, start + count
        return total / self._scale

    def keep(self, which: Any) -> None:
        """Drop all probes but those at the given positions."""
        for i, block in enumerate(self._blocks):
            self._blocks[i] = block[which]

    def _filled(self) -> list[tuple[Any, int]]:
        return [(block, self._used if block is self._blocks[-1] else WIDTH) for block in self._blocks]
