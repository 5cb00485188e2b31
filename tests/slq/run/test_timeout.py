"""A product that takes longer than it may is given up: what was done is kept, and the next run goes on from there."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import slq
from slq._operators._operators import as_operator
from slq._run import _checkpoint
from tests.faults import OUTLIERS, RUNS, Counted

SHORT = 0.2


@pytest.fixture
def hanging():
    """Make operators that hang at one of their products; what hangs comes back at the end of the test."""
    over, before = threading.Event(), threading.active_count()

    class Hanging(Counted):
        def matmat(self, X):
            if self.calls + 1 == self.fail_at:
                self.calls += 1
                over.wait(60)
            return super().matmat(X)

    yield lambda at, A=OUTLIERS: Hanging(A, at, lambda block: block)
    over.set()
    for thread in threading.enumerate():
        if thread.name == "slq-product":
            thread.join(60)
    assert threading.active_count() <= before


CALLS = {
    "spectrum": lambda A, **options: slq.spectrum(A, probes=3, steps=10, rng=0, **options),
    "eigsh": lambda A, **options: slq.eigsh(A, 3, which="LA", basis=12, rng=0, **options),
    "trace": lambda A, **options: slq.trace(A, rtol=0.05, rng=0, **options),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_error_says_what_hangs_how_long_and_what_is_kept(call, hanging):
    with pytest.raises(slq.RunError) as caught:
        CALLS[call](hanging(4), timeout=SHORT)
    assert isinstance(caught.value.__cause__, TimeoutError)
    said = str(caught.value)
    assert "a product of Hanging with a block of shape (150, " in said
    assert "has not returned within `timeout` = 0.2 s" in said
    assert "3 steps are kept" in said or "after 3 products" in said
    assert caught.value.partial is not None


@pytest.mark.parametrize("name", RUNS)
def test_a_product_that_hangs_loses_nothing(name, hanging, tmp_path, monkeypatch):
    run, same = RUNS[name]
    monkeypatch.setattr(_checkpoint, "_SHARE", 0.0)  # written only where a product fails
    whole = run(complete := Counted(OUTLIERS))
    for at in (2, complete.calls // 2):
        path = tmp_path / f"{at}.npz"
        with pytest.raises(slq.RunError, match="The same call goes on from"):
            run(hanging(at), checkpoint=path, timeout=SHORT)
        assert same(whole, run(resumed := Counted(OUTLIERS), checkpoint=path))
        # One product recognises the operator.
        assert resumed.calls == complete.calls - (at - 1) + 1


@pytest.mark.parametrize("name", RUNS)
def test_a_limit_that_is_not_reached_changes_no_bit(name):
    run, same = RUNS[name]
    assert same(run(Counted(OUTLIERS)), run(Counted(OUTLIERS), timeout=60))


JOB = """
import sys, threading
import numpy as np
import slq
from tests.faults import OUTLIERS, Counted

class Slow(Counted):
    def matmat(self, X):
        if self.calls + 1 == self.fail_at:
            threading.Event().wait()  # for ever
        return super().matmat(X)

