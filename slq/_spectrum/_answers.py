"""What the questions to a Spectrum share: its rules and probes, answers over a grid, monotone functions of an answer.

The questions themselves are in `_questions` (traces and norms), `_thermal` (exponentials, ensembles) and `_extremes`
(edges and counts).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._estimates import Band, Claim, ErrorParts, Estimate
from slq._quadrature._integrals import PROBES_FOR_STUDENT, Sampling, trace_estimate
from slq._quadrature._integrands import Integrand
from slq._quadrature._joint import Combination, joint_estimate
from slq._quadrature._rules import Rules

if TYPE_CHECKING:
    from slq._spectrum._spectrum import Spectrum

Ask = Callable[[float, float], Estimate]


def rules_of(spectrum: Spectrum) -> Rules:
    """Return the rules of the probes that traces are estimated from."""
    measure = spectrum._measure
    if signs_alone(spectrum):  # the first, a sphere probe, is there for the edges
        measure = replace(measure, probes=tuple(p for p in measure.probes if p.row > 0))
    return Rules(measure, spectrum._tridiagonal, spectrum.traces, spectrum.assumes_simple)


def signs_alone(spectrum: Spectrum) -> bool:
    """Whether Rademacher probes are many enough to tell their scatter; fewer are judged, all of them, by the sphere's.

    That law is an upper bound for them.
    """
    return spectrum.kind == "rademacher" and sum(p.row > 0 for p in spectrum._measure.probes) >= PROBES_FOR_STUDENT


def sampling_of(spectrum: Spectrum, confidence: float) -> Sampling:
    """Return what is known of the random part of the run, at a confidence."""
    return Sampling("rademacher" if signs_alone(spectrum) else "sphere", spectrum.noise, confidence, spectrum.certified)


def integral(spectrum: Spectrum, integrand: Integrand, *, lower: float | None = None) -> Estimate:
    """Return the trace of one function."""
    return trace_estimate(rules_of(spectrum), integrand, sampling_of(spectrum, spectrum.confidence), lower=lower)


def joint(spectrum: Spectrum, combination: Combination) -> Estimate:
    """Return a function of several traces."""
    return joint_estimate(rules_of(spectrum), combination, sampling_of(spectrum, spectrum.confidence))


def over(grid: npt.ArrayLike, name: str, confidence: float, ask: Ask) -> Estimate | Band:
    """Answer at one point with an Estimate, at an array of points with a Band that holds at all of them at once.

    `ask` takes a point and a confidence; the risks of all points together are those of one (Bonferroni).
    """
    points = np.array(grid, dtype=np.float64)
    if points.ndim > 1 or points.size == 0 or not np.isfinite(points).all():
        msg = f"`{name}` must be a finite number or a one-dimensional array of them, got {grid!r}."
        raise ValueError(msg)
    if points.ndim == 0:
        return ask(float(points), confidence)
    found = [ask(float(point), 1 - (1 - confidence) / points.size) for point in points]
    value, low, high = (np.array([getattr(e, part) for e in found]) for part in ("value", "low", "high"))
    claim: Claim = "certified" if all(e.claim == "certified" for e in found) else "estimate"
    return Band(points, value, low, high, confidence, claim)


def transformed(estimate: Estimate, g: Callable[[Floats], Floats]) -> Estimate:
    """Return a monotone function of an estimate; error parts keep their proportions."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = g(np.array([estimate.value, estimate.low, estimate.high]))
    value, low, high = float(ends[0]), float(min(ends[1:])), float(max(ends[1:]))
    width = estimate.high - estimate.low
    slope = (high - low) / width if 0 < width < np.inf else float(width > 0)
    shares = (getattr(estimate.error, name) for name in ("sampling", "quadrature", "numeric"))
    parts = [slope * share if share else 0.0 for share in shares]
    return replace(estimate, value=value, low=low, high=high, error=ErrorParts(*parts))
