"""Coefficients -> what they say: Gauss rules, resolved eigenvalues, certified edges, the measure of the rest.

The one place where the parts are put together, for all steps of a run or for a shorter piece of it. Probes that were
run on P A P, with the eigenvectors of some resolved eigenvalues projected out, see only the rest of the spectrum; for
the others the same eigenvalues are found among their nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._lanczos._probes import Law
from slq._lanczos._tridiagonal import Tridiagonal
from slq._quadrature import _dense, _outliers
from slq._quadrature._bounds import certified_edges
from slq._quadrature._measure import Measure, measure_of, shares_of
from slq._quadrature._outliers import Resolved
from slq._quadrature._quadrature import Rule, gauss

# Share of the allowed risk that the certified edges may use up; the rest belongs to the sampling error.
_EDGE_RISK = 0.02
# Copies of one eigenvalue lie within this many noise floors of each other: made by lost orthogonality, and with full
# re-orthogonalisation by rounding, long after the eigenvalue has converged and of no weight.
_GHOST_WIDTH = {True: 4.0, False: 100.0}
# A Krylov space taken for invariant may leave this many noise floors between its Ritz values and the eigenvalues.
_LEFT_BEHIND = 4.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a run besides its coefficients.

    Attributes
    ----------
    n : int
        Dimension.
    kind : {"sphere", "rademacher", "exact"}
        Law of the probes; with "rademacher" only the first is of the sphere. With "exact" there are none: the
        coefficients are all eigenvalues.
    orthogonal : bool
        Whether orthogonality was enforced.
    noise : float
        Absolute noise floor of eigenvalues.
    drift : float
        The same for the residuals of Ritz vectors.
    groups : ndarray of int, shape (k,)
        Probes with the same number share reference vectors.
    deflated : ndarray, shape (d,)
        Simple eigenvalues whose eigenvectors were projected out for some probes.
    projected : ndarray of bool, shape (k,)
        For which.
    confidence : float
        Of the intervals to come.
    copies : int
        Real dimensions of each eigenvalue: 2 where the matrix is complex.
    """

    n: int
    kind: Law
    orthogonal: bool
    noise: float
    drift: float
    groups: npt.NDArray[np.intp]
    deflated: Floats
    projected: npt.NDArray[np.bool_]
    confidence: float
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Interpretation:
    """What the coefficients of a run say.

    Attributes
    ----------
    rule : Rule
        The Gauss rules as they are.
    resolved : Resolved
        Eigenvalues resolved one by one.
    shares : ndarray, shape (r,)
        The share of all eigenvalues of each of them.
    measure : Measure
        The estimated distribution.
    """

    rule: Rule
    resolved: Resolved
    shares: Floats
    measure: Measure


def interpret(T: Tridiagonal, facts: Facts) -> Interpretation:
    """Say what the coefficients of a run mean."""
    raw = _dense.rule_of(T) if facts.kind == "exact" else gauss(T)
    rule = _outliers.merge_ghosts(raw, _GHOST_WIDTH[facts.orthogonal] * facts.noise)
    measure, resolved = measure_of(
        rule, _resolve(rule, facts), facts.n, edges=_edges(raw, T, facts), noise=facts.noise, copies=facts.copies
    )
    return Interpretation(raw, resolved, shares_of(measure, rule, resolved), measure)


def shortened(T: Tridiagonal, projected: npt.NDArray[np.bool_], share: float) -> Tridiagonal:
    """Return the same run with a share of the steps.

    Probes whose rule is exact stay as they are; so do, where others were projected, the few that were not: what was
    projected out must remain resolved.
    """
    whole = T.invariant | (projected.any() & ~projected)
    lengths = np.where(whole, T.lengths, np.maximum(1, (share * T.lengths).astype(np.intp)))
    return replace(T, lengths=lengths)


def _edges(rule: Rule, T: Tridiagonal, facts: Facts) -> tuple[float, float]:
    """Certify the edges by the sphere probes that saw the whole operator."""
    sees_all = ~facts.projected
    if facts.kind == "rademacher":
        sees_all = sees_all & (np.arange(len(sees_all)) == 0)
    risk = _EDGE_RISK * (1 - facts.confidence)
    noise = facts.noise * (_LEFT_BEHIND if T.invariant[sees_all].any() else 1.0)
    seen = rule.nodes[sees_all], T.beta[sees_all], T.lengths[sees_all]
    return certified_edges(*seen, facts.copies * facts.n, risk=risk, noise=noise)


def _resolve(rule: Rule, facts: Facts) -> Resolved:
    """Resolve eigenvalues: those projected out first, as the unprojected probes see them, then the others."""
    if facts.kind == "exact":
        return _outliers.counted(rule, facts.n, noise=facts.noise)
    signs = facts.kind == "rademacher"
    if not facts.projected.any():
        if facts.copies == 2:
            rule = replace(rule, firsts=_outliers.complex_products(rule.firsts))
        return _outliers.resolve(rule, facts.n, noise=facts.noise, drift=facts.drift, groups=facts.groups, signs=signs)
    whole = np.flatnonzero(~facts.projected)
    seen = _outliers.resolve(
        _outliers.of_probes(rule, whole),
        facts.n,
        noise=facts.noise,
        drift=facts.drift,
        groups=facts.groups[whole],
        signs=signs,
    )
    nearest = np.abs(seen.values[:, None] - facts.deflated).min(axis=1, initial=np.inf)
    removed = _outliers.select(seen, nearest <= 2 * seen.residuals)
    nodes = np.full((len(removed.values), len(rule.nodes)), -1, dtype=np.intp)
    nodes[:, whole] = removed.nodes
    removed = replace(removed, nodes=nodes, multiplicities=np.ones(len(nodes), dtype=np.intp))
    rest = _outliers.resolve(
        _outliers.without(rule, nodes),
        facts.n - len(nodes),
        noise=facts.noise,
        drift=facts.drift,
        groups=facts.groups,
        signs=signs,
    )
    return _outliers.join(removed, rest)
