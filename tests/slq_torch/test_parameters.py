"""Choosing parameters, and going between them and vectors."""

import re

import pytest
import slq_torch
import torch
from torch import nn


@pytest.fixture
def batch(kit):
    """Give seven samples."""
    return kit.samples(7)


def rows_of(model, *names):
    """Find the positions of the named parameters in the vector of all parameters."""
    positions, start = {}, 0
    for name, p in model.named_parameters():
        positions[name] = range(start, start + p.numel())
        start += p.numel()
    return [i for name in positions if name in names for i in positions[name]]


SELECTIONS = {
    "a name": "0.weight",
    "names in another order": ["2.bias", "0.weight"],
    "a glob": "*.weight",
    "globs and names that overlap": ["0.*", "0.bias", "2.bias"],
    "a regular expression": re.compile(r"^\d\.b"),
    "expressions, globs and names": [re.compile("^0.*t$"), "2.b*", "0.bias"],
    "a function": lambda name, p: p.ndim == 1,
    "no selection": None,
}


@pytest.mark.parametrize("key", SELECTIONS)
def test_a_selection_gives_the_principal_submatrix(key, net, batch, kit):
    expected = {
        "a name": ["0.weight"],
        "names in another order": ["0.weight", "2.bias"],
        "a glob": ["0.weight", "2.weight"],
        "globs and names that overlap": ["0.weight", "0.bias", "2.bias"],
        "a regular expression": ["0.bias", "2.bias"],
        "expressions, globs and names": ["0.weight", "0.bias", "2.bias"],
        "a function": ["0.bias", "2.bias"],
        "no selection": ["0.weight", "0.bias", "2.weight", "2.bias"],
    }[key]
    H = slq_torch.hessian(net, kit.mean_loss, batch, params=SELECTIONS[key])
    rows = rows_of(net, *expected)

    assert H.metadata["parameter_names"] == expected
    kit.assert_close(kit.matrix(H), kit.dense(net, kit.mean_loss, batch)[rows][:, rows])


def test_parameters_can_be_given_as_tensors(net, batch, kit):
    def names(params):
        H = slq_torch.hessian(net, kit.mean_loss, batch, params=params)
        return H.metadata["parameter_names"]

    assert names(net[2].parameters()) == ["2.weight", "2.bias"]
    assert names(net[2]) == ["2.weight", "2.bias"]
    assert names([net[2], net[0].bias]) == ["0.bias", "2.weight", "2.bias"]
    assert names(nn.ModuleList([net[2]])) == ["2.weight", "2.bias"]
    assert names(net[0].bias) == ["0.bias"]
    assert names([net[2].bias, "0.weight"]) == ["0.weight", "2.bias"]
    assert names(dict(net.named_parameters())) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_frozen_parameters_are_left_out_unless_they_are_named(net, batch, kit):
    net[0].requires_grad_(False)
    rows = rows_of(net, "2.weight", "2.bias")
    everything = kit.dense(net, kit.mean_loss, batch)

    H = slq_torch.hessian(net, kit.mean_loss, batch)
    kit.assert_close(kit.matrix(H), everything[rows][:, rows])

    rows = rows_of(net, "0.weight", "2.weight", "2.bias")
    for params in (["0.weight", "2.*"], [net[0].weight, "2.*"], lambda name, p: name != "0.bias"):
        H = slq_torch.hessian(net, kit.mean_loss, batch, params=params)
        kit.assert_close(kit.matrix(H), everything[rows][:, rows])
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


def test_a_frozen_parameter_alone_can_be_chosen(net, batch, kit):
    net.requires_grad_(False)
    H = slq_torch.hessian(net, kit.mean_loss, batch, params="0.bias")
    rows = rows_of(net, "0.bias")

    kit.assert_close(kit.matrix(H), kit.dense(net, kit.mean_loss, batch)[rows][:, rows])
    assert not any(p.requires_grad for p in net.parameters())


def test_a_tied_parameter_counts_once_under_either_name(kit):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    model = kit.make(Tied)
    batch = kit.samples(6)
    H = slq_torch.hessian(model, kit.mean_loss, batch)
    named = slq_torch.hessian(model, kit.mean_loss, batch, params="second.weight")
    rows = rows_of(model, "first.weight")

    assert H.shape == (20, 20)
    assert named.metadata["parameter_names"] == ["first.weight"]
    kit.assert_close(kit.matrix(named), kit.matrix(H)[rows][:, rows])


