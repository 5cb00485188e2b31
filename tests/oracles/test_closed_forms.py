"""Answers against closed forms: Toeplitz, Kneser, hypercube, Laplacians, Marchenko-Pastur, spin rings.

Single runs are asked at 99.99 %, so that a miss is a mistake.
"""

import math
from itertools import combinations

import numpy as np
import pytest
import scipy.sparse

import slq

SURE = 0.9999


def holds(found, truth):
    """Tell whether an estimate or a band holds the truth, to rounding."""
    slack = 1e-10 * np.maximum(np.abs(truth), 1.0)
    return bool(np.all((np.asarray(found.low) - slack <= truth) & (truth <= np.asarray(found.high) + slack)))


def toeplitz_gram(n, a, b):
    """Build B^T B of the bidiagonal B with a on and b above the diagonal: log det 2 n log a."""
    B = scipy.sparse.diags_array([np.full(n, a), np.full(n - 1, b)], offsets=[0, 1], format="csr")
    return (B.T @ B).tocsr()


@pytest.mark.parametrize(("a", "b"), [(2.0, 1.0), (2.0, -1.2)])
def test_the_log_determinant_and_inverse_of_a_toeplitz_gram_matrix(a, b):
    n, q = 5_000, b / a
    A = toeplitz_gram(n, a, b)
    inverse = (n - q**2 * (1 - q ** (2 * n)) / (1 - q**2)) / (a**2 - b**2)
    for ask, truth in ((slq.logdet, 2 * n * math.log(a)), (slq.trace_inverse, inverse)):
        found = ask(A, 2e-2, rng=0, confidence=SURE)
        assert holds(found, truth)
        assert found.claim == "certified"
        assert found.high - found.low <= 4.04e-2 * truth


def test_the_nuclear_norm_of_a_factor_from_its_gram_matrix():
    n, a, b = 400, 2.0, 1.0
    B = np.diag(np.full(n, a)) + np.diag(np.full(n - 1, b), 1)
    s = slq.spectrum(toeplitz_gram(n, a, b), probes=4, steps=40, rng=0, confidence=SURE)
    assert holds(s.nuclear_norm(gram=True), np.linalg.norm(B, "nuc"))
    assert s.nuclear_norm(gram=True).claim == "certified"
    assert holds(s.schatten_norm(3, gram=True), np.sum(np.linalg.svd(B, compute_uv=False) ** 3) ** (1 / 3))


@pytest.mark.parametrize(
    "order", [(5, 2), (11, 5), pytest.param((23, 11), marks=pytest.mark.slow)], ids=["5-2", "11-5", "23-11"]
)
def test_one_probe_is_exact_once_it_has_a_step_per_distinct_eigenvalue_of_a_kneser_graph(order):
    N, K = order
    operator, law = slq.gallery.kneser(N, K)
    s = slq.spectrum(operator, probes=1, steps=K + 1, rng=0, confidence=SURE)
    assert s.products <= K + 3
    np.testing.assert_allclose(s.nodes[0], law.values, atol=1e-7 * np.abs(law.values).max())
    midway = (law.values[1:] + law.values[:-1]) / 2
    band = s.cdf(midway)
    exact = np.cumsum(law.multiplicities)[:-1] / law.n
    assert np.all((band.low <= exact) & (exact <= band.high))
    np.testing.assert_allclose(band.value, exact, atol=3 * math.sqrt(1 / law.n))
    for found, truth in (
        (s.negative_count(), law.count(-np.inf, -0.5)),
        (s.frobenius_norm(), math.sqrt(law.trace(np.square))),
        (s.nuclear_norm(), law.trace(np.abs)),
        (s.log_sum_exp(), math.log(law.trace(lambda x: np.exp(x - law.edges[1]))) + law.edges[1]),
    ):
        assert holds(found, truth)


def test_sums_of_exponentials_of_a_hypercube():
    d = 14
    s = slq.spectrum(slq.gallery.hypercube(d)[0], probes=2, steps=d + 1, rng=0, confidence=SURE)
    temperatures = np.array([0.7, 1.0, 3.0])
    assert holds(s.log_sum_exp(), d * math.log(2 * math.cosh(1)))
    assert holds(s.estrada_index(), (2 * math.cosh(1)) ** d)
    assert holds(s.heat_trace(0.5), (2 * math.cosh(0.5)) ** d)
    assert holds(s.free_energy(temperatures), -temperatures * d * np.log(2 * np.cosh(1 / temperatures)))
    assert holds(s.heat_capacity(temperatures), d / (temperatures * np.cosh(1 / temperatures)) ** 2)  # d free spins


