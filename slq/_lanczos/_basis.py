"""Where past Krylov vectors live, on any device, and the projection that keeps new ones orthogonal to them.

Vectors are kept in blocks of shape (probes, 16, n), rounded to a chosen precision. A projection sweeps over the blocks,
each as two matrix products per probe, so no vector is ever copied once it is stored and the sweep is a block
Gram-Schmidt. Two sweeps make the vectors orthogonal to rounding ("twice is enough", Giraud, Langou & Rozloznik
2005, doi:10.1016/j.camwa.2005.08.009). `_host_basis` does the same faster for vectors in the host's memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array
from slq._shards import Shards, whole

Precision = Literal["float64", "float32", "float16"]

_BLOCK = 16
# sqrt(n) q fits into float16 for vectors up to this length.
_LONGEST_HALF = 65_504**2


@dataclass(frozen=True, slots=True)
class Storage:
    """How Krylov vectors are kept.

    Attributes
    ----------
    precision : {"float64", "float32", "float16"}, optional
        That of the stored copies; that of the vectors themselves where it is not given or no shorter.
    folder : Path, optional
        Keep them in temporary files there instead of in memory.
    most : int, optional
        How many there will be at most, so that no room is taken for more.
    sparing : bool, default False
        Project only where orthogonality would be lost beyond sqrt(eps), if they are kept as they are.
    """

    precision: Precision | None = None
    folder: Path | None = None
    most: int | None = None
    sparing: bool = False

    def name(self, dtype: Any) -> str:
        """Return the precision in which vectors of a dtype are kept."""
        own = _arrays.dtype_name(dtype)
        if self.precision is None or np.dtype(self.precision).itemsize >= np.dtype(own).itemsize:
            return own
        return self.precision


class Basis:
    """Past Krylov vectors of all active probes. Grows by `append`, shrinks by `keep`.

    Parameters
    ----------
    xp : module
        Array namespace.
    precision : str, optional
        Name of the dtype of the stored copies; that of the vectors by default. float16 holds sqrt(n) times them, so
        that entries of random vectors are neither too large nor too small for it.
    shards : Shards, optional
        Which rows of vectors are here, where not all are.
    """

    __slots__ = ("_blocks", "_precision", "_shards", "_used", "_xp")

    def __init__(self, xp: Any, precision: str | None = None, shards: Shards | None = None) -> None:
        if precision is not None and not hasattr(xp, precision):
            msg = f"`basis` cannot be {precision!r}: {xp.__name__.split('.')[-1]} has no such dtype. Take 'float32'."
            raise ValueError(msg)
        self._xp, self._precision, self._shards = xp, precision, shards
        self._blocks: list[Array] = []
        self._used = _BLOCK

    def __len__(self) -> int:
        """Return the number of vectors stored per probe."""
        return max(len(self._blocks) - 1, 0) * _BLOCK + (self._used if self._blocks else 0)

    def append(self, rows: Array) -> None:
        """Store one more vector per probe: `rows` of shape (probes, n)."""
        dtype = rows.dtype if self._precision is None else getattr(self._xp, self._precision)
        factor = self._factor(rows)
        self._put(_arrays.cast(rows if factor == 1.0 else rows * factor, dtype, self._xp))

    def stored(self, first: int) -> Iterator[npt.NDArray[Any]]:
        """Give the vectors from number `first` on as they are kept, on the host, each of shape (probes, n)."""
        for number in range(first, len(self)):
            yield _arrays.to_host_exactly(self._blocks[number // _BLOCK][:, number % _BLOCK, :])

    def restore(self, rows: npt.NDArray[Any], device: Any) -> None:
        """Store one more vector per probe as `stored` gave it."""
        dtype = getattr(self._xp, rows.dtype.name)
        self._put(_arrays.from_host(rows, self._xp, dtype=dtype, device=device))

    def _put(self, rows: Array) -> None:
        if self._used == _BLOCK:
            shape = (rows.shape[0], _BLOCK, rows.shape[1])
            self._blocks.append(self._xp.empty(shape, dtype=rows.dtype, device=_arrays.device_of(rows)))
            self._used = 0
        where = (slice(None), self._used, slice(None))
        self._blocks[-1] = _arrays.assign(self._blocks[-1], where, rows)
        self._used += 1

    def project_out(self, rows: Array) -> tuple[Array, Array | None]:
        """Remove from each row its component in the span of the stored vectors of that probe.

        Returns the new rows and, per probe, the sum of squares of what was removed; None where nothing is stored. Of
        shards all coefficients are summed over ranks at once: one message instead of one per block.
        """
        xp, removed, blocks = self._xp, None, self._filled()
        scale, shards = self._factor(rows) ** -2, self._shards or whole(rows.shape[1])
        summed = None
        if blocks and not shards.whole:
            found = [xp.matmul(_arrays.cast(block, rows.dtype, xp), rows[:, :, None]) for block in blocks]
            summed = shards.reduce(xp.concat(found, axis=1))
        start = 0
        for block in blocks:
            block = _arrays.cast(block, rows.dtype, xp)
            stop = start + block.shape[1]
            coefficients = xp.matmul(block, rows[:, :, None]) if summed is None else summed[:, start:stop, :]
            taken = coefficients if scale == 1.0 else coefficients * scale
            rows = rows - xp.matmul(xp.matrix_transpose(taken), block)[:, 0, :]
            squares = xp.sum(coefficients * taken, axis=(1, 2))
            removed, start = squares if removed is None else removed + squares, stop
        return rows, removed

    def combine(self, position: int, coefficients: Array) -> Array | None:
        """Return combinations of one probe's stored vectors as rows, from coefficients of shape (combinations, m)."""
        total, start = None, 0
        for block in self._filled():
            stop = start + block.shape[1]
            kept = _arrays.cast(block[position, :, :], coefficients.dtype, self._xp)
            part = self._xp.matmul(coefficients[:, start:stop] / self._factor(kept), kept)
            total, start = part if total is None else total + part, stop
        return total

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        self._blocks = [pick(block, which, self._xp) for block in self._blocks]

    def _factor(self, rows: Array) -> float:
        return factor_of(self._precision, self._shards.n if self._shards else rows.shape[1])

    def _filled(self) -> list[Array]:
        if not self._blocks:
            return []
        return [*self._blocks[:-1], self._blocks[-1][:, : self._used, :]]


def factor_of(precision: str | None, n: int) -> float:
    """Return what vectors of length n are multiplied by before they are rounded to a precision."""
    if precision != "float16":
        return 1.0
    if n > _LONGEST_HALF:
        msg = f"`basis` cannot be 'float16' for vectors of more than {_LONGEST_HALF:.2g} numbers. Take 'float32'."
        raise ValueError(msg)
    return float(np.sqrt(n))


def pick(x: Array, which: npt.NDArray[np.intp], xp: Any) -> Array:
    """Return the given rows of an array of any library."""
    return xp.stack([x[int(i), ...] for i in which])
