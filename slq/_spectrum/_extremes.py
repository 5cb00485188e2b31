"""Questions to a Spectrum about its ends and its zeros: condition number, numerical rank, negative eigenvalues.

Each function here is a method of `Spectrum` under the same name, which is why its first argument is called `self`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from slq._estimates import ErrorParts, Estimate
from slq._quadrature._joint import Combination
from slq._spectrum._answers import joint

if TYPE_CHECKING:
    from slq._spectrum._spectrum import Spectrum

# Eigenvalues within so many noise floors of zero cannot be told from it.
_ZEROS = 2.0


def condition_number(self: Spectrum) -> Estimate:
    """Return the ratio of the largest to the smallest magnitude of the eigenvalues.

    Ritz values bound it from below; the certified edges bound it from above where they have one sign, and nothing does
    where they have not. The estimate is the lower bound, which more steps raise.
    """
    low, high = self.edges
    top, bottom = max(abs(low), abs(high)), min(abs(low), abs(high))
    spread = self.residuals + self.noise
    largest = float(np.max(np.abs(self.nodes)))
    # An eigenvalue lies within the residual of every node; those of no weight are copies of others.
    smallest = float(np.min(np.where(self.weights > 0, np.abs(self.nodes) + spread, np.inf)))
    value = max(largest / smallest, 1.0) if smallest > 0 else np.inf
    most = max(top / bottom, value) if low > 0 or high < 0 else np.inf
    half = (most - value) / 2 if np.isfinite(most) else np.inf
    parts = ErrorParts(0.0, half, 0.0)
    return Estimate(value, value, most, parts, self.confidence, "certified" if self.certified else "estimate")


def rank(self: Spectrum, tol: float | None = None, /) -> Estimate:
    """Return the numerical rank, the number of eigenvalues beyond `tol` in magnitude.

    Parameters
    ----------
    self : Spectrum
        The run.
    tol : float, optional
        In the unit of the eigenvalues. By default n roundings of the largest, or twice the noise floor if that is more.
    """
    size = float(np.max(np.abs(self.nodes)))
    limit = max(_ZEROS * self.noise, self.n * np.finfo(np.float64).eps * size) if tol is None else float(tol)
    if not limit >= 0:
        msg = f"`tol` must not be negative, got {tol}."
        raise ValueError(msg)
    if size <= limit:
        return Estimate(0.0, 0.0, 0.0, ErrorParts(0.0, 0.0, 0.0), self.confidence, "estimate")
    inside = self.count(float(np.nextafter(-limit, -np.inf)), limit)
    return replace(inside, value=self.n - inside.value, low=self.n - inside.high, high=self.n - inside.low)


def negative_count(self: Spectrum) -> Estimate:
    """Return the number of eigenvalues below zero, by more than twice the noise floor; see `count`."""
    return self.count(-np.inf, float(np.nextafter(-_ZEROS * self.noise, -np.inf)))


def negative_mass(self: Spectrum) -> Estimate:
    """Return the share of the negative eigenvalues in the sum of all magnitudes, between 0 and 1."""
    unit = max(map(abs, self.edges)) or 1.0
    combination = Combination(
        (lambda x: np.maximum(-x / unit, 0.0), lambda x: np.abs(x / unit)),
        lambda t: float(t[0] / t[1]) if t[1] > 0 else 0.0,
        lambda t: np.array([1 / t[1], -t[0] / t[1] ** 2]) if t[1] > 0 else np.zeros(2),
    )
    found = joint(self, combination)
    return replace(found, value=float(np.clip(found.value, 0, 1)), low=max(found.low, 0.0), high=min(found.high, 1.0))
