"""The engine keeps the fastest way that agrees, holds what does not change, and says why."""

import dataclasses
import json

import pytest
import slq_torch
import torch
from slq_torch._engine import _measured, _ways
from torch import nn

import slq


def spoil(monkeypatch, names, change):
    """Change what strategies give."""
    ways = _ways.SecondDerivatives().ways()
    spoilt = tuple(dataclasses.replace(w, multiply=change(w.multiply)) if w.name in names else w for w in ways)
    monkeypatch.setattr(_ways.SecondDerivatives, "ways", lambda self: spoilt)


@pytest.mark.parametrize(("worth", "chosen"), [(1e9, "graph-vmap"), (0.0, "graph")])
def test_the_choice_is_made_once_for_each_width(worth, chosen, net, kit, monkeypatch):
    monkeypatch.setattr(_measured, "_WORTH", worth)
    monkeypatch.setattr(_measured, "_HOPELESS", 1e9)
    spoil(monkeypatch, {"fused", "forward-over-reverse"}, lambda right: lambda *a: right(*a) * 1.001)
    H = slq_torch.hessian(net, kit.mean_loss, [kit.samples(7), kit.samples(3, seed=2)])
    X = torch.eye(H.shape[0], dtype=H.dtype)
    first, second = H.matmat(X[:, :3]), H.matmat(X[:, :3])

    assert H.engine.strategies == {3: chosen}
    kit.assert_close(second, first, rtol=1e-12)
    H.matmat(X[:, :5])
    assert H.engine.strategies == {3: chosen, 5: chosen}
    assert chosen in repr(H.engine)


def test_a_way_that_disagrees_is_not_used(net, kit, monkeypatch):
    monkeypatch.setattr(_measured, "_WORTH", 1e9)
    spoil(monkeypatch, {"graph-vmap"}, lambda right: lambda *a: right(*a) * 1.001)
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    A = kit.matrix(H)

    assert "graph-vmap" not in H.engine.strategies.values()
    assert "disagrees with the graph by 1.0e-03" in H.engine.reasons["graph-vmap"]
    assert H.engine.disagreement["graph-vmap"] == pytest.approx(1e-3, rel=1e-6)
    kit.assert_close(A, kit.dense(net, kit.mean_loss, kit.samples(7)))


def test_running_out_of_memory_halves_the_chunk_and_ends_at_the_graph(net, kit, monkeypatch):
    batch = kit.samples(7)
    widths = []

    def hungry(right):
        def multiply(prepared, params, rows, keep):
            widths.append(len(rows))
            if len(rows) > 2:
                raise torch.OutOfMemoryError
            return right(prepared, params, rows, keep)

        return multiply

    spoil(monkeypatch, {"graph-vmap"}, hungry)
    H = slq_torch.hessian(net, kit.mean_loss, batch, strategy="graph-vmap")
    X = kit.block(H.shape[0], 8)
    kit.assert_close(H.matmat(X), kit.dense(net, kit.mean_loss, batch) @ X)

    assert (widths[0], widths[-4:]) == (8, [2, 2, 2, 2])
    assert "out of memory: 2 columns at once" in H.engine.notes


def test_running_out_of_memory_lets_go_of_held_graphs_first(net, kit, monkeypatch):
    calls = []

    def hungry(right):
        def multiply(*args):
            calls.append(1)
            if len(calls) == 3:
                raise torch.OutOfMemoryError
            return right(*args)

        return multiply

    spoil(monkeypatch, {"graph"}, hungry)
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7), strategy="graph")
    v = kit.block(H.shape[0], 1)
    first = H.matmat(v)
    H.matmat(v)
    assert H.engine.held == 1

    kit.assert_close(H.matmat(v), first, rtol=1e-12)
    assert H.engine.held == 0
    assert "no longer kept" in H.engine.notes[0]


def test_batch_norm_in_train_mode_does_not_keep_graphs_from_being_held(kit):
    net = kit.make(kit.networks["batch norm in train mode"])
    H = slq_torch.hessian(net, kit.mean_loss, [kit.samples(7), kit.samples(5, seed=2)], strategy="graph")
    v = kit.block(H.shape[0], 1)
    results = [H.matmat(v) for _ in range(4)]

    assert H.engine.held == 2
    kit.assert_close(results[-1], results[0], rtol=1e-12)


def test_graphs_are_held_from_the_second_product_on(net, kit):
    evaluations = []

    def loss(model, batch):
        evaluations.append(1)
        return kit.mean_loss(model, batch)

    H = slq_torch.hessian(net, loss, [kit.samples(7), kit.samples(3, seed=2)], strategy="graph")
    v = kit.block(H.shape[0], 1)
    results = [H.matmat(v) for _ in range(5)]

    assert len(evaluations) == 4  # the second product finds the losses anew
    assert H.engine.held == 2
    for result in results[1:]:
        assert torch.equal(result, results[0])


def test_loaders_that_make_new_tensors_are_recognised_by_their_values(net, kit):
    x, y = kit.samples(8)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    H = slq_torch.hessian(net, kit.mean_loss, loader, strategy="graph")
    for _ in range(4):
        kit.matrix(H)

    assert H.engine.held == 2
    kit.assert_close(kit.matrix(H), kit.dense(net, kit.mean_loss, (x, y)))


