"""Eigenvalues that are resolved one by one: counted exactly, with their multiplicities, and never twice."""

import numpy as np
import pytest

import slq


@pytest.mark.parametrize("n", [2000, 20_000])
@pytest.mark.parametrize("probes", [1, 4])
def test_ten_outliers_are_counted_exactly(n, probes):
    operator, law = slq.gallery.spiked(n)
    for seed in range(5):
        s = slq.spectrum(operator, probes=probes, steps=40, rng=seed)
        found = s.outliers
        exact = np.sort(law.values[np.abs(law.values) > 1.2])
        np.testing.assert_allclose(np.sort(found.values), exact, rtol=1e-6)
        assert np.all(found.exact)
        assert found.verified == (probes > 1)
        assert s.count(1.2, np.inf).value == pytest.approx(law.count(1.2, np.inf), abs=1e-6)
        assert np.all(np.abs(np.sort(found.values) - exact) <= found.residuals.max() + 1e-12)


def test_multiplicities_show_in_the_ritz_vectors_of_several_probes():
    values = np.concatenate([np.linspace(-1, 1, 500), [4, 4, 6, 6, 6, 9]])
    copies = {9: 1, 6: 3, 4: 2}
    for steps in (28, 32, 40, 60):
        found = slq.spectrum(np.diag(values), probes=5, steps=steps, rng=0).outliers
        # At some step rounding makes a copy of a multiple one, which is not resolved until the copy is.
        assert len(found) == 3 if steps > 28 else len(found) >= 2
        assert {round(x): round(m, 9) for x, m in zip(found.values, found.multiplicities, strict=True)}.items() <= (
            copies.items()
        )
        np.testing.assert_allclose(found.values, found.values.round(), rtol=1e-8)
        assert np.all(found.exact)


def test_two_probes_never_take_a_double_eigenvalue_for_simple():
    values = np.concatenate([np.linspace(-1, 1, 200), [3, 3]])
    wrong = 0
    for seed in range(50):
        s = slq.spectrum(np.diag(values), probes=2, steps=30, rng=seed)
        wrong += s.count(2.0, 4.0).high < 2
        assert not np.any(s.outliers.exact)
    assert wrong == 0


def test_an_atom_has_its_mass():
    operator, law = slq.gallery.marchenko_pastur(1000, ratio=4.0)
    s = slq.spectrum(operator, probes=4, steps=60, rng=0)
    zero = s.outliers.values[np.argmin(np.abs(s.outliers.values))]
    share = s.outliers.shares[np.argmin(np.abs(s.outliers.values))]
    assert abs(zero) < 1e-8
    assert share == pytest.approx(law.count(-1.0, 1e-9) / 1000, abs=0.06)


def test_ghosts_of_an_outlier_are_merged_without_reorthogonalisation():
    values = np.append(np.linspace(-1, 1, 1000), 1e6).astype(np.float32)
    operator = slq.as_operator(lambda x: values * x, n=1001, like=values)
    s = slq.spectrum(operator, probes=2, steps=80, rng=0, reorth="none")
    assert np.sum(s.nodes[0] > 1e5) > 1  # the copies are there
    far = s.outliers.values > 1e5
    assert far.sum() == 1
    assert s.count(1e5, np.inf).value == pytest.approx(1.0, abs=1e-6)
    assert not s.certified


def test_unresolved_outliers_are_told_apart_from_resolved_ones():
    operator, _ = slq.gallery.spiked(20_000)
    assert slq.spectrum(operator, probes=2, steps=12, rng=0).unresolved_outliers > 0
    assert slq.spectrum(operator, probes=2, steps=40, rng=0).unresolved_outliers == 0
