"""The coordinate of pictures and tolerances: monotone, invertible, the same whatever the unit of the matrix."""

import numpy as np
import pytest

from slq._quadrature._coordinate import Coordinate, natural

X = np.concatenate([-np.logspace(3, -6, 20), [0.0], np.logspace(-6, 3, 20)])
COORDINATES = [Coordinate("linear"), Coordinate("asinh", 0.01), Coordinate("asinh", 30.0)]


def rule(values):
    values = np.sort(np.asarray(values, dtype=np.float64))
    return values[None, :], np.full((1, values.size), 1 / values.size)


def with_outliers(*outliers):
    return rule([*np.linspace(-1, 1, 999), *outliers])


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_the_map_is_monotone_and_comes_back(coordinate):
    y = coordinate.forward(X)
    assert np.all(np.diff(y) > 0)
    np.testing.assert_allclose(coordinate.inverse(y), X, rtol=1e-12, atol=0)


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_the_slope_is_the_derivative(coordinate):
    h = 1e-6 * np.maximum(np.abs(X), coordinate.unit)
    difference = (coordinate.forward(X + h) - coordinate.forward(X - h)) / (2 * h)
    np.testing.assert_allclose(coordinate.slope(X), difference, rtol=1e-6)


def test_asinh_is_odd_linear_near_zero_and_logarithmic_far_away():
    coordinate = Coordinate("asinh", 2.0)
    np.testing.assert_array_equal(coordinate.forward(-X), -coordinate.forward(X))
    assert coordinate.forward(np.array([1e-6]))[0] == pytest.approx(5e-7)
    one, two = coordinate.forward(np.array([1e8, 1e9]))
    assert two - one == pytest.approx(np.log(10))


def test_a_spectrum_without_far_eigenvalues_is_linear():
    assert natural(*with_outliers()) == Coordinate("linear")
    assert natural(*with_outliers(-5.0, 5.0)).scale == "linear"


@pytest.mark.parametrize("outliers", [(100.0,), (-100.0,), (-40.0, 40.0)])
def test_far_eigenvalues_make_it_asinh_with_half_the_bulk_as_unit(outliers):
    coordinate = natural(*with_outliers(*outliers))
    assert coordinate.scale == "asinh"
    assert coordinate.unit == pytest.approx(0.9, rel=0.02)


def test_the_unit_shows_three_decades_below_the_largest_eigenvalue():
    assert natural(*with_outliers(1e6)).unit == pytest.approx(1e3)


def test_asking_for_a_scale_settles_it():
    assert natural(*with_outliers(1e6), "linear") == Coordinate("linear")
    assert natural(*with_outliers(), "asinh").scale == "asinh"


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0, 0.0]])
def test_nothing_but_zero_is_linear_whatever_is_asked(values):
    assert natural(*rule(values), "asinh") == Coordinate("linear")


def test_one_eigenvalue_far_from_zero_is_linear():
    assert natural(*rule([7.0])) == Coordinate("linear")


@pytest.mark.parametrize("factor", [1e-200, 1e-8, 1e8, 1e200])
def test_another_unit_of_the_matrix_changes_the_unit_alone(factor):
    nodes, weights = with_outliers(100.0)
    plain, scaled = natural(nodes, weights), natural(factor * nodes, weights)
    assert scaled.scale == plain.scale
    assert scaled.unit == pytest.approx(factor * plain.unit, rel=1e-12)
    np.testing.assert_allclose(scaled.forward(factor * nodes), plain.forward(nodes), rtol=1e-12)


def test_several_probes_weigh_the_same_and_their_order_does_not_matter():
    nodes = np.array([[-1.0, 0.0, 1.0], [-0.9, 0.1, 50.0]])
    weights = np.array([[0.3, 0.4, 0.3], [0.5, 0.4999, 0.0001]])
    assert natural(nodes, weights) == natural(nodes[::-1], weights[::-1])
    assert natural(nodes, weights).scale == "asinh"


def test_the_slope_is_the_derivative_in_every_coordinate():
    x, h = np.array([0.3, 2.0, 50.0]), 1e-6
    for coordinate in (Coordinate("linear"), Coordinate("asinh", 0.5), Coordinate("log")):
        measured = (coordinate.forward(x + h) - coordinate.forward(x - h)) / (2 * h)
        np.testing.assert_allclose(coordinate.slope(x), measured, rtol=1e-6)