def test_the_heat_that_is_left_on_a_grid():
    operator, law = slq.gallery.laplacian_2d(60)
    s = slq.spectrum(operator, probes=4, steps=60, rng=0, confidence=SURE)
    times = np.array([0.1, 1.0, 5.0])
    assert holds(s.heat_trace(times), np.array([law.trace(lambda x, t=t: np.exp(-t * x)) for t in times]))
    assert holds(s.logdet([0.0, 1.0]), np.array([law.trace(np.log), law.trace(lambda x: np.log(x + 1))]))
    assert holds(s.condition_number(), law.edges[1] / law.edges[0])


def test_integrals_of_the_marchenko_pastur_law():
    n, c = 40_000, 0.5
    s = slq.spectrum(slq.gallery.marchenko_pastur(n, ratio=c)[0], probes=1, steps=40, rng=0, confidence=SURE)
    assert holds(s.logdet(), n * (-1 + (c - 1) / c * math.log(1 - c)))
    assert holds(s.trace_inverse(), n / (1 - c))
    for order, moment in ((1, 1.0), (2, 1 + c), (3, 1 + 3 * c + c**2), (4, 1 + 6 * c + 6 * c**2 + c**3)):
        assert s.moment(order).value == pytest.approx(moment, rel=0.05)
        assert holds(s.moment(order), moment)


def test_the_spikes_of_a_sample_covariance_matrix_are_found_where_theory_puts_them():
    n, c = 1000, 0.25
    rng = np.random.default_rng(0)
    scales = np.ones(n)
    spikes = np.array([4.0, 6.0, 10.0])
    scales[:3] = np.sqrt(spikes)
    X = rng.standard_normal((int(n / c), n)) * scales
    s = slq.spectrum(X.T @ X / len(X), probes=2, steps=60, rng=0)
    found = np.sort(s.outliers.values)[-3:]
    np.testing.assert_allclose(found, spikes * (1 + c / (spikes - 1)), rtol=0.06)
    assert s.outliers.exact[:3].all()
    assert holds(s.trace("square"), np.linalg.norm(X.T @ X / len(X)) ** 2)


def ring_sector(sites, up):
    """Build the Heisenberg ring of spins 1/2 with so many pointing up: sum of S_i . S_(i+1)."""
    states = {sum(1 << i for i in chosen): k for k, chosen in enumerate(combinations(range(sites), up))}
    H = np.zeros((len(states), len(states)))
    for state, k in states.items():
        for i in range(sites):
            j = (i + 1) % sites
            if (state >> i & 1) == (state >> j & 1):
                H[k, k] += 0.25
            else:
                H[k, k] -= 0.25
                H[k, states[state ^ (1 << i) ^ (1 << j)]] += 0.5
    return H


def ring(blocks):
    """Build the whole ring as a sparse matrix: the sectors one after the other, which is a permutation of states."""
    return scipy.sparse.block_diag([scipy.sparse.csr_array(block) for block in blocks], format="csr")


def test_the_heat_capacity_of_a_heisenberg_ring_of_twelve_spins():
    sites = 12
    blocks = [ring_sector(sites, up) for up in range(sites + 1)]
    exact = np.concatenate([np.linalg.eigvalsh(block) for block in blocks])
    s = slq.spectrum(ring(blocks), probes=24, steps=50, rng=0, confidence=SURE)
    temperatures = np.array([0.1, 0.25, 0.5, 1.0, 4.0])
    weights = np.exp(-(exact - exact.min()) / temperatures[:, None])
    mean, square = (np.average(np.broadcast_to(e, weights.shape), axis=1, weights=weights) for e in (exact, exact**2))
    capacity = (square - mean**2) / temperatures**2
    found = s.heat_capacity(temperatures)
    assert holds(found, capacity)
    np.testing.assert_allclose(found.value[1:], capacity[1:], rtol=0.05)
    free = exact.min() - temperatures * np.log(weights.sum(axis=1))
    assert holds(s.free_energy(temperatures), free)
