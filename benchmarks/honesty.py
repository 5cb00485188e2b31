"""How wrong can it be? Every interval that slq prints, held against exact spectra, as tables.

    python benchmarks/honesty.py                     all sections at full size
    python benchmarks/honesty.py coverage --runs 50  one section, fewer runs
    python benchmarks/honesty.py oracles --oracles DIR   with bcsstk13.mtx, bcsstk13_eigs.npy, … in DIR

Nothing is timed here. Sampling intervals are compared with an oracle's: the normal interval of the same probes for
someone who knows the exact spectrum.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.io

import slq
from slq._quadrature._bounds import bracket_cdf, upper_edges
from slq._quadrature._quadrature import radau

# Steps at which what the steps leave of counts is small beside the scatter of eight probes.
MANY = 200
FUNCTIONS: dict[str, tuple[str, Callable]] = {
    "x": ("identity", lambda x: x),
    "exp": ("exp", np.exp),
    "log": ("log", np.log),
    "1/x": ("inverse", np.reciprocal),
}


def row(*cells: object) -> None:
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def header(title: str, *cells: str) -> None:
    print(f"\n### {title}\n")
    row(*cells)
    row(*["---"] * len(cells))


def operator_of(values: np.ndarray) -> object:
    """A diagonal operator: sphere probes see no difference to any other with these eigenvalues."""
    return slq.gallery.from_eigenvalues(values, rotate=False)[0]


def spectra() -> Iterator[tuple[str, np.ndarray, int, int]]:
    """Name, eigenvalues, few steps, and enough steps for smooth functions."""
    gallery = slq.gallery
    clusters = np.concatenate([np.linspace(1, 1.5, 1000), np.linspace(3, 4, 1000)])
    yield "Marchenko-Pastur", gallery.marchenko_pastur(2000)[1].eigenvalues(), 20, 60
    yield "2-D Laplacian 44 × 45", gallery.laplacian_2d(44, 45)[1].eigenvalues(), 20, 200
    yield "two clusters", clusters, 20, 60
    yield "spiked", gallery.spiked(2000)[1].eigenvalues(), 20, 60
    yield "graded 1e-7 … 1", gallery.graded(2000)[1].eigenvalues(), 20, 100
    yield "indefinite, outliers", gallery.spiked(2000, outliers=(-5, -3, 20, 60, 100.0))[1].eigenvalues(), 20, 60


def hidden_bulks() -> Iterator[tuple[str, np.ndarray]]:
    """Name and eigenvalues of bulks that the first steps cannot see, because ten outliers take them all."""
    rng, outliers = np.random.default_rng(5), np.geomspace(3, 100, 10)
    yield "narrow bulk, ten outliers", np.append(1e-3 * rng.standard_normal(1990), outliers)
    yield "heavy-tailed bulk, ten outliers", np.append(np.clip(1e-4 * rng.standard_cauchy(1990), -0.3, 1.0), outliers)


def coverage(runs: int) -> None:
    """95 % intervals of traces, counts and the distribution function: how often they hold, and how wide they are."""
    asked = (*FUNCTIONS, "count", "cdf", "count, estimated", "cdf, estimated")
    header(
        f"Coverage of 95 % intervals, 8 probes, {runs} runs (in brackets: half-width over the oracle's)",
        *("spectrum", "steps", *asked),
    )
    for name, values, few, enough in spectra():
        values, n = np.sort(values), len(values)
        for steps in sorted({few, enough, MANY}):
            held: dict[str, list[bool]] = {}
            width: dict[str, list[float]] = {}
            for seed in range(runs):
                s = slq.spectrum(operator_of(values), probes=8, steps=steps, rng=seed)
                for key, low, high, truth, oracle in questions(s, values):
                    held.setdefault(key, []).append(bool(np.all((low <= truth) & (truth <= high))))
                    width.setdefault(key, []).append(float(np.median(high - low) / 2 / oracle))
            cells = [f"{100 * np.mean(held[k]):.1f} % ({np.median(width[k]):.3g})" if k in held else "–" for k in asked]
            row(name, steps, *cells)
        del n


def questions(s: slq.Spectrum, values: np.ndarray) -> Iterator[tuple]:
    """Name, interval, truth and oracle's half-width of everything asked."""
    n, k = len(values), s.probes
    for key, (name, f) in FUNCTIONS.items():
        if key in ("log", "1/x") and values[0] <= 0:
            continue
        e, exact = s.trace(name), f(values)
        yield key, np.array(e.low), np.array(e.high), exact.sum(), 1.96 * n * np.sqrt(2 * exact.var() / (k * (n + 2)))
    x = np.quantile(values, 0.3)
    grid = np.linspace(values[0] - 0.01, values[-1] + 0.01, 300)
    truth = np.searchsorted(values, grid, side="right") / n
    for suffix, claim in (("", "certified"), (", estimated", "estimate")):
        c, oracle = s.count(-np.inf, x, claim=claim), 1.96 * n * np.sqrt(0.42 / (k * (n + 2)))
        yield "count" + suffix, np.array(c.low), np.array(c.high), np.sum(values <= x), oracle
        band = s.cdf(grid, claim=claim)
        yield "cdf" + suffix, band.low - 1e-12, band.high + 1e-12, truth, 1.358 * np.sqrt(2 / (k * (n + 2)))


