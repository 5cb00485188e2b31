"""What a run proves: edges of the spectrum, a bracket of the distribution function, the law of the sampling error.

Every function takes Gauss rules or Lanczos coefficients on the host and spends no product. The statements hold for
exact Lanczos coefficients of a symmetric matrix; callers widen them by the operator's noise floor and call them
estimates where orthogonality was not enforced.

Sources: van Dorsselaer, Hochstenbach & van der Vorst 1999, doi:10.1137/S0895479897331427 (edges); Chen, Trogdon & Ubaru
2021, arXiv:2105.06595 (bracket); the residual bracket and the Kolmogorov limit are derived in docs/how_it_works.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, kolmogi

from slq._arrays import Floats

# The eigenvalue gap at x is not the nodes' gap; the factor covers the difference where nodes have converged.
_TURN_SAFETY = 4.0
# An edge is as far beyond the nodes as it takes, to so many parts of that distance; Newton's steps, of which six to ten
# are usual, end at the latest after so many.
_EXACT, _NEWTON_STEPS = 1e-12, 100
# Distances below e^-700 of the width of the spectrum are none.
_NEAREST = -700.0


def upper_edges(nodes: Floats, beta: Floats, n: int, risk: float) -> Floats:
    """Return, per probe, a bound that the largest eigenvalue exceeds with probability at most `risk`.

    The next Lanczos vector is p(A) v with norm one and p(t) = prod (t - node) / prod beta, so |p(lambda)| |u^T v| <= 1
    for the eigenvector u of lambda; and a random unit v has |u^T v| <= d with probability at most d sqrt(2 n / pi). The
    bound is the t beyond the nodes with p(t) = 1 / d. Where the last beta is zero every eigenvalue that v touches is a
    node, and the bound is the largest node.

    Parameters
    ----------
    nodes, beta : ndarray, shape (k, m)
        Gauss nodes and Lanczos coefficients of k sphere probes of the same length; the last beta is the residual norm.
    n : int
        Dimension.
    risk : float
        Probability of a false statement, per probe.
    """
    top = nodes.max(axis=1)
    scale = np.maximum(top - nodes.min(axis=1), beta[:, -1])
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.log(beta / scale[:, None]).sum(axis=1) - np.log(risk * np.sqrt(np.pi / (2 * n)))
    unbounded = np.isfinite(limit)
    rows, limit, depth = np.flatnonzero(unbounded), limit[unbounded], (top[:, None] - nodes)[unbounded]
    depth = depth / scale[rows, None]
    # log p is increasing and convex in u = log((t - top) / scale): Newton's steps come down to the root from above.
    u = np.zeros(len(rows))
    for _ in range(_NEWTON_STEPS):
        beyond = np.exp(u)[:, None]
        excess, slope = np.log(depth + beyond).sum(axis=1) - limit, (beyond / (depth + beyond)).sum(axis=1)
        before, u = u, np.maximum(u - excess / slope, _NEAREST)
        if np.all(np.abs(u - before) <= _EXACT):
            break
    edges = top.copy()
    edges[rows] += scale[rows] * np.exp(u)
    return np.asarray(edges)


def certified_edges(
    nodes: Floats, beta: Floats, lengths: npt.NDArray[np.intp], n: int, *, risk: float, noise: float
) -> tuple[float, float]:
    """Return (low, high) that contain all eigenvalues with probability at least 1 - risk: the best of all probes."""
    share = risk / (2 * len(nodes))
    lows, highs = [], []
    for m in np.unique(lengths):
        theta, b = nodes[lengths == m, :m], beta[lengths == m, :m]
        highs.append(upper_edges(theta, b, n, share).min())
        lows.append(-upper_edges(-theta, b, n, share).min())
    return float(max(lows)) - noise, float(min(highs)) + noise


def bracket_cdf(
    x: Floats, nodes: Floats, weights: Floats, residuals: Floats, noise: float = 0.0
) -> tuple[Floats, Floats]:
    """Return bounds of v^T 1[A <= x] v for one probe, from its Gauss rule.

    The tighter of two: Chebyshev-Markov-Stieltjes (all but the node at either side of x are certain), and
    |Psi - G| <= D_b**2 + 2 D_a D_b (above) or D_a**2 + 2 D_a D_b (below) with the Gauss staircase G and
    D = sum of sqrt(weight) residual / |x - node| over the nodes below (a) and above (b) x: quadratically small in a gap
    once its two sides have converged.

    Parameters
    ----------
    x : ndarray, shape (points,)
        Ascending.
    nodes, weights, residuals : ndarray, shape (m,)
        One probe's rule, nodes ascending, residuals already widened by the noise floor.
    noise : float
        The noise floor. The coefficients belong to some A + E with |E| up to it; E turns the eigenvectors left of x
        against those right of x by |E| / gap, and moves mass by as much (Davis & Kahan 1970, doi:10.1137/0707001).
    """
    middles = 0.5 * (nodes[1:] + nodes[:-1])
    points = np.union1d(x, middles)  # the bracket is tightest between nodes, and the function is monotone
    below = np.searchsorted(nodes, points, side="right")
    mass = np.append(0.0, np.cumsum(weights))
    staircase = mass[below]
    low, high = mass[np.maximum(below - 1, 0)], mass[np.minimum(below + 1, len(nodes))]
    distance = np.abs(points[:, None] - nodes)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        terms = np.where(distance > residuals, np.sqrt(weights) * residuals / distance, np.inf)
    terms = np.where(weights > 0, terms, 0.0)
    left = nodes <= points[:, None]
    d_a, d_b = np.where(left, terms, 0.0).sum(axis=1), np.where(left, 0.0, terms).sum(axis=1)
    with np.errstate(invalid="ignore"):
        cross = np.nan_to_num(2 * d_a * d_b, nan=np.inf)
    low = np.maximum(low, staircase - d_a**2 - cross)
    high = np.minimum(high, staircase + d_b**2 + cross)
    with np.errstate(divide="ignore"):
        turned = np.pad(_TURN_SAFETY * noise / np.diff(nodes), 1)[below]
    low, high = low - turned, high + turned
    low, high = np.maximum.accumulate(low), np.minimum.accumulate(high[::-1])[::-1]
    where = np.searchsorted(points, x)
    return np.clip(low[where], 0.0, 1.0), np.clip(high[where], 0.0, 1.0)


def kolmogorov_halfwidth(n: int, probes: int, confidence: float) -> float:
    """Return the half-width of the band that holds the whole distribution function at once.

    sqrt((n + 2) k / 2) (mean Psi - Phi) tends to a Brownian bridge in Phi for sphere probes, because the weights of
    the eigenvectors are Dirichlet(1/2, ..., 1/2). Measured at n = 2000: the 95 % band covers 96 %.
    """
    if n <= 1:
        return 0.0
    return float(kolmogi(1 - confidence) * np.sqrt(2 / ((n + 2) * probes)))


def beta_interval(low: float, high: float, n: int, probes: int, confidence: float) -> tuple[float, float]:
    """Return an interval for the share p of eigenvalues in a set, from bounds on the probes' mean mass there.

    One sphere probe's mass is Beta(n p / 2, n (1 - p) / 2), with variance 2 p (1 - p) / (n + 2); the mean of k is
    taken as the Beta law with that variance over k. Inverted exactly, as Clopper and Pearson do for counts.
    """
    if n <= 1:
        return low, high
    size = (n + 2) * probes / 2 - 1
    tail = (1 - confidence) / 2
    return _share_with_tail(low, size, 1 - tail), _share_with_tail(high, size, tail)


def _share_with_tail(mass: float, size: float, level: float) -> float:
    """Solve P(Beta(size p, size (1 - p)) <= mass) = level for p."""
    if mass <= 0 or mass >= 1:  # with probability one every eigenvalue has some weight
        return float(np.clip(mass, 0, 1))
    low, high = 0.0, 1.0
    for _ in range(60):
        p = 0.5 * (low + high)
        # The quantile at `level` grows with p: compare it with the observed mass.
        low, high = (p, high) if betaincinv(size * p, size * (1 - p), level) < mass else (low, p)
    return 0.5 * (low + high)


def spread(samples: Floats) -> Floats:
    """Return standard deviations along the last axis, squared in units of the largest deviation: that has room."""
    left = samples - samples.mean(axis=-1, keepdims=True)
    largest = np.max(np.abs(left), axis=-1)
    unit = np.where(largest > 0, largest, 1.0)
    return np.asarray(unit * np.sqrt(np.sum((left / unit[..., None]) ** 2, axis=-1) / (samples.shape[-1] - 1)))
