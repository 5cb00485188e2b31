"""The kernels of `_kernels.cu`, compiled for the dtypes of a run, as functions of CuPy arrays.

Nothing here waits for the device. Vectors are rows of (k, n) arrays, C-contiguous; sums are float64 and stay there.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import cupy
import numpy as np

# Must be those of the source.
_THREADS, _ITEMS, WIDTH = 256, 8, 16
# More blocks of threads per probe keep no device busier, and leave more parts to add up.
_MOST_PARTS = 1024
_TYPES = {"float16": "__half", "float32": "float", "float64": "double"}
_NAMES = ("recur", "orthogonalise", "overlaps", "take_out", "normalise", "store", "coefficients", "subtract")


class Kernels:
    """The passes of a step for vectors of one dtype and past vectors of another."""

    __slots__ = ("_functions", "_number")

    def __init__(self, number: str, stored: str) -> None:
        source = files("slq_cupy").joinpath("_kernels.cu").read_text(encoding="utf-8")
        options = (f"-DNUMBER={_TYPES[number]}", f"-DSTORED={_TYPES[stored]}")
        module = cupy.RawModule(code=source, options=options)
        self._number = np.dtype(number).type
        self._functions = {name: module.get_function(name) for name in _NAMES}

    def recur(self, images: Any, previous: Any, current: Any, beta: Any, out: Any) -> Any:
        """Write images - beta previous to `out`, which may be `previous`; return its inner products with `current`."""
        parts = _room(current, 1)
        self._launch("recur", current.shape, images, previous, current, beta, out, parts)
        return parts.sum(axis=1)[:, 0]

    def orthogonalise(self, w: Any, current: Any, alpha: Any) -> Any:
        """Subtract alpha current from `w`; return the squares of its norms."""
        parts = _room(w, 1)
        self._launch("orthogonalise", w.shape, w, current, alpha, parts)
        return parts.sum(axis=1)[:, 0]

    def overlaps(self, w: Any, older: Any, current: Any) -> Any:
        """Return the inner products of `w` with both, shape (k, 2)."""
        parts = _room(w, 2)
        self._launch("overlaps", w.shape, w, older, current, parts)
        return parts.sum(axis=1)

    def take_out(self, w: Any, older: Any, current: Any, factors: Any) -> Any:
        """Subtract a combination of both from `w`, given factors of shape (k, 2); return the squares of its norms."""
        parts = _room(w, 1)
        self._launch("take_out", w.shape, w, older, current, factors, parts)
        return parts.sum(axis=1)[:, 0]

    def normalise(self, w: Any, beta: Any) -> Any:
        """Divide `w` by its norms where they are not zero, and return it."""
        self._launch("normalise", w.shape, w, beta, w)
        return w

    def store(self, current: Any, block: Any, scale: float, slot: int) -> None:
        """Write scale current into one slot of a block of past vectors, shape (k, 16, n)."""
        self._launch("store", current.shape, current, block, self._number(scale), np.int32(slot))

    def coefficients(self, w: Any, block: Any, count: int) -> Any:
        """Return the inner products of `w` with the first `count` vectors of a block; zeros beyond, shape (k, 16)."""
        parts = _room(w, WIDTH)
        self._launch("coefficients", w.shape, w, block, parts, np.int32(count))
        return parts.sum(axis=1)

    def subtract(self, w: Any, block: Any, factors: Any, count: int) -> None:
        """Subtract a combination of the first `count` vectors of a block, given factors of shape (k, 16)."""
        self._launch("subtract", w.shape, w, block, factors, np.int32(count))

    def _launch(self, name: str, shape: tuple[int, int], *arguments: Any) -> None:
        k, n = shape
        self._functions[name]((_parts(n), k), (_THREADS,), (*arguments, np.int64(n)))


@cache
def kernels(number: str, stored: str) -> Kernels:
    """Return the kernels for the given dtypes; they are compiled once per process and device."""
    return Kernels(number, stored)


def _parts(n: int) -> int:
    """Return into how many parts each sum over n is cut: a matter of n alone, whatever the device and the batch."""
    return max(1, min(_MOST_PARTS, -(-n // (_THREADS * _ITEMS))))


def _room(w: Any, columns: int) -> Any:
    """Return room for the parts of `columns` sums per row of `w`."""
    k, n = w.shape
    return cupy.empty((k, _parts(n), columns), dtype=cupy.float64)