def exact_rules(runs: int) -> None:
    """The sampling laws alone: all steps made, n = 200, so that the rules are exact and only probes are left."""
    header(
        f"Coverage where all steps are made (n = 200, 4 probes, {runs} runs)",
        *("spectrum", "count of a third", "whole cdf"),
    )
    for name, law in (
        ("semicircle", slq.gallery.semicircle(200)[1]),
        ("Marchenko-Pastur", slq.gallery.marchenko_pastur(200)[1]),
    ):
        values, held = law.eigenvalues(), {"count": [], "cdf": []}
        for seed in range(runs):
            weights = np.random.default_rng(seed).standard_normal((4, 200)) ** 2
            weights /= weights.sum(axis=1, keepdims=True)
            share = weights[:, :67].sum(axis=1).mean()
            low, high = slq._quadrature._bounds.beta_interval(share, share, 200, 4, 0.95)
            held["count"].append(low <= 67 / 200 <= high)
            e = slq._quadrature._bounds.kolmogorov_halfwidth(200, 4, 0.95)
            gap = np.abs(weights.cumsum(axis=1).mean(axis=0) - np.arange(1, 201) / 200)
            held["cdf"].append(gap.max() <= e)
        row(name, *(f"{100 * np.mean(v):.1f} %" for v in held.values()))
        del values


def bounds(cases: int) -> None:
    """Brackets and edges on random spectra: they are theorems, so they may not fail."""
    rng = np.random.default_rng(0)
    violated, wide, edges, ordered, tried = 0, [], 0, 0, 0
    for _ in range(cases):
        values = random_spectrum(rng)
        n = len(values)
        v = rng.standard_normal(n)
        v /= np.linalg.norm(v)
        T = slq.lanczos(slq.as_operator(lambda x, d=values: d * x, n=n), v, int(rng.integers(1, n + 1)))
        rule, m = slq.gauss(T), int(T.lengths[0])
        noise = 8 * np.finfo(float).eps * np.abs(rule.nodes).max()
        nodes = rule.nodes[0, :m]
        x = np.unique(np.concatenate([nodes, nodes + 1e-9, nodes - 1e-9, values - 1e-6, rng.uniform(-1, 1, 30)]))
        x = x[np.abs(x[:, None] - values).min(axis=1) > 4 * noise]
        if x.size:
            psi = ((values <= x[:, None]) * v**2).sum(axis=1)
            low, high = bracket_cdf(x, nodes, rule.weights[0, :m], rule.residuals[0, :m] + noise, noise)
            violated += bool(np.any((psi < low - 1e-12) | (psi > high + 1e-12)))
            wide.append(float(np.mean(high - low)))
        edges += bool(values.max() > upper_edges(rule.nodes[:, :m], T.beta[:, :m], n, 0.05)[0] + noise)
        ordered_now, tried_now = radau_order(values, v, T)
        ordered, tried = ordered + ordered_now, tried + tried_now
    header("Bounds on random spectra", "statement", "cases", "violated", "stated")
    row(f"cdf bracket (mean width {np.mean(wide):.3f})", cases, violated, 0)
    row("upper edge at 5 % risk", cases, f"{100 * edges / cases:.2f} %", "≤ 5 %")
    row("Radau and Gauss rules in order: log, 1/x, exp", tried, tried - ordered, 0)


