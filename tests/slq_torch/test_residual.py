"""H = G + R: the residual operator and the joint product."""

import pytest
import slq_torch
import torch
from torch import nn
from torch.nn import functional


def squared(model, batch):
    """A mean squared error to the class number in both outputs."""
    x, y = batch
    return functional.mse_loss(model(x), y[:, None].double().expand(-1, 2))


@pytest.mark.parametrize("name", ["mean_loss", "summed_loss"])
def test_the_hessian_is_gauss_newton_plus_residual(name, any_net, kit):
    loss, batch = getattr(kit, name), kit.samples(7)
    G = kit.matrix(slq_torch.ggn(any_net, loss, batch))
    R = kit.matrix(slq_torch.residual(any_net, loss, batch))

    kit.assert_close(G + R, kit.dense(any_net, loss, batch))


def test_the_joint_product_gives_both_parts(any_net, kit):
    batch = kit.samples(7)
    parts = slq_torch.split(any_net, kit.mean_loss, batch)
    X = kit.block(parts.hessian.shape[0])

    for width in (1, 3, 3):
        G_X, R_X = parts.matmat(X[:, :width])
        kit.assert_close(G_X, parts.ggn.matmat(X[:, :width]))
        kit.assert_close(R_X, parts.residual.matmat(X[:, :width]))
        kit.assert_close(G_X + R_X, parts.hessian.matmat(X[:, :width]))


def test_the_residual_is_symmetric_and_not_semi_definite(net, kit):
    R = kit.matrix(slq_torch.residual(net, kit.mean_loss, kit.samples(7)))
    values = torch.linalg.eigvalsh(R)

    kit.assert_close(R, R.T.clone())
    assert values[0] < 0 < values[-1]


def test_the_residual_vanishes_for_linear_models_and_where_samples_are_fitted(net, kit):
    x, y = kit.samples(7)
    linear = slq_torch.residual(kit.make(lambda: nn.Linear(4, 2)), kit.mean_loss, (x, y))
    with torch.no_grad():
        fitted = slq_torch.residual(net, lambda m, b: functional.mse_loss(m(b[0]), b[1]), (x, net(x)))

    assert not kit.matrix(linear).any()
    assert not kit.matrix(fitted).any()


def test_it_does_not_depend_on_how_the_data_are_batched(net, kit):
    x, y = kit.samples(7)
    cuts = [(x[a:b], y[a:b]) for a, b in ((0, 3), (3, 4), (4, 7))]
    X = kit.block(sum(p.numel() for p in net.parameters()))
    whole = slq_torch.split(net, squared, (x, y)).matmat(X)
    ragged = slq_torch.split(net, squared, cuts).matmat(X)

    for found, expected in zip(ragged, whole, strict=True):
        kit.assert_close(found, expected)


def test_nothing_of_the_users_is_changed_and_a_product_repeats(kit):
    model = kit.make(kit.networks["batch norm in train mode"])
    parts = slq_torch.split(model, kit.mean_loss, kit.samples(7))
    X = kit.block(parts.hessian.shape[0])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    parts.matmat(X)
    second, third = parts.matmat(X), parts.matmat(X)

    assert all(torch.equal(a, b) for a, b in zip(second, third, strict=True))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_kinds_and_refusals(net, kit):
    x, y = kit.samples(7)
    parts = slq_torch.split(net, kit.mean_loss, (x, y))
    kinds = [operator.metadata["kind"] for operator in (parts.hessian, parts.ggn, parts.residual)]
    decayed = slq_torch.residual(net, lambda m, b: kit.mean_loss(m, b) + m[0].weight.square().sum(), (x, y))

    assert kinds == ["hessian", "ggn", "residual"]
    assert parts.residual.matmat(torch.zeros(parts.residual.shape[0], 0).double()).shape[1] == 0
    with pytest.raises(ValueError, match="in other ways"):
        decayed @ torch.ones(decayed.shape[0], dtype=torch.float64)
