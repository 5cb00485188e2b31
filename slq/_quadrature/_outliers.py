"""Eigenvalues that a run has resolved one by one: which they are and how often each occurs.

A Ritz value whose residual is tiny beside its distance to the others is an eigenvalue; its Gauss weight is a random
number (chi-square / n) and says little about its multiplicity. Whether it is simple shows in the Ritz vectors of
different probes: they are parallel when it is, and span min(k, d) dimensions when it occurs d times. The inner
products with the start vectors, recorded by the run, tell the rank without any further product.

Nothing here is smoothed or estimated; the mass of resolved eigenvalues is replaced by their true share elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._quadrature._quadrature import Rule

# A Ritz value is resolved when its residual is below this share of the distance to its neighbour.
_RESOLVED = 1e-2
# One probe cannot tell a multiplicity; n times the weight of a simple eigenvalue is chi-square(1), beyond this with
# probability 6e-5: then it is taken for a multiple one of unknown multiplicity.
_SIMPLE_WEIGHT = 16.0
# A node stands alone when its neighbours are further than this many spacings of the bulk, which holds this mass; and it
# is worth resolving when the gap can be seen, as a share of the range.
_ALONE, _BULK_MASS, _VISIBLE = 2.0, 0.9, 0.01
# A spectrum of no more distinct eigenvalues than this, all resolved, consists of outliers only.
_FEW = 100
# The fields of `Resolved` that have one row per eigenvalue.
_COLUMNS = ("values", "residuals", "multiplicities", "nodes", "gaps")
# n times the weight of a true eigenvalue is below the first with probability 8e-4 (chi-square). It is below the second
# with 8e-3, but then all other probes see it.
_WEIGHTLESS, _WEIGHTLESS_TO_ONE_OF_MANY = 1e-6, 1e-4
# A second singular value below this many relative residuals counts as zero.
_RANK_SAFETY = 5.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """Eigenvalues resolved by every probe, ascending.

    Attributes
    ----------
    values : ndarray, shape (r,)
        The eigenvalues.
    residuals : ndarray, shape (r,)
        Distance within which an eigenvalue of A lies for certain.
    multiplicities : ndarray of int, shape (r,)
        How often each occurs; 0 where that is unknown.
    verified : bool
        Whether multiplicities were verified by two or more probes, or assumed to be one.
    nodes : ndarray of int, shape (r, probes)
        Which node of each probe it is.
    gaps : ndarray, shape (r,)
        Smallest distance to a neighbouring node.
    """

    values: Floats
    residuals: Floats
    multiplicities: npt.NDArray[np.intp]
    verified: bool
    nodes: npt.NDArray[np.intp]
    gaps: Floats

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which of them have a known multiplicity."""
        return np.asarray(self.multiplicities > 0)


@dataclass(frozen=True, slots=True)
class Outliers:
    """Eigenvalues that stand apart from the rest, largest magnitude first. `len()` counts them.

    Attributes
    ----------
    values : ndarray, shape (r,)
        The eigenvalues.
    residuals : ndarray, shape (r,)
        An eigenvalue of A lies within this distance for certain.
    multiplicities : ndarray, shape (r,)
        How often each occurs: an integer where it is known, n times the mean weight where it is only estimated.
    exact : ndarray of bool, shape (r,)
        Whether the multiplicity is known.
    shares : ndarray, shape (r,)
        Share of all eigenvalues: multiplicity / n.
    verified : bool
        Whether two or more probes verified the multiplicities; one probe takes isolated eigenvalues for simple.
    """

    values: Floats
    residuals: Floats
    multiplicities: Floats
    exact: npt.NDArray[np.bool_]
    shares: Floats
    verified: bool

    def __len__(self) -> int:
        """Return the number of distinct outliers."""
        return len(self.values)


def standing_alone(resolved: Resolved, nodes: Floats, weights: Floats) -> npt.NDArray[np.intp]:
    """Return which resolved eigenvalues stand apart from where the rest of the mass is, largest magnitude first.

    As positions in `resolved`; judged by the nodes of one probe.
    """
    settled = _settled(nodes, resolved)
    few = settled.all() and nodes.size <= _FEW
    chosen = np.flatnonzero(few | (resolved.gaps > _ALONE * _typical_gap(nodes, weights, settled)))
    return np.asarray(chosen[np.argsort(-np.abs(resolved.values[chosen]), kind="stable")])


def _settled(nodes: Floats, resolved: Resolved) -> npt.NDArray[np.bool_]:
    return np.asarray(np.any(np.abs(nodes[:, None] - resolved.values) <= 2 * resolved.residuals, axis=1))


