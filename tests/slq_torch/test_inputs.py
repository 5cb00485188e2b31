"""The Hessian by the inputs against dense ones, sample by sample, and what it refuses."""

import pytest
import slq_torch
import torch
from torch import nn
from torch.nn import functional

import slq


def dense_by_inputs(model, loss, x, rest):
    """Build the Hessian by the inputs with torch's own functional.hessian, (n, n)."""

    def of(inputs):
        value = loss(model, (inputs, rest))
        return value[0] / value[1] if isinstance(value, tuple) else value

    return torch.autograd.functional.hessian(of, x).reshape(x.numel(), x.numel())


@pytest.mark.parametrize("loss", ["mean_loss", "summed_loss"])
def test_products_agree_with_the_dense_hessian_by_the_inputs(loss, any_net, kit):
    x, y = kit.samples(5)
    H = slq_torch.input_hessian(any_net, getattr(kit, loss), (x, y))

    expected = dense_by_inputs(any_net, kit.mean_loss, x, y)
    if not any(isinstance(m, nn.BatchNorm1d) and m.training for m in any_net.modules()):
        for i in range(5):  # samples do not interact
            expected[4 * i : 4 * i + 4, : 4 * i] = expected[4 * i : 4 * i + 4, 4 * i + 4 :] = 0.0
    kit.assert_close(kit.matrix(H), expected)
    assert H.metadata["kind"] == "input hessian"


def test_with_a_count_of_one_every_sample_has_its_own_hessian(net, kit):
    x, y = kit.samples(3)
    H = slq_torch.input_hessian(net, lambda m, b: (kit.summed_loss(m, b)[0], 1), (x, y))
    A = kit.matrix(H)

    for i in range(3):
        one = slq_torch.input_hessian(net, kit.mean_loss, (x[i : i + 1], y[i : i + 1]))
        kit.assert_close(A[4 * i : 4 * i + 4, 4 * i : 4 * i + 4], kit.matrix(one))


def test_inputs_are_chosen_by_select(net, kit):
    x, y = kit.samples(3)
    batch = {"pixels": x, "mask": torch.ones_like(x), "labels": y}

    def loss(model, batch):
        return functional.cross_entropy(model(batch["pixels"] * batch["mask"]), batch["labels"])

    H = slq_torch.input_hessian(net, loss, batch, select=lambda b: b["pixels"])
    both = slq_torch.input_hessian(net, loss, batch, select=lambda b: {k: b[k] for k in ("pixels", "mask")})
    listed = slq_torch.input_hessian(net, loss, batch, select=lambda b: [b["pixels"], b["mask"]])

    kit.assert_close(kit.matrix(H), dense_by_inputs(net, kit.mean_loss, x, y))
    kit.assert_close(kit.matrix(both)[:12, :12], kit.matrix(H))
    kit.assert_close(kit.matrix(listed), kit.matrix(both))
    assert both.to_params(torch.ones(24))["mask"].shape == x.shape


def test_a_tensor_is_its_own_input(kit):
    net = kit.make(lambda: nn.Linear(4, 1))
    x = kit.samples(3)[0]
    H = slq_torch.input_hessian(net, lambda m, b: m(b).square().sum() / 2, x)

    kit.assert_close(
        H @ torch.ones(12, dtype=torch.float64), (net.weight.sum() * net.weight.detach()[0]).repeat(3).detach()
    )


def test_frozen_models_have_input_hessians_too(net, kit):
    x, y = kit.samples(3)
    expected = kit.matrix(slq_torch.input_hessian(net, kit.mean_loss, (x, y)))
    net.requires_grad_(False)

    kit.assert_close(kit.matrix(slq_torch.input_hessian(net, kit.mean_loss, (x, y))), expected)


def test_inputs_and_model_are_left_as_they_were(net, kit):
    x, y = kit.samples(3)
    net.train()
    x.grad = None
    slq.spectrum(slq_torch.input_hessian(net, kit.mean_loss, (x, y), mode="eval"), probes=2, steps=5, rng=0)

    assert not x.requires_grad
    assert x.grad is None
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(module.training for module in net.modules())


def test_a_spectrum_covers_the_exact_one(net, kit):
    x, y = kit.samples(6)
    exact = torch.linalg.eigvalsh(dense_by_inputs(net, kit.mean_loss, x, y))
    s = slq.spectrum(slq_torch.input_hessian(net, kit.mean_loss, (x, y)), rng=0)

    assert s.edges[0] <= exact[0] <= exact[-1] <= s.edges[1]
    assert s.trace().low <= exact.sum() <= s.trace().high


def test_token_numbers_are_refused_with_the_way_out(kit):
    model = kit.make(lambda: nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)))
    tokens, y = torch.tensor([0, 3, 2]), torch.tensor([0, 1, 1])
    with pytest.raises(ValueError, match=r"token numbers, have no derivative.*embedding\(tokens\).detach\(\)"):
        slq_torch.input_hessian(model, kit.mean_loss, (tokens, y))

    e = model[0](tokens).detach()
    H = slq_torch.input_hessian(model, lambda m, b: functional.cross_entropy(m[1](b[0]), b[1]), (e, y))
    kit.assert_close(kit.matrix(H), dense_by_inputs(model[1], kit.mean_loss, e, y))


@pytest.mark.parametrize(
    ("batch", "select", "kind", "message"),
    [
        ({"x": torch.ones(1, 4)}, None, TypeError, r"`select` is missing.*dict with the keys \['x'\]"),
        (3, None, TypeError, "which part of a int"),
        (None, lambda b: 3, TypeError, "`select` must return a tensor or several, got int"),
        (None, lambda b: [b[0], "y"], TypeError, "got str as 1"),
        (None, lambda b: b[1], ValueError, "have no derivative"),
        (None, lambda b: [], ValueError, "empty"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(batch, select, kind, message, net, kit):
    with pytest.raises(kind, match=message):
        slq_torch.input_hessian(net, kit.mean_loss, batch or kit.samples(3), select=select)


def test_a_copy_of_the_inputs_is_noticed(net, kit):
    H = slq_torch.input_hessian(net, kit.mean_loss, kit.samples(3), select=lambda b: b[0].clone())
    with pytest.raises(ValueError, match=r"`loss` does not depend on the selected tensor input.*not copies"):
        H @ torch.ones(12, dtype=torch.float64)
