"""The loss as a function of the model's outputs: each output is detached on its way into the loss.

A forward hook does it, so the loss is given the user's own model, calls it as often as it likes and
sees in it whatever it always saw. Outputs may be tensors, tuples, lists, mappings and dataclasses,
nested. What is no output of model(...) is not cut; a loss that reaches the parameters some other
way is refused, since for it there is no Gauss-Newton matrix of these outputs.
"""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call

_NAMED = 3  # parameters that a message names


@dataclass(frozen=True, slots=True)
class Cut:
    """A loss evaluated through detached outputs.

    Attributes
    ----------
    value : Tensor
        The loss, a mean or a sum.
    outputs : tuple of Tensor
        The outputs z that the loss depends on, with their graphs to the parameters.
    leaves : tuple of Tensor
        The same numbers without these graphs; what the loss saw.
    slopes : tuple of Tensor
        The gradient of the loss by each leaf, with its graph.
    positions : tuple of int
        Where z stand among all tensors that the model returned.
    """

    value: Tensor
    outputs: tuple[Tensor, ...]
    leaves: tuple[Tensor, ...]
    slopes: tuple[Tensor, ...]
    positions: tuple[int, ...]

    def bend(self, tangents: Sequence[Tensor], *, graph: bool = False) -> list[Tensor]:
        """Multiply with the Hessian of the loss by its outputs; `graph` keeps how that depends on the leaves."""
        pairs = [(slope, t) for slope, t in zip(self.slopes, tangents, strict=True) if slope.requires_grad]
        if not pairs:
            return [torch.zeros_like(leaf) for leaf in self.leaves]
        slopes, directions = zip(*pairs, strict=True)
        found = torch.autograd.grad(
            slopes, self.leaves, directions, retain_graph=True, create_graph=graph, allow_unused=True
        )
        return [torch.zeros_like(leaf) if f is None else f for f, leaf in zip(found, self.leaves, strict=True)]


def cut(call: Call, params: Parameters, *, moved: Callable[[Tensor], Tensor] | None = None) -> Cut:
    """Evaluate the loss of a batch through detached outputs, or say why that is not possible.

    `moved` gives other outputs, at which the loss is evaluated instead.
    """
    outputs, leaves, positions = list[Tensor](), list[Tensor](), list[int]()
    position = itertools.count()

    def detached(tensor: Tensor) -> Tensor:
        here = next(position)
        if not tensor.requires_grad:
            return tensor
        outputs.append(tensor)
        leaf = tensor.detach()
        leaves.append((leaf if moved is None else moved(leaf)).requires_grad_())
        positions.append(here)
        return leaves[-1]

    with _hooked(call.model, detached):
        value = call.value()
    if not leaves:
        msg = (
            "`loss` does not call model(...), or what it returns does not require grad, so the loss cannot be seen "
            "as a function of the model's outputs. Call the model itself, not .forward or a submodule."
        )
        raise ValueError(msg)
    found = torch.autograd.grad(value, [*leaves, *params.tensors], create_graph=True, allow_unused=True)
    slopes, rest = found[: len(leaves)], found[len(leaves) :]
    _refuse_bypass([name for name, grad in zip(params.names, rest, strict=True) if grad is not None])
    live = [i for i, slope in enumerate(slopes) if slope is not None]
    kept = Cut(
        value,
        tuple(outputs[i] for i in live),
        tuple(leaves[i] for i in live),
        tuple(slope for slope in slopes if slope is not None),
        tuple(positions[i] for i in live),
    )
    _refuse_own_loss(kept)
    _refuse_chained(outputs, leaves)
    return kept


def outputs_at(call: Call, params: Parameters, values: Sequence[Tensor]) -> list[Tensor]:
    """Return all tensors that the model gives while the loss is evaluated at other parameter values."""
    found = list[Tensor]()

    def seen(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor.detach()

    with _hooked(call.model, seen):
        evaluated_at(call.model, params, values, call.evaluate)
    return found


def evaluated_at(model: Module, params: Parameters, values: Sequence[Tensor], function: Callable[[], Any]) -> Any:
    """Call `function` while the parameters of the model have other values, under any transform of torch.func."""
    state = {f"model.{name}": value for name, value in zip(params.names, values, strict=True)}
    return torch.func.functional_call(_Around(model, function), state, ())


class _Around(Module):
    """Holds a model so that functional_call can swap its parameters while a function of ours runs."""

    def __init__(self, model: Module, function: Callable[[], Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self) -> Any:
        return self.function()


@contextmanager
def _hooked(model: Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Apply `change` to each floating tensor that the model returns, once per call where one is returned twice."""

    def hook(_module: Module, _inputs: Any, output: Any) -> Any:
        done = dict[int, Tensor]()

        def once(tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point():
                return tensor
            if id(tensor) not in done:
                done[id(tensor)] = change(tensor)
            return done[id(tensor)]

        return mapped(output, once)

    handle = model.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return a nested value with each of its tensors replaced; objects of other kinds are passed through."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple | list):
        items = [mapped(item, function) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if hasattr(value, "keys") and hasattr(value, "__setitem__"):
        changed = copy.copy(value)
        for key in list(value.keys() if callable(value.keys) else value.keys):
            changed[key] = mapped(value[key], function)
        return changed
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(changed, field.name, mapped(getattr(value, field.name), function))
        return changed
    return value


def _refuse_bypass(names: list[str]) -> None:
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        msg = (
            f"`loss` depends on {', '.join(map(repr, names[:_NAMED]))}{more} in other ways than through what "
            "model(...) returns, so it has no Gauss-Newton matrix by these outputs. If it is weight decay, leave it "
            "out of `loss` and add it to the operator: 0.5 c |w|^2 adds c to the diagonal, operator + c. If a "
            "submodule or .forward is called, call model(...) itself, or wrap these steps in one Module."
        )
        raise ValueError(msg)


def _refuse_own_loss(found: Cut) -> None:
    """Refuse a model that returns its own loss: its only output would be the loss, and bend nothing."""
    if any(leaf.ndim == 0 and not slope.requires_grad for leaf, slope in zip(found.leaves, found.slopes, strict=True)):
        msg = (
            "`loss` passes on a scalar that the model returned, as model(**batch).loss does. Its curvature by that "
            "output is zero, which is not meant. Compute the loss from the logits: "
            "cross_entropy(model(**inputs).logits.flatten(0, -2), labels.flatten())."
        )
        raise ValueError(msg)


def _refuse_chained(outputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> None:
    """Refuse outputs that were computed from earlier, detached ones: their graphs would end there."""
    if len(outputs) == 1:
        return
    starts = {id(leaf) for leaf in leaves}
    seen, stack = set[Any](), [output.grad_fn for output in outputs]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        if id(getattr(node, "variable", None)) in starts:
            msg = (
                "`loss` feeds an output of model(...) into another call of it, so its outputs are no plain function of "
                "the parameters. Wrap the whole chain of calls in one Module and give that as `model`."
            )
            raise ValueError(msg)
        seen.add(node)
        stack.extend(parent for parent, _ in node.next_functions)
