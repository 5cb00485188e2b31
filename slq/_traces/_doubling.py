"""How many products an estimator of a trace gets: as many as asked for, or doubled until a tolerance is met.

An estimator is a step that keeps what it has and goes on to a number of products. From n products on the trace is
computed exactly instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

import numpy as np
from scipy.special import stdtrit

from slq._estimates import ErrorParts, Estimate
from slq._traces._blocks import Blocks
from slq._traces._leave_one_out import Found

# Products of the first look, when a tolerance decides; then they double, up to the second number by default.
_FIRST, _MOST = 24, 16384
# Rounding: so many roundings of the trace of magnitudes, per column of the small matrices.
_ROUNDINGS = 8.0

Step = Callable[[int], Found]


class Effort(TypedDict, total=False):
    """Options that all estimators share; their meaning is that of `slq.hutchinson`."""

    rtol: float
    confidence: float
    max_products: int | None


def reach(blocks: Blocks, step: Step, products: int | None, effort: Effort, least: int = 2) -> Estimate:
    """Take one step to so many products, or double them until the tolerance is met; then see whether they repeat."""
    if unknown := set(effort) - set(Effort.__annotations__):
        msg = f"`{min(unknown)}` is no option here: these are products, rng, {', '.join(Effort.__annotations__)}."
        raise TypeError(msg)
    rtol, confidence = effort.get("rtol", 1e-2), effort.get("confidence", 0.95)
    max_products = effort.get("max_products")
    _validate(products, rtol, confidence, max_products, least)
    n = blocks.operator.n
    most = min(_MOST if max_products is None else max_products, n)
    target = most if products is None else products
    if products is None and most > _FIRST:
        target = max(_FIRST, least)
    looks = max(1, int(np.ceil(np.log2(most / _FIRST))) + 1) if products is None and most > _FIRST else 1
    while True:
        if target >= n:
            found = _exact(blocks, confidence)
        else:
            found = _student(step(target), blocks.epsilon, confidence, looks)
        if products is not None or target >= most or found.high - found.low <= 2 * rtol * abs(found.value):
            blocks.test(above=2)
            return _times(found, blocks.scale or 1.0)
        target = min(2 * target, most)


def _times(estimate: Estimate, unit: float) -> Estimate:
    """Return an estimate in another unit."""
    error = estimate.error
    parts = ErrorParts(error.sampling * unit, error.quadrature * unit, error.numeric * unit)
    return replace(
        estimate, value=estimate.value * unit, low=estimate.low * unit, high=estimate.high * unit, error=parts
    )


def _student(found: Found, epsilon: float, confidence: float, looks: int) -> Estimate:
    """Return Student's interval; several looks share the risk."""
    quantile = float(stdtrit(found.freedom, 1 - (1 - confidence) / (2 * looks)))
    half, rounding = quantile * found.deviation, _ROUNDINGS * epsilon * found.columns * found.size
    low, high = found.value - half - rounding, found.value + half + rounding
    return Estimate(found.value, low, high, ErrorParts(half, 0.0, rounding), confidence, "estimate")


def _exact(blocks: Blocks, confidence: float) -> Estimate:
    """Return the trace from all columns."""
    n, total, size, width = blocks.operator.n, 0.0, 0.0, 64
    here = blocks.shards.numbers()[:, None]
    for start in range(0, n, width):
        unit = blocks.from_host(np.asarray(here == np.arange(start, min(start + width, n)), dtype=np.float64))
        diagonal = blocks.diagonal_of_inner(unit, blocks.product(unit))
        total, size = total + float(diagonal.sum()), size + float(np.abs(diagonal).sum())
    rounding = _ROUNDINGS * blocks.epsilon * size
    return Estimate(total, total - rounding, total + rounding, ErrorParts(0.0, 0.0, rounding), confidence, "certified")


def _validate(products: int | None, rtol: float, confidence: float, max_products: int | None, least: int) -> None:
    for name, value in (("products", products), ("max_products", max_products)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            msg = f"`{name}` must be an integer, got {value!r}."
            raise TypeError(msg)
        if value < least:
            msg = f"`{name}` must be at least {least}, got {value}."
            raise ValueError(msg)
    if not rtol > 0:
        msg = f"`rtol` must be positive, got {rtol}."
        raise ValueError(msg)
    if not 0.5 <= confidence < 1:
        hint = f" Did you mean {confidence / 100:g}?" if 50 <= confidence < 100 else ""
        msg = f"`confidence` must lie in [0.5, 1), got {confidence}.{hint}"
        raise ValueError(msg)
