"""One column after the other or all at once: the same product, and the faster way is kept."""

import pytest
import slq_torch
import torch
from slq_torch import _columns
from slq_torch._parameters import from_model
from torch import nn


def graph(model, loss, batch):
    """Build what the two ways take: gradients with their graph, and the parameters."""
    params = from_model(model, None)
    grads = torch.autograd.grad(loss(model, batch), params.tensors, create_graph=True)
    return list(grads), params


def test_both_ways_give_the_same_product(any_net, kit):
    grads, params = graph(any_net, kit.mean_loss, kit.samples(7))
    columns = params.split(kit.block(params.size).T.contiguous())
    one_by_one = _columns.looped(grads, columns, params, keep=True)

    try:
        at_once = _columns.vmapped(grads, columns, params)
    except RuntimeError:
        assert any(isinstance(m, nn.GroupNorm) for m in any_net.modules())
        pytest.skip("torch cannot vmap the second derivative of this module; products go by columns")
    kit.assert_close(at_once, one_by_one, rtol=1e-12)


def test_one_column_is_never_vmapped(net, kit, monkeypatch):
    monkeypatch.setattr(_columns, "vmapped", None)
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    H @ torch.ones(H.shape[0], dtype=H.dtype)

    assert H.metadata["vmapped"] == {}


@pytest.mark.parametrize(("worth", "chosen"), [(1e9, True), (0.0, False)])
def test_the_choice_is_made_once_for_each_width(worth, chosen, net, kit, monkeypatch):
    monkeypatch.setattr(_columns, "_WORTH", worth)
    H = slq_torch.hessian(net, kit.mean_loss, [kit.samples(7), kit.samples(3, seed=2)])
    X = torch.eye(H.shape[0], dtype=H.dtype)
    first, second = H.matmat(X[:, :3]), H.matmat(X[:, :3])

    assert H.metadata["vmapped"] == {"3": chosen}
    kit.assert_close(second, first, rtol=1e-12)
    H.matmat(X[:, :5])
    assert H.metadata["vmapped"] == {"3": chosen, "5": chosen}


def test_vmap_that_disagrees_is_not_used(net, kit, monkeypatch):
    right = _columns.vmapped
    monkeypatch.setattr(_columns, "_WORTH", 1e9)
    monkeypatch.setattr(_columns, "vmapped", lambda *a, **k: right(*a, **k) * 1.001)
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    A = kit.matrix(H)

    assert list(H.metadata["vmapped"].values()) == [False]
    kit.assert_close(A, kit.dense(net, kit.mean_loss, kit.samples(7)))


def test_vmap_that_fails_later_is_given_up(net, kit, monkeypatch):
    monkeypatch.setattr(_columns, "_WORTH", 1e9)
    batch = kit.samples(7)
    H = slq_torch.hessian(net, kit.mean_loss, batch)
    first = kit.matrix(H)

    vmapped = _columns.vmapped

    def out_of_memory(*args, **kwargs):
        vmapped(*args, **kwargs)  # the graph has been walked already when memory runs out
        raise torch.OutOfMemoryError

    monkeypatch.setattr(_columns, "vmapped", out_of_memory)
    kit.assert_close(kit.matrix(H), first, rtol=1e-12)
    assert list(H.metadata["vmapped"].values()) == [False]


class Cube(torch.autograd.Function):
    """x^3 with a backward that vmap cannot look into."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return Square.apply(x) * 3 * g


class Square(torch.autograd.Function):
    """x^2, likewise."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if float(g.sum()) == float("inf"):  # needs a number, which vmap has not
            raise AssertionError
        return 2 * x * g


def test_an_operation_that_vmap_cannot_take_goes_by_columns(kit):
    model = nn.ParameterDict({"w": nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))})
    H = slq_torch.hessian(model, lambda m, x: (Cube.apply(m["w"]) * x).sum(), torch.ones(2))

    kit.assert_close(kit.matrix(H), torch.diag(torch.tensor([6.0, 12.0], dtype=torch.float64)))
    assert H.metadata["vmapped"] == {"2": False}
