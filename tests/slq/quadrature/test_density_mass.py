"""Densities hold all of the mass, leave gaps empty, keep their width, and say what they resolve."""

import numpy as np
import pytest

import slq
from slq._quadrature._measure import cell_widths


def run(values, **options):
    values = np.asarray(values)
    return slq.spectrum(slq.as_operator(lambda x: values * x, n=len(values)), **options)


def mass(d):
    """Add up curve and stems."""
    y = np.arcsinh(d.x / d.unit) if d.scale == "asinh" else d.x
    return np.trapezoid(d.value, y) + d.stems[:, 1].sum()


@pytest.mark.parametrize("scale", ["linear", "asinh"])
@pytest.mark.parametrize("steps", [30, 60])
@pytest.mark.parametrize(
    "make",
    [
        lambda: slq.gallery.semicircle(1000),
        lambda: slq.gallery.marchenko_pastur(1000, ratio=2.0),
        lambda: slq.gallery.spiked(1000),
        lambda: slq.gallery.laplacian_2d(30),
        lambda: slq.gallery.clustered(1000),
        lambda: slq.gallery.hypercube(10),
    ],
)
def test_curve_and_stems_hold_all_the_mass(make, steps, scale):
    operator, _ = make()
    for seed in range(3):
        assert mass(slq.spectrum(operator, probes=4, steps=steps, rng=seed).density(scale=scale)) == pytest.approx(
            1.0, abs=0.02
        )


