"""What all constructors are given, (model, loss, data, params, mode), read and checked in one place.

Nothing is run here: the loss is called first by the first product.
"""

from typing import Any, Literal, get_args

from torch import Tensor
from torch.nn import Module

from slq_torch._model._parameters import Parameters, Selection, from_model
from slq_torch._model._passes import Loss, Passes
from slq_torch._model._suspects import dropout_refusal

Mode = Literal["as-is", "eval", "train"]

ABSENT: Any = object()


def network(
    model: Module,
    loss: Loss,
    data: Any,
    *,
    params: Selection | None = None,
    mode: Mode = "as-is",
    closure: str | None = None,
) -> tuple[Parameters, Passes]:
    """Return the chosen parameters of a network and the passes over its data, or refuse.

    `closure` names another form of the constructor, "hessian(closure, params)", that messages point to.
    """
    check_mode(mode)
    check_network(model, loss, data, closure=closure)
    chosen = from_model(model, params)
    passes = Passes(loss, model, data, chosen.tensors, mode)
    refuse_dropout(passes)
    return chosen, passes


def is_loss(loss: Any) -> bool:
    """Whether `loss` can be loss(model, batch): callable, and no tensors."""
    return callable(loss) and not isinstance(loss, Tensor) and not hasattr(loss, "keys")


def check_mode(mode: Any) -> None:
    """Refuse what is no mode."""
    if mode not in get_args(Mode):
        msg = f"`mode` must be one of {', '.join(map(repr, get_args(Mode)))}, got {mode!r}."
        raise ValueError(msg)


def check_network(model: Any, loss: Any, data: Any, *, closure: str | None = None) -> None:
    """Refuse a model that is none, and a loss of another form than loss(model, batch)."""
    if not isinstance(model, Module):
        msg = f"`model` must be a torch.nn.Module, got {type(model).__name__}."
        if closure:
            msg += f" For a function of tensors use {closure}."
        raise TypeError(msg)
    if not is_loss(loss):
        msg = f"`loss` must be a function loss(model, batch), got {type(loss).__name__}."
        raise TypeError(msg)
    # The losses of torch, classes and functions, take (output, target): a common mistake.
    if str(getattr(loss, "__module__", "")).startswith("torch.nn."):
        name = getattr(loss, "__name__", type(loss).__name__)
        msg = (
            f"`loss` is called as loss(model, batch), but {name} takes (output, target). Wrap it: "
            "lambda model, batch: criterion(model(batch[0]), batch[1])."
        )
        raise TypeError(msg)
    if data is ABSENT:
        msg = "`data` is missing. Give one batch, a list of batches or a DataLoader."
        raise TypeError(msg)


def refuse_dropout(passes: Passes) -> None:
    """Refuse a model that, in the mode of the passes, would drop something at random."""
    with passes.prepared():
        refusal = dropout_refusal(passes.module, passes.mode)
    if refusal:
        raise ValueError(refusal)
