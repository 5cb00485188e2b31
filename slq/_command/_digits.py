"""The task of the demo: a small classifier of real handwritten digits, and its exact Hessian.

1797 images of 8 × 8 pixels (scikit-learn's digits, shipped with it), of which 400 are held out; a network 64-24-10 in
float64 on the CPU. The exact Hessian is computed twice: column by column through the operator under test, and by
torch.func, which shares no code with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Batch = tuple[Tensor, Tensor]

_HIDDEN, _HELD_OUT = 24, 400
_EPOCHS, _STEP_SIZE, _TRAIN_BATCH = 30, 1e-2, 128
# The Hessian's batches: 1397 is not a multiple of it, so the last one is smaller.
_BATCH = 300
# Columns of the exact Hessian that are computed at once.
_COLUMNS = 64


@dataclass(frozen=True, slots=True)
class Task:
    """A trained network and its data.

    Attributes
    ----------
    model : Module
        The network.
    batches : list of (images, labels)
        The training data, in batches of unlike size.
    accuracy : float
        Share of held-out images that are classified right.
    loss : float
        Mean training loss.
    """

    model: torch.nn.Module
    batches: list[Batch]
    accuracy: float
    loss: float

    @property
    def data(self) -> Batch:
        """All training images and labels."""
        images, labels = zip(*self.batches, strict=True)
        return torch.cat(images), torch.cat(labels)


def mean_loss(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy over a batch."""
    images, labels = batch
    return cross_entropy(model(images), labels)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: products this small lose more by waiting for a second than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(before)


def trained() -> Task:
    """Train the network; the same every time within `one_thread`."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels))
    images, labels = (torch.as_tensor(a)[order] for a in (pixels / 16.0, classes))
    fit, held_out = (images[_HELD_OUT:], labels[_HELD_OUT:]), (images[:_HELD_OUT], labels[:_HELD_OUT])
    layers = torch.nn.Linear(64, _HIDDEN), torch.nn.Tanh(), torch.nn.Linear(_HIDDEN, 10)
    model = torch.nn.Sequential(*layers).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=_STEP_SIZE)
    for _ in range(_EPOCHS):
        for batch in _cut(fit, _TRAIN_BATCH):
            optimizer.zero_grad()
            mean_loss(model, batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        right = (model(held_out[0]).argmax(1) == held_out[1]).double().mean().item()
        loss = mean_loss(model, fit).item()
    return Task(model, _cut(fit, _BATCH), right, loss)


def _cut(data: Batch, size: int) -> list[Batch]:
    images, labels = (torch.split(part, size) for part in data)
    return list(zip(images, labels, strict=True))


def dense_by_products(operator: Any) -> Tensor:
    """Multiply the operator by the identity, a block of columns at a time."""
    n = operator.shape[0]
    blocks = torch.split(torch.eye(n, dtype=operator.dtype), _COLUMNS, dim=1)
    return torch.cat([operator.matmat(block) for block in blocks], dim=1)


def dense_by_torch(task: Task) -> Tensor:
    """Return the Hessian by torch.func, differentiating the mean loss over all data at once."""
    names, tensors = zip(*task.model.named_parameters(), strict=True)
    sizes = [t.numel() for t in tensors]
    data = task.data

    def loss(vector: Tensor) -> Tensor:
        parts = [p.view_as(t) for p, t in zip(torch.split(vector, sizes), tensors, strict=True)]
        output = torch.func.functional_call(task.model, dict(zip(names, parts, strict=True)), (data[0],))
        return cross_entropy(output, data[1])

    point = torch.cat([t.detach().flatten() for t in tensors])
    hessian: Tensor = torch.func.jacrev(torch.func.jacrev(loss), chunk_size=_COLUMNS)(point)
    return hessian