@pytest.mark.parametrize("change", ["parameter", "data of a parameter", "batch"])
def test_what_changes_later_is_noticed_though_graphs_are_held(change, net, kit):
    x, y = kit.samples(8)
    H = slq_torch.hessian(net, kit.mean_loss, (x, y))
    v = kit.block(H.shape[0], 1)
    for _ in range(4):
        H.matmat(v)
    with torch.no_grad():
        if change == "parameter":
            net[0].weight.mul_(1.01)
        elif change == "batch":
            x.mul_(1.01)
        else:
            net[0].weight.data.mul_(1.01)

    with pytest.raises(ValueError, match="The loss is not the same at each pass"):
        H.matmat(v)


@pytest.mark.parametrize("make", ["hessian", "ggn", "residual", "fisher"])
def test_state_that_nobody_sees_is_noticed_within_sixteen_products(make, net, kit):
    schedule = [1.0]

    def loss(model, batch):
        return kit.mean_loss(model, batch) * schedule[0]

    A = getattr(slq_torch, make)(net, loss, kit.samples(8), strategy="graph")
    v = kit.block(A.shape[0], 1)
    for _ in range(20):
        A.matmat(v)
    schedule[0] = 1.001

    def sixteen():
        for _ in range(16):
            A.matmat(v)

    with pytest.raises(ValueError, match="The loss is not the same at each pass"):
        sixteen()


def test_nothing_is_held_where_there_is_no_room(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(8), memory=0)
    for _ in range(4):
        H.matmat(kit.block(H.shape[0], 1))

    assert H.engine.held == 0


def test_a_trace_is_tried_once_products_have_cost_more(net, kit, monkeypatch):
    for name in ("_PATIENCE", "_PATIENCE_OF_IMPORT"):
        monkeypatch.setattr(_measured, name, 0.0)
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(8))
    v = kit.block(H.shape[0], 2)
    results = [H.matmat(v) for _ in range(5)]

    assert 2 in H.engine.seconds["linearize"]
    assert H.engine.disagreement["linearize"] < 1e-12
    for result in results:
        kit.assert_close(result, results[0], rtol=1e-12)


def test_close_ways_run_again_at_the_first_product_and_never_later(net, kit, monkeypatch):
    monkeypatch.setattr(_measured, "_CLOSE", 1e9)
    monkeypatch.setattr(_measured, "_HOPELESS", 1e9)
    calls = []

    def counted(right):
        def multiply(*args):
            calls.append(right.__name__)
            return right(*args)

        return multiply

    spoil(monkeypatch, {"fused", "graph-vmap"}, counted)
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(8))
    v = kit.block(H.shape[0], 2)
    H.matmat(v)
    assert min(calls.count("_fused_one_by_one"), calls.count("at_once")) >= 3

    second, chosen = H.matmat(v), dict(H.engine.strategies)
    calls.clear()
    assert torch.equal(H.matmat(v), second)
    assert len(calls) <= 1
    assert H.engine.strategies == chosen


class Number(torch.autograd.Function):
    """x^3 by a backward that asks for a number, which vmap has not."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return _Square.apply(x) * 3 * g


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g * (1 if float(g.sum()) < float("inf") else 2)


def test_an_operation_that_vmap_cannot_take_goes_by_columns(kit):
    model = nn.ParameterDict({"w": nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))})
    H = slq_torch.hessian(model, lambda m, x: (Number.apply(m["w"]) * x).sum(), torch.ones(2))

    kit.assert_close(kit.matrix(H), torch.diag(torch.tensor([6.0, 12.0], dtype=torch.float64)))
    assert H.engine.strategies[2] in ("graph", "fused")  # whichever was faster: both go by columns
    assert "torch refused" in H.engine.reasons["graph-vmap"]


def test_metadata_tell_the_engine_as_json(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(8))
    assert "no product yet" in repr(H.engine)
    kit.matrix(H)
    facts = json.loads(json.dumps(H.metadata["engine"]))

    assert facts["graph_bytes"] > 0
    assert list(facts["strategies"]) == [str(H.shape[0])]


def test_half_precision_inside_the_loss_is_told_as_noise(kit):
    net = kit.make(kit.networks["linear and tanh"]).float()
    x, y = kit.samples(8)

    def loss(model, batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return kit.mean_loss(model, batch)

    H = slq_torch.hessian(net, loss, (x.float(), y))
    Y = H.matmat(kit.block(H.shape[0], 2, dtype=torch.float32))
    exact = slq_torch.hessian(net, kit.mean_loss, (x.float(), y)).matmat(kit.block(H.shape[0], 2, torch.float32))

    assert Y.dtype == torch.float32
    assert H.noise == torch.finfo(torch.bfloat16).eps
    assert float((Y - exact).norm() / exact.norm()) < 8 * H.noise


def test_the_state_is_as_before_after_every_strategy(kit):
    for strategy in ("graph", "graph-vmap", "forward-over-reverse", "linearize", "finite-difference"):
        net = kit.make(kit.networks["batch norm in train mode"])
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        H = slq_torch.hessian(net, kit.mean_loss, kit.samples(8), strategy=strategy)
        for _ in range(3):
            H.matmat(kit.block(H.shape[0], 2))
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, before[name]), (strategy, name)
        assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_a_spectrum_knows_the_noise_and_the_samples_that_the_first_product_told(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(12), strategy="finite-difference")
    s = slq.spectrum(H, probes=2, steps=5, rng=0)
    assert s.noise >= 0.5 * H.noise * abs(s.nodes).max()
    assert H.noise > 0
    assert s.metadata["samples"] == 12
