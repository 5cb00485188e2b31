"""What a restarted Krylov space proves about eigenvalues that it has not found: the polynomial that it stands for.

After any number of restarts the newest vector is p(A) v / |p(A) v| for the random unit vector v that the space began
with, and the roots of p are the Ritz values, those discarded on the way among them. So |p(lambda)| |u^T v| <= |p(A) v|
for every eigenvector u, and a random v is nowhere nearly orthogonal to u: the bound of `_bounds.upper_edges`, which
needs no more than the roots and the norm, kept here over restarts. It holds for recurrences with rounding as well:
between the roots' hull and the bound, roundings are amplified by p at most, which is less than sqrt(n) / risk there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._eigen._ends import Indices
from slq._eigen._restarts import Ritz
from slq._quadrature._bounds import certified_edges


class Filter:
    """The roots and the norm of p, and where the start vector stands in the space; for blocks of one vector."""

    __slots__ = ("_log_norm", "_roots", "_weights")

    def __init__(self) -> None:
        self._weights = np.ones(1)
        self._roots: list[float] = []
        self._log_norm = 0.0

    def edges(self, ritz: Ritz, tail: Floats, n: int, risk: float) -> tuple[float, float]:
        """Return (low, high) that hold all eigenvalues that a random start vector touches, with probability 1 - risk.

        Parameters
        ----------
        ritz : Ritz
            Of the whole basis.
        tail : ndarray, shape (0, m) or (1, m)
            The newest vector's coefficients in A times the basis.
        n : int
            Dimension that the start vector was drawn from.
        risk : float
            Probability of a false statement.
        """
        values = ritz.values
        signed, shares = (tail @ ritz.coefficients).sum(axis=0), self._shares(ritz.coefficients)
        with np.errstate(divide="ignore"):
            visible = np.log(np.abs(signed)) + np.log(np.abs(shares))
            i = int(np.argmax(visible))
            if not np.isfinite(visible[i]):
                return float(values[0]), float(values[-1])
            log_norm = self._log_norm + visible[i] + np.log(np.abs(np.delete(values, i) - values[i])).sum()
        roots = np.concatenate([values, self._roots])
        if not np.isfinite(log_norm):
            return float(roots.min()), float(roots.max())
        mean = np.full((1, len(roots)), np.exp(log_norm / len(roots)))
        return certified_edges(roots[None], mean, np.array([len(roots)]), n, risk=risk, noise=0.0)

    def restart(self, ritz: Ritz, keep: Indices) -> None:
        """Take the discarded Ritz values as roots."""
        values = ritz.values
        shares, gone = self._shares(ritz.coefficients), np.delete(values, keep)
        with np.errstate(divide="ignore"):
            logs = np.log(np.abs(shares[keep])) + np.log(np.abs(values[keep][:, None] - gone)).sum(axis=1)
        largest = float(logs.max())
        if not np.isfinite(largest):
            largest = 0.0
        signs = np.sign(shares[keep]) * np.prod(np.sign(values[keep][:, None] - gone), axis=1)
        weights = signs * np.exp(logs - largest)
        size = float(np.linalg.norm(weights)) or 1.0
        self._weights = weights / size
        self._log_norm += largest + np.log(size)
        self._roots += list(gone)

    def packed(self) -> dict[str, npt.NDArray[Any]]:
        """Return all there is as arrays."""
        return {"weights": self._weights, "roots": np.array(self._roots), "log-norm": np.array(self._log_norm)}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return what was `packed`."""
        proof = cls()
        proof._weights, proof._log_norm = arrays["weights"], float(arrays["log-norm"])
        proof._roots = arrays["roots"].tolist()
        return proof

    def _shares(self, coefficients: Floats) -> Floats:
        """Return the start vector's coefficients along the Ritz vectors."""
        return np.asarray(self._weights @ coefficients[: len(self._weights)].conj())
