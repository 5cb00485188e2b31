"""What is certified is true: questions to random and nasty spectra, asked at 99.99 % so that one miss is a mistake."""

from itertools import pairwise

import numpy as np
import pytest

import slq

pytestmark = pytest.mark.slow
SURE = 0.9999


def run(values, **options):
    """Run a diagonal matrix: its eigenvalues are known exactly, its products to one rounding."""
    values = np.asarray(values)
    return slq.spectrum(slq.as_operator(lambda x: values * x, n=len(values)), **options)


def random_spectrum(rng):
    """Draw a spectrum that is spread, clustered, graded, repeated, spiked, two-sided, or has multiple outliers."""
    n = int(rng.integers(2, 120))
    kind = rng.integers(7)
    if kind == 0:
        values = rng.standard_normal(n)
    elif kind == 1:
        values = rng.choice([-2.0, -0.5, 1.0, 3.0], n) + 10.0 ** rng.uniform(-9, -2) * rng.standard_normal(n)
    elif kind == 2:
        values = np.geomspace(10.0 ** rng.uniform(-10, -1), 1.0, n)
    elif kind == 3:
        values = rng.choice(rng.standard_normal(int(rng.integers(1, 6))), n)
    elif kind == 4:
        values = np.append(rng.standard_normal(n - 1), 10.0 ** rng.uniform(1, 5))
    elif kind == 5:
        values = rng.choice([-1.0, 1.0], n) * 10.0 ** rng.uniform(-6, 2, n)
    else:
        values = np.append(np.linspace(-1, 1, n), np.repeat(rng.uniform(2, 9, 3), rng.integers(1, 5, 3)))
    return np.sort(values * 10.0 ** rng.integers(-20, 20))


