"""Eigenpairs against LAPACK on the same matrices: both ends, clusters, copies, every array library."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

import slq
from slq._eigen._ends import order

ORACLES = Path(__file__).parents[4] / "shared" / "oracles"
ENDS = ["LM", "LA", "SA", "BE"]


def wanted(values, which, k):
    """Pick the k eigenvalues that an exact solver would give."""
    values = np.sort(values)
    return np.sort(values[order(values, which)[:k]])


def require_pairs(pairs, matrix, values, tolerance):
    """Raise unless the values are those, the vectors orthonormal eigenvectors, and the residuals true."""
    matrix, vectors = np.asarray(matrix, dtype=np.float64), np.asarray(pairs.vectors, dtype=np.float64)
    size = np.abs(np.linalg.eigvalsh(matrix)).max() or 1.0
    np.testing.assert_allclose(pairs.values, values, atol=tolerance * size, rtol=0)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(values)), atol=tolerance)
    residuals = np.linalg.norm(matrix @ vectors - vectors * pairs.values, axis=0)
    np.testing.assert_allclose(pairs.residuals, residuals, atol=tolerance * size)
    assert pairs.converged.all()


@pytest.mark.parametrize("which", ENDS)
@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_values_and_vectors_are_those_of_lapack(symmetric, which, k, dtype, tolerance):
    matrix = symmetric(300).astype(dtype)
    pairs = slq.eigsh(matrix, k, which=which, rng=0)

    require_pairs(pairs, matrix, wanted(np.linalg.eigvalsh(matrix.astype(float)), which, k), tolerance)
    assert pairs.verified
    assert pairs.vectors.dtype == dtype


def test_every_array_library_gives_pairs_of_its_own(backend, symmetric):
    matrix = symmetric(60)
    pairs = slq.eigsh(backend.asarray(matrix), 4, which="BE", rng=0)

    vectors = backend.to_numpy(pairs.vectors)
    np.testing.assert_allclose(pairs.values, wanted(np.linalg.eigvalsh(matrix), "BE", 4), atol=10 * backend.tolerance)
    np.testing.assert_allclose(matrix @ vectors, vectors * pairs.values, atol=10 * backend.tolerance)
    assert pairs.converged.all()


@pytest.mark.parametrize("which", ["LA", "LM", "BE"])
def test_no_member_of_a_cluster_of_width_1e_8_is_missed(with_eigenvalues, which):
    cluster = 3 + 1e-8 * np.arange(5)
    values = np.concatenate([cluster, -cluster, np.linspace(-2, 2, 290)])
    matrix = with_eigenvalues(values)
    pairs = slq.eigsh(matrix, 10, which=which, rng=0)

    require_pairs(pairs, matrix, wanted(values, which, 10), 1e-12)


def test_members_of_a_cluster_that_one_vector_does_not_see_are_found_by_the_proof(with_eigenvalues):
    values = np.concatenate([3 + 1e-8 * np.arange(5), 2 * 0.6 ** np.arange(1, 190)])
    matrix, exact = with_eigenvalues(values), np.sort(values)[-7:]
    search, proven = (slq.eigsh(matrix, 7, which="LA", tol=1e-6, verify=verify, rng=0) for verify in (False, True))

    assert search.converged.all()
    assert np.abs(search.values - exact).max() > 1.0  # a smaller one has taken the place of a member
    np.testing.assert_allclose(proven.values, exact, atol=1e-7)
    assert "found that the first start vector could not see" in proven.status


@pytest.mark.parametrize("seed", range(4))
def test_copies_of_a_multiple_eigenvalue_are_found_and_proven_to_be_all(with_eigenvalues, seed):
    values = np.concatenate([np.full(4, 5.0), np.full(3, 4.0), np.linspace(-1, 3, 193)])
    matrix = with_eigenvalues(values, seed)
    pairs = slq.eigsh(matrix, 7, which="LA", rng=seed)

    require_pairs(pairs, matrix, np.sort(values)[-7:], 1e-12)
    assert pairs.verified
    assert 3.0 - 1e-9 < pairs.rest[1] < 4.0


@pytest.mark.parametrize("block", [2, 4])
def test_a_block_finds_copies_without_a_second_look(with_eigenvalues, block):
    values = np.concatenate([np.full(block, 5.0), np.linspace(-1, 3, 196)])
    matrix = with_eigenvalues(values)
    pairs = slq.eigsh(matrix, block + 1, which="LA", block=block, verify=False, rng=0)

    require_pairs(pairs, matrix, np.sort(values)[-block - 1 :], 1e-12)
    assert not pairs.verified
    assert pairs.rest == (-np.inf, np.inf)


def test_the_hypercube_keeps_all_its_copies():
    operator, _ = slq.gallery.hypercube(9)
    pairs = slq.eigsh(operator, 20, which="LA", rng=0)

    np.testing.assert_allclose(pairs.values, [5] * 10 + [7] * 9 + [9], atol=1e-12)
    assert pairs.converged.all()


def test_all_others_lie_where_the_result_says():
    operator, law = slq.gallery.laplacian_2d(12, 13)
    exact = np.sort(np.repeat(law.values, law.multiplicities))
    said = [slq.eigsh(operator, 3, which="LA", rng=seed) for seed in range(10)]

    assert all(pairs.rest[1] >= exact[-4] for pairs in said)
    assert all(pairs.rest[1] < exact[-3] for pairs in said if pairs.verified)


def test_the_work_is_counted_in_columns(counted, symmetric):
    for block in (1, 3):
        operator = counted(symmetric(200))
        pairs = slq.eigsh(operator, 4, block=block, rng=0)

        assert pairs.products == sum(operator.columns)


def test_a_start_near_the_answer_saves_products_and_gives_the_same_numbers(with_eigenvalues, symmetric):
    values = np.concatenate([[9.0, 8.5, 8.0, 7.5], np.linspace(-1, 5, 396)])
    before = with_eigenvalues(values)
    after = before + 1e-4 * symmetric(400)
    cold = slq.eigsh(after, 4, which="LA", rng=0)
    first = slq.eigsh(before, 4, which="LA", rng=0)
    warm = slq.eigsh(after, 4, which="LA", start=first, rng=0)
    again = slq.eigsh(after, 4, which="LA", start=first.vectors[:, 0], rng=0)

    np.testing.assert_allclose(warm.values, cold.values, atol=1e-12)
    np.testing.assert_allclose(again.values, cold.values, atol=1e-12)
    assert warm.products < 0.85 * cold.products


def test_a_start_that_misses_a_wanted_vector_does_not_hide_it(with_eigenvalues):
    values = np.concatenate([[9.0, 8.0, 7.0], np.linspace(-1, 5, 97)])
    matrix = with_eigenvalues(values)
    vectors = np.linalg.eigh(matrix)[1]
    pairs = slq.eigsh(matrix, 2, which="LA", start=vectors[:, -3:-1], rng=0)

    np.testing.assert_allclose(pairs.values, [8.0, 9.0], atol=1e-12)


def test_deflated_pairs_do_not_come_again(with_eigenvalues):
    values = np.concatenate([[9.0, 8.0, 8.0, 7.0], np.linspace(-1, 5, 196)])
    matrix = with_eigenvalues(values)
    first = slq.eigsh(matrix, 2, which="LA", rng=0)
    second = slq.eigsh(matrix, 3, which="LA", deflate=first, rng=0)
    third = slq.eigsh(matrix, 3, which="LA", deflate=3.0 * first.vectors, rng=0)

    np.testing.assert_allclose(first.values, [8.0, 9.0], atol=1e-12)
    np.testing.assert_allclose(second.values, [5.0, 7.0, 8.0], atol=1e-12)
    np.testing.assert_allclose(third.values, second.values, atol=1e-12)
    np.testing.assert_allclose(first.vectors.T @ second.vectors, 0.0, atol=1e-12)


def test_the_same_seed_gives_the_same_pairs(symmetric):
    first, second = (slq.eigsh(symmetric(200), 3, rng=5) for _ in range(2))

    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert first.seed == 5


@pytest.mark.skipif(not ORACLES.is_dir(), reason="the matrices are not there")
@pytest.mark.parametrize(
    ("name", "which", "k"),
    [("Erdos992", "LA", 20), ("Erdos992", "SA", 6), ("bcsstk13", "LA", 10), ("bcsstk14", "LM", 6)],
)
def test_real_matrices_have_the_eigenvalues_that_lapack_finds(name, which, k):
    matrix = scipy.io.mmread(ORACLES / f"{name}.mtx")
    values = np.load(ORACLES / f"{name}_eigs.npy")
    pairs = slq.eigsh(matrix, k, which=which, rng=0)

    np.testing.assert_allclose(pairs.values, wanted(values, which, k), rtol=1e-10)
    assert pairs.converged.all()
