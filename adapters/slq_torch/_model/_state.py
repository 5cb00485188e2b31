"""Everything of the user's that a product could change, put back afterwards, also after an exception.

Restored: training flags, buffers, `.grad`, `requires_grad`, and the random states of Python, NumPy,
torch's CPU generator and that of the parameters' device. Not restored: parameter values (a loss has
no business to change them) and state outside the model (counters of a data set, say).
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import Module


@contextmanager
def preserved(model: Module | None, tensors: Sequence[Tensor], *, seed: int) -> Iterator[None]:
    """Save the state around a product, make `tensors` require grad and seed the generators.

    The seed differs from product to product. So whatever draws from a global generator (a shuffled
    loader, functional dropout, random augmentation) shows up as a loss that changes between passes,
    instead of being repeated by luck while nobody else draws.
    """
    known = [] if model is None else list(model.parameters())
    with ExitStack() as stack:
        stack.enter_context(_random_states(tensors[0].device, seed))
        stack.enter_context(_gradients([*known, *tensors]))
        if model is not None:
            stack.enter_context(_training_flags(model))
            stack.enter_context(_buffers(model))
        for tensor in tensors:
            if not tensor.requires_grad:
                tensor.requires_grad_(True)
        yield


@contextmanager
def _random_states(device: torch.device, seed: int) -> Iterator[None]:
    generators = _generators(device)
    states = [generator.get_state() for generator in generators]
    python, numpy = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the state that old code draws from
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _generators(device: torch.device) -> list[Generator]:
    """List torch's global generators that a loss on `device` may draw from."""
    on_device = getattr(getattr(torch, device.type), "default_generators", ())
    return [torch.default_generator, *on_device[device.index or 0 :][:1]]


@contextmanager
def _gradients(tensors: Iterable[Tensor]) -> Iterator[None]:
    leaves = [(t, t.requires_grad, t.grad) for t in tensors if t.is_leaf]  # .grad of others warns
    try:
        yield
    finally:
        for tensor, required, grad in leaves:
            if tensor.grad is not grad:
                tensor.grad = grad
            if tensor.requires_grad != required:
                tensor.requires_grad_(required)


@contextmanager
def _training_flags(model: Module) -> Iterator[None]:
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training  # not .train(): it would also set the children


@contextmanager
def _buffers(model: Module) -> Iterator[None]:
    saved = [
        (module, name, tensor, tensor.clone())
        for module in model.modules()
        for name, tensor in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, name, tensor, copy in saved:
            # Batch norm writes its statistics without raising the version counter, so that cannot
            # tell what changed; and .data leaves it as it is, for graphs that hold the buffer.
            if not tensor.is_inference():
                tensor.data.copy_(copy)
            if getattr(module, name, None) is not tensor:
                setattr(module, name, tensor)
