"""tr f(A) from a run: the value, a bracket by rules with prescribed nodes, and the law of the sampling error.

Where the signs of f's high derivatives are known, Gauss, Gauss-Radau and Gauss-Lobatto rules bound each probe's
v^T f(A) v from both sides (Golub & Meurant 2010, theorems 6.3 to 6.5); for any other f the quadrature error is
extrapolated and the result is called an estimate. The sampling part uses the known law of sphere probes, so one probe
has an interval too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from slq._arrays import Floats
from slq._errors import DomainError
from slq._estimates import Claim, ErrorParts, Estimate
from slq._integrands import Function, Integrand
from slq._lanczos import Tridiagonal
from slq._measure import Measure
from slq._probes import Kind
from slq._quadrature import eigen_tridiagonal, lobatto, radau

# From so many Rademacher probes on, their own scatter is used; fewer fall back on the sphere law, an upper bound.
_PROBES_FOR_STUDENT = 8


@dataclass(frozen=True, slots=True)
class Moments:
    """What f does over the eigenvalues that are not known, by one rule per probe; the last two have no unit."""

    means: Floats
    deviation: float
    skewness: float
    kurtosis: float

    @property
    def mean(self) -> float:
        """Mean over the probes."""
        return float(self.means.mean())


def trace_estimate(
    measure: Measure,
    T: Tridiagonal,
    integrand: Integrand,
    *,
    kind: Kind,
    noise: float,
    confidence: float,
    certified: bool,
    lower: float | None = None,
) -> Estimate:
    """Return tr f(A) with its interval.

    Parameters
    ----------
    measure : Measure
        What is known and what each probe saw of the rest.
    T : Tridiagonal
        The run's coefficients, for rules with prescribed nodes.
    integrand : Integrand
        The function.
    kind : {"sphere", "rademacher"}
        Law of the probes.
    noise : float
        Absolute noise floor of eigenvalues.
    confidence : float
        Of the interval.
    certified : bool
        Whether the run's coefficients are trusted to rounding.
    lower : float, optional
        A bound below all eigenvalues that the caller knows.
    """
    _require_domain(measure, integrand, noise, lower)
    known = float(np.sum(measure.multiplicities * integrand.f(measure.values)))
    slack = _numeric(measure, integrand, noise)
    if measure.n_rest == 0:
        return Estimate(
            known,
            known - slack,
            known + slack,
            ErrorParts(0.0, 0.0, slack),
            confidence,
            "certified" if certified else "estimate",
        )
    bracketed = integrand.bracketed(min(int(T.lengths[p.row]) for p in measure.probes))
    under, gauss, over = _three_rules(measure, T, integrand, lower, bracketed=bracketed)
    below, _ = _sampling(under, measure.n_rest, kind, confidence)
    _, above = _sampling(over, measure.n_rest, kind, confidence)
    size = measure.n_rest
    value = known + size * float(np.clip(gauss.mean, under.mean, over.mean))
    low, high = known + size * (under.mean - below) - slack, known + size * (over.mean + above) + slack
    # The probes' scatter is told by the Gauss rule: rules with a node at the edge weigh the edge too much.
    scatter = sum(_sampling(gauss, size, kind, confidence))
    quadrature = size * max(over.mean - under.mean + (below + above - scatter), 0.0) / 2
    sampling = size * (over.mean - under.mean + below + above) / 2 - quadrature
    parts = ErrorParts(sampling, quadrature, slack)
    claim: Claim = "certified" if certified and bracketed else "estimate"
    return Estimate(value, low, high, parts, confidence, claim)


def left_end(measure: Measure, integrand: Integrand, lower: float | None) -> float:
    """Return where the spectrum begins: its certified edge or what the caller knows, and for log and its like rounding.

    A matrix stored in float64 does not determine eigenvalues below a rounding of its norm; a positive definite one
    is taken to have none there.
    """
    edge = measure.edges[0] if lower is None else max(measure.edges[0], lower)
    if not integrand.positive:
        return edge
    return max(edge, np.finfo(np.float64).eps * max(abs(measure.edges[0]), abs(measure.edges[1])))


def _three_rules(
    measure: Measure, T: Tridiagonal, integrand: Integrand, known_lower: float | None, *, bracketed: bool
) -> tuple[Moments, Moments, Moments]:
    """Return moments by a rule from below, the Gauss rule, and a rule from above."""
    gauss = [(p.nodes, p.weights) for p in measure.probes]
    if not bracketed:
        return _extrapolated(measure, T, integrand, gauss)
    right = _radau_rules(measure, T, measure.edges[1])
    if integrand.degree >= 0:
        # The variance is the integral of a square: it needs twice the degree, and Radau rules reach one further.
        enough = integrand.degree < min(T.lengths[p.row] for p in measure.probes)
        moments = _moments(measure, gauss if enough else right, integrand.f)
        return moments, moments, moments
    start = left_end(measure, integrand, known_lower)
    rules = {
        "gauss": gauss,
        "left": _radau_rules(measure, T, start),
        "right": right,
        "both": _lobatto_rules(measure, T, start, measure.edges[1]),
    }
    with np.errstate(over="ignore", invalid="ignore"):  # at edges that few steps leave far away
        found = {name: _moments(measure, rule, integrand.f) for name, rule in rules.items()}
    # 1: from below, -1: from above.
    sides = {"gauss": integrand.even, "left": integrand.odd, "right": -integrand.odd, "both": -integrand.even}
    nothing = Moments(np.full(len(gauss), np.inf), 0.0, 0.0, 1.0)
    below = [found[name] for name, side in sides.items() if side > 0 and np.isfinite(found[name].deviation)]
    above = [found[name] for name, side in sides.items() if side < 0 and np.isfinite(found[name].deviation)]
    return (
        max(below, key=lambda m: m.mean, default=replace(nothing, means=-nothing.means)),
        found["gauss"],
        min(above, key=lambda m: m.mean, default=nothing),
    )


def _radau_rules(measure: Measure, T: Tridiagonal, node: float) -> list[tuple[Floats, Floats]]:
    """Return each probe's Radau rule with a node beyond its Ritz values; the Gauss rule where it is exact."""
    rules = []
    for probe in measure.probes:
        i, m = probe.row, T.lengths[probe.row]
        below, first, last = node < 0.5 * (probe.nodes[0] + probe.nodes[-1]), probe.nodes[0], probe.nodes[-1]
        outside = min(node, first) if below else max(node, last)
        if T.beta[i, m - 1] == 0 or outside in (first, last):
            rules.append((probe.nodes, probe.weights))
        else:
            rules.append(radau(T.alpha[i, :m], T.beta[i, :m], outside))
    return rules


