"""Second moments of per-sample gradients against rows of gradients."""

import pytest
import slq_torch
import torch
from torch import nn
from torch.nn import functional


def rows_of(model, loss, samples):
    """Return gradients and counts of single samples."""
    rows, counts = [], []
    for sample in samples:
        value = loss(model, sample)
        value, count = value if isinstance(value, tuple) else (value, 1)
        grads = torch.autograd.grad(value, list(model.parameters()))
        rows.append(torch.cat([g.reshape(-1) for g in grads]))
        counts.append(float(count))
    return torch.stack(rows), torch.tensor(counts, dtype=torch.float64)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("name", ["linear and tanh", "batch norm in eval mode", "convolution", "attention"])
def test_it_is_the_covariance_of_the_gradients(name, centred, kit):
    model, (x, y) = kit.make(kit.networks[name]), kit.samples(7)
    g, _ = rows_of(model, kit.mean_loss, [(x[i : i + 1], y[i : i + 1]) for i in range(7)])
    centre = g.mean(0) if centred else torch.zeros_like(g[0])
    C = slq_torch.gradient_covariance(model, kit.mean_loss, [(x[:5], y[:5]), (x[5:], y[5:])], centred=centred)

    kit.assert_close(kit.matrix(C), (g - centre).T @ (g - centre) / 7)


def test_about_zero_it_is_the_empirical_fisher(net, kit):
    batch = kit.samples(7)
    F = slq_torch.fisher(net, kit.summed_loss, batch)
    C = slq_torch.gradient_covariance(net, kit.summed_loss, batch, centred=False)

    kit.assert_close(kit.matrix(C), kit.matrix(F))


@pytest.mark.parametrize("centred", [True, False])
def test_samples_weigh_by_their_counts(centred, kit):
    model, (x, _) = kit.make(lambda: nn.Linear(4, 3)), kit.samples(16)
    x = x.reshape(4, 4, 4)
    y = torch.tensor([[0, 1, 2, 0], [1, 1, -100, -100], [2, -100, -100, -100], [-100] * 4])

    def loss(model, batch):
        z = model(batch[0]).flatten(0, 1)
        return functional.cross_entropy(z, batch[1].flatten(), reduction="sum"), (batch[1] != -100).sum()

    g, c = rows_of(model, loss, [(x[i : i + 1], y[i : i + 1]) for i in range(4)])
    means, weights = g[:3] / c[:3, None], c[:3] / c.sum()
    centre = weights @ means if centred else torch.zeros_like(g[0])
    expected = (means - centre).T @ (weights[:, None] * (means - centre))

    for data in ((x, y), [(x[:2], y[:2]), (x[2:], y[2:])]):
        C = slq_torch.gradient_covariance(model, loss, data, centred=centred)
        kit.assert_close(kit.matrix(C), expected)


def test_it_is_symmetric_semi_definite_and_repeats(net, kit):
    C = slq_torch.gradient_covariance(net, kit.mean_loss, kit.samples(7))
    A = kit.matrix(C)
    values = torch.linalg.eigvalsh(A)

    assert torch.equal(kit.matrix(C), kit.matrix(C))
    kit.assert_close(A, A.T.clone())
    assert values[0] > -1e-13 * values[-1]
    assert (values > 1e-10 * values[-1]).sum() == 6  # seven samples, less their mean


def test_the_data_may_be_a_loader_that_keeps_its_workers_iterator(net, kit):
    x, y = kit.samples(8)
    loader = torch.utils.data.DataLoader(list(zip(x, y, strict=True)), batch_size=3)
    C = slq_torch.gradient_covariance(net, kit.mean_loss, loader)

    kit.assert_close(kit.matrix(C), kit.matrix(slq_torch.gradient_covariance(net, kit.mean_loss, (x, y))))


def test_arguments_that_do_not_fit_are_refused(kit, net):
    with pytest.raises(TypeError, match="`centred` must be True or False, got 'yes'"):
        slq_torch.gradient_covariance(net, kit.mean_loss, kit.samples(7), centred="yes")
    coupled = kit.make(kit.networks["batch norm in train mode"])
    with pytest.raises(ValueError, match="BatchNorm in train mode"):
        slq_torch.gradient_covariance(coupled, kit.mean_loss, kit.samples(7))
