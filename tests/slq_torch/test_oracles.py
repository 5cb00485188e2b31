"""Every operator on every kind of network, by every strategy, against dense matrices from torch's own derivatives."""

from functools import cache

import pytest
import slq_torch
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


class Residual(nn.Module):
    """Two convolutions with batch norm, and a shortcut."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 2, 2, padding=1), nn.BatchNorm2d(2)
        self.conv2, self.norm2 = nn.Conv2d(2, 1, 2), nn.BatchNorm2d(1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = x.view(-1, 1, 2, 2)
        y = self.norm2(self.conv2(functional.softplus(self.norm1(self.conv1(x)))))
        return self.head((x + y).flatten(1))


class Transformer(nn.Module):
    """One layer with attention by whatever kernel torch chooses, and layer norm."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(1, 12), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.inner(x[..., None]).unflatten(-1, (6, 2)).transpose(1, 2).chunk(3, dim=1)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.outer(self.norm(y.transpose(1, 2).flatten(2))).mean(dim=1)


class Tied(nn.Module):
    """One matrix used twice, under two names."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.outer.weight = self.inner.weight

    def forward(self, x):
        return self.head(self.outer(self.inner(x).tanh()))


class Words(nn.Module):
    """An embedding of which most rows are not used, and of the inputs themselves a little."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head((self.words((x > 0).long()).mean(dim=1) + x).tanh())


NETWORKS = {
    "mlp": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.GELU(), nn.Flatten(), nn.Linear(2, 3)
    ),
    "residual": Residual,
    "transformer": Transformer,
    "tied": Tied,
    "embedding": Words,
}
FIRST = {"mlp": "0", "cnn": "1", "residual": "conv1", "transformer": "inner", "tied": "inner", "embedding": "words"}

JACOBIAN = ("auto", "graph", "graph-vmap", "forward", "forward-over-reverse")
DOUBLE = ("auto", "graph", "graph-vmap")
OPERATORS = {
    "hessian": ("auto", "graph", "graph-vmap", "forward-over-reverse", "linearize"),
    "ggn": (*JACOBIAN, "linearize"),
    "exact fisher": JACOBIAN,
    "monte-carlo fisher": JACOBIAN,
    "empirical fisher": JACOBIAN,
    "covariance": JACOBIAN,
    "residual": DOUBLE,
    "split": DOUBLE,
    "classes": ("auto", "graph", "forward"),
    "layers": DOUBLE,
    "inputs": DOUBLE,
}


def loss(model, batch):
    """Average the cross entropy."""
    return functional.cross_entropy(model(batch[0]), batch[1])


def data():
    """Draw seven samples of width 4 in three classes."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (7,), generator=generator)


@cache
def network(name):
    """Build a network in eval mode, with running statistics that are not those of a new one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NETWORKS[name]().double()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.add_(0.3)
    return model.eval()


@cache
def dense(name):
    """Differentiate with torch.autograd.functional, two times backwards and with the math kernel."""
    model, (x, y) = network(name), data()
    named = dict(model.named_parameters())
    theta = torch.cat([p.detach().reshape(-1) for p in named.values()])

    def outputs(vector, inputs=x):
        cuts = vector.split([p.numel() for p in named.values()])
        new = {key: c.reshape(p.shape) for (key, p), c in zip(named.items(), cuts, strict=True)}
        return torch.func.functional_call(model, new, inputs)

    each = lambda vector: functional.cross_entropy(outputs(vector), y, reduction="none")  # noqa: E731
    with sdpa_kernel(SDPBackend.MATH):
        z = outputs(theta).detach()
        J = torch.autograd.functional.jacobian(outputs, theta).flatten(0, 1)
        bend = torch.autograd.functional.hessian(lambda t: functional.cross_entropy(t.view_as(z), y), z.flatten())
        H = torch.autograd.functional.hessian(lambda t: each(t).mean(), theta)
        g = torch.autograd.functional.jacobian(each, theta)
        by_inputs = torch.autograd.functional.hessian(
            lambda t: functional.cross_entropy(outputs(theta, t.view_as(x)), y), x.flatten()
        )
    G = J.T @ bend @ J
    size = sum(p.numel() for key, p in named.items() if key.startswith(FIRST[name] + "."))
    start = next(  # parameters are in the model's order, and a block's stand together
        sum(p.numel() for p in list(named.values())[:i]) for i, key in enumerate(named) if key.startswith(FIRST[name])
    )
    return {
        "hessian": H,
        "ggn": G,
        "exact fisher": G,
        "empirical fisher": g.T @ g / 7,
        "covariance": g.T @ g / 7 - torch.outer(g.mean(0), g.mean(0)),
        "residual": H - G,
        "split": torch.cat([G, H - G]),
        "classes": G,
        "layers": H[start : start + size, start : start + size],
        "inputs": by_inputs,
    }


