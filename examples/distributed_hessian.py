"""
The Hessian of a network over several processes
================================================

A convolutional network on scikit-learn's digits; every process multiplies by the Hessian of its own share of the data
and holds its own share of the Krylov vectors. Run it on one, two or four processes of this machine:

    torchrun --nproc-per-node 4 distributed_hessian.py

or on several machines as the guide to distributed runs says. The table that rank 0 prints is the same, whatever their
number: probes do not depend on it, every sample weighs the same, and the numbers agree to rounding.
"""

import argparse
import os

import slq_torch
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from slq_torch import distributed
from torch import nn
from torch.nn.functional import cross_entropy

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--samples", type=int, default=1000)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--probes", type=int, default=2)
parser.add_argument("--steps", type=int, default=40)
options = parser.parse_args()

# %%
# torchrun tells each process who it is. Without it the script is a group of one.

torch.set_num_threads(1)
on_gpu = torch.cuda.is_available()
alone = {} if "RANK" in os.environ else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
dist.init_process_group("nccl" if on_gpu else "gloo", **alone)
rank, size = dist.get_rank(), dist.get_world_size()
device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
if on_gpu:
    torch.cuda.set_device(device)

images, labels = load_digits(return_X_y=True)
x = torch.as_tensor(images / 16).reshape(-1, 1, 8, 8)[: options.samples].to(device)
y = torch.as_tensor(labels)[: options.samples].to(device)
torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(256, 10),
).double().to(device)  # fmt: skip

# %%
# Rank 0 trains and sends what it found: all ranks must hold the same parameters, bit for bit, which is tested.

optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(options.epochs if rank == 0 else 0):
    for part in torch.randperm(len(x)).split(50):
        optimizer.zero_grad()
        cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
for parameter in model.parameters():
    dist.broadcast(parameter.data, 0)

# %%
# Each rank takes its share of the samples, in batches that need not be equal.

share = range(len(x) * rank // size, len(x) * (rank + 1) // size)
batches = [(x[i], y[i]) for i in torch.arange(share.start, share.stop).split(128)]


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


H = distributed.data_parallel(slq_torch.hessian, model, loss, batches)
s = slq.spectrum(H, probes=options.probes, steps=options.steps, rng=0)

# %%
# Everything that is asked of the spectrum is asked on every rank, and answered alike; one prints.

if rank == 0:
    print(f"{s.n} parameters, {s.metadata['samples']:.0f} samples, loss {s.metadata['loss']:.8f}")
    print(f"{'largest eigenvalues':<28}" + " ".join(f"{value:.6f}" for value in s.outliers.values[:3]))
    print(f"{'edges':<28}{s.edges[0]:.6f} {s.edges[1]:.6f}")
    print(f"{'trace':<28}{s.trace(lambda x: x).value:.6f}")
    print(f"{'negative eigenvalues':<28}{s.count(float('-inf'), 0.0).value:.2f}")
dist.destroy_process_group()
