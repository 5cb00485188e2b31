"""Functions of torch exchanged for our own formulas of their derivatives, while a gradient graph is built and used.

The exchange is a function mode: it is local to the thread and to its context, reaches modules and functional code
alike, and touches neither the model nor torch. Values are the same to rounding. What a formula does not cover
(other dtypes, autocast, tensor subclasses, unusual arguments) is left to torch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from torch.overrides import TorchFunctionMode

from slq_torch._engine._convolutions import convolution, transposed_convolution
from slq_torch._engine._normalisations import batch_norm
from slq_torch._engine._pointwise import pointwise

_FORMULAS: dict[Any, Callable[..., Any]] = {
    torch.conv1d: convolution(1),
    torch.conv2d: convolution(2),
    torch.conv3d: convolution(3),
    torch.conv_transpose1d: transposed_convolution(1),
    torch.conv_transpose2d: transposed_convolution(2),
    torch.conv_transpose3d: transposed_convolution(3),
    functional.batch_norm: batch_norm,
    functional.gelu: pointwise(functional.gelu),
    functional.silu: pointwise(functional.silu),
    functional.softplus: pointwise(functional.softplus),
}


class Formulas(TorchFunctionMode):
    """The context in which functions are exchanged."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call our formula where there is one and it takes these arguments, else torch."""
        options = kwargs or {}
        if func is Tensor.view and _sizes(args[1:], options):
            return args[0].reshape(*args[1:])  # images that have channels last may not be viewed flat
        formula = _FORMULAS.get(func)
        if formula is not None and _plain([*args, *options.values()]):
            result = formula(*args, **options)
            if result is not NotImplemented:
                return result
        return func(*args, **options)


def _sizes(args: Any, options: Any) -> bool:
    return not options and not any(isinstance(value, torch.dtype) for value in args)


def _plain(values: list[Any]) -> bool:
    """Whether all tensors are ordinary ones of one dtype that is computed in as it is."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return (
        torch.is_grad_enabled()
        and len({tensor.dtype for tensor in tensors}) == 1
        and all(type(t) in (Tensor, Parameter) and t.layout == torch.strided for t in tensors)
        and tensors[0].dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled(tensors[0].device.type)
    )
