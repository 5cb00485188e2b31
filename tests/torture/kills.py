"""Real jobs in processes of their own that are killed at random instants, and what they must come to all the same.

A job logs each product, so that one can tell what was lost. It waits a little in each, so that kills find it there, in
the arithmetic between products and in the writing; "hangs" never comes back from one of them in the runs to be killed.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

_COMMON = """
import sys, time
import numpy as np
import slq
from slq._run import _checkpoint

_checkpoint._SHARE = np.inf  # written after every product
path, log, pause, hang = sys.argv[1:]
generator = np.random.default_rng(5)
rough = generator.standard_normal((150, 150))
A = (rough + rough.T) / 2 + np.diag(np.r_[60.0, 55.0, -50.0, np.zeros(147)])
made = 0

def waited():
    global made
    made += 1
    time.sleep(1e6 if made == int(hang) else float(pause))
    with open(log, "a") as file:
        file.write(".")

class Slow:
    shape, dtype = A.shape, A.dtype
    def matmat(self, X):
        waited()
        return A @ X
"""
_SPECTRUM = """
found = slq.spectrum(Slow(), probes=7, steps=14, batch=2, rng=0, reorth={!r}, checkpoint=path)
np.savez(path + "-result", alpha=found.alpha, beta=found.beta, overlaps=found.overlaps, deflated=found.deflated,
         said=[str(found.products), str(found.noise), found.status])
"""
_EIGSH = """
found = slq.eigsh(Slow(), 3, which="LA", basis=12, rng=0, checkpoint=path)
np.savez(path + "-result", values=found.values, vectors=found.vectors, residuals=found.residuals,
         said=[str(found.products), str(found.rest), found.status])
"""
_RECORDER = """
import torch, slq_torch
torch.manual_seed(0)
torch.use_deterministic_algorithms(True)
model = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
x, y = torch.randn(30, 5), torch.arange(30) % 3
cross_entropy = torch.nn.functional.cross_entropy
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])
with slq_torch.Recorder(model, loss, (x, y), every=4, path=path, top=2, energy=4, probes=1, steps=12) as recorder:
    for step in range(25):
        optimizer.zero_grad()
        loss(model, (x, y)).backward()
        optimizer.step()
        if recorder.step(step):
            waited()
    history = recorder.history
scalars = {name: v for name, v in history.scalars.items() if name != "seconds"}
np.savez(path + "-result", steps=history.steps, alpha=np.stack([s.alpha for s in history.spectra]), **scalars,
         said=[])
"""


class Job(NamedTuple):
    """A program, how much it logs where it is left alone, and how much more a kill may cost."""

    program: str
    whole: int
    lost: int


# A kill loses the product under way, and one recognises the operator; of a training one record, after which it says so.
JOBS = {
    "spectrum, full": Job(_COMMON + _SPECTRUM.format("full"), 4 * 14 + 1, 2),
    "spectrum, none": Job(_COMMON + _SPECTRUM.format("none"), 4 * 14 + 1, 2),
    "eigsh": Job(_COMMON + _EIGSH, 101, 2),
    "recorder": Job(_COMMON + _RECORDER, 7, 1),
}


def start(job: Job, folder: Path, *, pause: float = 0.005, hang: int = 0) -> subprocess.Popen[bytes]:
    """Begin a job, or go on with it."""
    arguments = [str(folder / "run.npz"), str(folder / "log"), str(pause), str(hang)]
    return subprocess.Popen([sys.executable, "-c", job.program, *arguments])


def logged(folder: Path) -> int:
    """Return how much all runs of a job have logged."""
    log = folder / "log"
    return log.stat().st_size if log.exists() else 0


def result(job: Job, folder: Path) -> dict[str, object]:
    """Let a job end and return what it came to."""
    assert start(job, folder, pause=0.0).wait() == 0
    with np.load(folder / "run.npz-result.npz") as file:
        return {name: file[name] for name in file.files}


def killed(job: Job, folder: Path, kills: int, seed: int, *, hang: int = 0) -> None:
    """Kill a job this often, at random instants after it has begun to work, or where it hangs."""
    generator = np.random.default_rng(seed)
    for _ in range(kills):
        before, process = logged(folder), start(job, folder, hang=hang)
        while process.poll() is None and logged(folder) < before + max(hang - 1, 1):
            time.sleep(0.001)
        time.sleep(generator.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()


def survives(job: Job, folder: Path, whole: dict[str, object], kills: int, seed: int, *, hang: int = 0) -> None:
    """Kill a job, let it end, and compare its result, bit for bit, with that of one that was left alone."""
    killed(job, folder, kills, seed, hang=hang)
    found = result(job, folder)
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
    assert logged(folder) <= job.whole + job.lost * kills + 1
    assert not [name for name in os.listdir(folder) if re.fullmatch(r"\.run\.npz\.[a-z0-9_]{8}", name)]