def product(operator, name, batches, **options):
    """Return n and a function X -> product."""
    model = network(name)
    if operator == "split":
        parts = slq_torch.split(model, loss, batches, **options)
        return parts.ggn.shape[0], lambda X: torch.cat(parts.matmat(X))
    if operator == "classes":
        four = slq_torch.class_decomposition(model, loss, batches, **options)
        four = four.between, four.cross, four.within, four.own
        return four[0].shape[0], lambda X: sum(part.matmat(X) for part in four)
    if operator == "layers":
        layers = slq_torch.layers(model, loss, batches, blocks={"first": FIRST[name] + ".*", "all": "*"}, **options)
        n = layers["first"].shape[0]
        whole = torch.ones(layers["all"].shape[0], 2, dtype=torch.float64)
        return n, lambda X: layers.products({"all": whole, "first": X})["first"]
    if operator == "inputs":
        A = slq_torch.input_hessian(model, loss, data(), **options)
    elif operator == "covariance":
        A = slq_torch.gradient_covariance(model, loss, batches, **options)
    elif operator.endswith("fisher"):
        kind = operator.removesuffix(" fisher")
        rng = {"rng": 3, "mc_samples": 2} if kind == "monte-carlo" else {}
        A = slq_torch.fisher(model, loss, batches, kind=kind, **rng, **options)
    else:
        A = getattr(slq_torch, operator)(model, loss, batches, **options)
    return A.shape[0], A.matmat


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("operator", "strategy"), [(operator, strategy) for operator, ways in OPERATORS.items() for strategy in ways]
)
def test_products_are_those_of_the_dense_matrix(operator, strategy, name, kit):
    if strategy == "linearize" and name in ("mlp", "tied", "embedding"):
        pytest.skip("tracing takes seconds; the harder networks tell more")
    n, multiply = product(operator, name, data(), strategy=strategy)
    X = kit.block(n, 3)
    if operator == "monte-carlo fisher":  # of labels that depend on the seed alone: any other way must see the same
        expected = product(operator, name, data(), strategy="graph", memory=0)[1](X)
    else:
        expected = dense(name)[operator] @ X
    products = [multiply(X) for _ in range(4)]  # graphs are held from the third on

    for Y in products:
        kit.assert_close(Y, expected, rtol=1e-10)
    assert torch.equal(products[3], products[2])
    kit.assert_close(multiply(X[:, :1]), expected[:, :1].contiguous(), rtol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("operator", [operator for operator in OPERATORS if operator != "inputs"])
def test_how_the_data_are_cut_changes_nothing(operator, name, kit):
    x, y = data()
    n, whole = product(operator, name, (x, y), strategy="graph")
    X = kit.block(n, 2)
    ragged = [(x[a:b], y[a:b]) for a, b in ((0, 3), (3, 4), (4, 7))]

    for options in ({}, {"microbatch": 2}, {"memory": 0, "chunk": 1}):
        multiply = product(operator, name, ragged, **options)[1]
        for _ in range(3):
            kit.assert_close(multiply(X), whole(X), rtol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("operator", [operator for operator in OPERATORS if operator != "split"])
def test_matrices_are_symmetric_and_the_users_things_as_before(operator, name, kit):
    model = network(name)
    n, multiply = product(operator, name, data())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flags, state = [m.training for m in model.modules()], torch.get_rng_state()
    A = multiply(torch.eye(n, dtype=torch.float64))

    kit.assert_close(A, A.T.clone(), rtol=1e-12)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    if operator not in ("hessian", "residual", "layers", "inputs"):
        values = torch.linalg.eigvalsh(A)
        assert values[0] > -1e-13 * values[-1]
