"""Where past Krylov vectors live, and the projection that keeps new ones orthogonal to them.

Everything here stays on the operator's device. Vectors are kept in blocks of shape (probes, 16, n). A projection sweeps
over the blocks, each as two matrix products per probe, so no vector is ever copied once it is stored and the sweep is a
block Gram-Schmidt. Two sweeps make the vectors orthogonal to rounding ("twice is enough", Giraud, Langou & Rozloznik
2005, doi:10.1016/j.camwa.2005.08.009).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array

_BLOCK = 16


class Basis:
    """The past Krylov vectors of all active probes. Grows by `append`, shrinks by `keep`.

    Parameters
    ----------
    xp : module
        Array namespace.
    """

    __slots__ = ("_blocks", "_used", "_xp")

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._blocks: list[Array] = []
        self._used = _BLOCK

    def __len__(self) -> int:
        """Return the number of vectors stored per probe."""
        return max(len(self._blocks) - 1, 0) * _BLOCK + (self._used if self._blocks else 0)

    def append(self, rows: Array) -> None:
        """Store one more vector per probe: `rows` of shape (probes, n)."""
        if self._used == _BLOCK:
            shape = (rows.shape[0], _BLOCK, rows.shape[1])
            self._blocks.append(self._xp.empty(shape, dtype=rows.dtype, device=_arrays.device_of(rows)))
            self._used = 0
        where = (slice(None), self._used, slice(None))
        self._blocks[-1] = _arrays.assign(self._blocks[-1], where, rows)
        self._used += 1

    def project_out(self, rows: Array) -> tuple[Array, Array]:
        """Remove from each row its component in the span of the stored vectors of that probe.

        Returns the new rows and, per probe, the coefficient along the vector stored last.
        """
        own = None
        for block in self._filled():
            coefficients = self._xp.matmul(block, rows[:, :, None])
            rows = rows - self._xp.matmul(self._xp.matrix_transpose(coefficients), block)[:, 0, :]
            own = coefficients[:, -1, 0]
        return rows, own

    def combine(self, position: int, coefficients: Array) -> Array:
        """Return combinations of one probe's stored vectors as rows, from coefficients of shape (combinations, m)."""
        total, start = None, 0
        for block in self._filled():
            stop = start + block.shape[1]
            part = self._xp.matmul(coefficients[:, start:stop], block[position, :, :])
            total, start = part if total is None else total + part, stop
        return total

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        self._blocks = [pick(block, which, self._xp) for block in self._blocks]

    def _filled(self) -> list[Array]:
        if not self._blocks:
            return []
        return [*self._blocks[:-1], self._blocks[-1][:, : self._used, :]]


def pick(x: Array, which: npt.NDArray[np.intp], xp: Any) -> Array:
    """Return the given rows of an array of any library."""
    return xp.stack([x[int(i), ...] for i in which])
