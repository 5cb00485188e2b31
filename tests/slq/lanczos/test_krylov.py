"""The step to the next Krylov vectors: its coefficients, its overlaps, and what it makes of zeros and overflow."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from slq._lanczos._krylov import Krylov, unit_rows


def orthonormal(probes, count, n, seed=0):
    """Draw `count` orthonormal vectors for each probe, shape (probes, count, n)."""
    rng = np.random.default_rng(seed)
    return np.stack([np.linalg.qr(rng.standard_normal((n, count)))[0].T for _ in range(probes)])


class TestKrylov:
    def test_one_step_is_the_first_of_the_textbook(self, backend, symmetric):
        A, q = symmetric(30), np.ones((1, 30)) / np.sqrt(30)
        krylov = Krylov(backend.asarray(q), backend.xp, reorth=True)
        row = backend.to_numpy(krylov.step(backend.asarray(q @ A)))
        alpha = (q @ A @ q.T).item()
        w = q @ A - alpha * q
        assert_allclose(row, [[alpha, np.linalg.norm(w)]], rtol=backend.tolerance, atol=backend.tolerance)
        assert_allclose(backend.to_numpy(krylov.current), w / np.linalg.norm(w), atol=100 * backend.eps)

    def test_overlaps_are_inner_products_with_the_current_vectors(self, backend, symmetric):
        A, rng = symmetric(20), np.random.default_rng(6)
        start, references = orthonormal(1, 3, 20)[0], rng.standard_normal((4, 20))
        krylov = Krylov(backend.asarray(start), backend.xp, reorth=True, references=backend.asarray(references))
        for _ in range(3):
            current = backend.to_numpy(krylov.current).astype(np.float64)
            row = backend.to_numpy(krylov.step(backend.asarray(current @ A)))
            assert row.shape == (3, 2 + 4)
            assert_allclose(row[:, 2:], current @ references.T, atol=100 * backend.eps)

    def test_a_zero_image_leaves_zero_vectors_and_no_nan(self, backend):
        start = backend.asarray(orthonormal(1, 2, 9)[0])
        krylov = Krylov(start, backend.xp, reorth=True)
        for _ in range(2):
            assert_array_equal(backend.to_numpy(krylov.step(backend.xp.zeros_like(start))), 0.0)
        assert_array_equal(backend.to_numpy(krylov.current), 0.0)

    def test_dropping_the_basis_goes_on_by_three_terms(self, symmetric):
        A, start = symmetric(40), orthonormal(1, 1, 40)[0]
        with_basis = Krylov(start, np, reorth=True)
        for _ in range(5):
            with_basis.step(with_basis.current @ A)
        assert with_basis.orthogonal
        without = copy.copy(with_basis)
        without.drop_basis()
        assert not without.orthogonal
        rows = [k.step(k.current @ A) for k in (with_basis, without)]
        assert_allclose(rows[0], rows[1], atol=1e-13)

    def test_what_overflows_is_quiet_and_shows_in_the_coefficients(self):
        krylov = Krylov(orthonormal(1, 2, 4)[0], np, reorth=True)
        images = np.full((2, 4), 1e200)
        images[0] = np.inf
        assert krylov.asymmetry(images) is not None
        row = krylov.step(images)
        assert not np.isfinite(row).all(axis=1).any()

    def test_asymmetry_of_a_single_vector_is_not_known(self):
        assert Krylov(np.ones((1, 4)) / 2, np, reorth=False).asymmetry(np.ones((1, 4))) == 0.0

    def test_asymmetry_of_zero_is_zero(self):
        assert Krylov(orthonormal(1, 2, 4)[0], np, reorth=False).asymmetry(np.zeros((2, 4))) == 0.0


class TestUnitRows:
    @pytest.mark.parametrize("size", [1e-300, 1e-200, 1.0, 1e200, 1e308])
    def test_norms_near_the_ends_of_the_range_come_out_right(self, size):
        rows = unit_rows(size * np.array([[0.75, 1.0], [0.0, -0.25]]), np)
        assert_allclose(rows, [[0.6, 0.8], [0.0, -1.0]], rtol=1e-14)

    @pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
    def test_zero_and_non_finite_vectors_are_refused(self, backend, bad):
        rows = backend.asarray([[1.0, 2.0], [bad, 0.0]])
        with pytest.raises(ValueError, match="`v` must have finite columns different from zero"):
            unit_rows(rows, backend.xp)
