"""The classical ways to draw a density from Gauss rules: fixed Gaussians, kernel polynomials, Lorentzians.

Each is a linear smoothing, a kernel K(x, node) averaged over the nodes, so that all share their error estimate. The
moments of the kernel polynomial method are those of the rules, which are exact up to degree 2 m - 1: no product is
spent on them, and no bounds are needed beforehand. Here kernels and their widths are made; `_classical` applies them.

Sources: Lin, Saad & Yang 2016, doi:10.1137/130934283 (Gaussians, Haydock, KPM, delta-Gauss-Legendre); Weisse, Wellein,
Alvermann & Fehske 2006, doi:10.1103/RevModPhys.78.275 (Jackson, eq. 71); Chen 2023, arXiv:2308.15683 (moments from
Lanczos, any reference measure).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.polynomial.legendre import leggauss

from slq._arrays import Floats

Kernel = Callable[[Floats, Floats], Floats]
WidthRule = Literal["ghorbani", "papyan", "lin-saad-yang"]
Reference = Literal["chebyshev", "semicircle", "uniform"]
Damping = Literal["jackson", "gaussian", "none"]

# Variance as a share of the range (Ghorbani et al. 2019, the code published with it).
_GHORBANI = 1e-5
# Two Gaussians a spacing apart add up to no more than kappa times one of them in the middle: Papyan 2020, appendix D.2,
# on the range widened by 5 % at either end; Lin, Saad & Yang 2016, section 3.2.
_KAPPA = {"papyan": 3.0, "lin-saad-yang": 1.25}
_MARGIN = {"papyan": 0.05, "lin-saad-yang": 0.0}
# Points of the rule that projects Gaussians on polynomials, per degree.
_POINTS = 2


def named_width(rule: WidthRule, low: float, high: float, steps: int) -> float:
    """Return the standard deviation of the Gaussians that a publication used, for its range and steps."""
    if rule == "ghorbani":
        return float(np.sqrt(_GHORBANI * max(1.0, high - low)))
    kappa, margin = _KAPPA[rule], 1 + 2 * _MARGIN[rule]
    return float(margin * (high - low) / max(steps - 1, 1) / np.sqrt(8 * np.log(kappa)))


def gaussian(width: float) -> Kernel:
    """Return Gaussians of one standard deviation."""

    def kernel(x: Floats, nodes: Floats) -> Floats:
        return np.asarray(np.exp(-0.5 * ((x[:, None] - nodes) / width) ** 2) / (width * np.sqrt(2 * np.pi)))

    return kernel


def lorentzian(width: float) -> Kernel:
    """Return Lorentzians of one half-width at half maximum."""

    def kernel(x: Floats, nodes: Floats) -> Floats:
        return np.asarray(width / np.pi / ((x[:, None] - nodes) ** 2 + width**2))

    return kernel


def polynomial(
    low: float, high: float, degree: int, *, reference: Reference, damping: Damping, width: float | None
) -> Kernel:
    """Return the kernel of a polynomial expansion on [low, high], zero outside.

    With Jackson's damping sum g_j p_j(x) p_j(node) w(x), with the reference measure w and its orthonormal polynomials
    p_j; with "none" all g_j are 1, for Chebyshev's the cosine series of the density in the angle arccos x; with
    "gaussian" the expansion of Gaussians of a width, with the uniform measure the delta-Gauss-Legendre method.
    """
    half, centre = (high - low) / 2, (high + low) / 2

    def table(t: Floats) -> Floats:
        return np.array(list(_orthonormal(t, degree, reference)))

    factors = jackson_factors(degree) if damping == "jackson" else np.ones(degree + 1)

    def series(x: Floats, nodes: Floats) -> Floats:
        t, s = (x - centre) / half, np.clip((nodes - centre) / half, -1, 1)
        inside, rows = np.abs(t) < 1, np.zeros((x.size, nodes.size))
        left = table(t[inside]) * factors[:, None] * _weight(t[inside], reference)
        rows[inside] = left.T @ table(s) / half
        return rows

    def expanded(x: Floats, nodes: Floats) -> Floats:
        t, s = (x - centre) / half, np.clip((nodes - centre) / half, -1, 1)
        points, weights = _rule(_POINTS * degree + 64, reference)
        bumps = gaussian((width or 0.0) / half)(t, points) * weights
        return np.asarray((bumps @ table(points).T) @ table(s) / half)

    return expanded if damping == "gaussian" else series


def jackson_factors(degree: int) -> Floats:
    """Return g_0 to g_degree, which keep the kernel of the Chebyshev expansion positive."""
    j, size = np.arange(degree + 1), degree + 2
    angle = np.pi / size
    return np.asarray(((size - j) * np.cos(j * angle) + np.sin(j * angle) / np.tan(angle)) / size)


def jackson_degree(low: float, high: float, width: float) -> int:
    """Return the degree at which Jackson's kernel has a standard deviation in the middle of the interval."""
    return max(1, int(np.ceil(np.pi * (high - low) / (2 * width))))


def _orthonormal(t: Floats, degree: int, reference: Reference) -> Iterator[Floats]:
    """Give p_0 to p_degree, orthonormal for the reference measure on [-1, 1], by their recurrence."""
    before, now = np.zeros_like(t), np.ones_like(t)
    for j in range(degree + 1):
        yield now
        if reference == "chebyshev":  # sqrt 2 T_j
            after = 2 * t * now - before if j > 1 else (np.sqrt(2) * t if j == 0 else 2 * t * now - np.sqrt(2) * before)
        elif reference == "semicircle":  # U_j
            after = 2 * t * now - before
        else:  # sqrt(2 j + 1) P_j
            b_now, b_next = (i / np.sqrt(4 * i**2 - 1) for i in (max(j, 1), j + 1))
            after = (t * now - (b_now if j else 0.0) * before) / b_next
        before, now = now, after


def _rule(count: int, reference: Reference) -> tuple[Floats, Floats]:
    """Return points and weights of the Gauss rule of the reference measure."""
    if reference == "uniform":
        points, weights = leggauss(count)
        return points, weights / 2
    if reference == "chebyshev":
        return np.cos((np.arange(count) + 0.5) * np.pi / count), np.full(count, 1 / count)
    angle = np.arange(1, count + 1) * np.pi / (count + 1)
    return np.cos(angle), 2 * np.sin(angle) ** 2 / (count + 1)


def _weight(t: Floats, reference: Reference) -> Floats:
    """Return the density of the reference measure on [-1, 1], of mass one."""
    if reference == "uniform":
        return np.full_like(t, 0.5)
    root = np.sqrt(1 - t**2)
    return np.asarray(2 / np.pi * root if reference == "semicircle" else 1 / (np.pi * root))
