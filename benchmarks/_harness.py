"""What the benchmarks share: rounds in one process, medians, ratios, facts of the machine, JSON and a Markdown table.

Candidates take turns, round by round, so that a busy moment of the machine meets all of them; each is called once
before anything is timed. Medians of single candidates move by tens of per cent on a shared machine, ratios by less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

from slq._kernels import _threads

_PACKAGES = ("slq", "numpy", "scipy", "numba", "imate", "scikit-primate")


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each candidate; the median counts")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    parser.add_argument("--peers", type=Path, help="a folder that other libraries were installed into (pip --target)")
    return parser


def use_peers(folder: Path | None) -> None:
    """Let imports find other libraries in a folder, after our own."""
    if folder is not None:
        sys.path.append(str(folder))


def medians(candidates: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each candidate, timed in turns after one call that is not."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        call()
    for _ in range(rounds):
        for name, call in candidates.items():
            began = perf_counter()
            call()
            seconds[name].append(perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def under_torchrun(ranks: int, script: str, *told: str) -> None:
    """Run a script on so many ranks of this machine, one thread each, and wait for them."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), script, *told]
    subprocess.run([sys.executable, *launch], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)


def copy(target: Any, source: Any) -> None:
    """Copy by as many threads as the passes use."""

    def task(first: int, last: int) -> None:
        target[first * 4096 : last * 4096] = source[first * 4096 : last * 4096]

    _threads.run(task, -(-len(target) // 4096), threads=_threads.limit())


def facts() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, threads, versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"processor": _processor(), "cores": cores, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["load"] = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table; floats with three digits."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_text(row.get(name)) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def report(rows: Sequence[Mapping[str, Any]], out: Path | None) -> None:
    """Print the facts and the table, and write both to a JSON file."""
    machine = facts()
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine.items()), "\n\n" + table(rows))
    if out is not None:
        out.write_text(json.dumps({"machine": machine, "rows": list(rows)}, indent=1))


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    """Return the processor's name, from Linux where that can be asked."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
