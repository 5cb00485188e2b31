"""XTrace and XNysTrace from small matrices on the host, and how far off they are by the jackknife over the probes.

The scatter of the leave-one-out estimates tells their error only where they hardly depend on each other. What the whole
estimator gives without a group of probes, each in turn, overstates it rather (Efron & Stein 1981,
doi:10.1214/aos/1176345462), the more the faster the eigenvalues decay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._errors import DomainError
from slq._quadrature._bounds import spread
from slq._traces._sketch import lost_directions

Places = npt.NDArray[np.intp]

# Groups of the jackknife, for small sketches and for those whose decompositions take long.
_GROUPS, _FEW, _LARGE = 24, 8, 200
# A probe that has this share in combinations which A sends to nothing is one that the others make up for.
_DEPENDENT = 1e-9
_ROUNDINGS = 8.0


@dataclass(frozen=True, slots=True)
class Found:
    """An estimated trace, its standard error with degrees of freedom, the size of what was summed, and the columns."""

    value: float
    deviation: float
    freedom: int
    size: float
    columns: int


def of_samples(samples: Floats, size: float) -> Found:
    """Return the mean of independent samples."""
    k = len(samples)
    return Found(float(samples.mean()), float(spread(samples)) / np.sqrt(k), k - 1, size, k)


def xtrace_of(H: Floats, R: Floats, W: Floats, n: int) -> Found:
    """Return XTrace from H = Q^T A Q, R = Q^T A Omega and W = Q^T Omega."""

    def without(kept: Places) -> float:
        some, (left, singular, _) = R[:, kept], np.linalg.svd(R[:, kept], full_matrices=False)
        N = left[:, singular > np.finfo(np.float64).eps * max(float(np.max(singular, initial=0.0)), 1e-300)]
        return float(leave_one_out(N.T @ H @ N, N.T @ some, N.T @ W[:, kept], n).mean())

    value = float(leave_one_out(H, R, W, n).mean())
    return _jackknife(value, R.shape[1], without, float(np.abs(np.linalg.eigvalsh(H)).sum()))


def xnystrace_of(core: Floats, gram: Floats, R: Floats, n: int, epsilon: float) -> Found:
    """Return XNysTrace from Omega^T A Omega, Omega^T Omega and the R factor of A Omega."""

    def without(kept: Places) -> float:
        square = np.ix_(kept, kept)
        return float(nystrom_samples(core[square], gram[square], R[:, kept], n, epsilon).mean())

    value = float(nystrom_samples(core, gram, R, n, epsilon).mean())
    return _jackknife(value, len(core), without, abs(value))


def leave_one_out(H: Floats, R: Floats, W: Floats, n: int) -> Floats:
    """Return XTrace's estimates, one per probe, from H = Q^T A Q, R = Q^T A Omega and W = Q^T Omega.

    Without probe i the basis of A Omega loses the direction s_i of `lost_directions`. What is left of tr A is sampled
    by w = (I - Q_i Q_i^T) omega_i, normalised to the dimension that it lives in.
    """
    rank, s = R.shape
    if rank == 0:
        return np.zeros(s)
    S = lost_directions(R)
    essential = S.any(axis=1)
    seen = W - S.T * np.einsum("ij,ji->i", S, W)
    trace = np.trace(H) - np.einsum("ij,jk,ik->i", S, H, S)
    sampled = np.einsum("ji,ji->i", W, R) - 2 * np.einsum("ji,ji->i", seen, R) + np.einsum("ji,jk,ki->i", seen, H, seen)
    left, norm = n - rank + essential, n - np.sum(seen**2, axis=0)
    return np.asarray(trace + np.where(left > 0, left / np.maximum(norm, 1e-300 * n), 0.0) * sampled)


def nystrom_samples(core: Floats, gram: Floats, R: Floats, n: int, epsilon: float) -> Floats:
    """Return XNysTrace's estimates, one per probe, from Omega^T A Omega, Omega^T Omega and the R factor of A Omega.

    Nyström's approximation Y core^+ Y^T agrees with A on all probes, so that without probe i it misses 1 / (core^+)_ii
    of omega_i^T A omega_i, and nothing where Y_i is a combination of the others. What is missed sees only the part of
    omega_i that is orthogonal to the other probes.
    """
    values, vectors = np.linalg.eigh(core)
    s, top = len(core), max(float(values[-1]), 0.0)
    rounding = epsilon * max(s, _ROUNDINGS) * float(np.max(np.abs(values), initial=0.0))
    if values[0] < -np.sqrt(epsilon) * max(top, rounding) - rounding:
        quotient = values[0] / float(vectors[:, 0] @ gram @ vectors[:, 0])
        msg = (
            f"`A` must be positive semidefinite, but an eigenvalue is at most {quotient:.6g} (certain). Use slq.xtrace."
        )
        raise DomainError(msg)
    kept = values > rounding
    if not kept.any():
        return np.zeros(s)
    half = vectors[:, kept] / np.sqrt(values[kept])
    factor = R @ half  # Nyström's approximation is factor factor^T, in the basis of Y
    lost = np.sum(vectors[:, ~kept] ** 2, axis=1)
    inverse = np.sum(half**2, axis=1)
    essential = lost <= _DEPENDENT
    removed = np.sum((factor @ half.T) ** 2, axis=0) / inverse
    sphered = (n - s + 1) * np.diag(np.linalg.pinv(gram))
    return np.asarray(np.sum(factor**2) + np.where(essential, sphered / inverse - removed, 0.0))


def _jackknife(value: float, s: int, without: Callable[[Places], float], size: float) -> Found:
    """Return the value with the deviation of what comes out without each group of probes."""
    groups = min(s, _GROUPS if s <= _LARGE else _FEW)
    place = np.arange(s) % groups
    values = np.array([without(np.flatnonzero(place != g)) for g in range(groups)])
    unit = float(np.max(np.abs(values), initial=0.0)) or 1.0  # squares of any size
    deviation = unit * float(np.sqrt((groups - 1) / groups * np.sum(((values - values.mean()) / unit) ** 2)))
    return Found(value, deviation, groups - 1, size, s)
