"""A batch that does not fit, cut along its first dimension into pieces that are weighted exactly."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from slq_torch._data import sample_count
from slq_torch._passes import Call, tolerance
from slq_torch._suspects import active_batch_norm

Product = Callable[[Any, Call], Tensor]


def in_pieces(call: Call, size: int, dtype: torch.dtype, product: Product) -> Tensor:
    """Add up the products of the pieces of a batch, of at most `size` samples each, and record the batch's loss."""
    samples = sample_count(call.batch)
    if samples is None:
        msg = "`microbatch` needs batches whose tensors share their first dimension. Give smaller batches in `data`."
        raise ValueError(msg)
    if norms := active_batch_norm(call.model if isinstance(call.model, torch.nn.Module) else None):
        msg = (
            f"`microbatch` would change what BatchNorm in train mode normalises by, in {', '.join(norms[:5])}. "
            "Call model.eval(), or leave the batches whole."
        )
        raise ValueError(msg)
    pieces = range(0, samples, size)
    total: Tensor | None = None
    value: Tensor | None = None
    counts, summed = list[Any](), False
    for number, start in enumerate(pieces):
        stop = min(start + size, samples)
        piece = Call(_loss_of(call), call.model, call.index, cut(call.batch, samples, slice(start, stop)))
        part = product((call.index, number), piece)
        loss, count, summed = piece.result
        weight = 1.0 if summed else (stop - start) / samples
        total = part * weight if total is None else total.add_(part, alpha=weight)
        value = loss * weight if value is None else value + loss * weight
        counts.append(count)
    if total is None or value is None:
        return product(call.index, call)  # no samples: the pass says so
    if not summed:
        _check_mean(call, value, dtype)
    call.record(value, sum(counts[1:], counts[0]) if summed else samples, summed=summed)
    return total


def cut(batch: Any, samples: int, part: slice) -> Any:
    """Take a part of every tensor of a nested batch whose first dimension is `samples`."""
    if isinstance(batch, Tensor):
        return batch[part] if batch.ndim and batch.shape[0] == samples else batch
    if isinstance(batch, tuple | list):
        items = [cut(item, samples, part) for item in batch]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
    if hasattr(batch, "keys") and hasattr(batch, "__getitem__"):
        keys = batch.keys() if callable(batch.keys) else batch.keys
        return {key: cut(batch[key], samples, part) for key in keys}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = [field.name for field in dataclasses.fields(batch) if field.init]
        return dataclasses.replace(batch, **{name: cut(getattr(batch, name), samples, part) for name in fields})
    return batch


def _loss_of(call: Call) -> Callable[[Any, Any], Any]:
    def loss(model: Any, batch: Any) -> Any:
        value, count, summed = call.evaluate(model, batch)
        return (value, count) if summed else value

    return loss


def _check_mean(call: Call, value: Tensor, dtype: torch.dtype) -> None:
    """Compare with the loss of the whole batch: a mean over tokens is not a mean of means."""
    with torch.no_grad():
        whole = float(call.evaluate()[0])
    relative = max(tolerance(dtype), tolerance(value.dtype))
    if not abs(float(value) - whole) <= relative * max(abs(whole), abs(float(value))):
        msg = (
            f"`microbatch` cannot weight this loss: its pieces average to {float(value):.9g}, the whole batch has "
            f"{whole:.9g} (batch {call.index}). Return (sum, count) from `loss`: the summed loss and its terms."
        )
        raise ValueError(msg)
