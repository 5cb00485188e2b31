"""Rules of k probes -> one estimated distribution of the eigenvalues: what is known exactly, and the rest.

Resolved eigenvalues count with their multiplicity. The rest of each probe's measure, normalised, is a Dirichlet sample
of the remaining eigenvalues. Every question (distribution, count, density, trace) is answered from here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from slq._arrays import Floats
from slq._quadrature._bounds import bracket_cdf
from slq._quadrature._coordinate import Coordinate
from slq._quadrature._outliers import Resolved
from slq._quadrature._quadrature import Rule

# A node's mass is spread no further than this many residuals: a converged node is a jump.
_SPREAD = 3.0
# Each half of a node's mass is spread as far as it exceeds the neighbour's mass no more than this many times; what is
# beyond stays at the node. Where masses vary smoothly that is nothing; where most of the spectrum lies near one value,
# as that of a network's Hessian does near zero, it is most, and halves the error of the curve (measured).
_SPREADABLE = 2.0
# A probe sees less than this share of its due of the rest with probability below 1e-3.
_UNSEEN = 1e-6


@dataclass(frozen=True, slots=True)
class ProbeMeasure:
    """What one probe saw.

    Attributes
    ----------
    nodes, weights, residuals : ndarray, shape (m,)
        Its Gauss rule without weightless nodes; residuals include the noise floor.
    noise : float
        The noise floor of eigenvalues.
    known : ndarray of bool, shape (m,)
        Which nodes are resolved eigenvalues of known multiplicity.
    row : int
        Its number in the run.
    """

    nodes: Floats
    weights: Floats
    residuals: Floats
    known: npt.NDArray[np.bool_]
    noise: float
    row: int

    @property
    def rest_mass(self) -> float:
        """Weight of the nodes that are not known."""
        return float(self.weights[~self.known].sum())

    def rest(self) -> tuple[Floats, Floats]:
        """Return nodes and normalised weights of what is not known."""
        return self.nodes[~self.known], self.weights[~self.known] / self.rest_mass


@dataclass(frozen=True, slots=True)
class Measure:
    """The estimated distribution of n eigenvalues.

    Attributes
    ----------
    n : int
        Dimension.
    values : ndarray, shape (r,)
        Resolved eigenvalues of known multiplicity, ascending.
    residuals : ndarray, shape (r,)
        How far off they can be.
    multiplicities : ndarray of int, shape (r,)
        How often each occurs.
    probes : tuple of ProbeMeasure
        One per probe.
    edges : tuple of float
        Certified (low, high).
    copies : int
        Real dimensions that each eigenvalue has in the space of the probes: 2 where the matrix is complex.
    """

    n: int
    values: Floats
    residuals: Floats
    multiplicities: npt.NDArray[np.intp]
    probes: tuple[ProbeMeasure, ...]
    edges: tuple[float, float]
    copies: int = 1

    @property
    def n_rest(self) -> int:
        """Number of eigenvalues that are not known one by one."""
        return self.n - int(self.multiplicities.sum())

    @property
    def freedom(self) -> int:
        """Real dimensions of the space of the eigenvalues that are not known: what the probes' law goes by."""
        return self.copies * self.n_rest

    @property
    def jumps(self) -> float:
        """Share of the eigenvalues that are not known whose distribution is drawn as jumps at the nodes."""
        if self.n_rest == 0:
            return 0.0
        return float(np.mean([1 - sum(side.sum() for side in _spreadable(p.rest()[1])) for p in self.probes]))

    def known_up_to(self, x: Floats, shift: float = 0.0) -> Floats:
        """Return the number of known eigenvalues at or below x, each moved up by `shift` residuals."""
        moved = self.values + shift * self.residuals
        order = np.argsort(moved)
        total = np.append(0, np.cumsum(self.multiplicities[order]))
        return np.asarray(total[np.searchsorted(moved[order], x, side="right")], dtype=np.float64)

    def cdf(self, x: Floats, coordinate: Coordinate) -> Floats:
        """Return the estimated share of eigenvalues at or below x."""
        count = self.known_up_to(x)
        if self.n_rest > 0:
            y = coordinate.forward(x)
            curves = [_curve(p, self.edges, coordinate) for p in self.probes]
            count = count + self.n_rest * np.mean([_evaluate(c, y) for c in curves], axis=0)
        return count / self.n

    def bracket(self, x: Floats) -> tuple[Floats, Floats]:
        """Return certified bounds of the probes' mean distribution function at ascending x, without sampling error.

        The shares are of the eigenvalues that are not known; see `known_up_to` for the others.
        """
        if self.n_rest == 0:
            return np.zeros_like(x), np.zeros_like(x)
        lows, highs = zip(*(_rest_bracket(p, x) for p in self.probes), strict=True)
        inside = (x >= self.edges[0], x < self.edges[1])
        return np.where(inside[1], np.mean(lows, axis=0), 1.0), np.where(inside[0], np.mean(highs, axis=0), 0.0)


def measure_of(
    rule: Rule, resolved: Resolved, n: int, *, edges: tuple[float, float], noise: float, copies: int = 1
) -> tuple[Measure, Resolved]:
    """Combine the rules of k probes with what was resolved; and return of the latter what is not contradicted by it."""
    known = resolved.known
    rest = n - int(resolved.multiplicities.sum())
    probes = [_probe_measure(rule, i, resolved.nodes[known, i], noise) for i in range(len(rule.nodes))]
    # Rademacher probes, and rarely others, can be orthogonal to all that is left: they say nothing about it.
    seeing = tuple(p for p in probes if rest == 0 or p.rest_mass > _UNSEEN * rest / n)
    if not seeing:  # nobody saw what should be left: the multiplicities are wrong
        resolved = replace(resolved, multiplicities=np.zeros_like(resolved.multiplicities))
        return measure_of(rule, resolved, n, edges=edges, noise=noise, copies=copies)
    columns = (resolved.values[known], resolved.residuals[known], resolved.multiplicities[known])
    return Measure(n, *columns, seeing, edges, copies), resolved


