"""What is said of an operator whose products contradict each other, in one place: warnings of all functions.

Nothing is measured here. Two numbers that ought to be one, such as u^T A v and v^T A u, tell that something is wrong,
seldom what: the texts name all that it can be, the most likely first.
"""

from __future__ import annotations

import warnings

from slq._errors import SlqWarning

# Beyond this power of a rounding a difference is no rounding.
_SUSPICIOUS = 0.5
# So many times its stated noise an operator may differ from itself.
_NOISES = 4.0

_DRIFT = (
    "Common causes: another mini-batch at every product, dropout or augmentation left on, a matrix that changes while "
    "it is used"
)


def suspicious(epsilon: float, noise: float, rounding: float = 0.0) -> float:
    """Return from where on a relative difference is neither rounding nor the operator's stated noise."""
    return max(float(epsilon**_SUSPICIOUS), _NOISES * noise, rounding)


def subnormal(rounding: float) -> str:
    """Tell of products whose rounding is coarse because they are next to nothing in their dtype."""
    return (
        f"products come out as subnormal numbers, rounded by {rounding:.1g} (relative): the operator is too small for "
        "its dtype. Multiply it by a power of two, and divide the eigenvalues by the same."
    )


def drifting(change: float) -> str:
    """Tell of a product that came out different a second time, of the same vector or of a multiple of it."""
    return (
        f"the operator drifts, or is not linear: the same product came out {change:.1g} different (relative) of a "
        f"multiple of its vector. {_DRIFT}, a constant added, clipping, a finite difference with too large a step. The "
        "result mixes several matrices. `slq.check` tells which it is."
    )


def asymmetric(amount: float, advice: str) -> str:
    """Tell of inner products u^T A v and v^T A u that differ, as a share of |A|, and what to do."""
    return (
        f"the operator is not symmetric, or not linear: |A - A^T| / |A| is about {amount:.1g}. {advice} `slq.check` "
        "tells which it is."
    )


def contradicting(amount: float) -> str:
    """Tell of a recurrence whose coefficients do not fit together, as a share of |A|."""
    return (
        f"products contradict each other by {amount:.1g} |A|: the operator is not symmetric, or not linear, or drifts. "
        f"{_DRIFT}. The result belongs to no symmetric matrix. `slq.check` tells which it is."
    )


def warn(text: str, *, above: int) -> None:
    """Warn at the line that called the function so many frames above the caller of this one."""
    warnings.warn(text, SlqWarning, stacklevel=above + 2)