def _lobatto_rules(measure: Measure, T: Tridiagonal, low: float, high: float) -> list[tuple[Floats, Floats]]:
    """Return each probe's Lobatto rule with nodes beyond its Ritz values; the Gauss rule where it is exact."""
    rules = []
    for probe in measure.probes:
        i, m = probe.row, T.lengths[probe.row]
        ends = min(low, probe.nodes[0]), max(high, probe.nodes[-1])
        if T.beta[i, m - 1] == 0 or ends[0] == probe.nodes[0] or ends[1] == probe.nodes[-1]:
            rules.append((probe.nodes, probe.weights))
        else:
            rules.append(lobatto(T.alpha[i, :m], T.beta[i, :m], *ends))
    return rules


def _extrapolated(
    measure: Measure, T: Tridiagonal, integrand: Integrand, gauss: list[tuple[Floats, Floats]]
) -> tuple[Moments, Moments, Moments]:
    """Judge the quadrature error by twice the change from three quarters of the steps."""
    here = _moments(measure, gauss, integrand.f)
    shorter = []
    for i in (probe.row for probe in measure.probes):
        m = T.lengths[i]
        short = m if T.beta[i, m - 1] == 0 else max(1, (3 * m) // 4)
        theta, vectors = eigen_tridiagonal(T.alpha[i, :short], T.beta[i, : short - 1])
        shorter.append((theta, vectors[0] ** 2))
    plain = np.array([w @ integrand.f(x) for x, w in gauss]) - np.array([w @ integrand.f(x) for x, w in shorter])
    change = 2 * abs(float(np.mean(plain / [p.rest_mass for p in measure.probes])))
    return replace(here, means=here.means - change), here, replace(here, means=here.means + change)


def _moments(measure: Measure, rules: list[tuple[Floats, Floats]], f: Function) -> Moments:
    """Return the moments of f over the rest: each rule's integral less what the known eigenvalues contribute.

    The rest is normalised per probe: a sphere probe's is then a Dirichlet sample of its own, and a Rademacher probe's
    loses the scatter of its mass for a bias of order 1 / n.
    """
    means, raws = [], []
    for probe, (nodes, weights) in zip(measure.probes, rules, strict=True):
        known_weights, known_values = probe.weights[probe.known], f(probe.nodes[probe.known])
        values, mass = f(nodes), probe.rest_mass
        # Known eigenvalues are nodes of every rule: leave them out where they are, subtract them where they moved.
        nearest = (
            np.abs(nodes[:, None] - probe.nodes[probe.known]).argmin(axis=0) if probe.known.any() else np.zeros(0, int)
        )
        same = np.abs(nodes[nearest] - probe.nodes[probe.known]) <= 2 * probe.residuals[probe.known]
        weights = weights.copy()
        weights[nearest[same]] = 0.0
        known_weights, known_values = known_weights[~same], known_values[~same]
        means.append((weights @ values - known_weights @ known_values) / mass)
        raws.append((values, weights / mass, known_values, known_weights / mass))
    centre = float(np.mean(means))
    if not np.isfinite(centre):
        return Moments(np.array(means), np.inf, 0.0, 1.0)
    # In units of the largest deviation, whose fourth power always has room.
    unit = max(float(np.max(np.abs(v - centre)[w > 0], initial=0.0)) for v, w, _, _ in raws) or 1.0

    def central(power: int) -> float:
        total = [w @ ((v - centre) / unit) ** power - kw @ ((kv - centre) / unit) ** power for v, w, kv, kw in raws]
        return float(np.mean(total))

    variance = max(central(2), 0.0)
    if variance <= np.finfo(np.float64).eps ** 2 or unit <= 8 * np.finfo(np.float64).eps * abs(centre):
        return Moments(np.array(means), 0.0, 0.0, 1.0)
    kurtosis = max(central(4) / variance**2, 1.0)
    return Moments(np.array(means), unit * np.sqrt(variance), central(3) / variance**1.5, kurtosis)


def _sampling(moments: Moments, n: int, kind: Kind, confidence: float) -> tuple[float, float]:
    """Return the half-widths below and above for the mean of f over n eigenvalues.

    One sphere probe has variance 2 Var(f) / (n + 2), with Var over the eigenvalues. Var is itself an estimate: its
    scatter gives the degrees of freedom k n / (kurtosis - 1) of a Student law, and its correlation with the mean (both
    grow when a large f is over-represented) shifts the interval by the second term of the Edgeworth expansion of the
    studentised mean, g c (z**2 + 2) / 6 standard errors with skewness g and c**2 = 2 / (k (n + 2)).
    """
    k = len(moments.means)
    if kind == "rademacher" and k >= _PROBES_FOR_STUDENT:
        half = float(stdtrit(k - 1, (1 + confidence) / 2) * moments.means.std(ddof=1) / np.sqrt(k))
        return half, half
    if moments.deviation == 0:
        return 0.0, 0.0
    c = np.sqrt(2 / (k * (n + 2)))
    freedom = k * n / max(moments.kurtosis - 1, 1e-12)
    z = float(stdtrit(max(freedom, 1.0), (1 + confidence) / 2))
    standard_error = c * moments.deviation
    shift = float(np.clip(moments.skewness * c * (z**2 + 2) / 6, -z / 2, z / 2))
    return float(standard_error * (z - shift)), float(standard_error * (z + shift))


def _numeric(measure: Measure, integrand: Integrand, noise: float) -> float:
    """Return n times the mean change of f when every node moves by the noise floor."""
    total = float(np.sum(measure.multiplicities * _change(integrand, measure.values, measure.residuals)))
    if measure.n_rest > 0:
        rests = [probe.rest() for probe in measure.probes]
        total += measure.n_rest * float(np.mean([w @ _change(integrand, x, noise) for x, w in rests]))
    return total


def _change(integrand: Integrand, x: Floats, noise: Floats | float) -> Floats:
    near = np.maximum(x - noise, x / 2) if integrand.positive else x - noise
    return np.asarray(
        np.maximum(np.abs(integrand.f(x + noise) - integrand.f(x)), np.abs(integrand.f(near) - integrand.f(x)))
    )


def _require_domain(measure: Measure, integrand: Integrand, noise: float, lower: float | None) -> None:
    smallest = min(float(p.nodes[0]) for p in measure.probes)
    if lower is not None and lower > smallest + noise:
        msg = f"`lower` = {lower:g} is no lower bound: an eigenvalue is at most {smallest:.6g} (certain, to rounding)."
        raise DomainError(msg)
    if integrand.positive and smallest <= noise:
        suggestion = max(-2 * measure.edges[0], 2 * noise) or 1.0
        msg = (
            f"`{integrand.name}` needs a positive definite A, but the smallest eigenvalue is at most {smallest:.6g} "
            f"(certain, to rounding) and at least {measure.edges[0]:.6g}. Ask for A + shift * I with `shift=` above "
            f"{-measure.edges[0]:.3g}, for example shift={suggestion:.2g}, or check the sign of A."
        )
        raise DomainError(msg)
