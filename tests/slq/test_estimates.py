"""How numbers print."""

import math

import numpy as np
import pytest

from slq import ErrorParts, Estimate


def estimate(value, low, high):
    return Estimate(value, low, high, ErrorParts(0.0, 0.0, 0.0), 0.95, "certified")


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (12.34, 0.05, "12.34 ± 0.05 (95 %)"),
        (12.34, 0.012, "12.340 ± 0.012 (95 %)"),
        (-3.2, 40.0, "-3 ± 40 (95 %)"),
        (1234567.0, 250.0, "1234567 ± 250 (95 %)"),
        (0.001234, 1e-6, "0.0012340 ± 0.0000010 (95 %)"),
        (0.0, 0.5, "0.0 ± 0.5 (95 %)"),
    ],
)
def test_decimals_follow_the_error(value, half, text):
    assert str(estimate(value, value - half, value + half)) == text


def test_lopsided_intervals_show_their_ends():
    assert str(estimate(5.0, 4.0, 20.0)) == "5 in [4, 20] (95 %)"
    assert str(estimate(5.0, -math.inf, 6.0)) == "5 in [-inf, 6] (95 %)"


def test_exact_numbers_say_so():
    assert str(estimate(21.0, 21.0, 21.0)) == "21 exactly (95 %)"


@pytest.mark.parametrize("value", [1e-300, 1e300, 1e12, -1e-12])
def test_any_magnitude_prints(value):
    half = abs(value) * 1e-3
    assert "±" in str(estimate(value, value - half, value + half))


def test_an_estimate_is_a_number():
    assert float(estimate(2.5, 2.0, 3.0)) == 2.5
    assert ErrorParts(1.0, 2.0, 0.5).largest == "quadrature"


def test_numbers_of_numpy_become_those_of_python():
    found = Estimate(
        np.float64(1.0), np.float64(0.5), np.float64(2.0), ErrorParts(np.float64(0.5), 0, 0), 0.95, "estimate"
    )
    assert "np.float64" not in repr(found)
    assert type(found.low) is type(found.error.quadrature) is float
