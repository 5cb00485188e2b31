"""Staying orthogonal: what it costs and what it buys, by the precision in which past Krylov vectors are kept.

One probe on a diagonal matrix, a cosine bulk with outliers at 20, 60 and 100: its eigenvectors are unit vectors, the
hardest case for coarse storage because rounding errors add up along them. Time is without the products.
"""

from __future__ import annotations

import statistics
import tempfile
import tracemalloc
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from _harness import arguments, copy, medians, report
from scipy.stats import wasserstein_distance

import slq
from slq._lanczos._basis import Storage
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import probes
from slq._run._choice import PRECISIONS

OUTLIERS = (20.0, 60.0, 100.0)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--dtypes", nargs="+", default=["float64", "float32"])
    parser.add_argument(
        "--kept", nargs="+", default=["not kept", *PRECISIONS], help="of the vectors: not kept, float16, …"
    )
    parser.add_argument("--files", action="store_true", help="keep vectors in temporary files, too")
    options = parser.parse_args()
    rows = []
    for dtype in options.dtypes:
        stored = [name for name in PRECISIONS if np.dtype(name).itemsize <= np.dtype(dtype).itemsize]
        places = [None, Path(tempfile.gettempdir())] if options.files else [None]
        for storage in (None, *(Storage(name, place, options.steps) for place in places for name in stored)):
            if ("not kept" if storage is None else storage.name(np.dtype(dtype))) not in options.kept:
                continue
            rows.append(cost(options.n, options.steps, np.dtype(dtype), storage, options.rounds))
            print(rows[-1], flush=True)
    report(rows, options.out)


def cost(n: int, steps: int, dtype: np.dtype[Any], storage: Storage | None, rounds: int) -> dict[str, Any]:
    """Run Lanczos `rounds` times and say what came of it; the last time, all vectors are looked at."""
    values = np.append(np.cos(np.pi * (np.arange(n - 3) + 0.5) / (n - 3)), OUTLIERS)
    diagonal, seen = values.astype(dtype)[:, None], []
    operator = slq.as_operator(lambda X: diagonal * X, n=n, block=True, like=diagonal[:1, 0])
    watched = slq.as_operator(
        lambda X: (seen.append(X[:, 0].astype(np.float32)), diagonal * X)[1], n=n, block=True, like=diagonal[:1, 0]
    )
    start = probes(n, range(1), seed=0, dtype=dtype)
    block = np.ones(2**28, np.uint8)
    speed = 2 * block.nbytes / medians({"copy": partial(copy, np.empty_like(block), block)}, 3)["copy"]
    timed(operator, start, 3, storage)  # compiles
    tracemalloc.start()
    timed(operator, start, steps, storage)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds, read = [], [0.0]
    for _ in range(rounds):
        run, took = timed(operator, start, steps, storage)
        seconds.append(took)
        if run.projected[1]:
            read.append(run.projected[0] / run.projected[1])
    run, _ = timed(watched, start, steps, storage)
    rule, Q = slq.gauss(run.tridiagonal()), np.stack(seen)
    loss = max(float(np.abs(Q[:j] @ Q[j]).max()) for j in range(1, len(Q)))
    heavy = rule.nodes[0][rule.weights[0] > 0]
    ghosts = sum(int(np.sum(np.abs(heavy - x) < 1e-3)) - 1 for x in OUTLIERS)
    size = 0 if storage is None else n * steps * np.dtype(storage.name(dtype)).itemsize
    return {
        "vectors": dtype.name,
        "kept in": "not kept" if storage is None else storage.name(dtype) + (", files" if storage.folder else ""),
        "n": n,
        "steps": steps,
        "seconds": statistics.median(seconds),
        "2, 4, 8 bytes each, GB": size / 1e9,
        "memory beside 7 vectors, GB": (held - 7 * n * dtype.itemsize) / 1e9 if size else None,
        "share of copy": statistics.median(read[1:]) / speed if read[1:] else None,
        "orthogonality": loss,
        "ghosts": ghosts,
        "W1 / range": wasserstein_distance(rule.nodes[0], values, rule.weights[0]) / 101,
        "drift / norm": run.drift / 100,
    }


def timed(operator: Any, start: Any, steps: int, storage: Storage | None) -> tuple[LanczosRun, float]:
    """Make a run and return the seconds that it took beside its products."""
    run = LanczosRun(operator, start, reorth="none" if storage is None else "full", storage=storage)
    began = perf_counter()
    run.advance(steps)
    return run, perf_counter() - began - run.product_seconds


if __name__ == "__main__":
    main()
