"""Estimates print what is meaningful, at any magnitude and for any interval."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slq import ErrorParts, Estimate
from slq._estimates import format_with_error

MAGNITUDES = [10.0**e for e in (-300, -100, -20, -9, -3, 0, 3, 9, 15, 20, 100, 300)]


def estimate(value, low, high, confidence=0.95):
    return Estimate(value, low, high, ErrorParts(1.0, 2.0, 3.0), confidence, "certified")


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (3.14159, 0.2, "3.1 ± 0.2"),
        (3.14159, 0.19, "3.14 ± 0.19"),
        (3.14159, 0.1, "3.14 ± 0.10"),
        (3.14159, 0.00999, "3.142 ± 0.010"),
        (-0.5, 0.003, "-0.500 ± 0.003"),
        (1234.5, 1.0, "1234.5 ± 1.0"),
        (1234.5, 10.0, "1234 ± 10"),
        (1234.5, 5000.0, "1234 ± 5000"),
        (0.0, 1e-3, "0.0000 ± 0.0010"),
        (42.0, 1e-20, "42 ± 1.0e-20"),
        (2.5e12, 3e7, "2.5e+12 ± 3.0e+07"),
    ],
)
def test_digits_follow_the_error(value, half, text):
    assert format_with_error(value, half) == text


@pytest.mark.parametrize("size", MAGNITUDES)
@pytest.mark.parametrize("relative", [1e-12, 1e-3, 0.5, 1.0, 100.0])
def test_any_magnitude_prints_in_one_short_line(size, relative):
    for value in (size, -size):
        text = str(estimate(value, value - relative * size, value + relative * size))
        assert len(text) < 50
        assert "\n" not in text
        assert text.endswith(" (95 %)")


@given(st.floats(-1e12, 1e12), st.floats(1e-12, 1e12))
def test_the_printed_value_and_error_are_those_given_to_the_digits_shown(value, half):
    shown, error = format_with_error(value, half).split(" ± ")
    assert abs(float(error) - half) <= 0.51 * 10.0 ** math.floor(math.log10(half))
    assert abs(float(shown) - value) <= 0.51 * half + 1e-11 * abs(value)


@given(st.floats(-1e300, 1e300), st.floats(0, 1e300), st.floats(0, 1e300))
def test_no_interval_fails_to_print(value, below, above):
    assert "(95 %)" in str(estimate(value, value - below, value + above))


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (4.0, 20.0, "5 in [4, 20]"),
        (-math.inf, 6.0, "5 in [-inf, 6]"),
        (4.0, math.inf, "5 in [4, inf]"),
        (-math.inf, math.inf, "5 in [-inf, inf]"),
        (5.0, 7.0, "5 in [5, 7]"),
        (3.0, 6.0, "5 ± 2"),
        (5.0, 5.0, "5 exactly"),
    ],
)
def test_lopsided_and_infinite_intervals_show_their_ends(low, high, text):
    assert str(estimate(5.0, low, high)) == f"{text} (95 %)"


def test_a_value_that_is_not_a_number_still_prints():
    assert "nan" in str(estimate(math.nan, math.nan, math.nan))


@pytest.mark.parametrize(
    ("confidence", "text"), [(0.95, "95 %"), (0.5, "50 %"), (0.999, "99.9 %"), (0.9999, "99.99 %")]
)
def test_the_confidence_is_printed_in_per_cent(confidence, text):
    assert str(estimate(1.0, 0.5, 1.5, confidence)).endswith(f"({text})")


def test_estimates_are_frozen_comparable_numbers():
    one = estimate(2.5, 2.0, 3.0)
    assert float(one) == 2.5
    assert one == estimate(2.5, 2.0, 3.0) != estimate(2.5, 2.0, 3.1)
    assert one.error.largest == "numeric"
    with pytest.raises(AttributeError):
        one.value = 3.0
    assert np.asarray([float(one)]).dtype == np.float64


def test_numbers_of_numpy_print_as_plain_numbers():
    text = str(estimate(np.float64(2.5), np.float64(2.4), np.float64(2.6)))
    assert re.fullmatch(r"2\.50 ± 0\.10 \(95 %\)", text)
