"""What a checkpoint costs: the share of a run that is spent on writing, beside what one flush to this disk takes.

`python benchmarks/checkpoints.py [--seconds 20] [--folder .]`: runs of a product that waits, of several sizes, each of
about so many seconds, with and without past vectors; and a search for eigenpairs. The share is that of the time in
`Checkpoint.save` and `Checkpoint.due`, in one process, and counts the last write, which is made however short a run is.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

import slq
from slq._run._checkpoint import Checkpoint

# Dimension, seconds of a product.
SIZES = ((10**4, 0.005), (10**5, 0.02), (10**6, 0.1))


class Writing:
    """Counts the seconds of some methods of `Checkpoint`, and how often it writes."""

    def __init__(self):
        self.seconds, self.writes = 0.0, 0
        for name in ("due", "save"):
            setattr(Checkpoint, name, self._timed(name, getattr(Checkpoint, name)))

    def _timed(self, name, method):
        def timed(*arguments):
            began = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                self.seconds += time.perf_counter() - began
                self.writes += name == "save"

        return timed

    def share(self, act):
        """Return the share of the time of an act, its seconds and its writes."""
        self.seconds, self.writes, began = 0.0, 0, time.perf_counter()
        act()
        taken = time.perf_counter() - began
        return self.seconds / taken, taken, self.writes


def waiting(n, seconds):
    """Return a diagonal matrix of which a product takes some time."""
    values = np.linspace(0.0, 1.0, n) ** 2

    def product(v):
        time.sleep(seconds)
        return values * v

    return slq.as_operator(product, n=n)


def flush(folder):
    """Return the median time of a small file's flush to disk."""
    taken = []
    for _ in range(20):
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            began = time.perf_counter()
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken)


def main(seconds, folder):
    """Print the table."""
    writing = Writing()
    sys.stdout.write(f"flush: {1e3 * flush(folder):.2g} ms\n\n| run | n | seconds | writes | share |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- |\n")
    for n, pause in SIZES:
        A, steps = waiting(n, pause), max(8, int(seconds / pause / 2))
        path = Path(folder) / "checkpoint-benchmark.npz"
        options = {"rng": 0, "checkpoint": path}
        runs = {
            "with a basis": lambda: slq.spectrum(A, probes=2, steps=min(steps, 60), reorth="full", **options),  # noqa: B023
            "without": lambda: slq.spectrum(A, probes=2, steps=steps, reorth="none", **options),  # noqa: B023
            "eigsh": lambda: slq.eigsh(A, 4, which="LA", max_products=2 * steps, **options),  # noqa: B023
        }
        for name, act in runs.items():
            share, taken, writes = writing.share(act)
            sys.stdout.write(f"| {name} | {n:.0e} | {taken:.1f} | {writes} | {share:.2%} |\n")
            sys.stdout.flush()
            for file in (*path.parent.glob("checkpoint-benchmark.npz*"), path.parent / f".{path.name}.lock"):
                file.unlink(missing_ok=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    chosen = parser.parse_args()
    main(chosen.seconds, chosen.folder)
