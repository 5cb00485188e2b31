"""How far does it go? The tables of docs/how_far.md, computed by the cost model from figures of hardware.

    python benchmarks/how_far.py

Nothing is measured here; `distributed_cost.py` compares the model with measured runs.
"""

from __future__ import annotations

from typing import Any

from _harness import table
from slq_torch._ranks._cost import Cost, Machine, Run, data_parallel, parameter_sharded, sharded_csr

SIZES = (1e8, 1e9, 1e10, 1e11)
RANKS = (8, 64, 512, 4096)
# NVIDIA H100 SXM: 494.7 TFLOP/s in TF32, 3.35 TB/s, 80 GB, NVLink with 450 GB/s in each direction (H100 data sheet);
# one 400 Gb/s InfiniBand port for each of a node's eight (DGX H100 data sheet). Assumed: 40 % of the first, 80 % of the
# bandwidths and 90 % of the memory can be had, and a message takes 5 microseconds.
GPU = Machine(0.4 * 494.7e12, 0.8 * 3.35e12, 0.9 * 80e9, 5e-6, 0.8 * 50e9, node=8, node_bandwidth=0.8 * 450e9)
# A socket with eight channels of DDR5-4800 (307 GB/s) and a 200 Gb/s port of its own, with the same shares.
SOCKET = Machine(0.0, 0.8 * 307.2e9, 0.9 * 512e9, 5e-6, 0.8 * 25e9)
STEPS, TOKENS, LAYERS, ACTIVATIONS = 60, 2**20, 100, 10e9
# A second derivative costs twice a gradient, which costs six operations per parameter and token; so do two gradients.
OPERATIONS = 12


def main() -> None:
    print(models(), "\n\n" + matrices())


def models() -> str:
    """Return the table of neural networks."""
    return table([model_row(n, ranks) for n in SIZES for ranks in RANKS])


def matrices() -> str:
    """Return the table of sparse matrices."""
    return table([matrix_row(n, ranks) for n in SIZES for ranks in RANKS])


def chosen(n: float, ranks: int) -> tuple[str, str, Cost] | None:
    """Return the first way that fits: its split, its basis, its cost. Exact products and a basis are preferred."""
    work = OPERATIONS * n * TOKENS
    for basis, name in ((2, "float16"), (0, "none")):
        run = Run(steps=STEPS, basis=basis)
        exact = data_parallel(n, ranks, GPU, run, work=work, model=4 * n, working=ACTIVATIONS)
        shares = parameter_sharded(n, ranks, GPU, run, work=work, layers=LAYERS, working=ACTIVATIONS)
        for split, cost in (("data", exact), ("parameters", shares)):
            if cost.memory <= GPU.memory:
                return split, name, cost
    return None


def model_row(n: float, ranks: int) -> dict[str, Any]:
    row: dict[str, Any] = {"n": power(n), "GPUs": f"{ranks:,}"}
    found = chosen(n, ranks)
    if found is None:
        return row | {"split": "does not fit"}
    split, basis, cost = found
    seconds = {f"{name} [s]": getattr(cost, name) for name in ("product", "exchange", "vectors", "latency")}
    row |= {"split": split, "basis": basis, "GB per GPU": cost.memory / 1e9, **seconds}
    return row | {"60 steps [min]": STEPS * cost.seconds / 60, "bottleneck": cost.bottleneck}


def matrix_row(n: float, ranks: int) -> dict[str, Any]:
    """Cost one step of one probe without a basis, of a 27-point grid in slabs and of a graph without structure."""
    run, index = Run(steps=STEPS, itemsize=8, basis=0, host=True), 4 if n < 2**31 else 8
    slab = 2 * round(n ** (2 / 3))
    grid = sharded_csr(n, ranks, SOCKET, run, nnz=27 * n, halo=slab, peers=2, index=index)
    graph = sharded_csr(n, ranks, SOCKET, run, nnz=32 * n, halo=n - n / ranks, peers=ranks - 1, index=index)
    row: dict[str, Any] = {"n": power(n), "sockets": f"{ranks:,}"}
    for name, cost in (("grid", grid), ("graph", graph)):
        fits = cost.memory <= SOCKET.memory
        row |= {f"{name}: GB per socket": cost.memory / 1e9, f"{name}: step [s]": cost.seconds if fits else None}
        row[f"{name}: bottleneck"] = cost.bottleneck if fits else "does not fit"
    return row


def power(n: float) -> str:
    return f"1e{len(f'{n:.0f}') - 1}"


if __name__ == "__main__":
    main()
