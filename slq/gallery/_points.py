"""Cut the laws of random matrices into n eigenvalues: their quantiles at (i - 1/2) / n.

The densities of the same laws are in `_densities`. Sources: Wigner 1958 (semicircle), Marchenko & Pastur 1967; the
angles used for their quantiles are derived in `edge_angles`.
"""

import numpy as np

from slq.gallery._law import Reals

_EPS = float(np.finfo(np.float64).eps)


def arcsine_points(n: int) -> Reals:
    """Place n eigenvalues at the quantiles of the arcsine law on [-1, 1]."""
    points: Reals = np.sin(np.pi * (np.arange(n) - 0.5 * (n - 1)) / n)
    return points


def semicircle_points(n: int) -> Reals:
    """Place n eigenvalues at the quantiles of the semicircle on [-1, 1], exactly antisymmetric."""
    half = np.cos(edge_angles((np.arange(n // 2) + 0.5) / n, 0.0))
    return np.concatenate([-half, np.zeros(n % 2), half[::-1]])


def marchenko_pastur_points(n: int, ratio: float) -> Reals:
    """Place n eigenvalues at the quantiles of the continuous part of a Marchenko-Pastur law."""
    if ratio > 1.0:  # X X^T and X^T X share their nonzero eigenvalues up to the scale of the mean
        return ratio * marchenko_pastur_points(n, 1.0 / ratio)
    root = float(np.sqrt(ratio))

    def from_edge(count: int, s: float) -> Reals:
        return _support(edge_angles((np.arange(count) + 0.5) / n, s), s)

    upper = from_edge(n // 2, -root)
    return np.concatenate([from_edge(n - n // 2, root), upper[::-1]])


def edge_angles(p: Reals, s: float) -> Reals:
    r"""Invert the CDF of a Marchenko-Pastur law, counted from one edge, in an angle t.

    With ratio s^2 <= 1 and x(t) = 1 + s^2 - 2 s cos t, the mass between the edge t = 0 (the lower one for s > 0, the
    upper one for s < 0) and t is

        F(t) = (2 / pi) (t/2 + sin t / (2 s) - (1 - s^2) / (2 s^2) arctan(s sin t / (1 - s cos t))),

    which tends to the semicircle (t - sin t cos t) / pi for s -> 0. Counting from the nearer edge keeps x(t) accurate
    to a few eps: the slope 2 sin(t)^2 / (pi x(t)) vanishes at an edge, but so does dx/dt. Newton's method, with
    bisection whenever a step leaves the bracket, takes about ten passes over `p`.

    Parameters
    ----------
    p : float64 array
        Masses in (0, 1/2].
    s : float
        Square root of the ratio, in [-1, 1], signed as above; 0 for the semicircle.

    Returns
    -------
    float64 array
        Angles in (0, pi), in the shape of `p`.
    """
    # Leading terms at a soft edge (t^3) and, for ratio 1, at the hard edge x = 0 (t).
    t = np.maximum(np.cbrt(1.5 * np.pi * p * (1.0 - s) ** 2), 0.5 * np.pi * p * s)
    low, high = np.zeros_like(t), np.full_like(t, np.pi)
    # F sums terms of size t / s; a residual of their rounding error cannot be improved on.
    rounding = 4.0 * _EPS / (abs(s) or 1.0)
    for _ in range(100):  # bisection alone would need 53
        excess = _edge_mass(t, s) - p
        if np.all(np.abs(excess) <= rounding * t):
            break
        low, high = np.where(excess < 0, t, low), np.where(excess > 0, t, high)
        slope = 2.0 * np.sin(t) ** 2 / (np.pi * _support(t, s))
        newton = t - excess / slope
        t = np.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high))
    return t


def _support(t: Reals, s: float) -> Reals:
    """Evaluate x(t) of `edge_angles`, without the cancellation at t = 0."""
    x: Reals = (1.0 - s) ** 2 + 4.0 * s * np.sin(t / 2) ** 2
    return x


def _edge_mass(t: Reals, s: float) -> Reals:
    """Evaluate F(t) of `edge_angles`."""
    sine = np.sin(t)
    if s == 0.0:
        mass: Reals = (t - sine * np.cos(t)) / np.pi
        return mass
    bend = np.arctan2(s * sine, (1.0 - s) + 2.0 * s * np.sin(t / 2) ** 2)
    mass = (t + sine / s - (1.0 - s) * (1.0 + s) / s**2 * bend) / np.pi
    return mass
