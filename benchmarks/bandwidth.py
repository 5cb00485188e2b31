"""Bytes that each pass over memory moves, as a share of what a plain copy moves in the same process.

Counted are the least bytes: every array read once, every result written once. A share near one leaves nothing to gain
but fewer passes; above one, part of the data stayed in a cache between passes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from _harness import arguments, copy, medians, report
from sparse import matrix

from slq._kernels import _kernels
from slq._kernels._kernels_numpy import Grid, Rows


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 4, 16, 32])
    options = parser.parse_args()
    rows = []
    for name in ("2-D", "3-D", "random", "2-D stencil", "3-D stencil"):
        for dtype in (np.float64, np.float32):
            for width in options.widths:
                rows += shares(name, options.side, np.dtype(dtype), width, options.rounds)
                print(rows[-2], rows[-1], flush=True)
    report(rows, options.out)


def shares(name: str, side: int, dtype: np.dtype[Any], width: int, rounds: int) -> list[dict[str, Any]]:
    """Time both passes and a copy of as many bytes."""
    source, stored = source_of(name, side, dtype)
    n = side * side // (5 if name == "random" else 1)
    n = n if "3" not in name else round(side ** (2 / 3)) ** 3
    block = n * width * dtype.itemsize
    passes = _kernels.CompiledPasses(source)
    x, w = np.ones((n, width), dtype), np.ones((n, width), dtype)
    one, nothing = np.ones(width), np.zeros((n, 0), dtype)
    copied = np.empty(4 * max(block, 2**26) // 4, np.uint8)
    calls: dict[str, Callable[[], object]] = {
        "product": partial(passes.product, x, w, 0.1 * one, 0.1 * one),
        "orthogonalise": partial(passes.orthogonalise, x, w, 0.1 * one, nothing),
        "copy": partial(copy, copied, np.ones_like(copied)),
    }
    seconds = medians(calls, rounds)
    speed = 2 * copied.nbytes / seconds["copy"]
    bytes_moved = {"product": stored + 3 * block, "orthogonalise": 3 * block}
    return [
        {
            "matrix": name,
            "dtype": dtype.name,
            "probes": width,
            "pass": kernel,
            "GB/s": moved / seconds[kernel] / 1e9,
            "copy GB/s": speed / 1e9,
            "share": moved / seconds[kernel] / speed,
        }
        for kernel, moved in bytes_moved.items()
    ]


def source_of(name: str, side: int, dtype: np.dtype[Any]) -> tuple[Grid | Rows, int]:
    """Return a matrix and the bytes that it takes."""
    if name.endswith("stencil"):
        axes = int(name[0])
        return Grid((side if axes == 2 else round(side ** (2 / 3)),) * axes), 0
    A = matrix(name, side).astype(dtype)
    return Rows(A), A.data.nbytes + A.indices.nbytes + A.indptr.nbytes


if __name__ == "__main__":
    main()
