"""Bounds in harder cases: a thousand brackets, edges and shares at many risks, extreme units; exact laws as oracles."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import slq
from slq._quadrature._bounds import beta_interval, bracket_cdf, certified_edges, kolmogorov_halfwidth, upper_edges

EPS = np.finfo(np.float64).eps


def diagonal(values):
    """Make an operator that multiplies by a diagonal matrix, exact to one rounding."""
    return slq.as_operator(lambda x: values * x, n=len(values))


def unit_columns(rng, n, k):
    """Draw k points of the unit sphere as columns."""
    v = rng.standard_normal((n, k))
    return v / np.linalg.norm(v, axis=0)


def random_spectrum(rng):
    """Draw a difficult small spectrum: spread, clustered, graded, repeated, spiked, two-sided."""
    n = int(rng.integers(2, 61))
    kind = rng.integers(6)
    if kind == 0:
        values = rng.standard_normal(n)
    elif kind == 1:
        values = rng.choice([-2.0, -0.5, 1.0, 3.0], n) + 10.0 ** rng.uniform(-12, -2) * rng.standard_normal(n)
    elif kind == 2:
        values = np.geomspace(10.0 ** rng.uniform(-14, -1), 1.0, n)
    elif kind == 3:
        values = rng.choice(rng.standard_normal(int(rng.integers(1, 6))), n)
    elif kind == 4:
        values = np.concatenate([rng.standard_normal(n - 1), [10.0 ** rng.uniform(1, 8)]])
    else:
        values = rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-6, 3, n)
    return np.sort(values * 10.0 ** rng.integers(-30, 30))


def true_share(x, values, weights):
    """Return v^T 1[A <= x] v of a diagonal matrix."""
    return np.append(0.0, np.cumsum(weights))[np.searchsorted(values, x, side="right")]


def bracketed(T, i):
    """Return the rule of probe i, without leftovers, and its noise floor."""
    rule = slq.gauss(T)
    alive = rule.weights[i] > 0
    noise = 8 * EPS * np.abs(rule.nodes[i]).max()
    return rule.nodes[i, alive], rule.weights[i, alive], rule.residuals[i, alive] + noise, noise


class TestTheBracketOfTheDistributionFunction:
    def test_is_never_violated_in_a_thousand_random_cases(self):
        rng = np.random.default_rng(20240501)
        cases, violations = 0, []
        while cases < 1000:
            values = random_spectrum(rng)
            n, span = len(values), np.ptp(values) or abs(values[0]) or 1.0
            v = unit_columns(rng, n, 4)
            steps = int(rng.integers(1, min(n, 30) + 1))
            T = slq.lanczos(diagonal(values), v, steps)
            for i in range(4):
                nodes, weights, residuals, noise = bracketed(T, i)
                near = nodes[:, None] + span * 10.0 ** np.array([-14.0, -10, -6, -3]) * rng.choice([-1, 1], 4)
                near_eigenvalues = values[:, None] + span * 10.0 ** np.array([-12.0, -8, -4]) * rng.choice([-1, 1], 3)
                far = rng.uniform(values[0] - span, values[-1] + span, 40)
                middles = 0.5 * (nodes[1:] + nodes[:-1])
                x = np.sort(np.concatenate([near.ravel(), near_eigenvalues.ravel(), far, middles, nodes]))
                x = x[np.abs(x[:, None] - values).min(axis=1) > 4 * noise]
                low, high = bracket_cdf(x, nodes, weights, residuals, noise)
                truth = true_share(x, values, v[:, i] ** 2)
                # v is given in roundings, too
                if np.any(low > truth + 16 * EPS) or np.any(high < truth - 16 * EPS):
                    violations.append((n, steps, float(max((low - truth).max(), (truth - high).max()))))
                cases += 1
        assert violations == []

    def test_is_monotone_and_within_zero_and_one(self):
        rng = np.random.default_rng(1)
        values = np.sort(rng.standard_normal(40))
        T = slq.lanczos(diagonal(values), rng.standard_normal(40), 12)
        x = np.linspace(-4, 4, 999)
        low, high = bracket_cdf(x, *bracketed(T, 0))
        assert np.all(np.diff(low) >= 0)
        assert np.all(np.diff(high) >= 0)
        assert np.all((low >= 0) & (low <= high) & (high <= 1))

    def test_is_no_wider_than_two_neighbouring_weights_with_a_gauss_rule_alone(self):
        rng = np.random.default_rng(2)
        values = np.sort(rng.standard_normal(60))
        nodes, weights, residuals, noise = bracketed(slq.lanczos(diagonal(values), rng.standard_normal(60), 10), 0)
        x = 0.5 * (nodes[1:] + nodes[:-1])
        low, high = bracket_cdf(x, nodes, weights, residuals, noise)
        assert np.all(high - low <= weights[1:] + weights[:-1] + 1e-12)

    def test_closes_in_a_gap_whose_sides_have_converged(self):
        rng = np.random.default_rng(3)
        values = np.concatenate([-1 - np.linspace(0, 1e-4, 100), 1 + np.linspace(0, 1e-4, 100)])
        rule = bracketed(slq.lanczos(diagonal(values), rng.standard_normal(200), 4), 0)
        low, high = bracket_cdf(np.array([0.0]), *rule)
        assert high[0] - low[0] < 1e-6

    def test_is_zero_and_one_outside_an_invariant_space(self):
        nodes, weights, residuals, noise = bracketed(slq.lanczos(diagonal(np.array([1.0, 2.0])), np.ones(2), 2), 0)
        low, high = bracket_cdf(np.array([0.0, 1.5, 3.0]), nodes, weights, residuals, noise)
        np.testing.assert_allclose(low, [0, 0.5, 1], atol=1e-14)
        np.testing.assert_allclose(high, [0, 0.5, 1], atol=1e-14)

    @pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e290])
    def test_does_not_depend_on_the_unit_of_the_eigenvalues(self, scale):
        rng = np.random.default_rng(4)
        values = np.sort(rng.standard_normal(50))
        v = rng.standard_normal(50)
        x = np.linspace(-3, 3, 101)
        plain = bracket_cdf(x, *bracketed(slq.lanczos(diagonal(values), v, 15), 0))
        scaled = bracket_cdf(x * scale, *bracketed(slq.lanczos(diagonal(values * scale), v, 15), 0))
        np.testing.assert_allclose(scaled, plain, atol=1e-12)


class TestEdges:
    @pytest.mark.slow
    @pytest.mark.parametrize("risk", [0.5, 0.1, 0.02])
    @pytest.mark.parametrize("steps", [3, 10, 25])
    def test_are_exceeded_no_more_often_than_the_stated_risk(self, risk, steps):
        rng = np.random.default_rng(steps)
        n, k = 100, 1000
        for values in (np.linspace(-1, 1, n), np.sort(rng.standard_normal(n)), np.geomspace(1e-4, 1.0, n)):
            T = slq.lanczos(diagonal(values), unit_columns(rng, n, k), steps)
            edges = upper_edges(slq.gauss(T).nodes, T.beta, n, risk)
            exceeded = np.mean(edges < values[-1])
            assert exceeded <= risk + 3 * np.sqrt(risk * (1 - risk) / k)

    def test_lie_above_the_largest_node_and_shrink_to_it_with_the_steps(self):
        rng = np.random.default_rng(0)
        values = np.append(np.linspace(-1, 1, 500), 1.5)
        v = unit_columns(rng, 501, 1)
        excess = []
        for steps in (10, 20, 40):
            T = slq.lanczos(diagonal(values), v, steps)
            edges = upper_edges(slq.gauss(T).nodes, T.beta, 501, 0.01)
            assert edges[0] >= slq.gauss(T).nodes.max()
            excess.append(edges[0] - 1.5)
        assert excess[0] > excess[1] > excess[2]
        assert excess[2] < 1e-8

    def test_are_exact_where_the_krylov_space_is_invariant(self):
        values = np.repeat([-1.0, 0.5, 2.0], 7)
        T = slq.lanczos(diagonal(values), np.random.default_rng(0).standard_normal((21, 3)), 21)
        assert T.invariant.all()
        nodes = slq.gauss(T).nodes
        assert_array_equal(upper_edges(nodes, T.beta, 21, 0.01), nodes.max(axis=1))
        low, high = certified_edges(nodes, T.beta, T.lengths, 21, risk=0.01, noise=0.0)
        assert (low, high) == pytest.approx((-1.0, 2.0), rel=1e-14)

    def test_take_the_best_probe_and_widen_it_by_the_noise(self):
        rng = np.random.default_rng(5)
        values = np.linspace(-1, 1, 300)
        T = slq.lanczos(diagonal(values), unit_columns(rng, 300, 4), 20)
        nodes = slq.gauss(T).nodes
        low, high = certified_edges(nodes, T.beta, T.lengths, 300, risk=0.08, noise=0.25)
        assert high == pytest.approx(upper_edges(nodes, T.beta, 300, 0.01).min() + 0.25)
        assert low == pytest.approx(-upper_edges(-nodes, T.beta, 300, 0.01).min() - 0.25)

    def test_of_probes_of_different_lengths_are_each_taken_at_their_own(self):
        values = np.repeat([0.0, 1.0, 3.0, 7.0], 25)
        v = np.random.default_rng(6).standard_normal((100, 2))
        v[values == 7.0, 0] = 0.0  # this one ends after three steps
        T = slq.lanczos(diagonal(values), v, 4)
        assert T.lengths.tolist() == [3, 4]
        low, high = certified_edges(slq.gauss(T).nodes, T.beta, T.lengths, 100, risk=0.01, noise=0.0)
        assert low == pytest.approx(0.0, abs=1e-12)
        assert np.isfinite(high)

    @pytest.mark.parametrize("scale", [1e-280, 1e-20, 1e20, 1e280])
    def test_scale_with_the_operator(self, scale):
        values = np.linspace(-1, 2, 80)
        v = np.random.default_rng(7).standard_normal(80)
        plain, scaled = (slq.lanczos(diagonal(s * values), v, 12) for s in (1.0, scale))
        edges = [upper_edges(slq.gauss(T).nodes, T.beta, 80, 0.01) for T in (plain, scaled)]
        assert edges[1] / scale == pytest.approx(edges[0], rel=1e-9)


class TestTheKolmogorovBand:
    @pytest.mark.parametrize(("n", "k"), [(500, 4), (500, 1), (100, 2)])
    def test_covers_the_whole_function_as_often_as_it_says(self, n, k):
        rng = np.random.default_rng(n + k)
        draws = 2000
        chi = rng.standard_normal((draws, k, n)) ** 2
        weights = (chi / chi.sum(axis=-1, keepdims=True)).mean(axis=1)
        worst = np.abs(np.cumsum(weights, axis=1) - np.arange(1, n + 1) / n).max(axis=1)
        covered = np.mean(worst <= kolmogorov_halfwidth(n, k, 0.95))
        assert 0.93 <= covered <= 0.98

    def test_narrows_with_probes_and_dimension_and_widens_with_the_confidence(self):
        assert kolmogorov_halfwidth(1000, 4, 0.95) == pytest.approx(kolmogorov_halfwidth(1000, 1, 0.95) / 2)
        assert kolmogorov_halfwidth(4000, 1, 0.95) < kolmogorov_halfwidth(1000, 1, 0.95)
        assert kolmogorov_halfwidth(1000, 1, 0.99) > kolmogorov_halfwidth(1000, 1, 0.95)
        assert kolmogorov_halfwidth(1, 1, 0.95) == 0.0


class TestTheIntervalOfAShare:
    @pytest.mark.slow
    @pytest.mark.parametrize("k", [1, 4])
    @pytest.mark.parametrize(("n", "count"), [(100, 50), (500, 10), (500, 250), (2000, 1), (2000, 1990), (50, 3)])
    def test_covers_the_truth_as_often_as_it_says(self, n, count, k):
        rng = np.random.default_rng(n + count + k)
        draws = 1000
        masses = rng.beta(count / 2, (n - count) / 2, (draws, k)).mean(axis=1)
        intervals = np.array([beta_interval(mass, mass, n, k, 0.95) for mass in masses])
        share = count / n
        covered = np.mean((intervals[:, 0] <= share) & (share <= intervals[:, 1]))
        assert 0.93 <= covered <= 0.975

    def test_only_widens_when_the_mass_is_known_less_well(self):
        sharp, wide = beta_interval(0.3, 0.3, 100, 2, 0.95), beta_interval(0.25, 0.35, 100, 2, 0.95)
        assert wide[0] < sharp[0] < 0.3 < sharp[1] < wide[1]

    def test_says_none_or_all_where_no_or_all_mass_was_seen(self):
        assert beta_interval(0.0, 0.0, 100, 1, 0.95) == (0.0, 0.0)
        assert beta_interval(1.0, 1.0, 100, 1, 0.95) == (1.0, 1.0)

    def test_of_one_eigenvalue_or_none_is_what_was_seen(self):
        assert beta_interval(0.2, 0.4, 1, 1, 0.95) == (0.2, 0.4)
        assert beta_interval(0.2, 0.4, 0, 1, 0.95) == (0.2, 0.4)
