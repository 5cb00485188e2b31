"""The error of the whole estimated distribution, split by origin, in the unit of the tolerance.

The unit is the Wasserstein-1 distance in the display coordinate as a share of its range: the mean vertical error of
the distribution function as it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slq._arrays import Floats
from slq._coordinate import Coordinate
from slq._measure import Measure

# The 95 % quantile of the integral of |Brownian bridge| over its mean (measured; 0.5821 / 0.3133), and others.
_QUANTILE_OVER_MEAN = {0.8: 1.36, 0.9: 1.61, 0.95: 1.86, 0.99: 2.41}
# The observed error of the drawn curve is below this share of the certified bound on every spectrum tried.
_BOUND_SHARE = 0.1
_POINTS = 2000
# Errors below this share of the range are rounding.
_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """How far the estimated distribution can be from the true one: shares of the displayed range.

    Attributes
    ----------
    quadrature : float
        Estimated error from the finite number of steps.
    quadrature_bound : float
        What the steps leave open at most, for certain; usually ten times larger than the error.
    sampling : float
        Error from the random probes, not exceeded at the confidence level.
    numeric : float
        From the noise floor of the operator.
    confidence : float
        Of the sampling part.
    """

    quadrature: float
    quadrature_bound: float
    sampling: float
    numeric: float
    confidence: float

    @property
    def total(self) -> float:
        """Quadrature, sampling and numeric error together: what `tol` is compared with."""
        return self.quadrature + self.sampling + self.numeric

    @property
    def advice(self) -> str:
        """Say what would sharpen the result."""
        parts = {
            "more steps": self.quadrature,
            "more probes": self.sampling,
            "a more exact operator (float64, fixed data, no dropout)": self.numeric,
        }
        best = max(parts, key=lambda name: parts[name])
        return f"{best} would sharpen it most" if parts[best] > _EXACT else "nothing is left to sharpen"


def budget_of(
    measure: Measure, shorter: Measure, coordinate: Coordinate, *, noise: float, confidence: float
) -> ErrorBudget:
    """Return the budget of a measure; `shorter` is the measure from three quarters of the steps."""
    x, y = _points(measure, coordinate)
    span = float(y[-1] - y[0])
    if float(x[-1] - x[0]) <= 4 * noise:  # one eigenvalue, as far as anyone can tell
        return ErrorBudget(0.0, 0.0, 0.0, 0.0, confidence)
    curve = measure.cdf(x, coordinate)
    share = measure.n_rest / measure.n
    lower, upper = measure.bracket(x)
    rest = np.clip((curve - measure.known_up_to(x) / measure.n) / max(share, 1e-300), 0.0, 1.0)
    bound = share * float(np.trapezoid(np.maximum(upper - rest, rest - lower), y)) / span
    change = float(np.trapezoid(np.abs(curve - shorter.cdf(x, coordinate)), y)) / span
    quadrature = min(max(2 * change, _BOUND_SHARE * bound), bound)
    mean = np.sqrt(2 / np.pi) * float(np.trapezoid(_deviation(rest, measure), y)) / span
    sampling = share * mean * _quantile_over_mean(confidence)
    numeric = float(np.mean(coordinate.slope(x))) * noise / span
    return ErrorBudget(quadrature, bound, float(sampling), numeric, confidence)


def probes_for(n: int, share: float, deviation: float) -> int:
    """Return how many sphere probes bring the sampling error of n eigenvalues below `share` of their range.

    `deviation` is the mean of sqrt(F (1 - F)) over the range: at most 1/2, about 0.35 for a semicircle.
    """
    return max(1, int(np.ceil(2 / n * (_QUANTILE_OVER_MEAN[0.95] * np.sqrt(2 / np.pi) * deviation / share) ** 2)))


def _deviation(rest: Floats, measure: Measure) -> Floats:
    """Return the standard deviation of the probes' mean distribution function of the rest, by the Beta law."""
    return np.sqrt(2 * rest * (1 - rest) / ((measure.n_rest + 2) * len(measure.probes)))


def _points(measure: Measure, coordinate: Coordinate) -> tuple[Floats, Floats]:
    nodes = np.concatenate([p.nodes for p in measure.probes] + [measure.values])
    y = coordinate.forward(np.array([nodes.min(), nodes.max()]))
    grid = np.linspace(y[0], y[1], _POINTS)
    y = np.unique(np.concatenate([grid, coordinate.forward(nodes)]))
    return coordinate.inverse(y), y


def _quantile_over_mean(confidence: float) -> float:
    """Interpolate the tabulated quantiles in the normal score of the confidence."""
    levels = np.array(sorted(_QUANTILE_OVER_MEAN))
    return float(np.interp(confidence, levels, [_QUANTILE_OVER_MEAN[level] for level in levels]))
