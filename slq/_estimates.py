"""The small results that every question returns: a number or a curve, each with its interval and its origin.

No estimation happens here: these are the frozen containers, how they print and how they stack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from slq._arrays import Floats

Claim = Literal["certified", "estimate"]


@dataclass(frozen=True, slots=True)
class ErrorParts:
    """The three parts of an error, each a half-width in the unit of the value.

    Attributes
    ----------
    sampling : float
        From the random probes: shrinks like 1/sqrt(probes).
    quadrature : float
        From the finite number of Lanczos steps: shrinks with more steps.
    numeric : float
        From rounding and the operator's own noise: no number of products removes it.
    """

    sampling: float
    quadrature: float
    numeric: float

    def __post_init__(self) -> None:
        _plain(self, "sampling", "quadrature", "numeric")

    @property
    def largest(self) -> str:
        """Name the part that dominates."""
        return max(("sampling", "quadrature", "numeric"), key=lambda name: getattr(self, name))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with an interval that holds the truth at the stated confidence.

    Attributes
    ----------
    value : float
        The estimate.
    low, high : float
        The interval; all three error parts are inside it. It need not be symmetric.
    error : ErrorParts
        Half-widths by origin.
    confidence : float
        The probability with which the interval holds the truth, for example 0.95.
    claim : {"certified", "estimate"}
        "certified" when every part follows from a theorem under the assumptions that the run checked
        (full re-orthogonalisation, products that repeat); "estimate" when a part is extrapolated.

    Examples
    --------
    >>> print(Estimate(12.34, 12.29, 12.39, ErrorParts(0.04, 0.01, 0.0), 0.95, "certified"))
    12.34 ± 0.05 (95 %)
    """

    value: float
    low: float
    high: float
    error: ErrorParts
    confidence: float
    claim: Claim

    def __post_init__(self) -> None:
        _plain(self, "value", "low", "high")

    def __float__(self) -> float:
        """Return the bare value."""
        return self.value

    def __str__(self) -> str:
        """Return value ± half-width, or the interval where it is lopsided."""
        percent = f"({self.confidence * 100:g} %)"
        below, above = self.value - self.low, self.high - self.value
        wide, narrow = max(below, above), min(below, above)
        if wide == 0:
            return f"{self.value:.12g} exactly {percent}"
        if not math.isfinite(wide) or wide > 2 * narrow:
            return f"{self.value:.6g} in [{self.low:.6g}, {self.high:.6g}] {percent}"
        return f"{format_with_error(self.value, wide)} {percent}"


@dataclass(frozen=True, slots=True)
class Band:
    """A curve with a band that holds the true curve at all its points at once.

    Attributes
    ----------
    x : ndarray, shape (points,)
        Where the curve is given.
    value : ndarray, shape (points,)
        The estimate.
    low, high : ndarray, shape (points,)
        The band.
    confidence : float
        The probability with which the whole true curve lies in the band.
    claim : {"certified", "estimate"}
        As in `Estimate`.
    """

    x: Floats
    value: Floats
    low: Floats
    high: Floats
    confidence: float
    claim: Claim


def _plain(result: object, *names: str) -> None:
    """Make Python's floats of NumPy's, which print with their type."""
    for name in names:
        object.__setattr__(result, name, float(getattr(result, name)))


def format_with_error(value: float, half: float) -> str:
    """Write `value ± half` with as many decimals as the error leaves meaningful.

    One digit of the error is kept, two where it starts with a 1 (0.012, not 0.01).
    """
    exponent = math.floor(math.log10(half))
    decimals = -exponent + (half < 2 * 10.0**exponent)
    if abs(value) >= 1e9 or decimals > 9:
        return f"{value:.12g} ± {half:.1e}"
    return f"{value:.{max(decimals, 0)}f} ± {half:.{max(decimals, 0)}f}"