A = Slow(OUTLIERS, int(sys.argv[2]))
found = slq.spectrum(A, probes=3, steps=10, rng=0, reorth="full", checkpoint=sys.argv[1], timeout=5)
np.save(sys.argv[1] + "-result.npy", found.alpha)
print(A.calls)
"""


@pytest.mark.slow
def test_a_job_that_hangs_ends_by_itself_and_the_next_one_goes_on(tmp_path):
    def job(hang):
        command = [sys.executable, "-c", JOB, str(tmp_path / "run.npz"), str(hang)]
        folder = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    ended = job(7)
    assert ended.returncode == 1
    assert "TimeoutError" in ended.stderr
    assert "3 probes × 6 steps are kept" in ended.stderr
    again = job(0)
    assert (again.returncode, again.stdout) == (0, f"{10 + 1 - 6 + 1}\n"), again.stderr
    whole = slq.spectrum(Counted(OUTLIERS), probes=3, steps=10, rng=0, reorth="full")
    assert_array_equal(np.load(tmp_path / "run.npz-result.npy"), whole.alpha)


@pytest.mark.parametrize(
    "call",
    [
        lambda A: slq.lanczos(A, np.ones(150), 9),
        lambda A: slq.hutchinson(A, products=9),
        lambda A: slq.xtrace(A, products=10),
        lambda A: slq.apply(A, np.ones(150), np.tanh),
    ],
)
def test_an_operator_with_a_limit_can_be_given_to_everything(call, hanging):
    with pytest.raises(TimeoutError, match="`timeout` = "):
        call(as_operator(hanging(2), timeout=SHORT))


def test_the_last_limit_counts(hanging):
    operator = as_operator(as_operator(hanging(1), timeout=60), timeout=SHORT)
    began = time.perf_counter()
    with pytest.raises(TimeoutError):
        operator.matmat(np.ones((150, 1)))
    assert time.perf_counter() - began < 30


def test_what_a_product_raises_is_raised_with_its_traceback():
    def product(_):
        msg = "no memory"
        raise MemoryError(msg)

    with pytest.raises(MemoryError, match="no memory") as caught:
        as_operator(product, n=5, block=True, timeout=60).matmat(np.ones((5, 1)))
    assert caught.traceback[-1].name == "product"


def test_a_sparse_matrix_keeps_its_fused_step():
    operator, _ = slq.gallery.laplacian_2d(20)
    plain, limited = as_operator(operator), as_operator(operator, timeout=60)
    assert limited.product is plain.product


@pytest.mark.parametrize("timeout", [0, -1.0, np.nan, np.inf, True, "5"])
def test_what_is_no_time_is_refused(timeout):
    with pytest.raises(ValueError, match="`timeout` must be a positive number of seconds, got"):
        slq.spectrum(OUTLIERS, timeout=timeout)


def test_shards_are_refused_with_the_reason():
    class Sharded(Counted):
        rows = (range(75),)

        def reduce(self, x):
            return x

    with pytest.raises(ValueError, match=r"`timeout` is not for vectors .* init_process_group\(timeout"):
        slq.spectrum(Sharded(OUTLIERS), timeout=60)


def seen_by_a_product(look):
    """Return what a product with a limit sees of the thread that asked for it."""
    seen = []

    def product(X):
        seen.append(look())
        return X

    as_operator(product, n=5, block=True, timeout=60).matmat(np.ones((5, 1)))
    return seen[0]


def test_numpy_keeps_its_error_state():
    with np.errstate(over="raise"):
        assert seen_by_a_product(lambda: np.geterr()["over"]) == "raise"


def test_torch_keeps_what_it_knows_per_thread():
    torch = pytest.importorskip("torch")

    def look():
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")

    with torch.no_grad(), torch.autocast("cpu"):
        assert seen_by_a_product(look) == (False, False, True)
    with torch.inference_mode():
        assert seen_by_a_product(look) == (False, True, False)
    assert seen_by_a_product(look) == (True, False, False)


def test_jax_keeps_what_it_knows_per_thread():
    jax = pytest.importorskip("jax")
    jnp = pytest.importorskip("jax.numpy")
    before = bool(jax.config.jax_enable_x64)
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64

    def look():
        return jnp.ones(1, dtype=float).dtype.name, jax.config.jax_default_matmul_precision

    with enable(not before), jax.default_matmul_precision("highest"):
        assert seen_by_a_product(look) == ("float32" if before else "float64", "highest")


def test_a_jax_matrix_is_waited_for():
    jnp = pytest.importorskip("jax.numpy")
    matrix = jnp.asarray(OUTLIERS, dtype=jnp.float32)
    one, other = (slq.spectrum(matrix, probes=2, steps=8, rng=0, **options) for options in ({}, {"timeout": 60}))
    assert_array_equal(one.alpha, other.alpha)
