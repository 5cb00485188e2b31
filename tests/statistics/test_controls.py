"""Intervals that exact traces have narrowed hold as often as they say, for few eigenvalues and many: fixed seeds."""

import numpy as np
import pytest

import slq

pytestmark = pytest.mark.slow

RUNS = 150
FUNCTIONS = {"log": np.log, "sqrt": np.sqrt, "exp": np.exp, "inverse": np.reciprocal}


class Diagonal:
    """Multiplies by a diagonal matrix whose traces are known."""

    dtype = np.dtype(np.float64)

    def __init__(self, values):
        self.values, self.shape = values, (len(values), len(values))
        self.traces = float(values.sum()), float(np.sum(values**2))

    def matmat(self, X):
        return self.values[:, None] * X


def laplacian(points, shift=0.0):
    waves = 4 * np.sin(np.pi * np.arange(1, points + 1) / (2 * points + 2)) ** 2
    return np.sort(np.add.outer(waves, waves).ravel()) + shift


SPECTRA = {
    "100 of a Laplacian": (laplacian(10, 0.1), 2, 30),
    "500 of Marchenko and Pastur": (slq.gallery.marchenko_pastur(500)[1].eigenvalues(), 1, 30),
    "500 graded": (np.geomspace(0.05, 1.0, 500), 2, 25),
    "two clusters of 400": (np.concatenate([np.linspace(0.1, 0.2, 100), np.linspace(1, 1.2, 300)]), 2, 20),
    "2000 of a Laplacian": (laplacian(45, 0.1), 1, 30),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_intervals_hold_as_often_as_they_say(name):
    values, probes, steps = SPECTRA[name]
    operator, held = Diagonal(values), dict.fromkeys(FUNCTIONS, 0)
    for seed in range(RUNS):
        s = slq.spectrum(operator, probes=probes, steps=steps, rng=seed, deflate="none")
        for function, f in FUNCTIONS.items():
            e = s.trace(function)
            held[function] += e.low <= f(values).sum() <= e.high
    assert min(held.values()) >= 0.92 * RUNS


def test_what_is_estimated_without_orthogonality_holds_at_few_steps():
    values = laplacian(60)  # from 0.005 on: its log has a peak that few steps do not see
    for steps in (8, 24):
        held = {"log": 0, "inverse": 0}
        for seed in range(RUNS // 2):
            s = slq.spectrum(Diagonal(values), probes=1, steps=steps, rng=seed, reorth="none")
            for function in held:
                e = s.trace(function)
                held[function] += e.low <= FUNCTIONS[function](values).sum() <= e.high
        assert min(held.values()) >= 0.92 * RUNS / 2


def test_traces_to_a_tolerance_hold_and_are_met():
    values = laplacian(40, 0.1)
    truth, errors, held = np.log(values).sum(), [], 0
    for seed in range(RUNS // 2):
        e = slq.logdet(Diagonal(values), rtol=0.01, rng=seed)
        errors.append(abs(e.value - truth) / truth)
        held += e.low <= truth <= e.high
    assert held >= 0.93 * RUNS / 2
    assert np.quantile(errors, 0.95) <= 0.01
