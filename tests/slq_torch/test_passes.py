"""Every product must see the same matrix; where it does not, the message names the cause."""

import random

import numpy as np
import pytest
import slq_torch
import torch
from slq_torch._model import _passes
from slq_torch._model._suspects import active_dropout, random_sampler
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler


def products(operator, times=2):
    """Multiply some times, as a Lanczos run would, and return what came out, as rows."""
    vector = torch.ones(operator.shape[0], dtype=operator.dtype)
    return torch.stack([operator @ vector for _ in range(times)])


def message_of(operator, times=2):
    """Return the message of the refusal at the second product; the first must succeed."""
    products(operator, 1)
    with pytest.raises(ValueError, match="not the same at each pass") as caught:
        products(operator, times - 1)
    return str(caught.value)


def test_steady_passes_are_accepted(any_net, kit):
    found = products(slq_torch.hessian(any_net, kit.mean_loss, [kit.samples(5), kit.samples(3, seed=2)]), 4)
    assert found[0].any()
    kit.assert_close(found, found[:1].expand(4, -1))


def test_a_shuffled_loader_is_found_at_the_second_product(net, kit):
    loader = DataLoader(TensorDataset(*kit.samples(12)), batch_size=4, shuffle=True)
    message = message_of(slq_torch.hessian(net, kit.mean_loss, loader))

    assert "a RandomSampler (shuffle=True): use a loader with shuffle=False" in message
    assert "batch 0 had the loss" in message
    assert "product 2 against product 1" in message


def test_a_loader_that_draws_with_weights_is_named(kit):
    dataset = TensorDataset(*kit.samples(12))
    sampler = WeightedRandomSampler(torch.ones(12), 12)

    assert random_sampler(DataLoader(dataset, sampler=sampler)) == "WeightedRandomSampler"
    assert random_sampler(DataLoader(dataset, shuffle=True)) == "RandomSampler"
    assert random_sampler(DataLoader(dataset)) is None
    assert random_sampler([]) is None


@pytest.mark.parametrize(
    "draw", [random.random, np.random.standard_normal, lambda: float(torch.randn(()))], ids=["python", "numpy", "torch"]
)
def test_random_augmentation_shows_whichever_generator_it_uses(draw, net, kit):
    x, y = kit.samples(6)

    class Noisy(Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            return x[i] + 0.1 * draw(), y[i]

    message = message_of(slq_torch.hessian(net, kit.mean_loss, DataLoader(Noisy(), batch_size=3)))

    assert "Nothing suspicious was found" in message
    assert "random augmentation" in message


def test_functional_dropout_shows(net, kit):
    def loss(model, batch):
        return functional.cross_entropy(functional.dropout(model(batch[0]), 0.5), batch[1])

    assert "F.dropout" in message_of(slq_torch.hessian(net, loss, kit.samples(8)))


def test_active_dropout_is_refused_at_once_and_named(kit):
    model = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.25), nn.Dropout(0.0))
    message = r"active dropout in '1' \(Dropout, rate 0.25\), so .*Give mode="
    with pytest.raises(ValueError, match=message):
        slq_torch.hessian(model, kit.mean_loss, kit.samples(3))

    slq_torch.hessian(model.eval(), kit.mean_loss, kit.samples(3))


def test_dropout_hides_in_many_modules():
    class DropPath(nn.Module):
        drop_prob = 0.1

    class Block(nn.Module):
        dropout = 0.2

    class Plain(nn.Module):
        p = 2

    model = nn.Sequential(
        nn.MultiheadAttention(4, 2, dropout=0.3),
        nn.LSTM(4, 4, 2, dropout=0.4),
        nn.AlphaDropout(),
        DropPath(),
        Block(),
        Plain(),
        nn.Dropout2d(),
        nn.Dropout(),
        nn.Dropout(0.0),
    )

    assert [text.split("'")[1] for text in active_dropout(model)] == list("0123467")
    assert active_dropout(model.eval()) == []
    with pytest.raises(ValueError, match="and 2 more"):
        slq_torch.hessian(model.train(), lambda m, b: 0, torch.ones(3))


