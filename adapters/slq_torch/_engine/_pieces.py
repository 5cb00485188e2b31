"""A batch that does not fit, cut along its first dimension into pieces that are weighted exactly.

Sums add up. A mean over the batch is a mean of the pieces' means, weighted by their samples, only if it is over
samples: that is checked once per batch, on the whole batch where it can be evaluated, else on windows that overlap.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from slq._arrays import out_of_memory
from slq_torch._model._data import sample_count
from slq_torch._model._passes import Call, tolerance
from slq_torch._model._suspects import active_batch_norm

Product = Callable[[Any, Call], Tensor]


class Pieces:
    """Runs the product of a batch, whole or in pieces of at most `size` samples."""

    __slots__ = ("_automatic", "_checked", "size")

    def __init__(self, size: int | None) -> None:
        self.size, self._automatic = size, False
        self._checked = set[tuple[int, int]]()  # number of a batch, size of its pieces

    def run(self, call: Call, dtype: torch.dtype, product: Product) -> Tensor:
        """Return the product of a batch, `product(key, call)` of its pieces added up."""
        if self.size is None:
            return product(call.index, call)
        samples = sample_count(call.batch)
        if reason := self._refusal(call, samples):
            raise ValueError(reason)
        if not samples:
            return product(call.index, call)  # the pass says so
        total, mean = _in_pieces(call, samples, self.size, product)
        if mean is not None and (call.index, self.size) not in self._checked:
            self._check_mean(call, mean, samples, dtype)
            self._checked.add((call.index, self.size))
        return total

    def shrink(self, call: Call, error: BaseException) -> str:
        """Cut batches into halves from now on, and say so; where they cannot be cut, say what to do."""
        samples = sample_count(call.batch)
        now = samples if self.size is None or samples is None else min(self.size, samples)
        reason = self._refusal(call, samples)
        if reason or not now or now < 2:
            why = reason or "a single sample does not fit"
            msg = (
                f"Out of memory with one column at a time, and batch {call.index} cannot be cut any further: {why} "
                f"Give smaller batches in `data`, or checkpoint activations in the model. torch said: {error}"
            )
            raise torch.OutOfMemoryError(msg) from error
        self.size, self._automatic = (now + 1) // 2, True
        return f"out of memory: batches are cut into pieces of {self.size} samples, weighted exactly"

    def _refusal(self, call: Call, samples: int | None) -> str | None:
        """Say why a batch cannot be cut, None if it can."""
        if samples is None:
            return (
                "`microbatch` needs batches whose tensors share their first dimension. Give smaller batches in `data`."
            )
        if norms := active_batch_norm(call.model if isinstance(call.model, torch.nn.Module) else None):
            return (
                f"`microbatch` would change what BatchNorm in train mode normalises by, in {', '.join(norms[:5])}. "
                'Give mode="eval", or leave the batches whole.'
            )
        return None

    def _check_mean(self, call: Call, value: Tensor, samples: int, dtype: torch.dtype) -> None:
        """Refuse a mean over tokens, say, which is no mean of means."""
        assert self.size is not None
        try:
            pairs = [(_loss(call), float(value))]
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            pairs = _windows(call, samples, self.size)
        relative = max(tolerance(dtype), tolerance(value.dtype))
        for whole, mean in pairs:
            if not abs(mean - whole) <= relative * max(abs(whole), abs(mean)):
                memory = "Out of memory, and " * self._automatic
                msg = (
                    f"{memory}`microbatch` cannot weight this loss: pieces of a batch average to {mean:.9g}, together "
                    f"they have {whole:.9g} (batch {call.index}). Return (sum, count) from `loss`: the summed loss and "
                    "its terms."
                )
                raise ValueError(msg)


def _in_pieces(call: Call, samples: int, size: int, product: Product) -> tuple[Tensor, Tensor | None]:
    """Add up the products of the pieces, and record the loss of the batch; return it too if it is a mean."""
    total: Tensor | None = None
    value: Tensor | None = None
    counts, summed = list[Any](), False
    for number, start in enumerate(range(0, samples, size)):
        stop = min(start + size, samples)
        batch = cut(call.batch, samples, slice(start, stop))
        piece = Call(_loss_of(call), call.model, call.index, batch, start=start)
        part = product((call.index, number), piece)
        loss, count, summed = piece.result
        weight = 1.0 if summed else (stop - start) / samples
        total = part * weight if total is None else total.add_(part, alpha=weight)
        value = loss * weight if value is None else value + loss * weight
        counts.append(count)
    assert total is not None  # there are samples
    assert value is not None
    call.record(value, sum(counts[1:], counts[0]) if summed else samples, summed=summed)
    return total, None if summed else value


def _windows(call: Call, samples: int, size: int) -> list[tuple[float, float]]:
    """Evaluate neighbouring slices, together not larger than a piece: the mean of both, and the mean of their means."""
    half = max(1, size // 2)
    cuts = [slice(a, min(a + half, samples)) for a in range(0, samples, half)]
    pairs = []
    for one, two in itertools.pairwise(cuts):
        parts = [(s.stop - s.start) * _loss(call, cut(call.batch, samples, s)) for s in (one, two)]
        both = slice(one.start, two.stop)
        pairs.append((_loss(call, cut(call.batch, samples, both)), sum(parts) / (both.stop - both.start)))
    return pairs


def _loss(call: Call, batch: Any = None) -> float:
    with torch.no_grad():
        return float(call.evaluate(batch=batch)[0])


def _loss_of(call: Call) -> Callable[[Any, Any], Any]:
    def loss(model: Any, batch: Any) -> Any:
        value, count, summed = call.evaluate(model, batch)
        return (value, count) if summed else value

    return loss


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
