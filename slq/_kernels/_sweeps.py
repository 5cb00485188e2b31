"""Passes over Krylov vectors in the host's memory: dot products, subtraction, and the three terms of the recurrence.

Vectors are rows, k probes at a time; stored ones lie in blocks of shape (k, count, n) that may be of shorter precision
than the rows. Sums are taken in the rows' dtype over a few thousand numbers and in float64 over those sums, cut in the
same places whatever the number of threads. By numba where it is installed and pays, else by NumPy.
"""

from __future__ import annotations

import platform
import sys
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._kernels import _numba, _threads

Rows = npt.NDArray[Any]

# Numbers that a step touches from which on importing numba (0.5 s) pays; fewer where it is imported already.
_WORTH_NUMBA, _WORTH_CALLING = 2_000_000, 20_000
# Numbers that a thread should have to do before another one is worth waking: half a millisecond of reading, where
# waking takes a quarter of one.
_WORTH_A_THREAD = 2_000_000
# A vector is cut into so many shares at most.
_SHARES = 256
# Numbers of each vector that NumPy converts or sums at once.
_PIECE = 65_536


class Sweeps(Protocol):
    """The passes."""

    def dots(self, block: Rows, w: Rows) -> Floats:
        """Return the dot products of each probe's stored vectors with its row of `w`, shape (k, count)."""
        ...

    def subtract(self, block: Rows, factors: Floats, w: Rows) -> None:
        """Overwrite `w` with w - factors @ block; `factors` has shape (k, count)."""
        ...

    def three_terms(self, x: Rows, older: Rows, newer: Rows, factors: Floats, out: Rows) -> Floats:
        """Write out = x - factors[0] older - factors[1] newer; return its sums with older, newer, itself: (3, k)."""
        ...


def sweeps_for(numbers: int) -> Sweeps:
    """Return the fastest passes for steps that touch so many numbers."""
    least = _WORTH_CALLING if "numba" in sys.modules else _WORTH_NUMBA
    return CompiledSweeps() if numbers >= least and _compilable() else NumpySweeps()


def _compilable() -> bool:
    """Whether numba can be used and the processor converts half precision itself."""
    if not _numba.usable():
        return False
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    from llvmlite import binding

    return bool(binding.get_host_cpu_features().get("f16c", False))


class NumpySweeps:
    """Passes by NumPy: blocks are converted to the rows' dtype piece by piece."""

    def dots(self, block: Rows, w: Rows) -> Floats:
        """Return the dot products of each probe's stored vectors with its row of `w`."""
        sums = np.zeros(block.shape[:2])
        for piece in _pieces(w.shape[1]):
            sums += np.matmul(_as(block[:, :, piece], w.dtype), w[:, piece, None])[:, :, 0]
        return sums

    def subtract(self, block: Rows, factors: Floats, w: Rows) -> None:
        """Overwrite `w` with w - factors @ block."""
        factors = factors.astype(w.dtype)[:, None, :]
        for piece in _pieces(w.shape[1]):
            w[:, piece] -= np.matmul(factors, _as(block[:, :, piece], w.dtype))[:, 0, :]

    def three_terms(self, x: Rows, older: Rows, newer: Rows, factors: Floats, out: Rows) -> Floats:
        """Write out = x - factors[0] older - factors[1] newer; return its sums with older, newer, itself."""
        back, own = factors.astype(out.dtype)[:, :, None]
        sums = np.zeros((3, len(x)))
        for piece in _pieces(x.shape[1]):
            part = x[:, piece] - back * older[:, piece]
            if own.any():
                part -= own * newer[:, piece]
            out[:, piece] = part
            wide = _as(part, np.float64)
            for total, other in zip(sums, (older[:, piece], newer[:, piece], wide), strict=True):
                total += np.einsum("kn,kn->k", wide, _as(other, np.float64))
        return sums


class CompiledSweeps:
    """Passes by kernels that numba compiles, shared among threads."""

    def __init__(self) -> None:
        from slq._kernels import _sweeps_numba  # imports numba

        self._kernels, self._threads = _sweeps_numba, _threads.limit()

    def dots(self, block: Rows, w: Rows) -> Floats:
        """Return the dot products of each probe's stored vectors with its row of `w`."""
        size, units = self._shares(w)
        sums = np.empty((units, block.shape[1]))
        self._run(self._kernels.dots, units, block.size, size, _bits(block), block.shape[1], w, sums)
        return np.asarray(sums.reshape(len(w), -1, block.shape[1]).sum(axis=1))

    def subtract(self, block: Rows, factors: Floats, w: Rows) -> None:
        """Overwrite `w` with w - factors @ block."""
        size, units = self._shares(w)
        self._run(
            self._kernels.subtract, units, block.size, size, _bits(block), block.shape[1], factors.astype(w.dtype), w
        )

    def three_terms(self, x: Rows, older: Rows, newer: Rows, factors: Floats, out: Rows) -> Floats:
        """Write out = x - factors[0] older - factors[1] newer; return its sums with older, newer, itself."""
        size, units = self._shares(out)
        sums = np.empty((units, 3))
        factors = factors.astype(out.dtype)
        self._run(self._kernels.three_terms, units, 4 * out.size, size, x, older, newer, factors, out, sums)
        return np.asarray(sums.reshape(len(out), -1, 3).sum(axis=1).T)

    def _shares(self, w: Rows) -> tuple[int, int]:
        """Return into how long shares each row is cut, a multiple of a piece, and how many there are in all."""
        piece, (k, n) = self._kernels.PIECE, w.shape
        size = piece * max(1, -(-n // (_SHARES * piece)))
        return size, k * -(-n // size)

    def _run(self, kernel: Any, units: int, work: int, *arguments: Any) -> None:
        least = max(1, units * _WORTH_A_THREAD // max(1, work))
        _threads.run(lambda first, last: kernel(first, last, *arguments), units, threads=self._threads, least=least)


def _pieces(n: int) -> list[slice]:
    return [slice(first, first + _PIECE) for first in range(0, n, _PIECE)]


def _as(x: Rows, dtype: Any) -> Rows:
    return x.astype(dtype, copy=False)


def _bits(block: Rows) -> Rows:
    """Return half precision as 16-bit integers: numba knows no other form of it on processors."""
    return block.view(np.uint16) if block.dtype == np.float16 else block
