"""Exact tr A and tr A^2: where they come from, what they make exact, what they must not touch."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

import slq
from slq._kernels._entries import shifted_traces
from slq._operators._algebra import plus, times
from slq._quadrature._controls import _summed


@pytest.fixture(scope="module")
def matrix():
    """Give a dense symmetric matrix with eigenvalues from 0.5 to 8 and none of its zeros."""
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((240, 240)))[0]
    return (Q * np.geomspace(0.5, 8.0, 240)) @ Q.T


@pytest.fixture(scope="module")
def run(matrix):
    return slq.spectrum(matrix, probes=3, steps=30, rng=1, confidence=0.9999)


def traces(A):
    return pytest.approx((np.trace(A), np.sum(A**2)), rel=1e-13)


def without(run):
    return replace(run, traces=None)


def test_stored_matrices_know_their_traces(matrix):
    upper = np.triu(matrix, 1)
    holes = matrix * (np.abs(upper + upper.T + np.eye(240)) > 0.1)
    for A in (holes, np.asfortranarray(holes), sp.csr_array(holes), sp.coo_array(holes)):
        assert slq.as_operator(A).traces() == traces(holes)
    assert slq.as_operator(holes.astype(np.float32)).traces() == traces(holes.astype(np.float32).astype(float))


def test_half_precision_is_widened_before_it_is_squared():
    A = np.diag(np.full(50, 300.0)).astype(np.float16)  # 300**2 overflows
    assert slq.as_operator(A).traces() == (15_000.0, 4_500_000.0)


def test_entries_given_twice_are_added_up():
    A = sp.csr_array((np.ones(5), [0, 0, 1, 1, 0], [0, 3, 5]), shape=(2, 2))
    assert slq.as_operator(A).traces() == traces(A.toarray())


def test_other_array_libraries_are_summed_in_float64(matrix):
    A = pytest.importorskip("array_api_strict").asarray(matrix)
    assert slq.as_operator(A).traces() == traces(matrix)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_squares_beyond_float64_are_not_known(matrix, scale):
    assert slq.as_operator(matrix * scale).traces() is None
    assert slq.as_operator(sp.csr_array(matrix * scale)).traces() is None


@pytest.mark.parametrize("sides", [(7,), (4, 5), (3, 4, 5), (1, 6)])
def test_grids_know_their_traces_in_closed_form(sides):
    build = {1: slq.gallery.laplacian_1d, 2: slq.gallery.laplacian_2d, 3: slq.gallery.laplacian_3d}[len(sides)]
    operator, law = build(*sides)
    assert slq.as_operator(operator).traces() == pytest.approx((law.trace(np.positive), law.trace(np.square)))


def test_combinations_know_theirs_where_one_term_tells(matrix):
    A = plus(times(matrix, -2.0), 0.25)
    assert slq.as_operator(A).traces() == traces(-2 * matrix + 0.25 * np.eye(240))
    assert slq.as_operator(plus(matrix, matrix)).traces() is None


def test_products_alone_know_nothing():
    assert slq.as_operator(lambda x: x, n=5).traces() is None
    assert slq.as_operator(slq.gallery.semicircle(20)[0]).traces() is None


def test_the_first_two_moments_are_exact_and_say_so(run, matrix):
    for name, exact in (("identity", np.trace(matrix)), ("square", np.sum(matrix**2)), ("x**0", 240.0)):
        e = run.trace(name)
        assert e.value == pytest.approx(exact, rel=1e-13)
        assert e.low <= exact <= e.high
        assert e.high - e.low < 1e-11 * exact
        assert (e.claim, e.error.sampling, e.error.quadrature) == ("certified", 0.0, 0.0)
    assert run.frobenius_norm().value == pytest.approx(np.linalg.norm(matrix), rel=1e-13)
    assert run.moment(2, about=3.0).value == pytest.approx(
        np.trace((matrix - 3 * np.eye(240)) @ (matrix - 3 * np.eye(240))) / 240
    )


@pytest.mark.parametrize(
    ("name", "f"),
    [("log", np.log), ("sqrt", np.sqrt), ("exp", np.exp), ("x**3", lambda x: x**3), ("inverse", np.reciprocal)],
)
def test_what_a_quadratic_explains_is_not_sampled(run, name, f):
    truth, known, sampled = f(np.geomspace(0.5, 8.0, 240)).sum(), run.trace(name), without(run).trace(name)
    assert known.low <= truth <= known.high
    assert known.error.sampling < 0.6 * sampled.error.sampling
    assert known.claim == sampled.claim == "certified"


def test_functions_that_no_quadratic_resembles_stay_as_they_were(run):
    def waves(x):
        return np.cos(40 * x)

    assert run.trace(waves) == without(run).trace(waves)


def test_brackets_of_the_quadrature_are_not_lost(matrix):
    short = slq.spectrum(matrix, probes=3, steps=4, rng=1, confidence=0.9999)
    for name, f in (("log", np.log), ("inverse", np.reciprocal)):
        e = short.trace(name)
        assert e.claim == "certified"
        assert e.low <= f(np.geomspace(0.5, 8.0, 240)).sum() <= e.high


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_hold_too(matrix, steps):
    s = slq.spectrum(matrix, probes=4, steps=steps, rng=0, confidence=0.9999)
    e = s.logdet()
    assert e.low <= np.log(np.geomspace(0.5, 8.0, 240)).sum() <= e.high


def test_ratios_of_traces_profit_too(run):
    values = np.geomspace(0.5, 8.0, 240)
    truth = -np.sum(values / values.sum() * np.log(values / values.sum()))
    known, sampled = run.von_neumann_entropy(), without(run).von_neumann_entropy()
    assert known.low <= truth <= known.high
    assert known.error.sampling < 0.5 * sampled.error.sampling


def test_shifts_move_the_traces(run, matrix):
    assert run.shifted(2.0).traces == traces(matrix + 2 * np.eye(240))
    assert run.shifted(2.0).logdet().value == pytest.approx(run.logdet(2.0).value, rel=1e-12)
    assert shifted_traces((3.0, 5.0), 0.5, 2) == (4.0, 8.5)


def test_files_keep_the_traces_and_old_ones_are_read(run, tmp_path):
    back = slq.load(run.save(tmp_path / "run.npz"))
    assert back.traces == run.traces
    assert back.logdet() == run.logdet()
    assert slq.load(without(run).save(tmp_path / "old.npz")).traces is None


def test_more_probes_and_merged_runs_keep_what_both_know(run, matrix):
    other = slq.spectrum(matrix, probes=3, steps=30, rng=2, confidence=0.9999)
    assert run.extend(matrix, probes=4).traces == run.traces
    assert run.merge(other).traces == run.traces
    assert run.merge(without(other)).traces is None


def test_a_matrix_that_is_not_symmetric_has_no_controls(matrix):
    A = matrix + 0.1 * np.triu(np.ones((240, 240)), 1)
    with pytest.warns(slq.SlqWarning, match="not symmetric"):
        s = slq.spectrum(A, probes=2, steps=10, rng=0)
    assert s.traces is None


def test_an_object_may_tell_its_traces_and_is_asked_once():
    class Diagonal:
        shape, dtype, asked = (400, 400), np.dtype(np.float64), 0
        values = np.linspace(1.0, 2.0, 400)

        @property
        def traces(self):
            type(self).asked += 1
            return self.values.sum(), np.sum(self.values**2)

        def matmat(self, X):
            return self.values[:, None] * X

    e = slq.logdet(Diagonal(), rtol=1e-3, rng=0)
    assert Diagonal.asked == 1
    assert e.low <= np.log(Diagonal.values).sum() <= e.high


def test_deflated_probes_are_controlled_by_the_whole_trace(matrix):
    spiked = matrix + 40 * np.outer(*2 * (np.ones(240) / np.sqrt(240),))
    s = slq.spectrum(spiked, probes=10, steps=40, rng=0, batch=2, confidence=0.9999)
    assert s.projected.any()
    e = s.logdet()
    assert e.low <= np.linalg.slogdet(spiked)[1] <= e.high
    assert e.error.sampling < 0.6 * without(s).logdet().error.sampling


def test_few_signs_are_judged_with_the_sphere_probe_and_many_alone(matrix):
    for probes, size in ((1, 1), (8, 8), (9, 8), (12, 11)):
        s = slq.spectrum(matrix, probes=probes, steps=12, rng=0, kind="rademacher")
        means = slq._spectrum._answers.rules_of(s).measure.probes
        assert len(means) == size


def test_a_quadratic_is_summed_where_squares_leave_the_range():
    with np.errstate(all="ignore"):  # as every question does
        huge, tiny = (_summed(3, (7 * u, 21 * u * u), 0.0, u, np.array([1.0, 2.0, 0.0])) for u in (1e200, 1e-200))

    assert not np.isfinite(huge.trace)  # said by what it is, not raised
    assert tiny.trace == pytest.approx(3 + 2 * 7)
