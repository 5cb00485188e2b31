"""Peak memory is told as the allocator sees it; where it runs out, batches are cut and the product is the same."""

import gc
import importlib.util
import sys
from pathlib import Path

import pytest
import slq_torch
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import slq

NETWORKS = Path(__file__).parents[2] / "benchmarks" / "_networks.py"
SAMPLES = {"mlp": 256, "cnn": 32, "resnet20": 8, "gpt": 2}


@pytest.fixture(scope="module")
def networks():
    """Give the networks of the benchmarks."""
    spec = importlib.util.spec_from_file_location("_networks_for_memory", NETWORKS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def allocated(run):
    """Return the peak of what torch's allocator gives out meanwhile."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "strategy", "name"),
    [
        *(("hessian", "graph", name) for name in SAMPLES),
        ("hessian", "graph-vmap", "cnn"),
        ("hessian", "forward-over-reverse", "gpt"),
        ("ggn", "auto", "mlp"),
    ],
)
def test_the_peak_is_told_within_fifteen_per_cent(make, strategy, name, networks):
    problem = networks.build(name)
    batches = [(x[: SAMPLES[name]], y[: SAMPLES[name]]) for x, y in problem.batches]
    A = getattr(slq_torch, make)(problem.model, networks.loss, batches, strategy=strategy)
    X = torch.randn(3, problem.size).T
    A.matmat(X)  # tries the ways; the second product makes what is held, and the third uses it
    measured = allocated(lambda: [None for _ in range(2) if A.matmat(X) is None])

    assert A.product_bytes(3) == pytest.approx(measured, rel=0.15)


def test_plans_tell_the_memory_of_products(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(200))
    plan = slq.plan(H, probes=3, steps=10)

    assert plan.product_bytes == H.product_bytes(plan.batch)
    assert plan.product_bytes > H.engine.graph_bytes
    assert "for a product" in repr(plan)


def test_low_rank_parts_tell_theirs(net, kit):
    parts = slq_torch.class_decomposition(net, kit.mean_loss, kit.samples(20))

    assert parts.between.engine is None
    assert parts.between.product_bytes(2) >= 8 * net[0].weight.numel() * 4


class Narrow(nn.Module):
    """A layer that has memory for a few samples only."""

    def __init__(self, room):
        super().__init__()
        self.room, self.sizes = room, []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.room:
            msg = "CUDA out of memory. Tried to allocate 7 GiB."
            raise torch.OutOfMemoryError(msg)
        return x


def narrow(kit, room):
    """Put such a layer between two others."""
    return kit.make(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), Narrow(room), nn.Linear(5, 2)))


@pytest.mark.parametrize("loss", ["mean_loss", "summed_loss"])
@pytest.mark.parametrize("make", ["hessian", "ggn", "residual", "fisher", "monte-carlo"])
def test_batches_that_do_not_fit_are_cut_and_weighted_exactly(make, loss, kit):
    batches, criterion = [kit.samples(11), kit.samples(5, seed=2)], getattr(kit, loss)
    options = {"kind": "monte-carlo", "rng": 0} if make == "monte-carlo" else {}
    function = getattr(slq_torch, "fisher" if options else make)
    roomy, tight = narrow(kit, 100), narrow(kit, 3)
    A, B = (function(model, criterion, batches, **options) for model in (tight, roomy))
    X = kit.block(A.shape[0])
    if make == "fisher":
        tight[2].room = 100  # sees one sample at a time under vmap, and the whole batch when it is checked
    for _ in range(4):
        kit.assert_close(A.matmat(X), B.matmat(X), rtol=1e-11)

    if make != "fisher":
        assert A.engine.notes[-1] == "out of memory: batches are cut into pieces of 3 samples, weighted exactly"
        assert len(A.engine.notes) == 2  # 11 -> 6 -> 3
        assert A.metadata["loss"] == pytest.approx(B.metadata["loss"])


def test_a_mean_over_other_things_than_samples_is_noticed_though_the_whole_does_not_fit(kit):
    x, y = kit.samples(12)
    y[:2] = -100
    H = slq_torch.hessian(narrow(kit, 4), kit.mean_loss, (x, y))

    with pytest.raises(ValueError, match=r"Out of memory, and `microbatch` cannot weight.*Return \(sum, count\)"):
        H.matmat(kit.block(H.shape[0]))


def test_where_nothing_fits_the_error_says_what_to_do(kit):
    H = slq_torch.hessian(narrow(kit, 0), kit.summed_loss, kit.samples(4))
    with pytest.raises(torch.OutOfMemoryError, match=r"a single sample does not fit.*checkpoint activations"):
        H.matmat(kit.block(H.shape[0]))

    model = nn.Sequential(*narrow(kit, 3), nn.BatchNorm1d(2, dtype=torch.float64))
    H = slq_torch.hessian(model, kit.mean_loss, kit.samples(7), mode="train")
    with pytest.raises(torch.OutOfMemoryError, match=r'BatchNorm in train mode.*Give mode="eval"'):
        H.matmat(kit.block(H.shape[0]))
