"""Rules of k probes -> a density by a fixed kernel, a terminated continued fraction, or a histogram.

No eigenvalue is set apart: published pictures come out as they were drawn. The band is the probes' law for the kernel,
and the change since three quarters of the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from slq._arrays import Floats
from slq._lanczos._tridiagonal import Tridiagonal
from slq._quadrature._coordinate import Coordinate
from slq._quadrature._density import Density, require_span, spacing
from slq._quadrature._rules import Nodes
from slq._quadrature._smoothing import Kernel

# The coefficients that a terminator goes on with are the mean of the last quarter.
_TAIL = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """What a density is drawn from.

    Attributes
    ----------
    rules, shorter : list of (nodes, weights)
        One Gauss rule per probe, from all steps and from three quarters of them.
    shares : ndarray, shape (probes,)
        Weight of each probe, summing to one.
    size : float
        n + 2 where the probes are random, inf where they were chosen and nothing is sampled.
    confidence : float
        Of the band.
    """

    rules: Nodes
    shorter: Nodes
    shares: Floats
    size: float
    confidence: float

    @property
    def ends(self) -> tuple[float, float]:
        """The outermost nodes."""
        nodes = np.concatenate([x for x, _ in self.rules])
        return float(nodes.min()), float(nodes.max())

    @property
    def steps(self) -> int:
        """Nodes of the shortest rule."""
        return min(len(x) for x, _ in self.rules)


def smoothed(
    picture: Picture, kernel: Kernel, coordinate: Coordinate, x: Floats, width: float, value: Floats | None = None
) -> Density:
    """Return the density by a kernel in a coordinate; `value` replaces the curve, not its band."""
    y = coordinate.forward(x)
    require_span(y)
    tables = [(kernel(y, coordinate.forward(nodes)), weights) for nodes, weights in picture.rules]
    curve = sum(s * (K @ w) for s, (K, w) in zip(picture.shares, tables, strict=True))
    unit = max(float(np.abs(K).max(initial=0.0)) for K, _ in tables) or 1.0  # squares have room then
    spread = sum(
        s**2 * (((K / unit) ** 2) @ w - ((K / unit) @ w) ** 2) for s, (K, w) in zip(picture.shares, tables, strict=True)
    )
    before = sum(
        s * (kernel(y, coordinate.forward(nodes)) @ weights)
        for s, (nodes, weights) in zip(picture.shares, picture.shorter, strict=True)
    )
    sampling = ndtri((1 + picture.confidence) / 2) * unit * np.sqrt(2 / picture.size * np.maximum(spread, 0.0))
    return drawn(picture, coordinate, x, curve if value is None else value, sampling + np.abs(curve - before), width)


def drawn(picture: Picture, coordinate: Coordinate, x: Floats, value: Floats, half: Floats, width: float) -> Density:
    """Return a curve with its half-widths as a Density without stems."""
    return Density(
        x,
        value,
        np.maximum(value - half, np.minimum(value, 0.0)),
        value + half,
        width / coordinate.slope(x),
        spacing([nodes for nodes, _ in picture.rules], x),
        np.zeros((0, 2)),
        coordinate.scale,
        coordinate.unit,
        picture.confidence,
        "estimate",
    )


def histogram(
    picture: Picture,
    cdf: Callable[[Floats], Floats],
    before: Callable[[Floats], Floats],
    coordinate: Coordinate,
    x: Floats,
    width: float,
) -> Density:
    """Return the histogram by differences of distribution functions, so that its bars hold exactly their mass.

    Bars of a width in the coordinate begin at the first node; at each x stands the height of its bar.
    """
    first, last = coordinate.forward(np.array(picture.ends))
    edges = first + width * np.arange(int(np.ceil((last - first) / width * (1 + 1e-12))) + 1)
    at = coordinate.inverse(edges)
    at[0] = np.nextafter(at[0], -np.inf)
    mass, earlier = np.diff(cdf(at)), np.diff(before(at))
    spread = float(np.sum(picture.shares**2)) * mass * (1 - mass)
    sampling = ndtri((1 + picture.confidence) / 2) * np.sqrt(2 / picture.size * np.maximum(spread, 0.0))
    bar = np.searchsorted(edges, coordinate.forward(x), side="right") - 1
    inside = (bar >= 0) & (bar < mass.size)
    bar = np.clip(bar, 0, mass.size - 1)
    heights, halves = mass / width, (sampling + np.abs(mass - earlier)) / width
    return drawn(picture, coordinate, x, np.where(inside, heights[bar], 0.0), np.where(inside, halves[bar], 0.0), width)


def terminated(T: Tridiagonal, shares: Floats, x: Floats, width: float) -> Floats:
    """Return -Im G(x + i width) / pi of the continued fraction that goes on with its last coefficients for ever.

    The square-root terminator: the tail t solves t = 1 / (z - alpha - beta**2 t), with the root that decays. It fits
    spectra of one band; a run that ended by itself needs none.
    """
    z, total = x + 1j * width, np.zeros_like(x)
    for share, length, alpha, beta in zip(shares, T.lengths, T.alpha, T.beta, strict=True):
        tail = slice(length - max(length // _TAIL, 1), length)
        centre, square = alpha[tail].mean(), float(beta[tail].mean()) ** 2
        if beta[length - 1] == 0:
            green = np.zeros_like(z)
        else:
            d = z - centre
            green = (d - np.sqrt(d - 2 * np.sqrt(square)) * np.sqrt(d + 2 * np.sqrt(square))) / (2 * square)
        for j in range(length - 1, -1, -1):
            green = 1 / (z - alpha[j] - beta[j] ** 2 * green)
        total = total - share * green.imag / np.pi
    return total
