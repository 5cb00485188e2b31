"""What goes wrong, in one place: runs that are stopped, products that fail, disks that fail, files that are damaged."""

import errno
import os
import signal
from functools import partial

import numpy as np

import slq
from slq._run._checkpoint import Checkpoint

GENERATOR = np.random.default_rng(5)
ROUGH = GENERATOR.standard_normal((150, 150))
ROUGH = (ROUGH + ROUGH.T) / 2
OUTLIERS = ROUGH + np.diag(np.r_[60.0, 55.0, -50.0, np.zeros(147)])


class Stop:
    """In place of `Checkpoint.due`: asks to end after so many steps, counting from one run to the next."""

    def __init__(self, after):
        self.after, self.steps = after, 0

    def install(self, monkeypatch):
        monkeypatch.setattr(Checkpoint, "due", lambda file, *_: self(file))
        return self

    def __call__(self, file):
        self.steps += 1
        file.asked = self.steps == self.after
        return file.asked


class Counted:
    """Counts products, and fails at one of them."""

    def __init__(self, A, fail_at=None, give=None):
        self.A, self.shape, self.dtype = A, A.shape, A.dtype
        self.fail_at, self.give, self.calls = fail_at, give, 0

    def matmat(self, X):
        self.calls += 1
        if self.calls == self.fail_at:
            if self.give is None:
                msg = "the node is gone"
                raise OSError(msg)
            return self.give(self.A @ X)
        return self.A @ X


class Signalling(Counted):
    """Sends signals to this process in the middle of some products."""

    def __init__(self, A, *numbers, at):
        super().__init__(A)
        self.numbers, self.at = numbers, at

    def matmat(self, X):
        block = super().matmat(X)
        if self.calls == self.at:
            for number in self.numbers:
                signal.raise_signal(number)
        return block


def not_a_number(block):
    block[3, 0] = np.nan
    return block


FAULTS = {"raises": None, "is not finite": not_a_number, "has the wrong shape": lambda block: block[:-1]}


def same_spectra(one, other):
    """Compare everything that two runs say but how long they took and how often they were resumed."""
    for name in ("alpha", "beta", "lengths", "overlaps", "deflated", "projected"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in ("n", "kind", "seed", "reorth", "noise", "products", "status", "warnings", "confidence", "drift"):
        assert getattr(one, name) == getattr(other, name), name
    return all(one.metadata.get(name) == other.metadata.get(name) for name in ("vectors", "basis", "dtype"))


def same_pairs(one, other):
    """Compare everything that two searches say but how long they took."""
    for name in ("values", "vectors", "residuals", "converged"):
        np.testing.assert_array_equal(np.asarray(getattr(one, name)), np.asarray(getattr(other, name)), err_msg=name)
    for name in ("products", "rest", "verified", "n", "which", "tol", "confidence", "seed", "status", "warnings"):
        assert getattr(one, name) == getattr(other, name), name
    return True


# What can be stopped and resumed -> how it is run, and how its results are compared.
RUNS = {
    "spectrum": (partial(slq.spectrum, probes=3, steps=10, rng=0, reorth="full"), same_spectra),
    "eigsh": (partial(slq.eigsh, k=3, which="LA", basis=12, rng=0), same_pairs),
}


def failing(call, number):
    """Return where a call to the system is found, and what fails in its place."""

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    def short(file, *_, **__):
        file.write(b"PK\3\4 and a part of what follows")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    places = {"fsync": (os, "fsync"), "replace": (os, "replace"), "write": (np, "savez"), "short": (np, "savez")}
    return *places[call], short if call == "short" else fail
