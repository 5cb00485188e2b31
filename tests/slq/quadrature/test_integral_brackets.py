"""Brackets of tr f(A) from Gauss and Gauss-Radau rules; one probe at a time, so that no sampling hides a mistake."""

import numpy as np
import pytest

import slq
from slq._quadrature._integrands import KNOWN, integrand_of
from slq._quadrature._quadrature import eigen_tridiagonal, lobatto, radau

SURE = 0.9999
NAMES = ["log", "inverse", "sqrt", "exp", "entropy", "x**-0.5", "x**1.5", "x**2.7"]


def run(values, **options):
    values = np.asarray(values)
    return slq.spectrum(slq.as_operator(lambda x: values * x, n=len(values)), **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("condition", [10.0, 1e4, 1e8])
def test_rules_bracket_the_quadratic_form_of_each_probe(name, condition):
    rng = np.random.default_rng(0)
    known = integrand_of(name)
    f = known.f
    for _ in range(20):
        values = np.exp(rng.uniform(-np.log(condition), 0, 100))
        v = rng.standard_normal(100)
        v /= np.linalg.norm(v)
        truth = v**2 @ f(values)
        for steps in (2, 5, 10, 25):
            T = slq.lanczos(np.diag(values), v, steps)
            alpha, beta = T.alpha[0], T.beta[0]
            theta, vectors = eigen_tridiagonal(alpha, beta[:-1])
            rules = {
                "gauss": (theta, vectors[0] ** 2),
                "left": radau(alpha, beta, values.min() / 2),
                "right": radau(alpha, beta, 2 * values.max()),
                "both": lobatto(alpha, beta, values.min() / 2, 2 * values.max()),
            }
            sides = {"gauss": known.even, "left": known.odd, "right": -known.odd, "both": -known.even}  # 1: from below
            slack = 1e-11 * max(np.abs(f(values)).max(), abs(truth))
            for rule, (nodes, weights) in rules.items():
                assert sides[rule] * (truth - weights @ f(nodes)) >= -slack


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("probes", [1, 4])
def test_intervals_hold_at_any_number_of_steps(name, probes):
    operator, law = slq.gallery.graded(400, smallest=1e-5)
    truth = law.trace(integrand_of(name).f)
    for seed in range(4):
        for steps in (2, 4, 8, 16, 50):
            found = slq.spectrum(operator, probes=probes, steps=steps, rng=seed, confidence=SURE).trace(name)
            assert found.low <= truth <= found.high
            assert found.low <= found.value <= found.high
            assert found.claim == "certified" or probes == 1  # which cannot tell multiplicities


@pytest.mark.parametrize("name", ["log", "inverse", "exp"])
def test_the_quadrature_error_falls_with_the_steps(name):
    operator, _ = slq.gallery.marchenko_pastur(1000)
    errors = [slq.spectrum(operator, probes=4, steps=m, rng=0).trace(name).error.quadrature for m in (4, 8, 16, 32)]
    assert np.all(np.diff(errors) <= 0)
    assert errors[-1] < 1e-3 * errors[0]


@pytest.mark.parametrize("steps", [10, 16])
def test_a_nearly_singular_matrix_has_a_finite_log_determinant_once_zero_is_ruled_out(steps):
    values = np.append(np.linspace(0.5, 1, 200), 1e-14)
    for seed in range(10):
        found = run(values, probes=4, steps=steps, rng=seed, confidence=SURE).logdet()
        assert np.isfinite(found.value)
        assert np.isfinite([found.low, found.high]).all() == (steps == 16)
        assert found.low <= np.log(values).sum() <= found.high


def test_the_inverse_of_a_nearly_singular_matrix_is_at_most_what_rounding_leaves_open():
    values = np.append(np.linspace(0.5, 1, 200), 1e-10)
    for seed in range(10):
        found = run(values, probes=4, steps=10, rng=seed, confidence=SURE).trace_inverse()
        assert found.low <= np.sum(1 / values) <= found.high
        assert np.isfinite(found.high)


@pytest.mark.parametrize("name", ["log", "inverse", "sqrt", "entropy"])
def test_functions_of_positive_eigenvalues_refuse_others_with_a_certain_statement(name):
    s = run(np.linspace(-1, 2, 100), probes=2, steps=20, rng=0)
    with pytest.raises(ValueError, match=r"needs a positive (semi)?definite A, but the smallest") as caught:
        s.trace(name)
    bound = float(str(caught.value).split("at most ")[1].split()[0])
    assert -1 <= bound < 0  # certain: there is one below it
    assert np.isfinite(s.trace(name, shift=2.0).value)


def test_the_suggested_shift_works():
    s = run(np.linspace(-1, 2, 100), probes=2, steps=20, rng=0)
    with pytest.raises(ValueError, match="for example shift=") as caught:
        s.logdet()
    shift = float(str(caught.value).split("for example shift=")[1].split(",")[0])
    found = s.logdet(shift=shift)
    assert found.low <= np.log(np.linspace(-1, 2, 100) + shift).sum() <= found.high


@pytest.mark.parametrize("name", ["identity", "square"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_polynomials_are_integrated_exactly_by_few_steps(name, steps):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(300)
    s = run(values, probes=3, steps=steps, rng=0, confidence=SURE)
    found = s.trace(name)
    assert found.error.quadrature <= 1e-10 * np.abs(values).sum()
    more = run(values, probes=3, steps=6, rng=0)
    assert len(more.outliers) == 0  # nothing is known one by one yet, so the steps add nothing
    assert found.value == pytest.approx(more.trace(name).value, rel=1e-9, abs=1e-9)
    assert found.low <= KNOWN[name].f(values).sum() <= found.high


def test_callables_are_extrapolated_and_say_so():
    operator, law = slq.gallery.marchenko_pastur(1000)
    for f in (np.sin, lambda x: np.exp(-((x - 1) ** 2)), lambda x: 1 / (1 + x**2)):
        for steps in (6, 20, 60):
            found = slq.spectrum(operator, probes=4, steps=steps, rng=0, confidence=SURE).trace(f)
            assert found.claim == "estimate"
            assert found.low <= law.trace(f) <= found.high


@pytest.mark.parametrize(
    ("name", "ufunc"),
    [("log", np.log), ("inverse", np.reciprocal), ("sqrt", np.sqrt), ("exp", np.exp), ("square", np.square)],
)
def test_numpy_functions_are_recognised_and_equal_their_names(name, ufunc):
    s = slq.spectrum(slq.gallery.marchenko_pastur(300)[0], probes=3, steps=20, rng=0)
    assert s.trace(ufunc) == s.trace(name)
    assert s.trace(lambda x: ufunc(x)).value == pytest.approx(s.trace(name).value, rel=0.05)


def test_an_unknown_name_lists_the_known_ones():
    s = slq.spectrum(np.eye(3), probes=1, steps=1, rng=0)
    with pytest.raises(ValueError, match=r"one of identity, square, log.*got 'sine'"):
        s.trace("sine")


class TestRademacherProbes:
    def test_see_a_diagonal_matrix_without_scatter(self):
        values = np.linspace(1, 2, 100)
        s = run(values, probes=9, steps=20, rng=0, kind="rademacher")
        for name in ("identity", "log", "inverse"):
            found, truth = s.trace(name), integrand_of(name).f(values).sum()
            assert found.value == pytest.approx(truth, rel=1e-6)
            assert found.low - 1e-6 * truth <= truth <= found.high + 1e-6 * truth

    @pytest.mark.parametrize("probes", [2, 4, 16])
    def test_hold_the_truth_of_a_dense_matrix(self, probes):
        operator, law = slq.gallery.marchenko_pastur(400)
        for seed in range(6):
            s = slq.spectrum(operator, probes=probes, steps=40, rng=seed, kind="rademacher", confidence=SURE)
            for name in ("identity", "log", "inverse"):
                assert s.trace(name).low <= law.trace(KNOWN[name].f) <= s.trace(name).high


class TestKnownEigenvalues:
    @pytest.mark.parametrize("outlier", [50.0, 5e3])
    def test_contribute_exactly_however_large(self, outlier):
        values = np.append(np.linspace(0, 1, 999), outlier)
        for seed in range(5):
            found = run(values, probes=4, steps=30, rng=seed, confidence=SURE).trace()
            assert found.low <= values.sum() <= found.high
            assert found.error.sampling < 50  # of the bulk alone; unresolved, the outlier would scatter by 0.7 outlier

    def test_leave_no_error_when_all_are_known(self):
        values = np.linspace(0.1, 3, 40)
        s = run(values, probes=3, steps=40, rng=0)
        for name in NAMES:
            found, truth = s.trace(name), integrand_of(name).f(values).sum()
            assert found.value == pytest.approx(truth, rel=1e-12)
            assert found.error.sampling == found.error.quadrature == 0.0
            assert found.low <= truth <= found.high

    def test_a_dominating_entry_of_a_diagonal_matrix_is_found_by_few_steps(self):
        values = np.append(np.full(499, 1.0), 1e6)
        s = run(values, probes=4, steps=5, rng=0)
        assert s.trace().value == pytest.approx(1e6 + 499, rel=1e-9)
        assert s.trace("log").value == pytest.approx(np.log(1e6), rel=1e-9)


@pytest.mark.parametrize("name", ["log", "inverse", "exp", "identity"])
def test_a_shift_in_the_question_equals_a_shifted_spectrum(name):
    s = slq.spectrum(slq.gallery.marchenko_pastur(300)[0], probes=3, steps=25, rng=0)
    one, two = s.trace(name, shift=0.7), s.shifted(0.7).trace(name)
    np.testing.assert_allclose([one.value, one.low, one.high], [two.value, two.low, two.high], rtol=1e-12)


def test_a_lower_bound_that_is_wrong_is_refused_and_a_right_one_helps():
    operator, law = slq.gallery.graded(300, smallest=1e-4)
    s = slq.spectrum(operator, probes=4, steps=12, rng=0, confidence=SURE)
    with pytest.raises(ValueError, match="no lower bound"):
        s.trace_inverse(lower=0.5)
    plain, helped = s.trace_inverse(), s.trace_inverse(lower=1e-4)
    assert helped.low <= law.trace(np.reciprocal) <= helped.high
    assert helped.high < plain.high


def test_a_function_with_even_derivatives_only_is_bracketed_by_gauss_and_lobatto():
    values = np.linspace(-3, 5, 300)
    truth = np.cosh(values).sum()
    for steps in (3, 6, 12):
        found = run(values, probes=4, steps=steps, rng=0, confidence=SURE).trace("cosh")
        assert found.claim == "certified"
        assert found.low <= truth <= found.high
    assert found == run(values, probes=4, steps=12, rng=0, confidence=SURE).trace(np.cosh)
    assert found.error.quadrature < 1e-3 * truth


@pytest.mark.parametrize(("text", "p"), [("x**3", 3), ("x^4", 4), ("x**-2", -2), ("x ** 0.25", 0.25), ("x**0", 0)])
def test_powers_are_bounded_by_their_text(text, p):
    values = np.linspace(0.5, 2, 200)
    found = run(values, probes=4, steps=12, rng=1, confidence=SURE).trace(text)
    assert found.claim == "certified"
    assert found.low <= (values**p).sum() <= found.high


def test_a_power_beyond_the_steps_is_an_estimate():
    values = np.linspace(0.5, 2, 200)
    assert run(values, probes=2, steps=2, rng=1).trace("x**5.5").claim == "estimate"
    assert run(values, probes=2, steps=4, rng=1).trace("x**5.5").claim == "certified"


@pytest.mark.parametrize("text", ["x**", "y**2", "x**1e3", "cube", "2**x"])
def test_other_texts_are_refused_with_what_there_is(text):
    with pytest.raises(ValueError, match=r"a power such as 'x\*\*1.5', or one of identity"):
        run([1.0, 2.0], probes=2, steps=2, rng=0).trace(text)


@pytest.mark.parametrize("seed", range(3))
def test_copies_of_converged_eigenvalues_count_once_in_every_rule(seed):
    # More steps than distinct eigenvalues: rounding makes copies of them, one of which has the weight in Radau's rules.
    values = np.repeat(np.geomspace(1.0, 1e7, 56), 2)
    s = run(values, probes=4, steps=80, rng=seed, confidence=SURE)
    found = s.logdet()
    assert found.low <= np.log(values).sum() <= found.high
    assert found.low <= found.value <= found.high
    assert min(found.error.sampling, found.error.quadrature) >= 0
