"""Measure -> the density of ln ``|eigenvalue|``: both signs folded onto one logarithmic axis.

The kernel is as wide as the surroundings of each node are resolved on its own side of zero, as in `_density`, but in
the coordinate ln ``|x|``; what cannot be told from zero stands at the noise floor.

Source: Papyan 2020, JMLR 21 (252), section 5 (the log spectrum of a network's Hessian).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from slq._arrays import Floats
from slq._quadrature._coordinate import Coordinate
from slq._quadrature._density import Density, spacing
from slq._quadrature._measure import Measure, ProbeMeasure, cell_widths

# As in `_density`.
_SPACING_SHARE, _RESIDUALS = 0.75, 3.0
# Magnitudes this share of the largest are shown at least, however small the noise floor is.
_LEAST = 1e-12


def log_density(
    measure: Measure, shorter: Measure, x: Floats | None, *, width: float | None, noise: float, confidence: float
) -> Density:
    """Return the share of eigenvalues per unit of ln ``|x|`` at ascending positive x, by default at 1000 points."""
    nodes = np.concatenate([p.nodes for p in measure.probes] + [measure.values])
    top = float(np.max(np.abs(nodes))) or 1.0
    floor = max(noise, _LEAST * top)
    if x is None:
        least = max(floor, float(np.min(np.abs(nodes))))
        x = np.exp(np.linspace(np.log(least) - 1.0, np.log(top) + 1.0, 1000))
    y = np.log(x)
    pixel = float(np.median(np.diff(y))) if y.size > 1 else 0.0
    value, variance, sigma = _curve(measure, y, floor, width, pixel)
    before, _, _ = _curve(shorter, y, floor, width, pixel)
    half = ndtri((1 + confidence) / 2) * np.sqrt(variance) + np.abs(value - before)
    return Density(
        x,
        value,
        np.maximum(value - half, 0.0),
        value + half,
        sigma * x,
        spacing([np.sort(np.abs(p.nodes)) for p in measure.probes], x),
        np.zeros((0, 2)),
        Coordinate("log").scale,
        1.0,
        confidence,
        "estimate",
    )


def _curve(
    measure: Measure, y: Floats, floor: float, width: float | None, pixel: float
) -> tuple[Floats, Floats, Floats]:
    """Return value, variance and local kernel width at y = ln x."""
    values, squares, widths = [], [], []
    for probe in measure.probes:
        centres, shares, sigma = _kernels(probe, measure, floor, width, pixel)
        kernel = np.exp(-0.5 * ((y[:, None] - centres) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        values.append(kernel @ shares)
        squares.append(kernel**2 @ shares)
        order = np.argsort(centres)
        widths.append(np.interp(y, centres[order], sigma[order]))
    value = np.mean(values, axis=0)
    size = (measure.copies * measure.n + 2) * len(measure.probes)
    return value, 2 / size * np.maximum(np.mean(squares, axis=0) - value**2, 0.0), np.mean(widths, axis=0)


def _kernels(
    probe: ProbeMeasure, measure: Measure, floor: float, width: float | None, pixel: float
) -> tuple[Floats, Floats, Floats]:
    """Return centres, shares and widths of one probe's kernels, of both signs."""
    rest, scale = ~probe.known, measure.n_rest / measure.n / max(probe.rest_mass, 1e-300)
    nodes = np.concatenate([probe.nodes[rest], measure.values])
    shares = np.concatenate([scale * probe.weights[rest], measure.multiplicities / measure.n])
    residuals = np.concatenate([probe.residuals[rest], measure.residuals])
    size = np.maximum(np.abs(nodes), floor)
    centres, sigma = np.log(size), np.full(nodes.size, width or 0.0)
    for side in (nodes < 0, nodes >= 0):
        if width is None and side.any():
            order = np.flatnonzero(side)[np.argsort(centres[side], kind="stable")]
            a, b = cell_widths(centres[order], np.full(order.size, np.inf))
            spread = _RESIDUALS * residuals[order] / size[order]
            sigma[order] = np.maximum(np.minimum(_SPACING_SHARE * (a + b), spread), max(pixel, 1e-300))
    return centres, shares, sigma
