"""A spectrum and the largest eigenpairs from one Krylov space."""

import numpy as np
import pytest

import slq
from slq import as_operator
from slq._history._one_run import spectrum_and_top
from slq._quadrature._budget import settled

GIVEN = {"tol": 0.02, "probes": None, "steps": None, "rng": 0, "accuracy": 1e-3}


@pytest.fixture(scope="module")
def spiked():
    """A matrix of dimension 3000 with six outliers on both sides, which is never diagonalised."""
    operator, law = slq.gallery.spiked(3000, outliers=(9.0, 7.0, 5.0, 4.5, -4.0, -6.0))
    return as_operator(operator), law


def test_the_largest_eigenpairs_take_few_products_of_their_own(spiked):
    operator, _ = spiked
    spectrum, top = spectrum_and_top(operator, 4, **GIVEN)
    alone = slq.eigsh(operator, 4, which="LA", tol=1e-6, rng=0)

    assert top.products <= 8 < alone.products
    assert spectrum.probes == 1
    assert spectrum.error.total <= 0.02
    assert top.values == pytest.approx(alone.values[::-1], rel=1e-5)
    assert np.abs(top.vectors.T @ top.vectors - np.eye(4)).max() < 1e-12
    left = np.linalg.norm(operator.matmat(top.vectors) - top.vectors * top.values, axis=0)
    assert np.all(left <= top.residuals * 1.01 + 1e-12)
    assert np.all(top.residuals <= 1e-3 * top.values)


def test_lanczos_goes_on_where_pairs_have_not_converged(spiked):
    operator, _ = spiked
    spectrum, top = spectrum_and_top(operator, 4, **GIVEN | {"probes": 1, "steps": 8, "accuracy": 1e-8})
    alone = slq.eigsh(operator, 4, which="LA", tol=1e-8, rng=0)

    assert (spectrum.probes, spectrum.steps) == (1, 8)
    assert 0 < top.products <= alone.products
    assert top.values == pytest.approx(alone.values[::-1], rel=1e-12)
    left = np.linalg.norm(operator.matmat(top.vectors) - top.vectors * top.values, axis=0)
    assert np.all(left <= 1e-8 * np.abs(top.values) * 1.1)


def test_a_known_length_saves_products_and_gives_the_same_tolerance(spiked):
    operator, _ = spiked
    first, _ = spectrum_and_top(operator, 0, **GIVEN)
    again, top = spectrum_and_top(operator, 0, **GIVEN, expected=first.steps, test=False)

    assert top is None
    assert again.error.total <= 0.02
    assert again.products <= first.products - 2


def test_where_the_length_is_known_about_the_first_step_that_is_enough_is_the_last(spiked):
    operator, _ = spiked
    first, _ = spectrum_and_top(operator, 0, **GIVEN)
    again, _ = spectrum_and_top(operator, 0, **GIVEN, expected=first.steps, test=False)

    begun = int(0.7 * first.steps)
    assert begun <= again.steps <= first.steps
    for steps in range(max(begun, 8), again.steps):
        error = slq.spectrum(operator, probes=1, steps=steps, rng=0).error
        assert not settled(error.quadrature, error.sampling, 1, 0.02 - error.numeric)


def test_a_spectrum_makes_the_steps_that_its_eigenpairs_take_anyway():
    operator = as_operator(slq.gallery.semicircle(3000)[0])
    alone, _ = spectrum_and_top(operator, 0, **GIVEN | {"tol": 0.05})
    spectrum, top = spectrum_and_top(operator, 10, **GIVEN | {"tol": 0.05})

    assert alone.steps < 21 == spectrum.steps
    before, least = spectrum_and_top(operator, 10, **GIVEN | {"probes": 1, "steps": alone.steps})
    assert spectrum.products + top.products <= before.products + least.products + 5  # eigenpairs look at every fourth


@pytest.mark.parametrize("steps", [3, 10_000], ids=["few", "all"])
def test_where_no_vectors_are_there_pairs_are_searched_for(steps):
    values = np.concatenate([np.linspace(-1, 1, 37), [3.0, 4.0, 5.0]])
    spectrum, top = spectrum_and_top(as_operator(np.diag(values)), 3, **GIVEN | {"probes": 1, "steps": steps})

    assert spectrum.probes == 1
    assert top.products > 0
    assert top.values == pytest.approx([5.0, 4.0, 3.0], rel=1e-5)
    assert np.abs(top.vectors).argmax(axis=0).tolist() == [39, 38, 37]
