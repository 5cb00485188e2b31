"""Every way to a product gives the dense Hessian; differences do within the noise that they tell."""

import dataclasses
import shutil
from contextlib import suppress

import pytest
import slq_torch
import torch
from slq_torch._engine import _ways

OLD = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5)
EXACT = ["graph", "graph-vmap", "forward-over-reverse", "linearize"]


KIT = ["layer norm", "group norm", "batch norm in train mode", "attention"]


@pytest.mark.parametrize("build", KIT)
@pytest.mark.parametrize("strategy", ["auto", *EXACT])
def test_every_strategy_gives_the_dense_hessian(strategy, build, kit):
    net, batch = kit.make(kit.networks[build]), kit.samples(5)
    H = slq_torch.hessian(net, kit.mean_loss, batch, strategy=strategy)
    X = kit.block(H.shape[0], 3)
    if build == "group norm" and strategy in ("graph-vmap", "linearize"):
        # torch's rule for vmap is broken here, and its trace spoils its own constants when it is run: not in torch 2.4,
        # which had no such rule.
        told = rf'"{strategy}", but torch refused: The size of tensor.*strategy="auto"'
        with suppress(ValueError) if strategy == "linearize" and OLD else pytest.raises(ValueError, match=told):
            H.matmat(X)
        return
    for _ in range(4):  # held from the third on
        kit.assert_close(H.matmat(X), kit.dense(net, kit.mean_loss, batch) @ X, rtol=1e-10)


@pytest.mark.parametrize("strategy", ["graph-vmap", "forward-over-reverse", "linearize"])
def test_a_strategy_that_was_asked_for_is_held_against_the_graph_once(strategy, net, kit, monkeypatch):
    ways = _ways.SecondDerivatives().ways()
    spoilt = tuple(
        dataclasses.replace(w, multiply=lambda *a, w=w: w.multiply(*a) * 1.01) if w.name == strategy else w
        for w in ways
    )
    monkeypatch.setattr(_ways.SecondDerivatives, "ways", lambda self: spoilt)
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(5), strategy=strategy)

    with pytest.raises(ValueError, match=f'`strategy` is "{strategy}", but it disagrees with the graph by 1.0e-02'):
        H.matmat(kit.block(H.shape[0], 2))


def test_a_trace_that_changes_when_it_is_run_again_is_refused(net, kit, monkeypatch):
    runs = []

    def fading(push, params, rows, keep):
        runs.append(1)
        return _ways._pushed(push, params, rows, keep) * (1.0 if len(runs) < 2 else 1.01)

    ways = _ways.SecondDerivatives().ways()
    spoilt = tuple(dataclasses.replace(w, multiply=fading) if w.name == "linearize" else w for w in ways)
    monkeypatch.setattr(_ways.SecondDerivatives, "ways", lambda self: spoilt)
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(5), strategy="linearize")

    with pytest.raises(ValueError, match="disagrees with the graph"):
        H.matmat(kit.block(H.shape[0], 2))


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


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a compiler")
def test_a_compiled_product_is_the_dense_one_and_what_cannot_be_compiled_is_refused(net, kit):
    batch = kit.samples(5)
    H = slq_torch.hessian(net, kit.mean_loss, batch, strategy="compile")
    X = kit.block(H.shape[0], 2)
    for _ in range(2):
        kit.assert_close(H.matmat(X), kit.dense(net, kit.mean_loss, batch) @ X)
    assert H.engine.disagreement["compile"] < 1e-12
    assert H.product_bytes(2) is None

    def breaking(model, batch):
        torch._dynamo.graph_break()
        return kit.mean_loss(model, batch)

    H = slq_torch.hessian(net, breaking, batch, strategy="compile")
    with pytest.raises(ValueError, match=r'`strategy` is "compile", but torch refused.*Use strategy="auto"'):
        H.matmat(X)


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
