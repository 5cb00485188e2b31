"""How time grows with the size, the probes and the steps: it should be linear in each, so slopes of one.

The 3-D Laplacian as a stencil in float32, without re-orthogonalisation. `--full` goes on to n = 1e9, which takes
20 GB of memory and minutes. With `--plot FILE` a log-log picture is drawn (needs matplotlib).
"""

from __future__ import annotations

import resource
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from _harness import arguments, report

from slq import as_operator, gallery
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import probes as start_vectors


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--full", action="store_true", help="go on to n = 1e9")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    sizes = [21, 46, 100, 215, 464, *([1000] if options.full else [])]
    lines = {
        "n": [(side**3, seconds(side, 1, 20, options.rounds if side < 400 else 1)) for side in sizes],
        "probes": [(k, seconds(128, k, 20, options.rounds)) for k in (1, 2, 4, 8, 16, 32, 64)],
        "steps": [(m, seconds(128, 4, m, options.rounds)) for m in (10, 25, 50, 100, 200)],
    }
    rows = []
    for name, points in lines.items():
        slope = fitted_slope(points)
        print(f"slope in {name}: {slope:.2f}")
        rows += [{"axis": name, "value": value, "seconds": time, "slope": slope} for value, time in points]
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    report(rows, options.out)
    if options.plot:
        draw(lines, options.plot)


def seconds(side: int, probes: int, steps: int, rounds: int) -> float:
    """Return the median time of so many steps, of several stretches of one run, after two that are not counted."""
    operator = as_operator(gallery.laplacian_3d(side, dtype=np.float32)[0])
    start = start_vectors(operator.n, range(probes), seed=0, dtype=np.float32)
    run = LanczosRun(operator, start, reorth="none", owned=True)
    del start
    run.advance(2)
    times = []
    for _ in range(rounds):
        began = perf_counter()
        run.advance(steps)
        times.append(perf_counter() - began)
    return statistics.median(times)


def fitted_slope(points: list[tuple[int, float]]) -> float:
    """Return the slope of log time over log value in the upper half, where fixed costs no longer show."""
    upper = np.log(points[len(points) // 2 :])
    return float(np.polyfit(upper[:, 0], upper[:, 1], 1)[0])


def draw(lines: dict[str, Any], path: Path) -> None:
    """Draw time over size, probes and steps."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(lines), figsize=(10, 3), layout="constrained")
    for ax, (name, points) in zip(axes, lines.items(), strict=True):
        values, times = np.array(points).T
        ax.loglog(values, times, "o-")
        ax.loglog(values, times[-1] * values / values[-1], ":", color="0.6", label="linear")
        ax.set(xlabel=name, ylabel="seconds")
        ax.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
