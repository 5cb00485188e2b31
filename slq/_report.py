"""What the command line says: a Spectrum as JSON, an environment as text. Strings come out; nothing is printed here."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from typing import Any

from slq._estimates import Estimate
from slq._outliers import Outliers
from slq._spectrum import Spectrum

_PACKAGES = ("slq", "numpy", "scipy", "array-api-compat", "torch", "jax", "cupy", "matplotlib", "cyclopts", "tqdm")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def as_json(spectrum: Spectrum) -> str:
    """Return the main figures of a spectrum as one JSON object; numbers that JSON cannot write become null."""
    return json.dumps(_finite(figures(spectrum)), indent=2, allow_nan=False, default=str)


def figures(spectrum: Spectrum) -> dict[str, Any]:
    """Return the main figures of a spectrum: what was run, what came out, how wrong it can be."""
    budget = spectrum.error
    error = {name: getattr(budget, name) for name in ("total", "quadrature", "quadrature_bound", "sampling", "numeric")}
    return {
        "n": spectrum.n,
        "probes": spectrum.probes,
        "steps": spectrum.steps,
        "products": spectrum.products,
        "seconds": spectrum.seconds,
        "status": spectrum.status,
        "seed": spectrum.seed,
        "kind": spectrum.kind,
        "reorth": spectrum.reorth,
        "confidence": spectrum.confidence,
        "claims": "certified" if spectrum.certified else "estimate",
        "edges": dict(zip(("low", "high"), spectrum.edges, strict=True)),
        "outliers": _outliers(spectrum.outliers),
        "trace": _estimate(spectrum.trace()),
        "trace_of_square": _estimate(spectrum.trace("square")),
        "error": error | {"unit": f"share of the {spectrum.coordinate().scale} range", "advice": budget.advice},
        "warnings": list(spectrum.warnings),
        "metadata": dict(spectrum.metadata),
    }


def environment() -> str:
    """Return what an issue report should hold: versions, threads, adapters, devices."""
    lines = [("python", f"{platform.python_version()} on {platform.platform(terse=True)}, {platform.machine()}")]
    lines += [(name, _version(name)) for name in _PACKAGES]
    limits = ", ".join(f"{name}={os.environ[name]}" for name in _THREADS if name in os.environ)
    lines.append(("threads", f"{_cores()} CPU cores" + (f", {limits}" if limits else "")))
    lines.append(("adapters", ", ".join(map(_adapter, entry_points(group="slq.adapters"))) or "none"))
    lines.append(("devices", _devices()))
    return "\n".join(f"{name:<17} {value}" for name, value in lines)


def _outliers(found: Outliers) -> list[dict[str, Any]]:
    columns = zip(found.values, found.residuals, found.multiplicities, found.exact, strict=True)
    return [
        {"value": float(v), "low": float(v - r), "high": float(v + r), "multiplicity": float(m), "exact": bool(e)}
        for v, r, m, e in columns
    ]


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "claim")}


def _finite(value: Any) -> Any:
    """Replace infinities and NaN, for which JSON has no number, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version(name: str) -> str:
    """Return the installed version; CuPy's wheels are named after their CUDA."""
    for distribution in (name, *(f"{name}-cuda{major}x" for major in (11, 12, 13) if name == "cupy")):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "not installed"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _adapter(entry: Any) -> str:
    """Name an adapter and whether what it adapts is installed."""
    return entry.name if find_spec(entry.name) else f"{entry.name} (not installed)"


def _devices() -> str:
    """Name the devices that PyTorch sees; the one place where it is imported."""
    if find_spec("torch") is None:
        return "cpu"
    import torch

    found = [f"cpu (torch uses {torch.get_num_threads()} threads)"]
    found += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if sys.platform == "darwin" and torch.backends.mps.is_available():
        found.append("mps")
    return ", ".join(found)
