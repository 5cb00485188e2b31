"""The spectra are those that the literature gives: closed forms, moments, limits, and where eigenvalues coincide."""

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate

from slq import gallery
from slq.gallery._points import marchenko_pastur_points, semicircle_points


class TestContinuousLaws:
    def test_the_semicircle_has_variance_a_quarter_of_its_squared_radius(self):
        _, law = gallery.semicircle(100_000, radius=3.0)
        assert law.moment(1) == pytest.approx(0.0, abs=1e-14)
        assert law.moment(2) == pytest.approx(9 / 4, rel=1e-6)
        assert law.moment(4) == pytest.approx(2 * (9 / 4) ** 2, rel=1e-6)
        assert_array_equal(law.values, -law.values[::-1])

    @pytest.mark.parametrize("n", [1, 2, 7, 1000])
    def test_semicircle_quantiles_solve_the_closed_form_of_the_cdf(self, n):
        x = semicircle_points(n)
        cdf = 0.5 + (x * np.sqrt((1 - x) * (1 + x)) + np.arcsin(x)) / np.pi
        assert_allclose(cdf, (np.arange(n) + 0.5) / n, atol=1e-14, rtol=0)

    @pytest.mark.parametrize("ratio", [0.01, 0.5, 1.0, 2.0, 10.0])
    def test_marchenko_pastur_has_mean_one_and_variance_ratio(self, ratio):
        _, law = gallery.marchenko_pastur(100_000, ratio=ratio)
        mean, second = law.moment(1), law.moment(2)
        assert mean == pytest.approx(1.0, rel=1e-6)
        assert second - mean**2 == pytest.approx(ratio, rel=1e-5)
        assert law.moment(3) == pytest.approx(1 + 3 * ratio + ratio**2, rel=1e-5)

    @pytest.mark.parametrize("ratio", [1e-12, 1e-4, 0.1, 0.5, 0.9, 1 - 1e-6, 1 - 1e-13, 1.0, 1 + 1e-9, 1.5, 30.0])
    @pytest.mark.parametrize("n", [1, 2, 5, 2000])
    def test_marchenko_pastur_quantiles_solve_the_cdf_integrated_numerically(self, ratio, n):
        x = marchenko_pastur_points(n, ratio)
        slack = 1e-13 * (1 + ratio) + 1e-12 * x
        for i in np.unique(np.linspace(0, n - 1, 9).astype(int)):
            p = (i + 0.5) / n
            below, above = (integrated_mass(x[i] + d, ratio) for d in (-slack[i], slack[i]))
            assert below - 1e-13 <= p <= above + 1e-13
        assert np.all(np.diff(x) >= 0)

    @pytest.mark.parametrize("ratio", [1.5, 4.0])
    def test_more_variables_than_samples_leave_an_atom_at_zero(self, ratio):
        _, law = gallery.marchenko_pastur(3000, ratio=ratio)
        assert law.values[0] == 0.0
        assert law.multiplicities[0] == 3000 - 3000 / ratio
        assert law.cdf(0.0) == pytest.approx(1 - 1 / ratio)
        assert law.values[1] > (1 - math.sqrt(ratio)) ** 2

    def test_spikes_stand_where_the_phase_transition_puts_them(self):
        _, law = gallery.marchenko_pastur(500, ratio=0.25, spikes=[3.0, 5.0, 5.0])
        assert_allclose(law.values[-2:], [3 * (1 + 0.25 / 2), 5 * (1 + 0.25 / 4)], rtol=1e-15)
        assert law.multiplicities[-2:].tolist() == [1, 2]
        assert law.count(0.0, 1.5**2) == 497

    def test_the_spectrum_of_a_sampled_covariance_follows_the_law(self):
        n, ratio = 600, 0.5
        sample = np.random.default_rng(3).standard_normal((n, int(n / ratio)))
        sample[0] *= math.sqrt(6.0)
        found = np.linalg.eigvalsh(sample @ sample.T * ratio / n)
        _, law = gallery.marchenko_pastur(n, ratio=ratio, spikes=[6.0])
        assert np.abs(found[:-1] - law.eigenvalues()[:-1]).max() < 0.1
        assert found[-1] == pytest.approx(law.edges[1], rel=0.1)

    @pytest.mark.parametrize(
        ("build", "low", "high", "mass"),
        [
            (lambda n: gallery.semicircle(n, radius=2.0), -2.0, 2.0, 1.0),
            (lambda n: gallery.marchenko_pastur(n, ratio=0.3), 0.0, 3.0, 1.0),
            (lambda n: gallery.marchenko_pastur(n, ratio=2.0), 0.1, 6.0, 0.5),
            (lambda n: gallery.laplacian_1d(n), 0.0, 4.0, 1.0),
            (lambda n: gallery.laplacian_2d(math.isqrt(n)), 0.0, 8.0, 1.0),
            (lambda n: gallery.graded(n, smallest=0.1), 0.1, 1.0, 1.0),
            (lambda n: gallery.spiked(n), -1.0, 1.0, 1.0),
            (lambda n: gallery.spiked(n, bulk="arcsine"), -1.0, 1.0, 1.0),
        ],
    )
    def test_the_density_is_the_limit_of_the_cdf_and_has_the_mass_of_the_bulk(self, build, low, high, mass):
        _, law = build(40_000)
        # The peak of the square lattice, in the middle, is a cut: quad never looks at ends.
        cuts = np.linspace(low, high, 9)
        bins = [integrate.quad(law.density, a, b, limit=200)[0] for a, b in pairwise(cuts)]
        assert sum(bins) == pytest.approx(mass, abs=1e-6)
        assert_allclose(np.diff(law.cdf(cuts)), bins, atol=0.01)

    @pytest.mark.parametrize("name", ["semicircle", "marchenko_pastur", "graded", "spiked"])
    def test_densities_are_zero_outside_and_warn_nowhere(self, name):
        _, law = getattr(gallery, name)(100)
        with np.errstate(all="raise"):
            assert_array_equal(law.density(np.array([[-30.0, 30.0]])), [[0.0, 0.0]])
            assert np.all(law.density(np.linspace(-3, 3, 601)) >= 0)

    def test_a_density_at_its_singularities_is_finite_or_zero(self):
        assert gallery.laplacian_1d(5)[1].density(np.array([0.0, 4.0])).tolist() == [0.0, 0.0]
        assert gallery.marchenko_pastur(5, ratio=1.0)[1].density(np.array([0.0])).tolist() == [0.0]

    @pytest.mark.parametrize("name", ["strakos", "clustered"])
    def test_spectra_without_a_continuous_limit_have_no_density(self, name):
        assert getattr(gallery, name)(20)[1].density is None


