"""Past Krylov vectors in the host's memory or in temporary files: as `_basis`, with compiled passes and in place.

Blocks have room for 32 vectors per probe; memory is taken as vectors come. One sweep reads the blocks twice, from first
to last: for the dot products with all of them, then to subtract (classical Gram-Schmidt).
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._kernels import _scratch
from slq._kernels._sweeps import Rows, Sweeps
from slq._lanczos._basis import Storage, factor_of
from slq._shards import Shards, whole

_BLOCK = 32


class HostBasis:
    """Past Krylov vectors of all active probes. Grows by `append`, shrinks by `keep`.

    Parameters
    ----------
    storage : Storage
        Precision of the stored copies, and the folder of their files if they do not stay in memory.
    sweeps : Sweeps
        How to pass over them.
    shards : Shards, optional
        Which rows of vectors are here, where not all are.

    Attributes
    ----------
    bytes_read : int
        By projections so far.
    seconds : float
        Time that they took.
    """

    __slots__ = ("_blocks", "_shards", "_storage", "_sweeps", "_used", "bytes_read", "seconds")

    def __init__(self, storage: Storage, sweeps: Sweeps, shards: Shards | None = None) -> None:
        self._storage, self._sweeps, self._shards = storage, sweeps, shards
        self._blocks: list[Rows] = []
        self._used = 0
        self.bytes_read, self.seconds = 0, 0.0

    def __len__(self) -> int:
        """Return the number of vectors stored per probe."""
        return sum(block.shape[1] for block in self._filled())

    def append(self, rows: Rows) -> None:
        """Store one more vector per probe: `rows` of shape (probes, n)."""
        target = self._next(rows, self._storage.name(rows.dtype))
        np.multiply(rows, rows.dtype.type(self._factor(rows.shape[1])), out=target, casting="same_kind")

    def stored(self, first: int) -> Iterator[Rows]:
        """Give the vectors from number `first` on as they are kept, each of shape (probes, n)."""
        for block in self._filled():
            for number in range(min(first, block.shape[1]), block.shape[1]):
                yield block[:, number, :]
            first = max(first - block.shape[1], 0)

    def restore(self, rows: Rows) -> None:
        """Store one more vector per probe as `stored` gave it."""
        self._next(rows, rows.dtype)[...] = rows

    def project_out(self, rows: Rows) -> Floats | None:
        """Remove from each row, in place, its component in the span of the stored vectors of that probe.

        Returns the sum of squares of what was removed, per probe; None where nothing is stored.
        """
        if not self._blocks:
            return None
        began, blocks, scale = perf_counter(), self._filled(), self._factor(rows.shape[1]) ** -2
        found = []
        for block, following in zip(blocks, [*blocks[1:], blocks[0]], strict=True):
            _scratch.fetch(following)
            found.append(self._sweeps.dots(block, rows) * scale)
        summed = (self._shards or whole(rows.shape[1])).reduce(np.concatenate(found, axis=1))
        coefficients = np.split(summed, np.cumsum([part.shape[1] for part in found])[:-1], axis=1)
        for block, following, factors in zip(blocks, [*blocks[1:], blocks[0]], coefficients, strict=True):
            _scratch.fetch(following)
            self._sweeps.subtract(block, factors, rows)
        self.seconds += perf_counter() - began
        self.bytes_read += 2 * sum(block.nbytes for block in blocks)
        return np.asarray(sum(np.sum(c * c, axis=1) for c in coefficients)) / scale

    def combine(self, position: int, coefficients: Floats, dtype: Any) -> Rows | None:
        """Return combinations of one probe's stored vectors as rows, from coefficients of shape (combinations, m)."""
        total: Rows | None = None
        start = 0
        for block in self._filled():
            stop, n = start + block.shape[1], block.shape[2]
            factors = (coefficients[:, start:stop] / self._factor(n)).astype(dtype)
            part = factors @ block[position].astype(dtype, copy=False)
            total, start = part if total is None else total + part, stop
        return total

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        for number, (block, filled) in enumerate(zip(self._blocks, self._filled(), strict=True)):
            room = self._room(len(which), block.shape[1], block.shape[2], block.dtype)
            for position, probe in enumerate(which):
                room[position, : filled.shape[1]] = filled[probe]
            self._blocks[number] = room

    def _next(self, rows: Rows, dtype: Any) -> Rows:
        """Return the place of the next vectors, of the shape of these."""
        if not self._blocks or self._used == self._blocks[-1].shape[1]:
            most = self._storage.most
            count = _BLOCK if most is None else max(1, min(_BLOCK, most - len(self)))
            self._blocks.append(self._room(len(rows), count, rows.shape[1], dtype))
            self._used = 0
        self._used += 1
        return self._blocks[-1][:, self._used - 1, :]

    def _room(self, probes: int, count: int, n: int, dtype: Any) -> Rows:
        shape, folder = (probes, count, n), self._storage.folder
        return np.empty(shape, dtype=dtype) if folder is None else _scratch.mapped(shape, dtype, folder)

    def _factor(self, n: int) -> float:
        return factor_of(self._storage.precision, self._shards.n if self._shards else n)

    def _filled(self) -> list[Rows]:
        if not self._blocks:
            return []
        return [*self._blocks[:-1], self._blocks[-1][:, : self._used, :]]
