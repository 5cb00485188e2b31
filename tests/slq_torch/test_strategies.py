"""Every way to a product gives the dense Hessian; differences do within the noise that they tell."""

import shutil

import pytest
import slq_torch
import torch
from slq_torch._strategies import NAMES
from torch import nn
from torch.nn import functional

EXACT = [name for name in NAMES if name not in ("compile", "finite-difference")]


class Residual(nn.Module):
    """Two convolutions with batch norm, and a shortcut."""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2).eval()
        self.conv2, self.norm2 = nn.Conv2d(2, 1, 3, padding=1), nn.BatchNorm2d(1).eval()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = x.view(-1, 1, 2, 2)
        y = self.norm2(self.conv2(functional.softplus(self.norm1(self.conv1(x)))))
        return self.head((x + y).flatten(1))


class Tied(nn.Module):
    """One matrix used twice, under two names."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 4)
        self.outer.weight = self.inner.weight
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.outer(self.inner(x).tanh()))


class Words(nn.Module):
    """An embedding of which most rows are not used."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.words((x > 0).long()).tanh().mean(dim=1))


class Fused(nn.Module):
    """Attention by whatever kernel torch chooses."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(1, 12), nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x):
        q, k, v = self.inner(x[..., None]).unflatten(-1, (6, 2)).transpose(1, 2).chunk(3, dim=1)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.outer(self.norm(y.transpose(1, 2).flatten(2))).mean(dim=1)


MORE = {"residual": Residual, "tied": Tied, "embedding": Words, "fused attention": Fused}


KIT = [
    "linear and tanh",
    "layer norm",
    "group norm",
    "batch norm in eval mode",
    "batch norm in train mode",
    "convolution",
    "attention",
]


@pytest.mark.parametrize("build", [*MORE, *KIT])
@pytest.mark.parametrize("strategy", ["auto", *EXACT])
def test_every_strategy_gives_the_dense_hessian(strategy, build, kit):
    net = kit.make(MORE.get(build) or kit.networks[build])
    batch = kit.samples(5)
    if (strategy, build) == ("linearize", "group norm"):
        pytest.skip("torch's trace of this module runs once only under vmap")
    H = slq_torch.hessian(net, kit.mean_loss, batch, strategy=strategy)
    X = kit.block(H.shape[0], 3)
    try:
        Y = H.matmat(X)
    except (NotImplementedError, RuntimeError) as error:
        if build == "group norm" or "vmap" in str(error):
            pytest.skip("torch has no rule of vmap for this module; products go by columns")
        raise
    reference = slq_torch.hessian(net, kit.mean_loss, batch, strategy="graph", memory=0)
    kit.assert_close(Y, reference.matmat(X), rtol=1e-10)
    kit.assert_close(H.matmat(X), Y, rtol=1e-12)
    kit.assert_close(H.matmat(X), Y, rtol=1e-12)  # held from here on
    if build != "fused attention":  # torch's own dense Hessian cannot pass it
        kit.assert_close(Y, kit.dense(net, kit.mean_loss, batch) @ X, rtol=1e-10)


@pytest.mark.parametrize("strategy", EXACT)
def test_ragged_batches_and_sums_are_weighted(strategy, net, kit):
    batches = [kit.samples(7), kit.samples(3, seed=2)]
    whole = tuple(torch.cat(parts) for parts in zip(*batches, strict=True))
    for loss in (kit.mean_loss, kit.summed_loss):
        H = slq_torch.hessian(net, loss, batches, strategy=strategy)
        kit.assert_close(kit.matrix(H), kit.dense(net, kit.mean_loss, whole))


def test_differences_are_within_their_noise(net, kit):
    batch = kit.samples(7)
    H = slq_torch.hessian(net, kit.mean_loss, batch, strategy="finite-difference")
    before = [p.detach().clone() for p in net.parameters()]
    X = kit.block(H.shape[0], 3)
    exact = kit.dense(net, kit.mean_loss, batch) @ X
    errors = torch.linalg.vector_norm(H.matmat(X) - exact, dim=0) / torch.linalg.vector_norm(exact, dim=0)

    assert 0 < H.noise < 1e-7
    assert bool((errors < 5 * H.noise).all())
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    scaled = H.matmat(X * 1e-6) / 1e-6
    kit.assert_close(scaled, H.matmat(X), rtol=1e-6)
    assert not H.matmat(torch.zeros_like(X)).any()


class Once(torch.autograd.Function):
    """x^3 with a backward that cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


def test_differences_need_first_derivatives_only():
    w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    H = slq_torch.hessian(lambda: Once.apply(w).sum(), w, strategy="finite-difference")
    Y = H.matmat(torch.eye(2, dtype=torch.float64))

    torch.testing.assert_close(Y, torch.diag(6 * w.detach()), rtol=1e-7, atol=1e-7)
    assert 0 < H.noise < 1e-6


@pytest.mark.parametrize("strategy", ["forward-over-reverse", "linearize", "compile"])
def test_closures_have_no_functional_form(strategy):
    w = torch.ones(2, requires_grad=True)
    H = slq_torch.hessian(lambda: (w**3).sum(), w, strategy=strategy)

    with pytest.raises(ValueError, match="a closure closes over its own"):
        H @ torch.ones(2)


def test_without_a_compiler_compile_says_so(net, kit, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(4), strategy="compile")

    with pytest.raises(ValueError, match=r"no C\+\+ compiler was found"):
        kit.matrix(H)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "fast"}, "`strategy` must be one of 'auto', 'graph'"),
        ({"chunk": 0}, "`chunk` must be a positive integer"),
        ({"microbatch": True}, "`microbatch` must be a positive integer"),
        ({"memory": -1}, "`memory` must be a number of bytes"),
    ],
)
def test_wrong_options_are_named(options, message, net, kit):
    with pytest.raises(ValueError, match=message):
        slq_torch.hessian(net, kit.mean_loss, kit.samples(4), **options)


def test_chunks_change_nothing(net, kit):
    whole = slq_torch.hessian(net, kit.mean_loss, kit.samples(4), strategy="graph")
    for strategy in ("graph-vmap", "forward-over-reverse"):
        H = slq_torch.hessian(net, kit.mean_loss, kit.samples(4), strategy=strategy, chunk=2)
        X = kit.block(H.shape[0], 5)
        for _ in range(3):
            kit.assert_close(H.matmat(X), whole.matmat(X), rtol=1e-12)
