"""Sparse matrices: log-determinants by 16 probes × 50 steps, slq beside imate, scikit-primate and a plain SciPy loop.

    pip install --target /some/folder imate scikit-primate --no-deps
    python benchmarks/sparse.py --peers /some/folder

All run without re-orthogonalisation and on the same number of threads. A library that is not installed is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from _harness import arguments, medians, report, use_peers

import slq
from slq._kernels import _kernels, _threads

PROBES, STEPS = 16, 50


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--side", type=int, default=1000, help="the 2-D grid has side², the 3-D one side^(2/3) cubed")
    parser.add_argument("--matrices", nargs="+", default=["2-D", "3-D", "random"])
    parser.add_argument("--only", nargs="+", help="the names of the libraries to time, slq among them")
    options = parser.parse_args()
    use_peers(options.peers)
    rows = []
    for name in options.matrices:
        for dtype in (np.float64, np.float32):
            A = matrix(name, options.side).astype(dtype)
            calls = {name: call for name, call in candidates(A).items() if name in (options.only or [name])}
            found = medians(calls, options.rounds)
            row: dict[str, Any] = {"matrix": name, "n": A.shape[0], "nnz": A.nnz, "dtype": np.dtype(dtype).name}
            row |= {f"{library} [s]": seconds for library, seconds in found.items()}
            row |= {f"{other} / slq": found[other] / found["slq"] for other in found if not other.startswith("slq")}
            rows.append(row)
            print(row, flush=True)
    report(rows, options.out)


def matrix(name: str, side: int) -> Any:
    """Return a positive definite matrix: a Laplacian plus 0.1, or a random one with 51 entries a row."""
    if name == "random":
        n = side * side // 5
        rng = np.random.default_rng(0)
        entries = (np.ones(25 * n), (np.repeat(np.arange(n), 25), rng.integers(0, n, 25 * n)))
        half = sp.coo_array(entries, shape=(n, n)).tocsr()
        return (half + half.T + 60 * sp.eye_array(n)).tocsr()
    axes = int(name[0])
    points = side if axes == 2 else round(side ** (2 / 3))
    line = sp.diags_array([np.full(points, 2.0), *[np.full(points - 1, -1.0)] * 2], offsets=[0, 1, -1])
    total = line
    for _ in range(axes - 1):
        total = sp.kron(total, sp.eye_array(points)) + sp.kron(sp.eye_array(total.shape[0]), line)
    return (total + 0.1 * sp.eye_array(total.shape[0])).tocsr()


def candidates(A: Any) -> dict[str, Callable[[], object]]:
    """Return one call per library that is there."""
    calls: dict[str, Callable[[], object]] = {"slq": partial(run_slq, A), "slq without numba": partial(run_numpy, A)}
    old = sp.csr_matrix(A)
    try:
        import imate

        fixed = {"min_num_samples": PROBES, "max_num_samples": PROBES, "lanczos_degree": STEPS, "orthogonalize": 0}
        threads = {"num_threads": _threads.limit(), "verbose": False}
        calls["imate"] = partial(imate.logdet, old, method="slq", **fixed, **threads)
    except ImportError:
        pass
    try:
        from primate.operators import MatrixFunction
        from primate.trace import hutch

        def primate() -> object:
            log = MatrixFunction(old, fun=np.log, deg=STEPS, orth=0)
            return hutch(log, batch=PROBES, converge="count", count=PROBES, seed=0)

        calls["primate"] = primate
    except ImportError:
        pass
    calls["SciPy loop"] = partial(run_scipy, A)
    return calls


def run_slq(A: Any) -> object:
    """Return tr log A."""
    options: dict[str, Any] = {"probes": PROBES, "steps": STEPS, "reorth": "none", "rng": 0}
    return slq.spectrum(A, **options).logdet()


def run_numpy(A: Any) -> object:
    """Return the same by row blocks of NumPy and SciPy."""
    usual, _kernels._WORTH_NUMBA = _kernels._WORTH_NUMBA, np.inf
    try:
        return run_slq(A)
    finally:
        _kernels._WORTH_NUMBA = usual


def run_scipy(A: Any) -> object:
    """Return the same as anybody would write it: all probes at once, one operation after the other."""
    n = A.shape[0]
    q = np.random.default_rng(0).standard_normal((n, PROBES)).astype(A.dtype)
    q /= np.linalg.norm(q, axis=0)
    previous, beta = np.zeros_like(q), np.zeros(PROBES, A.dtype)
    T = np.zeros((2, STEPS, PROBES))
    for j in range(STEPS):
        w = A @ q - beta * previous
        alpha = np.sum(w * q, axis=0)
        w -= alpha * q
        beta = np.linalg.norm(w, axis=0)
        previous, q, T[:, j] = q, w / beta, (alpha, beta)
    rules = [
        np.linalg.eigh(np.diag(a) + np.diag(b[:-1], 1) + np.diag(b[:-1], -1))
        for a, b in zip(*T.swapaxes(1, 2), strict=True)
    ]
    return n * np.mean([vectors[0] ** 2 @ np.log(values) for values, vectors in rules])


if __name__ == "__main__":
    main()
