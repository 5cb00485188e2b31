"""Models, flags, gradients and random states are after a product what they were before."""

import random
import weakref

import numpy as np
import pytest
import slq_torch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@pytest.fixture
def model(kit):
    """Build a network with batch norm in train mode, one child in eval mode and one frozen weight."""
    model = kit.make(
        lambda: nn.Sequential(
            nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Sequential(nn.Tanh()), nn.Linear(3, 2)
        )
    )
    model[2].eval()
    model[3].eval()
    model[4].bias.requires_grad_(False)
    for p in model.parameters():
        p.grad = torch.ones_like(p) if p.ndim == 2 else None
    return model


def snapshot(model):
    """Record all that must not change: identities by id, values by copies."""
    buffers = dict(model.named_buffers())
    return {
        "training": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "gradients": [id(p.grad) for p in model.parameters()],
        "gradient values": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "parameters": [p.tolist() for p in model.parameters()],
        "parameter versions": [p._version for p in model.parameters()],
        "buffers": {name: (id(b), b.tolist()) for name, b in buffers.items()},
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "python": random.getstate(),
    }


def rough(model, batch, *, fail=False):
    """A loss that leaves its marks on everything."""
    x, y = batch
    value = nn.functional.cross_entropy(model(x), y)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    model.eval()
    model[0].train()
    model[1].running_mean = model[1].running_mean + 1
    for p in model.parameters():
        p.requires_grad_(True)
        p.grad = torch.zeros_like(p)
    if fail:
        msg = "on purpose"
        raise KeyError(msg)
    return value


@pytest.mark.parametrize("params", [None, ["4.bias", "0.weight"]])
def test_a_product_leaves_no_trace(params, model, kit):
    H = slq_torch.hessian(model, kit.mean_loss, kit.samples(6), params=params)
    before = snapshot(model)
    H.matmat(torch.ones(H.shape[0], 2, dtype=H.dtype))

    assert snapshot(model) == before


def test_a_loss_that_changes_everything_leaves_no_trace(model, kit):
    H = slq_torch.hessian(model, rough, kit.samples(6))
    before = snapshot(model)
    H.matmat(torch.ones(H.shape[0], 2, dtype=H.dtype))

    assert snapshot(model) == before


def test_an_exception_in_the_loss_leaves_no_trace(model, kit):
    H = slq_torch.hessian(model, lambda m, b: rough(m, b, fail=True), kit.samples(6))
    before = snapshot(model)
    with pytest.raises(KeyError, match="on purpose"):
        H.matmat(torch.ones(H.shape[0], 2, dtype=H.dtype))

    assert snapshot(model) == before


def test_a_loader_takes_nothing_from_the_global_generators(model, kit):
    loader = DataLoader(TensorDataset(*kit.samples(6)), batch_size=3)
    H = slq_torch.hessian(model, kit.mean_loss, loader)
    before = snapshot(model)
    H @ torch.ones(H.shape[0], dtype=H.dtype)

    assert snapshot(model) == before


def test_making_an_operator_leaves_no_trace(model, kit):
    before = snapshot(model)
    loader = DataLoader(TensorDataset(*kit.samples(6)), batch_size=3)
    slq_torch.hessian(model, kit.mean_loss, loader, params=["4.bias"])

    assert snapshot(model) == before


def test_batch_norm_in_train_mode_gives_the_same_product_every_time(model, kit):
    H = slq_torch.hessian(model, kit.mean_loss, [kit.samples(6), kit.samples(4, seed=3)])
    v = torch.ones(H.shape[0], dtype=H.dtype)
    first = H @ v

    assert torch.equal(H @ v, first)
    assert model[1].num_batches_tracked == 0


def test_the_tensors_of_a_closure_keep_their_gradients():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    w.grad = grad = torch.ones(2)

    def closure():
        w.grad = None
        return (w**3).sum()

    slq_torch.hessian(closure, [w]) @ torch.ones(2)

    assert w.grad is grad


def test_a_closure_may_depend_on_tensors_that_are_no_leaves():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    z = w * 2
    H = slq_torch.hessian(lambda: (z**3).sum(), [z])

    assert torch.equal(H @ torch.ones(2), torch.tensor([12.0, 24.0]))


def test_no_graph_survives_a_product(net, kit):
    alive = []

    class Marked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g

    def loss(model, batch):
        # Batches before this one must be gone when its graph is made.
        assert all(reference() is None for reference in alive)
        value = Marked.apply(kit.mean_loss(model, batch))
        alive.append(weakref.ref(value.grad_fn))
        return value

    H = slq_torch.hessian(net, loss, [kit.samples(4)] * 3, strategy="graph", memory=0)
    for width in (1, 3, 3):
        H.matmat(torch.ones(H.shape[0], width, dtype=H.dtype))

    assert len(alive) == 9
    assert all(reference() is None for reference in alive)
