"""The coordinate in which a spectrum is drawn and its tolerance is measured: linear, or asinh for heavy tails.

y = x, or y = asinh(x / s): linear near zero, logarithmic far from it, and defined for both signs. Distances in y say
how wrong a picture is; rescaling A rescales s and leaves y as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from slq._arrays import Floats

Scale = Literal["linear", "asinh"]

# asinh once the outer 10 % of the mass stretch the range by more than this factor over the inner 90 %.
_STRETCH = 20.0
# The linear zone of asinh is half the inner range, or this share of the largest magnitude where that is smaller: three
# decades are shown below the largest eigenvalue.
_DECADES = 1e-3


@dataclass(frozen=True, slots=True)
class Coordinate:
    """A monotone map of the eigenvalue axis.

    Attributes
    ----------
    scale : {"linear", "asinh", "log"}
        Which map; "log" is that of magnitudes, for pictures only.
    unit : float
        The s of asinh(x / s), in units of the eigenvalues; 1 for the linear map.
    """

    scale: Scale | Literal["log"]
    unit: float = 1.0

    def forward(self, x: Floats) -> Floats:
        """Return y for eigenvalues x."""
        if self.scale == "log":
            return np.asarray(np.log(x))
        return np.arcsinh(x / self.unit) if self.scale == "asinh" else np.asarray(x, dtype=np.float64)

    def inverse(self, y: Floats) -> Floats:
        """Return the eigenvalues x of coordinates y."""
        if self.scale == "log":
            return np.asarray(np.exp(y))
        return np.sinh(y) * self.unit if self.scale == "asinh" else np.asarray(y, dtype=np.float64)

    def slope(self, x: Floats) -> Floats:
        """Return dy/dx."""
        if self.scale == "log":
            return np.asarray(1.0 / x)
        return 1.0 / np.hypot(x, self.unit) if self.scale == "asinh" else np.ones_like(x)


def natural(nodes: Floats, weights: Floats, scale: Literal["auto", "linear", "asinh"] = "auto") -> Coordinate:
    """Return the coordinate that shows a whole spectrum.

    "auto" is linear, or asinh where a few far eigenvalues would squeeze the bulk into nothing. The unit of asinh
    depends on the distribution alone, not on how many steps were made, so that tolerances stay comparable.

    Parameters
    ----------
    nodes, weights : ndarray, shape (probes, steps)
        Gauss rules.
    scale : {"auto", "linear", "asinh"}
        What to return.
    """
    if scale == "linear":
        return Coordinate("linear")
    theta, omega = nodes.ravel(), weights.ravel() / len(nodes)
    order = np.argsort(theta)
    theta, mass = theta[order], np.cumsum(omega[order])
    low, high = theta[np.minimum(np.searchsorted(mass, (0.05, 0.95)), theta.size - 1)]
    largest = max(abs(theta[0]), abs(theta[-1]))
    if largest == 0 or (scale == "auto" and theta[-1] - theta[0] <= _STRETCH * (high - low)):
        return Coordinate("linear")
    return Coordinate("asinh", float(max(0.5 * (high - low), _DECADES * largest)))
