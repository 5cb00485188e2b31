"""Bands whose part left by the steps is estimated: narrower than certain ones, and they hold as often as they say."""

import numpy as np
import pytest

import slq

pytestmark = pytest.mark.slow

RUNS = 100
SPECTRA = {
    "marchenko-pastur": (slq.gallery.marchenko_pastur(1000)[1].eigenvalues(), 60),
    "laplacian": (slq.gallery.laplacian_2d(31, 32)[1].eigenvalues(), 150),
    "spiked": (slq.gallery.spiked(1000)[1].eigenvalues(), 60),
    "two clusters": (np.concatenate([np.linspace(1, 1.5, 500), np.linspace(3, 4, 500)]), 60),
    "graded": (slq.gallery.graded(1000)[1].eigenvalues(), 100),
    "few steps": (slq.gallery.spiked(1000)[1].eigenvalues(), 15),
}


def run(values, **options):
    values = np.asarray(values)
    return slq.spectrum(slq.as_operator(lambda x: values[:, None] * x, n=len(values), block=True), **options)


@pytest.mark.parametrize("name", list(SPECTRA))
def test_estimated_bands_and_counts_hold_as_often_as_they_say(name):
    values, steps = SPECTRA[name]
    values, n = np.sort(values), len(values)
    grid = np.linspace(values[0], values[-1], 200)
    truth = np.searchsorted(values, grid, side="right") / n
    at = 0.5 * (values[n // 3] + values[n // 3 - 1])
    held = {"band": 0, "count": 0}
    for seed in range(RUNS):
        s = run(values, probes=4, steps=steps, rng=seed)
        band, count = s.cdf(grid, claim="estimate"), s.count(-np.inf, at, claim="estimate")
        assert band.claim == count.claim == "estimate"
        held["band"] += bool(np.all((band.low <= truth + 1e-12) & (truth <= band.high + 1e-12)))
        held["count"] += count.low <= n // 3 <= count.high
    assert min(held.values()) >= 0.91 * RUNS


@pytest.mark.parametrize("name", ["marchenko-pastur", "laplacian", "spiked", "two clusters"])
def test_estimated_counts_are_not_much_wider_than_the_probes_scatter(name):
    values, steps = SPECTRA[name]
    n, at = len(values), float(np.quantile(values, 0.4))
    scatter = 1.96 * n * np.sqrt(2 * 0.24 / (4 * (n + 2)))
    widths = []
    for seed in range(10):
        count = run(values, probes=4, steps=steps, rng=seed).count(-np.inf, at, claim="estimate")
        widths.append((count.high - count.low) / 2 / scatter)
    assert 0.8 < np.median(widths) < 1.5


def test_estimated_bands_lie_inside_certain_ones():
    values, _ = SPECTRA["spiked"]
    s = run(values, probes=3, steps=25, rng=0)
    x = np.linspace(values.min() - 1, values.max() + 1, 300)
    wide, narrow = s.cdf(x), s.cdf(x, claim="estimate")
    np.testing.assert_array_equal(wide.value, narrow.value)
    assert np.all(wide.low <= narrow.low + 1e-12)
    assert np.all(narrow.high <= wide.high + 1e-12)
    q = [0.1, 0.5, 0.9]
    wide, narrow = s.quantile(q), s.quantile(q, claim="estimate")
    assert np.all(wide.low <= narrow.low)
    assert np.all(narrow.high <= wide.high)
    assert np.all((narrow.low <= np.quantile(values, q)) & (np.quantile(values, q) <= narrow.high))


def test_where_all_is_resolved_both_claims_agree():
    values = [1.0, 2.0, 5.0, 9.0]
    s = run(values, probes=2, steps=4, rng=0)
    assert s.count(0, 3, claim="estimate").value == s.count(0, 3).value == 2


def test_other_claims_are_refused():
    s = run([1.0, 2.0, 3.0], probes=2, steps=3, rng=0)
    with pytest.raises(ValueError, match=r"`claim` must be 'certified' or 'estimate', got 'sure'"):
        s.count(0, 1, claim="sure")
