"""What all constructors are given, read and checked in one place. Nothing is run here."""

from typing import Any

from slq_jax._operator import Curvature, CurvatureOperator
from slq_jax._parameters import Selection, parameters_of
from slq_jax._passes import Passes
from slq_jax._placement import automatic, placement_of


def operator_of(
    curvature: Curvature,
    params: Any,
    data: Any,
    *,
    select: Selection | None,
    accumulate: Any,
    chunk: int | None,
    memory: float | None,
) -> CurvatureOperator:
    """Return the operator of a curvature at these parameters."""
    if memory is not None and not memory > 0:
        msg = f"`memory` must be a positive number of bytes or None, got {memory}."
        raise ValueError(msg)
    chosen = parameters_of(automatic(params), select)
    placement = placement_of(chosen.names, chosen.leaves, chosen.size)
    return CurvatureOperator(
        curvature, chosen, Passes(data), placement, accumulate=accumulate, chunk=chunk, memory=memory
    )


def check_function(function: Any, name: str, call: str) -> None:
    """Refuse what cannot be called."""
    if not callable(function):
        msg = f"`{name}` must be a function {call}, got {type(function).__name__}."
        raise TypeError(msg)
