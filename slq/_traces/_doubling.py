"""How many products an estimator gets: as many as asked for, or doubled until a tolerance is met.

An estimator is a step that keeps what it has and goes on to a number of products. From n products on the trace, or the
diagonal, is computed exactly instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypedDict

import numpy as np
from scipy.special import stdtrit

from slq._arrays import Floats
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
    rtol, confidence, _ = limits_of(effort)
    n = blocks.operator.n
    for target, risk in targets(n, products, effort, least):
        if target >= n:
            found = _exact(blocks, confidence)
        else:
            found = _student(step(target), blocks.epsilon, confidence, risk)
        if found.high - found.low <= 2 * rtol * abs(found.value):
            break
    blocks.test(above=2)
    return _times(found, blocks.scale or 1.0)


def limits_of(effort: Effort) -> tuple[float, float, int | None]:
    """Return `rtol`, `confidence` and `max_products`, or what they are by default."""
    if unknown := set(effort) - set(Effort.__annotations__):
        msg = f"`{min(unknown)}` is no option here: these are products, rng, {', '.join(Effort.__annotations__)}."
        raise TypeError(msg)
    return effort.get("rtol", 1e-2), effort.get("confidence", 0.95), effort.get("max_products")


def targets(n: int, products: int | None, effort: Effort, least: int) -> Iterator[tuple[int, float]]:
    """Yield how many products to go on to, and the risk that an interval may take there: several looks share it."""
    rtol, confidence, max_products = limits_of(effort)
    _validate(products, rtol, confidence, max_products, least)
    if products is not None:
        yield products, 1 - confidence
        return
    most = min(_MOST if max_products is None else max_products, n)
    target = max(_FIRST, least) if most > _FIRST else most
    looks = max(1, int(np.ceil(np.log2(most / _FIRST))) + 1) if most > _FIRST else 1
    while target < most:
        yield target, (1 - confidence) / looks
        target = min(2 * target, most)
    yield most, (1 - confidence) / looks


def _times(estimate: Estimate, unit: float) -> Estimate:
    """Return an estimate in another unit."""
    error = estimate.error
    parts = ErrorParts(error.sampling * unit, error.quadrature * unit, error.numeric * unit)
    return replace(
        estimate, value=estimate.value * unit, low=estimate.low * unit, high=estimate.high * unit, error=parts
    )


def _student(found: Found, epsilon: float, confidence: float, risk: float) -> Estimate:
    """Return Student's interval at a risk."""
    quantile = float(stdtrit(found.freedom, 1 - risk / 2))
    half, rounding = quantile * found.deviation, _ROUNDINGS * epsilon * found.columns * found.size
    low, high = found.value - half - rounding, found.value + half + rounding
    return Estimate(found.value, low, high, ErrorParts(half, 0.0, rounding), confidence, "estimate")


def diagonal_of(blocks: Blocks) -> Floats:
    """Return the diagonal from all columns, in the blocks' scale."""
    n, found, width = blocks.operator.n, [], 64
    here = blocks.shards.numbers()[:, None]
    for start in range(0, n, width):
        unit = blocks.from_host(np.asarray(here == np.arange(start, min(start + width, n)), dtype=np.float64))
        found.append(blocks.diagonal_of_inner(unit, blocks.product(unit)))
    return np.concatenate(found)


def _exact(blocks: Blocks, confidence: float) -> Estimate:
    """Return the trace from all columns."""
    diagonal = diagonal_of(blocks)
    total, size = float(diagonal.sum()), float(np.abs(diagonal).sum())
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
