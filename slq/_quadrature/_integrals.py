"""tr f(A) from a run: the value, a bracket by rules with prescribed nodes, and the law of the sampling error.

Where the signs of f's high derivatives are known, Gauss, Gauss-Radau and Gauss-Lobatto rules bound each probe's
v^T f(A) v from both sides (Golub & Meurant 2010, theorems 6.3 to 6.5); for any other f the quadrature error is
extrapolated and the result is called an estimate. The sampling part uses the known law of sphere probes, so one probe
has an interval too. What exact traces of A explain of f is not sampled; see `_controls`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from slq._arrays import Floats
from slq._errors import DomainError
from slq._estimates import Claim, ErrorParts, Estimate
from slq._lanczos._probes import Kind
from slq._quadrature._bounds import spread
from slq._quadrature._controls import controls_of, exact_quadratic
from slq._quadrature._integrands import Function, Integrand
from slq._quadrature._measure import Measure
from slq._quadrature._rules import Nodes, Rules

# Where nothing is certain anyway, the quadrature error is taken for twice its change since three quarters of the steps,
# and for at least this share of the bracket: steps that miss a peak at an end change little, but leave much open.
_BRACKET_SHARE = 0.05
# The share where eigenvalues may lie at the end of the function's domain: there it changes slowly and much.
_OPEN_SHARE = 0.15
# From so many Rademacher probes on, their own scatter is used; fewer fall back on the sphere law, an upper bound.
PROBES_FOR_STUDENT = 8


@dataclass(frozen=True, slots=True)
class Sampling:
    """What is known of the random part of a run.

    Attributes
    ----------
    kind : {"sphere", "rademacher"}
        Law of the probes.
    noise : float
        Absolute noise floor of eigenvalues.
    confidence : float
        Of the interval.
    certified : bool
        Whether the run's coefficients are trusted to rounding.
    """

    kind: Kind
    noise: float
    confidence: float
    certified: bool


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


# What overflows at a node is told; at an edge that few steps leave far away it only widens the interval.
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def trace_estimate(rules: Rules, integrand: Integrand, sampling: Sampling, *, lower: float | None = None) -> Estimate:
    """Return tr f(A) with its interval.

    Parameters
    ----------
    rules : Rules
        Of the run.
    integrand : Integrand
        The function.
    sampling : Sampling
        Of the run.
    lower : float, optional
        A bound below all eigenvalues that the caller knows.
    """
    measure = rules.measure
    require_domain(measure, integrand, sampling.noise)
    _require_finite(measure, integrand)
    _require_lower(measure, sampling.noise, lower)
    if whole := exact_quadratic(rules, integrand):
        return whole.estimate(sampling.confidence)
    controls = controls_of(rules)
    control = controls.fit(integrand.f) if controls else None
    if control is None:
        return _sampled(rules, integrand, sampling, lower)
    return control.added_to(_sampled(rules, control.rest(integrand), sampling, lower))


def _sampled(rules: Rules, integrand: Integrand, sampling: Sampling, lower: float | None) -> Estimate:
    """Return tr f(A) from what the probes saw, and nothing else."""
    measure = rules.measure
    known = float(np.sum(measure.multiplicities * integrand.f(measure.values)))
    slack = numeric_error(measure, integrand, sampling.noise)
    if measure.n_rest == 0:
        parts = ErrorParts(0.0, 0.0, slack)
        claim: Claim = "certified" if sampling.certified else "estimate"
        return Estimate(known, known - slack, known + slack, parts, sampling.confidence, claim)
    bracketed = integrand.bracketed(rules.steps)
    under, gauss, over = _three_rules(rules, integrand, lower, bracketed=bracketed)
    size = measure.n_rest
    if bracketed and not sampling.certified and integrand.degree < 0:
        under, over = _likely(rules, integrand, under, gauss, over)
    below, _ = sampling_error(under, measure.freedom, sampling)
    _, above = sampling_error(over, measure.freedom, sampling)
    value = known + size * float(np.clip(gauss.mean, under.mean, over.mean))
    low, high = known + size * (under.mean - below) - slack, known + size * (over.mean + above) + slack
    # The probes' scatter is told by the Gauss rule: rules with a node at the edge weigh the edge too much.
    scatter = sum(sampling_error(gauss, measure.freedom, sampling))
    quadrature = size * max(over.mean - under.mean + (below + above - scatter), 0.0) / 2
    parts = ErrorParts(size * (over.mean - under.mean + below + above) / 2 - quadrature, quadrature, slack)
    claim = "certified" if sampling.certified and bracketed else "estimate"
    return Estimate(value, low, high, parts, sampling.confidence, claim)


def _likely(
    rules: Rules, integrand: Integrand, under: Moments, gauss: Moments, over: Moments
) -> tuple[Moments, Moments]:
    """Estimate how much of a bracket is not ruled out, by what the last quarter of the steps changed."""
    changed = _extrapolated(rules, integrand)[2].mean - gauss.mean
    share = _BRACKET_SHARE if rules.measure.edges[0] > integrand.above else _OPEN_SHARE
    down, up = (min(gap, max(changed, share * gap)) for gap in (gauss.mean - under.mean, over.mean - gauss.mean))
    return replace(gauss, means=gauss.means - down), replace(gauss, means=gauss.means + up)


def left_end(measure: Measure, integrand: Integrand, lower: float | None) -> float:
    """Return where the spectrum begins: its certified edge, what the caller knows, or where the function's domain does.

    A matrix stored in float64 does not determine eigenvalues closer to an open end, such as that of log, than a
    rounding of its norm; it is taken to have none there.
    """
    edge = measure.edges[0] if lower is None else max(measure.edges[0], lower)
    if integrand.closed or not np.isfinite(integrand.above):
        return max(edge, integrand.above)
    size = max(abs(end - integrand.above) for end in measure.edges)
    return max(edge, integrand.above + np.finfo(np.float64).eps * size)


def _three_rules(
    rules: Rules, integrand: Integrand, known_lower: float | None, *, bracketed: bool
) -> tuple[Moments, Moments, Moments]:
    """Return moments by a rule from below, the Gauss rule, and a rule from above."""
    measure, gauss = rules.measure, rules.gauss
    if not bracketed:
        return _extrapolated(rules, integrand)
    right = rules.radau(measure.edges[1])
    if integrand.degree >= 0:
        # The variance is the integral of a square: it needs twice the degree, and Radau rules reach one further.
        moments = moments_of(measure, gauss if integrand.degree < rules.steps else right, integrand.f)
        return moments, moments, moments
    start = left_end(measure, integrand, known_lower)
    made = {"gauss": gauss, "left": rules.radau(start), "right": right, "both": rules.lobatto(start, measure.edges[1])}
    with np.errstate(over="ignore", invalid="ignore"):  # at edges that few steps leave far away
        found = {name: moments_of(measure, rule, integrand.f) for name, rule in made.items()}
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


def _extrapolated(rules: Rules, integrand: Integrand) -> tuple[Moments, Moments, Moments]:
    """Judge the quadrature error by twice the change from three quarters of the steps."""
    here = moments_of(rules.measure, rules.gauss, integrand.f)
    masses = [p.rest_mass for p in rules.measure.probes]
    plain = [
        w @ integrand.f(x) - v @ integrand.f(y) for (x, w), (y, v) in zip(rules.gauss, rules.shorter(), strict=True)
    ]
    change = 2 * abs(float(np.mean(np.array(plain) / masses)))
    return replace(here, means=here.means - change), here, replace(here, means=here.means + change)


def moments_of(measure: Measure, rules: Nodes, f: Function) -> Moments:
    """Return the moments of f over the rest: each rule's integral less what the known eigenvalues contribute.

    The rest is normalised per probe: a sphere probe's is then a Dirichlet sample of its own, and a Rademacher probe's
    loses the scatter of its mass for a bias of order 1 / n.
    """
    means, raws = [], []
    for probe, (nodes, weights) in zip(measure.probes, rules, strict=True):
        known_weights, known_values = probe.weights[probe.known], f(probe.nodes[probe.known])
        values, mass = f(nodes), probe.rest_mass
        # Known eigenvalues are nodes of every rule, and converged ones have copies that share their weight: leave them
        # out where they are, subtract them where they moved.
        near = np.abs(nodes[:, None] - probe.nodes[probe.known]) <= 2 * probe.residuals[probe.known]
        same, weights = near.any(axis=0), np.where(near.any(axis=1), 0.0, weights)
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


def sampling_error(moments: Moments, n: int, sampling: Sampling) -> tuple[float, float]:
    """Return the half-widths below and above for the mean of f over eigenvalues with n real dimensions.

    One sphere probe has variance 2 Var(f) / (n + 2), with Var over the eigenvalues. Var is itself an estimate: its
    scatter gives the degrees of freedom k n / (kurtosis - 1) of a Student law, and its correlation with the mean (both
    grow when a large f is over-represented) shifts the interval by the second term of the Edgeworth expansion of the
    studentised mean, g c (z**2 + 2) / 6 standard errors with skewness g and c**2 = 2 / (k (n + 2)).
    """
    k, confidence = len(moments.means), sampling.confidence
    if sampling.kind == "rademacher" and k >= PROBES_FOR_STUDENT:
        half = float(stdtrit(k - 1, (1 + confidence) / 2) * spread(moments.means) / np.sqrt(k))
        return half, half
    if moments.deviation == 0:
        return 0.0, 0.0
    c = np.sqrt(2 / (k * (n + 2)))
    freedom = k * n / max(moments.kurtosis - 1, 1e-12)
    z = float(stdtrit(max(freedom, 1.0), (1 + confidence) / 2))
    standard_error = c * moments.deviation
    shift = float(np.clip(moments.skewness * c * (z**2 + 2) / 6, -z / 2, z / 2))
    return float(standard_error * (z - shift)), float(standard_error * (z + shift))


def numeric_error(measure: Measure, integrand: Integrand, noise: float) -> float:
    """Return n times the mean change of f when every node moves by the noise floor."""
    total = float(np.sum(measure.multiplicities * _change(integrand, measure.values, _spread(measure, noise))))
    if measure.n_rest > 0:
        rests = [probe.rest() for probe in measure.probes]
        total += measure.n_rest * float(np.mean([w @ _change(integrand, x, noise) for x, w in rests]))
    return total


def _spread(measure: Measure, noise: float) -> Floats:
    """Return how far off known eigenvalues can be: their residual, or its square over the gap (Kato 1949).

    The gap is that to the nearest other node, halved, since few steps leave open where the others end.
    """
    values, residuals = measure.values, measure.residuals
    nodes = [probe.rest()[0] for probe in measure.probes] if measure.n_rest else []
    gaps = np.full(len(values), np.inf)
    for i, value in enumerate(values):
        others = np.concatenate([np.delete(values, i), *nodes])
        gaps[i] = np.min(np.abs(others - value), initial=np.inf) / 2
    near = gaps <= 2 * residuals
    with np.errstate(invalid="ignore"):
        squares = residuals * (residuals / np.where(near, 1.0, gaps))
    return np.where(near, residuals, np.maximum(squares, np.minimum(residuals, noise)))


def _change(integrand: Integrand, x: Floats, noise: Floats | float) -> Floats:
    open_end = np.isfinite(integrand.above) and not integrand.closed
    # What may lie at an open end or beyond is not known at all.
    near = np.maximum(x - noise, integrand.above) if open_end else x - noise
    changes = (np.abs(integrand.f(y) - integrand.f(x)) for y in (x + noise, near))
    return np.asarray(np.maximum(*changes))


def require_domain(measure: Measure, integrand: Integrand, noise: float) -> None:
    """Refuse a function that is certainly undefined somewhere on the spectrum."""
    smallest = min(float(p.nodes[0]) for p in measure.probes)
    if smallest > integrand.above + (-noise if integrand.closed else noise):
        return
    edge, parameter = measure.edges[0], integrand.parameter
    needs = f"eigenvalues above {integrand.above:.6g}"
    if integrand.above == 0:
        needs = "a positive semidefinite A" if integrand.closed else "a positive definite A"
    suggestion = max(-2 * edge, 2 * noise) or 1.0
    msg = (
        f"`{integrand.name}` needs {needs}, but the smallest eigenvalue is at most {smallest:.6g} (certain, to "
        f"rounding) and at least {edge:.6g}. Take `{parameter}` above {-edge:.3g}, for example "
        f"{parameter}={suggestion:.2g}, or check the sign of A."
    )
    raise DomainError(msg)


def _require_finite(measure: Measure, integrand: Integrand) -> None:
    """Refuse a function whose values at nodes are beyond the largest float64."""
    for probe in measure.probes:
        x = probe.nodes[(probe.weights > 0) & (probe.nodes > integrand.above)]
        beyond = np.isinf(integrand.f(x))
        if beyond.any():
            msg = (
                f"`{integrand.name}` overflows float64 at {x[beyond][0]:.6g}, which lies between the smallest and the "
                "largest eigenvalue. Ask for the spectrum of A / c, or for a logarithm, such as `log_sum_exp`."
            )
            raise DomainError(msg)


def _require_lower(measure: Measure, noise: float, lower: float | None) -> None:
    smallest = min(float(p.nodes[0]) for p in measure.probes)
    if lower is not None and lower > smallest + noise:
        msg = f"`lower` = {lower:g} is no lower bound: an eigenvalue is at most {smallest:.6g} (certain, to rounding)."
        raise DomainError(msg)
