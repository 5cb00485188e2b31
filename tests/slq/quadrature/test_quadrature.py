"""Quadrature rules integrate what they must exactly, and err in the direction that theory says."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad

import slq
from slq import as_operator, gallery
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import probes
from slq._lanczos._tridiagonal import Tridiagonal, concatenate
from slq._quadrature._quadrature import eigen_tridiagonal, lobatto, radau


def tridiagonal(alpha, beta, length=None):
    """Hold one probe's coefficients."""
    alpha, beta = np.array([alpha], dtype=float), np.array([beta], dtype=float)
    m = alpha.shape[1]
    return Tridiagonal(alpha, beta, np.array([m if length is None else length]), np.zeros((1, m, 0)))


def problem(n, m, seed=0, low=-1.0, high=1.0):
    """Draw a matrix with eigenvalues in [low, high], a unit vector, and its m Lanczos steps."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    eigenvalues = np.sort(rng.uniform(low, high, n))
    A = (Q * eigenvalues) @ Q.T
    A = (A + A.T) / 2
    v = rng.standard_normal(n)
    v /= np.linalg.norm(v)
    T = slq.lanczos(A, v, m)
    return A, v, T, eigenvalues


def integral(A, v, f):
    """Return v^T f(A) v by dense linear algebra."""
    theta, U = np.linalg.eigh(A)
    return np.sum((U.T @ v) ** 2 * f(theta))


GALLERY = {
    "semicircle": lambda: gallery.semicircle(40, radius=2.0),
    "marchenko_pastur": lambda: gallery.marchenko_pastur(40, ratio=0.5),
    "marchenko_pastur with an atom": lambda: gallery.marchenko_pastur(40, ratio=2.0),
    "spikes": lambda: gallery.marchenko_pastur(40, ratio=0.25, spikes=[3.0, 5.0]),
    "laplacian_1d": lambda: gallery.laplacian_1d(30),
    "laplacian_2d": lambda: gallery.laplacian_2d(6),
    "laplacian_3d": lambda: gallery.laplacian_3d(3),
    "hypercube": lambda: gallery.hypercube(5),
    "kneser": lambda: gallery.kneser(6, 2),
    "strakos": lambda: gallery.strakos(30, rho=0.8),
    "graded": lambda: gallery.graded(30),
    "clustered": lambda: gallery.clustered(30, width=1e-3),
    "diagonal": lambda: gallery.from_eigenvalues([-1.0, 0.0, 4.0], multiplicities=[5, 20, 3], rotate=False),
}


class TestGauss:
    @given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 10_000), size=st.floats(-30, 30))
    @settings(deadline=None, max_examples=60)
    def test_weights_are_a_distribution_on_ascending_nodes_within_the_spectrum(self, n, m, seed, size):
        A, _, T, eigenvalues = problem(n, m, seed, -(10.0**size), 10.0**size)
        rule = slq.gauss(T)
        assert np.all(rule.weights >= 0)
        assert rule.weights.sum() == pytest.approx(1.0, rel=1e-14)
        assert np.all(np.diff(rule.nodes[0]) >= 0)
        slack = 1e-13 * np.linalg.norm(A)
        assert eigenvalues[0] - slack <= rule.nodes[0, 0]
        assert rule.nodes[0, -1] <= eigenvalues[-1] + slack

    @pytest.mark.parametrize("m", range(1, 9))
    @pytest.mark.parametrize("seed", range(3))
    def test_moments_are_exact_to_degree_2m_minus_1_and_no_further(self, m, seed):
        A, v, T, _ = problem(30, m, seed, 0.1, 1.0)
        rule = slq.gauss(T)
        for degree in range(2 * m):
            moment = rule.weights[0] @ rule.nodes[0] ** degree
            assert moment == pytest.approx(integral(A, v, lambda x, d=degree: x**d), rel=1e-10)
            assert moment == pytest.approx(v @ np.linalg.matrix_power(A, degree) @ v, rel=1e-10)
        next_moment = integral(A, v, lambda x: x ** (2 * m))
        gap = next_moment - rule.weights[0] @ rule.nodes[0] ** (2 * m)
        assert gap == pytest.approx(np.prod(T.beta[0] ** 2), rel=1e-3, abs=1e-14)  # the known remainder
        assert gap > 0

    @pytest.mark.parametrize("m", range(1, 9))
    def test_moments_of_an_indefinite_matrix_are_exact_too(self, m):
        A, v, T, _ = problem(30, m, 7)
        rule = slq.gauss(T)
        for degree in range(2 * m):
            size = integral(A, v, lambda x, d=degree: np.abs(x) ** d)
            moment = integral(A, v, lambda x, d=degree: x**d)
            assert rule.weights[0] @ rule.nodes[0] ** degree == pytest.approx(moment, abs=1e-10 * size)

    @pytest.mark.parametrize("name", GALLERY)
    def test_averaged_over_all_unit_vectors_the_moments_are_those_of_the_law(self, name):
        A, law = GALLERY[name]()
        m = 5
        rule = slq.gauss(slq.lanczos(A, np.eye(law.n), m))
        size = max(map(abs, law.edges))
        for degree in range(2 * m):
            mean = np.sum(rule.weights * rule.nodes**degree) / law.n
            assert mean == pytest.approx(law.moment(degree), abs=1e-12 * size**degree)

    @pytest.mark.parametrize("name", GALLERY)
    def test_at_n_steps_the_rule_is_the_spectral_measure_of_the_probe(self, name):
        A, law = GALLERY[name]()
        dense = A.matmat(np.eye(law.n))
        v = probes(law.n, range(1), seed=3)[0]
        rule, size = slq.gauss(slq.lanczos(A, v, law.n)), max(map(abs, law.edges))
        for f in (np.abs, np.square, lambda x: np.exp(x / size), lambda x: np.cos(3 * x / size)):
            assert rule.weights[0] @ f(rule.nodes[0]) == pytest.approx(integral(dense, v, f), rel=1e-10)
        for node in rule.nodes[0, rule.weights[0] > 1e-20]:
            assert np.min(np.abs(law.values - node)) < 1e-12 * size

    @given(n=st.integers(2, 20), m=st.integers(1, 20), seed=st.integers(0, 10_000))
    @settings(deadline=None, max_examples=60)
    def test_an_eigenvalue_lies_within_the_residual_of_each_node(self, n, m, seed):
        A, _, T, _ = problem(n, m, seed)
        rule, eigenvalues = slq.gauss(T), np.linalg.eigvalsh(A)
        for node, residual in zip(rule.nodes[0], rule.residuals[0], strict=True):
            assert np.min(np.abs(eigenvalues - node)) <= residual + 1e-13

    def test_residuals_are_those_of_the_ritz_vectors(self):
        A, v, T, _ = problem(20, 8)
        K = np.stack([np.linalg.matrix_power(A, j) @ v for j in range(8)], axis=1)
        Q, _ = np.linalg.qr(K)
        theta, S = np.linalg.eigh(Q.T @ A @ Q)
        ritz = Q @ S
        assert_allclose(slq.gauss(T).nodes[0], theta, atol=1e-8)
        assert_allclose(slq.gauss(T).residuals[0], np.linalg.norm(A @ ritz - ritz * theta, axis=0), atol=1e-7)

    def test_firsts_are_inner_products_of_ritz_vectors_with_the_references(self):
        A, _, _, eigenvalues = problem(12, 1)
        start = probes(12, range(3), seed=0)
        run = LanczosRun(as_operator(A), start, reorth="full", references=start[:2])
        run.advance(12)
        rule = slq.gauss(run.tridiagonal())
        _, U = np.linalg.eigh(A)
        assert rule.firsts.shape == (3, 12, 2)
        assert_allclose(rule.nodes, [eigenvalues] * 3, atol=1e-13)
        assert_allclose(np.abs(rule.firsts), np.abs(np.stack([(start[:2] @ U).T] * 3)), atol=1e-9)
        assert_allclose(rule.firsts[0, :, 0] ** 2, rule.weights[0], atol=1e-12)

    def test_a_single_step_is_the_rayleigh_quotient(self):
        A, v, T, _ = problem(10, 1)
        rule = slq.gauss(T)
        assert_allclose(rule.nodes, [[v @ A @ v]], rtol=1e-13)
        assert rule.weights.tolist() == [[1.0]]
        assert_allclose(rule.residuals, [[np.linalg.norm(A @ v - (v @ A @ v) * v)]], rtol=1e-12)

    def test_probes_that_ended_early_are_padded_with_their_last_node_at_no_weight(self):
        v = np.stack([np.ones(12), np.eye(12)[1] + np.eye(12)[4], np.eye(12)[7]], axis=1)
        T = slq.lanczos(np.diag(np.arange(12.0)), v, 6)
        rule = slq.gauss(T)
        assert T.lengths.tolist() == [6, 2, 1]
        assert_allclose(rule.nodes[1], [1.0, 4.0, 4.0, 4.0, 4.0, 4.0], atol=1e-14)
        assert_allclose(rule.weights[1], [0.5, 0.5, 0, 0, 0, 0], atol=1e-14)
        assert_array_equal(rule.weights[1, 2:], 0.0)
        assert_array_equal(rule.residuals[1:], 0.0)
        assert_allclose(rule.nodes[2], 7.0, rtol=1e-14)
        assert_array_equal(rule.weights[2], [1, 0, 0, 0, 0, 0])
        assert_allclose(rule.weights.sum(axis=1), 1.0, rtol=1e-14)

    def test_padding_of_a_probe_that_was_stopped_keeps_its_residual(self):
        short, long = problem(20, 3)[2], problem(20, 9, 1)[2]
        alone, rule = slq.gauss(short), slq.gauss(concatenate([short, long]))
        assert_array_equal(rule.nodes[0, :3], alone.nodes[0])
        assert_array_equal(rule.nodes[0, 3:], alone.nodes[0, -1])
        assert_array_equal(rule.residuals[0, 3:], alone.residuals[0, -1])
        assert alone.residuals[0, -1] > 0
        assert_array_equal(rule.weights[0, 3:], 0.0)

    @pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e160, 1e300])
    def test_rules_scale_with_the_operator(self, scale):
        T = problem(20, 8)[2]
        rule = slq.gauss(T)
        scaled = slq.gauss(Tridiagonal(T.alpha * scale, T.beta * scale, T.lengths, T.overlaps))
        digits = 1e-12 if scale > 1e-300 else 2e-2  # subnormal numbers have few
        assert_allclose(scaled.nodes / scale, rule.nodes, atol=digits)
        assert_allclose(scaled.residuals / scale, rule.residuals, atol=digits)
        assert_allclose(scaled.weights, rule.weights, atol=digits)

    def test_what_was_given_is_not_changed(self):
        T = problem(20, 8)[2]
        for name in ("alpha", "beta", "lengths", "overlaps"):
            getattr(T, name).flags.writeable = False
        before = T.alpha.copy(), T.beta.copy()
        slq.gauss(T)
        radau(T.alpha[0], T.beta[0], -2.0)
        assert_array_equal(T.alpha, before[0])
        assert_array_equal(T.beta, before[1])


class TestRadau:
    @pytest.mark.parametrize("m", range(1, 9))
    @pytest.mark.parametrize("node", [0.05, 1.1, 0.0, -3.0])
    def test_it_holds_the_node_and_is_exact_to_degree_2m(self, m, node):
        A, v, T, _ = problem(30, m, m, 0.1, 1.0)
        nodes, weights = radau(T.alpha[0], T.beta[0], node)
        assert nodes.shape == weights.shape == (m + 1,)
        assert node in nodes
        assert np.all(weights >= 0)
        assert weights.sum() == pytest.approx(1.0, rel=1e-14)
        for degree in range(2 * m + 1):
            assert weights @ nodes**degree == pytest.approx(integral(A, v, lambda x, d=degree: x**d), rel=1e-10)
        next_moment = integral(A, v, lambda x: x ** (2 * m + 1))
        error = next_moment - weights @ nodes ** (2 * m + 1)
        # The remainder is that of prod (x - theta)^2 (x - node): positive for a node on the left.
        assert abs(error) > 1e-3 * np.prod(T.beta[0] ** 2)
        assert (error > 0) == (node < 0.1)

    @pytest.mark.parametrize("m", [1, 4])
    def test_it_is_the_rule_of_the_legendre_polynomials_for_the_uniform_measure(self, m):
        k = np.arange(1, m + 1)
        nodes, weights = radau(np.zeros(m), k / np.sqrt(4.0 * k**2 - 1), -1.0)
        for degree in range(2 * m + 1):
            assert weights @ nodes**degree == pytest.approx(quad(lambda x, d=degree: x**d / 2, -1, 1)[0], abs=1e-13)
        if m == 1:
            assert_allclose(nodes, [-1.0, 1 / 3], rtol=1e-14)
            assert_allclose(weights, [0.25, 0.75], rtol=1e-14)

    @given(n=st.integers(3, 15), m=st.integers(1, 10), seed=st.integers(0, 10_000), distance=st.floats(-10, 2))
    @settings(deadline=None, max_examples=60)
    def test_nodes_near_and_far_are_exact_to_degree_2m(self, n, m, seed, distance):
        A, v, T, eigenvalues = problem(n, min(m, n - 1), seed)
        node = eigenvalues[-1] + 10.0**distance
        nodes, weights = radau(T.alpha[0], T.beta[0], node)
        assert node in nodes
        for degree in range(min(2 * m + 1, 5)):
            found = weights @ (nodes / max(node, 1.0)) ** degree
            assert found == pytest.approx(integral(A, v, lambda x, d=degree: (x / max(node, 1.0)) ** d), abs=1e-11)

    def test_nodes_of_gauss_and_radau_interlace(self):
        T = problem(30, 7)[2]
        gauss = slq.gauss(T).nodes[0]
        for node in (-1.5, 1.5):
            nodes, _ = radau(T.alpha[0], T.beta[0], node)
            assert np.all(nodes[:-1] < gauss)
            assert np.all(gauss < nodes[1:])

    @pytest.mark.parametrize("node", [-2.0, 9.0])
    def test_of_an_exact_rule_it_is_that_rule_and_the_node_at_no_weight(self, node):
        T = slq.lanczos(np.diag([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 2.0]), 3)
        nodes, weights = radau(T.alpha[0], T.beta[0], node)
        assert_allclose(nodes, [1.0, 2.0, 4.0, node], rtol=1e-13)
        assert_allclose(weights, [1 / 9, 4 / 9, 4 / 9, 0.0], atol=1e-14)

    @pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
    def test_it_scales_with_the_operator(self, scale):
        T = problem(20, 8)[2]
        nodes, weights = radau(T.alpha[0], T.beta[0], -1.5)
        scaled, same = radau(scale * T.alpha[0], scale * T.beta[0], -1.5 * scale)
        assert_allclose(scaled / scale, nodes, rtol=1e-12, atol=1e-13)
        assert_allclose(same, weights, atol=1e-13)
        assert -1.5 * scale in scaled


class TestOrdering:
    """Gauss errs by f^(2m), Radau by f^(2m+1) times the distance from its node (Golub & Meurant 2010, chapter 6)."""

    # Sign of the even and of the odd derivatives.
    FUNCTIONS = {  # noqa: RUF012
        "log": (np.log, -1, 1),
        "1/x": (np.reciprocal, 1, -1),
        "sqrt": (np.sqrt, -1, 1),
        "exp": (np.exp, 1, 1),
        "exp(-x)": (lambda x: np.exp(-x), 1, -1),
        "-x log x": (lambda x: -x * np.log(x), -1, 1),
    }

    @pytest.mark.parametrize("name", FUNCTIONS)
    @pytest.mark.parametrize("m", [1, 2, 3, 5, 8])
    @pytest.mark.parametrize("seed", range(3))
    def test_gauss_and_radau_bound_the_integral_from_the_sides_that_theory_says(self, name, m, seed):
        f, even, odd = self.FUNCTIONS[name]
        A, v, T, eigenvalues = problem(25, m, seed, 0.05, 2.0)
        if name == "-x log x" and m == 1:
            pytest.skip("its signs hold from the second derivative on; the third is the first odd one")
        truth, slack = integral(A, v, f), 1e-12
        rule = slq.gauss(T)
        gauss = rule.weights[0] @ f(rule.nodes[0])
        left, right = (w @ f(x) for x, w in (radau(T.alpha[0], T.beta[0], e) for e in eigenvalues[[0, -1]]))
        assert even * (truth - gauss) >= -slack
        assert odd * (truth - left) >= -slack
        assert odd * (right - truth) >= -slack

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_the_bounds_close_as_the_steps_grow(self, name):
        f, _, _ = self.FUNCTIONS[name]
        widths = []
        for m in range(2, 20):
            _, _, T, eigenvalues = problem(25, m, 4, 0.05, 2.0)
            left, right = (w @ f(x) for x, w in (radau(T.alpha[0], T.beta[0], e) for e in eigenvalues[[0, -1]]))
            widths.append(abs(right - left))
        assert all(after <= before + 1e-13 for before, after in pairwise(widths))
        assert widths[-1] < 1e-5 * widths[0] + 1e-12

    @pytest.mark.parametrize("name", ["log", "1/x", "exp"])
    def test_a_node_further_out_bounds_too_but_worse(self, name):
        f, _, odd = self.FUNCTIONS[name]
        A, v, T, eigenvalues = problem(25, 4, 5, 0.5, 2.0)
        truth = integral(A, v, f)
        errors = [
            odd * (w @ f(x) - truth)
            for x, w in (radau(T.alpha[0], T.beta[0], eigenvalues[-1] + d) for d in (0.0, 0.5, 5.0))
        ]
        assert all(e >= -1e-13 for e in errors)
        assert errors == sorted(errors)


class TestEigenTridiagonal:
    @given(m=st.integers(1, 10), seed=st.integers(0, 1000), size=st.integers(-300, 300))
    @settings(deadline=None, max_examples=40)
    def test_it_diagonalises_at_any_scale(self, m, seed, size):
        rng = np.random.default_rng(seed)
        alpha, beta = rng.standard_normal(m), rng.random(m - 1)
        T = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
        theta, vectors = eigen_tridiagonal(alpha * 10.0**size, beta * 10.0**size)
        assert_allclose(theta / 10.0**size, np.linalg.eigvalsh(T), atol=1e-13)
        assert_allclose(vectors.T @ vectors, np.eye(m), atol=1e-13)
        assert_allclose(T @ vectors, vectors * (theta / 10.0**size), atol=1e-13)

    def test_zero_has_eigenvalues_zero(self):
        theta, vectors = eigen_tridiagonal(np.zeros(3), np.zeros(2))
        assert_array_equal(theta, 0.0)
        assert_allclose(vectors.T @ vectors, np.eye(3))

    def test_off_diagonals_may_be_all_there_is(self):
        theta, _ = eigen_tridiagonal(np.zeros(2), np.array([1e-250]))
        assert_allclose(theta, [-1e-250, 1e-250], rtol=1e-14)


def test_the_rule_with_both_ends_is_gauss_where_that_is_exact():
    T = slq.lanczos(np.diag([1.0, 2.0, 5.0]), np.ones(3), 3)
    nodes, weights = lobatto(T.alpha[0], np.append(T.beta[0, :2], 0.0), 0.5, 6.0)
    np.testing.assert_allclose(nodes, [1.0, 2.0, 5.0], rtol=1e-12)
    np.testing.assert_allclose(weights, 1 / 3, rtol=1e-12)
