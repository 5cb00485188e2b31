"""The cost model: figures worked out by hand, laws that must hold, and the page that shows them."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
from slq_torch._ranks._cost import Machine, Run, data_parallel, parameter_sharded, probe_parallel, sharded_csr

ROOT = Path(__file__).parents[2]
MACHINE = Machine(flops=1e12, stream=1e11, memory=1e10, latency=1e-5, bandwidth=1e9, node=8, node_bandwidth=1e10)
RUN = Run(probes=2, steps=50, itemsize=4, basis=2)
LAYOUTS = {
    "data": lambda n, ranks, machine, run: data_parallel(n, ranks, machine, run, work=6 * n, model=4 * n),
    "probes": lambda n, ranks, machine, run: probe_parallel(n, ranks, machine, run, work=6 * n, model=4 * n),
    "parameters": lambda n, ranks, machine, run: parameter_sharded(n, ranks, machine, run, work=6 * n),
    "csr": lambda n, ranks, machine, run: sharded_csr(
        n, ranks, machine, run, nnz=9 * n, halo=n - n / ranks, peers=ranks - 1
    ),
}


def test_data_parallel_figures_are_those_worked_out_by_hand():
    cost = data_parallel(1e6, 16, MACHINE, RUN, work=1e12, model=4e6, working=1e5)

    assert cost.received == pytest.approx(2 * 2 * 1e6 * 4 * 15 / 16)
    assert cost.messages == (2 * 2 + 1) * 15 + 6 * 2 * 4
    assert cost.memory == pytest.approx(4e6 + 6 * 1e6 * 4 + 1e5 + 2 * 1e6 / 16 * (3 * 4 + 50 * 2))
    assert cost.product == pytest.approx(2 * 1e12 / 16 / 1e12 + 2 * 3 * 1e6 * 4 / 1e11)
    assert cost.exchange == pytest.approx(15e6 / 1e9)
    assert cost.vectors == pytest.approx(2 * 1e6 / 16 * (6 * 4 + 4 * 2 * 25) / 1e11)
    assert cost.latency == pytest.approx(123 * 1e-5)
    assert cost.seconds == pytest.approx(cost.product + cost.exchange + cost.vectors + cost.latency)
    assert cost.bottleneck == "product"


def test_differences_move_six_times_the_parameters():
    cost = parameter_sharded(1e6, 4, MACHINE, Run(steps=50), work=1e12, layers=10, parameter=2)

    assert cost.received == pytest.approx(6 * 1e6 * 2 * 3 / 4)
    assert cost.messages == 6 * 10 * 3 + 6 * 2 * 2
    assert cost.exchange == pytest.approx(9e6 / 1e10)  # within a node


def test_a_sparse_product_reads_its_entries_once_for_all_probes():
    one, two = (sharded_csr(1e6, 4, MACHINE, Run(probes, 50, 8, 0), nnz=1e8, halo=100.0, peers=2) for probes in (1, 2))

    assert one.received == 800
    assert one.messages == 2 + 2 * 2 * 2
    assert two.product - one.product == pytest.approx((7 * 250_000 + 100) * 8 / 1e11)


def test_few_hosts_send_each_other_what_is_summed():
    few, many = (sharded_csr(1e6, r, MACHINE, Run(1, 50, 8, 0, host=True), nnz=1e8, halo=1, peers=2) for r in (8, 64))

    assert few.messages == 2 + 7
    assert many.messages == 2 + 2 * 6


def test_short_vectors_go_together_and_long_ones_one_by_one():
    short, long = (data_parallel(n, 2, MACHINE, replace(RUN, probes=8), work=1.0, model=1.0) for n in (1e5, 1e7))

    assert long.messages - short.messages == 2 * 8 - 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_rank_moves_nothing(layout):
    cost = LAYOUTS[layout](1e6, 1, MACHINE, RUN)

    assert (cost.received, cost.messages, cost.exchange, cost.latency) == (0, 0, 0, 0)


@pytest.mark.parametrize("layout", ["data", "parameters", "csr"])
def test_more_ranks_take_less_of_everything_but_exchange(layout):
    few, many = (LAYOUTS[layout](1e8, ranks, MACHINE, RUN) for ranks in (16, 64))

    assert many.product < few.product
    assert many.vectors == pytest.approx(few.vectors / 4)
    assert many.memory < few.memory
    assert many.messages > few.messages
    assert many.received > few.received


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_basis_costs_memory_and_passes_and_nothing_else(layout):
    with_it, without = (LAYOUTS[layout](1e8, 16, MACHINE, replace(RUN, basis=basis)) for basis in (2, 0))

    assert with_it.memory > without.memory
    assert with_it.vectors > without.vectors
    assert (with_it.product, with_it.received) == (without.product, without.received)


def test_probe_parallel_ranks_share_probes_and_exchange_nothing():
    alone, shared = (LAYOUTS["probes"](1e6, ranks, MACHINE, Run(probes=6)) for ranks in (1, 4))

    assert shared.product == pytest.approx(alone.product / 3)  # two of six
    assert shared.received == 0


def test_the_page_shows_what_the_model_gives(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    how_far = importlib.import_module("how_far")

    page = set((ROOT / "docs" / "how_far.md").read_text(encoding="utf-8").splitlines())
    rows = [*how_far.models().splitlines(), *how_far.matrices().splitlines()]
    assert len(rows) == 36
    assert [row for row in rows if row not in page] == []
