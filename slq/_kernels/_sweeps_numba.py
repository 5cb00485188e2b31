"""Passes over Krylov vectors in the host's memory, compiled by numba: see `_sweeps` for what they compute.

Vectors are contiguous, one after the other; a pass goes over a piece of `PIECE` numbers of all of them, so that the
piece of the vector they are taken from stays in a core's first cache. Half precision is read as 16-bit integers and
widened in registers. Functions release the GIL and work on units [first, last): shares of `size` numbers of a probe.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# Numbers of a vector that are worked on at once.
PIECE = 4096

# Sums may be taken in any order: that is what lets LLVM use vector registers for them.
_compiled = numba.njit(
    nogil=True, cache=True, boundscheck=False, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}
)


@intrinsic
def _number(_: Any, stored: Any) -> Any:
    """Return a stored number as it is; 16 bits as what they stand for in half precision."""

    def generate(__: Any, builder: Any, ___: Any, args: Any) -> Any:
        if not isinstance(stored, types.Integer):
            return args[0]
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return (types.float32 if isinstance(stored, types.Integer) else stored)(stored), generate


@_compiled
def _dots_of_four(a: Any, b: Any, c: Any, d: Any, x: Any) -> Any:
    s = t = u = v = x[0] * 0
    for i in range(x.shape[0]):
        y = x[i]
        s += _number(a[i]) * y
        t += _number(b[i]) * y
        u += _number(c[i]) * y
        v += _number(d[i]) * y
    return s, t, u, v


@_compiled
def _dot(a: Any, x: Any) -> Any:
    s = x[0] * 0
    for i in range(x.shape[0]):
        s += _number(a[i]) * x[i]
    return s


@_compiled
def dots(first: int, last: int, size: int, block: Any, used: int, w: Any, sums: Any) -> None:
    """Write the dot products of each probe's vectors with its row of w: sums[unit, :used]."""
    n, groups = w.shape[1], -(-w.shape[1] // size)
    for unit in range(first, last):
        p, begin = unit // groups, unit % groups * size
        end = min(begin + size, n)
        sums[unit, :] = 0.0
        for a in range(begin, end, PIECE):
            b = min(a + PIECE, end)
            x = w[p, a:b]
            whole = used // 4 * 4
            for j in range(0, whole, 4):
                s, t, u, v = _dots_of_four(
                    block[p, j, a:b], block[p, j + 1, a:b], block[p, j + 2, a:b], block[p, j + 3, a:b], x
                )
                sums[unit, j] += s
                sums[unit, j + 1] += t
                sums[unit, j + 2] += u
                sums[unit, j + 3] += v
            for j in range(whole, used):
                sums[unit, j] += _dot(block[p, j, a:b], x)


@_compiled
def _subtract_four(f: Any, a: Any, b: Any, c: Any, d: Any, x: Any) -> None:
    for i in range(x.shape[0]):
        x[i] -= f[0] * _number(a[i]) + f[1] * _number(b[i]) + f[2] * _number(c[i]) + f[3] * _number(d[i])


@_compiled
def _subtract_one(f: Any, a: Any, x: Any) -> None:
    for i in range(x.shape[0]):
        x[i] -= f * _number(a[i])


@_compiled
def subtract(first: int, last: int, size: int, block: Any, used: int, factors: Any, w: Any) -> None:
    """Overwrite w with w - factors times the vectors; `factors` is (k, used)."""
    n, groups = w.shape[1], -(-w.shape[1] // size)
    for unit in range(first, last):
        p, begin = unit // groups, unit % groups * size
        end = min(begin + size, n)
        for a in range(begin, end, PIECE):
            b = min(a + PIECE, end)
            x = w[p, a:b]
            whole = used // 4 * 4
            for j in range(0, whole, 4):
                _subtract_four(
                    factors[p, j : j + 4],
                    block[p, j, a:b],
                    block[p, j + 1, a:b],
                    block[p, j + 2, a:b],
                    block[p, j + 3, a:b],
                    x,
                )
            for j in range(whole, used):
                _subtract_one(factors[p, j], block[p, j, a:b], x)


@_compiled
def _three_terms(back: Any, own: Any, x: Any, older: Any, newer: Any, w: Any) -> Any:
    s = t = u = 0.0
    for i in range(w.shape[0]):
        rest = x[i] - back * older[i] - own * newer[i]
        w[i] = rest
        s += float(rest) * float(older[i])
        t += float(rest) * float(newer[i])
        u += float(rest) * float(rest)
    return s, t, u


@_compiled
def three_terms(
    first: int, last: int, size: int, x: Any, older: Any, newer: Any, factors: Any, w: Any, sums: Any
) -> None:
    """Write w = x - back older - own newer, and its dot products with older, newer and itself: sums[unit, :]."""
    n, groups = w.shape[1], -(-w.shape[1] // size)
    for unit in range(first, last):
        p, begin = unit // groups, unit % groups * size
        end = min(begin + size, n)
        sums[unit, :] = 0.0
        for a in range(begin, end, PIECE):
            b = min(a + PIECE, end)
            s, t, u = _three_terms(factors[0, p], factors[1, p], x[p, a:b], older[p, a:b], newer[p, a:b], w[p, a:b])
            sums[unit, 0] += s
            sums[unit, 1] += t
            sums[unit, 2] += u
