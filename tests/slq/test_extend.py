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
    with pytest.raises(ValueError, match="several seeds"):
        s.merge(slq.spectrum(operator, probes=2, steps=20, rng=5)).extend(operator, probes=9)
