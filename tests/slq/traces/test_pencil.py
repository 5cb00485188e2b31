"""Generalised problems A x = lambda B x against SciPy's dense solver, by solves and by a factor of B."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from numpy.testing import assert_allclose
from scipy.sparse.linalg import splu

import slq

N = 400


def bar(n=N):
    """Return stiffness and mass matrices of a bar of finite elements of varying size, sparse."""
    h = 1.0 + 4.0 * np.random.default_rng(0).random(n + 1)
    stiffness = sp.diags_array([1 / h[:-1] + 1 / h[1:], -1 / h[1:-1], -1 / h[1:-1]], offsets=[0, 1, -1])
    mass = sp.diags_array([(h[:-1] + h[1:]) / 3, h[1:-1] / 6, h[1:-1] / 6], offsets=[0, 1, -1])
    return stiffness.tocsr(), mass.tocsr()


@pytest.fixture(scope="module")
def problem():
    """Give A, B, the eigenvalues, and each way of telling slq."""
    A, B = bar()
    exact = scipy.linalg.eigh(A.toarray(), B.toarray(), eigvals_only=True)
    L = np.linalg.cholesky(B.toarray())
    factor = tuple(lambda X, t=t: scipy.linalg.solve_triangular(L, X, lower=True, trans=t) for t in (0, 1))
    return (
        A,
        B,
        exact,
        {"solves": slq.pencil(A, B, solve_B=splu(B.tocsc()).solve), "factor": slq.pencil(A, factor=factor)},
    )


@pytest.mark.parametrize("way", ["solves", "factor"])
class TestEachWay:
    def test_counts_traces_and_edges_are_those_of_the_pencil(self, problem, way):
        *_, exact, operators = problem
        s = slq.spectrum(operators[way], probes=3, steps=40, rng=0, confidence=0.999)
        middle = np.median(exact)
        assert (s.n, s.certified) == (N, True)
        assert s.edges[0] <= exact[0] < exact[-1] <= s.edges[1]
        for found, true in (
            (s.count(middle, np.inf), np.sum(exact > middle)),
            (s.trace(), exact.sum()),
            (s.logdet(shift=0.1), np.log(exact + 0.1).sum()),
        ):
            assert found.low <= true <= found.high

    @pytest.mark.slow
    def test_intervals_hold_as_often_as_they_say(self, problem, way):
        *_, exact, operators = problem
        f = np.sqrt
        runs = [slq.spectrum(operators[way], probes=1, steps=12, rng=i, reorth="none").trace(f) for i in range(60)]
        assert np.mean([t.low <= f(exact).sum() <= t.high for t in runs]) >= 0.88
        mean, scatter = np.mean([t.value for t in runs]), N * np.std(f(exact)) * np.sqrt(2 / (N + 2))
        assert abs(mean - f(exact).sum()) <= 3 * scatter / np.sqrt(60)

    def test_multiplicities_are_found(self, problem, way):
        _, B, _, _ = problem
        values = np.concatenate([np.linspace(0.0, 1.0, N - 3), [4.0, 4.0, 7.0]])
        Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))
        L = np.linalg.cholesky(B.toarray())
        A = L @ (Q * values) @ Q.T @ L.T
        factor = tuple(lambda X, t=t: scipy.linalg.solve_triangular(L, X, lower=True, trans=t) for t in (0, 1))
        made = {"factor": {"factor": factor}, "solves": {"solve_B": splu(B.tocsc()).solve}}[way]
        found = slq.spectrum(
            slq.pencil((A + A.T) / 2, *([B] if way == "solves" else []), **made), probes=3, steps=40, rng=0
        )
        assert_allclose(found.outliers.values, [7.0, 4.0], rtol=1e-10)
        assert_allclose(found.outliers.multiplicities, [1, 2])


class TestSolves:
    def test_a_step_costs_one_product_and_one_solve(self):
        A, B = bar(100)
        calls = {"A": 0, "solve": 0}
        lu = splu(B.tocsc())

        def product(X):
            calls["A"] += X.shape[1]
            return A @ X

        def solve(X):
            calls["solve"] += X.shape[1]
            return lu.solve(X)

        operator = slq.pencil(slq.as_operator(product, n=100, block=True), B, solve_B=solve)
        before = dict(calls)
        slq.spectrum(operator, probes=1, steps=20, rng=0, reorth="none")
        assert calls["A"] - before["A"] == 22  # and two of the test
        assert calls["solve"] - before["solve"] <= 22 + 5 + 2

    def test_the_operator_itself_is_symmetric_and_has_the_eigenvalues(self):
        A, B = bar(40)
        operator = slq.pencil(A, B, solve_B=splu(B.tocsc()).solve)
        C = operator.matmat(np.eye(40))
        exact = scipy.linalg.eigh(A.toarray(), B.toarray(), eigvals_only=True)
        assert_allclose(C, C.T, atol=1e-10)
        assert_allclose(np.linalg.eigvalsh(C), exact, rtol=1e-9)
        assert_allclose(slq.eigsh(operator, 2, which="LA", rng=0).values, exact[-2:], rtol=1e-9)
        b = np.ones(40)
        w, Q = np.linalg.eigh(C)
        for passes in (1, 2):
            assert_allclose(slq.apply(operator, b, "exp", passes=passes).value, Q @ (np.exp(w) * (Q.T @ b)), rtol=1e-7)

    def test_torch_tensors_stay_there(self, torch):
        A, B = (M.toarray() for M in bar(60))
        inverse = torch.from_numpy(np.linalg.inv(B))
        operator = slq.pencil(torch.from_numpy(A), torch.from_numpy(B), solve_B=lambda X: inverse @ X)
        same = slq.pencil(A, B, solve_B=lambda X: np.linalg.solve(B, X))
        one, two = (slq.spectrum(o, probes=2, steps=10, rng=0) for o in (operator, same))
        assert_allclose(one.alpha, two.alpha, rtol=1e-8)

    def test_outliers_stay_exact_however_many_probes_follow(self):
        A, B = bar(300)
        A = (A + 40 * sp.csr_array(([1.0], ([7], [7])), shape=A.shape)).tocsr()
        exact = scipy.linalg.eigh(A.toarray(), B.toarray(), eigvals_only=True)
        s = slq.spectrum(slq.pencil(A, B, solve_B=splu(B.tocsc()).solve), probes=9, steps=40, rng=0)
        assert s.deflated.size == 0
        assert_allclose(s.outliers.values[0], exact[-1], rtol=1e-10)
        assert s.outliers.multiplicities[0] == 1
        assert s.count(0.9 * exact[-1], np.inf).value == 1

    def test_an_inexact_inverse_is_part_of_the_noise(self):
        A, B = bar(100)
        lu = splu(B.tocsc())
        s = slq.spectrum(slq.pencil(A, B, solve_B=lambda X: lu.solve(X) * (1 + 1e-6)), probes=2, steps=10, rng=0)
        assert s.noise >= 0.9e-6 * s.nodes.max()


class TestMessages:
    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"solve_B": lambda X: 2 * X}, ValueError, r"no inverse of B: .* differs from x by 1 of"),
            ({"solve_B": lambda X: np.full_like(X, np.nan)}, ValueError, "no inverse of B"),
            ({}, ValueError, "give either `solve_B`"),
            ({"solve_B": np.copy, "factor": (np.copy, np.copy)}, ValueError, "give either `solve_B`"),
            ({"solve_B": lambda X: X[:2]}, slq.RunError, "must have that shape"),
        ],
        ids=["twice", "nan", "neither", "both", "shape"],
    )
    def test_what_makes_no_pencil_is_refused(self, options, kind, message):
        with pytest.raises(kind, match=message):
            slq.pencil(np.eye(4), np.eye(4), **options)

    def test_an_indefinite_b_is_refused(self):
        B = np.diag([1.0, -1.0, -1.0])
        with pytest.raises(ValueError, match="`B` must be positive definite"):
            slq.pencil(np.eye(3), B, solve_B=lambda X: B @ X)

    def test_shapes_homes_and_fields_must_agree(self):
        with pytest.raises(ValueError, match="`B` is missing"):
            slq.pencil(np.eye(3), solve_B=np.copy)
        with pytest.raises(ValueError, match="must have one shape"):
            slq.pencil(np.eye(3), np.eye(4), solve_B=np.copy)
        with pytest.raises(TypeError, match="share one dtype"):
            slq.pencil(np.eye(3), np.eye(3, dtype=np.float32), solve_B=np.copy)
        with pytest.raises(TypeError, match="takes real symmetric"):
            slq.pencil(np.eye(3) + 0j, np.eye(3), solve_B=np.copy)
