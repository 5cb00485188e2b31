"""What torch cannot trace, exchanged for what it can: tracing the gradient of a squared error ends the process.

Torch 2.13 dies by a segmentation fault in the forward derivative of `mse_loss_backward` while `torch.func.linearize`
traces it, on all devices and sizes. Sixty other layers, activations and losses were tried: they trace, or are refused.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_REDUCTIONS = ("none", "mean", "sum")


class Traceable(TorchFunctionMode):
    """The context in which squared errors are made of plain operations; values are the same to rounding."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the exchange, else torch."""
        options = kwargs or {}
        if func is functional.mse_loss and options.get("weight", args[5] if len(args) > 5 else None) is None:
            return _mse_loss(*args[:5], **{name: value for name, value in options.items() if name != "weight"})
        if func is torch._C._nn.mse_loss:
            return _mse_of_number(*args, **options)
        return func(*args, **options)


def _mse_loss(
    input: Tensor, target: Tensor, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Tensor:
    if size_average is not None or reduce is not None:
        legacy: Any = functional
        reduction = legacy._Reduction.legacy_get_string(size_average, reduce)
    squares = (input - target) ** 2
    if reduction == "none":
        return squares
    return squares.sum() if reduction == "sum" else squares.mean()


def _mse_of_number(input: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    return _mse_loss(input, target, reduction=_REDUCTIONS[reduction])
