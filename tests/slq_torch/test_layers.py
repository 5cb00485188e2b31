"""Blocks of a Hessian: the blocks of the dense matrix, found by many kinds of selection, in one pass for all."""

import re
from dataclasses import dataclass

import pytest
import slq_torch
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

import slq


@pytest.fixture
def batch(kit):
    return kit.samples(7)


def starts(model):
    """Give the position of each parameter's first entry in the vector of all."""
    sizes = [p.numel() for p in model.parameters()]
    return {name: sum(sizes[:i]) for i, (name, _) in enumerate(model.named_parameters())}


def block_of(model, dense, names):
    """Cut the block of some parameters out of the dense matrix."""
    first, shapes = starts(model), dict(model.named_parameters())
    index = torch.cat([torch.arange(first[n], first[n] + shapes[n].numel()) for n in names])
    return dense[index][:, index]


def test_each_block_is_that_of_the_dense_hessian(any_net, batch, kit):
    dense = kit.dense(any_net, kit.mean_loss, batch)
    for name, H in slq_torch.layers(any_net, kit.mean_loss, batch).items():
        expected = block_of(any_net, dense, H.metadata["parameter_names"])
        assert all(n.rpartition(".")[0] == name for n in H.metadata["parameter_names"])
        kit.assert_close(kit.matrix(H), expected)


def test_the_products_of_all_blocks_in_one_pass_are_those_of_each_alone(any_net, batch, kit):
    blocks = slq_torch.layers(any_net, kit.mean_loss, batch)
    columns = {name: kit.block(H.shape[0], width=1 + i % 3) for i, (name, H) in enumerate(blocks.items())}
    together = blocks.products(columns)

    assert list(together) == list(blocks)
    for name, H in blocks.items():
        kit.assert_close(together[name], H.matmat(columns[name]))
        assert together[name].T.is_contiguous()
        assert not together[name].requires_grad


def test_products_of_some_blocks_leave_the_others_out(net, batch, kit):
    blocks = slq_torch.layers(net, kit.mean_loss, batch)

    assert list(blocks.products({"2": kit.block(12)})) == ["2"]
    assert blocks.products({}) == {}


def test_the_data_are_read_once_per_step_for_all_blocks(net, batch, kit):
    calls = []

    def counted(model, batch):
        calls.append(len(batch[0]))
        return kit.mean_loss(model, batch)

    x, y = batch
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]
    s = slq_torch.layers(net, counted, batches, memory=0).spectra(probes=2, steps=6, rng=0)

    assert s.passes == 7
    assert calls == [4, 3] * 7
    blocks = slq_torch.layers(net, counted, batches)
    blocks.spectra(probes=2, steps=6, rng=0)
    assert calls == [4, 3] * 9  # from the third product on, the graphs are there
    assert blocks.engine.held == 2


@pytest.mark.parametrize("loss", ["mean_loss", "summed_loss"])
def test_ragged_batches_weigh_as_one(loss, net, kit):
    x, y = kit.samples(9)
    parts = [(x[:5], y[:5]), (x[5:7], y[5:7]), (x[7:], y[7:])]
    whole = slq_torch.layers(net, kit.mean_loss, (x, y))
    ragged = slq_torch.layers(net, getattr(kit, loss), parts)
    columns = {name: kit.block(H.shape[0]) for name, H in whole.items()}

    expected = whole.products(columns)
    for name, product in ragged.products(columns).items():
        kit.assert_close(product, expected[name])


def test_spectra_are_those_of_each_block_alone(net, batch, kit):
    blocks = slq_torch.layers(net, kit.mean_loss, batch)
    together = blocks.spectra(rng=1)

    dense = kit.dense(net, kit.mean_loss, batch)
    for name, H in blocks.items():
        exact = torch.linalg.eigvalsh(block_of(net, dense, H.metadata["parameter_names"]))
        alone = slq.spectrum(H, rng=1)
        assert together[name].nodes == pytest.approx(alone.nodes, abs=1e-10)
        low, high = together[name].edges
        assert low <= exact[0] <= exact[-1] <= high
        trace = together[name].trace()
        assert trace.low <= exact.sum() <= trace.high
    assert isinstance(together, slq.Spectra)


def test_the_traces_of_all_blocks_add_up_to_that_of_the_hessian(net, batch, kit):
    s = slq_torch.layers(net, kit.mean_loss, batch).spectra(rng=0, steps=40, probes=2)

    total = sum(s[name].n * (s[name].weights * s[name].nodes).sum(axis=1) for name in s)  # two estimates
    assert total.mean() == pytest.approx(float(kit.dense(net, kit.mean_loss, batch).trace()), rel=1.0)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (None, {"0": 25, "2": 12}),
        ("?", {"0": 25, "2": 12}),
        ("*.weight", {"0.weight": 20, "2.weight": 10}),
        ("0", {"0": 25}),
        (["2", "0.bias"], {"2": 12, "0.bias": 5}),
        (re.compile("weight|bias"), {"weight": 30, "bias": 7}),
        (re.compile(r"^\d\.weight"), {"0.weight": 20, "2.weight": 10}),
        (lambda name, p: f"{p.ndim}-d", {"2-d": 30, "1-d": 7}),
        (lambda name, p: "first" if name[0] == "0" else None, {"first": 25}),
        ({"all": "*", "biases": re.compile("bias$"), "last": ["2.weight"]}, {"all": 37, "biases": 7, "last": 10}),
    ],
)
def test_blocks_can_be_named_in_many_ways(blocks, expected, net, batch, kit):
    found = slq_torch.layers(net, kit.mean_loss, batch, blocks=blocks)

    assert {name: H.shape[0] for name, H in found.items()} == expected


