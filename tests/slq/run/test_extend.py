"""Going on with a run."""

import numpy as np
import pytest

import slq


@pytest.fixture(scope="module")
def operator():
    return slq.gallery.marchenko_pastur(300)[0]


@pytest.mark.parametrize("kind", ["sphere", "rademacher"])
def test_more_probes_give_what_a_longer_run_had_given(operator, kind):
    short = slq.spectrum(operator, probes=3, steps=20, rng=4, kind=kind)
    longer = short.extend(operator, probes=7)
    whole = slq.spectrum(operator, probes=7, steps=20, rng=4, kind=kind, deflate="none")
    np.testing.assert_allclose(longer.alpha, whole.alpha, atol=1e-12)
    np.testing.assert_allclose(longer.nodes, whole.nodes, atol=1e-12)
    assert longer.products == short.products + 4 * 20 + 1


def test_more_steps_repeat_the_run(operator):
    short = slq.spectrum(operator, probes=3, steps=20, rng=4)
    assert short.extend(operator, steps=30) == slq.spectrum(operator, probes=3, steps=30, rng=4)


def test_a_loaded_run_goes_on(operator, tmp_path):
    s = slq.spectrum(operator, probes=2, steps=15, rng=1)
    back = slq.load(s.save(tmp_path / "run"))
    assert back.extend(operator, probes=4) == s.extend(operator, probes=4)


def test_what_cannot_be_extended_says_why(operator):
    s = slq.spectrum(operator, probes=3, steps=20, rng=4)
    with pytest.raises(ValueError, match="at least the 3 × 20"):
        s.extend(operator, probes=2)
    with pytest.raises(ValueError, match="dimension 5"):
        s.extend(np.eye(5), probes=4)
    with pytest.raises(ValueError, match=r"shifted by 2"):
        s.shifted(2.0).extend(operator, probes=4)
    with pytest.raises(ValueError, match="several seeds"):
        s.merge(slq.spectrum(operator, probes=2, steps=20, rng=5)).extend(operator, probes=9)


@pytest.mark.parametrize("kind", ["sphere", "rademacher"])
@pytest.mark.parametrize(("first", "all_of_them"), [(2, 5), (3, 7), (8, 20)])
def test_extending_is_the_longer_run_bit_for_bit(operator, kind, first, all_of_them):
    short = slq.spectrum(operator, probes=first, steps=20, rng=4, kind=kind)
    longer = short.extend(operator, probes=all_of_them)
    assert longer == slq.spectrum(operator, probes=all_of_them, steps=20, rng=4, kind=kind)
    assert longer.products == short.products + (all_of_them - first) * 20 + 1
    np.testing.assert_array_equal(longer.alpha[:first], short.alpha)


@pytest.mark.parametrize("options", [{"reorth": "none"}, {"reorth": "full"}, {"confidence": 0.8}])
def test_settings_are_those_of_the_run(operator, options):
    s = slq.spectrum(operator, probes=2, steps=12, rng=1, **options).extend(operator, probes=4)
    assert s == slq.spectrum(operator, probes=4, steps=12, rng=1, **options)
    assert all(getattr(s, name) == value for name, value in options.items())


def test_more_probes_and_more_steps_come_together(operator):
    short = slq.spectrum(operator, probes=3, steps=20, rng=4)
    whole = slq.spectrum(operator, probes=6, steps=30, rng=4)
    longer = short.extend(operator, probes=6, steps=30)
    assert longer == whole
    assert longer.products == short.products + whole.products


def test_single_precision_goes_on_in_single_precision():
    operator = slq.gallery.marchenko_pastur(300, dtype=np.float32)[0]
    s = slq.spectrum(operator, probes=2, steps=10, rng=0).extend(operator, probes=4)
    assert s == slq.spectrum(operator, probes=4, steps=10, rng=0)
    assert s.metadata["dtype"] == "float32"


def test_a_failing_callback_keeps_all_that_was_done(operator):
    s = slq.spectrum(operator, probes=3, steps=20, rng=4)
    calls = []

    def fail(partial):
        calls.append(partial.probes)
        if len(calls) == 2:
            raise ZeroDivisionError("enough")  # noqa: EM101

    with pytest.raises(slq.RunError, match="ZeroDivisionError: enough") as caught:
        s.extend(operator, probes=9, callback=fail)
    partial = caught.value.partial
    assert partial.probes >= 3
    np.testing.assert_array_equal(partial.alpha[:3], s.alpha)
    assert partial.status == "ended by ZeroDivisionError"


def test_a_budget_ends_it_with_the_probes_it_paid_for(operator):
    s = slq.spectrum(operator, probes=3, steps=20, rng=4)
    longer = s.extend(operator, probes=9, max_products=45)
    assert longer.probes == 5
    assert longer.status == "budget of 45 products reached"


def test_another_operator_shows_as_drift(operator):
    s = slq.spectrum(operator, probes=3, steps=20, rng=4)
    with pytest.warns(slq.SlqWarning, match="the operator drifts"):
        assert not s.extend(slq.gallery.semicircle(300)[0], probes=5).certified


def test_one_probe_extended_to_several_tells_no_false_multiplicity():
    matrix = np.diag([*np.linspace(-1, 1, 500), 5.0, 5.0, 5.0, 9.0, 9.0, 9.0, 9.0])
    s = slq.spectrum(matrix, probes=1, steps=60, rng=0).extend(matrix, probes=3)
    np.testing.assert_allclose(s.outliers.values, [9.0, 5.0])
    for multiplicity, exact, truth in zip(s.outliers.multiplicities, s.outliers.exact, (4, 3), strict=True):
        assert multiplicity == truth or not exact


def test_a_budget_too_small_for_more_steps_is_refused_before_anything_is_spent(operator):
    s = slq.spectrum(operator, probes=3, steps=20, rng=4)
    with pytest.raises(ValueError, match="less than the 120"):
        s.extend(operator, steps=40, max_products=2)
