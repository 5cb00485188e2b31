"""Exact tr A and tr A^2 as control variates: what a quadratic explains of f is known, only what it leaves is sampled.

With the quadratic P that fits f best over the measured distribution, tr f(A) = tr P(A) + tr (f - P)(A), and the probes
scatter by f - P alone: for log on Laplacians by 0.2 to 0.3 of what they do for f. Rules of two steps are exact for
quadratics, and derivatives from the third on are those of f: quadrature brackets stay what they are.

The fit comes from the probes that it serves, which costs an error of relative order 1 / (k n): from k n = 30 on
intervals held as often as they say on every spectrum tried.

Source: Glasserman 2004, doi:10.1007/978-0-387-21617-1, page 185 (control variates, coefficients by regression).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from slq._arrays import Floats
from slq._estimates import ErrorParts, Estimate
from slq._kernels._entries import Traces
from slq._quadrature._integrands import Function, Integrand
from slq._quadrature._rules import Rules

# Probes times eigenvalues from which on three coefficients are fitted, steps whose rules are exact for quadratics.
_LEAST, _STEPS = 30, 2
# Controls must take the deviation of f down to this share: they then save half the probes, and f's sign is safe.
_WORTH = 0.7
# Roundings in the exact traces and in what is made of them.
_ROUNDINGS = 8.0


@dataclass(frozen=True, slots=True)
class Quadratic:
    """A quadratic P, with its trace.

    Attributes
    ----------
    centre, unit : float
        P is a polynomial in (x - centre) / unit.
    coefficients : ndarray, shape (3,)
        Of that, constant first.
    trace, rounding : float
        tr P(A), and how far off it can be.
    """

    centre: float
    unit: float
    coefficients: Floats
    trace: float
    rounding: float

    def __call__(self, x: Floats) -> Floats:
        """Return P(x)."""
        t, (a, b, c) = (x - self.centre) / self.unit, self.coefficients
        return np.asarray(a + t * (b + t * c))

    def left_of(self, f: Function) -> Function:
        """Return f - P."""
        return lambda x: np.asarray(f(x) - self(x))

    def rest(self, integrand: Integrand) -> Integrand:
        """Return f - P with what is known of its derivatives: from the third on they are those of f."""
        return replace(integrand, f=self.left_of(integrand.f), first=max(integrand.first, 3))

    def added_to(self, rest: Estimate) -> Estimate:
        """Return tr f(A) from an estimate of tr (f - P)(A)."""
        value, slack = self.trace, self.rounding
        parts = replace(rest.error, numeric=rest.error.numeric + slack)
        low, high = rest.low + value - slack, rest.high + value + slack
        return replace(rest, value=rest.value + value, low=low, high=high, error=parts)

    def estimate(self, confidence: float) -> Estimate:
        """Return tr P(A), exact up to rounding."""
        value, slack = self.trace, self.rounding
        return Estimate(value, value - slack, value + slack, ErrorParts(0.0, 0.0, slack), confidence, "certified")


# What spreads less than this share of the largest eigenvalue leaves nothing but rounding in the sums of its squares.
_SPREAD = float(np.sqrt(np.finfo(np.float64).eps))


@dataclass(frozen=True, slots=True)
class Controls:
    """What quadratics are fitted to, and their exact sums over all n eigenvalues.

    Attributes
    ----------
    n : int
        Dimension.
    traces : tuple of float
        tr A and tr A^2.
    nodes, weights : ndarray, shape (k m,)
        The measured distribution of the eigenvalues that are not known, all probes together.
    centre, unit : float
        Mean and deviation of that.
    """

    n: int
    traces: Traces
    nodes: Floats
    weights: Floats
    centre: float
    unit: float

    def fit(self, f: Function) -> Quadratic | None:
        """Return the best quadratic; None where it explains too little of f."""
        quadratic, values = self.quadratic(f), f(self.nodes)
        left = values - quadratic(self.nodes)
        spread = values - self.weights @ values
        explains = self.weights @ left**2 <= _WORTH**2 * (self.weights @ spread**2)
        return quadratic if explains and np.isfinite(quadratic.trace) else None

    def quadratic(self, f: Function) -> Quadratic:
        """Return the best quadratic, by weighted least squares."""
        t, root = (self.nodes - self.centre) / self.unit, np.sqrt(self.weights)
        powers = root[:, None] * np.stack([np.ones_like(t), t, t**2], axis=1)
        coefficients = np.linalg.lstsq(powers, root * f(self.nodes))[0]
        return _summed(self.n, self.traces, self.centre, self.unit, coefficients)


def controls_of(rules: Rules) -> Controls | None:
    """Return the controls of a run; None where nothing is known exactly, or too little is left to fit them to.

    None too where a multiplicity is only assumed: a fit to what is left would narrow the interval around a wrong value.
    """
    measure, traces = rules.measure, rules.traces
    if traces is None or rules.assumed or rules.steps < _STEPS or measure.n_rest * len(measure.probes) < _LEAST:
        return None
    nodes, weights = (np.concatenate(parts) for parts in zip(*(p.rest() for p in measure.probes), strict=True))
    weights = weights / len(measure.probes)
    centre = float(weights @ nodes)
    unit = float(np.sqrt(weights @ (nodes - centre) ** 2))
    size = max(map(abs, measure.edges))
    return Controls(measure.n, traces, nodes, weights, centre, unit) if unit > _SPREAD * size else None


def exact_quadratic(rules: Rules, integrand: Integrand) -> Quadratic | None:
    """Return an integrand that is a quadratic with its exact trace; None for others, or where that is unknown."""
    if rules.traces is None or not 0 <= integrand.degree <= 2:
        return None
    low, high = rules.measure.edges
    centre, unit = 0.5 * (low + high), 0.5 * (high - low) or 1.0
    below, middle, above = integrand.f(np.array([centre - unit, centre, centre + unit]))
    coefficients = np.array([middle, (above - below) / 2, (above + below) / 2 - middle])
    return _summed(rules.measure.n, rules.traces, centre, unit, coefficients)


def _summed(n: int, traces: Traces, centre: float, unit: float, coefficients: Floats) -> Quadratic:
    """Sum a quadratic over all eigenvalues, and the magnitudes of what is added up."""
    place, first, second = centre / unit, traces[0] / unit, traces[1] / unit / unit
    sums = np.array([n, first - n * place, second - 2 * place * first + n * place * place])
    sizes = np.array([n, abs(first) + n * abs(place), second + 2 * abs(place * first) + n * place * place])
    rounding = _ROUNDINGS * np.finfo(np.float64).eps * float(np.abs(coefficients) @ sizes)
    return Quadratic(centre, unit, coefficients, float(coefficients @ sums), rounding)
