"""Check and time slq on a CUDA device: numbers against NumPy's, then products, projections, sparse batches, Hessians.

    python -m benchmarks.gpu [--out FILE] [--only SECTION ...] [--quick]
    python -m benchmarks.gpu --device cpu --quick      # the same code without a GPU, PyTorch only, in tiny sizes

Runs with CuPy, with PyTorch, or with both; what is not installed is left out with a word. Prints one Markdown table per
section. Exit status: 0 where all numbers agree, 1 where some do not, 3 where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import _harness
from benchmarks.gpu import _hessians, _libraries, _sections

SECTIONS = {
    "correctness": _sections.correctness,
    "waits": _sections.waits,
    "products": _sections.products,
    "projection": _sections.projection,
    "sparse": _sections.sparse_batches,
    "memory": _sections.memory,
    "hessians": _hessians.products,
}
NO_DEVICE = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections that were asked for; return the exit status."""
    options = _parser().parse_args(arguments)
    _harness.use_peers(options.peers)
    libraries, missing = _libraries.found(options.device)
    if not libraries:
        print(f"There is nothing to run on {options.device!r} here: {'; '.join(missing)}.", file=sys.stderr)
        return NO_DEVICE
    began, results = perf_counter(), {}
    for name in options.only or SECTIONS:
        if perf_counter() - began > 60 * options.minutes:
            rows = [{"left out": f"{options.minutes:g} minutes were over"}]
        else:
            rows = [row for library in libraries for row in _rows(name, library, options.quick)]
        results[name] = rows
        print(f"\n## {name}\n\n{_harness.table(rows)}", flush=True)
    machine = _harness.facts() | {library.name: library.about() for library in libraries}
    machine |= {"missing": missing, "seconds": round(perf_counter() - began, 1)}
    print("\n" + ", ".join(f"{name} {value}" for name, value in machine.items()))
    if options.out is not None:
        options.out.write_text(json.dumps({"machine": machine, "sections": results}, indent=1))
    wrong = [row for rows in results.values() for row in rows if row.get("agrees") is False]
    print(f"\n{len(wrong)} rows do not agree." if wrong else "\nAll that was checked agrees.")
    return 1 if wrong else 0


def _rows(section: str, library: _libraries.Library, quick: bool) -> list[dict[str, Any]]:
    """Run one section; what raises becomes a row, and the others go on."""
    try:
        return [{"library": library.name, **row} for row in SECTIONS[section](library, quick)]
    except Exception as error:
        return [{"library": library.name, "failed": f"{type(error).__name__}: {error}"[:200], "agrees": False}]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu tries the script, not the speed")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="run these sections only")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no section after so many")
    parser.add_argument("--peers", type=Path, help="a folder that other libraries were installed into (pip --target)")
    parser.add_argument("--out", type=Path, help="write all rows to this JSON file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
