"""Questions to the estimated distribution: its function, quantiles, counts, distances, each with a valid interval.

Two errors are added: what the steps leave open (a bracket that holds for certain, or an estimate of what is left of
it) and what the probes leave open (the Kolmogorov law for whole curves, the Beta law for single sets).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._estimates import Band, Claim, ErrorParts, Estimate
from slq._quadrature._bounds import beta_interval, kolmogorov_halfwidth
from slq._quadrature._coordinate import Coordinate
from slq._quadrature._measure import Measure

# Masses are known to some roundings, and to the weight of further copies of resolved eigenvalues.
_MASS_NOISE = 1e-9
# The curve's error stays below this share of the certain bracket, or this many times its change since three quarters of
# the steps, on every spectrum tried; but not beyond the outermost nodes, of which so many are taken at either end.
_BRACKET_SHARE, _CHANGES, _END_NODES = 0.1, 1.0, 2


@dataclass(frozen=True, slots=True)
class Question:
    """Of what is asked, and how.

    Attributes
    ----------
    measure : Measure
        The estimated distribution.
    shorter : Measure or None
        The one from three quarters of the steps, to estimate what the steps leave open; None to bound it.
    coordinate : Coordinate
        In which curves are interpolated.
    confidence : float
        Of the interval.
    claim : {"certified", "estimate"}
        What the answer may call itself.
    """

    measure: Measure
    shorter: Measure | None
    coordinate: Coordinate
    confidence: float
    claim: Claim

    def bracket(self, x: Floats) -> tuple[Floats, Floats]:
        """Return bounds, or estimated ones, of the share of the eigenvalues not known at or below ascending x."""
        measure = self.measure
        low, high = measure.bracket(x)
        if self.shorter is None or measure.n_rest == 0:
            return low, high
        curve = measure.cdf(x, self.coordinate)
        unit = measure.n / measure.n_rest
        rest = np.clip(unit * curve - measure.known_up_to(x) / measure.n_rest, low, high)
        change = _CHANGES * unit * np.abs(curve - self.shorter.cdf(x, self.coordinate))
        share = np.where(_between_nodes(measure, x), _BRACKET_SHARE, 1.0)
        down, up = (np.minimum(np.maximum(share * part, change), part) for part in (rest - low, high - rest))
        return rest - down, rest + up


def _between_nodes(measure: Measure, x: Floats) -> npt.NDArray[np.bool_]:
    """Tell which points have two nodes of the rest at either side, for most probes."""
    inside = []
    for probe in measure.probes:
        nodes = probe.nodes[~probe.known]
        below = np.searchsorted(nodes, x, side="right")
        inside.append((below >= _END_NODES) & (below <= nodes.size - _END_NODES))
    return np.asarray(np.mean(inside, axis=0) > 0.5)


def cdf(question: Question, x: Floats) -> Band:
    """Return the distribution function with its simultaneous band, at points in any order."""
    order = np.argsort(x, kind="stable")
    value, low, high = (np.empty_like(x) for _ in range(3))
    value[order], low[order], high[order] = band(question, x[order])
    return Band(x, value, low, high, question.confidence, question.claim)


def band(question: Question, x: Floats) -> tuple[Floats, Floats, Floats]:
    """Return value, low and high of the distribution function at ascending points."""
    measure = question.measure
    n, rest = measure.n, measure.n_rest
    half = kolmogorov_halfwidth(measure.freedom, len(measure.probes), question.confidence)
    lower, upper = question.bracket(x)
    inside_low, inside_high = x < measure.edges[1], x >= measure.edges[0]
    low = np.where(inside_low, np.maximum(lower - half, 0.0), 1.0)
    high = np.where(inside_high, np.minimum(upper + half, 1.0), 0.0)
    low = (measure.known_up_to(x, 1.0) + rest * low) / n
    high = (measure.known_up_to(x, -1.0) + rest * high) / n
    # The true function rises, so its bounds may too.
    low, high = np.maximum.accumulate(low), np.minimum.accumulate(high[::-1])[::-1]
    return np.clip(measure.cdf(x, question.coordinate), low, high), low, high


def quantile(question: Question, q: Floats) -> Band:
    """Return quantiles by inverting the distribution function and its band."""
    if np.any((q <= 0) | (q >= 1)):
        msg = f"`q` must lie strictly between 0 and 1, got {q[(q <= 0) | (q >= 1)][0]:g}. `edges` bounds the extremes."
        raise ValueError(msg)
    points = _fine_points(question)
    value, low, high = band(question, points)
    # The band of the function, read sideways: where its upper curve reaches q the quantile cannot be smaller.
    value_at, high_at = (points[_first_reach(curve, q)] for curve in (value, low))
    low_at = points[np.maximum(_first_reach(high, q) - 1, 0)]  # it may jump anywhere between two points
    low_at, high_at = np.minimum(low_at, value_at), np.maximum(high_at, value_at)
    return Band(q, value_at, low_at, high_at, question.confidence, question.claim)


def count(question: Question, a: float, b: float) -> Estimate:
    """Return the number of eigenvalues in (a, b]."""
    if not a < b:
        msg = f"`a` must be smaller than `b`, got a = {a:g}, b = {b:g}. The interval is (a, b]."
        raise ValueError(msg)
    measure, confidence = question.measure, question.confidence
    ends = np.array([a, b])
    known, rest = measure.known_up_to(ends), measure.n_rest
    curve = measure.cdf(ends, question.coordinate) * measure.n
    value = curve[1] - curve[0]
    sure = max(measure.known_up_to(ends, 1.0)[1] - measure.known_up_to(ends, -1.0)[0], 0.0)
    possible = measure.known_up_to(ends, -1.0)[1] - measure.known_up_to(ends, 1.0)[0]
    lower, upper = question.bracket(ends)
    masses = (
        float(np.clip(lower[1] - upper[0] - _MASS_NOISE, 0, 1)),
        float(np.clip(upper[1] - lower[0] + _MASS_NOISE, 0, 1)),
    )
    shares = beta_interval(*masses, measure.freedom, len(measure.probes), confidence)
    # A count is an integer: an interval of shares holds only the integers inside it.
    low = sure + max(np.ceil(rest * shares[0] - 1e-6), 0.0)
    high = possible + np.floor(rest * shares[1] + 1e-6)
    middle = float(np.clip((value - (known[1] - known[0])) / max(rest, 1), *masses))
    free = beta_interval(middle, middle, measure.freedom, len(measure.probes), confidence)
    parts = ErrorParts(rest * (free[1] - free[0]) / 2, rest * (masses[1] - masses[0]) / 2, (possible - sure) / 2)
    return Estimate(float(np.clip(value, low, high)), float(low), float(high), parts, confidence, question.claim)


def distance(one: Question, two: Question, metric: Literal["wasserstein", "kolmogorov"]) -> Estimate:
    """Return the distance of two estimated distribution functions over the union of their supports."""
    if metric not in ("wasserstein", "kolmogorov"):
        msg = f"`metric` must be 'wasserstein' or 'kolmogorov', got {metric!r}."
        raise ValueError(msg)
    x = np.union1d(_fine_points(one), _fine_points(two))
    curves = [band(question, x) for question in (one, two)]
    brackets = [_without_sampling(question, x) for question in (one, two)]
    value = _norm(np.abs(curves[0][0] - curves[1][0]), x, metric)
    (low, high), (least, most) = (_between(pair, x, metric) for pair in (curves, brackets))
    quadrature = min(most - least, high - low) / 2
    return Estimate(
        value, low, high, ErrorParts((high - low) / 2 - quadrature, quadrature, 0.0), one.confidence, "estimate"
    )


def _without_sampling(question: Question, x: Floats) -> tuple[Floats, Floats, Floats]:
    """Return value, low and high of the distribution function with what the steps leave open only."""
    measure = question.measure
    value, (low, high) = measure.cdf(x, question.coordinate), question.bracket(x)
    shares = [(measure.known_up_to(x) + measure.n_rest * part) / measure.n for part in (low, high)]
    return value, np.minimum(shares[0], value), np.maximum(shares[1], value)


def _between(curves: list[tuple[Floats, Floats, Floats]], x: Floats, metric: str) -> tuple[float, float]:
    """Return the least and the largest distance of two functions that lie in two bands."""
    (_, low_1, high_1), (_, low_2, high_2) = curves
    # Nowhere can the true functions differ by less than the gap between the bands, or by more than their hull.
    least = np.maximum(np.maximum(low_1 - high_2, low_2 - high_1), 0.0)
    most = np.maximum(high_1 - low_2, high_2 - low_1)
    return _norm(least, x, metric), _norm(most, x, metric)


def _norm(difference: Floats, x: Floats, metric: str) -> float:
    return float(np.trapezoid(difference, x)) if metric == "wasserstein" else float(difference.max())


def _fine_points(question: Question, points: int = 4001) -> Floats:
    """Return ascending points over the certified support, with every jump of the distribution function among them."""
    measure, coordinate = question.measure, question.coordinate
    nodes = np.concatenate([p.nodes for p in measure.probes] + [measure.values])
    y = coordinate.forward(np.array([*measure.edges, nodes.min(), nodes.max()]))
    grid = coordinate.inverse(np.linspace(y.min(), y.max(), points))
    jumps = [measure.values - measure.residuals, measure.values, measure.values + measure.residuals]
    before = np.nextafter(nodes, -np.inf)
    return np.unique(np.concatenate([grid, nodes, before, *jumps]))


def _first_reach(curve: Floats, q: Floats) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.minimum(np.searchsorted(np.maximum.accumulate(curve), q), curve.size - 1)
