"""What short runs leave behind: file descriptors, threads, objects, autograd graphs; and what memory a long one takes.

Counted in the process itself by the system's own tables, after a few runs that warm up caches and pools.
"""

import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WARM = 10
# Objects and bytes that many runs may leave, for whatever Python and its libraries keep of their own.
OBJECTS, BYTES = 200, 16 * 2**20

JOB = """
import sys
import numpy as np
import slq

n, limit, basis = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
values = np.linspace(1.0, 2.0, n)
A = slq.as_operator(lambda v: values * v, n=n)
slq.spectrum(np.eye(4), probes=1, steps=2, rng=0)
slq.spectrum(A, probes=1, steps=2, rng=0, memory=limit)
print("ready", flush=True)
sys.stdin.readline()
run = slq.spectrum(A, probes=4, rng=0, reorth=basis, steps=40, memory=limit)
print(run.probes, run.steps, flush=True)
sys.stdin.readline()
"""


def taken():
    """Return the file descriptors, threads and objects of this process."""
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    threads = len(os.listdir("/proc/self/task"))
    return np.array([descriptors, threads, len(gc.get_objects())])


def resident(process="self", peak=False):
    """Return the bytes of memory that a process has, or has had at most, by the kernel's table."""
    name = "VmHWM:" if peak else "VmRSS:"
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def left(runs, once):
    """Return what so many calls of `once` leave: descriptors, threads, objects, bytes."""
    for i in range(WARM):
        once(i)
    before, memory = taken(), resident()
    for i in range(runs):
        once(i)
    return [*(taken() - before).tolist(), resident() - memory]


def flat(found):
    """Whether what was left is nothing."""
    return found[0] <= 0 and found[1] <= 0 and found[2] <= OBJECTS and found[3] <= BYTES


def short_run(seed):
    """Do a bit of everything once: a run, questions, eigenpairs, files, a checkpoint."""
    import slq

    A = np.diag([9.0, -8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    with tempfile.TemporaryDirectory() as folder:
        run = slq.spectrum(A, probes=2, steps=4, rng=seed, checkpoint=f"{folder}/c.npz" if seed % 10 == 0 else None)
        assert slq.load(run.save(f"{folder}/run.npz")) == run
    run.cdf([0.0])
    run.trace("exp")
    slq.eigsh(A, 1, rng=seed)


def short_hessian(seed, device="cpu"):
    """Run the Hessian of a small network once."""
    import slq_torch
    import torch

    import slq

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(20, 3, generator=generator).to(device), torch.randn(20, 1, generator=generator).to(device))
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(device)
    operator = slq_torch.hessian(model, lambda m, batch: ((m(batch[0]) - batch[1]) ** 2).mean(), [(x, y)])
    slq.spectrum(operator, probes=1, steps=3, rng=seed)
    assert all(p.grad is None for p in model.parameters())


def writing(seconds, n=30_000, steps=60):
    """Return the share of a run of about so many seconds that its checkpoint took, and how often it was written."""
    import slq
    from slq._run._checkpoint import Checkpoint

    values, spent, save = np.linspace(1.0, 2.0, n), [], Checkpoint.save

    def product(X):
        time.sleep(seconds / steps)
        return values[:, None] * X

    def timed(file, *arguments):
        began = time.perf_counter()
        save(file, *arguments)
        spent.append(time.perf_counter() - began)

    Checkpoint.save = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            A = slq.as_operator(product, n=n, block=True)
            began = time.perf_counter()
            slq.spectrum(A, probes=2, steps=steps, rng=0, reorth="full", checkpoint=f"{folder}/run.npz")
            return sum(spent) / (time.perf_counter() - began), len(spent)
    finally:
        Checkpoint.save = save


def graphs():
    """Return how many tensors of an autograd graph are alive."""
    import torch

    gc.collect()
    return sum(issubclass(type(x), torch.Tensor) and x.grad_fn is not None for x in gc.get_objects())


def watched(n, limit, basis="full"):
    """Watch a run from another process; return the bytes that it took beyond what it had, and what it made."""
    call = [sys.executable, "-c", JOB, str(n), str(limit), basis]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "ready\n"
        before = most = resident(job.pid)
        job.stdin.write("go\n")
        job.stdin.flush()
        made = []
        os.set_blocking(job.stdout.fileno(), False)
        while not made:
            most = max(most, resident(job.pid))
            time.sleep(0.002)
            made = [int(word) for word in job.stdout.readline().split()]
            assert job.poll() is None
        most = max(most, resident(job.pid))
        job.stdin.write("end\n")
        job.stdin.flush()
    return most - before, made
