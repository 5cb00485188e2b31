"""The error budget: its bound holds for certain, its parts shrink with what they stand for, and advice goes by them."""

import numpy as np
import pytest

import slq


def run(values, **options):
    values = np.asarray(values)
    return slq.spectrum(slq.as_operator(lambda x: values[:, None] * x, n=len(values), block=True), **options)


@pytest.mark.parametrize("outliers", [(), (40.0, 90.0)])
@pytest.mark.parametrize("steps", [4, 10, 25])
def test_the_bound_on_what_the_steps_leave_open_holds_for_certain(steps, outliers):
    """Held against the probe's own measure, which is what the steps converge to."""
    values = np.sort(np.append(np.random.default_rng(0).standard_normal(300), outliers))
    n = len(values)
    for seed in range(5):
        s = run(values, probes=1, steps=steps, rng=seed)
        whole = run(values, probes=1, steps=n, rng=seed)  # all eigenvalues are nodes, with the probe's weights
        coordinate = s.coordinate()
        y = np.linspace(*coordinate.forward(s.nodes[0, [0, -1]]), 4000)
        x = coordinate.inverse(y)
        own = np.append(0.0, np.cumsum(whole.weights[0]))[np.searchsorted(whole.nodes[0], x, side="right")]
        m = s._measure
        known = m.known_up_to(x) / n
        if m.values.size:  # of the rest alone, as the budget has it
            found = np.abs(whole.nodes[0][:, None] - m.values).argmin(axis=0)
            mass = np.append(0.0, np.cumsum(whole.weights[0, found]))
            own = known + m.n_rest / n * (own - mass[np.searchsorted(m.values, x, side="right")]) / (1 - mass[-1])
        distance = np.trapezoid(np.abs(s.cdf(x).value - own), y) / (y[-1] - y[0])
        assert distance <= s.error.quadrature_bound + 1e-3
        assert s.error.quadrature <= s.error.quadrature_bound


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