def _typical_gap(nodes: Floats, weights: Floats, settled: npt.NDArray[np.bool_]) -> float:
    """Return a gap that nine tenths of the mass do not exceed: of what is not resolved, if there is any."""
    counted = np.ones(nodes.size, dtype=bool) if settled.all() else ~settled
    gaps, mass = neighbour_gaps(nodes)[counted], weights[counted]
    order = np.argsort(gaps)
    reached = np.searchsorted(np.cumsum(mass[order]), _BULK_MASS * mass.sum())
    return float(gaps[order][min(reached, gaps.size - 1)])


def unresolved(nodes: Floats, weights: Floats, y: Floats, resolved: Resolved) -> int:
    """Count the nodes of one probe that stand alone, far enough to be seen, without being a resolved eigenvalue.

    `y` are the nodes in the coordinate of the picture.
    """
    if nodes.size < 3:
        return 0
    gaps, settled = neighbour_gaps(nodes), _settled(nodes, resolved)
    visible = neighbour_gaps(y) > _VISIBLE * (y[-1] - y[0])
    apart = gaps > _ALONE * _typical_gap(nodes, weights, settled)
    return int(np.sum(apart & visible & ~settled))


def neighbour_gaps(nodes: Floats) -> Floats:
    """Return each node's distance to its nearest neighbour."""
    return np.minimum(np.diff(nodes, prepend=-np.inf), np.diff(nodes, append=np.inf))


def table(resolved: Resolved, chosen: npt.NDArray[np.intp], shares: Floats, n: int) -> Outliers:
    """Return some of the resolved eigenvalues with their shares of all n."""
    return Outliers(
        resolved.values[chosen],
        resolved.residuals[chosen],
        n * shares[chosen],
        resolved.known[chosen],
        shares[chosen],
        resolved.verified,
    )


def resolve(
    rule: Rule, n: int, *, noise: float, groups: npt.NDArray[np.intp], drift: float = 0.0, signs: bool = False
) -> Resolved:
    """Find the eigenvalues that every probe has resolved.

    Parameters
    ----------
    rule : Rule
        Gauss rules of k probes; ghosts merged.
    n : int
        Dimension.
    noise : float
        Absolute noise floor of eigenvalues.
    groups : ndarray of int, shape (k,)
        Probes with the same number share reference vectors: the first probes of their group.
    drift : float, default 0
        What residuals of Ritz vectors have on top, where Krylov vectors were kept coarsely.
    signs : bool, default False
        Whether all but the first of each group are vectors of signs. Their parts in an eigenspace can span less than
        random ones would; only that none of them leaves the line of the first tells something.
    """
    k = len(rule.nodes)
    positions, gaps = _converged(rule, 0, n, noise)
    nodes = positions[:, None]
    for i in range(1, k):
        partners, near = _partners(rule, i, _converged(rule, i, n, noise)[0], rule.nodes[0, nodes[:, 0]], gaps)
        nodes, gaps = np.column_stack([nodes, partners])[near], gaps[near]
    best = [rule.nodes[i, row[i]] for row in nodes for i in [int(np.argmin(rule.residuals[np.arange(k), row]))]]
    multiplicities = np.array(
        [_multiplicity(rule, row, n, gap, noise + drift, groups) for row, gap in zip(nodes, gaps, strict=True)],
        dtype=np.intp,
    )
    if signs:
        multiplicities[multiplicities > 1] = 0
    every = np.arange(k)
    residuals = noise + np.array(
        [
            rule.residuals[every, row].min()
            if m == 1
            else rule.residuals[every, row].max() + np.ptp(rule.nodes[every, row])  # all its copies lie within
            for row, m in zip(nodes, multiplicities, strict=True)
        ]
    )
    if multiplicities.sum() > n:  # cannot be: the assumption of simple eigenvalues is wrong, so claim none
        multiplicities[:] = 0
    return Resolved(np.array(best), residuals, multiplicities, k > 1, nodes, gaps)


def complex_products(firsts: Floats) -> npt.NDArray[Any]:
    """Return inner products with complex vectors z from those with z and with i z, the two halves of the last axis."""
    real, imaginary = np.split(firsts, 2, axis=-1)
    return np.asarray(real + 1j * imaginary)


def counted(rule: Rule, n: int, *, noise: float) -> Resolved:
    """Take the nodes of one rule for all n eigenvalues, with n times their weights for multiplicities."""
    nodes = np.flatnonzero(rule.weights[0] > 0)
    values = rule.nodes[0, nodes]
    multiplicities = np.rint(n * rule.weights[0, nodes]).astype(np.intp)
    return Resolved(values, np.full(values.shape, noise), multiplicities, True, nodes[:, None], neighbour_gaps(values))


def of_probes(rule: Rule, which: npt.NDArray[np.intp]) -> Rule:
    """Return the rules of some of the probes."""
    return Rule(rule.nodes[which], rule.weights[which], rule.residuals[which], rule.firsts[which])


def without(rule: Rule, nodes: npt.NDArray[np.intp]) -> Rule:
    """Return the rules without the given nodes, (r, probes) positions with -1 for none: they lose their weight."""
    weights = rule.weights.copy()
    for i, positions in enumerate(nodes.T):
        weights[i, positions[positions >= 0]] = 0.0
    return replace(rule, weights=weights)


