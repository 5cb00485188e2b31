"""
The spectrum of the Hessian through a training
==============================================

A network learns the digits of scikit-learn by gradient descent. Meanwhile a recorder takes the spectrum of its Hessian,
its largest eigenpairs and where the gradient lies; the training does not notice. Large eigenvalues leave the bulk,
about as many as there are classes, and most of the gradient comes to lie in their few directions.
"""

# %%
# A network and its recorder
# --------------------------
# The Hessian is taken at 600 samples that stay the same. Early steps change most, so records are made at steps that are
# evenly spaced on a logarithmic axis.

import argparse

import matplotlib.pyplot as plt
import slq_torch
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--samples", type=int, default=600, help="at which the Hessian is taken")
parser.add_argument("--steps", type=int, default=1001)
options = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)  # the products are small: a second thread costs more than it brings
digits = load_digits()
x = torch.as_tensor(digits.images / 16, dtype=torch.float32).flatten(1)
y = torch.as_tensor(digits.target)
model = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)


def loss(model, batch):
    images, labels = batch
    return cross_entropy(model(images), labels)


held = (x[: options.samples], y[: options.samples])
recorder = slq_torch.Recorder(model, loss, held, every="log", classes=10)
print(recorder.plan(options.steps))

# %%
# Training, with one more line
# ----------------------------

for step in range(options.steps):
    batch = torch.randint(len(x), (64,))
    optimizer.zero_grad()
    value = loss(model, (x[batch], y[batch]))
    value.backward()
    optimizer.step()
    recorder.step(step, loss=value, lr=0.3)

history = recorder.history
print(history)

# %%
# The evolution
# -------------
# Colours count eigenvalues; the lines are the largest and the smallest, the dots those that stand apart.

slq.plot.evolution(history)

# %%
# The outliers
# ------------
# Gradient descent with this step would become unstable along a direction whose eigenvalue exceeds 2 / learning rate.

slq.plot.outliers(history)

# %%
# The gradient
# ------------
# Ten directions of thousands soon hold most of it.

last = history.scalars["gradient_concentration"][-1]
print(f"{last:.0%} of the gradient in 10 of {history.spectra[-1].n} directions")
slq.plot.overlap(history)
plt.show()
