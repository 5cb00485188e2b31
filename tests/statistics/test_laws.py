"""The laws behind the intervals, and how often the intervals hold: 200 runs each, fixed seeds.

With 200 runs of a 95 % interval between 92 % and 98.5 % hold, or one of several hundred repetitions goes outside. Where
quadrature is negligible the share must lie there; where it widens the interval only the lower limit is asked for.
"""

import numpy as np
import pytest
from scipy import stats

import slq
from slq._lanczos._probes import probe

pytestmark = pytest.mark.slow

RUNS = 200
LEAST, MOST = 0.92, 0.985
FUNCTIONS = {"identity": lambda x: x, "log": np.log, "inverse": np.reciprocal, "exp": np.exp}


def diagonal(values):
    return slq.as_operator(lambda x: values * x, n=len(values))


def spectra():
    rng = np.random.default_rng(0)
    return {
        "uniform": np.linspace(0.5, 2.0, 400),
        "marchenko-pastur": np.sort(slq.gallery.marchenko_pastur(400)[1].eigenvalues()),
        "graded": np.geomspace(0.05, 1.0, 300),
        "two clusters": np.concatenate([np.linspace(1, 1.2, 150), np.linspace(3, 3.2, 200)]),
        "with outliers": np.sort(np.concatenate([rng.uniform(0.5, 1.5, 397), [5.0, 8.0, 20.0]])),
    }


@pytest.fixture(scope="module", params=spectra())
def runs(request):
    values = spectra()[request.param]
    return values, [slq.spectrum(diagonal(values), probes=4, steps=24, rng=seed) for seed in range(RUNS)]


def cancels(name, values):
    """Tell whether f of an outlier is so large that the moments of the rest, as a difference, lose their digits."""
    return name == "exp" and values[-1] > 10


@pytest.mark.parametrize("name", FUNCTIONS)
def test_intervals_of_traces_hold_as_often_as_they_say(runs, name):
    values, found = runs
    if cancels(name, values):
        pytest.skip("see test_intervals_hold_where_an_outlier_dominates")
    truth, estimates = FUNCTIONS[name](values).sum(), [s.trace(name) for s in found]
    held = np.mean([e.low <= truth <= e.high for e in estimates])
    assert held >= LEAST
    if np.median([e.error.quadrature / e.error.sampling for e in estimates]) < 0.02:
        assert held <= MOST


def test_intervals_hold_where_an_outlier_dominates():
    values = spectra()["with outliers"]
    truth = np.exp(values).sum()
    estimates = [slq.spectrum(diagonal(values), probes=4, steps=24, rng=seed).trace("exp") for seed in range(RUNS)]
    assert np.mean([e.low <= truth <= e.high for e in estimates]) >= LEAST
    assert np.mean([e.error.sampling for e in estimates]) / 1.96 == pytest.approx(
        np.std([e.value for e in estimates]), rel=0.2
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_traces_are_unbiased_and_scatter_as_much_as_they_say(runs, name):
    values, found = runs
    truth, estimates = FUNCTIONS[name](values).sum(), [s.trace(name) for s in found]
    if cancels(name, values) or np.median([e.error.quadrature / abs(e.value) for e in estimates]) > 0.01:
        pytest.skip("the steps leave more open than the probes, or see test_intervals_hold_where_an_outlier_dominates")
    errors = np.array([e.value - truth for e in estimates])
    assert abs(errors.mean()) < 3.5 * errors.std() / np.sqrt(RUNS) + np.mean([e.error.quadrature for e in estimates])
    told = np.mean([e.error.sampling for e in estimates]) / 1.96
    assert errors.std() == pytest.approx(told, rel=0.2)


def test_what_the_steps_leave_open_is_not_told_as_sampling_error():
    values = spectra()["marchenko-pastur"]
    estimates = [slq.spectrum(diagonal(values), probes=4, steps=24, rng=seed).trace_inverse() for seed in range(RUNS)]
    told = np.median([e.error.sampling for e in estimates]) / 1.96
    assert told < 10 * np.std([e.value for e in estimates])


def test_bands_of_the_distribution_function_hold_everywhere_at_once(runs):
    values, found = runs
    x = np.sort(np.concatenate([values + 1e-9, values - 1e-9]))
    truth = np.searchsorted(values, x, side="right") / len(values)
    held = []
    for s in found:
        band = s.cdf(x)
        held.append(np.all(band.low <= truth + 1e-9) and np.all(truth <= band.high + 1e-9))
    assert np.mean(held) >= 0.95


@pytest.mark.parametrize("quantiles", [(0.0, 0.03), (0.0, 0.5), (0.25, 0.75), (0.6, 1.0)])
def test_counts_hold_at_least_as_often_as_they_say(runs, quantiles):
    values, found = runs
    a, b = np.quantile(values, quantiles) + np.array([-1e-6, 1e-6])
    truth = np.sum((values > a) & (values <= b))
    assert np.mean([s.count(a, b).low <= truth <= s.count(a, b).high for s in found]) >= 0.95


def test_edges_hold_far_more_often_than_the_intervals(runs):
    values, found = runs
    slack = 1e-13 * values[-1]
    assert np.mean([s.edges[0] <= values[0] + slack and values[-1] - slack <= s.edges[1] for s in found]) >= 0.995


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.99])
def test_other_levels_hold_as_often_as_they_say(confidence):
    values = spectra()["uniform"]
    held = dict.fromkeys(FUNCTIONS, 0)
    for seed in range(RUNS):
        s = slq.spectrum(diagonal(values), probes=2, steps=14, rng=seed, confidence=confidence)
        for name, f in FUNCTIONS.items():
            held[name] += s.trace(name).low <= f(values).sum() <= s.trace(name).high
    spread = 3 * np.sqrt(confidence * (1 - confidence) / RUNS)
    for count in held.values():
        assert confidence - spread <= count / RUNS <= min(confidence + spread, 1.0)


