"""A search for eigenpairs that is ended at any product and resumed gives the same bits, or is refused with reasons."""

import numpy as np
import pytest
import torch

import slq
from slq._checkpoint import Checkpoint

LAPLACIAN, _ = slq.gallery.laplacian_2d(12, 12)
GRID = LAPLACIAN.matmat(np.eye(144))
GENERATOR = np.random.default_rng(5)
ROUGH = GENERATOR.standard_normal((150, 150))
ROUGH = (ROUGH + ROUGH.T) / 2


def same(one, other):
    """Compare everything that two searches say but how long they took."""
    for name in ("values", "vectors", "residuals", "converged"):
        np.testing.assert_array_equal(np.asarray(getattr(one, name)), np.asarray(getattr(other, name)), err_msg=name)
    for name in ("products", "rest", "verified", "n", "which", "tol", "confidence", "seed", "status", "warnings"):
        assert getattr(one, name) == getattr(other, name), name
    return True


class Stop:
    """In place of `Checkpoint.due`: asks to end after so many steps, counting from one search to the next."""

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


START = np.random.default_rng(1).standard_normal((150, 3))
KNOWN = np.linalg.eigh(ROUGH)[1][:, -2:]
CASES = {
    "copies that one vector does not see": (GRID, {"k": 5, "which": "LA", "basis": 16}),
    "both ends": (ROUGH, {"k": 4, "which": "BE", "basis": 14}),
    "small basis": (ROUGH, {"k": 2, "which": "SA", "basis": 6}),
    "block": (GRID, {"k": 4, "which": "LA", "block": 2, "basis": 18}),
    "started": (ROUGH, {"k": 3, "which": "LM", "start": START}),
    "deflated": (ROUGH, {"k": 3, "which": "LA", "deflate": KNOWN, "basis": 16}),
    "not verified": (ROUGH, {"k": 3, "which": "LA", "verify": False, "basis": 12}),
    "float32": (ROUGH.astype(np.float32), {"k": 3, "which": "LA", "basis": 16}),
    "extreme": (ROUGH * 1e200, {"k": 3, "which": "LA", "basis": 16}),
    "all": (np.diag(np.repeat([1.0, 2.0, 5.0], 4)), {"k": 12, "which": "LM"}),
    "few values": (np.diag(np.repeat([1.0, 2.0, 5.0], 30)), {"k": 4, "which": "LA"}),
    "budget": (ROUGH, {"k": 4, "which": "LA", "max_products": 50, "basis": 14}),
    "torch": (torch.tensor(ROUGH), {"k": 3, "which": "LA", "basis": 16}),
    "torch, few values": (torch.tensor(np.diag(np.repeat([1.0, 2.0, 5.0], 30))), {"k": 4, "which": "LA"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_search_ended_after_any_product_resumes_to_the_same_bits(case, tmp_path, monkeypatch):
    A, options = CASES[case]
    whole = slq.eigsh(A, rng=0, **options)
    steps = Stop(0).install(monkeypatch)
    assert same(whole, slq.eigsh(A, rng=0, checkpoint=tmp_path / "whole", **options))
    for after in {*range(1, steps.steps, max(1, steps.steps // 6)), steps.steps - 1}:
        Stop(after).install(monkeypatch)
        part = slq.eigsh(A, rng=0, checkpoint=tmp_path / f"{after}", **options)
        assert part.status.startswith("interrupted"), after
        assert part.products <= whole.products
        again = slq.eigsh(A, rng=0, checkpoint=tmp_path / f"{after}", **options)
        assert same(whole, again)
