"""The recurrence: its identities, its ends, its scales, and that nothing depends on how it is cut into pieces."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import slq
from slq import _arrays, as_operator, gallery
from slq._errors import RunError
from slq._lanczos import _host_basis, _stage
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import probes
from slq._lanczos._tridiagonal import Tridiagonal, concatenate


class Recorder:
    """Multiply by a NumPy matrix or operator and keep every block that was multiplied."""

    def __init__(self, matrix):
        self.matrix, self.blocks = matrix, []
        self.shape, self.dtype = matrix.shape, matrix.dtype

    def matmat(self, X, /):
        self.blocks.append(X.copy())
        return self.matrix.matmat(X) if hasattr(self.matrix, "matmat") else self.matrix @ X

    def vectors(self, probe=0):
        """Return what was multiplied for one probe, shape (n, steps): its Krylov vectors."""
        return np.stack([block[:, probe] for block in self.blocks], axis=1)


def matrix_of(alpha, beta):
    """Build the tridiagonal matrix."""
    m = len(alpha)
    return np.diag(alpha) + np.diag(beta[: m - 1], 1) + np.diag(beta[: m - 1], -1)


def run_of(A, k=3, *, seed=0, reorth="full", dtype=None, **options):
    """Start a run from k probes."""
    operator = as_operator(A)
    start = probes(operator.n, range(k), seed=seed).astype(operator.dtype if dtype is None else dtype)
    return LanczosRun(operator, start, reorth=reorth, **options)


def coefficients(A, k=3, steps=10, **options):
    """Return the tridiagonal matrices of k probes."""
    run = run_of(A, k, **options)
    run.advance(steps)
    return run.tridiagonal()


def assert_same(T, other, tolerance):
    """Compare two runs relative to the size of T."""
    scale = np.max(np.abs(other.alpha) + other.beta)
    assert_array_equal(T.lengths, other.lengths)
    assert_allclose(T.alpha, other.alpha, rtol=0, atol=tolerance * scale)
    assert_allclose(T.beta, other.beta, rtol=0, atol=tolerance * scale)


class TestIdentities:
    @pytest.mark.parametrize("steps", [1, 2, 16, 17, 40])
    def test_the_vectors_are_orthonormal_and_make_A_tridiagonal(self, symmetric, steps):
        A = symmetric(80)
        recorder = Recorder(A)
        T = coefficients(recorder, 3, steps)
        for i in range(3):
            Q, alpha, beta = recorder.vectors(i), T.alpha[i], T.beta[i]
            residual = A @ Q - Q @ matrix_of(alpha, beta)
            assert_allclose(Q.T @ Q, np.eye(steps), atol=5e-15)
            assert_allclose(Q[:, 0], probes(80, range(3), seed=0)[i], atol=1e-16)
            assert_allclose(residual[:, :-1], 0.0, atol=1e-14)
            assert_allclose(Q.T @ residual[:, -1], 0.0, atol=1e-14)
            assert np.linalg.norm(residual[:, -1]) == pytest.approx(beta[-1], rel=1e-12)

    @given(n=st.integers(1, 12), k=st.integers(1, 3), seed=st.integers(0, 1000), steps=st.integers(1, 14))
    @settings(deadline=None, max_examples=60)
    def test_any_small_matrix_is_projected_onto_its_krylov_space(self, n, k, seed, steps):
        rng = np.random.default_rng(seed)
        # Few distinct eigenvalues, so that breakdown is common.
        Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
        A = (Q * rng.integers(-2, 3, n)) @ Q.T
        A = (A + A.T) / 2
        T = coefficients(A, k, steps, seed=seed)
        assert T.lengths.max() <= min(n, steps)
        for i, m in enumerate(T.lengths):
            start = probes(n, range(k), seed=seed)[i]
            for power in range(min(2 * m, 6)):
                moment = start @ np.linalg.matrix_power(A, power) @ start
                projected = np.linalg.matrix_power(matrix_of(T.alpha[i, :m], T.beta[i, :m]), power)[0, 0]
                assert projected == pytest.approx(moment, abs=1e-12 * 2.0**power)

    def test_beta_is_not_negative_and_everything_is_finite(self, symmetric):
        T = coefficients(symmetric(40), 4, 40)
        assert np.all(T.beta >= 0)
        assert np.isfinite(T.alpha).all()
        assert np.isfinite(T.beta).all()

    def test_a_shift_moves_alpha_and_nothing_else(self, symmetric):
        A = symmetric(50)
        T, shifted = coefficients(A, 2, 20), coefficients(A + 3.0 * np.eye(50), 2, 20)
        assert_allclose(shifted.alpha, T.alpha + 3.0, atol=1e-12)
        assert_allclose(shifted.beta, T.beta, atol=1e-12)

    def test_the_sign_of_A_turns_alpha_and_nothing_else(self, symmetric):
        A = symmetric(50)
        T, turned = coefficients(A, 2, 20), coefficients(-A, 2, 20)
        assert_array_equal(turned.alpha, -T.alpha)
        assert_array_equal(turned.beta, T.beta)

    def test_a_run_of_n_steps_has_the_eigenvalues_of_A(self, symmetric):
        A = symmetric(30)
        T = coefficients(A, 2, 30)
        for alpha, beta in zip(T.alpha, T.beta, strict=True):
            assert_allclose(np.linalg.eigvalsh(matrix_of(alpha, beta)), np.linalg.eigvalsh(A), atol=1e-13)


class TestBackends:
    @pytest.mark.parametrize("reorth", ["full", "none"])
    def test_every_library_gives_the_same_numbers(self, backend, reorth, symmetric):
        A, start = symmetric(60), probes(60, range(3), seed=1)
        reference = slq.lanczos(A, start.T, 20, reorth=reorth)
        T = slq.lanczos(backend.asarray(A), backend.asarray(start.T), 20, reorth=reorth)
        assert_same(T, reference, backend.tolerance)
        for array in (T.alpha, T.beta, T.overlaps):
            assert type(array) is np.ndarray
            assert array.dtype == np.float64

    def test_overlaps_and_asymmetry_are_the_same_everywhere(self, backend, symmetric):
        A, start = symmetric(40), probes(40, range(3), seed=2)
        found = []
        for matrix, rows in ((A, start), (backend.asarray(A), backend.asarray(start))):
            run = LanczosRun(as_operator(matrix), rows, reorth="full", references=rows[:2, ...])
            run.advance(9)
            found.append(run)
        reference, run = found
        assert_allclose(run.tridiagonal().overlaps, reference.tridiagonal().overlaps, atol=backend.tolerance)
        assert run.asymmetry == pytest.approx(reference.asymmetry, abs=30 * backend.eps)

    def test_vectors_stay_in_the_library_dtype_and_device_of_the_operator(self, backend, symmetric):
        A, seen = backend.asarray(symmetric(20)), []

        def product(X):
            seen.append(backend.to_numpy(X).shape)  # raises for another library or device
            assert X.dtype == backend.dtype
            return A @ X

        operator = as_operator(product, n=20, like=backend.asarray([0.0]), block=True)
        slq.lanczos(operator, backend.asarray(probes(20, range(2), seed=0).T), 5)
        assert seen == [(20, 2)] * 5

    def test_breakdown_of_some_probes_is_the_same_everywhere(self, backend):
        A = np.diag(np.arange(1.0, 31.0))
        v = np.stack([np.eye(30)[4], np.ones(30), np.eye(30)[0] + np.eye(30)[9]], axis=1)
        T = slq.lanczos(backend.asarray(A), backend.asarray(v), 12)
        assert T.lengths.tolist() == [1, 12, 2]
        assert T.invariant.tolist() == [True, False, True]
        assert_same(T, slq.lanczos(A, v, 12), backend.tolerance)

    def test_a_float64_run_of_a_float32_matrix_sees_that_matrix(self, symmetric):
        A = symmetric(30).astype(np.float32)
        T = coefficients(A, 2, 10, dtype=np.float64)
        assert_same(T, coefficients(A.astype(np.float64), 2, 10), 1e-5)


class TestBreakdown:
    def test_of_the_identity_is_at_the_first_step(self):
        T = coefficients(np.eye(50), 4, 10)
        assert T.lengths.tolist() == [1] * 4
        assert_allclose(T.alpha, 1.0, rtol=1e-14)
        assert_array_equal(T.beta, 0.0)

    def test_of_zero_is_at_the_first_step(self, backend):
        A, start = backend.asarray(np.zeros((20, 20))), backend.asarray(probes(20, range(3), seed=0).T)
        T = slq.lanczos(A, start, 10)
        assert T.lengths.tolist() == [1] * 3
        assert_array_equal(T.alpha, 0.0)
        assert T.invariant.all()

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_of_low_rank_is_one_step_after_it(self, rank):
        T = coefficients(
            gallery.from_eigenvalues([0.0, *range(1, rank + 1)], multiplicities=[60, *[9] * rank])[0], 3, 30
        )
        assert T.lengths.tolist() == [rank + 1] * 3
        assert T.invariant.all()

    @pytest.mark.parametrize("rank", [3, 5, 12])
    def test_a_breakdown_that_rounding_hides_leaves_nothing_that_weighs(self, with_eigenvalues, rank):
        # Rounding of earlier vectors is magnified by each small beta, and the run goes on from noise: harmless.
        values = np.linspace(1.0, 2.0, rank)
        rule = slq.gauss(coefficients(with_eigenvalues([*values, *np.zeros(60 - rank)]), 3, 30))
        for nodes, weights in zip(rule.nodes, rule.weights, strict=True):
            distances = np.min(np.abs(nodes[:, None] - np.append(values, 0.0)), axis=1)
            assert weights[distances > 1e-9].sum() < 1e-20

    def test_of_ones_is_at_the_second_step(self):
        T = coefficients(np.ones((300, 300)), 3, 20)
        assert T.lengths.tolist() == [2] * 3
        assert_allclose(slq.gauss(T).nodes, [[0.0, 300.0]] * 3, atol=1e-11)

    @pytest.mark.parametrize("reorth", ["full", "none"])
    def test_of_repeated_eigenvalues_is_at_the_number_of_distinct_ones(self, reorth):
        A = np.diag(np.repeat([-1.0, 0.5, 2.0, 7.0], [30, 40, 20, 10]))
        T = coefficients(A, 3, 20, reorth=reorth)
        assert T.lengths.tolist() == [4] * 3
        assert_allclose(slq.gauss(T).nodes, [[-1.0, 0.5, 2.0, 7.0]] * 3, atol=1e-12)

    def test_of_a_block_diagonal_matrix_is_at_the_size_of_the_block(self, symmetric):
        A = np.zeros((50, 50))
        A[:10, :10], A[10:, 10:] = symmetric(10, 1), symmetric(40, 2)
        v = np.zeros((50, 2))
        v[:10, 0], v[:, 1] = 1.0, 1.0
        T = slq.lanczos(A, v, 30)
        assert T.lengths.tolist() == [10, 30]
        assert T.invariant.tolist() == [True, False]
        assert_allclose(slq.gauss(T).nodes[0, :10], np.linalg.eigvalsh(A[:10, :10]), atol=1e-13)

    @pytest.mark.parametrize(("n_items", "k"), [(5, 2), (9, 3), (11, 4)])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_of_a_kneser_graph_is_at_its_few_eigenvalues(self, n_items, k, dtype):
        A, law = gallery.kneser(n_items, k, dtype=dtype)
        T = coefficients(A, 3, 20)
        assert T.lengths.tolist() == [k + 1] * 3
        assert T.invariant.all()
        scale = max(map(abs, law.edges))
        assert_allclose(slq.gauss(T).nodes, [law.values] * 3, atol=20 * np.finfo(dtype).eps * scale)

    @pytest.mark.parametrize("d", [1, 4, 10])
    def test_of_a_hypercube_is_after_d_plus_one_steps(self, d):
        A, law = gallery.hypercube(d)
        T = coefficients(A, 2, 30)
        assert T.lengths.tolist() == [d + 1] * 2
        assert T.invariant.all()
        assert_allclose(slq.gauss(T).nodes, [law.values] * 2, atol=1e-12)

    @pytest.mark.parametrize("reorth", ["full", "none"])
    def test_a_matrix_of_one_entry_is_that_entry(self, backend, reorth):
        T = slq.lanczos(backend.asarray([[3.0]]), backend.asarray([-2.0]), 5, reorth=reorth)
        assert (T.alpha.tolist(), T.beta.tolist(), T.lengths.tolist()) == ([[3.0]], [[0.0]], [1])

    @pytest.mark.parametrize("reorth", ["full", "none"])
    def test_two_dimensions_end_after_two_steps(self, reorth):
        T = slq.lanczos(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, 3.0]), 5, reorth=reorth)
        assert T.lengths.tolist() == [2]
        assert_allclose(slq.gauss(T).nodes, [[1.0, 3.0]], rtol=1e-14)

    def test_more_steps_than_n_are_n_steps(self, symmetric, counted):
        matrix = counted(symmetric(7))
        T = coefficients(matrix, 2, 100)
        assert matrix.calls == 7
        assert T.lengths.tolist() == [7, 7]
        assert T.invariant.all()

    def test_without_reorthogonalisation_n_steps_are_the_end_too(self, counted):
        matrix = counted(np.diag(np.linspace(0.0, 1.0, 9) ** 4))
        run = run_of(matrix, 2, reorth="none")
        run.advance(50)
        assert matrix.calls == 9
        assert run.finished

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_a_shift_much_larger_than_the_spread_is_judged_by_the_size_of_T(self, scale, symmetric):
        # The spread is 1e-15 of the size: rounding. A spread of 1e-9 is none.
        for spread, ends in ((1e-15, True), (1e-9, False)):
            A = scale * (np.eye(30) + spread * np.diag(np.linspace(-1, 1, 30)))
            assert coefficients(A, 2, 10).invariant.all() == ends

    def test_an_eigenvector_to_the_noise_of_the_operator_is_an_end(self):
        diagonal, rng = np.array([2.0] * 50), np.random.default_rng(0)

        class Noisy:
            shape, dtype, noise = (50, 50), np.dtype(np.float64), 1e-4

            def matmat(self, X):
                return diagonal[:, None] * X + 1e-6 * rng.standard_normal(X.shape)

        assert coefficients(Noisy(), 2, 10).lengths.tolist() == [1, 1]

    def test_what_the_operator_does_with_leftovers_of_an_ended_probe_is_no_failure(self):
        diagonal = np.arange(1.0, 21.0)[:, None]

        def product(X):  # not linear at zero, as operators that normalise their argument are not
            norms = np.linalg.norm(X, axis=0)
            return diagonal * np.where(norms > 0, X, np.nan)

        start = np.stack([np.eye(20)[2] + np.eye(20)[5], np.ones(20), np.eye(20)[7]], axis=1)
        T = slq.lanczos(as_operator(product, n=20, block=True), start, 15)
        assert_same(T, slq.lanczos(np.diag(diagonal[:, 0]), start, 15), 1e-12)
        assert T.lengths.tolist() == [2, 15, 1]

    def test_a_probe_may_break_down_at_any_place_between_two_copies_to_the_host(self):
        for distinct in range(1, 20):
            A = np.diag(np.arange(40) % distinct + 1.0)
            v = np.stack([np.ones(40), np.arange(40) == 0], axis=1).astype(float)
            assert slq.lanczos(A, v, 30).lengths.tolist() == [distinct, 1]

    @pytest.mark.parametrize("outliers", [1, 10])
    @pytest.mark.parametrize("size", [1e4, 1e5, 1e6])
    def test_a_bulk_that_is_a_millionth_of_the_outliers_is_not_taken_for_rounding(self, outliers, size):
        bulk = 3 * np.cos(np.pi * (np.arange(1000) + 0.5) / 1000)
        A = np.append(bulk, size * np.linspace(1.0, 0.3, outliers)).astype(np.float32)[:, None]
        operator = as_operator(lambda X: A * X, n=len(A), block=True, like=np.ones(1, dtype=np.float32))
        rule = slq.gauss(coefficients(operator, 3, 40))
        for nodes, weights in zip(rule.nodes, rule.weights, strict=True):
            inside = nodes[(np.abs(nodes) < 10) & (weights > 1e-6)]
            assert len(inside) >= 40 - 3 * outliers
            assert_allclose(inside[[0, -1]], [-3.0, 3.0], atol=0.03)

    def test_padding_beyond_the_end_is_zero(self):
        A = np.diag(np.arange(1.0, 21.0))
        T = slq.lanczos(A, np.stack([np.ones(20), np.eye(20)[3]], axis=1), 10)
        assert_array_equal(T.alpha[1, 1:], 0.0)
        assert_array_equal(T.beta[1, 1:], 0.0)


class TestScales:
    @pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-110, 1e-90, 1e-12, 1e12, 1e90, 1e110, 1e200, 1e300])
    @pytest.mark.parametrize("reorth", ["full", "none"])
    def test_float64_coefficients_scale_with_the_operator(self, symmetric, scale, reorth):
        A = symmetric(40)
        T, scaled = coefficients(A, 2, 15, reorth=reorth), coefficients(scale * A, 2, 15, reorth=reorth)
        assert_array_equal(scaled.lengths, T.lengths)
        assert_allclose(scaled.alpha / scale, T.alpha, atol=1e-12)
        assert_allclose(scaled.beta / scale, T.beta, atol=1e-12)

    @pytest.mark.parametrize("scale", [1e-36, 1e-30, 1e-13, 1e-11, 1e-5, 1e5, 1e11, 1e13, 1e30, 1e36])
    @pytest.mark.parametrize("name", ["numpy", "torch"])
    def test_float32_coefficients_scale_with_the_operator(self, symmetric, scale, name, request):
        A, start = symmetric(40), probes(40, range(2), seed=0).T
        reference = slq.lanczos(A, start, 15)
        matrix, v = (scale * A).astype(np.float32), start.astype(np.float32)
        if name == "torch":
            torch = request.getfixturevalue("torch")
            matrix, v = torch.as_tensor(matrix), torch.as_tensor(v)
        T = slq.lanczos(matrix, v, 15)
        assert_allclose(T.alpha / scale, reference.alpha, atol=1e-5)
        assert_allclose(T.beta / scale, reference.beta, atol=1e-5)

    @pytest.mark.parametrize("scale", [2.0**-900, 2.0**-20, 2.0**20, 2.0**900])
    def test_a_power_of_two_changes_no_digit(self, symmetric, scale):
        A = symmetric(30)
        T, scaled = coefficients(A, 2, 12), coefficients(scale * A, 2, 12)
        assert_array_equal(scaled.alpha, scale * T.alpha)
        assert_array_equal(scaled.beta, scale * T.beta)

    @pytest.mark.parametrize("scale", [1e-200, 1e200])
    def test_the_identity_breaks_down_at_any_scale(self, scale):
        T = coefficients(scale * np.eye(10), 2, 5)
        assert T.lengths.tolist() == [1, 1]
        assert_allclose(T.alpha, scale, rtol=1e-14)

    def test_seven_decades_fit_into_float32(self):
        A, law = gallery.graded(400, dtype=np.float32)
        for unit in (1e-4, 1.0, 1e4):
            operator = as_operator(
                lambda X, u=unit: np.float32(u) * A.matmat(X), n=400, block=True, like=np.ones(1, dtype=np.float32)
            )
            T, start = coefficients(operator, 2, 60), probes(400, range(2), seed=0)
            rule = slq.gauss(T)
            moments = np.sum(start * A.matmat(start.T.astype(np.float32)).T, axis=1)
            assert_allclose(np.sum(rule.weights * rule.nodes, axis=1), unit * moments, rtol=1e-5)
            assert_allclose(rule.nodes[:, -1], unit * law.edges[1], rtol=1e-5)

    def test_start_vectors_may_have_any_length(self, symmetric):
        A = symmetric(20)
        T = slq.lanczos(A, np.ones(20), 8)
        for size in (1e-300, 1e-160, 7.0, 1e160, 1e300):
            assert_same(slq.lanczos(A, np.full(20, size), 8), T, 1e-12)

    def test_a_start_vector_in_the_null_space_does_not_fix_the_scale_of_the_others(self):
        A = np.diag([0.0, 1e200, 2e200, 3e200])
        T = slq.lanczos(A, np.stack([np.eye(4)[0], np.ones(4)], axis=1), 4)
        assert T.lengths.tolist() == [1, 4]
        assert_allclose(slq.gauss(T).nodes[1] / 1e200, [0.0, 1.0, 2.0, 3.0], atol=1e-13)


class TestPieces:
    @pytest.mark.parametrize("reorth", ["full", "none"])
    @pytest.mark.parametrize("pieces", [[3, 5], [1] * 8, [7, 1], [8]])
    def test_steps_in_pieces_are_the_same_to_the_last_bit(self, backend, pieces, reorth, symmetric):
        A, start = backend.asarray(symmetric(40)), backend.asarray(probes(40, range(2), seed=0))
        whole = LanczosRun(as_operator(A), start, reorth=reorth, references=start)
        whole.advance(8)
        run = LanczosRun(as_operator(A), start, reorth=reorth, references=start)
        for steps in pieces:
            run.advance(steps)
        for name in ("alpha", "beta", "lengths", "overlaps"):
            assert_array_equal(getattr(run.tridiagonal(), name), getattr(whole.tridiagonal(), name))

    def test_steps_in_pieces_are_the_same_past_breakdowns(self):
        A = np.diag(np.arange(1.0, 31.0))
        start = np.stack([np.eye(30)[:4].sum(axis=0) / 2, np.full(30, 30**-0.5), np.eye(30)[0]])
        runs = []
        for pieces in ([12], [5, 7], [1] * 12):
            run = LanczosRun(as_operator(A), start, reorth="full")
            for steps in pieces:
                run.advance(steps)
            runs.append(run.tridiagonal())
        for T in runs[1:]:
            assert_same(T, runs[0], 1e-12)

    @pytest.mark.parametrize("k", [2, 5])
    def test_probes_together_are_the_same_as_alone(self, backend, k, symmetric):
        A, start = symmetric(50), probes(50, range(k), seed=3)
        matrix = backend.asarray(A)
        together = slq.lanczos(matrix, backend.asarray(start.T), 12)
        alone = concatenate([slq.lanczos(matrix, backend.asarray(row), 12) for row in start])
        assert_same(together, alone, 1e-12 if backend.is_double else 1e-5)

    def test_nothing_leaks_from_one_probe_into_another(self, symmetric):
        A = symmetric(50)
        start = np.concatenate([probes(50, range(1), seed=0), 1e3 * np.eye(50)[:1]]).T
        other = np.concatenate([probes(50, range(1), seed=0), probes(50, range(1), seed=9)]).T
        first, second = slq.lanczos(A, start, 15), slq.lanczos(A, other, 15)
        assert_allclose(first.alpha[0], second.alpha[0], atol=1e-13)

    def test_dropping_the_basis_changes_what_comes_after_only_by_rounding(self, symmetric):
        A = symmetric(60)
        run = run_of(A)
        run.advance(6)
        before = run.tridiagonal()
        run.drop_basis()
        run.advance(6)
        after = run.tridiagonal()
        assert_array_equal(after.alpha[:, :6], before.alpha)
        assert_same(after, coefficients(A, 3, 12), 1e-12)

    def test_the_state_of_a_run_is_told(self, symmetric):
        run = run_of(symmetric(9), 3)
        assert (run.probes, run.active, run.steps, run.products, run.finished) == (3, 3, 0, 0, False)
        assert run.tridiagonal().alpha.shape == (3, 0)
        run.advance(4)
        assert (run.probes, run.active, run.steps, run.products, run.finished) == (3, 3, 4, 12, False)
        run.advance(40)
        assert (run.probes, run.active, run.steps, run.products, run.finished) == (3, 0, 9, 27, True)
        assert run.product_seconds >= 0

    def test_runs_are_stacked_with_zeros_and_their_own_lengths(self, symmetric):
        A = symmetric(20)
        start = probes(20, range(3), seed=0)
        short, long = run_of(A, 2), LanczosRun(as_operator(A), start[2:], reorth="full", references=start)
        short.advance(3)
        long.advance(7)
        T = concatenate([short.tridiagonal(), long.tridiagonal()])
        assert T.lengths.tolist() == [3, 3, 7]
        assert T.overlaps.shape == (3, 7, 3)
        assert_array_equal(T.alpha[:2, :3], short.tridiagonal().alpha)
        assert_array_equal(T.alpha[:2, 3:], 0.0)
        assert_array_equal(T.beta[2:], long.tridiagonal().beta)
        assert_array_equal(T.overlaps[:2], 0.0)
        assert not T.invariant.any()


class TestFailures:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("step", [1, 2, 6, 9, 17])
    def test_a_product_that_is_not_finite_names_probe_and_step(self, bad, step):
        A, calls = np.diag(np.arange(1.0, 41.0)), []

        def product(X):
            calls.append(X.shape)
            Y = A @ X
            if len(calls) == step:
                Y[3, 1] = bad
            return Y

        run = run_of(as_operator(product, n=40, block=True), 3, first=10)
        with pytest.raises(RunError, match=f"NaN or Inf for probe 11 at step {step}. Common causes"):
            run.advance(25)
        T = run.tridiagonal()
        assert T.lengths.tolist() == [step - 1] * 3
        assert_same(T, coefficients(A, 3, max(step - 1, 1)), 1e-12) if step > 1 else None
        assert np.isfinite(T.alpha).all()

    def test_a_product_that_is_not_finite_is_told_on_every_library(self, backend):
        A = np.diag(np.arange(1.0, 21.0))
        A[5, 5] = np.nan
        with pytest.raises(RunError, match="NaN or Inf for probe 0 at step 1"):
            slq.lanczos(backend.asarray(A), backend.asarray(np.ones(20)), 5)

    def test_only_the_first_of_several_failing_probes_is_named(self):
        calls = []

        def product(X):
            calls.append(0)
            Y = np.arange(1.0, 31.0)[:, None] * X
            if len(calls) >= 5:
                Y[0, 2] = np.nan
            if len(calls) >= 6:
                Y[0, 0] = np.nan
            return Y

        with pytest.raises(RunError, match="probe 2 at step 5"):
            run_of(as_operator(product, n=30, block=True), 3).advance(20)

    def test_probes_that_ended_before_keep_their_exact_rules(self):
        calls = []

        def product(X):
            calls.append(0)
            return np.arange(1.0, 31.0)[:, None] * X * (np.nan if len(calls) == 7 else 1.0)

        start = np.concatenate([np.eye(30)[6:7], probes(30, range(2), seed=0)])
        run = LanczosRun(as_operator(product, n=30, block=True), start, reorth="full")
        with pytest.raises(RunError, match="probe 1 at step 7"):
            run.advance(20)
        assert run.tridiagonal().lengths.tolist() == [1, 6, 6]
        assert run.tridiagonal().invariant.tolist() == [True, False, False]

    @pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
    def test_steps_before_a_product_that_raises_are_kept(self, error):
        A, calls = np.diag(np.arange(1.0, 41.0)), []

        def product(X):
            calls.append(0)
            if len(calls) == 15:
                raise error
            return A @ X

        run = run_of(as_operator(product, n=40, block=True))
        with pytest.raises(error):
            run.advance(30)
        assert_same(run.tridiagonal(), coefficients(A, 3, 14), 1e-13)

    def test_a_run_goes_on_after_a_product_that_raised(self):
        A, calls = np.diag(np.arange(1.0, 41.0)), []

        def product(X):
            calls.append(0)
            if len(calls) == 6:
                raise ConnectionError
            return A @ X

        run = run_of(as_operator(product, n=40, block=True))
        with pytest.raises(ConnectionError):
            run.advance(20)
        run.advance(20 - run.steps)
        assert_same(run.tridiagonal(), coefficients(A, 3, 20), 1e-12)

    @pytest.mark.parametrize("shape", [(9, 2), (10, 1), (2, 10), (10,)], ids=str)
    def test_a_product_of_the_wrong_shape_is_refused(self, shape):
        operator = as_operator(lambda X: np.ones(shape), n=10, block=True)
        with pytest.raises(RunError, match=r"a block of shape \(10, 2\) must have that shape, got \("):
            slq.lanczos(operator, np.ones((10, 2)), 3)

    @pytest.mark.parametrize("steps", [0, -3])
    def test_no_steps_are_refused(self, steps):
        with pytest.raises(ValueError, match=f"`steps` must be at least 1, got {steps}"):
            slq.lanczos(np.eye(3), np.ones(3), steps)

    @pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 3), (3, 1, 1)], ids=str)
    def test_start_vectors_of_the_wrong_shape_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"`v` must have shape \(3,\) or \(3, k\), got \("):
            slq.lanczos(np.eye(3), np.ones(shape), 2)

    @pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
    def test_start_vectors_that_cannot_be_normalised_are_refused(self, backend, bad):
        v = np.ones((3, 2))
        v[:, 1] = bad
        with pytest.raises(ValueError, match="`v` must have finite columns different from zero"):
            slq.lanczos(backend.asarray(np.eye(3)), backend.asarray(v), 2)

    @pytest.mark.parametrize("v", [[1.0, 1.0, 1.0], None, 1.0])
    def test_start_vectors_that_are_no_array_are_refused(self, v):
        with pytest.raises(TypeError, match=f"must be an array of the .* library, numpy, got {type(v).__name__}"):
            slq.lanczos(np.eye(3), v, 2)

    def test_start_vectors_of_another_library_are_refused(self, torch):
        with pytest.raises(TypeError, match="library, numpy, got Tensor"):
            slq.lanczos(np.eye(3), torch.ones(3), 2)
        with pytest.raises(TypeError, match="library, torch, got ndarray"):
            slq.lanczos(torch.eye(3), np.ones(3), 2)


class TestWithoutReorthogonalisation:
    def test_moments_are_right_to_twelve_digits_although_T_is_not(self):
        A, law = gallery.strakos(48)
        full, none = (coefficients(A, 1, 40, reorth=r) for r in ("full", "none"))
        scale = law.edges[1]
        difference = np.max(np.abs(full.alpha - none.alpha)) / scale
        assert difference > 1e-3
        domain = [law.edges[0] - 0.5, law.edges[1] + 0.5]
        for degree in range(30):
            polynomial = np.polynomial.Chebyshev.basis(degree, domain)
            moments = [np.sum(rule.weights * polynomial(rule.nodes)) for rule in map(slq.gauss, (full, none))]
            assert moments[0] == pytest.approx(moments[1], abs=1e-12)

    def test_every_ritz_value_stays_near_an_eigenvalue_or_between_two(self):
        A, law = gallery.strakos(24)
        T = coefficients(A, 1, 24, reorth="none")
        nodes = slq.gauss(T).nodes[0]
        assert law.edges[0] - 1e-10 < nodes[0]
        assert nodes[-1] < law.edges[1] + 1e-10

    def test_no_vectors_are_kept(self, symmetric, monkeypatch):
        monkeypatch.setattr(_host_basis.HostBasis, "append", None)
        assert coefficients(symmetric(20), 2, 10, reorth="none").lengths.tolist() == [10, 10]


class TestAsymmetry:
    @pytest.mark.parametrize("share", [1.0, 0.1, 1e-3])
    def test_it_estimates_the_asymmetry_of_a_random_matrix(self, symmetric, share):
        rng = np.random.default_rng(5)
        A = symmetric(300) + share * (lambda B: (B - B.T) / 20)(rng.standard_normal((300, 300)))
        truth = np.linalg.norm(A - A.T) / np.linalg.norm(A)
        estimates = []
        for seed in range(8):
            run = run_of(A, 4, seed=seed)
            run.advance(1)
            estimates.append(run.asymmetry)
        assert np.sqrt(np.mean(np.square(estimates))) == pytest.approx(truth, rel=0.3)

    def test_of_a_symmetric_matrix_it_is_rounding(self, backend, symmetric):
        A, start = backend.asarray(symmetric(100)), backend.asarray(probes(100, range(4), seed=0))
        run = LanczosRun(as_operator(A), start, reorth="full")
        assert run.asymmetry is None
        run.advance(1)
        assert run.asymmetry < 30 * backend.eps

    def test_it_does_not_depend_on_the_scale(self, symmetric):
        A = symmetric(50) + np.triu(np.ones((50, 50)), 1) / 50
        runs = [run_of(scale * A) for scale in (1e-200, 1.0, 1e200)]
        for run in runs:
            run.advance(1)
        assert runs[0].asymmetry == pytest.approx(runs[1].asymmetry, rel=1e-10)
        assert runs[2].asymmetry == pytest.approx(runs[1].asymmetry, rel=1e-10)

    def test_a_single_probe_tells_nothing(self, symmetric):
        run = run_of(symmetric(20), 1)
        run.advance(3)
        assert run.asymmetry == 0.0


class TestMemoryOrder:
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_blocks_come_in_the_order_that_the_operator_likes(self, order, symmetric):
        A, seen = symmetric(30), []

        class Ordered:
            shape, dtype = A.shape, A.dtype

            def matmat(self, X, /):
                seen.append(X.flags[f"{order}_CONTIGUOUS"])
                return A @ X

        Ordered.order = order
        assert_same(coefficients(Ordered(), 3, 5), coefficients(A, 3, 5), 1e-13)
        assert seen == [True] * 5

    def test_functions_of_one_vector_get_contiguous_ones(self):
        seen = []
        operator = as_operator(lambda v: seen.append(v.flags.c_contiguous) or 2.0 * v, n=20)
        slq.lanczos(operator, probes(20, range(3), seed=0).T, 1)
        assert seen == [True] * 3


class TestOverlaps:
    def test_they_are_inner_products_of_the_krylov_vectors(self, symmetric):
        recorder, start = Recorder(symmetric(40)), probes(40, range(3), seed=0)
        run = LanczosRun(as_operator(recorder), start, reorth="full", references=start[:2])
        run.advance(19)
        overlaps = run.tridiagonal().overlaps
        assert overlaps.shape == (3, 19, 2)
        for i in range(3):
            assert_allclose(overlaps[i], recorder.vectors(i).T @ start[:2].T, atol=1e-14)

    def test_of_a_probe_with_itself_they_are_one_and_then_zero(self, symmetric):
        start = probes(30, range(2), seed=0)
        run = LanczosRun(as_operator(symmetric(30)), start, reorth="full", references=start)
        run.advance(10)
        own = run.tridiagonal().overlaps[[0, 1], :, [0, 1]]
        assert_allclose(own, np.eye(10)[:1].repeat(2, axis=0), atol=1e-14)

    def test_without_references_there_are_none(self, symmetric):
        assert coefficients(symmetric(10), 2, 3).overlaps.shape == (2, 3, 0)


class TestCombinations:
    def test_ritz_vectors_are_combinations_of_the_krylov_vectors(self, backend, symmetric):
        A, start = symmetric(40), probes(40, range(3), seed=0)
        run = LanczosRun(as_operator(backend.asarray(A)), backend.asarray(start), reorth="full")
        run.advance(40 - 1)
        T = run.tridiagonal()
        theta, S = np.linalg.eigh(matrix_of(T.alpha[1], T.beta[1]))
        ritz = backend.to_numpy(run.combine(1, S.T[[0, -1]])).astype(np.float64)
        assert_allclose(ritz @ ritz.T, np.eye(2), atol=100 * backend.eps)
        assert_allclose(np.sum(ritz @ A * ritz, axis=1), theta[[0, -1]], atol=100 * backend.eps)

    def test_the_right_probe_is_meant_after_others_have_ended(self):
        A, recorder = np.diag(np.arange(1.0, 31.0)), Recorder(np.diag(np.arange(1.0, 31.0)))
        start = np.concatenate([np.eye(30)[:1], probes(30, range(2), seed=0)])
        run = LanczosRun(as_operator(A), start, reorth="full")
        run.advance(20)
        alone = LanczosRun(as_operator(recorder), start[2:], reorth="full")
        alone.advance(20)
        assert run.combine(0, np.eye(20)) is None
        assert_allclose(run.combine(2, np.eye(20)), recorder.vectors().T, atol=1e-10)

    def test_there_are_none_without_a_basis(self, symmetric):
        for run in (run_of(symmetric(20), reorth="none"), run_of(symmetric(20))):
            run.advance(5)
            run.drop_basis()
            assert run.combine(0, np.eye(5)) is None


class TestCopiesToTheHost:
    @pytest.mark.parametrize("steps", [1, 2, 8, 40, 64])
    @pytest.mark.parametrize("references", [False, True])
    def test_there_is_one_in_eight_steps_and_a_few_at_the_start(self, monkeypatch, steps, references):
        copies, to_host = [], _arrays.to_host
        monkeypatch.setattr(_arrays, "to_host", lambda x: copies.append(x.shape) or to_host(x))
        xp = pytest.importorskip("array_api_strict")
        A, start = xp.asarray(np.diag(np.arange(1.0, 101.0))), xp.asarray(probes(100, range(4), seed=0))
        run = LanczosRun(as_operator(A), start, reorth="full", references=start if references else None)
        run.advance(steps)
        assert len(copies) <= steps / 8 + 4
        assert sum(np.prod(shape) for shape in copies) == 4 * steps * (6 if references else 2) + 4 * 5

    def test_a_run_keeps_kilobytes_on_the_host(self):
        T = coefficients(scipy.sparse.diags_array(np.arange(1.0, 10_001.0), format="csr"), 2, 30)
        assert sum(getattr(T, name).nbytes for name in ("alpha", "beta", "lengths", "overlaps")) < 2000


class TestTridiagonal:
    def test_invariant_looks_at_the_last_beta_of_each_probe(self):
        T = Tridiagonal(
            np.ones((3, 3)), np.array([[1.0, 1, 0], [1, 0, 0], [1, 1, 1]]), np.array([3, 2, 3]), np.zeros((3, 3, 0))
        )
        assert T.invariant.tolist() == [True, True, False]

    def test_a_single_vector_and_a_block_of_one_are_the_same(self, symmetric):
        A = symmetric(10)
        assert_array_equal(slq.lanczos(A, np.ones(10), 4).beta, slq.lanczos(A, np.ones((10, 1)), 4).beta)

    def test_every_argument_of_as_operator_serves(self, symmetric):
        A = symmetric(10)
        expected = slq.lanczos(A, np.ones(10), 4)
        for form in (scipy.sparse.csr_array(A), as_operator(lambda v: A @ v, n=10)):
            assert_same(slq.lanczos(form, np.ones(10), 4), expected, 1e-13)

    def test_integer_start_vectors_are_converted(self, symmetric):
        A = symmetric(10)
        assert_array_equal(slq.lanczos(A, np.ones(10, dtype=int), 4).alpha, slq.lanczos(A, np.ones(10), 4).alpha)


def test_the_names_of_the_core_are_those_of_the_package():
    assert slq.lanczos is _stage.lanczos
    assert slq.Tridiagonal is Tridiagonal


def test_what_is_not_finite_beyond_the_end_of_a_space_means_nothing():
    values = np.linspace(1.0, 3.0, 30)

    def product(X):  # linear, but for vectors that are zero
        sizes = np.linalg.norm(X, axis=0)
        with np.errstate(invalid="ignore"):
            return values[:, None] * (X / sizes) * sizes

    start = np.stack([np.eye(30)[3], np.ones(30)], axis=1)  # the first is an eigenvector
    T = slq.lanczos(slq.as_operator(product, n=30, block=True), start, 12)
    assert T.lengths.tolist() == [1, 12]
    assert T.alpha[0, 0] == values[3]
    whole = slq.lanczos(np.diag(values), start, 12)
    np.testing.assert_allclose(T.alpha[1], whole.alpha[1], rtol=1e-12)
