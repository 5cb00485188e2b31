"""A law answers by hand-countable rules; that it is the spectrum of its operator is checked in `test_gallery`."""

import dataclasses
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from slq import gallery
from slq.gallery import Law, _lattices

LAW = Law(6, [-1.0, 0.0, 2.0], [1, 3, 2])


def test_the_cdf_includes_the_eigenvalue_itself():
    assert_array_equal(LAW.cdf([-2.0, -1.0, -0.5, 0.0, 2.0, 3.0]), np.array([0, 1, 1, 4, 6, 6]) / 6)
    assert LAW.cdf(0.0) == 4 / 6
    assert np.isnan(LAW.cdf(np.nan))
    assert LAW.cdf([[0.0, 1.0]]).shape == (1, 2)


def test_the_quantile_is_the_smallest_value_that_reaches_the_share():
    assert_array_equal(LAW.quantile([0.0, 0.1, 0.5, 0.7, 1.0]), [-1.0, -1.0, 0.0, 2.0, 2.0])
    assert LAW.quantile(0.5) == 0.0


@pytest.mark.parametrize("q", [-0.1, 1.1, 95, np.nan, [0.5, 2.0]])
def test_a_quantile_outside_zero_and_one_is_refused(q):
    with pytest.raises(ValueError, match="`q` must lie between 0 and 1"):
        LAW.quantile(q)


def test_counts_are_half_open_so_that_adjoining_intervals_add_up():
    assert LAW.count(-1.0, 0.0) == 3
    assert LAW.count(-1.5, 0.0) == 4
    assert LAW.count(0.0, 2.0) == 2
    assert LAW.count(0.0, 0.0) == 0
    assert LAW.count(-np.inf, np.inf) == 6
    assert isinstance(LAW.count(0.0, 2.0), int)


def test_a_reversed_interval_is_refused():
    with pytest.raises(ValueError, match="`a` must not exceed `b`"):
        LAW.count(1.0, 0.0)


def test_a_function_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match=r"`f` must keep the shape \(3,\)"):
        LAW.trace(np.sum)


def test_laws_are_immutable_down_to_their_arrays():
    values = np.array([1.0, 2.0])
    law = Law(2, values, [1, 1])
    values[0] = 5.0
    assert law.edges == (1.0, 2.0)
    with pytest.raises(ValueError, match="read-only"):
        law.values[0] = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        law.n = 3
    assert repr(law) == "Law(n=2, distinct=2, edges=(1.0, 2.0))"


@pytest.mark.parametrize(
    ("n", "values", "multiplicities", "message"),
    [
        (2, [1.0, 2.0], [2], "equal length"),
        (0, [], [], "not empty"),
        (2, [[1.0, 2.0]], [[1, 1]], "one-dimensional"),
        (2, [2.0, 1.0], [1, 1], "strictly ascending"),
        (2, [1.0, 1.0], [1, 1], "strictly ascending"),
        (2, [1.0, np.inf], [1, 1], "finite"),
        (2, [1.0, 2.0], [2, 0], "at least 1"),
        (3, [1.0, 2.0], [1, 1], "sum to n = 3"),
    ],
)
def test_an_impossible_law_is_refused(n, values, multiplicities, message):
    with pytest.raises(ValueError, match=message):
        Law(n, values, multiplicities)


def test_counts_of_more_than_a_thousand_million_are_exact():
    _, law = gallery.hypercube(40)
    assert law.n == 2**40
    assert law.count(-0.5, 0.5) == math.comb(40, 20)
    assert law.count(-41.0, -1.0) * 2 + law.count(-1.0, 0.0) == 2**40
    assert_allclose(law.moment(2), 40.0, rtol=1e-14)


@pytest.mark.parametrize("sides", [(12, 9, 7), (40, 3, 5), (6, 6, 6)], ids=str)
def test_the_law_of_a_huge_grid_is_counted_in_bins(sides, monkeypatch):
    exact = gallery.laplacian_3d(*sides)[1]
    monkeypatch.setattr(_lattices, "_MOST_SUMS", 100)
    binned = gallery.laplacian_3d(*sides)[1]
    assert binned.n == exact.n
    assert_allclose(binned.eigenvalues(), exact.eigenvalues(), atol=3e-6)
