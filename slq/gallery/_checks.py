"""Check the arguments of the gallery: each function names the argument, what was given and what is allowed."""

import math
import operator

import numpy as np
import numpy.typing as npt

from slq.gallery._law import Reals


def whole(name: str, value: int, least: int) -> None:
    """Refuse what is not an integer of at least `least`."""
    try:
        index = operator.index(value)
    except TypeError:
        msg = f"`{name}` must be an integer, got {value!r}."
        raise TypeError(msg) from None
    if index < least:
        msg = f"`{name}` must be at least {least}, got {value}."
        raise ValueError(msg)


def positive(name: str, value: float) -> None:
    """Refuse what is not positive and finite."""
    if not 0 < value < math.inf:
        msg = f"`{name}` must be positive and finite, got {value}."
        raise ValueError(msg)


def ordered(low_name: str, low: float, high_name: str, high: float) -> None:
    """Refuse an interval that is empty or not finite."""
    if not -math.inf < low < high < math.inf:
        msg = f"`{low_name}` must lie below `{high_name}`, both finite, got {low} and {high}."
        raise ValueError(msg)


def vector(name: str, values: npt.ArrayLike) -> Reals:
    """Return `values` in float64; refuse what is not one-dimensional and finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.all(np.isfinite(array)):
        msg = f"`{name}` must be one-dimensional and finite, got shape {array.shape}."
        raise ValueError(msg)
    return array
