"""
Layer by layer: where a network is curved
=========================================

The Hessian of a whole network mixes its layers. Its diagonal blocks, one per layer, tell them apart: how strongly the
loss bends in each, in how many directions, and whether a layer has directions that go downhill. A small convolutional
network learns the digits of scikit-learn; then the spectra of all its layers are taken together, so that data are read
and gradients are built once per step for all of them.
"""

# %%
# A network that reads digits
# ---------------------------
# 1797 digits of 8 x 8 pixels; three convolutions with normalisation between them, and a linear layer.

import argparse
import time

import matplotlib.pyplot as plt
import slq_torch
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--samples", type=int, default=1797, help="digits, at most 1797")
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--steps", type=int, default=40, help="Lanczos steps per layer")
options = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)  # the products are small: a second thread costs more than it brings
digits = load_digits()
chosen = torch.randperm(len(digits.images))[: options.samples]
x = torch.as_tensor(digits.images / 16, dtype=torch.float32)[chosen, None]
y = torch.as_tensor(digits.target)[chosen]

model = nn.Sequential()
for i, (inside, outside, stride) in enumerate([(1, 8, 1), (8, 16, 2), (16, 16, 1)], 1):
    model.add_module(f"conv{i}", nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False))
    model.add_module(f"norm{i}", nn.GroupNorm(4, outside))
    model.add_module(f"tanh{i}", nn.Tanh())
model.add_module("flat", nn.Flatten())
model.add_module("linear", nn.Linear(256, 10))

optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(options.epochs):
    for part in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
with torch.no_grad():
    print(f"loss {cross_entropy(model(x), y):.3f}, {(model(x).argmax(1) == y).float().mean():.1%} right")

# %%
# All layers at once
# ------------------
# By default every module that holds parameters is a block. Each block is an operator of its own, and
# ``slq.spectrum(layers["conv2"])`` would give the same numbers; together they cost much less.


def loss(model, batch):
    images, labels = batch
    return cross_entropy(model(images), labels)


batch = (x[:600], y[:600])
layers = slq_torch.layers(model, loss, batch)
print(layers)

began = time.perf_counter()
spectra = layers.spectra(probes=2, steps=options.steps, rng=0)
together = time.perf_counter() - began
print(spectra)

# %%
# What one pass for all saves
# ---------------------------
# Each of the joint products builds one gradient graph. One by one, every block builds its own.

began = time.perf_counter()
alone = slq.spectra(layers, probes=2, steps=10, rng=0)
one_by_one = (time.perf_counter() - began) * spectra.passes / 11
print(f"together {together:.1f} s, one by one about {one_by_one:.1f} s")

# %%
# The trace of the whole Hessian is the sum of those of its layers.

total = sum(s.trace().value for s in spectra.values())
for name, s in spectra.items():
    print(f"{name:<8}{s.n:>6} parameters {s.trace().value / total:6.1%} of the trace")

# %%
# The picture
# -----------
# Common axes: the same eigenvalue lies at the same place in every panel, and a single eigenvalue has height 1 in each.
# The normalisations have so few parameters that every eigenvalue was found: nothing is left for a curve.

slq.plot.multiples(spectra)
plt.show()
