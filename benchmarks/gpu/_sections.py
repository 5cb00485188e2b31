"""The sections on matrices: each takes a library and returns rows; `agrees` in a row says whether numbers are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

import slq
from benchmarks.gpu._libraries import Library, seconds
from slq._lanczos._lanczos import LanczosRun

Row = dict[str, Any]

# Nodes and weights may differ from NumPy's by so much.
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
STORED = ("float64", "float32", "float16")
# With past vectors kept coarsely, by so much more: the square of their rounding, times what is typical.
COARSE = {"csr, float16 basis": 1e-4, "csr, float32 basis": 1e-10}


def laplacian(side: int, dtype: str = "float64") -> Any:
    """Return the Laplacian of a square grid, with masses that leave no eigenvalue twice."""
    line = sp.diags_array([np.full(side, 2.0), *[np.full(side - 1, -1.0)] * 2], offsets=[0, 1, -1])
    one = sp.eye_array(side)
    masses = np.random.default_rng(0).uniform(0.0, 0.1, side * side)
    return sp.csr_matrix(sp.kron(line, one) + sp.kron(one, line) + sp.diags_array(masses)).astype(dtype)


def correctness(library: Library, quick: bool) -> list[Row]:
    """Compare nodes and weights of every kind of matrix with NumPy's, for the same seed, probes and steps."""
    A = laplacian(12 if quick else 60)
    settings: dict[str, Any] = {"probes": 2, "steps": 10} if quick else {"probes": 4, "steps": 24}
    rows = []
    for dtype, tolerance in TOLERANCES.items():
        a = A.astype(dtype)
        kinds: dict[str, Callable[[], Any]] = {"dense": lambda a=a: library.array(a.toarray())}
        for layout in library.layouts():
            kinds[layout] = lambda a=a, layout=layout: library.sparse(a, layout)
        kinds |= _own(library, a)
        for reorth in ("full", "none"):
            expected = slq.spectrum(a, rng=0, reorth=reorth, deflate="none", **settings)
            for kind, make in kinds.items():
                found = slq.spectrum(make(), rng=0, reorth=reorth, deflate="none", **settings)
                error = max(np.abs(found.nodes - expected.nodes).max(), np.abs(found.weights - expected.weights).max())
                agrees = bool(error <= max(tolerance, COARSE.get(kind, 0.0)))
                rows.append({"matrix": kind, "dtype": dtype, "reorth": reorth, "error": float(error), "agrees": agrees})
    return rows


def waits(library: Library, quick: bool) -> list[Row]:
    """See whether the host waits for the device within steps."""
    rows = []
    A = laplacian(12 if quick else 200)
    v = library.array(np.random.default_rng(0).standard_normal((2, A.shape[0])) / np.sqrt(A.shape[0]))
    for reorth in ("full", "none"):
        run = LanczosRun(slq.as_operator(library.sparse(A, "csr")), v, reorth=reorth)
        run.advance(20)  # kernels are compiled, and the blocks that the next steps write to are there
        free = library.unwaited(lambda run=run: [run._step() for _ in range(4)])
        rows.append({"steps": "four", "reorth": reorth, "host waits": None if free is None else not free})
        rows[-1] |= {} if free is None else {"agrees": free}
    return rows


def products(library: Library, quick: bool) -> list[Row]:
    """Time products, and steps of Lanczos on top of them."""
    side, n = (20, 200) if quick else (2000, 16384)
    rng = np.random.default_rng(0)
    rows = []
    for dtype in TOLERANCES:
        square = rng.standard_normal((n, n), dtype=np.float32).astype(dtype)
        for kind, A in (("dense", square + square.T), ("csr", laplacian(side, dtype))):
            there = library.array(A) if kind == "dense" else library.sparse(A, kind)
            operator = slq.as_operator(there)
            for width in (1, 2 if quick else 16):
                block = rng.standard_normal((width, A.shape[0])).astype(dtype)
                X = library.array(block).T
                row: Row = {"matrix": kind, "n": A.shape[0], "dtype": dtype, "columns": width}
                row["product [ms]"] = 1e3 * seconds(library, lambda o=operator, X=X: o.matmat(X), _rounds(quick))
                for reorth in ("none", "full"):
                    call = lambda o=operator, X=X, reorth=reorth: slq.lanczos(o, X, 16, reorth=reorth)  # noqa: E731
                    row[f"step, {reorth} [ms]"] = 1e3 / 16 * seconds(library, call, _rounds(quick))
                rows.append(row)
            del there, operator
    return rows