def test_dropout_switched_on_later_is_named(kit):
    model = kit.make(lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2)).eval())
    H = slq_torch.hessian(model, kit.mean_loss, kit.samples(8))
    products(H)
    model.train()

    with pytest.raises(ValueError, match=r"dropout is active in '1' \(Dropout, rate 0.5\)"):
        products(H, 1)


def test_batch_norm_in_train_mode_is_named_beside_the_shuffle(kit):
    model = kit.make(lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)))
    loader = DataLoader(TensorDataset(*kit.samples(12)), batch_size=4, shuffle=True)
    message = message_of(slq_torch.hessian(model, kit.mean_loss, loader))

    assert "RandomSampler" in message
    assert "BatchNorm is in train mode in '1' (BatchNorm1d)" in message


def test_an_optimiser_step_between_products_is_named(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(8))
    products(H)
    with torch.no_grad():
        net[0].weight.mul_(1.01)

    with pytest.raises(ValueError, match=r"parameters were changed .*make a new operator"):
        products(H, 1)


def test_a_changed_number_of_batches_or_of_samples_is_named(net, kit):
    x, y = kit.samples(8)
    data = [(x[:4], y[:4]), (x[4:], y[4:])]
    H = slq_torch.hessian(net, kit.mean_loss, data)
    products(H)
    data.pop()
    with pytest.raises(ValueError, match="it had 2 batches, now 1"):
        products(H, 1)

    counts = iter([8, 8, 9])
    H = slq_torch.hessian(net, lambda m, b: (kit.mean_loss(m, b), next(counts)), (x, y), memory=0, strategy="graph")
    products(H)
    with pytest.raises(ValueError, match=r"batch 0 had the count 8.0, now 9.0"):
        products(H, 1)


def test_a_loss_that_turns_into_nan_later_is_noticed(net, kit):
    factors = iter([1.0, float("nan")])
    H = slq_torch.hessian(net, lambda m, b: kit.mean_loss(m, b) * next(factors), kit.samples(4), strategy="graph")
    products(H, 1)

    with pytest.raises(ValueError, match="now nan"):
        products(H, 1)


def test_rounding_between_passes_is_no_difference(net, kit):
    factors = iter([1.0, 1 + 1e-13, 1 - 1e-13])
    H = slq_torch.hessian(net, lambda m, b: kit.mean_loss(m, b) * next(factors), kit.samples(4), strategy="graph")

    found = products(H, 3)
    kit.assert_close(found, found[:1].expand(3, -1))
    assert list(factors) == [1 - 1e-13]  # the second pass was compared with the first, whose graph is held since


def test_a_loss_in_low_precision_may_differ_by_its_own_rounding(net, kit):
    factors = iter([1.0, 1.004])
    H = slq_torch.hessian(
        net, lambda m, b: kit.mean_loss(m, b).bfloat16() * next(factors), kit.samples(4), strategy="graph"
    )

    found = products(H, 2)
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0.02 * float(found.abs().max()))
    assert next(factors, None) is None


def test_a_failed_first_product_does_not_spoil_the_next(net, kit):
    failures = iter([True, False, False])

    def loss(model, batch):
        if next(failures):
            raise OSError
        return kit.mean_loss(model, batch)

    H = slq_torch.hessian(net, loss, kit.samples(4), strategy="graph")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - raised above
        products(H, 1)

    assert caught.value.__notes__ == ["slq_torch: raised while differentiating the loss of batch 0."]
    products(H)


def test_two_computations_may_differ_by_rounding_only():
    assert _passes.tolerance(torch.float64) == pytest.approx(3.67e-11, rel=0.01)
    assert _passes.tolerance(torch.float32) == pytest.approx(2.4e-5, rel=0.02)
