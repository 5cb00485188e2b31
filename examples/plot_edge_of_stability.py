"""
The edge of stability
=====================

Gradient descent with step size eta is stable along a direction of curvature lambda while lambda < 2 / eta. Cohen et
al. (2021, arXiv:2103.00065) saw that full-batch training does not stay clear of that limit: the largest eigenvalue of
the Hessian rises until it arrives there, and then stays, while the loss goes on falling, no longer monotonically. A
small network on the digits of scikit-learn shows it in seconds.
"""

# %%
# A network, and gradient descent without chance
# ----------------------------------------------
# Squared loss, all samples in every step, no momentum: nothing is random but the initial weights.

import argparse

import matplotlib.pyplot as plt
import numpy as np
import slq_torch
import torch
from scipy.special import stdtrit
from sklearn.datasets import load_digits
from torch import nn

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--samples", type=int, default=500)
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--steps", type=int, default=1500)
parser.add_argument("--every", type=int, default=50, help="steps between two records")
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--rates", type=float, nargs=2, default=(0.2, 0.4), help="two learning rates")
parser.add_argument("--save", help="file for the picture")
options = parser.parse_args()

torch.set_num_threads(1)  # the products are small: a second thread costs more than it brings
digits = load_digits()
x = torch.as_tensor(digits.images / 16, dtype=torch.float32).flatten(1)[: options.samples]
y = nn.functional.one_hot(torch.as_tensor(digits.target))[: options.samples].float()


def loss(model, batch):
    return 0.5 * (model(batch[0]) - batch[1]).square().sum(1).mean()


def train(rate, seed):
    torch.manual_seed(seed)
    w = options.width
    model = nn.Sequential(nn.Linear(64, w), nn.Tanh(), nn.Linear(w, w), nn.Tanh(), nn.Linear(w, 10))
    recorder = slq_torch.Recorder(model, loss, (x, y), every=options.every, top=3, energy=0, probes=1, steps=20)
    for step in range(options.steps + 1):
        value = loss(model, (x, y))
        gradients = torch.autograd.grad(value, list(model.parameters()))
        recorder.step(step, loss=value, lr=rate)
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= rate * gradient
    return recorder.history


histories = {rate: [train(rate, seed) for seed in range(options.seeds)] for rate in options.rates}

# %%
# Where the largest eigenvalue stays
# ----------------------------------
# As a multiple of 2 / eta, over the last third of the records; the interval is 95 % of Student's t over seeds. A
# single eigenvalue is known far better: its residual is printed too.

for rate, runs in histories.items():
    late = len(runs[0]) * 2 // 3
    shares = np.array([slq.sharpness(1.0, rate) * h.arrays["eigenvalues"][late:, 0].mean() for h in runs])
    error = shares.std(ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else np.nan
    half = stdtrit(max(len(shares) - 1, 1), 0.975) * error
    residual = max(np.nanmax(h.arrays["eigenvalue_residuals"][:, 0]) for h in runs)
    print(f"eta {rate}: lambda_1 = ({shares.mean():.3f} ± {half:.3f}) of 2 / eta = {2 / rate:g}", end="; ")
    print(f"residuals up to {residual:.1e}, loss {runs[0].scalars['loss'][0]:.3f} to {runs[0].scalars['loss'][-1]:.4f}")

# %%
# The picture
# -----------
# Dashed: 2 / eta. From the same initial weights each learning rate goes to its own limit. Pale: other seeds.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for colour, (rate, runs) in zip(("#0072B2", "#D55E00"), histories.items(), strict=True):
    for i, history in enumerate(runs):
        style = {"color": colour, "alpha": 1.0 if i == 0 else 0.35, "linewidth": 1.3}
        label = f"learning rate {rate:g}" if i == 0 else None
        axes[0].plot(history.steps, history.arrays["eigenvalues"][:, 0], **style, label=label)
        axes[1].plot(history.steps, history.scalars["loss"], **style)
    axes[0].axhline(2 / rate, color=colour, linestyle="--", linewidth=0.9)
    axes[0].annotate("2 / eta", (0.99, 0.985 * 2 / rate), xycoords=("axes fraction", "data"), va="top", ha="right")
axes[0].set(xlabel="training step", ylabel="largest eigenvalue of the Hessian", ylim=(0, None))
axes[1].set(xlabel="training step", ylabel="loss", yscale="log")
axes[1].set_yticks((0.02, 0.05, 0.1, 0.2, 0.5, 1.0), ("0.02", "0.05", "0.1", "0.2", "0.5", "1"))
axes[1].minorticks_off()
axes[0].legend(frameon=False, fontsize="small", loc="lower right")
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
if options.save:
    figure.savefig(options.save, dpi=100)

# %%
# The other eigenvalues
# ---------------------
# They do not stay behind: one after the other arrives at the limit.

slq.plot.outliers(histories[options.rates[0]][0], step_scale="linear")
plt.show()