def select(resolved: Resolved, which: npt.NDArray[np.bool_]) -> Resolved:
    """Return some of the resolved eigenvalues."""
    return replace(resolved, **{name: getattr(resolved, name)[which] for name in _COLUMNS})


def join(one: Resolved, two: Resolved) -> Resolved:
    """Return the resolved eigenvalues of both, ascending."""
    order = np.argsort(np.concatenate([one.values, two.values]))
    columns = {name: np.concatenate([getattr(one, name), getattr(two, name)])[order] for name in _COLUMNS}
    return replace(one, verified=one.verified and two.verified, **columns)


def merge_ghosts(rule: Rule, width: float) -> Rule:
    """Join nodes of one probe that lie within `width`: copies of one eigenvalue, made by lost orthogonality.

    Weights add up (Greenbaum 1989, doi:10.1016/0024-3795(89)90285-1); the residual is the smallest among the copies.
    """
    nodes, weights, residuals, firsts = (a.copy() for a in (rule.nodes, rule.weights, rule.residuals, rule.firsts))
    for i in range(len(nodes)):
        alive = np.flatnonzero(weights[i] > 0)
        first = rule.nodes[i, alive[0]] if alive.size else 0.0
        for j, k in pairwise(alive):
            if rule.nodes[i, k] - first > width:  # no chain of nodes moves further than a copy may lie
                first = rule.nodes[i, k]
            else:
                heavier = j if weights[i, j] >= weights[i, k] else k
                nodes[i, k] = nodes[i, j] = nodes[i, heavier]
                weights[i, k] += weights[i, j]
                weights[i, j] = 0.0
                residuals[i, k] = min(residuals[i, j], residuals[i, k])
                firsts[i, k] = firsts[i, heavier]
    return Rule(nodes, weights, residuals, firsts)


def _converged(rule: Rule, i: int, n: int, noise: float) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the nodes of probe i that are resolved: (positions, distances to their neighbours).

    Nodes of next to no weight are left out, also as neighbours: they are further copies of multiple eigenvalues, which
    rounding brings in step by step. A copy on its way is nearer to the eigenvalue than its residual; what is much
    further from all nodes of weight is an eigenvalue that the probe hardly sees.
    """
    heavy = n * rule.weights[i] > (_WEIGHTLESS if len(rule.nodes) == 1 else _WEIGHTLESS_TO_ONE_OF_MANY)
    distance = np.abs(rule.nodes[i][:, None] - rule.nodes[i, heavy]).min(axis=1, initial=np.inf)
    distinct = (rule.weights[i] > 0) & (rule.residuals[i] + noise <= _RESOLVED * distance)
    alive = np.flatnonzero(heavy | distinct)
    gaps = neighbour_gaps(rule.nodes[i, alive])
    exact = rule.residuals[i, alive] == 0  # a single node has no neighbour to compare with
    resolved = exact | ((rule.residuals[i, alive] + noise <= _RESOLVED * gaps) & np.isfinite(gaps))
    return np.asarray(alive[resolved]), np.asarray(gaps[resolved])


def _partners(
    rule: Rule, i: int, candidates: npt.NDArray[np.intp], theta: Floats, gaps: Floats
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Return, for each value, the nearest resolved node of probe i, and whether it is the same eigenvalue."""
    if candidates.size == 0:
        return np.zeros(theta.size, dtype=np.intp), np.zeros(theta.size, dtype=bool)
    found = rule.nodes[i, candidates]
    right = np.searchsorted(found, theta).clip(1, max(found.size - 1, 1))
    left = right - 1
    right = np.minimum(right, found.size - 1)
    nearest = np.where(np.abs(found[left] - theta) <= np.abs(found[right] - theta), left, right)
    return candidates[nearest], np.abs(found[nearest] - theta) <= 2 * _RESOLVED * gaps


def _multiplicity(
    rule: Rule, row: npt.NDArray[np.intp], n: int, gap: float, noise: float, groups: npt.NDArray[np.intp]
) -> int:
    """Return how often the eigenvalue occurs, 0 where these probes cannot tell."""
    probes = np.arange(len(row))
    if len(row) == 1:
        return 1 if n == 1 or n * rule.weights[0, row[0]] <= _SIMPLE_WEIGHT else 0
    relative = (rule.residuals[probes, row].max() + noise) / gap
    if relative > _RESOLVED:
        return 0
    threshold = max(_RANK_SAFETY * relative, 1e-8)
    for group in np.unique(groups):
        members = probes[groups == group]
        seen = rule.firsts[members, row[members]]
        room = min(seen.shape)
        singular = np.linalg.svd(seen, compute_uv=False)
        rank = int(np.sum(singular > threshold * singular[0])) if room else 0
        if 0 < rank < room:
            return rank
    return 0