class TestDiscreteSpectra:
    def test_equal_sums_of_a_square_grid_are_one_eigenvalue(self):
        _, law = gallery.laplacian_2d(100)
        assert law.count(4 - 1e-9, 4 + 1e-9) == 100
        assert law.multiplicities[law.values == 4.0].tolist() == [100]
        assert law.multiplicities[0] == 1
        assert law.multiplicities[1] == 2

    @pytest.mark.parametrize("build", [gallery.laplacian_2d, gallery.laplacian_3d])
    def test_grouping_leaves_no_pair_closer_than_rounding(self, build):
        _, law = build(20)
        assert np.diff(law.values).min() > 1e-10

    def test_the_smallest_eigenvalue_of_a_long_path_is_relatively_accurate(self):
        _, law = gallery.laplacian_1d(10**6)
        t = math.pi / (10**6 + 1)
        assert law.values[0] == pytest.approx(t * t * (1 - t * t / 12), rel=1e-14)
        assert law.values.size == 10**6
        assert_allclose(law.moment(1), 2.0, rtol=1e-14)

    def test_the_log_determinant_of_a_path_is_that_of_its_length(self):
        _, law = gallery.laplacian_1d(999)
        assert law.trace(np.log) == pytest.approx(math.log(1000), rel=1e-12)

    def test_the_grid_sides_default_to_a_cube(self):
        assert gallery.laplacian_2d(4)[1].n == 16
        assert gallery.laplacian_3d(3)[1].n == 27
        assert gallery.laplacian_3d(3, 2)[1].n == 12

    def test_the_kneser_graph_of_five_over_two_is_the_petersen_graph(self):
        _, law = gallery.kneser(5, 2)
        assert law.values.tolist() == [-2.0, 1.0, 3.0]
        assert law.multiplicities.tolist() == [4, 5, 1]

    def test_a_kneser_graph_of_many_vertices_multiplies_as_its_law_says(self):
        A, law = gallery.kneser(15, 6)
        assert law.n == 5005
        ones = np.ones((law.n, 1))
        assert_array_equal(A.matmat(ones), law.edges[1] * ones)
        assert law.moment(2) == math.comb(9, 6)  # closed walks of length two: the degree

    def test_strakos_places_its_eigenvalues_by_the_formula(self):
        _, law = gallery.strakos(5, smallest=1.0, largest=9.0, rho=0.5)
        expected = [1 + i / 4 * 8 * 0.5 ** (4 - i) for i in range(5)]
        assert_allclose(law.values, expected, rtol=1e-15)

    def test_strakos_merges_what_float64_cannot_tell_apart(self):
        _, law = gallery.strakos(5000)
        assert law.multiplicities[0] > 1000
        assert law.n == 5000

    def test_graded_spectra_reach_both_edges_exactly(self):
        _, law = gallery.graded(50)
        assert law.edges == (1e-7, 1.0)
        assert_allclose(np.diff(np.log10(law.values)), 7 / 49, rtol=1e-11)

    def test_clusters_have_equal_shares_within_their_width(self):
        _, law = gallery.clustered(103, centres=[5.0, -1.0], width=0.2)
        assert law.count(4.9, 5.1) == 52
        assert law.count(-1.1, -0.9) == 51

    def test_outliers_are_simple_and_the_rest_is_bulk(self):
        _, law = gallery.spiked(10_000)
        outside = np.abs(law.values) > 1
        assert outside.sum() == 10
        assert_array_equal(law.multiplicities[outside], 1)
        assert law.count(-1.0, 1.0) == 9990

    def test_eigenvalues_of_any_order_are_sorted_and_grouped(self):
        _, law = gallery.from_eigenvalues([2, 1, 2], multiplicities=[1, 2, 3])
        assert law.values.tolist() == [1.0, 2.0]
        assert law.multiplicities.tolist() == [2, 4]

    def test_a_diagonal_operator_scales_the_unit_vectors(self):
        A, _ = gallery.from_eigenvalues([2.0, 1.0], multiplicities=[1, 2], rotate=False)
        assert_array_equal(A.matmat(np.eye(3)), np.diag([1.0, 1.0, 2.0]))

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_extreme_scales_stay_exact(self, scale):
        A, law = gallery.from_eigenvalues([scale, 2 * scale])
        found = np.linalg.eigvalsh(A.matmat(np.eye(2)) / scale)
        assert_allclose(found, law.values / scale, rtol=1e-14)


def integrated_mass(x, ratio):
    """Integrate the continuous part of a Marchenko-Pastur law up to x, scaled to mass 1.

    In the angle of the support, with panels that shrink towards the corner of a ratio near one.
    """
    if ratio > 1:
        return integrated_mass(x / ratio, 1 / ratio)
    root = math.sqrt(ratio)
    angle = 2 * math.asin(math.sqrt(min(max((x - (1 - root) ** 2) / (4 * root), 0.0), 1.0)))
    nodes, weights = np.polynomial.legendre.leggauss(30)
    edges = np.concatenate([[0.0], np.geomspace(1e-18, 1.0, 80)]) * angle
    half = np.diff(edges)[:, None] / 2
    t = edges[:-1, None] + half * (nodes + 1)
    support = (1 - root) ** 2 + 4 * root * np.sin(t / 2) ** 2
    return np.sum(half * weights * 2 * np.sin(t) ** 2 / (np.pi * support))
