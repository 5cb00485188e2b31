"""The doctor finds each illness and names its usual causes."""

import numpy as np
import pytest

import slq

GENERATOR = np.random.default_rng(0)


def fails(message):
    def product(v):
        raise OSError(message)

    return product


def writes(v):
    v *= 2
    return v


@pytest.mark.parametrize(
    ("product", "block", "item", "advice"),
    [
        (writes, False, "input kept", "writes into its argument"),
        (lambda v: v * np.nan, False, "finite", "overflow"),
        (fails("no network"), False, "output", "by hand"),
        (lambda X: X[:, 0], True, "output", "block"),
        (lambda X: X.astype(int), True, "output", "real floats"),
        (lambda v: v * (1 + 0.1 * GENERATOR.standard_normal()), False, "repeats", "shuffle"),
        (lambda v: v + 1, False, "linear", "added constant"),
        (lambda v: np.triu(np.ones((40, 40))) @ v, False, "symmetric", "transpose"),
    ],
)
def test_each_illness_is_found(product, block, item, advice):
    found = slq.check(slq.as_operator(product, n=40, block=block))
    assert not found
    failed = next(f for f in found.findings if not f.passed)
    assert failed.name == item
    assert advice in failed.advice
    assert "FAIL" in repr(found)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_healthy_operator_passes(dtype):
    found = slq.check(slq.gallery.semicircle(500, dtype=dtype)[0])
    assert found
    assert all(f.advice == "" for f in found.findings)
    assert found.noise < 100 * np.finfo(dtype).eps
    assert found.batch in (1, 8, 32)
    assert set(found.seconds_per_column) == {1, 8, 32}
    assert "FAIL" not in repr(found)
