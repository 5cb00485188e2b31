"""Traces of functions: brackets that hold, claims that are right, errors that help.

Single runs are asked at 99.99 %, so that a miss is a mistake; how often 95 % intervals hold is tests/statistics' part.
"""

import numpy as np
import pytest

import slq


@pytest.mark.parametrize("kind", ["sphere", "rademacher"])
@pytest.mark.parametrize(
    ("name", "f"), [("log", np.log), ("inverse", np.reciprocal), ("sqrt", np.sqrt), ("exp", np.exp)]
)
@pytest.mark.parametrize("condition", [1e2, 1e6, 1e12])
def test_intervals_hold_however_ill_conditioned_at_few_steps(kind, name, f, condition):
    operator, law = slq.gallery.graded(300, smallest=1 / condition)
    for steps in (5, 20, 60):
        e = slq.spectrum(operator, probes=6, steps=steps, rng=steps, kind=kind, confidence=0.9999).trace(name)
        assert e.low <= law.trace(f) <= e.high
        assert e.claim == "certified"


def test_polynomials_have_no_quadrature_error():
    operator, law = slq.gallery.semicircle(500)
    s = slq.spectrum(operator, probes=4, steps=8, rng=0, confidence=0.9999)
    for name, f in (("identity", lambda x: x), ("square", np.square)):
        assert s.trace(name).error.quadrature < 1e-10 * 500
        assert s.trace(name).low <= law.trace(f) <= s.trace(name).high


def test_names_numpy_functions_and_methods_agree():
    s = slq.spectrum(slq.gallery.marchenko_pastur(300)[0], probes=4, steps=30, rng=0)
    assert s.trace("log") == s.trace(np.log) == s.logdet()
    assert s.trace("inverse") == s.trace(np.reciprocal) == s.trace_inverse()


def test_an_unknown_function_is_an_estimate():
    operator, law = slq.gallery.marchenko_pastur(500)
    e = slq.spectrum(operator, probes=4, steps=30, rng=0, confidence=0.9999).trace(lambda x: np.cos(3 * x))
    assert e.claim == "estimate"
    assert e.low <= law.trace(lambda x: np.cos(3 * x)) <= e.high


def test_a_known_lower_bound_sharpens_the_inverse():
    operator, law = slq.gallery.marchenko_pastur(1000)
    s = slq.spectrum(operator, probes=4, steps=15, rng=0)
    wide, sharp = s.trace_inverse(), s.trace_inverse(lower=0.08)
    assert sharp.low <= law.trace(np.reciprocal) <= sharp.high
    assert sharp.high - sharp.low < (wide.high - wide.low) / 100


def test_a_bound_above_an_eigenvalue_is_refused():
    s = slq.spectrum(slq.gallery.marchenko_pastur(300)[0], probes=2, steps=30, rng=0)
    with pytest.raises(ValueError, match="is no lower bound"):
        s.logdet(lower=1.0)


def test_the_log_of_an_indefinite_matrix_says_what_is_certain_and_offers_a_shift():
    operator, law = slq.gallery.semicircle(300)
    s = slq.spectrum(operator, probes=2, steps=30, rng=0, confidence=0.9999)
    with pytest.raises(ValueError, match=r"smallest eigenvalue is at most -0\.9.*shift="):
        s.logdet()
    e = s.logdet(shift=2.0)
    assert e.low <= law.trace(lambda x: np.log(x + 2)) <= e.high


def test_a_dominating_eigenvalue_contributes_exactly_once_resolved():
    values = np.append(np.linspace(0, 1, 999), 1000.0)
    s = slq.spectrum(slq.gallery.from_eigenvalues(values)[0], probes=4, steps=20, rng=0)
    e = s.trace()
    assert e.low <= values.sum() <= e.high
    assert e.high - e.low < 0.1 * 1000  # not the 140 % scatter of one eigenvalue's weight


def test_the_parts_of_the_error_add_up_to_the_interval():
    e = slq.spectrum(slq.gallery.graded(500)[0], probes=4, steps=20, rng=0).logdet()
    total = e.error.sampling + e.error.quadrature + e.error.numeric
    assert total == pytest.approx((e.high - e.low) / 2, rel=1e-6)
    assert e.error.largest == "quadrature"


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e150])
def test_the_scatter_of_probes_of_signs_is_seen_at_any_scale(scale):
    matrix = np.random.default_rng(3).standard_normal((200, 200))
    matrix = matrix @ matrix.T / 200

    def found(factor):
        product = slq.as_operator(lambda X: factor * (matrix @ X), n=200, block=True)
        return slq.spectrum(product, probes=10, steps=12, kind="rademacher", rng=0).trace()

    usual, scaled = found(1.0), found(scale)
    assert usual.error.sampling > 0
    np.testing.assert_allclose([scaled.low / scale, scaled.high / scale], [usual.low, usual.high], rtol=1e-6)
