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


def test_products_are_counted(counted):
    operator = counted(np.eye(60))
    found = slq.check(operator)
    assert found.products == sum(operator.columns)
    assert 100 < found.products < 160


def test_after_a_bad_output_nothing_else_is_tried():
    found = slq.check(slq.as_operator(fails("no network"), n=40))
    assert [f.name for f in found.findings] == ["output"]
    assert "OSError: no network" in found.findings[0].seen
    assert found.seconds_per_column == {}
    assert found.batch == 1


def test_the_noise_floor_is_the_size_of_the_asymmetry(symmetric):
    clean = symmetric(200)
    skew = np.random.default_rng(1).standard_normal((200, 200))
    assert slq.check(clean).noise < 1e-14
    for size in (1e-12, 1e-9):
        assert size / 10 < slq.check(clean + size * skew).noise < 100 * size


def test_noise_far_above_rounding_is_a_failure():
    rng = np.random.default_rng(3)

    def product(v):
        return v * (1 + 1e-5 * rng.standard_normal(v.shape))

    assert not slq.check(slq.as_operator(product, n=200))


def test_the_same_seed_sees_the_same():
    matrix = np.triu(np.ones((30, 30)))
    assert slq.check(matrix, rng=4).findings == slq.check(matrix, rng=4).findings


@pytest.mark.parametrize("matrix", [np.eye(1), np.zeros((6, 6)), np.diag([1, 2, 3]), -np.eye(4)])
def test_small_and_trivial_matrices_are_healthy(matrix):
    assert slq.check(matrix)


def test_it_prints_one_line_per_item_and_the_advice_below_a_failure():
    lines = repr(slq.check(np.triu(np.ones((40, 40))))).splitlines()
    assert [line[:4] for line in lines] == ["ok  "] * 5 + ["FAIL", "    ", "    "]
    assert [line.split()[1] for line in lines[:6]] == ["output", "input", "finite", "repeats", "linear", "symmetric"]
    assert "Usual causes: a wrong transpose" in lines[6]
    assert lines[7].split()[0] == "cost"


def test_what_is_no_operator_is_refused():
    with pytest.raises(TypeError, match="`A` must be a square matrix"):
        slq.check(object())
