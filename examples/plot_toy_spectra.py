"""
Two matrices with known spectra: spikes and a power law
=======================================================

Papyan (2020, arXiv:2008.11865, figure 15) tests his spectral estimates on two random matrices that look like Hessians:
a Wishart matrix with three spikes, n = 2000, and a matrix of Pareto variables, n = 500, whose spectrum is seen on a
logarithmic axis only. Both are small enough for all their eigenvalues, so estimate and truth lie in one picture.
"""

# %%
# The spiked Wishart matrix
# -------------------------
# diag(5, 4, 3, 0, ...) + Z Z^T / 2000 with normal Z, and 128 products, as there.

import argparse

import matplotlib.pyplot as plt
import numpy as np

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--wishart", type=int, default=2000, help="size of the first matrix")
parser.add_argument("--pareto", type=int, default=500, help="size of the second")
parser.add_argument("--save", help="file for the picture")
options = parser.parse_args()

rng = np.random.default_rng(0)
n = options.wishart
Z = rng.standard_normal((n, n))
spiked = Z @ Z.T / n
spiked[[0, 1, 2], [0, 1, 2]] += (5.0, 4.0, 3.0)
n = options.pareto
Z = rng.pareto(1.0, (n, n))
heavy = Z @ Z.T / n
names = {"spiked Wishart": spiked, "Pareto": heavy}
exact = {name: np.linalg.eigvalsh(A) for name, A in names.items()}

# %%
# Spectra by products alone
# -------------------------
# Ten probes with 128 steps for the first; 256 steps for the second, whose eigenvalues span many decades.

spectra = {
    name: slq.spectrum(A, probes=10, steps=min(steps, len(A)), rng=0)
    for (name, A), steps in zip(names.items(), (128, 256), strict=True)
}
for name, s in spectra.items():
    between = (exact[name][1:] + exact[name][:-1]) / 2
    share = np.arange(1, s.n) / s.n
    band = s.cdf(between)
    inside = np.mean((band.low <= share) & (share <= band.high))
    print(
        f"{name}: distribution between neighbours off by {np.abs(band.value - share).mean():.2%} on average,", end=" "
    )
    print(f"inside the 95 % band at {inside:.1%} of them")

# %%
# Three eigenvalues stand apart in the first matrix, about where theory puts those of 5, 4 and 3 (not at 5, 4 and 3:
# the bulk pushes them outwards).

found, top = spectra["spiked Wishart"].outliers, exact["spiked Wishart"][::-1][:3]
off = np.abs(np.sort(found.values)[::-1][:3] - top).max()
print(f"{len(found)} outliers, {np.round(top, 3)}; off by at most {off:.1e}")

# %%
# In the second, where are the eigenvalues on a logarithmic axis? A decade is 2.3 units of ln.

shares = (0.25, 0.5, 0.75)
band, right = spectra["Pareto"].quantile(shares), np.quantile(exact["Pareto"], shares)
for i, q in enumerate(shares):
    print(f"{q:.0%} lie below {band.value[i]:.4g} ({band.low[i]:.4g} to {band.high[i]:.4g}), exact {right[i]:.4g}")

# %%
# The picture
# -----------
# Grey: all eigenvalues.

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
slq.plot.density(spectra["spiked Wishart"], axes[0], exact=exact["spiked Wishart"], label="10 probes × 128 steps")
slq.plot.density(spectra["Pareto"], axes[1], exact=exact["Pareto"], kind="log", label="10 probes × 256 steps")
for ax, (name, s) in zip(axes, spectra.items(), strict=True):
    ax.set_title(f"{name}, n = {s.n}", fontsize="medium")
if options.save:
    figure.savefig(options.save, dpi=100)
plt.show()
