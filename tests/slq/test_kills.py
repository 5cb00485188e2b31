"""A real job is killed at random instants: the next one goes on to the same bits and loses no more than a product."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import slq

JOB = """
import sys, time
import numpy as np
import slq
from slq import _checkpoint

_checkpoint._SHARE = np.inf  # written after every product
basis, path, log, pause = sys.argv[1:]
generator = np.random.default_rng(5)
rough = generator.standard_normal((150, 150))
A = (rough + rough.T) / 2 + np.diag(np.r_[60.0, 55.0, -50.0, np.zeros(147)])

class Slow:
    shape, dtype = A.shape, A.dtype
    def matmat(self, X):
        time.sleep(float(pause))
        with open(log, "a") as file:
            file.write(".")
        return A @ X

slq.spectrum(Slow(), probes=7, steps=14, batch=2, rng=0, reorth=basis, checkpoint=path).save(path + "-result")
"""
# Products of the whole run.
_WHOLE = 4 * 14 + 1


def job(basis, folder, *, pause=0.005):
    path, log = folder / "run.npz", folder / "log"
    return subprocess.Popen([sys.executable, "-c", JOB, basis, str(path), str(log), str(pause)])


def kill(basis, folder, kills, seed):
    """Kill a job this often, then let it end; return its result, and how many products all made."""
    generator = np.random.default_rng(seed)
    for _ in range(kills):
        process, log = job(basis, folder), folder / "log"
        before = log.stat().st_size if log.exists() else 0
        while process.poll() is None and (log.stat().st_size if log.exists() else 0) == before:
            time.sleep(0.001)  # until it has begun
        time.sleep(generator.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert job(basis, folder, pause=0.0).wait() == 0
    return slq.load(folder / "run.npz-result.npz"), os.stat(folder / "log").st_size


def survives(basis, folder, whole, kills, seed):
    """Kill a job and compare its result with that of one that was left alone."""
    found, products = kill(basis, folder, kills, seed)
    for name in ("alpha", "beta", "lengths", "overlaps", "deflated", "projected"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(found, name), err_msg=name)
    assert (whole.products, whole.noise, whole.status) == (found.products, found.noise, found.status)
    # Each time the product that was under way is lost, and one recognises the operator.
    assert products <= _WHOLE + 2 * kills + 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
@pytest.mark.slow
@pytest.mark.parametrize("basis", ["full", "none"])
def test_a_job_that_is_killed_again_and_again_loses_nothing(basis, tmp_path):
    (tmp_path / "whole").mkdir()
    whole, products = kill(basis, tmp_path / "whole", 0, 0)
    assert products == _WHOLE
    survives(basis, tmp_path, whole, 4, 0)
