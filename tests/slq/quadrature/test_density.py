"""Densities and distribution functions: mass, accuracy, bands, gaps."""

import numpy as np
import pytest

import slq
from slq._quadrature._measure import cell_widths


@pytest.mark.parametrize("scale", ["linear", "asinh"])
@pytest.mark.parametrize("make", [slq.gallery.semicircle, slq.gallery.spiked, slq.gallery.graded])
def test_curve_and_stems_have_mass_one(make, scale):
    s = slq.spectrum(make(2000)[0], probes=3, steps=40, rng=0)
    d = s.density(scale=scale)
    y = np.arcsinh(d.x / d.unit) if d.scale == "asinh" else d.x
    assert np.trapezoid(d.value, y) + d.stems[:, 1].sum() == pytest.approx(1.0, abs=0.02)
    assert np.all(d.low >= 0)
    assert np.all(d.low <= d.value)
    assert np.all(d.value <= d.high)
    assert np.all(d.resolution > 0)


def test_the_density_of_a_semicircle_is_close_to_its_law():
    operator, law = slq.gallery.semicircle(20_000)
    d = slq.spectrum(operator, probes=4, steps=40, rng=0).density()
    assert np.trapezoid(np.abs(d.value - law.density(d.x)), d.x) < 0.06


@pytest.mark.parametrize(
    ("make", "bound"),
    [(slq.gallery.semicircle, 0.003), (slq.gallery.marchenko_pastur, 0.003), (slq.gallery.spiked, 0.001)],
)
def test_the_distribution_function_is_accurate_after_twenty_steps(make, bound):
    operator, law = make(20_000)
    s = slq.spectrum(operator, probes=4, steps=20, rng=0)
    x = np.linspace(*law.edges, 5000)
    error = np.trapezoid(np.abs(s.cdf(x).value - law.cdf(x)), x) / (law.edges[1] - law.edges[0])
    assert error < bound


def test_a_density_with_deflated_probes_has_mass_one():
    values = np.sort(10.0 ** -np.linspace(0, 4, 300))
    s = slq.spectrum(slq.gallery.from_eigenvalues(values)[0], tol=0.01, rng=0)
    d = s.density()
    assert np.trapezoid(d.value, d.x) + d.stems[:, 1].sum() == pytest.approx(1.0, abs=0.03)


def test_every_eigenvalue_alone_leaves_an_empty_curve():
    d = slq.spectrum(np.diag([1.0, 2.0]), probes=2, steps=2, rng=0).density()
    assert d.stems[:, 1].sum() + np.trapezoid(d.value, d.x) == pytest.approx(1.0, abs=0.02)


def test_mass_is_not_spread_over_gaps():
    y = np.array([0.0, 0.1, 0.2, 5.0, 5.1])
    left, right = cell_widths(y, np.full(5, np.inf))
    assert right[2] <= 0.1 + 1e-12
    assert left[3] <= 0.1 + 1e-12
    assert right[0] == pytest.approx(0.05)


def test_the_distribution_function_rises_from_zero_to_one_in_any_order_of_points():
    s = slq.spectrum(slq.gallery.laplacian_2d(30)[0], probes=3, steps=30, rng=0)
    x = np.linspace(-1.0, 9.0, 200)
    band = s.cdf(x)
    assert np.all(np.diff(band.value) >= 0)
    assert band.value[0] == 0.0
    assert band.value[-1] == 1.0
    mixed = np.random.default_rng(0).permutation(200)
    np.testing.assert_array_equal(s.cdf(x[mixed]).value, band.value[mixed])


def test_quantiles_invert_the_distribution_function():
    operator, law = slq.gallery.semicircle(5000)
    s = slq.spectrum(operator, probes=4, steps=60, rng=0)
    q = np.array([0.1, 0.5, 0.9])
    band = s.quantile(q)
    np.testing.assert_allclose(band.value, law.quantile(q), atol=0.03)
    assert np.all((band.low <= law.quantile(q)) & (law.quantile(q) <= band.high))
    assert np.all(np.diff(band.value) > 0)


def test_a_fixed_width_is_used_everywhere():
    s = slq.spectrum(slq.gallery.semicircle(500)[0], probes=2, steps=20, rng=0)
    np.testing.assert_allclose(s.density(width=0.2).width, 0.2)