def test_modules_are_blocks(net, batch, kit):
    sizes = [
        {name: H.shape[0] for name, H in slq_torch.layers(net, kit.mean_loss, batch, blocks=blocks).items()}
        for blocks in (net[0], [net[2], net[0]], net, nn.ModuleList([net[0], net[2]]), {"mine": net[2]})
    ]

    assert sizes == [{"0": 25}, {"2": 12, "0": 25}, {"0": 25, "2": 12}, {"0": 25, "2": 12}, {"mine": 12}]


def test_a_glob_takes_the_outermost_module_with_all_that_is_inside(batch, kit):
    model = kit.make(lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)), nn.Linear(3, 2)))

    assert {k: H.shape[0] for k, H in slq_torch.layers(model, kit.mean_loss, batch, blocks="*").items()} == {
        "0": 27,
        "1": 8,
    }
    assert list(slq_torch.layers(model, kit.mean_loss, batch)) == ["0.0", "0.2", "1"]


def test_parameters_of_the_model_itself_tied_and_frozen_ones(batch, kit):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.first, self.second, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
            self.second.weight = self.first.weight
            self.out.bias.requires_grad_(False)

        def forward(self, x):
            return self.out(self.second(self.first(x).tanh()).tanh()) * self.scale

    blocks = slq_torch.layers(kit.make(Tied), kit.mean_loss, batch)

    assert {name: H.shape[0] for name, H in blocks.items()} == {"(model)": 1, "first": 20, "second": 4, "out": 8}


@pytest.mark.parametrize(
    ("blocks", "kind", "message"),
    [
        ("3.*", ValueError, r"asks for '3.\*', which fits no module.*\['0', '2'\]"),
        (re.compile("conv"), ValueError, "asks for 'conv'"),
        (nn.Linear(1, 1), ValueError, "asks for a Linear"),
        (lambda name, p: None, ValueError, "asks for a function"),
        (lambda name, p: 3, TypeError, r"must return a block's name or None, got 3 for '0.weight'"),
        ([3], TypeError, "names, globs, regular expressions or modules, got int"),
        ([], ValueError, "makes no block"),
        ({}, ValueError, "makes no block"),
        ({"none": "9.weight"}, ValueError, "asks for '9.weight'"),
    ],
)
def test_blocks_of_nothing_are_refused(blocks, kind, message, net, batch, kit):
    with pytest.raises(kind, match=message):
        slq_torch.layers(net, kit.mean_loss, batch, blocks=blocks)


def test_what_the_hessian_refuses_the_layers_refuse(net, batch, kit):
    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module"):
        slq_torch.layers(lambda x: x, kit.mean_loss, batch)
    with pytest.raises(TypeError, match="`data` is missing"):
        slq_torch.layers(net, kit.mean_loss)
    with pytest.raises(ValueError, match=r"`X` must have shape \(25, b\)"):
        slq_torch.layers(net, kit.mean_loss, batch).products({"0": torch.ones(3, 1)})
    with pytest.raises(KeyError):
        slq_torch.layers(net, kit.mean_loss, batch).products({"1": torch.ones(3, 1)})


def test_a_model_that_changes_between_passes_stops_all_with_what_was_done(net, batch, kit):
    def drifting(model, batch, calls=[]):  # noqa: B006
        calls.append(1)
        return kit.mean_loss(model, batch) * (1.0 if len(calls) < 5 else 1.1)

    with pytest.raises(slq.RunError, match="not the same at each pass") as caught:
        slq_torch.layers(net, drifting, batch, memory=0).spectra(probes=1, steps=8, rng=0)

    assert {name: s.steps for name, s in caught.value.partial.items()} == {"0": 4, "2": 4}


