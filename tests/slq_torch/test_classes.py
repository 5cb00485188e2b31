"""The class decomposition against its definition, one gradient at a time."""

import pytest
import slq_torch
import torch
from torch import nn
from torch.nn import functional

PARTS = ("between", "cross", "within", "own")


@pytest.fixture
def model(kit):
    """Give a classifier of three classes."""
    return kit.make(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))


@pytest.fixture
def batch(kit):
    """Give nine samples of three classes."""
    x, _ = kit.samples(9)
    return x, torch.tensor([0, 1, 2, 0, 0, 1, 2, 2, 2])


def by_definition(model, x, y):
    """Return the four matrices, and the cluster means with their weights, from all gradients g_icc'."""
    classes, n = 3, sum(p.numel() for p in model.parameters())
    p = torch.softmax(model(x).detach(), 1)
    g = torch.zeros(len(x), classes, n, dtype=x.dtype)
    for i in range(len(x)):
        for c in range(classes):
            loss = functional.cross_entropy(model(x[i : i + 1]), torch.tensor([c]))
            g[i, c] = torch.cat([d.reshape(-1) for d in torch.autograd.grad(loss, list(model.parameters()))])
    w = p / len(x)
    parts = {name: torch.zeros(n, n, dtype=x.dtype) for name in PARTS}
    delta, weight = torch.zeros(classes, classes, n, dtype=x.dtype), torch.zeros(classes, classes, dtype=x.dtype)
    for c in range(classes):
        members = (y == c).nonzero()[:, 0]
        others = [d for d in range(classes) if d != c]
        for d in range(classes):
            weight[c, d] = w[members, d].sum()
            delta[c, d] = (w[members, d, None] * g[members, d]).sum(0) / weight[c, d]
        total = weight[c, others].sum()
        mean = (weight[c, others, None] * delta[c, others]).sum(0) / total
        parts["between"] += total * torch.outer(mean, mean)
        for d in others:
            parts["cross"] += weight[c, d] * torch.outer(delta[c, d] - mean, delta[c, d] - mean)
            for i in members:
                scatter = g[i, d] - delta[c, d]
                parts["within"] += w[i, d] * torch.outer(scatter, scatter)
        for i in members:
            parts["own"] += w[i, c] * torch.outer(g[i, c], g[i, c])
    return parts, delta, weight


@pytest.mark.parametrize("name", ["mean_loss", "summed_loss"])
def test_each_part_is_what_its_definition_says(name, model, batch, kit):
    x, y = batch
    expected, delta, weight = by_definition(model, x, y)
    cuts = [(x[:2], y[:2]), (x[2:], y[2:])]
    for data in (batch, cuts):
        found = slq_torch.class_decomposition(model, getattr(kit, name), data)
        for part in PARTS:
            kit.assert_close(kit.matrix(getattr(found, part)), expected[part])
        kit.assert_close(found.means()[0], delta)
        kit.assert_close(found.means()[1], weight)


def test_the_parts_are_semi_definite_and_add_up_to_the_gauss_newton_matrix(model, batch, kit):
    parts = slq_torch.class_decomposition(model, kit.mean_loss, batch)
    matrices = [kit.matrix(getattr(parts, part)) for part in PARTS]

    kit.assert_close(sum(matrices), kit.matrix(slq_torch.ggn(model, kit.mean_loss, batch)))
    for A in matrices:
        values = torch.linalg.eigvalsh(A)
        assert values[0] > -1e-13 * values[-1]
    assert torch.linalg.matrix_rank(matrices[0], rtol=1e-10) <= 3
    assert torch.linalg.matrix_rank(matrices[1], rtol=1e-10) <= 3


def test_the_sum_of_the_parts_as_an_operator(model, batch, kit):
    parts = slq_torch.class_decomposition(model, kit.mean_loss, batch)
    total = parts.between + parts.cross + parts.within + parts.own

    kit.assert_close(kit.matrix(total), kit.matrix(slq_torch.ggn(model, kit.mean_loss, batch)))


def test_low_rank_parts_need_no_further_pass(model, batch, kit):
    calls = []

    def loss(model, batch):
        calls.append(1)
        return kit.mean_loss(model, batch)

    parts = slq_torch.class_decomposition(model, loss, batch)
    kit.matrix(parts.between)
    made = len(calls)
    kit.matrix(parts.between)
    kit.matrix(parts.cross)
    parts.means()

    assert made == len(calls) == 1


def test_a_class_that_does_not_occur_has_no_weight(model, batch, kit):
    x, y = batch
    some = y < 2
    parts = slq_torch.class_decomposition(model, kit.mean_loss, (x[some], y[some]))
    means, weights = parts.means()

    assert not means[2].any()
    assert not weights[2].any()
    total = sum(kit.matrix(getattr(parts, part)) for part in PARTS)
    kit.assert_close(total, kit.matrix(slq_torch.ggn(model, kit.mean_loss, (x[some], y[some]))))


def test_labels_may_be_anywhere_in_the_batch(model, batch, kit):
    x, y = batch
    expected = kit.matrix(slq_torch.class_decomposition(model, kit.mean_loss, batch).own)
    parts = slq_torch.class_decomposition(
        model,
        lambda model, b: functional.cross_entropy(model(b["x"]), b["label"]),
        {"x": x, "label": y},
        targets=lambda b: b["label"],
    )

    kit.assert_close(kit.matrix(parts.own), expected)


def test_what_does_not_fit_is_refused(model, batch, kit):
    x, y = batch
    smooth = lambda m, b: functional.cross_entropy(m(b[0]), b[1], label_smoothing=0.1)  # noqa: E731
    cases = [
        (smooth, batch, {}, ValueError, "plain cross-entropy"),
        (kit.mean_loss, batch, {"targets": lambda b: b[1].float()}, ValueError, "int64 tensor of shape"),
        (kit.mean_loss, batch, {"targets": lambda b: b[1] + 1}, ValueError, "classes 0 to 2"),
        (lambda m, b: functional.cross_entropy(m(b), y), x, {}, TypeError, "`targets` is needed"),
        (lambda m, b: m(b[0])[0, 0] ** 2 + m(b[0]).square().sum(), batch, {}, ValueError, "one output"),
    ]
    for loss, data, options, kind, message in cases:
        parts = slq_torch.class_decomposition(model, loss, data, **options)
        with pytest.raises(kind, match=message):
            parts.between @ torch.ones(parts.between.shape[0], dtype=torch.float64)
    with pytest.raises(TypeError, match="`targets` must be a function of a batch"):
        slq_torch.class_decomposition(model, kit.mean_loss, batch, targets=1)
