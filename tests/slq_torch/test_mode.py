"""The mode in which models are run, for every constructor."""

import pytest
import slq_torch
import torch
from torch import nn

MAKERS = {
    "hessian": slq_torch.hessian,
    "ggn": slq_torch.ggn,
    "residual": slq_torch.residual,
    "hessian of split": lambda *a, **k: slq_torch.split(*a, **k).hessian,
    "ggn of split": lambda *a, **k: slq_torch.split(*a, **k).ggn,
    "exact fisher": lambda *a, **k: slq_torch.fisher(*a, kind="exact", **k),
    "monte-carlo fisher": lambda *a, **k: slq_torch.fisher(*a, kind="monte-carlo", rng=0, **k),
    "class part": lambda *a, **k: slq_torch.class_decomposition(*a, **k).between,
}
SAMPLEWISE = {"empirical fisher": slq_torch.fisher, "gradient covariance": slq_torch.gradient_covariance}
EVERY = MAKERS | SAMPLEWISE


@pytest.fixture
def coupled(kit):
    """Give a network with batch norm whose statistics are not those of a batch."""
    model = kit.make(kit.networks["batch norm in train mode"])
    with torch.no_grad():
        model(3 * kit.samples(50)[0])
    return model


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("training", [True, False])
def test_eval_and_train_are_as_after_switching_the_model(training, make, coupled, kit):
    if training and make in SAMPLEWISE.values():
        pytest.skip("no per-sample gradients in train mode")
    batch, mode = kit.samples(6), "train" if training else "eval"
    expected = kit.matrix(make(coupled.train(training), kit.mean_loss, batch))
    coupled.train(not training)
    coupled[2].train(training)
    flags = [m.training for m in coupled.modules()]
    before = {k: v.clone() for k, v in coupled.state_dict().items()}
    operator = make(coupled, kit.mean_loss, batch, mode=mode)
    found = kit.matrix(operator)

    kit.assert_close(kit.matrix(operator), found, rtol=1e-13)
    kit.assert_close(found, expected)
    assert [m.training for m in coupled.modules()] == flags
    assert all(torch.equal(v, before[k]) for k, v in coupled.state_dict().items())
    assert operator.metadata["mode"] == mode


def test_the_modes_differ_and_as_is_is_the_default(coupled, kit):
    batch = kit.samples(6)
    train, evaluated = (kit.matrix(slq_torch.ggn(coupled, kit.mean_loss, batch, mode=m)) for m in ("train", "eval"))
    as_is = slq_torch.ggn(coupled, kit.mean_loss, batch)

    assert (train - evaluated).abs().max() > 1e-3
    kit.assert_close(kit.matrix(as_is), train)
    assert as_is.metadata["mode"] == "as-is"


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
def test_dropout_is_refused_in_the_mode_asked_for(make, kit):
    model = kit.make(lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 2)))
    batch = kit.samples(6)

    with pytest.raises(ValueError, match=r'active dropout.*Give mode="eval"'):
        make(model, kit.mean_loss, batch)
    with pytest.raises(ValueError, match="active dropout"):
        make(model.eval(), kit.mean_loss, batch, mode="train")
    assert make(model.train(), kit.mean_loss, batch, mode="eval").shape[0] > 0
    assert model[1].training


@pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)
def test_other_modes_are_refused(make, net, kit):
    with pytest.raises(ValueError, match="`mode` must be one of 'as-is', 'eval', 'train', got 'test'"):
        make(net, kit.mean_loss, kit.samples(6), mode="test")


def test_a_closure_is_switched_only_if_it_is_a_module(kit):
    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.BatchNorm1d(4, dtype=torch.float64)
            self.x = kit.samples(6)[0]

        def forward(self):
            return (self.net(self.x) ** 3).sum()

    energy = Energy()
    train, evaluated = (
        kit.matrix(slq_torch.hessian(energy, list(energy.parameters()), mode=m)) for m in ("train", "eval")
    )
    w = torch.ones(2, requires_grad=True)

    assert (train - evaluated).abs().max() > 1e-3
    with pytest.raises(ValueError, match="`mode` is 'eval', but the closure is no Module"):
        slq_torch.hessian(lambda: (w**3).sum(), [w], mode="eval")
