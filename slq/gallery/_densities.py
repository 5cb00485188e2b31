"""Evaluate the limiting densities (n -> infinity) of the gallery's continuous laws, zero outside the support.

The eigenvalues of finite n are placed elsewhere. Every formula integrates to the mass of its continuous part.
"""

import numpy as np
from scipy import special

from slq.gallery._law import Density, Reals


def semicircle_density(x: Reals, /, radius: float) -> Reals:
    """Evaluate the semicircle density 2 sqrt(r^2 - x^2) / (pi r^2) on [-r, r]."""
    share = np.asarray(x, dtype=np.float64) / radius
    density: Reals = 2.0 / (np.pi * radius) * np.sqrt(np.maximum((1.0 - share) * (1.0 + share), 0.0))
    return density


def arcsine_density(x: Reals, /, low: float, high: float) -> Reals:
    """Evaluate the arcsine density 1 / (pi sqrt((x - a)(b - x))) on (a, b)."""
    return _between(x, low, high, lambda t: 1.0 / (np.pi * np.sqrt((t - low) * (high - t))))


def log_uniform_density(x: Reals, /, low: float, high: float) -> Reals:
    """Evaluate the density 1 / (x log(b / a)) on [a, b]."""
    return _between(x, low, high, lambda t: 1.0 / (t * np.log(high / low)), closed=True)


def marchenko_pastur_density(x: Reals, /, ratio: float) -> Reals:
    """Evaluate sqrt((b - x)(x - a)) / (2 pi c x) between a, b = (1 -+ sqrt c)^2."""
    low, high = (1.0 - np.sqrt(ratio)) ** 2, (1.0 + np.sqrt(ratio)) ** 2
    return _between(x, low, high, lambda t: np.sqrt((high - t) * (t - low)) / (2.0 * np.pi * ratio * t))


def square_lattice_density(x: Reals, /) -> Reals:
    """Evaluate K(m) / (2 pi^2), parameter m = 1 - (x/4 - 1)^2, on (0, 8)."""
    return _between(x, 0.0, 8.0, lambda t: special.ellipkm1((t / 4 - 1) ** 2) / (2 * np.pi**2))


def _between(x: Reals, low: float, high: float, formula: Density, *, closed: bool = False) -> Reals:
    """Evaluate `formula` on the support alone: outside, and at ends that are not `closed`, it would warn."""
    x = np.asarray(x, dtype=np.float64)
    inside = (x >= low) & (x <= high) if closed else (x > low) & (x < high)
    density = np.zeros(x.shape)
    density[inside] = formula(x[inside])
    return density
