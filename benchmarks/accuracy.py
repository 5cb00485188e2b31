"""How wrong, for how much: log-determinants and distributions against the exact ones, by products and by seconds.

    pip install --target /some/folder imate scikit-primate --no-deps
    python benchmarks/accuracy.py --peers /some/folder

Two tables. Log-determinants of Laplacians with a million rows, whose exact value is a sum of logarithms: each library
at its defaults, asked for 0.1 %, and at the cheapest of a grid of fixed settings that stays within 0.1 % for nine seeds
of ten. Cheaper ones are tried first, and given up when three seeds have missed; then all calls found take turns.
Distributions of eigenvalues: the Wasserstein distance of slq's curve, and of the bare nodes that are usually drawn,
after fixed numbers of products and after those that a tolerance asks for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp
from _harness import arguments, medians, report, use_peers
from scipy.stats import wasserstein_distance

import slq
from slq._kernels import _threads

GOAL = 1e-3
N_OF_LAWS = 100_000
PROBES, STEPS = (1, 2, 4, 8), (15, 25, 35, 50, 75, 100, 150)
ASKED = ["0.1 %", "fixed", "defaults"]
SHIFTS = {"Laplacian": 0.0, "Laplacian + 0.1": 0.1}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--side", type=int, default=1000, help="the 2-D grid has side², the 3-D one side^(2/3) cubed")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=["logdet", "distribution"])
    parser.add_argument("--matrix", default="", help="only this one, such as '2-D Laplacian + 0.1'")
    parser.add_argument("--asked", nargs="+", default=ASKED, choices=ASKED, help="ways of asking for a log-determinant")
    options = parser.parse_args()
    use_peers(options.peers)
    rows: list[dict[str, Any]] = []
    if options.only != "distribution":
        for axes in (2, 3):
            for name, shift in SHIFTS.items():
                points = options.side if axes == 2 else round(options.side ** (2 / 3))
                title = f"{axes}-D {name}"
                if options.matrix in (title, ""):
                    rows += logdets(title, grid(axes, points), shift, options.seeds, options.rounds, options.asked)
    if options.only != "logdet":
        rows += distributions(options.seeds)
    report(rows, options.out)


def grid(axes: int, points: int) -> tuple[Any, np.ndarray]:
    """Return the Laplacian of a grid and its eigenvalues."""
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(points, points))
    waves = 4 * np.sin(np.pi * np.arange(1, points + 1) / (2 * points + 2)) ** 2
    total, values = line, waves
    for _ in range(axes - 1):
        total = sp.kron(total, sp.eye_array(points)) + sp.kron(sp.eye_array(total.shape[0]), line)
        values = np.add.outer(values, waves).ravel()
    return total.tocsr(), values


def logdets(
    name: str, laplacian: tuple[Any, np.ndarray], shift: float, seeds: int, rounds: int, wanted: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row per library and way of asking: its error over the seeds, its products and its seconds."""
    A = (laplacian[0] + shift * sp.eye_array(laplacian[0].shape[0])).tocsr()
    exact = float(np.log(laplacian[1] + shift).sum())
    rows: list[dict[str, Any]] = []
    chosen: dict[str, Callable[[], object]] = {}
    for library, asked, calls in ways(A):
        if asked not in wanted:
            continue
        for settings, call in calls:
            row = {"matrix": name, "n": A.shape[0], "library": library, "asked": asked, "settings": settings}
            row |= measured(call, exact, seeds, patient=len(calls) == 1)
            print(row, flush=True)
            if row["error, 9 of 10"] <= GOAL or len(calls) == 1:
                rows.append(row)
                chosen[f"{library} {asked}"] = partial(call, 0)
                break
    for row, seconds in zip(rows, medians(chosen, rounds).values(), strict=True):
        yield row | {"seconds": seconds}


def measured(
    call: Callable[[int], tuple[float, int | None]], exact: float, seeds: int, *, patient: bool
) -> dict[str, Any]:
    """Return the relative errors over the seeds and the products of one way.

    Without patience it ends as soon as one seed more than a tenth has missed the goal.
    """
    errors, products = [], []
    for seed in range(seeds):
        value, used = call(seed)
        errors.append(abs(value - exact) / abs(exact))
        products.append(used)
        if not patient and np.sum(np.array(errors) > GOAL) > seeds // 10:
            break
    used = None if products[0] is None else median(products)
    return {"products": used, "error, 9 of 10": float(np.quantile(errors, 0.9))}


