"""The error budget: its bound holds for certain, its parts shrink with what they stand for, and advice goes by them."""

import numpy as np
import pytest

import slq
from slq._quadrature._budget import _quantile_over_mean, _variation


def run(values, **options):
    values = np.asarray(values)
    return slq.spectrum(slq.as_operator(lambda x: values[:, None] * x, n=len(values), block=True), **options)


def distance_of_the_curve(s, values):
    """Return how far the estimated distribution of one probe's run is from the probe's own, which it converges to."""
    n, m, coordinate = len(values), s._measure, s.coordinate()
    start = slq._lanczos._probes.probe(n, seed=s.seed, index=0) ** 2
    y = np.linspace(*coordinate.forward(s.nodes[0, [0, -1]]), 4000)
    x = coordinate.inverse(y)
    own = np.append(0.0, np.cumsum(start))[np.searchsorted(values, x, side="right")]
    if m.values.size:  # of the rest alone, as the budget has it
        found = np.abs(values[:, None] - m.values).argmin(axis=0)
        mass = np.append(0.0, np.cumsum(start[found]))[np.searchsorted(m.values, x, side="right")]
        own = (m.known_up_to(x) + m.n_rest * (own - mass) / (1 - start[found].sum())) / n
    return np.trapezoid(np.abs(s.cdf(x).value - own), y) / (y[-1] - y[0])


@pytest.mark.parametrize("outliers", [(), (40.0, 90.0)])
@pytest.mark.parametrize("steps", [4, 10, 25])
def test_the_bound_on_what_the_steps_leave_open_holds_for_certain(steps, outliers):
    """Held against the probe's own measure, which is what the steps converge to."""
    values = np.sort(np.append(np.random.default_rng(0).standard_normal(300), outliers))
    for seed in range(5):
        s = run(values, probes=1, steps=steps, rng=seed)
        assert distance_of_the_curve(s, values) <= s.error.quadrature_bound + 1e-3
        assert s.error.quadrature <= s.error.quadrature_bound


def spectra():
    """Give what runs have to do with: clusters, heavy tails on a narrow bulk, a kernel, an edge, power laws."""
    rng = np.random.default_rng(3)
    for _ in range(4):
        yield np.concatenate([rng.normal(rng.uniform(-3, 3), 10 ** rng.uniform(-3, 0), 200) for _ in range(4)])
        bulk = 1e-3 * rng.standard_normal(900) * rng.pareto(rng.uniform(0.8, 3), 900)
        yield np.append(bulk, rng.exponential(1, rng.integers(3, 40)))
        yield np.append(np.zeros(450), rng.exponential(1, 450) ** rng.uniform(1, 5))
        yield rng.beta(*rng.uniform(0.2, 3, 2), 900)
        yield np.arange(1, 901.0) ** -rng.uniform(0.3, 2) * rng.choice([1, 1, 1, -1], 900)


@pytest.mark.parametrize("tol", [0.05, 0.02])
def test_the_error_told_when_a_run_stops_holds_nearly_always(tol):
    """Where the run chose the steps itself: stopping where the error looks small is part of what is tested."""
    ratios = []
    for seed, values in enumerate(map(np.sort, spectra())):
        s = run(values, tol=tol, probes=1, rng=seed)
        ratios.append(distance_of_the_curve(s, values) / s.error.quadrature)
    assert np.mean(np.array(ratios) <= 1) >= 0.95
    assert np.max(ratios) < 1.5
    assert np.median(ratios) > 0.2  # a tenth would be a waste of products


@pytest.mark.parametrize("bulk", ["narrow", "heavy-tailed", "one point"])
def test_a_bulk_that_few_steps_see_as_one_node_is_told_of(bulk):
    """Ten outliers take all the first steps: what the bulk is like is not seen, and the looks agree by chance."""
    rng = np.random.default_rng(5)
    rest = {
        "narrow": 1e-3 * rng.standard_normal(1990),
        "heavy-tailed": np.clip(1e-4 * rng.standard_cauchy(1990), -0.3, 1.0),
        "one point": np.zeros(1990),
    }
    values = np.sort(np.append(rest[bulk], np.geomspace(3, 100, 10)))
    held = []
    for seed in range(20):
        s = run(values, probes=1, rng=seed)
        y = np.linspace(*s.coordinate().forward(values[[0, -1]]), 4000)
        x = s.coordinate().inverse(y)
        truth = np.searchsorted(values, x, side="right") / values.size
        found = np.trapezoid(np.abs(s.cdf(x).value - truth), y) / np.ptp(y)
        held.append(found <= s.error.total + 1 / 4000)  # where a jump is between two points is not seen
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize(("inner", "quantile"), [(True, 0.5821 / 0.3133), (False, 2.4564)])
def test_the_law_of_the_scatter_goes_by_the_shape_of_the_spectrum(inner, quantile):
    """The integral of |Brownian bridge| over a uniform spectrum, |normal| where two points hold all eigenvalues."""
    share = np.linspace(0.0, 1.0, 4001)[1:-1] if inner else np.full(3999, 0.5)
    variation = _variation(share, np.arange(3999.0))
    assert _quantile_over_mean(0.95, variation) == pytest.approx(quantile, rel=2e-3)


def test_of_no_scatter_at_all_the_law_is_still_a_number():
    assert np.isfinite(_quantile_over_mean(0.95, _variation(np.ones(10), np.arange(10.0))))


def test_parts_shrink_with_steps_and_with_probes():
    values = np.random.default_rng(1).standard_normal(2000)
    errors = {(k, m): run(values, probes=k, steps=m, rng=0).error for k in (1, 4) for m in (10, 40)}
    assert errors[1, 40].quadrature < 0.5 * errors[1, 10].quadrature
    assert errors[4, 40].sampling == pytest.approx(errors[1, 40].sampling / 2, rel=0.1)
    assert errors[1, 10].total == errors[1, 10].quadrature + errors[1, 10].sampling + errors[1, 10].numeric


def test_advice_names_the_largest_part():
    values = np.random.default_rng(2).standard_normal(2000)
    assert "more steps" in run(values, probes=8, steps=5, rng=0).error.advice
    assert "more probes" in run(values, probes=1, steps=60, rng=0).error.advice
    assert "nothing is left" in run(np.ones(4), probes=2, steps=4, rng=0).error.advice
