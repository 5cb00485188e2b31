"""g(tr f_1(A), ..., tr f_q(A)) from a run: ratios and other smooth combinations of traces seen by the same probes.

The traces share their probes, so that their errors are correlated and a quotient is far more certain than its parts.
From eight probes on the scatter is told by the jackknife over the probes; fewer are judged by the law of sphere probes
for the one function that g is to first order (delta method). What the steps leave open is twice the change of g from
three quarters of them. What exact traces of A explain of all these functions is not sampled; see `_controls`.

Source: Efron & Stein 1981, doi:10.1214/aos/1176345462 (jackknife).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from slq._arrays import Floats
from slq._estimates import ErrorParts, Estimate
from slq._quadrature._bounds import spread
from slq._quadrature._controls import Controls, controls_of
from slq._quadrature._integrals import PROBES_FOR_STUDENT, Sampling, moments_of, numeric_error, sampling_error
from slq._quadrature._integrands import Function, Integrand
from slq._quadrature._rules import Nodes, Rules


@dataclass(frozen=True, slots=True)
class Combination:
    """A smooth function of traces.

    Attributes
    ----------
    functions : sequence of callable
        f_1 to f_q, vectorised.
    value : callable
        The q traces -> g.
    gradient : callable
        The q traces -> the q derivatives of g.
    """

    functions: Sequence[Function]
    value: Callable[[Floats], float]
    gradient: Callable[[Floats], Floats]

    def linear(self, traces: Floats) -> Function:
        """Return the function whose trace changes as g does, to first order."""
        slopes = self.gradient(traces)
        return lambda x: np.asarray(sum(c * f(x) for c, f in zip(slopes, self.functions, strict=True)))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def joint_estimate(rules: Rules, combination: Combination, sampling: Sampling) -> Estimate:
    """Return g of the traces with its interval, always as an estimate."""
    measure, k = rules.measure, len(rules.measure.probes)
    controls, rounding = controls_of(rules), np.zeros(len(combination.functions))
    if controls is not None:
        combination, rounding = _controlled(rules, combination, controls)
    known = np.array([np.sum(measure.multiplicities * f(measure.values)) for f in combination.functions])
    if measure.n_rest == 0:
        value, error, quadrature, linear = combination.value(known), 0.0, 0.0, combination.linear(known)
        slopes = combination.gradient(known)
    else:
        totals = _totals(rules, rules.gauss, combination, known)
        value, linear = combination.value(totals.mean(axis=0)), combination.linear(totals.mean(axis=0))
        slopes = combination.gradient(totals.mean(axis=0))
        shorter = combination.value(_totals(rules, rules.shorter(), combination, known).mean(axis=0))
        quadrature = 2 * abs(value - shorter)
        if k >= PROBES_FOR_STUDENT:
            value, error = _jackknife(combination, totals, sampling.confidence)
        else:
            moments = moments_of(measure, rules.gauss, linear)
            error = measure.n_rest * max(sampling_error(moments, measure.freedom, sampling))
    slack = numeric_error(measure, Integrand(linear), sampling.noise) + float(np.abs(slopes) @ rounding)
    half = error + quadrature + slack
    parts = ErrorParts(error, quadrature, slack)
    return Estimate(value, value - half, value + half, parts, sampling.confidence, "estimate")


def _controlled(rules: Rules, combination: Combination, controls: Controls) -> tuple[Combination, Floats]:
    """Return the combination with exact parts of all traces taken out of what is sampled, where that is worth it.

    Also returns the rounding of each of these parts.
    """
    measure = rules.measure
    known = np.array([np.sum(measure.multiplicities * f(measure.values)) for f in combination.functions])
    linear = combination.linear(_totals(rules, rules.gauss, combination, known).mean(axis=0))
    if controls.fit(linear) is None:
        return combination, np.zeros(len(combination.functions))
    fits = [controls.quadratic(f) for f in combination.functions]
    exact = np.array([fit.trace for fit in fits])
    left = Combination(
        [fit.left_of(f) for fit, f in zip(fits, combination.functions, strict=True)],
        lambda rest: combination.value(rest + exact),
        lambda rest: combination.gradient(rest + exact),
    )
    return left, np.array([fit.rounding for fit in fits])


def _totals(rules: Rules, nodes: Nodes, combination: Combination, known: Floats) -> Floats:
    """Return each probe's estimates of all traces, shape (k, q)."""
    measure = rules.measure
    means = [moments_of(measure, nodes, f).means for f in combination.functions]
    return known + measure.n_rest * np.stack(means, axis=1)


def _jackknife(combination: Combination, totals: Floats, confidence: float) -> tuple[float, float]:
    """Return g less its bias of first order, and the half-width of its interval."""
    k = len(totals)
    left_out = (totals.sum(axis=0) - totals) / (k - 1)
    values = np.array([combination.value(row) for row in left_out])
    whole = combination.value(totals.mean(axis=0))
    half = float(stdtrit(k - 1, (1 + confidence) / 2) * (k - 1) / np.sqrt(k) * spread(values))
    return float(k * whole - (k - 1) * values.mean()), half
