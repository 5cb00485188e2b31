"""95 % means 95 %: intervals hold as often as they say, laws are what the documentation says. Fixed seeds."""

import numpy as np
import pytest
from scipy import stats

import slq

pytestmark = pytest.mark.slow

RUNS = 200


def spectra():
    yield "marchenko-pastur", slq.gallery.marchenko_pastur(400)[1].eigenvalues(), 40
    yield "laplacian", slq.gallery.laplacian_2d(18, 19)[1].eigenvalues(), 100
    yield "two clusters", np.concatenate([np.linspace(1, 1.5, 200), np.linspace(3, 4, 200)]), 40


@pytest.fixture(params=spectra(), ids=lambda p: p[0], scope="module")
def runs(request):
    _, values, steps = request.param
    operator = slq.gallery.from_eigenvalues(values, rotate=False)[0]
    return np.sort(values), [slq.spectrum(operator, probes=6, steps=steps, rng=seed) for seed in range(RUNS)]


@pytest.mark.parametrize(
    ("name", "f"), [("identity", lambda x: x), ("log", np.log), ("inverse", np.reciprocal), ("exp", np.exp)]
)
def test_intervals_of_traces_cover_as_often_as_they_say(runs, name, f):
    values, found = runs
    truth = f(values).sum()
    held = np.mean([s.trace(name).low <= truth <= s.trace(name).high for s in found])
    assert 0.915 <= held <= 0.99  # 95 % ± 2.3 standard deviations of 200 runs, and rounding up


def test_traces_are_unbiased(runs):
    values, found = runs
    estimates = np.array([s.trace("exp").value for s in found])
    standard_error = estimates.std(ddof=1) / np.sqrt(RUNS)
    assert abs(estimates.mean() - np.exp(values).sum()) < 3 * standard_error


def test_bands_and_counts_cover_at_least_as_often_as_they_say(runs):
    values, found = runs
    x = np.linspace(values[0], values[-1], 60)
    truth = np.searchsorted(values, x + 1e-12, side="right") / len(values)
    median = float(np.median(values)) + 1e-9
    bands, counts = [], []
    for s in found:
        band, count = s.cdf(x + 1e-12), s.count(-np.inf, median)
        bands.append(bool(np.all((band.low <= truth) & (truth <= band.high))))
        counts.append(count.low <= np.sum(values <= median) <= count.high)
    assert np.mean(bands) >= 0.95
    assert np.mean(counts) >= 0.95


def test_the_mass_below_a_point_has_the_beta_law():
    n, below = 200, 50
    operator = slq.as_operator(lambda x: np.repeat([0.0, 1.0], [below, n - below]) * x, n=n)
    masses = [slq.spectrum(operator, probes=1, steps=2, rng=seed).weights[0, 0] for seed in range(500)]
    assert stats.kstest(masses, stats.beta(below / 2, (n - below) / 2).cdf).pvalue > 0.01


def test_the_mean_sampling_error_is_what_the_budget_says():
    values = slq.gallery.semicircle(300)[1].eigenvalues()
    operator = slq.gallery.from_eigenvalues(values, rotate=False)[0]
    x = np.linspace(-1, 1, 2000)
    truth = np.searchsorted(values, x, side="right") / 300
    errors, stated = [], []
    for seed in range(60):
        s = slq.spectrum(operator, probes=2, steps=60, rng=seed)
        errors.append(np.trapezoid(np.abs(s.cdf(x).value - truth), x) / 2)
        stated.append(s.error.sampling)
    assert np.quantile(errors, 0.95) == pytest.approx(np.mean(stated), rel=0.25)
    assert np.mean(errors) == pytest.approx(np.mean(stated) / 1.86, rel=0.12)
