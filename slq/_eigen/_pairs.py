"""Pairs that a search has found: the best of several sets, what nearly converged ones prove, and true residuals.

Vectors are rows and stay on their device; values and residuals are on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array, Floats
from slq._eigen import _ends
from slq._eigen._ends import Indices, Which
from slq._eigen._restarts import Restarts, Ritz
from slq._errors import RunError
from slq._lanczos import _rows
from slq._operators._operators import Operator, image_rows

# Ritz vectors help a proof along while their residuals widen it by this share of their distance to what is wanted.
_NEARLY = 0.1
_HALVINGS = 50
# No more columns than this are multiplied at once.
_BATCH = 16


class Pairs(NamedTuple):
    """Ritz values, orthonormal vectors as rows, and residual norms."""

    values: Floats
    rows: Array
    residuals: Floats


def picked(space: Restarts, ritz: Ritz, which: Indices) -> Pairs:
    """Return some of the Ritz pairs of a space."""
    return Pairs(ritz.values[which], space.vectors(ritz.coefficients[:, which]), ritz.residuals[which])


def best(parts: Sequence[Pairs], which: Which, k: int, xp: Any) -> Pairs:
    """Return the k most wanted pairs of several sets, values ascending."""
    values = np.concatenate([pairs.values for pairs in parts])
    residuals = np.concatenate([pairs.residuals for pairs in parts])
    places = [(pairs, i) for pairs in parts for i in range(len(pairs.values))]
    up = np.argsort(values, kind="stable")
    chosen = up[np.sort(_ends.order(values[up], which)[:k])]
    rows = [places[i][0].rows[places[i][1], ...] for i in chosen]
    return Pairs(values[chosen], xp.stack(rows), residuals[chosen])


def prefix(residuals: Floats, distances: Floats) -> int:
    """Return how many near pairs, the most wanted first, help a proof more than their residuals spoil it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spoiled = np.cumsum(residuals**2 / distances)
        helps = (distances > 0) & (spoiled <= _NEARLY * distances[:1])
    return int(np.argmin(np.append(helps, False)))


def coupled(edges: tuple[float, float], near: Pairs | None) -> tuple[float, float]:
    """Return edges of near pairs and of the complement of all pairs together, given those of the complement."""
    if near is None:
        return edges
    low, high = edges
    return -_upper(-low, -near.values, near.residuals), _upper(high, near.values, near.residuals)


def stored(pairs: Pairs, first: int) -> Iterable[npt.NDArray[Any]]:
    """Give vectors from the given number on, on the host and as they are, one by one."""
    kind = np.dtype(_arrays.dtype_name(pairs.rows.dtype))
    return (_arrays.to_host(pairs.rows[i : i + 1, :]).astype(kind) for i in range(first, len(pairs.values)))


def measured(operator: Operator, pairs: Pairs, scale: float, after: Callable[[int], object]) -> Pairs:
    """Multiply each vector once more: return the best pairs in their span and the residuals of A / scale.

    `after` is called after each product with its number of columns.
    """
    xp, reduce, rows, count, parts = operator.xp, operator.reduce, pairs.rows, len(pairs.values), []
    for i in range(0, count, _BATCH):
        parts.append(image_rows(operator, rows[i : min(i + _BATCH, count), :]))
        after(int(parts[-1].shape[0]))
    images = _arrays.cast(xp.concat(parts, axis=0), rows.dtype, xp) / scale
    projected = _arrays.to_host(_rows.inner(rows, images, xp, reduce))
    if not np.isfinite(projected).all():
        msg = "the product with a converged vector gave NaN or Inf. `slq.check` looks for the cause."
        raise RunError(msg)
    turn = np.linalg.eigh((projected + projected.conj().T) / 2)[1].T
    factors = _arrays.from_host(turn, xp, dtype=rows.dtype, device=operator.device)
    rows, images = xp.matmul(factors, rows), xp.matmul(factors, images)
    products = xp.real(_rows.conjugate(rows, xp) * images) if _arrays.is_complex(rows.dtype) else rows * images
    values = reduce(xp.sum(products, axis=-1, dtype=_arrays.accumulator_dtype(xp, operator.device)))
    left = images - _arrays.cast(values, rows.dtype, xp)[:, None] * rows
    sizes = xp.sqrt(_rows.squares(left, xp, reduce))
    return Pairs(_arrays.to_host(values), rows, _arrays.to_host(sizes))


def findings(inferred: Pairs, true: Pairs, asymmetry: float, norm: float, suspicious: float) -> tuple[str, ...]:
    """Tell in words of measured asymmetry, or of residuals that are not those of the recurrence."""
    if asymmetry > suspicious:
        return (
            f"the operator is not symmetric, or not linear: |u^T A v - v^T A u| reached {asymmetry / norm:.1g} |A|. "
            "The result is neither its eigenvalues nor its singular values. Pass (A + A^T) / 2, or A^T A for singular "
            "values. `slq.check` tells which it is.",
        )
    if true.residuals.max() > max(10 * inferred.residuals.max(), suspicious):  # single ones mix in equal values
        return (
            f"the operator drifts, or is not linear: residuals of {true.residuals.max() / norm:.1g} |A| were measured "
            f"where the recurrence had {inferred.residuals.max() / norm:.1g} |A|. Common causes: another mini-batch at "
            "every product, dropout left on, a matrix that changes while it is used.",
        )
    return ()


def _upper(edge: float, values: Floats, residuals: Floats) -> float:
    """Return a bound of the matrix [[N, R^T], [R, C]] of near values, their residuals and a C that ends at the edge.

    By its Schur complement no eigenvalue lies beyond a t > N with edge + sum residual**2 / (t - value) <= t.
    """
    start, step = max(edge, float(values.max())), float(np.linalg.norm(residuals))
    low, high = start, start + step  # at the upper one the largest eigenvalue is passed for certain
    for _ in range(_HALVINGS):
        t = (low + high) / 2
        with np.errstate(divide="ignore"):
            enough = edge + np.sum(residuals**2 / (t - values)) <= t
        low, high = (low, t) if enough else (t, high)
    return high
