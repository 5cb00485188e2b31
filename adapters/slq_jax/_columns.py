"""How many columns go at once through a linear function, so that what it holds on the way fits into memory."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax

Multiply = Callable[[jax.Array], jax.Array]


def mapped(multiply: Multiply, rows: jax.Array, *, memory: float, most: int) -> jax.Array:
    """Apply a linear function of vectors to each row of (b, n), vmapped over as many rows as memory holds.

    For use while tracing. The sum of all arrays that the function makes is taken for the memory of a column: an upper
    bound, since the compiler frees and fuses them.
    """
    width = rows.shape[0]
    chunk = max(1, min(most, width))
    if chunk > 1:
        chunk = int(max(1, min(chunk, memory // max(_bytes_made(multiply, rows[0]), 1))))
    if chunk >= width:
        return jax.vmap(multiply)(rows)
    return jax.lax.map(multiply, rows, batch_size=chunk)


def _bytes_made(multiply: Multiply, row: jax.Array) -> int:
    return _sum_of(jax.make_jaxpr(multiply)(row).jaxpr)


def _sum_of(jaxpr: Any) -> int:
    """Add up the bytes of all results in a program; of a nested program its own, where they are more."""
    total = 0
    for equation in jaxpr.eqns:
        made = sum(prod(v.aval.shape) * v.aval.dtype.itemsize for v in equation.outvars if hasattr(v.aval, "shape"))
        inner = [getattr(p, "jaxpr", p) for p in equation.params.values()]
        total += max(made, sum(_sum_of(p) for p in inner if hasattr(p, "eqns")))
    return total
