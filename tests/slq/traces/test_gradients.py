"""What gradients of traces are made of: derivatives of functions, and f'(A) v of each probe of a run."""

import numpy as np
import pytest

from slq._quadrature._integrands import KNOWN, Integrand, integrand_of
from slq._traces._gradients import sensitivity, slope_of

N = 60
D = np.linspace(0.5, 4.0, N)
OPTIONS = {"derivative": None, "probes": 5, "steps": None, "rtol": 1e-8, "rng": 0}


@pytest.mark.parametrize("name", [*KNOWN, "x**3", "x**1", "x**0", "x**-2", "x**1.5"])
def test_a_named_function_has_the_derivative_that_differences_show(name):
    f, x = integrand_of(name), np.linspace(0.3, 3.0, 50)

    difference = (f.f(x + 1e-6) - f.f(x - 1e-6)) / 2e-6

    np.testing.assert_allclose(f.derivative(x), difference, rtol=1e-6, atol=1e-8)


def test_an_unnamed_function_needs_its_derivative():
    assert slope_of(Integrand(np.sin), np.cos) is np.cos
    with pytest.raises(ValueError, match=r"`derivative` is missing.*derivative=np.cos"):
        slope_of(Integrand(np.sin), None)


@pytest.mark.parametrize(
    "options", [{}, {"batch": 2}, {"reorth": "none"}, {"steps": 40}], ids=["all", "batches", "none", "steps"]
)
def test_each_image_is_the_derivative_applied_to_its_probe(options):
    found = sensitivity(np.diag(D), "log", **{**OPTIONS, **options})

    np.testing.assert_allclose(found.images, N / 5 * found.probes / D[:, None], rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.probes, axis=0), 1.0)
    assert found.estimate.low <= np.log(D).sum() <= found.estimate.high


def test_probes_that_end_early_have_their_image():
    # Two eigenvalues: every probe ends after two steps, all at once or, beside the others, in its own batch.
    found = sensitivity(np.diag(np.where(np.arange(N) < 20, 1.0, 2.0)), "inverse", **OPTIONS)

    np.testing.assert_allclose(
        found.images, -N / 5 * found.probes / np.where(np.arange(N) < 20, 1, 4)[:, None], atol=1e-12
    )
