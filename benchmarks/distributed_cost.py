"""The cost model of runs over many ranks beside measured runs on this machine, with gloo: seconds per Lanczos step.

    OMP_NUM_THREADS=1 python benchmarks/distributed_cost.py --ranks 1 2

For each number of ranks, and with all of them busy at once, it measures what the model takes as given: the time of a
small sum, the speed of each kind of exchange from two sizes, of passes over vectors, and of a product on one rank.
Sizes are others than those of the runs that are predicted then, except for the product of a network. Of each the
shortest of the rounds counts, since other programs can only add to it. The last column is what is asked for.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scipy.sparse as sp
import slq_torch
import torch
import torch.distributed as dist
from _harness import arguments, report
from slq_torch import distributed
from slq_torch._ranks._ranks import Ranks
from slq_torch.distributed import cost, sharded_csr

import slq

PROBES, STEPS = 4, 20
# Entries in a row of half a graph.
_HALF = 8
INSIDE = "--inside"


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the sizes of all matrices and networks")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "rows.json"
        for ranks in options.ranks:
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), __file__]
            told = [INSIDE, folder, str(options.scale), str(options.rounds)]
            subprocess.run([sys.executable, *launch, *told], check=True)
            rows += json.loads(found.read_text())
    report(rows, options.out)


def inside(folder: Path, scale: float, rounds: int) -> None:
    """Measure and predict on every rank; rank 0 writes the rows."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    alone = [dist.new_group([rank]) for rank in range(dist.get_world_size())][dist.get_rank()]
    bench = Bench(folder, scale, rounds, alone)
    machine = cost.Machine(1.0, 1.0, 0.0, latency(bench), 1.0)
    rows = [network_row(bench, machine), *(matrix_row(bench, kind, machine) for kind in ("grid", "graph"))]
    if dist.get_rank() == 0:
        (folder / "rows.json").write_text(json.dumps(rows))
    dist.barrier()
    dist.destroy_process_group()


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    folder: Path
    scale: float
    rounds: int
    alone: Any

    @property
    def ranks(self) -> int:
        return dist.get_world_size()

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the least over rounds of the slowest rank's seconds, all having begun together."""
        call()
        least = math.inf
        for _ in range(self.rounds):
            dist.barrier()
            began = perf_counter()
            call()
            slowest = torch.tensor([perf_counter() - began])
            dist.all_reduce(slowest, dist.ReduceOp.MAX)
            least = min(least, float(slowest))
        return least

    def speed(self, exchange: Callable[[int], tuple[Callable[[], object], float]], size: int) -> float:
        """Return the bytes per second of an exchange, from what half of the size takes less than three times that."""
        (short, few), (long, many) = (exchange(max(1, size * times // 2)) for times in (1, 3))
        return (many - few) / max(self.seconds(long) - self.seconds(short), 1e-9)

    def step(self, A: Any, v: Any, steps: int = STEPS) -> float:
        """Return the seconds of one Lanczos step without a basis, as the difference of two lengths of run."""
        short, long = (
            self.seconds(lambda m=m: slq.lanczos(A, v, m, reorth="none")) for m in (max(2, steps // 4), steps)
        )
        return (long - short) / (steps - max(2, steps // 4))


# -- what the model takes as given --------------------------------------------------------------------------------


def latency(bench: Bench) -> float:
    """Return the seconds of one message, from small sums."""
    if bench.ranks == 1:
        return 0.0
    small, ranks = torch.zeros(3 * PROBES, dtype=torch.float64), Ranks(None, torch.device("cpu"))
    sums = 50
    taken = bench.seconds(lambda: [ranks.sum(small) for _ in range(sums)])
    return taken / sums / bench_run(8).sums(bench.ranks)


def with_stream(bench: Bench, machine: Any, n: int, dtype: Any) -> Any:
    """Add the speed of passes over vectors, from a run with a matrix that costs next to nothing.

    Its vectors are two thirds as long as a rank's, so that they are in the same cache, or in none.
    """
    A = _Cheap(2 * n // (3 * bench.ranks), dtype, Ranks(bench.alone, torch.device("cpu")))
    v = A.matmat(A.xp.ones((PROBES, A.shape[0]), dtype=dtype).T)  # in memory as a run has them: column by column
    product = bench.seconds(lambda: A.matmat(v))
    moved = bench_run(dtype.itemsize).passes(A.shape[0], cost.Machine(1, 1, 1, 1, 1))
    return replace(machine, stream=moved / (bench.step(A, v) - product))


class _Cheap:
    """A diagonal matrix on a group of one rank: the same code as for many, with nobody to wait for."""

    def __init__(self, n: int, dtype: Any, ranks: Any) -> None:
        self.xp: Any = torch if isinstance(dtype, torch.dtype) else np
        self.order = "F" if self.xp is torch else "C"
        self.shape, self.rows, self.reduce, self.dtype = (n, n), range(n), ranks.sum, dtype
        self.device = torch.device("cpu") if self.xp is torch else "cpu"
        self.diagonal = self.xp.linspace(1.0, 2.0, n, dtype=dtype)[:, None]

    def matmat(self, X: Any) -> Any:
        return self.diagonal * X


def bench_run(itemsize: int) -> Any:
    return cost.Run(PROBES, STEPS, itemsize, 0, host=True)


# -- runs, and what is predicted for them ---------------------------------------------------------------------------


def matrix(kind: str, n: int) -> Any:
    """Return a 2-D grid in slabs, or a graph without structure."""
    if kind == "grid":
        side = int(np.sqrt(n))
        line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
        return sp.kronsum(line, line, format="csr")
    rng = np.random.default_rng(0)
    places = np.repeat(np.arange(n), _HALF), rng.integers(0, n, _HALF * n)
    upper = sp.coo_array((np.ones(_HALF * n), places), shape=(n, n)).tocsr()
    return (upper + upper.T).tocsr()


def trial(bench: Bench, kind: str, n: int) -> Any:
    """Open, on each rank by itself, a matrix of the same kind with half of the rows of a rank's share."""
    return opened(bench, kind, n // (2 * bench.ranks), group=bench.alone)


def opened(bench: Bench, kind: str, n: int, *, group: Any = None) -> Any:
    """Write a matrix once, and open it on all ranks."""
    target = bench.folder / f"{kind}-{n}-{bench.ranks}"
    if dist.get_rank() == 0 and not target.exists():
        sp.save_npz(bench.folder / "matrix.npz", matrix(kind, n))
        slq.shard(bench.folder / "matrix.npz", target, parts=bench.ranks)
    dist.barrier()
    return sharded_csr(target, group=group)


def matrix_row(bench: Bench, kind: str, machine: Any) -> dict[str, Any]:
    """Predict and measure a sharded matrix; the product's speed is measured on one rank with a smaller one."""
    n, run = int({"grid": 1e6, "graph": 2e5}[kind] * bench.scale), bench_run(itemsize=8)
    machine, small = with_stream(bench, machine, n, np.dtype(np.float64)), trial(bench, kind, n)
    x = np.ones((small.shape[0], PROBES))
    moved = small.nnz * 12 + PROBES * 2 * small.shape[0] * 8
    product = replace(machine, stream=moved / bench.seconds(lambda: small.matmat(x)))
    A = opened(bench, kind, n)
    sizes = (A.nnz, A.halo)
    nnz, halo = A.reduce(np.array(sizes, dtype=np.float64)) if A.reduce else sizes
    per_rank = A.shape[0] * (bench.ranks - 1) / bench.ranks if A.exchange == "gather" else halo / bench.ranks
    peers = bench.ranks - 1
    if bench.ranks > 1:
        machine = replace(machine, bandwidth=bench.speed(partial(exchange, bench, A.exchange), int(per_rank)))
    found = cost.sharded_csr(A.shape[0], bench.ranks, machine, run, nnz=nnz, halo=per_rank, peers=peers)
    multiplied = cost.sharded_csr(A.shape[0], bench.ranks, product, run, nnz=nnz, halo=per_rank, peers=peers)
    v = np.random.default_rng(dist.get_rank()).standard_normal((len(A.rows), PROBES))
    return _row(
        bench, f"{kind} ({A.exchange})", A.shape[0], replace(found, product=multiplied.product), bench.step(A, v)
    )


def exchange(bench: Bench, kind: str, numbers: int) -> tuple[Callable[[], object], float]:
    """Return an exchange of so many numbers of each vector into a rank, as a matrix makes it, and its bytes."""
    block = torch.zeros((numbers // (bench.ranks - 1) + 1) * PROBES, dtype=torch.float64)
    every = [torch.empty_like(block) for _ in range(bench.ranks)]
    others = [rank for rank in range(bench.ranks) if rank != dist.get_rank()]

    def halo() -> None:
        operations = [
            dist.P2POp(call, x, peer) for peer in others for call, x in ((dist.isend, block), (dist.irecv, every[peer]))
        ]
        for request in dist.batch_isend_irecv(operations):
            request.wait()

    return halo if kind == "halo" else lambda: dist.all_gather(every, block), len(others) * block.nbytes


def network_row(bench: Bench, machine: Any) -> dict[str, Any]:
    """Predict and measure the Hessian of a network over data of all ranks; its product is measured on one rank."""
    torch.manual_seed(0)
    width = int(256 * np.sqrt(bench.scale))
    model = torch.nn.Sequential(
        torch.nn.Linear(256, width), torch.nn.Tanh(), torch.nn.Linear(width, width), torch.nn.Tanh()
    )
    share = [(torch.randn(512 // bench.ranks, 256), torch.randn(512 // bench.ranks, width))]

    def loss(net: Any, batch: Any) -> Any:
        return ((net(batch[0]) - batch[1]) ** 2).mean()

    H, ranks = distributed.data_parallel(slq_torch.hessian, model, loss, share), Ranks(None, torch.device("cpu"))
    local, n = H.local, H.shape[0]  # the one that the run uses, with the strategy that it chose
    x = torch.randn(PROBES, n).T
    product = bench.seconds(lambda: local.matmat(x))

    def both(size: int) -> tuple[Callable[[], object], float]:
        whole, here = torch.zeros(PROBES, size), len(ranks.rows(size))
        moved = 2 * whole.nbytes * (bench.ranks - 1) / bench.ranks
        return lambda: (ranks.gathered(whole[:, :here], size), ranks.scattered(whole)), moved

    speed = bench.speed(both, n) if bench.ranks > 1 else 1.0
    machine = with_stream(bench, machine, n, torch.float32)
    found = cost.data_parallel(
        n, bench.ranks, replace(machine, bandwidth=speed), bench_run(itemsize=4),
        work=product * bench.ranks / PROBES, model=0.0,
    )  # fmt: skip
    v = torch.randn(PROBES, len(H.rows[0]), generator=torch.Generator().manual_seed(dist.get_rank())).T
    return _row(bench, "network (data)", n, found, bench.step(H, v))


def _row(bench: Bench, name: str, n: int, found: Any, measured: float) -> dict[str, Any]:
    parts = {f"{part} [ms]": 1e3 * getattr(found, part) for part in ("product", "exchange", "vectors", "latency")}
    row = {"run": name, "n": n, "ranks": bench.ranks, **parts, "predicted [ms]": 1e3 * found.seconds}
    return row | {"measured [ms]": 1e3 * measured, "predicted / measured": found.seconds / measured}


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == INSIDE:
        inside(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
