"""The error of the whole estimated distribution, split by origin, in the unit of the tolerance.

The unit is the Wasserstein-1 distance in the display coordinate as a share of its range: the mean vertical error of
the distribution function as it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from slq._arrays import Floats
from slq._quadrature._coordinate import Coordinate
from slq._quadrature._measure import Measure

# The 95 % quantile of the integral of |Brownian bridge| over its mean (measured; 0.5821 / 0.3133), and others; and its
# coefficient of variation, from the second moment 7 / 60 and the mean sqrt(pi / 32).
_QUANTILE_OVER_MEAN = {0.8: 1.36, 0.9: 1.61, 0.95: 1.86, 0.99: 2.41}
_BRIDGE = float(np.sqrt(7 / 60 * 32 / np.pi - 1))
# That of ``|normal|``, which the integral is where two clusters share the eigenvalues.
_HALF_NORMAL = float(np.sqrt(np.pi / 2 - 1))
# Points at which the process is correlated with itself.
_CORRELATED = 256
# The error of the drawn curve is told by how far it is from those of these shares of the steps: the farthest was as
# far at least wherever the error was above 0.003 of the range, on some forty spectra at 8 to 128 steps, and 1.5 to
# 2.5 times as far mostly. Curves can agree by chance, so that the certified bound counts too, by this share at least.
CUTS, _BOUND_SHARE = (0.5, 0.75, 0.9), 0.05
# Mass that is drawn as a jump can lie anywhere in its bracket, as no neighbours' masses say how it goes on.
_BOUND_SHARE_OF_JUMPS = 0.1
_POINTS = 2000
# So many times the steps are considered for what they would save in probes.
_LONGER = (1.25, 1.5, 2.0, 3.0)
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
    measure: Measure, shorter: Sequence[Measure], coordinate: Coordinate, *, noise: float, confidence: float
) -> ErrorBudget:
    """Return the budget of a measure; `shorter` are the measures from `CUTS` of the steps."""
    x, y = _points(measure, coordinate)
    span = float(y[-1] - y[0])
    if float(x[-1] - x[0]) <= 4 * noise:  # one eigenvalue, as far as anyone can tell
        return ErrorBudget(0.0, 0.0, 0.0, 0.0, confidence)
    curve = measure.cdf(x, coordinate)
    share = measure.n_rest / measure.n
    lower, upper = measure.bracket(x)
    rest = np.clip((curve - measure.known_up_to(x) / measure.n) / max(share, 1e-300), 0.0, 1.0)
    most = np.maximum(upper - rest, rest - lower)
    bound = share * float(np.trapezoid(most, y)) / span
    change = max(float(np.trapezoid(np.abs(curve - cut.cdf(x, coordinate)), y)) / span for cut in shorter)
    least = _BOUND_SHARE + (_BOUND_SHARE_OF_JUMPS - _BOUND_SHARE) * measure.jumps
    quadrature = min(max(change, least * bound), bound)
    mean = np.sqrt(2 / np.pi) * float(np.trapezoid(_deviation(rest, measure), y)) / span
    sampling = share * mean * _quantile_over_mean(confidence, _variation(rest, y))
    numeric = float(np.mean(coordinate.slope(x))) * noise / span
    return ErrorBudget(quadrature, bound, float(sampling), numeric, confidence)


def settled(quadrature: float, scatter: float, probes: int, tol: float) -> bool:
    """Tell whether more steps would raise the cost of all the probes, at least `probes`, that the tolerance takes.

    The quadrature error is taken to fall like 1 / steps, and every step costs every probe a product; `scatter` is the
    sampling error of one probe.
    """

    def cost(longer: float) -> float:
        left = tol - quadrature / longer
        return longer * max(np.ceil((scatter / left) ** 2), probes) if left > 0 else np.inf

    return cost(1.0) <= min(cost(longer) for longer in _LONGER) < np.inf


def scatter_of_one(n: int, deviation: float) -> float:
    """Return the sampling error of one sphere probe among n eigenvalues, at 95 %, as a share of their range.

    `deviation` is the mean of sqrt(F (1 - F)) over the range: at most 1/2, about 0.35 for a semicircle.
    """
    return float(_QUANTILE_OVER_MEAN[0.95] * np.sqrt(2 / np.pi) * deviation * np.sqrt(2 / n))


def _deviation(rest: Floats, measure: Measure) -> Floats:
    """Return the standard deviation of the probes' mean distribution function of the rest, by the Beta law."""
    return np.sqrt(2 * rest * (1 - rest) / ((measure.freedom + 2) * len(measure.probes)))


def _points(measure: Measure, coordinate: Coordinate) -> tuple[Floats, Floats]:
    nodes = np.concatenate([p.nodes for p in measure.probes] + [measure.values])
    y = coordinate.forward(np.array([nodes.min(), nodes.max()]))
    grid = np.linspace(y[0], y[1], _POINTS)
    y = np.unique(np.concatenate([grid, coordinate.forward(nodes)]))
    return coordinate.inverse(y), y


def _variation(rest: Floats, y: Floats) -> float:
    """Return the coefficient of variation of the integral of ``|B(F(y))|``, B a Brownian bridge and F = `rest`."""
    share = np.interp(np.linspace(y[0], y[-1], _CORRELATED), y, rest)
    share = share[(share > 0) & (share < 1)]
    if share.size == 0:
        return _HALF_NORMAL
    odds = np.sqrt(share / (1 - share))
    ratio = odds[:, None] / odds
    correlation = np.minimum(ratio, 1 / ratio)
    # The covariance of ``|X|`` and ``|Y|`` over the product of their means, for normal X and Y.
    excess = np.sqrt(1 - correlation**2) + correlation * np.arcsin(correlation) - 1
    deviation = np.sqrt(share * (1 - share))
    return float(np.sqrt(deviation @ excess @ deviation) / deviation.sum())


def _quantile_over_mean(confidence: float, variation: float) -> float:
    """Return a quantile of the integral over its mean, which follows from its coefficient of variation.

    Between a constant, the bridge's own integral and ``|normal|``; right to 3 % on seven distributions (simulated).
    """
    levels = np.array(sorted(_QUANTILE_OVER_MEAN))
    of_bridge = np.interp(confidence, levels, [_QUANTILE_OVER_MEAN[level] for level in levels])
    of_normal = ndtri((1 + confidence) / 2) * np.sqrt(np.pi / 2)
    return float(np.interp(variation, [0.0, _BRIDGE, _HALF_NORMAL], [1.0, of_bridge, of_normal]))