@pytest.mark.parametrize("points", [50, 400, 5000])
def test_any_grid_that_covers_the_spectrum_holds_the_mass(points):
    s = slq.spectrum(slq.gallery.spiked(2000)[0], probes=4, steps=50, rng=0)
    x = np.linspace(-4, 12, points)
    assert mass(s.density(x)) == pytest.approx(1.0, abs=0.02)
    np.testing.assert_array_equal(s.density(x).x, x)


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_the_default_grid_holds_the_mass_after_few_steps(steps):
    assert mass(run(np.linspace(-1, 1, 500), probes=2, steps=steps, rng=0).density()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("values", [np.ones(5), np.repeat([1.0, 2.0, 5.0], 10)], ids=["identity", "three values"])
def test_stems_of_one_probe_hold_the_mass_where_eigenvalues_repeat(values):
    for seed in range(5):
        assert mass(run(values, probes=1, steps=5, rng=seed).density()) == pytest.approx(1.0, abs=0.02)


def test_a_known_eigenvalue_and_an_atom_share_the_mass():
    for seed in range(5):
        d = run(np.append(np.zeros(59), 5.0), probes=2, steps=3, rng=seed).density()
        assert mass(d) == pytest.approx(1.0, abs=1e-3)


def test_nodes_that_have_not_converged_stay_in_the_curve_beside_a_stem():
    rng = np.random.default_rng(5)
    for seed in range(30):
        values = np.append(rng.standard_normal(76), 10.0 ** rng.uniform(1, 8))
        s = run(values, probes=4, steps=23, rng=seed, reorth="none")
        assert mass(s.density()) == pytest.approx(1.0, abs=0.03)


def test_a_gap_between_clusters_stays_empty():
    operator, _ = slq.gallery.clustered(2000, centres=[0.0, 1.0, 5.0], width=0.2)
    s = slq.spectrum(operator, probes=4, steps=40, rng=0)
    d = s.density(np.linspace(-1, 6, 2000))
    for a, b in ((0.3, 0.7), (1.4, 4.6)):
        assert np.max(d.value[(d.x > a) & (d.x < b)]) < 1e-3 * d.value.max()
        share = s.cdf([a, b]).value
        assert share[1] - share[0] < 1e-6


def test_cells_are_half_the_way_to_the_neighbours_and_no_wider_than_the_other_side():
    y = np.array([0.0, 0.1, 0.3, 10.0, 10.2])
    left, right = cell_widths(y, np.full(5, np.inf))
    np.testing.assert_allclose(right, [0.05, 0.1, 0.2, 0.1, 0.1])
    np.testing.assert_allclose(left, [0.05, 0.05, 0.1, 0.2, 0.1])
    left, right = cell_widths(y, np.full(5, 0.01))
    np.testing.assert_allclose(np.stack([left, right]), 0.01)


def test_one_node_has_no_cell():
    left, right = cell_widths(np.array([2.0]), np.array([0.5]))
    assert left[0] == right[0] == 0.0


def test_the_curve_lies_in_its_band_and_is_never_negative():
    for make in (slq.gallery.semicircle, slq.gallery.graded, slq.gallery.spiked):
        d = slq.spectrum(make(1500)[0], probes=3, steps=40, rng=0).density()
        assert np.all(d.low >= 0)
        assert np.all(d.low <= d.value)
        assert np.all(d.value <= d.high)
        assert d.claim == "estimate"
        assert d.x.shape == d.value.shape == d.low.shape == d.high.shape == d.width.shape == d.resolution.shape


@pytest.mark.parametrize(
    ("make", "limit"),
    [(lambda: slq.gallery.semicircle(20_000), 0.06), (lambda: slq.gallery.marchenko_pastur(20_000), 0.08)],
)
def test_the_curve_is_close_to_the_law(make, limit):
    operator, law = make()
    for seed in range(3):
        d = slq.spectrum(operator, probes=4, steps=40, rng=seed).density()
        assert np.trapezoid(np.abs(d.value - law.density(d.x)), d.x) < limit


def test_the_pointwise_band_holds_the_law_nearly_everywhere():
    operator, law = slq.gallery.semicircle(20_000)
    inside = np.linspace(-0.9, 0.9, 300)
    shares = []
    for seed in range(5):
        d = slq.spectrum(operator, probes=4, steps=60, rng=seed).density(inside)
        shares.append(np.mean((d.low <= law.density(inside)) & (law.density(inside) <= d.high)))
    assert np.mean(shares) > 0.9


def test_a_fixed_width_is_kept_and_blurs_more_when_it_is_larger():
    s = slq.spectrum(slq.gallery.semicircle(5000)[0], probes=4, steps=50, rng=0)
    x = np.linspace(-4, 4, 2000)
    narrow, wide = s.density(x, width=0.1), s.density(x, width=0.5)
    np.testing.assert_allclose(wide.width, 0.5)
    assert narrow.value.max() > wide.value.max()
    assert mass(narrow) == pytest.approx(1, abs=1e-3)
    assert mass(wide) == pytest.approx(1, abs=1e-3)
    variance = np.trapezoid(wide.value * x**2, x)
    assert variance == pytest.approx(0.25 + 0.25, rel=0.05)  # of the semicircle and of the kernel


@pytest.mark.parametrize("width", [0.0, -1.0, np.nan])
def test_a_width_must_be_positive(width):
    s = run(np.linspace(0, 1, 50), probes=2, steps=5, rng=0)
    with pytest.raises(ValueError, match="`width` must be positive"):
        s.density(width=width)


def test_unknown_kinds_and_descending_points_are_refused():
    s = run(np.linspace(0, 1, 50), probes=2, steps=5, rng=0)
    with pytest.raises(ValueError, match=r"`kind` must be one of 'adaptive', .*, got 'kde'"):
        s.density(kind="kde")
    with pytest.raises(ValueError, match="`x` must ascend"):
        s.density([0.0, 1.0, 0.5])


def test_resolution_is_the_distance_of_the_nodes_and_halves_with_twice_the_steps():
    operator, _ = slq.gallery.semicircle(4000)
    few, many = (slq.spectrum(operator, probes=2, steps=m, rng=0) for m in (20, 40))
    assert few.resolution(0.0)[0] == pytest.approx(np.pi / 20, rel=0.15)
    assert many.resolution(0.0)[0] == pytest.approx(few.resolution(0.0)[0] / 2, rel=0.15)
    assert many.resolution([0.0])[0] > many.resolution([0.95])[0]  # nodes crowd at the edges
    assert np.all(many.resolution([-5.0, 5.0]) > 0)


def test_scaling_the_eigenvalues_scales_the_density_inversely():
    values = np.append(np.linspace(-1, 1, 300), 4.0)
    plain, scaled = (run(values * c, probes=3, steps=30, rng=0).density() for c in (1.0, 1e150))
    np.testing.assert_allclose(scaled.value * 1e150, plain.value, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scaled.x / 1e150, plain.x, rtol=1e-9, atol=1e-12)


def test_asinh_needs_no_unit_and_resolves_a_bulk_beside_a_far_outlier():
    values = np.append(np.random.default_rng(0).standard_normal(1000), 500.0)
    s = run(values, probes=4, steps=40, rng=0)
    assert s.coordinate().scale == "asinh"
    d = s.density(scale="asinh")
    assert d.scale == "asinh"
    assert d.unit == s.coordinate("asinh").unit > 0
    assert np.sum(d.value > 0.1 * d.value.max()) > 100  # the bulk covers many points
    np.testing.assert_allclose(d.stems, [[500.0, 1 / 1001]], rtol=1e-9)
