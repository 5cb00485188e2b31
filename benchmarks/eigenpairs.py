"""Eigenpairs: products and time of slq.eigsh beside ARPACK (scipy.sparse.linalg.eigsh), and who missed an eigenvalue.

    python benchmarks/eigenpairs.py --sections products --cases spiked hypercube
    python benchmarks/eigenpairs.py --sections basis time

Products are counted in columns on both sides, for one seed; ARPACK has its default basis of max(2 k + 1, 20) vectors.
Those of slq include the k that measure the residuals. "missed" counts wanted eigenvalues that are not there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import process_time
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from _harness import arguments, report

import slq
from slq._eigen._ends import order

GALLERY: dict[str, Callable[[], Any]] = {
    "2-D Laplacian, 40 × 41": lambda: slq.gallery.laplacian_2d(40, 41),
    "2-D Laplacian, 40 × 40": lambda: slq.gallery.laplacian_2d(40),
    "path of 300": lambda: slq.gallery.laplacian_1d(300),
    "spiked": lambda: slq.gallery.spiked(2000),
    "hypercube of 10": lambda: slq.gallery.hypercube(10),
    "clustered": lambda: slq.gallery.clustered(1000),
    "Marchenko-Pastur": lambda: slq.gallery.marchenko_pastur(2000),
    "semicircle": lambda: slq.gallery.semicircle(2000),
    "graded": lambda: slq.gallery.graded(1000, smallest=1e-2),
}
ENDS = ("LA", "SA", "BE", "LM")


class Counted:
    """Multiply, one column at a time or several, and count the columns."""

    def __init__(self, matmat: Callable[[Any], Any], n: int, dtype: Any) -> None:
        self._matmat, self.columns = matmat, 0
        self.shape, self.dtype = (n, n), dtype

    def matvec(self, v: Any) -> Any:
        self.columns += 1
        return np.asarray(self._matmat(v.reshape(-1, 1)))[:, 0]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--sections", nargs="+", default=["products", "basis", "time"])
    parser.add_argument("--cases", nargs="+", help="parts of the names of the gallery's cases")
    parser.add_argument("--k", nargs="+", type=int, default=[1, 6, 20])
    parser.add_argument("--ends", nargs="+", default=list(ENDS))
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 512], help="widths of the network of `time`")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if "products" in options.sections:
        for name, make in GALLERY.items():
            if not options.cases or any(part in name for part in options.cases):
                operator, law = make()
                exact = np.sort(np.repeat(law.values, law.multiplicities))
                for k in options.k:
                    rows += [
                        beside(name, operator, exact, k, which) for which in options.ends if (k, which) != (1, "BE")
                    ]
    if "basis" in options.sections:
        rows += [by_basis(name) for name in ("2-D Laplacian, 40 × 41", "spiked", "Marchenko-Pastur")]
    if "time" in options.sections:
        rows += [row for hidden in options.hidden for row in hessian(hidden, options.rounds)]
        rows.append(laplacian(options.rounds))
    report(rows, options.out)


def beside(name: str, operator: Any, exact: Any, k: int, which: Any) -> dict[str, Any]:
    """Return products of both, and how many wanted eigenvalues are missing."""
    wanted = np.sort(exact[order(exact, which)[:k]])
    counted = Counted(operator.matmat, operator.shape[0], operator.dtype)
    theirs, their_residual = arpack(counted, operator.matmat, k, which)
    search = slq.eigsh(operator, k, which=which, rng=0, verify=False)
    proof = slq.eigsh(operator, k, which=which, rng=0)
    size = float(np.abs(exact).max())
    row = {
        "matrix": name,
        "which": which,
        "k": k,
        "ARPACK": counted.columns,
        "slq, no proof": search.products,
        "slq": proof.products,
        "no proof / ARPACK": search.products / counted.columns,
        "slq / ARPACK": proof.products / counted.columns,
        "ARPACK residual / |A|": their_residual / size,
        "slq residual / |A|": float(proof.residuals.max()) / size,
        "ARPACK missed": missed(theirs, wanted, size),
        "slq missed": missed(proof.values, wanted, size),
        "verified": proof.verified,
    }
    print(row, flush=True)
    return row


def arpack(
    counted: Counted, matmat: Callable[[Any], Any], k: int, which: str, tol: float = 0.0, *, residual: bool = True
) -> tuple[Any, float]:
    """Return ARPACK's values and its largest residual."""
    n = counted.shape[0]
    start = np.random.default_rng(0).standard_normal(n).astype(counted.dtype)
    linear = scipy.sparse.linalg.LinearOperator(counted.shape, matvec=counted.matvec, dtype=counted.dtype)
    values, vectors = scipy.sparse.linalg.eigsh(linear, k, which=which, v0=start, tol=tol)
    if not residual:
        return np.sort(values), np.nan
    return np.sort(values), float(np.linalg.norm(matmat(vectors) - vectors * values, axis=0).max())


