"""The loss of a batch as a function of the parameters, for transforms of torch.func.

The user's model is not copied: `functional_call` puts other tensors in its place for the time of a call, under all
the names that a tied parameter has, and puts back what the model did to its buffers.
"""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call


class _Evaluation(Module):
    """A module whose forward is the loss of a batch, so that parameters can be exchanged by name."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.model, self.call = call.model, call

    def forward(self, batch: Any) -> tuple[Any, Any, bool]:
        return self.call.evaluate(self.model, batch)


class Form:
    """The loss of batches as a function of a batch and the chosen parameters."""

    __slots__ = ("_evaluation", "_names", "told")

    def __init__(self, call: Call, params: Parameters) -> None:
        self._evaluation = _Evaluation(call)
        self._names = [f"model.{name}" for name in params.names]
        self.told: tuple[Any, bool] | None = None

    def value(self, batch: Any, *tensors: Tensor) -> Tensor:
        """Evaluate the loss at these parameters; neither checked nor recorded, but what it told is kept."""
        # Batch norm in train mode writes into its buffers, which transforms allow on their own tensors only.
        buffers = {name: buffer.clone() for name, buffer in self._evaluation.named_buffers()}
        exchanged = buffers | dict(zip(self._names, tensors, strict=True))
        value: Tensor
        value, count, summed = functional_call(self._evaluation, exchanged, (batch,))
        self.told = count, summed
        return value

    def gradient(self, batch: Any, *tensors: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return the gradient by the parameters, and the loss beside it."""
        argnums = tuple(range(1, 1 + len(tensors)))
        grads, value = torch.func.grad_and_value(self.value, argnums=argnums)(batch, *tensors)
        return grads, value
