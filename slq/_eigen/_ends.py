"""Which eigenvalues are wanted: the order in which Ritz values count, how many to keep, and where no other may lie.

Pure arithmetic on the values of a projected matrix, on the host.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats

Which = Literal["LM", "LA", "SA", "BE"]
Indices = npt.NDArray[np.intp]

# Restarts leave room for at least this share of the basis.
_LEAST_FRESH = 0.3


def order(values: Floats, which: Which) -> Indices:
    """Return the positions of ascending values, the most wanted first.

    "BE" takes turns from both ends, the largest first, so that of an odd number the large end has one more.
    """
    up = np.arange(len(values))
    if which == "SA":
        return up
    if which == "LA":
        return up[::-1]
    if which == "LM":
        return np.argsort(-np.abs(values), kind="stable")
    turns = np.empty_like(up)
    turns[0::2], turns[1::2] = up[::-1][: (len(up) + 1) // 2], up[: len(up) // 2]
    return turns


def limits(values: Floats, which: Which) -> tuple[float, float]:
    """Return the interval that all eigenvalues but the given wanted ones must lie in."""
    low, high = -np.inf, np.inf
    wanted = values[order(values, which)] if len(values) else values
    if which == "LA":
        high = float(wanted[-1])
    elif which == "SA":
        low = float(wanted[-1])
    elif which == "LM":
        high = float(abs(wanted[-1]))
        low = -high
    else:
        high, low = float(wanted[0::2].min()), float(wanted[1::2].max()) if len(wanted) > 1 else -np.inf
    return low, high


def kept(values: Floats, which: Which, k: int, size: int) -> Indices:
    """Return the positions of the Ritz values that survive a restart of a basis of `size`.

    Keeping more widens the gap to the rest and so speeds up every step; keeping fewer leaves room for more steps until
    the next restart. The product of steps and the square root of the relative gap, on which the decay depends, is
    made largest.
    """
    ranked = order(values, which)
    most = max(min(k, size - 1), int((1 - _LEAST_FRESH) * size))
    least = min(k + 1, most)
    best, found = -1.0, least
    for count in range(least, min(most, len(values) - 1) + 1):
        rest = values[ranked[count:]]
        width = rest.max() - rest.min()
        last = values[ranked[: min(k, count)]]
        gap = _gap(last, rest, which)
        score = (size - count) * np.sqrt(gap / width) if width > 0 else np.inf
        if score > best:
            best, found = score, count
    return np.sort(ranked[:found])


def _gap(wanted: Floats, rest: Floats, which: Which) -> float:
    """Return the smallest distance of a wanted value to the rest."""
    above, below = wanted[wanted >= rest.max()], wanted[wanted <= rest.min()]
    gaps = [above.min() - rest.max()] if above.size else []
    gaps += [rest.min() - below.max()] if below.size else []
    return float(min(gaps)) if gaps else 0.0