Way = tuple[str, Callable[[int], tuple[float, int | None]]]


def ways(A: Any) -> Iterator[tuple[str, str, list[Way]]]:
    """Yield (library, what is asked of it, the calls by their settings)."""
    fixed = sorted(((k, m) for m in STEPS for k in PROBES), key=np.prod)
    yield "slq", "0.1 %", [("rtol=1e-3", partial(slq_to_tolerance, A))]
    yield "slq", "fixed", [(f"{k} × {m}", partial(slq_fixed, A, k, m)) for k, m in fixed]
    try:
        import imate

        run = partial(imate_logdet, imate, sp.csr_matrix(A))
        yield "imate", "defaults", [("defaults", partial(run, {}))]
        counts = [(f"{k} × {m}", {"min_num_samples": k, "max_num_samples": k, "lanczos_degree": m}) for k, m in fixed]
        yield "imate", "fixed", [(text, partial(run, options)) for text, options in counts]
    except ImportError:
        pass
    try:
        import primate.trace  # noqa: F401

        yield "primate", "defaults", [("defaults", partial(primate_logdet, sp.csr_matrix(A)))]
    except ImportError:
        pass


def slq_to_tolerance(A: Any, seed: int) -> tuple[float, int]:
    products: list[int] = []
    estimate = slq.logdet(A, rtol=GOAL, rng=seed, callback=lambda s: products.append(s.products))
    return estimate.value, products[-1]


def slq_fixed(A: Any, probes: int, steps: int, seed: int) -> tuple[float, int]:
    run = slq.spectrum(A, probes=probes, steps=steps, rng=seed, reorth="none")
    return run.logdet().value, run.products


def imate_logdet(imate: Any, A: Any, options: dict[str, Any], seed: int) -> tuple[float, int | None]:
    threads = {"num_threads": _threads.limit(), "verbose": False, "return_info": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, info = imate.logdet(A, method="slq", seed=seed, **options, **threads)
    return float(value), info["convergence"]["num_samples_used"] * options.get("lanczos_degree", 20)


def primate_logdet(A: Any, seed: int) -> tuple[float, None]:
    from primate.operators import MatrixFunction
    from primate.trace import hutch

    return float(hutch(MatrixFunction(A, fun=np.log), seed=seed)), None


def distributions(seeds: int) -> Iterator[dict[str, Any]]:
    """Yield a row per law and way of running: the Wasserstein distance from the exact law, as a share of its range."""
    grid = int(np.sqrt(N_OF_LAWS))
    laws = {
        "semicircle": slq.gallery.semicircle(N_OF_LAWS),
        "Marchenko-Pastur": slq.gallery.marchenko_pastur(N_OF_LAWS),
        "2-D Laplacian": slq.gallery.laplacian_2d(grid, grid),
        "spiked": slq.gallery.spiked(N_OF_LAWS),
    }
    asked: list[dict[str, Any]] = [{"probes": k, "steps": m} for k in (1, 10) for m in (20, 40, 80)]
    asked += [{"tol": tol} for tol in (0.02, 0.01, 0.005)]
    for name, (operator, law) in laws.items():
        for options in asked:
            runs, seconds = [], []
            for seed in range(seeds):
                began = perf_counter()
                runs.append(slq.spectrum(operator, rng=seed, **options))
                seconds.append(perf_counter() - began)
            text = f"tol = {options['tol']}" if "tol" in options else f"{options['probes']} × {options['steps']}"
            row = {"law": name, "n": operator.shape[0], "run": text, "products": median(s.products for s in runs)}
            row |= {"seconds": median(seconds), "curve": median(distance_of_curve(s, law.eigenvalues()) for s in runs)}
            row |= {"bare nodes": median(distance_of_nodes(s, law.eigenvalues()) for s in runs)}
            print(row, flush=True)
            yield row


def distance_of_curve(s: slq.Spectrum, values: np.ndarray) -> float:
    """Return how far slq's distribution lies from the exact one, as a share of the range."""
    positions = (np.arange(values.size) + 0.5) / values.size
    return float(np.abs(s.quantile(positions).value - values).mean() / np.ptp(values))


def distance_of_nodes(s: slq.Spectrum, values: np.ndarray) -> float:
    """Return the same for the nodes and weights themselves, averaged over the probes."""
    weights = (s.weights / s.probes).ravel()
    return float(wasserstein_distance(s.nodes.ravel(), values, weights) / np.ptp(values))


if __name__ == "__main__":
    main()
