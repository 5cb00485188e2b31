"""Traces from products alone: rank-deficient sketches, every array library, tolerances, intervals, mistakes."""

import numpy as np
import pytest

import slq
from slq._traces._blocks import Blocks
from slq._traces._leave_one_out import leave_one_out, nystrom_samples

ALL = {"hutchinson": slq.hutchinson, "hutchpp": slq.hutchpp, "xtrace": slq.xtrace, "xnystrace": slq.xnystrace}
SKETCHED = ["hutchpp", "xtrace", "xnystrace"]


def decaying(n, rate):
    return rate ** np.arange(n)


@pytest.mark.parametrize("name", ALL)
def test_the_mean_over_seeds_is_the_trace_and_the_intervals_hold_mostly(name, with_eigenvalues):
    values = np.linspace(1.0, 3.0, 300)
    A = with_eigenvalues(values)
    found = [ALL[name](A, products=40, rng=seed) for seed in range(60)]
    scatter = np.std([e.value for e in found])
    assert abs(np.mean([e.value for e in found]) - values.sum()) < 4 * scatter / np.sqrt(60)
    assert np.mean([e.low <= values.sum() <= e.high for e in found]) >= 0.87


@pytest.mark.parametrize("name", SKETCHED)
def test_a_low_rank_matrix_is_exact_though_its_sketch_is_deficient(name, with_eigenvalues):
    values = np.append(np.linspace(1.0, 4.0, 7), np.zeros(193))
    found = ALL[name](with_eigenvalues(values), products=60, rng=0)
    assert found.value == pytest.approx(values.sum(), rel=1e-10)
    assert found.low <= values.sum() <= found.high
    assert found.high - found.low < 1e-8


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("A", "trace"),
    [
        (np.zeros((50, 50)), 0.0),
        (np.eye(50), 50.0),
        (np.ones((50, 50)), 50.0),
        (np.ones((1, 1)), 1.0),
        (2 * np.eye(2), 4.0),
    ],
    ids=["zero", "identity", "rank one", "one by one", "two by two"],
)
def test_easy_matrices_come_out_right(name, A, trace):
    found = ALL[name](A, products=20, rng=1)
    assert found.low - 1e-9 <= trace <= found.high + 1e-9
    if name in ("xtrace", "xnystrace"):
        assert found.value == pytest.approx(trace, abs=1e-9)


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e150])
@pytest.mark.parametrize("name", SKETCHED)
def test_scaling_a_matrix_scales_its_trace(name, size, with_eigenvalues):
    A = with_eigenvalues(decaying(100, 0.8))
    one, scaled = (ALL[name](c * A, products=30, rng=0) for c in (1.0, size))
    assert scaled.value == pytest.approx(size * one.value, rel=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_every_array_library_gives_the_same(name, backend):
    values = decaying(60, 0.7)
    A = np.diag(values) + 0.01 * np.ones((60, 60))
    found = ALL[name](backend.asarray(A), products=24, rng=0)
    here = ALL[name](A, products=24, rng=0)
    assert found.value == pytest.approx(here.value, rel=1e-8 if backend.is_double else 2e-3)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("name", ALL)
def test_no_more_products_are_made_than_asked_and_all_columns_are_exact(name, counted, with_eigenvalues):
    operator = counted(with_eigenvalues(decaying(200, 0.9)))
    ALL[name](operator, products=31, rng=0)
    assert 25 <= sum(operator.columns) <= 31 + 1  # the last one tells whether products repeat
    operator.columns.clear()
    found = ALL[name](operator, products=200, rng=0)
    assert sum(operator.columns) == 200 + 1
    assert found.claim == "certified"
    assert found.value == pytest.approx(np.trace(operator.matrix), rel=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_doubling_reaches_a_tolerance_and_keeps_what_was_multiplied(name, counted, with_eigenvalues):
    A = with_eigenvalues(np.append(np.linspace(5.0, 50.0, 20), np.linspace(0.9, 1.0, 780)))
    operator = counted(A)
    found = ALL[name](operator, rtol=0.05, rng=0)
    assert found.high - found.low <= 2 * 0.05 * found.value
    assert found.low <= np.trace(A) <= found.high
    assert sum(operator.columns) <= (24 * 2 ** int(np.ceil(np.log2(sum(operator.columns) / 24))))
    again = ALL[name](A, rtol=0.05, rng=0)
    assert again == found


def test_doubling_gives_what_as_many_products_at_once_give(with_eigenvalues):
    A = with_eigenvalues(decaying(300, 0.9))
    for name in SKETCHED:
        twice = ALL[name](A, rtol=1e-12, max_products=96, rng=0)
        assert twice.value == pytest.approx(ALL[name](A, products=96, rng=0).value, rel=1e-9)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("most", [25, 26, 49, 50, 51])
def test_a_limit_just_above_what_was_doubled_to_is_used_up(name, most, counted, with_eigenvalues):
    operator = counted(with_eigenvalues(decaying(200, 0.9)))
    found = ALL[name](operator, rtol=1e-12, max_products=most, rng=0)
    assert most - 2 < sum(operator.columns) <= most + 1  # one tests; a sketch takes two or none
    assert found.value == pytest.approx(ALL[name](operator.matrix, products=most, rng=0).value, rel=1e-9)


def test_doubling_ends_where_it_may_go_no_further(counted, with_eigenvalues):
    operator = counted(with_eigenvalues(np.linspace(-1, 1, 400)))
    found = slq.xtrace(operator, rtol=1e-9, max_products=50, rng=0)
    assert sum(operator.columns) <= 50 + 1
    assert found.low <= 0.0 <= found.high


def test_xtrace_is_the_mean_of_leave_one_out_sketches(symmetric):
    """Against the definition: for every probe a basis without it, and the residual that it sees."""
    A, n, s = symmetric(40), 40, 6
    Omega = Blocks(slq.as_operator(A), 3).draw(range(s), "sphere")
    Q = np.linalg.qr(A @ Omega)[0]
    plain = []
    for i in range(s):
        Qi = np.linalg.qr(A @ np.delete(Omega, i, axis=1))[0]
        w = Omega[:, i] - Qi @ (Qi.T @ Omega[:, i])
        plain.append(np.trace(Qi.T @ A @ Qi) + (n - s + 1) / (w @ w) * (w @ A @ w))
    np.testing.assert_allclose(leave_one_out(Q.T @ A @ Q, Q.T @ A @ Omega, Q.T @ Omega, n), plain, rtol=1e-9)
    assert slq.xtrace(A, products=12, rng=3).value == pytest.approx(np.mean(plain), rel=1e-9)


def test_xnystrace_is_the_mean_of_leave_one_out_approximations(with_eigenvalues):
    """Against the definition: for every probe Nystrom's approximation without it, and what it misses of the probe."""
    n, s = 40, 6
    A = with_eigenvalues(decaying(n, 0.8))
    Omega = Blocks(slq.as_operator(A), 3).draw(range(s), "sphere")
    plain = []
    for i in range(s):
        others = np.delete(Omega, i, axis=1)
        hat = A @ others @ np.linalg.solve(others.T @ A @ others, others.T @ A)
        basis = np.linalg.qr(others)[0]
        w = Omega[:, i] - basis @ (basis.T @ Omega[:, i])
        plain.append(np.trace(hat) + (n - s + 1) / (w @ w) * (w @ (A - hat) @ w))
    R = np.linalg.qr(A @ Omega)[1]
    found = nystrom_samples(Omega.T @ A @ Omega, Omega.T @ Omega, R, n, 2.2e-16)
    np.testing.assert_allclose(found, plain, rtol=1e-9)
    assert slq.xnystrace(A, products=6, rng=3).value == pytest.approx(np.mean(plain), rel=1e-9)


def test_fewer_products_do_as_well_the_faster_the_eigenvalues_decay(with_eigenvalues):
    values = decaying(300, 0.8)
    A = with_eigenvalues(values)
    errors = {name: np.mean([abs(ALL[name](A, products=48, rng=s).value - 5.0) for s in range(10)]) for name in ALL}
    assert errors["xnystrace"] < 0.1 * errors["xtrace"] < 0.1 * errors["hutchpp"] < 0.1 * errors["hutchinson"]


@pytest.mark.parametrize("name", ALL)
def test_mistakes_are_explained(name):
    ask, A = ALL[name], np.eye(100)
    with pytest.raises(ValueError, match="`products` must be at least"):
        ask(A, products=1)
    with pytest.raises(TypeError, match=r"`products` must be an integer, got 3\.5"):
        ask(A, products=3.5)
    with pytest.raises(ValueError, match="`rtol` must be positive"):
        ask(A, rtol=0.0)
    with pytest.raises(ValueError, match=r"Did you mean 0\.95"):
        ask(A, confidence=95)
    with pytest.raises(slq.RunError, match="a product gave NaN or Inf"):
        ask(slq.as_operator(lambda v: v * np.nan, n=100), products=20)
    with pytest.raises(TypeError, match="`A` must be a square matrix or something to multiply by"):
        ask("matrix")
    with pytest.raises(
        TypeError, match="`probes` is no option here: these are products, rng, rtol" if name in SKETCHED else "probes"
    ):
        ask(A, probes=10)


def test_xnystrace_refuses_an_indefinite_matrix_with_a_certain_statement(with_eigenvalues):
    A = with_eigenvalues(np.linspace(-1, 1, 100))
    with pytest.raises(ValueError, match=r"an eigenvalue is at most -0\.\d+ \(certain\). Use slq.xtrace"):
        slq.xnystrace(A, products=30, rng=0)


@pytest.mark.parametrize("name", SKETCHED)
def test_an_asymmetric_matrix_is_told(name):
    A = np.diag(np.ones(60)) + np.triu(np.ones((60, 60)), 1)
    with pytest.warns(slq.SlqWarning, match=r"the operator is not symmetric.*Pass \(A \+ A\^T\) / 2"):
        ALL[name](A, products=20, rng=0)


@pytest.mark.parametrize("rate", [0.9, 0.7])
@pytest.mark.parametrize("name", ["xtrace", "xnystrace"])
def test_intervals_hold_where_eigenvalues_decay_and_samples_depend_on_each_other(name, rate):
    values = decaying(300, rate)
    operator = slq.as_operator(lambda X: values[:, None] * X, n=300, block=True)
    found = [ALL[name](operator, products=24, rng=seed) for seed in range(40)]
    assert np.mean([e.low <= values.sum() <= e.high for e in found]) >= 0.9


@pytest.mark.parametrize("ask", [slq.hutchpp, slq.xtrace, slq.xnystrace])
def test_the_trace_of_zero_is_zero_for_certain_as_far_as_any_probe_sees(ask):
    found = ask(np.zeros((300, 300)), products=12, rng=0)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_diagonal_of_zero_is_zero():
    found = slq.xdiag(np.zeros((300, 300)), products=12, rng=0)
    assert not found.value.any()
    assert not (found.high - found.low).any()