def shares_of(measure: Measure, rule: Rule, resolved: Resolved) -> Floats:
    """Return each resolved eigenvalue's share of all n: multiplicity / n where known, else as the probes saw it.

    Shares of unknown multiplicity are parts of what the known eigenvalues leave over.
    """
    left = measure.n_rest / measure.n
    rows = [left * rule.weights[p.row, resolved.nodes[:, p.row]] / max(p.rest_mass, 1e-300) for p in measure.probes]
    return np.where(resolved.known, resolved.multiplicities / measure.n, np.mean(rows, axis=0))


def _probe_measure(rule: Rule, i: int, known: npt.NDArray[np.intp], noise: float) -> ProbeMeasure:
    mask = np.zeros(rule.nodes.shape[1], dtype=bool)
    mask[known[known >= 0]] = True  # a projected probe does not see what was projected out
    alive = rule.weights[i] > 0
    residuals = rule.residuals[i, alive] + noise
    return ProbeMeasure(rule.nodes[i, alive], rule.weights[i, alive], residuals, mask[alive], noise, i)


def cell_widths(y: Floats, spread: Floats) -> tuple[Floats, Floats]:
    """Return how far to the left and right of each node its mass is spread.

    Half the way to the neighbour; across a gap much larger than the other side's, only as far as the other side is
    wide, so that gaps in the spectrum stay empty; and never further than `spread`.
    """
    gaps = np.diff(y)
    if gaps.size == 0:
        return np.minimum(0.0, spread), np.minimum(0.0, spread)
    left, right = np.append(gaps[0], gaps), np.append(gaps, gaps[-1])
    return (np.minimum(np.minimum(left / 2, right), spread), np.minimum(np.minimum(right / 2, left), spread))


@dataclass(frozen=True, slots=True)
class _Curve:
    """A distribution function: knots (y, share) of its smooth part, and jumps."""

    knots: Floats
    shares: Floats
    at: Floats
    jumps: Floats


def _curve(probe: ProbeMeasure, edges: tuple[float, float], coordinate: Coordinate) -> _Curve:
    """Return one probe's distribution function of the rest: half of each node at either side."""
    nodes, weights = probe.rest()
    left, right = _spreadable(weights)
    y = coordinate.forward(nodes)
    spread = _SPREAD * probe.residuals[~probe.known] * coordinate.slope(nodes)
    a, b = cell_widths(y, spread)
    y_low, y_high = coordinate.forward(np.array(edges))
    total = np.append(0.0, np.cumsum(left + right))
    knots = np.stack([np.maximum(y - a, min(y_low, y[0])), y, np.minimum(y + b, max(y_high, y[-1]))], axis=1).ravel()
    shares = np.stack([total[:-1], total[:-1] + left, total[1:]], axis=1).ravel()
    return _Curve(np.maximum.accumulate(knots), shares, y, weights - left - right)


def _spreadable(weights: Floats) -> tuple[Floats, Floats]:
    """Return how much of each node's mass is spread to its left and its right; what is left over is a jump."""
    # Beyond the outermost nodes no neighbour says how masses vary: the one at the other side does.
    around = np.concatenate([weights[1:2], weights, weights[-2:-1]]) if weights.size > 1 else np.repeat(weights, 3)
    return np.minimum(weights / 2, _SPREADABLE * around[:-2]), np.minimum(weights / 2, _SPREADABLE * around[2:])


def _evaluate(curve: _Curve, y: Floats) -> Floats:
    """Interpolate monotonically; at a jump the upper value counts: the function is right-continuous."""
    knots, shares = curve.knots, curve.shares
    jumped = np.append(0.0, np.cumsum(curve.jumps))[np.searchsorted(curve.at, y, side="right")]
    start, span = knots[0], knots[-1] - knots[0]
    if span == 0:
        return np.where(y >= start, 1.0, 0.0)
    # In units of the span: slopes between eigenvalues near 1e-300 would overflow.
    unit, at = (knots - start) / span, (y - start) / span
    if np.all(np.diff(unit) > 0):
        inner = PchipInterpolator(unit, shares, extrapolate=False)(at)
    else:
        inner = np.interp(at, unit, shares)
    smooth = np.where(y < start, 0.0, np.where(y >= knots[-1], shares[-1], np.nan_to_num(inner)))
    return np.where(y >= knots[-1], 1.0, smooth + jumped)


def _rest_bracket(probe: ProbeMeasure, x: Floats) -> tuple[Floats, Floats]:
    """Bounds of one probe's distribution function of the rest: the bracket of all, less the known mass."""
    low, high = bracket_cdf(x, probe.nodes, probe.weights, probe.residuals, probe.noise)
    known_mass = np.append(0.0, np.cumsum(probe.weights[probe.known]))
    known_below = known_mass[np.searchsorted(probe.nodes[probe.known], x, side="right")]
    return (np.clip((low - known_below) / probe.rest_mass, 0, 1), np.clip((high - known_below) / probe.rest_mass, 0, 1))
