"""What four ranks do: the sharded matrix over one to four of them. Started by torchrun from `test_sharded_csr`."""

import json
import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist
from slq_torch.distributed import sharded_csr

import slq


def case(folder, name, group, exchange):
    """Multiply and run once; return the numbers that the test looks at."""
    A = sharded_csr(folder / name, group=group, exchange=exchange)
    X = np.random.default_rng(0).standard_normal((A.shape[0], 3))
    before = A.traffic.received, A.traffic.messages
    product = A.matmat(X[A.rows.start : A.rows.stop])
    moved = A.traffic.received - before[0], A.traffic.messages - before[1]
    run = slq.spectrum(A, probes=2, steps=30, rng=5, reorth="full")
    return {
        "rows": [A.rows.start, A.rows.stop],
        "nnz": A.nnz,
        "product": product.tolist(),
        "moved": moved,
        "halo": A.halo,
        "exchange": A.exchange,
        "traces": A.traces,
        "alpha": run.alpha.tolist(),
        "beta": run.beta.tolist(),
        "logdet": run.logdet(shift=1.0).value,
    }


def refusal(call):
    """Return what an error says, after all ranks had it."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def main(folder, out):
    """Write what this rank finds."""
    dist.init_process_group("gloo")
    rank, found = dist.get_rank(), {}
    for count in range(1, dist.get_world_size() + 1):
        group = dist.new_group(list(range(count)))
        if rank < count:
            for name in ("chain", "random"):
                for exchange in ("auto", "halo", "gather"):
                    found[f"{count} {name} {exchange}"] = case(folder, name, group, exchange)
    found["damaged"] = refusal(lambda: sharded_csr(folder / "damaged"))
    found["few"] = refusal(lambda: sharded_csr(folder / "few"))
    found["different"] = refusal(lambda: sharded_csr(folder / ("chain" if rank == 2 else "random")))
    found["absent"] = refusal(lambda: sharded_csr(folder / ("absent" if rank == 1 else "random")))
    (out / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
