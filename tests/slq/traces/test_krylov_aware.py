"""Block Krylov spaces: identities, traces of functions, diagonals, on easy and hard matrices."""

import numpy as np
import pytest

import slq
from slq._quadrature._integrands import integrand_of
from slq._traces._block_krylov import BlockKrylov
from slq._traces._blocks import Blocks


def function_of(A, f):
    values, vectors = np.linalg.eigh(A)
    return (vectors * f(values)) @ vectors.T


def space_of(A, columns, steps, seed=0):
    blocks = Blocks(slq.as_operator(A), seed)
    V = blocks.draw(range(columns), "rademacher")
    space = BlockKrylov(blocks, V)
    space.advance(steps)
    return space, V


class TestBlockKrylov:
    """The recurrence itself."""

    def test_is_orthonormal_and_sees_the_matrix(self, symmetric):
        A = symmetric(60)
        space, _ = space_of(A, 3, 8)
        np.testing.assert_allclose(space.Q.T @ space.Q, np.eye(space.Q.shape[1]), atol=1e-12)
        np.testing.assert_allclose(space.H, space.Q[:, :24].T @ A @ space.Q[:, :24], atol=1e-12)
        assert space.sizes == [3] * 9

    @pytest.mark.parametrize(
        ("A", "sizes"),
        [(np.zeros((20, 20)), [4, 0]), (np.eye(20), [4, 0]), (np.ones((20, 20)), [4, 1, 0])],
        ids=["zero", "identity", "rank one"],
    )
    def test_ends_where_the_space_is_invariant(self, A, sizes):
        space, _ = space_of(A, 4, 10)
        assert space.finished
        assert space.sizes == sizes

    def test_is_exact_for_polynomials_and_in_the_whole_space(self, symmetric):
        A = symmetric(30)
        for columns, steps, name, f in ((3, 4, "x**3", lambda x: x**3), (5, 30, "exp", np.exp)):
            space, V = space_of(A, columns, steps)
            start = space.Q[:, : space.sizes[0]].T @ V
            small = space.function(integrand_of(name))[:, : space.sizes[0]] @ start
            np.testing.assert_allclose(space.Q[:, : len(small)] @ small, function_of(A, f) @ V, atol=1e-9)


