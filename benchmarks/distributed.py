"""Runs over several ranks: how much faster they are than one, and what the distributed path costs on a single rank.

    python benchmarks/distributed.py --ranks 2

starts the ranks by torchrun, one thread each. A product-bound job: the Hessian of a network on random data. In turns
all ranks run it, each on its share of the data; rank 0 runs it on all data, in a group of its own; and rank 0 runs it
with the plain operator. Those that have no part in a run wait. Figures are medians over rounds: of seconds, and of
ratios within a round, whose order is turned around each time. The last columns are what is asked for: how many times as
fast all ranks are as one, and how much longer a group of one takes than the plain operator, with quartiles. "Ceiling"
is how many times as many products as one rank all make where nobody waits for others: what the machine's cores and
memory allow.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import slq_torch
import torch
import torch.distributed as dist
from _harness import arguments, report, under_torchrun
from slq_torch import CurvatureOperator, distributed
from torch import nn
from torch.nn.functional import cross_entropy

import slq


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--found", type=Path, help="where rank 0 writes its figures; set by the launcher")
    options = parser.parse_args()
    if "RANK" in os.environ:
        inside(options.width, options.samples, options.steps, options.rounds, options.found)
        return
    sizes = [f"--{name}={getattr(options, name)}" for name in ("width", "samples", "steps", "rounds")]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "row.json"
        rows = []
        for ranks in options.ranks:
            under_torchrun(ranks, __file__, *sizes, f"--found={found}")
            rows.append(json.loads(found.read_text()))
    report(rows, options.out)


def inside(width: int, samples: int, steps: int, rounds: int, found: Path) -> None:
    """Time the candidates on every rank; rank 0 writes a row."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    alone = dist.new_group([0])
    torch.manual_seed(0)
    x, y = torch.randn(samples, 64), torch.randint(10, (samples,))
    model = nn.Sequential(nn.Linear(64, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 10))
    mine = slice(samples * rank // size, samples * (rank + 1) // size)

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(model(batch[0]), batch[1])

    def run(operator: object) -> object:
        return slq.spectrum(operator, probes=1, steps=steps, rng=0, reorth="full")

    everywhere = distributed.data_parallel(slq_torch.hessian, model, loss, (x[mine], y[mine]), strategy="graph")
    candidates: dict[str, Callable[[], object]] = {"all ranks": lambda: run(everywhere)}
    if rank == 0:
        one = distributed.data_parallel(slq_torch.hessian, model, loss, (x, y), group=alone, strategy="graph")
        plain = slq_torch.hessian(model, loss, (x, y), strategy="graph")
        candidates |= {"group of one": lambda: run(one), "plain": lambda: run(plain)}
    else:
        candidates |= {"group of one": lambda: None, "plain": lambda: None}
    for name, operator, taking_part in (("shares", everywhere.local, True), ("one share", everywhere.local, rank == 0)):
        block = torch.ones(everywhere.shape[0], 1)
        candidates[name] = partial(multiply, operator, block, steps if taking_part else 0)
    seconds = in_turns(candidates, rounds)
    if rank == 0:
        row: dict[str, object] = {"ranks": size, "parameters": everywhere.shape[0], "samples": samples, "steps": steps}
        row |= {f"{name} [s]": np.median(seconds[name]) for name in ("all ranks", "group of one", "plain")}
        row["ceiling"] = size * np.median(seconds["one share"] / seconds["shares"])
        row["speed-up"] = told(seconds["group of one"] / seconds["all ranks"])
        row["overhead"] = told(seconds["group of one"] / seconds["plain"] - 1)
        found.write_text(json.dumps(row))
    dist.barrier()
    dist.destroy_process_group()


def multiply(operator: CurvatureOperator, block: torch.Tensor, times: int) -> None:
    """Make some products."""
    for _ in range(times):
        operator.matmat(block)


def in_turns(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Return the seconds of each candidate in each round, from when all ranks begin until the last one has ended."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        turns = list(candidates.items())
        for name, call in turns if number % 2 else reversed(turns):
            dist.barrier()
            began = perf_counter()
            call()
            dist.barrier()
            seconds[name].append(perf_counter() - began)
    return {name: np.array(found[1:]) for name, found in seconds.items()}


def told(ratios: Any) -> str:
    """Return the median and the quartiles."""
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
