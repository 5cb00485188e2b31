"""Brackets and edges are theorems: they hold in every case tried."""

import numpy as np
import pytest

import slq
from slq._quadrature._bounds import beta_interval, bracket_cdf, kolmogorov_halfwidth, upper_edges


def random_case(rng):
    """Return eigenvalues, a unit vector in their basis, and the run of a random number of steps."""
    n = int(rng.integers(2, 60))
    kinds = (
        lambda: rng.standard_normal(n),
        lambda: 10.0 ** rng.uniform(-7, 0, n),
        lambda: np.repeat(rng.standard_normal(n // 3 + 1), 3)[:n],
        lambda: np.append(rng.standard_normal(n - 1) * 1e-3, 5.0),
        lambda: rng.choice([-1.0, 1.0], n) + 1e-6 * rng.standard_normal(n),
    )
    values = kinds[int(rng.integers(len(kinds)))]()
    v = rng.standard_normal(n)
    v /= np.linalg.norm(v)
    operator = slq.as_operator(lambda x: values * x, n=n)
    return values, v, slq.lanczos(operator, v, int(rng.integers(1, n + 1)))


@pytest.mark.slow
def test_the_bracket_of_the_distribution_function_always_holds():
    rng = np.random.default_rng(0)
    for _ in range(600):
        values, v, T = random_case(rng)
        rule, m = slq.gauss(T), int(T.lengths[0])
        noise = 8 * np.finfo(float).eps * np.abs(rule.nodes).max()
        nodes = rule.nodes[0, :m]
        x = np.unique(np.concatenate([nodes, nodes + 1e-9, nodes - 1e-9, values - 1e-6, rng.uniform(-2, 2, 20)]))
        x = x[np.abs(x[:, None] - values).min(axis=1) > 4 * noise]
        psi = ((values <= x[:, None]) * v**2).sum(axis=1)
        low, high = bracket_cdf(x, nodes, rule.weights[0, :m], rule.residuals[0, :m] + noise, noise)
        assert np.all(low - 1e-12 <= psi)
        assert np.all(psi <= high + 1e-12)


def test_the_bracket_is_quadratically_tight_in_a_gap_once_both_sides_have_converged():
    values = np.concatenate([np.linspace(0, 1e-5, 200), np.linspace(3, 3 + 1e-5, 200)])
    v = np.random.default_rng(0).standard_normal(400)
    T = slq.lanczos(np.diag(values), v, 6)
    rule = slq.gauss(T)
    low, high = bracket_cdf(np.array([2.0]), rule.nodes[0], rule.weights[0], rule.residuals[0] + 1e-14, 1e-14)
    assert high[0] - low[0] < 1e-8
    assert rule.weights[0].max() > 0.01  # where the Chebyshev-Markov-Stieltjes bracket alone stays


@pytest.mark.slow
@pytest.mark.parametrize("risk", [0.5, 0.1])
def test_edges_are_violated_no_more_often_than_stated(risk):
    rng = np.random.default_rng(1)
    violated = 0
    for _ in range(400):
        values, _, T = random_case(rng)
        nodes = slq.gauss(T).nodes[:, : T.lengths[0]]
        violated += values.max() > upper_edges(nodes, T.beta, len(values), risk)[0] + 1e-14
    assert violated <= 400 * risk


def test_edges_are_tight():
    operator, _ = slq.gallery.semicircle(20_000)
    s = slq.spectrum(operator, probes=1, steps=60, rng=0)
    assert 1.0 <= s.edges[1] <= 1.03
    assert -1.03 <= s.edges[0] <= -1.0


def test_the_kolmogorov_band_covers():
    rng = np.random.default_rng(0)
    n, k, held = 500, 4, 0
    for _ in range(1000):
        weights = rng.standard_normal((k, n)) ** 2
        psi = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1).mean(axis=0)
        held += np.abs(psi - np.arange(1, n + 1) / n).max() <= kolmogorov_halfwidth(n, k, 0.95)
    assert 0.93 <= held / 1000 <= 0.98


@pytest.mark.parametrize(("count", "n", "k"), [(1, 300, 1), (5, 300, 4), (150, 300, 2), (290, 300, 8)])
def test_beta_intervals_of_a_share_cover(count, n, k):
    rng = np.random.default_rng(count)
    held = 0
    for _ in range(800):
        mass = rng.beta(count / 2, (n - count) / 2, size=k).mean()
        low, high = beta_interval(mass, mass, n, k, 0.95)
        held += low <= count / n <= high
    assert 0.925 <= held / 800 <= 0.98


def test_no_mass_and_all_mass_are_certain():
    assert beta_interval(0.0, 1.0, 100, 2, 0.95) == (0.0, 1.0)
    assert kolmogorov_halfwidth(1, 1, 0.95) == 0.0
