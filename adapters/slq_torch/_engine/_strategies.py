"""What a way to a product is, and what the engine has to know of a kind of matrix to choose between its ways.

The ways themselves are made where the matrix is: the Hessian's in `_ways`, those of J^T M J in `_jacobian`.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call

Name = Literal[
    "graph", "fused", "graph-vmap", "forward", "forward-over-reverse", "linearize", "compile", "finite-difference"
]
Choice = Literal["auto"] | Name
NAMES: tuple[Name, ...] = get_args(Name)
# What vmap says of operations that it loops over, torch when it first loads its rules for dual numbers, and its tracer.
KNOWN = r"There is a performance drop|`torch\.jit\.script` is deprecated|Attempted to insert a get_attr"


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to multiply: `prepare(call, params)`, then `multiply(prepared, params, rows, keep)`.

    Attributes
    ----------
    held : bool
        What is prepared serves later products with the same batch; strategies with the same `prepare` share it.
    vmapped : bool
        Columns go together, each with its own copy of what is computed.
    functional : bool
        The loss is evaluated under torch.func, where closures cannot go.
    eager : bool
        It may be tried where it was not asked for.
    noise : callable, optional
        (call, params, row) -> its relative error, measured on one row.
    """

    name: Name
    prepare: Callable[[Call, Parameters], Any]
    multiply: Callable[[Any, Parameters, Tensor, bool], Tensor]
    held: bool = False
    vmapped: bool = False
    functional: bool = False
    eager: bool = True
    noise: Callable[[Call, Parameters, Tensor], float] | None = None


class Recipe(Protocol):
    """A kind of matrix: what one batch contributes to it, by one way or another.

    The first of its ways needs the least memory per column and is what the others are held against.
    """

    kind: str

    @property
    def facts(self) -> dict[str, Any]:
        """What the metadata tell of it; can be written as JSON."""
        ...

    @property
    def parts(self) -> int:
        """How many matrices are multiplied at once; a product's rows have n numbers for each."""
        ...

    def ways(self) -> tuple[Strategy, ...]:
        """Make its ways; what is compiled belongs to them."""
        ...


def _cannot_compile(device: torch.device) -> str | None:
    """Say why torch.compile would fail here, None if nothing is known against it."""
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        return "no C++ compiler was found (g++ or clang++), which torch.compile needs on the CPU"
    return None


def check_options(kind: str, names: tuple[Name, ...], strategy: Any, chunk: Any, memory: Any, microbatch: Any) -> None:
    """Refuse options that mean nothing, and ways that this kind of matrix has not."""
    if strategy not in ("auto", *names):
        what = f" for the {kind}" if strategy in NAMES else ""
        msg = f"`strategy` must be one of {', '.join(map(repr, ('auto', *names)))}{what}, got {strategy!r}."
        raise ValueError(msg)
    for name, value in (("chunk", chunk), ("microbatch", microbatch)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            msg = f"`{name}` must be a positive integer or None, got {value!r}."
            raise ValueError(msg)
    if memory is not None and not memory >= 0:
        msg = f"`memory` must be a number of bytes >= 0 or None, got {memory!r}."
        raise ValueError(msg)


def check_admissible(way: Strategy, model: Any, device: torch.device) -> None:
    """Refuse a way that cannot be gone with this model here."""
    if way.functional and not isinstance(model, Module):
        msg = (
            f'`strategy` is "{way.name}", which evaluates the loss at other tensors than the parameters; a closure '
            'closes over its own. Use "graph", "graph-vmap" or "finite-difference", or give (model, loss, data).'
        )
        raise ValueError(msg)
    if way.name == "compile" and (reason := _cannot_compile(device)):
        msg = f'`strategy` is "compile", but {reason}. Install one, or use strategy="auto".'
        raise ValueError(msg)