def random_spectrum(rng: np.random.Generator) -> np.ndarray:
    n = int(rng.integers(3, 60))
    kinds = (
        lambda: rng.standard_normal(n),
        lambda: 10.0 ** rng.uniform(-7, 0, n),
        lambda: np.repeat(rng.standard_normal(n // 3 + 1), 3)[:n],
        lambda: np.append(rng.standard_normal(n - 1) * 1e-3, 5.0),
        lambda: np.round(rng.standard_normal(n), 1),
        lambda: rng.choice([-1.0, 1.0], n) + 1e-6 * rng.standard_normal(n),
    )
    return kinds[int(rng.integers(len(kinds)))]()


def radau_order(values: np.ndarray, v: np.ndarray, T: slq.Tridiagonal) -> tuple[int, int]:
    """Count how often left Radau, Gauss and right Radau rules lie on their sides of v^T f(A) v."""
    if values.min() <= 0:
        return 0, 0
    m, good = int(T.lengths[0]), 0
    alpha, beta = T.alpha[0, :m], T.beta[0, :m]
    rule = slq.gauss(T)
    left, right = (radau(alpha, beta, z) for z in (values.min() * 0.999, values.max() * 1.001))
    for f, signs in ((np.log, (1, -1, -1)), (np.reciprocal, (-1, 1, 1)), (np.exp, (1, 1, -1))):
        truth, slack = v**2 @ f(values), 1e-9 * np.abs(v**2 @ np.abs(f(values)))
        found = [w @ f(x) for x, w in (left, (rule.nodes[0], rule.weights[0]), right)]
        good += all(s * (truth - value) >= -slack for s, value in zip(signs, found, strict=True))
    return good, 3


def logdet(runs: int) -> None:
    """Log-determinants of ill-conditioned matrices at few steps: the interval is wide where it must be."""
    header(
        f"log det, n = 1000, log-spaced eigenvalues, 8 probes, {runs} seeds",
        *("condition", "steps", "held", "median interval", "exact"),
    )
    for condition in (1e4, 1e8, 1e12):
        operator, law = slq.gallery.graded(1000, smallest=1 / condition)
        for steps in (20, 50, 100):
            report_logdet(operator, law.trace(np.log), f"{condition:.0e}", 8, steps, runs)


def oracles(runs: int, folder: Path) -> None:
    """The same for stiffness matrices of the SuiteSparse collection, where published intervals miss by far."""
    header(
        f"log det of stiffness matrices, {runs} seeds", *("matrix, probes", "steps", "held", "median interval", "exact")
    )
    for name in ("bcsstk27", "bcsstk14", "bcsstk13"):
        matrix = scipy.io.mmread(folder / f"{name}.mtx").tocsr()
        exact = np.log(np.load(folder / f"{name}_eigs.npy")).sum()
        for probes in (8, 16):
            for steps in (20, 50, 100):
                report_logdet(matrix, exact, f"{name}, {probes}", probes, steps, runs)


def report_logdet(operator: object, exact: float, name: str, probes: int, steps: int, runs: int) -> None:
    found = [slq.spectrum(operator, probes=probes, steps=steps, rng=seed).logdet() for seed in range(runs)]
    held = sum(e.low <= exact <= e.high for e in found)
    low, high = np.median([e.low for e in found]), np.median([e.high for e in found])
    row(name, steps, f"{held} of {runs}", f"[{low:.6g}, {high:.6g}]", f"{exact:.6g}")


def outliers(runs: int) -> None:
    """Ten separated outliers over a bulk, counted with one probe."""
    header(f"Ten outliers over a bulk, one probe, {runs} seeds", "n", "steps", "counted exactly", "listed exactly")
    for n in (2000, 20_000):
        operator, _ = slq.gallery.spiked(n)
        found = [slq.spectrum(operator, probes=1, steps=40, rng=seed) for seed in range(runs)]
        inside = [s.count(1.2, np.inf).value + s.count(-np.inf, -1.2).value for s in found]
        row(
            n,
            40,
            f"{np.sum(np.abs(np.array(inside) - 10) < 1e-6)} of {runs}",
            f"{sum(len(s.outliers) == 10 for s in found)} of {runs}",
        )


def wasserstein(s: slq.Spectrum, values: np.ndarray) -> float:
    """Exact distance in the display coordinate as a share of its range."""
    coordinate = s.coordinate()
    ends = coordinate.forward(values[[0, -1]])
    x = np.unique(np.concatenate([coordinate.inverse(np.linspace(*ends, 4000)), values, s.nodes.ravel()]))
    y, truth = coordinate.forward(x), np.searchsorted(values, x, side="right") / len(values)
    return float(np.trapezoid(np.abs(s.cdf(x).value - truth), y) / (ends[1] - ends[0]))


def tolerance(runs: int) -> None:
    """Whether the error of the adaptive run is what was asked, and what it costs."""
    header(
        f"Adaptive runs, {runs} seeds: error over tolerance",
        *("spectrum", "tol", "median error / tol", "within 1.2 tol", "within told", "median products", "planned"),
    )
    for name, values in (*((name, values) for name, values, _, _ in spectra()), *hidden_bulks()):
        values = np.sort(values)
        for tol in (0.05, 0.02, 0.01):
            found = [slq.spectrum(operator_of(values), tol=tol, rng=seed) for seed in range(runs)]
            distances = np.array([wasserstein(s, values) for s in found])
            errors = distances / tol
            row(
                name,
                tol,
                f"{np.median(errors):.2f}",
                f"{100 * np.mean(errors <= 1.2):.1f} %",
                f"{100 * np.mean(distances <= [s.error.total for s in found]):.1f} %",
                int(np.median([s.products for s in found])),
                slq.plan(operator_of(values), tol=tol).products,
            )


def economy(runs: int) -> None:
    """What the same error costs against a fixed run of 10 probes and 80 steps, n = 100,000."""
    header(
        f"Against a fixed 10 × 80 run (801 products), n = 100,000, {runs} seeds",
        *("spectrum", "error of nodes, 10 × 80", "error of slq, 10 × 80", "tol", "error", "products", "ratio"),
    )
    for name, make in (
        ("semicircle", slq.gallery.semicircle),
        ("Marchenko-Pastur", slq.gallery.marchenko_pastur),
        ("spiked", slq.gallery.spiked),
    ):
        values = make(100_000)[1].eigenvalues()
        operator = operator_of(values)
        fixed = [slq.spectrum(operator, probes=10, steps=80, rng=seed) for seed in range(runs)]
        target = float(np.median([wasserstein(s, values) for s in fixed]))
        stairs = float(np.median([staircase_error(s, values) for s in fixed]))
        found = [slq.spectrum(operator, tol=0.005, rng=100 + seed) for seed in range(runs)]
        error, products = (
            np.median(v) for v in zip(*((wasserstein(s, values), s.products) for s in found), strict=True)
        )
        row(name, f"{stairs:.2%}", f"{target:.3%}", 0.005, f"{error:.3%}", int(products), f"{801 / products:.1f}")


def staircase_error(s: slq.Spectrum, values: np.ndarray) -> float:
    """The same distance for the raw nodes and weights that other codes return."""
    coordinate = s.coordinate()
    x = np.unique(np.concatenate([values, s.nodes.ravel()]))
    y = coordinate.forward(x)
    truth = np.searchsorted(values, x, side="right") / len(values)
    steps = [
        np.append(0, w.cumsum())[np.searchsorted(t, x, side="right")] for t, w in zip(s.nodes, s.weights, strict=True)
    ]
    return float(np.trapezoid(np.abs(np.mean(steps, axis=0) - truth), y) / (y[-1] - y[0]))


def sequential(runs: int) -> None:
    """Intervals of slq.logdet and slq.trace, which stop when they are narrow: do they still hold?"""
    header(
        f"Intervals under the stopping rule, {runs} seeds", "spectrum", "function", "rtol", "held", "half-width / rtol"
    )
    operator, law = slq.gallery.marchenko_pastur(2000)
    for name, f in (("log", np.log), ("inverse", np.reciprocal), ("exp", np.exp)):
        for rtol in (0.05, 0.02):
            exact = law.trace(f)
            found = [slq.trace(operator, name, rtol, rng=seed) for seed in range(runs)]
            held = np.mean([e.low <= exact <= e.high for e in found])
            width = np.median([(e.high - e.low) / 2 / abs(e.value) / rtol for e in found])
            row("Marchenko-Pastur", name, rtol, f"{100 * held:.1f} %", f"{width:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = ("coverage", "exact", "bounds", "logdet", "oracles", "outliers", "tolerance", "economy", "sequential")
    parser.add_argument("section", nargs="*", default=list(sections), help=", ".join(sections))
    parser.add_argument("--runs", type=int, help="runs per row instead of each section's own number")
    parser.add_argument("--oracles", type=Path, help="folder of the stiffness matrices")
    asked = parser.parse_args()
    plans: dict[str, tuple[Callable, int]] = {
        "coverage": (coverage, 400),
        "exact": (exact_rules, 2000),
        "bounds": (bounds, 10_000),
        "logdet": (logdet, 20),
        "outliers": (outliers, 20),
        "tolerance": (tolerance, 200),
        "economy": (economy, 5),
        "sequential": (sequential, 400),
    }
    for section in asked.section:
        if section == "oracles":
            if asked.oracles:
                oracles(asked.runs or 20, asked.oracles)
            continue
        run, runs = plans[section]
        run(asked.runs or runs)


if __name__ == "__main__":
    main()