class TestTrace:
    """tr f(A) with the first blocks taken out of the sampling."""

    @pytest.mark.parametrize(("name", "f"), [("exp", np.exp), ("x**4", lambda x: x**4), ("identity", lambda x: x)])
    def test_intervals_hold(self, name, f):
        operator, law = slq.gallery.spiked(600)
        truth = law.trace(f)
        found = [slq.krylov_aware_trace(operator, name, rng=seed) for seed in range(10)]
        assert np.mean([e.low <= truth <= e.high for e in found]) >= 0.8
        assert abs(np.mean([e.value for e in found]) - truth) < 0.04 * max(abs(truth), 10)

    def test_needs_fewer_products_than_sampling_where_few_eigenvalues_make_the_trace(self):
        operator, law = slq.gallery.spiked(2000)
        truth = law.trace(np.exp)
        cost = 8 * 32 + 16 * 24
        here = [slq.krylov_aware_trace(operator, "exp", rng=s).value - truth for s in range(5)]
        there = [
            slq.spectrum(operator, probes=cost // 24, steps=24, rng=s, kind="rademacher", deflate="none")
            for s in range(5)
        ]
        plain = [float(np.mean(2000 * np.sum(s.weights * np.exp(s.nodes), axis=1))) - truth for s in there]
        assert np.mean(np.square(here)) < 0.1 * np.mean(np.square(plain))

    @pytest.mark.parametrize("rtol", [1e-2, 1e-4])
    def test_a_tolerance_is_met_and_the_interval_holds(self, rtol):
        operator, law = slq.gallery.spiked(600)
        truth = law.trace(np.exp)
        found = [slq.krylov_aware_trace(operator, "exp", steps=8, probes=4, rtol=rtol, rng=seed) for seed in range(10)]
        assert all(e.high - e.low <= 2 * rtol * e.value for e in found)
        assert sum(e.low <= truth <= e.high for e in found) >= 9

    @pytest.mark.parametrize(("steps", "probes"), [(40, 4), (4, 400)])
    def test_what_makes_the_larger_error_is_doubled(self, steps, probes):
        A, columns = np.diag(np.linspace(0.01, 1.0, 500)), []
        counted = slq.as_operator(lambda X: columns.append(X.shape[1]) or A @ X, n=500, block=True)
        slq.krylov_aware_trace(
            counted, "sqrt", depth=1, steps=steps, probes=probes, rtol=1e-9, max_products=4000, rng=0
        )
        most = max(columns)
        assert sum(columns) <= 4001
        assert (most >= 2 * probes) if probes == 4 else (most == probes and sum(columns) > 1.9 * steps * probes)

    def test_where_nothing_is_left_to_sample_a_tolerance_ends_it(self):
        found = slq.krylov_aware_trace(np.eye(40), "exp", rtol=1e-3, rng=0)
        assert found.value == pytest.approx(40 * np.e)

    def test_log_of_a_definite_matrix(self):
        operator, law = slq.gallery.marchenko_pastur(500)
        found = slq.krylov_aware_trace(operator, "log", steps=30, rng=0, confidence=0.999)
        assert found.low <= law.trace(np.log) <= found.high

    def test_easy_matrices(self):
        for A, truth in ((np.eye(40), 40 * np.e), (np.zeros((40, 40)), 40.0), (np.ones((1, 1)), np.e)):
            assert slq.krylov_aware_trace(A, "exp", rng=0).value == pytest.approx(truth, rel=1e-9)

    def test_every_array_library(self, backend):
        A = np.diag(np.linspace(0.0, 3.0, 50))
        found = slq.krylov_aware_trace(backend.asarray(A), "exp", block=2, depth=1, steps=3, probes=2, rng=0)
        here = slq.krylov_aware_trace(A, "exp", block=2, depth=1, steps=3, probes=2, rng=0)
        assert found.value == pytest.approx(here.value, rel=1e-8 if backend.is_double else 1e-3)


class TestDiagonal:
    """diag f(A)."""

    @pytest.mark.parametrize(("name", "f"), [("exp", np.exp), ("square", np.square), ("identity", lambda x: x)])
    def test_by_signs_holds_as_often_as_it_says(self, symmetric, name, f):
        A = symmetric(80)
        truth = np.diag(function_of(A, f))
        d = slq.diagonal(A, name, probes=100, steps=20, rng=0)
        np.testing.assert_array_equal(d.x, np.arange(80))
        assert np.mean((d.low <= truth) & (truth <= d.high)) > 0.85
        assert np.abs(d.value - truth).max() < 0.5 * np.abs(truth).max()

    @pytest.mark.parametrize(("name", "f"), [("exp", np.exp), ("x**3", lambda x: x**3), ("identity", lambda x: x)])
    def test_of_chosen_entries_is_not_random(self, symmetric, name, f):
        A = symmetric(80)
        truth = np.diag(function_of(A, f))
        some = np.array([3, 77, -1])
        d = slq.diagonal(A, name, indices=some, steps=25)
        np.testing.assert_allclose(d.value, truth[some], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(d.x, some % 80)
        assert np.all((d.low <= truth[some] + 1e-12) & (truth[some] <= d.high + 1e-12))
        assert d.claim == ("estimate" if name == "exp" else "certified")

    def test_of_a_diagonal_matrix_needs_two_probes(self):
        values = np.linspace(1.0, 2.0, 40)
        d = slq.diagonal(np.diag(values), "log", probes=2, steps=40, rng=0)
        np.testing.assert_allclose(d.value, np.log(values), atol=1e-9)

    def test_every_array_library(self, backend):
        A = np.diag(np.linspace(0.0, 3.0, 30)) + 0.1
        here = slq.diagonal(A, "exp", probes=2, steps=3, rng=0).value
        found = slq.diagonal(backend.asarray(A), "exp", probes=2, steps=3, rng=0).value
        np.testing.assert_allclose(found, here, rtol=1e-7 if backend.is_double else 2e-3)

    def test_xdiag_is_exact_at_low_rank_and_holds_mostly(self, with_eigenvalues):
        low = with_eigenvalues(np.append(np.arange(1.0, 6.0), np.zeros(75)))
        np.testing.assert_allclose(slq.xdiag(low, products=40, rng=0).value, np.diag(low), atol=1e-9)
        A = with_eigenvalues(0.9 ** np.arange(80))
        d = slq.xdiag(A, products=40, rng=0)
        assert np.mean((d.low <= np.diag(A)) & (np.diag(A) <= d.high)) > 0.8
        error = np.linalg.norm(d.value - np.diag(A))
        assert error < 0.8 * np.linalg.norm(slq.diagonal(A, probes=40, steps=1, rng=0).value - np.diag(A))

    @pytest.mark.parametrize("rtol", [1e-1, 1e-3])
    def test_xdiag_doubles_until_a_tolerance(self, with_eigenvalues, rtol):
        A, columns = with_eigenvalues(0.9 ** np.arange(300)), []
        counted = slq.as_operator(lambda X: columns.append(X.shape[1]) or A @ X, n=300, block=True)
        d = slq.xdiag(counted, rtol=rtol, rng=0)
        assert np.linalg.norm(d.high - d.low) <= 2 * rtol * np.linalg.norm(d.value)
        assert np.linalg.norm(d.value - np.diag(A)) <= rtol * np.linalg.norm(np.diag(A))
        assert sum(columns) < (100 if rtol == 1e-1 else 200)

    def test_xdiag_takes_all_columns_where_that_is_what_a_tolerance_needs(self, symmetric):
        A = symmetric(60)
        d = slq.xdiag(A, rtol=1e-9, rng=0)
        np.testing.assert_allclose(d.value, np.diag(A), rtol=1e-12)
        assert d.claim == "certified"
        assert np.all((d.low <= np.diag(A)) & (np.diag(A) <= d.high))

    def test_xdiag_ends_at_the_products_it_may_spend(self, symmetric):
        d = slq.xdiag(symmetric(60), rtol=1e-9, max_products=30, rng=0)
        assert d.claim == "estimate"

    def test_xdiag_is_the_mean_of_leave_one_out_sketches(self, symmetric):
        A, s = symmetric(40), 5
        Omega = Blocks(slq.as_operator(A), 2).draw(range(s), "rademacher")
        plain = []
        for i in range(s):
            Q = np.linalg.qr(A @ np.delete(Omega, i, axis=1))[0]
            rest = A @ Omega[:, i] - Q @ (Q.T @ A @ Omega[:, i])
            plain.append(np.diag(Q @ Q.T @ A) + Omega[:, i] * rest)
        np.testing.assert_allclose(slq.xdiag(A, products=10, rng=2).value, np.mean(plain, axis=0), atol=1e-10)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda A: slq.diagonal(A, "log"), "`log` needs eigenvalues above 0, but one is at most"),
        (lambda A: slq.krylov_aware_trace(A, "sqrt"), "`sqrt` needs eigenvalues above 0"),
        (lambda A: slq.diagonal(A, "log", indices=[0]), "`log` needs eigenvalues above 0"),
        (lambda A: slq.diagonal(A, indices=[0.5]), "`indices` must be one or more integers"),
        (lambda A: slq.diagonal(A, indices=[80]), r"`indices` must lie in \[-60, 60\), got 80"),
        (lambda A: slq.diagonal(A, probes=1), "`probes` must be an integer of at least 2, got 1"),
        (lambda A: slq.krylov_aware_trace(A, block=0), "`block` must be an integer of at least 1, got 0"),
        (lambda A: slq.xdiag(A, products=2), "`products` must be at least 4, got 2"),
        (lambda A: slq.xdiag(A, rtol=0.0), "`rtol` must be positive, got 0"),
        (lambda A: slq.krylov_aware_trace(A, rtol=-1.0), "`rtol` must be positive or None, got -1"),
    ],
    ids=range(10),
)
def test_mistakes_are_explained(symmetric, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(symmetric(60))
