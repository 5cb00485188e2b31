"""What an issue report should hold: versions, threads, adapters, and which array libraries and devices work here.

A library works on a device where a small run there gives NumPy's numbers. Strings come out; nothing is printed here.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from typing import Any

import numpy as np

from slq._arrays import Array
from slq._run._driver import spectrum

_PACKAGES = ("slq", "scipy", "array-api-compat", "numba", "matplotlib", "cyclopts", "tqdm")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_SMALL = np.diag(np.arange(1.0, 9.0, dtype=np.float32))


def environment() -> str:
    """Return versions, threads, adapters, and what a small run gave on each device of each array library."""
    lines = [("python", f"{platform.python_version()} on {platform.platform(terse=True)}, {platform.machine()}")]
    lines += [(name, _version(name)) for name in _PACKAGES]
    lines += [(name, _library(name, devices)) for name, devices in _LIBRARIES.items()]
    limits = ", ".join(f"{name}={os.environ[name]}" for name in _THREADS if name in os.environ)
    lines.append(("threads", f"{_cores()} CPU cores" + (f", {limits}" if limits else "")))
    lines.append(("adapters", ", ".join(map(_adapter, entry_points(group="slq.adapters"))) or "none"))
    return "\n".join(f"{name:<17} {value}" for name, value in lines)


def _library(name: str, devices: Callable[[], Iterator[tuple[str, Array]]]) -> str:
    """Return the version of an array library and how a small run went on each of its devices."""
    if find_spec(name) is None:
        return "not installed"
    try:
        found = [f"{device} {_verdict(matrix)}" for device, matrix in devices()]
    except Exception as error:  # whatever a broken driver or a missing shared library raises
        found = [_first_line(error)]
    return f"{_version(name)}: {', '.join(found) or 'no device'}"


def _verdict(matrix: Array) -> str:
    """Run the small matrix; say whether NumPy's numbers came out."""
    try:
        nodes, expected = (spectrum(A, probes=1, steps=4, rng=0).nodes for A in (matrix, _SMALL))
    except Exception as error:  # a report is no place to fail
        return f"fails ({_first_line(error)})"
    return "works" if np.allclose(nodes, expected, rtol=0, atol=1e-3) else "gives other numbers than NumPy"


def _numpy_devices() -> Iterator[tuple[str, Array]]:
    yield "cpu", _SMALL


def _torch_devices() -> Iterator[tuple[str, Array]]:
    import torch

    names = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if sys.platform == "darwin" and torch.backends.mps.is_available():
        names.append("mps")
    for name in names:
        yield name, torch.as_tensor(_SMALL, device=name)


def _jax_devices() -> Iterator[tuple[str, Array]]:
    import jax

    for device in jax.devices():
        yield f"{device.platform}:{device.id}", jax.device_put(_SMALL, device)


def _cupy_devices() -> Iterator[tuple[str, Array]]:
    import cupy

    for i in range(cupy.cuda.runtime.getDeviceCount()):
        with cupy.cuda.Device(i):
            yield f"cuda:{i}", cupy.asarray(_SMALL)


_LIBRARIES: dict[str, Callable[[], Iterator[tuple[str, Any]]]] = {
    "numpy": _numpy_devices,
    "torch": _torch_devices,
    "jax": _jax_devices,
    "cupy": _cupy_devices,
}


def _version(name: str) -> str:
    """Return the installed version; CuPy's wheels are named after their CUDA."""
    for distribution in (name, *(f"{name}-cuda{major}x" for major in (11, 12, 13) if name == "cupy")):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "not installed"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _adapter(entry: Any) -> str:
    """Name an adapter and whether what it adapts is installed."""
    return entry.name if find_spec(entry.name) else f"{entry.name} (not installed)"