def random_runs(seed, count):
    """Yield runs of random length with two or more probes, and their eigenvalues."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        values = random_spectrum(rng)
        probes, steps = int(rng.integers(2, 7)), int(rng.integers(2, len(values) + 20))
        yield values, run(values, probes=probes, steps=steps, rng=number, confidence=SURE)


@pytest.fixture(scope="module")
def runs():
    return list(random_runs(0, 250))


def between_eigenvalues(values, noise):
    """Return points near eigenvalues, between them and beyond, none of them within the noise of one."""
    span = np.ptp(values) or abs(values[0]) or 1.0
    ends = [values[0] - 0.2 * span, values[-1] + 0.2 * span]
    x = np.concatenate([values + 1e-6 * span, values - 1e-6 * span, 0.5 * (values[1:] + values[:-1]), ends])
    return np.sort(x[np.abs(x[:, None] - values).min(axis=1) > 4 * noise])


def test_every_eigenvalue_lies_between_the_edges(runs):
    for values, s in runs:
        # A run that ends at an invariant space may leave 32 roundings of the norm behind it.
        slack = 32 * np.finfo(float).eps * np.abs(values).max()
        assert s.edges[0] - slack <= values[0]
        assert values[-1] <= s.edges[1] + slack


def test_the_band_of_the_distribution_function_holds_everywhere(runs):
    for values, s in runs:
        x = between_eigenvalues(values, s.noise)
        band, truth = s.cdf(x), np.searchsorted(values, x, side="right") / len(values)
        tiny = 1e-5 / len(values)  # masses are known to some roundings
        assert np.all(band.low <= truth + tiny)
        assert np.all(truth <= band.high + tiny)


def test_the_distribution_function_never_falls(runs):
    for values, s in runs:
        band = s.cdf(between_eigenvalues(values, s.noise))
        assert np.all(np.diff(band.value) >= -1e-9)
        assert np.all((band.low >= 0) & (band.low <= band.value + 1e-12))
        assert np.all((band.value <= band.high + 1e-12) & (band.high <= 1))


def test_the_band_of_the_distribution_function_never_falls(runs):
    for values, s in runs:
        band = s.cdf(between_eigenvalues(values, s.noise))
        assert np.all(np.diff(band.low) >= -1e-9)
        assert np.all(np.diff(band.high) >= -1e-9)


def test_counts_hold_in_random_intervals(runs):
    rng = np.random.default_rng(1)
    for values, s in runs:
        x = between_eigenvalues(values, s.noise)
        for _ in range(6):
            a, b = np.sort(rng.choice(x, 2, replace=False))
            if a < b:
                found = s.count(a, b)
                assert found.low <= np.sum((values > a) & (values <= b)) <= found.high


def test_an_interval_around_everything_holds_all_eigenvalues():
    values = np.concatenate([np.linspace(-1, 1, 40), [3.0, 3.0, 4.0, 4.0, 4.0]])
    for seed in range(10):
        found = run(values, probes=2, steps=60, rng=seed).count(-1.5, 4.1)
        assert found.low <= 45 <= found.high


def test_infinite_ends_count_everything(runs):
    for values, s in runs:
        found = s.count(-np.inf, np.inf)
        assert found.low == found.value == found.high == len(values)


def test_counts_of_neighbouring_intervals_add_up(runs):
    for values, s in runs[:60]:
        ends = [-np.inf, *np.quantile(values, [0.21, 0.52, 0.83]), np.inf]
        if np.all(np.diff(ends) > 0):
            parts = [s.count(a, b).value for a, b in pairwise(ends)]
            assert sum(parts) == pytest.approx(len(values), abs=0.02 * len(values) + 1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 30])
def test_quantiles_lie_within_their_bands_after_any_number_of_steps(steps):
    q = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    for values in (np.linspace(-1, 1, 40), np.append(np.zeros(30), np.linspace(1, 2, 30))):
        truth = values[np.ceil(q * len(values) - 1e-9).astype(int) - 1]
        for seed in range(10):
            band = run(values, probes=4, steps=steps, rng=seed, confidence=SURE).quantile(q)
            assert np.all(band.low <= truth + 1e-12)
            assert np.all(truth - 1e-12 <= band.high)


def test_quantiles_never_fall(runs):
    q = np.linspace(0.01, 0.99, 25)
    for _, s in runs:
        band = s.quantile(q)
        for curve in (band.low, band.value, band.high):
            assert np.all(np.diff(curve) >= 0)


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, 1.5])
def test_quantiles_of_the_extremes_are_refused(q):
    s = run(np.linspace(0, 1, 20), probes=2, steps=5, rng=0)
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        s.quantile([0.5, q])


@pytest.mark.parametrize("name", ["identity", "exp"])
def test_traces_hold_where_eigenvalues_are_of_like_size(name):
    f = {"identity": lambda x: x, "exp": np.exp}[name]
    rng = np.random.default_rng(2)
    for seed in range(60):
        values = rng.uniform(-1, 1, int(rng.integers(20, 120)))
        s = run(values, probes=int(rng.integers(2, 7)), steps=int(rng.integers(3, 60)), rng=seed, confidence=SURE)
        found = s.trace(name)
        assert found.low <= f(values).sum() <= found.high


@pytest.mark.parametrize(("name", "outlier"), [("square", 1e5), ("identity", 1e10)])
def test_traces_hold_beside_a_far_outlier(name, outlier):
    f = {"identity": lambda x: x, "square": np.square}[name]
    values = np.append(np.linspace(-1, 1, 400) ** 3, outlier)
    truth = f(values).sum()
    for seed in range(20):
        found = run(values, probes=4, steps=30, rng=seed, confidence=SURE).trace(name)
        slack = 4 * np.finfo(float).eps * truth  # of the sum above
        assert found.low - slack <= truth <= found.high + slack


def test_traces_hold_for_graded_spectra_where_much_is_resolved():
    values = np.geomspace(1e-12, 1, 55)
    for seed in range(20):
        found = run(values, probes=3, steps=43, rng=seed, confidence=SURE).trace()
        assert found.low <= values.sum() <= found.high


def test_a_close_pair_is_not_a_double_eigenvalue_between_its_two_places():
    values = np.concatenate([np.linspace(-1, 1, 200), [3.0, 3.0 + 1e-6]])
    for seed in range(20):
        found = run(values, probes=4, steps=14, rng=seed, confidence=SURE).count(3.0 + 5e-7, 4.0)
        assert found.low <= 1 <= found.high


class TestOneProbe:
    """One probe sees the weight of an eigenvalue, hence hardly its multiplicity."""

    def test_makes_no_certified_mistake_about_repeated_eigenvalues(self):
        values = np.repeat([1.0, 2.0, 5.0], 10)
        for seed in range(30):
            found = run(values, probes=1, steps=10, rng=seed, confidence=SURE).count(1.5, 2.5)
            assert found.claim == "estimate" or found.low <= 10 <= found.high

    def test_leaves_the_multiplicity_of_a_double_outlier_open(self):
        values = np.concatenate([np.linspace(-1, 1, 2000), [3.0, 3.0]])
        for seed in range(30):
            found = run(values, probes=1, steps=40, rng=seed, confidence=SURE).count(2.0, 4.0)
            assert found.low <= 2 <= found.high

    def test_counts_simple_outliers_and_the_rest_right(self):
        values = np.concatenate([np.linspace(-1, 1, 500), [3.0, 4.0, 6.0]])
        for seed in range(20):
            s = run(values, probes=1, steps=40, rng=seed, confidence=SURE)
            for a, b in ((2.0, np.inf), (2.0, 5.0), (-np.inf, 0.0)):
                found = s.count(a, b)
                assert found.low <= np.sum((values > a) & (values <= b)) <= found.high
