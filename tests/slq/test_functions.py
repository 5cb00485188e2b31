"""One call per quantity: the tolerance is met, the interval holds, mistakes are explained."""

import numpy as np
import pytest

import slq


@pytest.mark.parametrize(
    ("name", "f"), [("log", np.log), ("inverse", np.reciprocal), ("exp", np.exp), ("sqrt", np.sqrt)]
)
@pytest.mark.parametrize("make", [lambda: slq.gallery.marchenko_pastur(500), lambda: slq.gallery.laplacian_2d(20)])
def test_the_tolerance_is_met_and_the_interval_holds(make, name, f):
    operator, law = make()
    e = slq.trace(operator, name, 0.05, rng=0, confidence=0.999)
    assert e.low <= law.trace(f) <= e.high
    assert max(e.high - e.value, e.value - e.low) <= 0.05 * abs(e.value) * 1.3
    assert e.claim == "certified"


def test_one_call_per_quantity_is_the_trace_of_its_function():
    operator, _ = slq.gallery.marchenko_pastur(300)
    assert slq.logdet(operator, 0.1, rng=1) == slq.trace(operator, np.log, 0.1, rng=1)
    assert slq.trace_inverse(operator, 0.1, rng=1) == slq.trace(operator, "inverse", 0.1, rng=1)


def test_an_absolute_tolerance_serves_where_the_value_is_near_zero():
    operator, law = slq.gallery.semicircle(400)
    e = slq.trace(operator, "identity", 0.0, atol=5.0, rng=0)
    assert e.high - e.low <= 2 * 5.0 * 1.01
    assert e.low <= law.trace(lambda x: x) <= e.high


def test_a_shift_makes_an_indefinite_matrix_fit():
    operator, law = slq.gallery.semicircle(400)
    with pytest.raises(ValueError, match="needs a positive definite A"):
        slq.logdet(operator, rng=0)
    e = slq.logdet(operator, 0.05, shift=2.0, rng=0)
    assert e.low <= law.trace(lambda x: np.log(x + 2)) <= e.high


def test_a_budget_ends_the_run_with_an_interval_that_holds():
    operator, law = slq.gallery.graded(2000)
    e = slq.logdet(operator, 1e-6, max_products=100, rng=0)
    assert e.low <= law.trace(np.log) <= e.high
    assert e.high - e.low > 2e-6 * abs(e.value)


def test_small_operators_are_resolved_where_that_is_cheaper():
    operator, law = slq.gallery.laplacian_1d(60)
    e = slq.trace_inverse(operator, 1e-6, rng=0)
    assert e.value == pytest.approx(law.trace(np.reciprocal), rel=1e-6)


def test_tolerances_must_be_positive():
    operator, _ = slq.gallery.semicircle(20)
    for rtol, atol in ((0.0, 0.0), (-1.0, 0.0), (0.1, -1.0)):
        with pytest.raises(ValueError, match="must be positive"):
            slq.trace(operator, "exp", rtol, atol=atol)
