"""Distribution functions, counts and distances against the laws of the gallery: accuracy, symmetry, bands."""

import numpy as np
import pytest

import slq

MADE = {
    "semicircle": lambda n: slq.gallery.semicircle(n),
    "marchenko-pastur": lambda n: slq.gallery.marchenko_pastur(n),
    "spiked": lambda n: slq.gallery.spiked(n),
    "laplacian": lambda n: slq.gallery.laplacian_1d(n),
    "atom": lambda n: slq.gallery.marchenko_pastur(n, ratio=2.0),
    "clusters": lambda n: slq.gallery.clustered(n, width=0.3),
}


@pytest.fixture(scope="module")
def s():
    return slq.spectrum(slq.gallery.semicircle(2000)[0], probes=4, steps=60, rng=0)


def w1_share(s, law):
    """Return the Wasserstein distance of the estimate from the law as a share of the range."""
    x = np.unique(np.concatenate([np.linspace(*law.edges, 8000), law.values]))
    error = np.abs(s.cdf(x).value - law.cdf(x))
    return np.trapezoid(error, x) / (law.edges[1] - law.edges[0])


# Measured at n = 20,000, 4 probes, 20 steps, worst of 4 seeds; the limits leave a third more.
@pytest.mark.parametrize(
    ("name", "limit"),
    [("semicircle", 0.0025), ("marchenko-pastur", 0.0025), ("spiked", 0.001), ("laplacian", 0.004), ("atom", 0.004)],
)
def test_twenty_steps_give_the_function_to_a_few_thousandths_of_the_range(name, limit):
    operator, law = MADE[name](20_000)
    for seed in range(4):
        assert w1_share(slq.spectrum(operator, probes=4, steps=20, rng=seed), law) < limit


@pytest.mark.parametrize("name", MADE)
def test_the_error_falls_with_the_steps_down_to_the_scatter_of_the_probes(name):
    operator, law = MADE[name](4000)
    few, many = (slq.spectrum(operator, probes=4, steps=m, rng=1) for m in (6, 48))
    assert w1_share(many, law) < max(0.5 * w1_share(few, law), 1.5 * many.error.sampling)


@pytest.mark.parametrize("name", MADE)
def test_the_band_holds_the_law_at_all_points_at_once(name):
    operator, law = MADE[name](2000)
    x = np.linspace(law.edges[0] - 0.1, law.edges[1] + 0.1, 997)
    for seed in range(10):
        for steps in (3, 10, 40):
            band = slq.spectrum(operator, probes=2, steps=steps, rng=seed, confidence=0.9999).cdf(x)
            assert np.all(band.low <= law.cdf(x) + 1e-9)
            assert np.all(law.cdf(x) - 1e-9 <= band.high)


def test_more_probes_and_more_steps_narrow_the_band():
    operator, law = slq.gallery.semicircle(2000)
    x = np.linspace(*law.edges, 200)

    def width(**options):
        band = slq.spectrum(operator, rng=0, **options).cdf(x)
        return np.mean(band.high - band.low)

    assert width(probes=8, steps=30) < width(probes=2, steps=30)
    assert width(probes=4, steps=60) < width(probes=4, steps=15)


def test_a_higher_confidence_widens_every_interval():
    operator, _ = slq.gallery.semicircle(1000)
    usual, sure = (slq.spectrum(operator, probes=4, steps=40, rng=0, confidence=c) for c in (0.8, 0.999))
    x = np.linspace(-0.9, 0.9, 50)
    assert np.all(sure.cdf(x).high - sure.cdf(x).low > usual.cdf(x).high - usual.cdf(x).low)
    for ask in (lambda s: s.count(-0.5, 0.5), lambda s: s.trace("exp"), lambda s: s.distance(s.shifted(0.1))):
        assert ask(sure).high - ask(sure).low > ask(usual).high - ask(usual).low
    assert sure.count(-0.5, 0.5).confidence == 0.999


def test_one_number_and_a_list_and_an_array_are_all_points():
    s = slq.spectrum(slq.gallery.semicircle(500)[0], probes=2, steps=20, rng=0)
    assert s.cdf(0.1).value.shape == s.quantile(0.5).value.shape == s.resolution(0.1).shape == (1,)
    np.testing.assert_array_equal(s.cdf([0.1, 0.2]).value, s.cdf(np.array([0.1, 0.2])).value)
    assert s.cdf([]).value.shape == (0,)


