"""
Two matrices with known spectra: spikes and a power law
=======================================================

Papyan (2020, arXiv:2008.11865, figure 15) tests his spectral estimates on two random matrices that look like Hessians:
a Wishart matrix with three spikes, n = 2000, and a matrix of Pareto variables, n = 500, whose spectrum is seen on a
logarithmic axis only. Both are small enough for all their eigenvalues, so estimate and truth lie in one picture.
"""

# %%
# The matrices
# ------------
# diag(5, 4, 3, 0, ...) + Z Z^T / 2000 with normal Z, and Z Z^T / 500 with Pareto variables; both anew with every seed.

import argparse

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import stdtrit

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--wishart", type=int, default=2000, help="size of the first matrix")
parser.add_argument("--pareto", type=int, default=500, help="size of the second")
parser.add_argument("--seeds", type=int, default=10)
parser.add_argument("--save", help="file for the picture")
options = parser.parse_args()


def spiked_wishart(rng):
    n = options.wishart
    Z = rng.standard_normal((n, n))
    return Z @ Z.T / n + np.diag(np.append([5.0, 4.0, 3.0], np.zeros(n - 3)))


def pareto(rng):
    n = options.pareto
    Z = rng.pareto(1.0, (n, n))
    return Z @ Z.T / n


# %%
# Spectra by products alone
# -------------------------
# Ten probes with 128 steps for the first, as there; 256 steps for the second, whose eigenvalues span many decades.

MATRICES = {"spiked Wishart": (spiked_wishart, 128), "Pareto": (pareto, 256)}
runs = {name: [] for name in MATRICES}
for seed in range(options.seeds):
    rng = np.random.default_rng(seed)
    for name, (made, steps) in MATRICES.items():
        A = made(rng)
        runs[name].append((slq.spectrum(A, probes=10, steps=min(steps, len(A)), rng=seed), np.linalg.eigvalsh(A)))


# %%
# How far off
# -----------
# Beside all eigenvalues; intervals are 95 % of Student's t over the seeds, which differ in matrix and probes.


def interval(values):
    values = np.asarray(values, dtype=np.float64)
    spread = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.nan
    return f"{values.mean():.3g} ± {spread * stdtrit(max(values.size - 1, 1), 0.975):.2g}"


for name, found in runs.items():
    off, inside = [], []
    for s, exact in found:
        band = s.cdf((exact[1:] + exact[:-1]) / 2)
        share = np.arange(1, s.n) / s.n
        off.append(100 * np.abs(band.value - share).mean())
        inside.append(np.mean((band.low <= share) & (share <= band.high)))
    print(f"{name}: distribution between neighbours off by ({interval(off)}) % on average,", end=" ")
    print(f"inside the 95 % band at {min(inside):.1%} of them or more")

# %%
# Three eigenvalues stand apart in the first matrix, about where theory puts those of 5, 4 and 3 (not at 5, 4 and 3:
# the bulk pushes them outwards). In the second, where is the median on a logarithmic axis? It spans decades.

counts = sorted({len(s.outliers) for s, _ in runs["spiked Wishart"]})
off = [np.abs(np.sort(s.outliers.values)[-3:] - exact[-3:]).max() for s, exact in runs["spiked Wishart"]]
print(f"{' or '.join(map(str, counts))} outliers, off by at most {max(off):.1e}")
medians = [s.quantile([0.5]) for s, _ in runs["Pareto"]]
truths = [np.quantile(exact, 0.5, method="inverted_cdf") for _, exact in runs["Pareto"]]
held = [band.low[0] <= truth <= band.high[0] for band, truth in zip(medians, truths, strict=True)]
ratios = [np.log(band.value[0] / truth) for band, truth in zip(medians, truths, strict=True)]
print(f"logarithm of the median off by {interval(np.abs(ratios))}, its 95 % interval holds {sum(held)} of {len(held)}")

# %%
# The picture
# -----------
# Of the first seed. Grey: all eigenvalues.

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
for ax, (name, found) in zip(axes, runs.items(), strict=True):
    s, exact = found[0]
    log = {"kind": "log"} if name == "Pareto" else {}
    slq.plot.density(s, ax, exact=exact, label=f"10 probes × {MATRICES[name][1]} steps", **log)
    ax.set_title(f"{name}, n = {s.n}", fontsize="medium")
if options.save:
    figure.savefig(options.save, dpi=100)
plt.show()