def test_vectors_and_parameters_are_inverse(net, batch, kit):
    H = slq_torch.hessian(net, kit.mean_loss, batch)
    vector = torch.arange(H.shape[0], dtype=H.dtype)
    params = H.to_params(vector)

    assert {k: v.shape for k, v in params.items()} == {k: v.shape for k, v in net.named_parameters()}
    assert torch.equal(H.to_vector(params), vector)
    assert torch.equal(H.to_vector(dict(reversed(params.items()))), vector)
    assert torch.equal(H.to_vector(list(params.values())), vector)
    assert not H.to_vector(net.parameters()).requires_grad


def test_a_closure_with_a_list_gets_a_list_back():
    a, b = torch.ones(2, 3, requires_grad=True), torch.ones((), requires_grad=True)
    H = slq_torch.hessian(lambda: (a * b).sum(), [a, b])

    assert [tuple(p.shape) for p in H.to_params(torch.ones(7))] == [(2, 3), ()]


def test_shapes_and_names_that_do_not_fit_are_refused(net, batch, kit):
    H = slq_torch.hessian(net, kit.mean_loss, batch, params="0.*")

    with pytest.raises(ValueError, match=r"must have the shapes \[\(5, 4\), \(5,\)\], got \[\(5,\)\]"):
        H.to_vector([torch.ones(5)])
    with pytest.raises(ValueError, match=r"keys \['0.weight', '0.bias'\], got \['w'\]"):
        H.to_vector({"w": torch.ones(5)})
    with pytest.raises(ValueError, match=r"shape \(25,\), got \(24,\)"):
        H.to_params(torch.ones(24))


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        ("3.weight", ValueError, r"asks for '3.weight'.*The model has \['0.weight', '0.bias'"),
        ("0.bia", ValueError, "no parameter of the model"),
        ("1.*", ValueError, "no parameter of the model"),
        (torch.ones(2), ValueError, r"a tensor of shape \(2,\)"),
        (re.compile("conv"), ValueError, "asks for 'conv', which is no parameter"),
        ([nn.Linear(1, 1)], ValueError, "asks for the parameters of a Linear"),
        ([], ValueError, "selects no parameter"),
        (lambda name, p: False, ValueError, "selects no parameter"),
        ([3], TypeError, "names, globs, regular expressions, tensors or modules, got int"),
    ],
)
def test_a_selection_of_nothing_is_refused(params, kind, message, net, batch, kit):
    with pytest.raises(kind, match=message):
        slq_torch.hessian(net, kit.mean_loss, batch, params=params)


def test_a_glob_that_finds_frozen_parameters_only_says_so(net, batch, kit):
    net[0].requires_grad_(False)
    with pytest.raises(ValueError, match="matches frozen parameters only"):
        slq_torch.hessian(net, kit.mean_loss, batch, params="0.*")


def test_parameters_that_make_no_vector_are_refused(net, batch, kit):
    def message(model):
        with pytest.raises(ValueError, match=r".") as caught:
            slq_torch.hessian(model, kit.mean_loss, batch)
        return str(caught.value)

    assert "no parameter that requires grad" in message(nn.Tanh())
    assert "no parameter that requires grad" in message(nn.Linear(4, 2).requires_grad_(False))
    assert "'weight' is not initialised yet" in message(nn.LazyLinear(2))
    assert "real device, got torch.float32 on meta" in message(nn.Linear(4, 2, device="meta"))
    assert "or float64 on a real device, got torch.complex64" in message(nn.Linear(4, 2, dtype=torch.complex64))
    assert "share one dtype, got torch.float64 ('0.weight'), torch.float32 ('2.weight')" in message(
        nn.Sequential(net[0], net[1], net[2].float())
    )
    assert "share one device, got cpu ('0.weight'), meta ('1.weight')" in message(
        nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2, device="meta"))
    )
    assert "`params` is empty" in message(nn.ParameterList([torch.empty(0)]))


def test_tensors_of_a_closure_that_make_no_vector_are_refused():
    w = torch.ones(2, requires_grad=True)

    with pytest.raises(ValueError, match=r"entry 1 does not. Call .requires_grad_\(\)"):
        slq_torch.hessian(lambda: w.sum(), [w, torch.ones(2)])
    with pytest.raises(TypeError, match="must hold tensors, got str as entry 0"):
        slq_torch.hessian(lambda: w.sum(), ["w"])
    with pytest.raises(ValueError, match="same tensor twice"):
        slq_torch.hessian(lambda: w.sum(), [w, w])
    with pytest.raises(ValueError, match="`params` is empty"):
        slq_torch.hessian(lambda: w.sum(), [])