def missed(values: Any, wanted: Any, size: float) -> int:
    """Count the wanted values that have no partner within 1e-9 of |A|; of largest magnitude, signs do not matter."""
    left = sorted(np.abs(values))
    count = 0
    for value in np.abs(wanted):
        near = [other for other in left if abs(other - value) <= 1e-9 * size]
        if near:
            left.remove(near[0])
        count += not near
    return count


def by_basis(name: str) -> dict[str, Any]:
    """Return the products without proof for several sizes of the basis."""
    operator, _ = GALLERY[name]()
    found = {
        size: slq.eigsh(operator, 6, which="LA", rng=0, verify=False, basis=size) for size in (14, 20, 32, 48, 64, 96)
    }
    row = {"matrix": name, "k": 6} | {f"basis {size}": pairs.products for size, pairs in found.items()}
    print(row, flush=True)
    return row


class Timed:
    """Multiply, and add up the processor seconds that it takes."""

    def __init__(self, product: Callable[[Any], Any]) -> None:
        self._product, self.seconds = product, 0.0

    def __call__(self, X: Any) -> Any:
        began = process_time()
        image = self._product(X)
        self.seconds += process_time() - began
        return image


def timed(name: str, A: Any, matmat: Callable[[Any], Any], k: int, tol: float, rounds: int) -> dict[str, Any]:
    """Time both on the same products, processor seconds on one thread: all, and those within products."""
    operator = slq.as_operator(A)
    n, dtype = operator.n, np.dtype(str(operator.dtype).rsplit(".", maxsplit=1)[-1])
    seconds: dict[str, list[tuple[float, float]]] = {"ARPACK": [], "slq, no proof": [], "slq": []}
    products = {}
    slq.eigsh(A, k, which="LA", rng=0, max_products=2 * k, verify=False)  # an operator may try its ways out at first
    for _ in range(rounds):
        clock = Timed(matmat)
        counted, began = Counted(clock, n, dtype), process_time()
        arpack(counted, clock, k, "LA", tol, residual=False)
        seconds["ARPACK"].append((process_time() - began, clock.seconds))
        products["ARPACK"] = counted.columns
        for label, verify in (("slq, no proof", False), ("slq", True)):
            clock = Timed(operator.product)
            began = process_time()
            pairs = slq.eigsh(replace(operator, product=clock), k, which="LA", rng=0, tol=tol, verify=verify)
            seconds[label].append((process_time() - began, clock.seconds))
            products[label] = pairs.products
    row = {"matrix": f"{name}, n = {n}", "which": "LA", "k": k, "tol": tol} | products
    for label, times in seconds.items():
        row[f"{label} [s]"], row[f"{label}, in products [s]"] = map(float, np.median(times, axis=0))
    row["slq / ARPACK"] = row["slq [s]"] / row["ARPACK [s]"]
    print(row, flush=True)
    return row


def hessian(hidden: int, rounds: int) -> list[dict[str, Any]]:
    """Time both on the Hessian of a network in float32."""
    import slq_torch
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 10))
    data = [(torch.randn(128, 64), torch.randint(0, 10, (128,))) for _ in range(4)]
    H = slq_torch.hessian(net, lambda m, batch: torch.nn.functional.cross_entropy(m(batch[0]), batch[1]), data)

    def matmat(X: Any) -> Any:
        return H.matmat(torch.from_numpy(np.ascontiguousarray(X))).numpy()

    return [timed("Hessian", H, matmat, 10, tol, rounds) for tol in (1e-3, 0.0)]


def laplacian(rounds: int) -> dict[str, Any]:
    """Time both on a sparse 3-D Laplacian, whose products are cheap beside vectors."""
    parts = [scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)) for n in (50, 51, 52)]
    A = scipy.sparse.csr_array(scipy.sparse.kronsum(scipy.sparse.kronsum(parts[0], parts[1]), parts[2]))
    return timed("3-D Laplacian", A, A.__matmul__, 6, 1e-6, rounds)


if __name__ == "__main__":
    main()
