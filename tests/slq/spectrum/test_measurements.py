"""Measurements of papers against their definitions on small dense matrices."""

import numpy as np
import pytest

import slq

RNG = np.random.default_rng(0)
A = RNG.standard_normal((30, 30))
A = A + A.T
B = RNG.standard_normal((30, 30))
B = B + B.T
VALUES, VECTORS = np.linalg.eigh(A)
G = RNG.standard_normal(30)


def test_concentration_and_overlap_are_what_projectors_say():
    V, W = VECTORS[:, -4:], VECTORS[:, -6:-2]
    P, Q = V @ V.T, W @ W.T

    assert slq.gradient_concentration(G, V) == pytest.approx(G @ P @ G / (G @ G))
    assert slq.subspace_overlap(V, W) == pytest.approx(np.trace(P @ Q) / 4)
    assert slq.subspace_overlap(V, V[:, :1]) == pytest.approx(0.5)
    assert np.isnan(slq.gradient_concentration(0 * G, V))


def test_energy_has_the_moments_of_the_gradient():
    rule = slq.gradient_energy(A, G, steps=8)
    v = G / np.linalg.norm(G)

    for power in range(16):
        moment = v @ np.linalg.matrix_power(A, power) @ v
        assert rule.weights[0] @ rule.nodes[0] ** power == pytest.approx(moment, rel=1e-9)


def test_two_steps_from_the_gradient_tell_its_cosine_with_its_product():
    rule = slq.gradient_energy(A, G, steps=2)
    mean, square = (rule.weights[0] @ rule.nodes[0] ** power for power in (1, 2))

    assert mean / np.sqrt(square) == pytest.approx(G @ A @ G / (np.linalg.norm(G) * np.linalg.norm(A @ G)))


def test_ratios_and_shares_are_those_of_the_eigenvalues():
    s = slq.spectrum(A, rng=0)  # small enough for all columns

    assert slq.negative_mass(s).value == pytest.approx(np.mean(VALUES < 0))
    ratio = slq.trace_ratio(s)
    assert ratio.low <= np.trace(A) / np.linalg.norm(A) <= ratio.high
    assert slq.outlier_ratio(VALUES, 3) == pytest.approx(VALUES[-1] / VALUES[-3])
    assert np.isnan(slq.outlier_ratio(VALUES, 30))
    assert slq.sharpness(VALUES[-1], 0.1) == pytest.approx(0.05 * VALUES[-1])


def test_alignment_covers_the_cosine_nineteen_times_of_twenty():
    exact = np.sum(A * B) / np.linalg.norm(A) / np.linalg.norm(B)
    found = [slq.alignment(A, B, probes=24, rng=seed) for seed in range(200)]

    assert np.mean([e.low <= exact <= e.high for e in found]) == pytest.approx(0.95, abs=0.04)
    assert slq.alignment(A, -2 * A, rng=0).value == pytest.approx(-1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slq.gradient_concentration(G, 2 * VECTORS), "`vectors` must be orthonormal"),
        (lambda: slq.gradient_concentration(G[:3], VECTORS), r"`gradient` must have shape \(30,\)"),
        (lambda: slq.subspace_overlap(G, VECTORS), r"`first` must be a block \(n, k\)"),
        (lambda: slq.subspace_overlap(VECTORS, np.eye(3)), "as many rows, got 30 and 3"),
        (lambda: slq.outlier_ratio([1.0], 2), "`k` must lie between 1 and the 1"),
        (lambda: slq.sharpness(1.0, 0.0), "`learning_rate` must be positive, got 0"),
        (lambda: slq.alignment(A, np.eye(3)), "must have one size, got 30 and 3"),
        (lambda: slq.alignment(A, B, probes=1), "`probes` must be at least 2"),
    ],
    ids=["orthonormal", "gradient", "block", "rows", "k", "rate", "size", "probes"],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_ratios_of_numbers_at_the_ends_of_what_numbers_can_do():
    assert slq.outlier_ratio([1e300, 1e-300], 2) == np.inf  # beyond the range of float64
    assert slq.outlier_ratio([1e-300, 4e-300], 2) == pytest.approx(4.0)
    assert slq.outlier_ratio(np.array([1e30, 2e30], dtype=np.float32), 2) == pytest.approx(2.0)
    assert slq.outlier_ratio([5e-324, 5e-324], 2) == 1.0
    assert slq.outlier_ratio([True, True], np.int64(2)) == 1.0
    for values in ([0.0, 0.0], [-1.0, -2.0], [1.0, -1.0], [np.nan, 1.0], [1.0, np.nan], [np.inf, np.nan]):
        assert np.isnan(slq.outlier_ratio(values, 2))


@pytest.mark.parametrize("k", [1.0, True, None, "1"])
def test_a_rank_that_is_no_integer_is_refused(k):
    with pytest.raises(TypeError, match="`k` must be an integer, got"):
        slq.outlier_ratio([1.0, 2.0], k)


@pytest.mark.parametrize("k", [0, -1, 3])
def test_a_rank_beyond_the_values_is_refused(k):
    with pytest.raises(ValueError, match="`k` must lie between 1 and the 2 eigenvalues given"):
        slq.outlier_ratio([1.0, 2.0], k)


def test_sharpness_at_the_ends_of_what_numbers_can_do():
    assert slq.sharpness(1e300, 1e-300) == pytest.approx(0.5)
    assert slq.sharpness(1e-300, 1e300) == pytest.approx(0.5)
    assert slq.sharpness(0.0, 1e-300) == 0.0
    assert slq.sharpness(-2.0, 0.1) == pytest.approx(-0.1)
    assert np.isnan(slq.sharpness(np.nan, 0.1))
    assert slq.sharpness(np.inf, 0.1) == np.inf
    for rate in (0.0, -0.1, np.nan, -np.inf):
        with pytest.raises(ValueError, match="`learning_rate` must be positive, got"):
            slq.sharpness(1.0, rate)