def test_nothing_lies_below_and_everything_above_the_edges():
    s = slq.spectrum(slq.gallery.semicircle(500)[0], probes=2, steps=20, rng=0)
    width = s.edges[1] - s.edges[0]
    band = s.cdf([-np.inf, s.edges[0] - width, s.edges[1] + width, np.inf])
    np.testing.assert_array_equal(band.value, [0, 0, 1, 1])
    np.testing.assert_array_equal(band.low, [0, 0, 1, 1])
    np.testing.assert_array_equal(band.high, [0, 0, 1, 1])


def test_a_jump_belongs_to_its_right_side():
    values = np.repeat([1.0, 2.0], [30, 70])
    s = slq.spectrum(slq.gallery.from_eigenvalues(values)[0], probes=4, steps=5, rng=0)
    at, before = s.cdf(1.0 + 1e-9).value[0], s.cdf(1.0 - 1e-9).value[0]
    assert before == 0.0
    assert at == pytest.approx(0.3, abs=0.15)


class TestCounts:
    @pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (2.0, 1.0), (np.inf, -np.inf), (np.nan, 1.0), (0.0, np.nan)])
    def test_refuse_empty_intervals_and_say_which_end_is_open(self, a, b):
        s = slq.spectrum(slq.gallery.semicircle(100)[0], probes=2, steps=10, rng=0)
        with pytest.raises(ValueError, match=r"`a` must be smaller than `b`.*\(a, b\]"):
            s.count(a, b)

    @pytest.mark.parametrize("name", ["semicircle", "spiked", "laplacian"])
    def test_hold_at_half_open_ends(self, name):
        operator, law = MADE[name](1000)
        for seed in range(8):
            s = slq.spectrum(operator, probes=4, steps=40, rng=seed, confidence=0.9999)
            for x in law.quantile(np.array([0.05, 0.5, 0.95])):
                for a, b in ((-np.inf, x), (x, np.inf)):
                    found = s.count(a, b)
                    # The eigenvalue at x itself is on the noise: one more or one less is right.
                    assert found.low - 1 <= law.count(a, b) <= found.high + 1

    def test_are_integers_where_they_are_certain(self):
        values = np.linspace(0, 1, 30)
        s = slq.spectrum(np.diag(values), probes=4, steps=30, rng=0)
        for cut in (0.1, 0.5, 0.9):
            found = s.count(0.0 - 0.01, cut + 0.001)
            assert found.low == found.high == np.sum(values <= cut + 0.001)


class TestDistances:
    @pytest.mark.parametrize("shift", [1e-3, 0.05, 1.0, 30.0])
    def test_of_a_shifted_spectrum_is_the_shift(self, s, shift):
        found = s.distance(s.shifted(shift))
        assert found.value == pytest.approx(shift, rel=2e-3)
        assert found.low <= shift <= found.high

    @pytest.mark.parametrize("metric", ["wasserstein", "kolmogorov"])
    def test_are_symmetric_and_zero_for_the_same(self, s, metric):
        other = slq.spectrum(slq.gallery.marchenko_pastur(2000)[0], probes=4, steps=60, rng=1)
        assert s.distance(s, metric).value == s.distance(s, metric).low == 0.0
        assert s.distance(other, metric).value == pytest.approx(other.distance(s, metric).value, rel=1e-6)

    def test_hold_the_true_distance_of_two_laws(self, s):
        one, two = slq.gallery.semicircle(2000)[1], slq.gallery.marchenko_pastur(2000)[1]
        other = slq.spectrum(slq.gallery.marchenko_pastur(2000)[0], probes=4, steps=60, rng=1)
        truth = np.mean(np.abs(one.eigenvalues() - two.eigenvalues()))
        found = s.distance(other)
        assert found.low <= truth <= found.high
        assert found.value == pytest.approx(truth, abs=4 * np.hypot(0.008, 0.0112))  # of two means of 4 probes
        assert s.distance(other, "kolmogorov").value <= 1.0
