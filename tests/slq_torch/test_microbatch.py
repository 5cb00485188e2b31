"""Batches cut into pieces have the same Hessian; losses that cannot be cut are refused; checkpoints work."""

from collections import namedtuple

import pytest
import slq_torch
import torch
from slq_torch._engine._pieces import cut
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("strategy", ["auto", "graph", "forward-over-reverse"])
def test_pieces_give_the_hessian_of_the_whole(size, strategy, net, kit):
    batches = [kit.samples(7), kit.samples(4, seed=2)]
    for loss in (kit.mean_loss, kit.summed_loss):
        H = slq_torch.hessian(net, loss, batches, strategy=strategy, microbatch=size)
        whole = slq_torch.hessian(net, loss, batches)
        X = kit.block(H.shape[0], 3)
        for _ in range(3):
            kit.assert_close(H.matmat(X), whole.matmat(X), rtol=1e-11)
        assert H.metadata["loss"] == pytest.approx(whole.metadata["loss"])
        assert H.metadata["samples"] == 11


def test_batch_norm_in_train_mode_is_not_cut(kit):
    net = kit.make(kit.networks["batch norm in train mode"])
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7), microbatch=3)

    with pytest.raises(ValueError, match=r"BatchNorm in train mode.*'1' \(BatchNorm1d\)"):
        kit.matrix(H)


def test_a_mean_over_other_things_than_samples_is_refused(net, kit):
    x, y = kit.samples(6)
    y[:2] = -100  # ignored, so the mean is over four

    H = slq_torch.hessian(net, kit.mean_loss, (x, y), microbatch=4)
    with pytest.raises(ValueError, match="`microbatch` cannot weight this loss"):
        kit.matrix(H)

    def loss(model, batch):
        kept = (batch[1] != -100).sum()
        return functional.cross_entropy(model(batch[0]), batch[1], reduction="sum"), kept

    H = slq_torch.hessian(net, loss, (x, y), microbatch=4)
    kit.assert_close(kit.matrix(H), kit.matrix(slq_torch.hessian(net, kit.mean_loss, (x, y))), rtol=1e-11)


def test_batches_without_a_common_first_dimension_are_refused(net, kit):
    H = slq_torch.hessian(net, lambda m, b: m(b[0]).square().mean(), (kit.samples(4)[0], torch.ones(3)), microbatch=2)

    with pytest.raises(ValueError, match="share their first dimension"):
        kit.matrix(H)


def test_nested_batches_are_cut():
    pair = namedtuple("pair", ["x", "rest"])
    batch = pair(torch.arange(4), {"a": [torch.arange(8).reshape(4, 2), "text"], "scale": torch.tensor(2.0)})
    part = cut(batch, 4, slice(1, 3))

    assert part.x.tolist() == [1, 2]
    assert part.rest["a"][0].tolist() == [[2, 3], [4, 5]]
    assert part.rest["a"][1] == "text"
    assert float(part.rest["scale"]) == 2.0


class Checkpointed(nn.Module):
    """A network that computes its middle again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.last(checkpoint(lambda t: self.first(t).tanh(), x, use_reentrant=False))


@pytest.mark.filterwarnings("ignore:`torch.cpu.amp.autocast:FutureWarning")  # by torch 2.4 itself
@pytest.mark.parametrize("strategy", ["auto", "graph"])
def test_activation_checkpoints_give_the_same_hessian(strategy, kit):
    net, batch = kit.make(Checkpointed), kit.samples(6)
    plain = nn.Sequential(net.first, nn.Tanh(), net.last)
    H = slq_torch.hessian(net, kit.mean_loss, batch, strategy=strategy)
    expected = kit.dense(plain, kit.mean_loss, batch)

    for _ in range(3):
        kit.assert_close(kit.matrix(H), expected)
