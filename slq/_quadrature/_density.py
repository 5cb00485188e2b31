"""Spectrum -> density: a kernel whose width follows the local spacing of the nodes.

A fixed kernel wide enough for one part of a spectrum erases another. Here each node's Gaussian is as wide as its
surroundings are resolved, in the coordinate of the picture; eigenvalues that stand alone are left out of the curve and
returned as stems with their multiplicities. No product is spent: the nodes stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from slq._arrays import Floats
from slq._estimates import Claim
from slq._quadrature._coordinate import Coordinate
from slq._quadrature._measure import Measure, ProbeMeasure, cell_widths

# Kernel width as a share of the local spacing: a comb of Gaussians 0.75 spacings wide ripples by 2 exp(-2 pi^2 0.75^2),
# 3e-5; and no wider than three residuals, the distance within which the eigenvalues are.
_SPACING_SHARE = 0.75
_RESIDUALS = 3.0
# A Gaussian is drawn as far as this many standard deviations: beyond is less than a hundredth of a per cent.
_TAIL = 4.0
# Curves over less than this have heights near the largest float64.
_LEAST = 1e-290


@dataclass(frozen=True, slots=True)
class Stems:
    """Eigenvalues that are drawn as stems and left out of the curve: values, shares and distances to other nodes."""

    values: Floats
    shares: Floats
    gaps: Floats


@dataclass(frozen=True, slots=True)
class Density:
    """The smoothed density of eigenvalues, normalised so that curve and stems together have mass one.

    Attributes
    ----------
    x : ndarray, shape (points,)
        Eigenvalues at which the curve is given.
    value : ndarray, shape (points,)
        Share of the eigenvalues per unit of the coordinate: of x when `scale` is "linear", of asinh(x / unit) else.
    low, high : ndarray, shape (points,)
        Band at each point: sampling error by the law of the probes, and the change since three quarters of the steps.
    width : ndarray, shape (points,)
        Local kernel width (standard deviation), in units of x.
    resolution : ndarray, shape (points,)
        Distance of neighbouring nodes, in units of x: structure finer than this is not resolved.
    stems : ndarray, shape (r, 2)
        Eigenvalues that stand alone and the share of each, multiplicity / n.
    scale : {"linear", "asinh", "log"}
        The coordinate; "log" is ln x of magnitudes x.
    unit : float
        The s of asinh(x / s); 1 for the linear scale.
    confidence : float
        Of the band, at each point by itself.
    claim : {"certified", "estimate"}
        A smoothed curve is always an estimate.
    """

    x: Floats
    value: Floats
    low: Floats
    high: Floats
    width: Floats
    resolution: Floats
    stems: Floats
    scale: str
    unit: float
    confidence: float
    claim: Claim


def density_of(
    measure: Measure,
    shorter: Measure,
    coordinate: Coordinate,
    x: Floats,
    *,
    stems: Stems,
    width: float | None,
    confidence: float,
) -> Density:
    """Return the density at ascending points.

    Parameters
    ----------
    measure, shorter : Measure
        From all steps and from three quarters of them.
    coordinate : Coordinate
        In which to smooth.
    x : ndarray, shape (points,)
        Points.
    stems : Stems
        What to leave out of the curve.
    width : float, optional
        A fixed kernel width in the coordinate, instead of the adaptive one.
    confidence : float
        Of the band.
    """
    y = coordinate.forward(x)
    pixel = float(np.median(np.diff(y))) if y.size > 1 else 0.0
    require_span(y)
    value, deviation, sigma = _curve(measure, coordinate, y, stems, width, pixel)
    before, _, _ = _curve(shorter, coordinate, y, stems, width, pixel)
    sampling = ndtri((1 + confidence) / 2) * deviation
    half = sampling + np.abs(value - before)
    slope = coordinate.slope(x)
    return Density(
        x,
        value,
        np.maximum(value - half, 0.0),
        value + half,
        sigma / slope,
        resolution(measure, x),
        np.stack([stems.values, stems.shares], axis=1),
        coordinate.scale,
        coordinate.unit,
        confidence,
        "estimate",
    )


def require_span(y: Floats) -> None:
    """Refuse points so near to each other that a density per unit of their coordinate overflows."""
    span = float(np.ptp(y))
    if 0 < span < _LEAST:
        msg = (
            f"a density per unit of x overflows where the eigenvalues span {span:.3g}. Ask for that of A / c with c of "
            "the size of A."
        )
        raise ValueError(msg)


def grid(measure: Measure, coordinate: Coordinate, stems: Stems, width: float | None, points: int = 1000) -> Floats:
    """Return points over all of the curve and the stems, evenly spaced in the coordinate."""
    nodes = np.concatenate([p.nodes for p in measure.probes] + [stems.values])
    y = coordinate.forward(np.array([nodes.min(), nodes.max()]))
    margin = 0.05 * (y[1] - y[0]) or max(abs(y[0]), 1.0)
    low, high = y[0] - margin, y[1] + margin
    for probe in measure.probes:
        centres, _, sigma = _kernels(probe, measure, coordinate, stems, width, 0.0)
        low, high = (
            min(low, np.min(centres - _TAIL * sigma, initial=low)),
            max(high, np.max(centres + _TAIL * sigma, initial=high)),
        )
    return coordinate.inverse(np.linspace(low, high, points))


def resolution(measure: Measure, x: Floats) -> Floats:
    """Return the distance of the nodes around each point, averaged over probes; of the nearest two outside."""
    return spacing([probe.nodes for probe in measure.probes], x)


def spacing(nodes: list[Floats], x: Floats) -> Floats:
    """Return the distance of the nodes around each point, averaged over sets of nodes; of the nearest two outside."""
    rows = []
    for theta in nodes:
        gaps = np.diff(theta)
        if gaps.size == 0:
            rows.append(np.zeros_like(x))
            continue
        rows.append(gaps[np.clip(np.searchsorted(theta, x) - 1, 0, gaps.size - 1)])
    return np.asarray(np.mean(rows, axis=0))


def _curve(
    measure: Measure, coordinate: Coordinate, y: Floats, stems: Stems, width: float | None, pixel: float
) -> tuple[Floats, Floats, Floats]:
    """Return value, its standard deviation and the local kernel width at y."""
    values, roots, widths = [], [], []
    for probe in measure.probes:
        nodes, shares, sigma = _kernels(probe, measure, coordinate, stems, width, pixel)
        if nodes.size == 0:  # every eigenvalue stands alone
            nodes, shares, sigma = np.zeros(1), np.zeros(1), np.full(1, max(pixel, 1.0))
        kernel = np.exp(-0.5 * ((y[:, None] - nodes) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        values.append(kernel @ shares)
        roots.append(np.sqrt(shares) * kernel)  # squared in a unit of their own: kernels have that of 1 / x
        widths.append(np.interp(y, nodes, sigma))
    value = np.mean(values, axis=0)
    size = (measure.copies * measure.n + 2) * len(measure.probes)
    unit = max(float(np.max(root, initial=0.0)) for root in roots) or 1.0
    squares = np.mean([np.sum((root / unit) ** 2, axis=1) for root in roots], axis=0)
    deviation = unit * np.sqrt(2 / size * np.maximum(squares - (value / unit) ** 2, 0.0))
    return value, deviation, np.mean(widths, axis=0)


def _kernels(
    probe: ProbeMeasure, measure: Measure, coordinate: Coordinate, stems: Stems, width: float | None, pixel: float
) -> tuple[Floats, Floats, Floats]:
    """Return centres, shares and widths of one probe's kernels: its rest and what is known, less what stands alone."""
    rest = ~probe.known
    nodes = np.concatenate([probe.nodes[rest], measure.values])
    residuals = np.concatenate([probe.residuals[rest], measure.residuals])
    scale = measure.n_rest / measure.n / max(probe.rest_mass, 1e-300)
    shares = np.concatenate([scale * probe.weights[rest], measure.multiplicities / measure.n])
    spread = np.concatenate([_RESIDUALS * probe.residuals[rest], np.full(measure.values.size, np.inf)])
    order = np.argsort(nodes)
    # A stem's own node is nearer than half of its gap; nodes that have not converged may lie anywhere.
    near = np.any(np.abs(nodes[:, None] - stems.values) <= np.minimum(2 * residuals[:, None], stems.gaps / 2), axis=1)
    order = order[~near[order]]
    y = coordinate.forward(nodes[order])
    if width is not None:
        return y, shares[order], np.full(y.size, width)
    a, b = cell_widths(y, np.full(y.size, np.inf))
    spread_y = spread[order] * coordinate.slope(nodes[order])
    return y, shares[order], np.maximum(np.minimum(_SPACING_SHARE * (a + b), spread_y), max(pixel, 1e-300))