def test_the_model_is_left_as_it_was(net, batch, kit):
    net.train()
    before = {name: p.clone() for name, p in net.named_parameters()}
    net[0].weight.grad = torch.ones_like(net[0].weight)
    net[2].bias.requires_grad_(False)
    state = torch.get_rng_state()
    slq_torch.layers(net, kit.mean_loss, batch, mode="eval").spectra(probes=1, steps=4, rng=0)

    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert net[2].weight.grad is None
    assert [p.requires_grad for p in net.parameters()] == [True, True, True, False]
    assert all(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_fused_attention_is_exchanged_for_kernels_that_can_be_differentiated_twice(kit):
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(4, 12), nn.Linear(4, 2)

        def forward(self, x):
            q, k, v = (t[:, None] for t in self.inner(x[:, None] * torch.ones(3, 1).to(x)).split(4, dim=-1))
            return self.outer(functional.scaled_dot_product_attention(q, k, v)[:, 0].mean(1))

    net, (x, y) = kit.make(Fused), kit.samples(5)
    blocks = slq_torch.layers(net, kit.mean_loss, (x, y))
    products = blocks.products({name: torch.eye(H.shape[0], dtype=torch.float64) for name, H in blocks.items()})
    around = slq_torch.input_hessian(net, kit.mean_loss, (x, y))

    with sdpa_kernel(SDPBackend.MATH):
        dense = kit.dense(net, kit.mean_loss, (x, y))
    kit.assert_close(products["inner"], dense[:60, :60])
    kit.assert_close(products["outer"], dense[60:, 60:])
    assert kit.matrix(around).isfinite().all()
    assert "math kernel" in around.engine.notes[0]
    assert "math kernel" in blocks.engine.notes[0]


def test_half_precision_has_float32_vectors(net, kit):
    x, y = kit.samples(7)
    blocks = slq_torch.layers(net.bfloat16(), kit.mean_loss, (x.bfloat16(), y))
    products = blocks.products({name: torch.ones(H.shape[0], 1) for name, H in blocks.items()})

    assert {product.dtype for product in products.values()} == {torch.float32}


def test_a_closure_has_blocks_by_name(kit):
    a = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    blocks = slq_torch.layers(lambda: (a**3).sum() * b.sum(), blocks={"a": a, "both": [a, b]})

    assert {name: H.shape[0] for name, H in blocks.items()} == {"a": 2, "both": 3}
    kit.assert_close(kit.matrix(blocks["a"]), torch.diag(18 * a.detach()))
    products = blocks.products({name: torch.eye(H.shape[0], dtype=torch.float64) for name, H in blocks.items()})
    kit.assert_close(products["both"], kit.matrix(blocks["both"]))
    with pytest.raises(TypeError, match="`blocks` of a closure must be a mapping"):
        slq_torch.layers(lambda: (a**3).sum())


class Encoding:
    """A batch with the surface of a Hugging Face BatchEncoding: keys, items by name, attributes; no Mapping."""

    def __init__(self, **fields):
        self.data = fields

    def __getitem__(self, key):
        return self.data[key]

    def __getattr__(self, key):
        if key == "data" or key not in self.data:
            raise AttributeError(key)
        return self.data[key]

    def keys(self):
        return self.data.keys()

    def __iter__(self):
        return iter(self.data)


@dataclass
class Sample:
    x: torch.Tensor
    y: torch.Tensor


BATCHES = {
    "tuple": (lambda x, y: (x, y), lambda m, b: (m(b[0]), b[1])),
    "nested tuple": (lambda x, y: ((x, x.mean(1)), y), lambda m, b: (m(b[0][0]), b[1])),
    "dict": (lambda x, y: {"x": x, "y": y}, lambda m, b: (m(b["x"]), b["y"])),
    "dataclass": (Sample, lambda m, b: (m(b.x), b.y)),
    "encoding": (lambda x, y: Encoding(input=x, labels=y), lambda m, b: (m(**{"input": b["input"]}), b.labels)),
}


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("several", [False, True], ids=["one batch", "ragged batches"])
def test_batches_of_every_kind_give_the_same_hessian_and_layers(kind, several, net, kit):
    make, read = BATCHES[kind]
    x, y = kit.samples(7)
    dense = kit.dense(net, kit.mean_loss, (x, y))
    data = [make(x[:3], y[:3]), make(x[3:], y[3:])] if several else make(x, y)

    def loss(model, batch):
        output, labels = read(model, batch)
        return functional.cross_entropy(output, labels)

    blocks = slq_torch.layers(net, loss, data)
    products = blocks.products({name: torch.eye(H.shape[0], dtype=torch.float64) for name, H in blocks.items()})

    kit.assert_close(kit.matrix(slq_torch.hessian(net, loss, data)), dense)
    kit.assert_close(products["0"], dense[:25, :25])
    kit.assert_close(products["2"], dense[25:, 25:])


def test_a_physics_informed_loss_differentiates_by_its_inputs_and_has_no_labels(kit):
    net = kit.make(lambda: nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1)))
    points = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]

    def residual(model, x):
        """Solve u'' = -sin x with u(0) = 0."""
        x = x.detach().requires_grad_()
        u = model(x)
        (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (ddu,) = torch.autograd.grad(du.sum(), x, create_graph=True)
        return (ddu + x.sin()).square().mean() + model(torch.zeros_like(x[:1])).square().sum()

    dense = kit.dense(net, residual, points)
    blocks = slq_torch.layers(net, residual, points)
    closure = slq_torch.hessian(lambda: residual(net, points), list(net.parameters()))

    kit.assert_close(kit.matrix(slq_torch.hessian(net, residual, points)), dense)
    kit.assert_close(kit.matrix(closure), dense)
    kit.assert_close(kit.matrix(blocks["0"]), dense[:12, :12])
    assert blocks.spectra(rng=0)["2"].n == 7