def projection(library: Library, quick: bool) -> list[Row]:
    """Compare the bytes that re-orthogonalisation reads per second with those of a copy on the device.

    Each of two sweeps reads all past vectors twice: 2 m² n numbers over m steps. A diagonal matrix takes no time.
    """
    n, steps = (5_000, 16) if quick else (10_000_000, 64)
    rows = []
    for dtype, stored in (("float64", "float64"), ("float32", "float32"), ("float32", "float16")):
        diagonal = library.array(np.linspace(1.0, 2.0, n).astype(dtype))
        A: Any = slq.as_operator(lambda X, d=diagonal: (X.T * d).T, n=n, like=diagonal, block=True)
        if library.name == "cupy":
            A = _with_kernels(A, stored)
        elif stored != dtype:
            continue
        v = library.array(np.random.default_rng(0).standard_normal((1, n)).astype(dtype)).T
        full, none = (
            seconds(library, lambda A=A, v=v, reorth=reorth: slq.lanczos(A, v, steps, reorth=reorth), _rounds(quick))
            for reorth in ("full", "none")
        )
        source = library.array(np.zeros(n, dtype=dtype))
        copied = seconds(library, lambda source=source: source + 0, 5 * _rounds(quick))
        bandwidth = 2 * steps**2 * n * np.dtype(stored).itemsize / max(full - none, 1e-9)
        copy = 2 * n * np.dtype(dtype).itemsize / copied
        row = {"n": n, "steps": steps, "vectors": dtype, "stored": stored}
        rows.append({**row, "read [GB/s]": bandwidth / 1e9, "copy [GB/s]": copy / 1e9, "share": bandwidth / copy})
    return rows


def sparse_batches(library: Library, quick: bool) -> list[Row]:
    """Compare batches of probes with one after the other, and with imate where it is installed."""
    A = laplacian(20 if quick else 1500, "float32")
    operator = slq.as_operator(library.sparse(A, "csr"))
    rows = []
    for width in (1, 2) if quick else (1, 4, 16, 32):
        X = library.array(np.random.default_rng(0).standard_normal((width, A.shape[0])).astype("float32")).T
        taken = seconds(library, lambda X=X: slq.lanczos(operator, X, 16, reorth="none"), _rounds(quick))
        rows.append({"n": A.shape[0], "columns": width, "step per column [ms]": 1e3 * taken / 16 / width})
        rows[-1]["times one column"] = rows[0]["step per column [ms]"] / rows[-1]["step per column [ms]"]
    settings: dict[str, Any] = {
        "probes": 2 if quick else 16,
        "steps": 50,
        "rng": 0,
        "reorth": "none",
        "deflate": "none",
    }
    ours = seconds(library, lambda: slq.spectrum(operator, **settings).logdet(shift=0.1), 1)
    row: Row = {"n": A.shape[0], "columns": settings["probes"], "logdet [s]": ours}
    return [*rows, row | _imate(A, settings["probes"], gpu=library.device == "cuda")]


def memory(library: Library, quick: bool) -> list[Row]:
    """Compare the peak of a run with what `slq.plan` says."""
    A = library.sparse(laplacian(20 if quick else 1500, "float32"), "csr")
    rows = []
    for reorth, probes in (("full", 1), ("full", 8), ("none", 16)):
        settings: dict[str, Any] = {"probes": min(probes, 2) if quick else probes, "steps": 40, "reorth": reorth}
        planned = slq.plan(A, **settings).bytes
        peak = library.peak(lambda settings=settings: slq.spectrum(A, rng=0, deflate="none", **settings))
        share = None if peak is None else peak / planned
        rows.append({**settings, "planned [MB]": planned / 1e6, "peak / planned": share})
    return rows


def _rounds(quick: bool) -> int:
    return 1 if quick else 5


def _own(library: Library, A: Any) -> dict[str, Callable[[], Any]]:
    """Return what only CuPy offers: LinearOperators, past vectors of another dtype, several devices."""
    if library.name != "cupy":
        return {}
    import cupy
    import slq_cupy

    kinds: dict[str, Callable[[], Any]] = {
        f"csr, {stored} basis": lambda stored=stored: _with_kernels(slq.as_operator(library.sparse(A, "csr")), stored)
        for stored in STORED
        if np.dtype(stored).itemsize <= A.dtype.itemsize and stored != A.dtype.name
    }
    if cupy.cuda.runtime.getDeviceCount() > 1:
        kinds["csr on two devices"] = lambda: slq_cupy.matrix(library.sparse(A, "csr"), devices=[0, 1])
    return kinds


def _with_kernels(operator: Any, stored: str) -> Any:
    """Let an operator of CuPy run by the adapter's recurrence."""
    from dataclasses import replace

    from slq_cupy._krylov import Krylov

    return replace(operator, krylov=lambda start, **options: Krylov(start, **options | {"precision": stored}))


def _imate(A: Any, probes: int, *, gpu: bool) -> Row:
    try:
        import imate
    except ImportError:
        return {"imate": "not installed"}
    rounds = {"min_num_samples": probes, "max_num_samples": probes, "lanczos_degree": 50, "orthogonalize": 0}
    matrix = imate.Matrix(sp.csr_matrix(A + 0.1 * sp.eye_array(A.shape[0], dtype=A.dtype)))
    try:
        _, info = imate.logdet(matrix, method="slq", return_info=True, gpu=gpu, **rounds)
    except Exception as error:  # its wheels may be built without CUDA
        return {"imate": f"{type(error).__name__}: {error}"[:80]}
    return {"imate": f"{info['time']['alg_wall_time']:.3g} s"}
