"""Which of several ways to the same product is the fastest: each is run, timed and held against the first.

Nothing is remembered here.
"""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from slq_torch._passes import tolerance

Way = TypeVar("Way", bound=str)

# A first call pays for torch's own start (about 0.1 s for vmap). What took longer than this, in s, is not run twice.
_COLD = 1.0


def fastest(ways: Mapping[Way, Callable[[], Tensor]], *, handicap: Mapping[Way, float]) -> tuple[Way, Tensor]:
    """Return the fastest way that agrees with the first one that runs, and the first one's result.

    `handicap` multiplies measured seconds: a way that takes more memory must win by a margin. Ways that torch cannot
    take are passed over; if it can take none, the error of the first is raised.
    """
    reference: Tensor | None = None
    refusal: RuntimeError | None = None
    best, least = next(iter(ways)), 0.0
    for name, way in ways.items():
        penalty = handicap.get(name, 1.0)
        try:
            result, seconds = _timed(way)
            if seconds < _COLD and (reference is None or seconds * penalty > least):
                seconds = min(seconds, _timed(way)[1])
        except RuntimeError as error:  # no rule for this transform, no second derivative, or out of memory
            refusal = refusal or error
            continue
        if reference is None:
            reference, best, least = result, name, seconds * penalty
        elif seconds * penalty < least and _agree(result, reference):
            best, least = name, seconds * penalty
    if reference is None:
        assert refusal is not None  # `ways` is not empty
        raise refusal
    return best, reference


def _timed(way: Callable[[], Tensor]) -> tuple[Tensor, float]:
    start = time.perf_counter()
    result = way()
    if result.device.type != "cpu":
        getattr(torch, result.device.type).synchronize()
    return result, time.perf_counter() - start


def _agree(result: Tensor, reference: Tensor) -> bool:
    difference = torch.linalg.vector_norm(result - reference)
    return bool(difference <= tolerance(reference.dtype) * torch.linalg.vector_norm(reference))
