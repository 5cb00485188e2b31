"""Runs over several ranks: how much faster two are than one, and what the distributed path costs on a single rank.

    torchrun --nproc-per-node 2 benchmarks/distributed.py --out two.json
    torchrun --nproc-per-node 1 benchmarks/distributed.py --more two.json

The first times the run with a share of the data on each rank; the second the same on one rank, and the plain operator
beside it, each with one thread per rank, and prints the ratios. A product-bound job: a network on random data.
"""

from __future__ import annotations

import json
from pathlib import Path

import slq_torch
import torch
import torch.distributed as dist
from _harness import arguments, medians, report
from slq_torch import distributed
from torch import nn
from torch.nn.functional import cross_entropy

import slq


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--more", type=Path, help="figures of a run with more ranks to compare with")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    x, y = torch.randn(options.samples, 64), torch.randint(10, (options.samples,))
    model = nn.Sequential(nn.Linear(64, options.width), nn.GELU(), nn.Linear(options.width, options.width), nn.GELU())
    model.append(nn.Linear(options.width, 10))
    mine = slice(options.samples * rank // size, options.samples * (rank + 1) // size)
    share = (x[mine], y[mine])

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(model(batch[0]), batch[1])

    def run(operator: object) -> object:
        return slq.spectrum(operator, probes=1, steps=options.steps, rng=0, reorth="full")

    split = distributed.data_parallel(slq_torch.hessian, model, loss, share, strategy="graph")
    candidates = {"distributed": lambda: run(split)}
    if size == 1:
        plain = slq_torch.hessian(model, loss, share, strategy="graph")
        candidates["plain"] = lambda: run(plain)
    seconds = medians(candidates, options.rounds)
    if rank == 0:
        row: dict[str, object] = {"ranks": size, "parameters": split.shape[0], **seconds}
        if size == 1:
            row["overhead"] = seconds["distributed"] / seconds["plain"] - 1
        if options.more is not None:
            other = json.loads(options.more.read_text())["rows"][0]
            row[f"speed-up of {other['ranks']} ranks"] = seconds["distributed"] / other["distributed"]
        report([row], options.out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