def test_intervals_of_rademacher_probes_hold_too():
    operator, law = slq.gallery.marchenko_pastur(300)  # dense: signs are no eigenvectors
    truth = law.trace(np.log)
    found = [slq.spectrum(operator, probes=9, steps=25, rng=seed, kind="rademacher").logdet() for seed in range(RUNS)]
    assert LEAST <= np.mean([e.low <= truth <= e.high for e in found]) <= MOST + 0.01


@pytest.mark.parametrize(("n", "below"), [(50, 1), (50, 20), (400, 100), (400, 397)])
def test_the_mass_below_a_point_follows_the_beta_law(n, below):
    masses = [np.sum(probe(n, seed=11, index=i)[:below] ** 2) for i in range(500)]
    assert stats.kstest(masses, stats.beta(below / 2, (n - below) / 2).cdf).pvalue > 0.01


def test_the_mass_of_a_run_follows_the_beta_law():
    values = np.repeat([0.0, 1.0, 2.0], [60, 90, 150])
    s = slq.spectrum(diagonal(values), probes=500, steps=3, rng=5, deflate="none")
    assert s.nodes.shape == (500, 3)
    for below, masses in ((60, s.weights[:, 0]), (150, s.weights[:, :2].sum(axis=1))):
        assert stats.kstest(masses, stats.beta(below / 2, (300 - below) / 2).cdf).pvalue > 0.01


@pytest.mark.parametrize("k", [1, 4])
def test_the_mean_wasserstein_error_is_the_integral_of_the_deviation(k):
    values = np.sort(slq.gallery.semicircle(400)[1].eigenvalues())
    share = np.arange(1, 400) / 400
    predicted = np.sqrt(2 / np.pi) * np.sum(np.sqrt(2 * share * (1 - share) / (402 * k)) * np.diff(values))
    errors = []
    for i in range(400):
        weights = np.mean([probe(400, seed=3, index=k * i + j) ** 2 for j in range(k)], axis=0)
        errors.append(np.sum(np.abs(np.cumsum(weights)[:-1] - share) * np.diff(values)))
    assert np.mean(errors) == pytest.approx(predicted, rel=0.07)


def test_the_sampling_error_of_the_budget_is_exceeded_as_rarely_as_it_says():
    values = np.sort(slq.gallery.semicircle(300)[1].eigenvalues())
    x = np.linspace(values[0], values[-1], 1000)
    truth = np.searchsorted(values, x, side="right") / 300
    held = []
    for seed in range(RUNS):
        s = slq.spectrum(diagonal(values), probes=2, steps=40, rng=seed, deflate="none")
        error = np.trapezoid(np.abs(s.cdf(x).value - truth), x) / np.ptp(values)
        held.append(error <= s.error.sampling + s.error.quadrature)
    assert LEAST <= np.mean(held) <= 0.995


def test_weights_of_eigenvectors_are_uncorrelated_between_probes():
    one, two = (np.array([probe(64, seed=9, index=2 * i + j) for i in range(500)]) for j in (0, 1))
    inner = np.sum(one * two, axis=1) * np.sqrt(64)
    assert stats.kstest(inner, "norm").pvalue > 0.01
    assert np.mean(one) == pytest.approx(0, abs=4 / np.sqrt(64 * 500 * 64))
