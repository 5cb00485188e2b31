"""
Hyperparameters of a Gaussian process without a factorisation
=============================================================

The marginal likelihood of a Gaussian process needs log det K and its gradient by the hyperparameters. Both come from
one Krylov run per step, K is only multiplied, and the optimum is that of the dense computation.
"""

# %%
# Data: a smooth function of one variable, seen through noise. ``EXAMPLE_SIZE`` sets how many points.

import os

import numpy as np
import slq_torch
import torch
from scipy.optimize import minimize

import slq

n = int(os.environ.get("EXAMPLE_SIZE", "200"))
rng = np.random.default_rng(0)
x = torch.from_numpy(np.sort(rng.uniform(0, 10, n)))
y = torch.from_numpy(np.sin(x.numpy()) + 0.5 * np.sin(3 * x.numpy()) + 0.3 * rng.standard_normal(n))


def kernel(theta):
    """Squared-exponential kernel plus noise, from the logarithms of length, size and noise."""
    length, size, noise = theta.exp()
    return size**2 * torch.exp(-((x[:, None] - x) ** 2) / (2 * length**2)) + noise**2 * torch.eye(n, dtype=x.dtype)


# %%
# Twice the negative log likelihood, less constants: yᵀK⁻¹y + log det K. The dense way factorises K.


def dense(theta):
    K = kernel(theta)
    return y @ torch.linalg.solve(K, y) + torch.linalg.slogdet(K)[1]


# %%
# The other way multiplies. With a = K⁻¹y held constant, 2yᵀa - aᵀKa has the value of yᵀK⁻¹y and its gradient -aᵀdKa.
# The same probes at every step (``rng=0``) make the objective smooth.


def by_products(theta):
    K = kernel(theta)
    a = slq.apply(K.detach(), y, "inverse", 1e-8).value
    return 2 * y @ a - a @ K @ a + slq_torch.logdet(K, probes=32, rng=0).value


# %%
# Both are minimised by the same method.


def optimum(objective):
    def evaluate(point):
        theta = torch.tensor(point, requires_grad=True)
        value = objective(theta)
        value.backward()
        return value.item(), theta.grad.numpy()

    return minimize(evaluate, np.zeros(3), jac=True, method="L-BFGS-B", options={"maxiter": 40})


exact, found = optimum(dense), optimum(by_products)
for name, one, other in zip(("length", "size", "noise"), np.exp(exact.x), np.exp(found.x), strict=True):
    print(f"{name}: {other:.4f} by products, {one:.4f} dense")
lost = float(dense(torch.tensor(found.x)) - dense(torch.tensor(exact.x))) / 2
print(f"log likelihood lost: {lost:.5f}")

# %%
# How sure is the log-determinant at the optimum?

print("log det K:", slq_torch.logdet(kernel(torch.tensor(found.x)), probes=32, rng=0).estimate)
