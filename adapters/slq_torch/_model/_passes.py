"""One pass over the data per product: losses, weights, and the proof that every pass is the same.

The mean over all samples is a weighted sum over batches, sum_i w_i loss_i / W. With a mean per
batch w_i = n_i / n_0 and W = N / n_0, so equal batches and a single batch have weight exactly 1;
with (sum, count) w_i = 1 and W is the sum of the counts.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from operator import length_hint
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._model._data import as_batches, sample_count
from slq_torch._model._errors import explained
from slq_torch._model._state import preserved
from slq_torch._model._suspects import causes

Loss = Callable[[Any, Any], Tensor | tuple[Tensor, Any]]


@dataclass(frozen=True, slots=True)
class Record:
    """What a pass leaves on the host: the loss of each batch and, where known, its count."""

    losses: tuple[float, ...]
    counts: tuple[float | None, ...]
    summed: bool

    @property
    def samples(self) -> float | None:
        """N above: the samples, or whatever the counts count."""
        known = [count for count in self.counts if count is not None]
        return math.fsum(known) if len(known) == len(self.counts) else None

    @property
    def mean(self) -> float:
        """The mean loss over all samples."""
        first = None if self.summed else self.counts[0]
        weights = [c / first if c and first else 1.0 for c in self.counts]
        return math.fsum(w * v for w, v in zip(weights, self.losses, strict=True)) / self.total

    @property
    def total(self) -> float:
        """W above."""
        if self.summed:
            return math.fsum(count or 0.0 for count in self.counts)
        first = self.counts[0]
        return math.fsum(c / first for c in self.counts if c) if first else 1.0


class Call:
    """One batch of one pass: evaluates the loss on it, and keeps what the pass has to know of the first evaluation.

    Attributes
    ----------
    index : int
        Number of the batch.
    batch : object
        As the data gave it.
    model : object
        The user's model.
    start : int
        Number of its first sample, within the batch that it is a piece of.
    """

    __slots__ = ("__weakref__", "_loss", "_result", "batch", "index", "model", "start")

    def __init__(self, loss: Loss, model: Any, index: int, batch: Any, *, start: int = 0) -> None:
        self._loss, self.model, self.index, self.batch, self.start = loss, model, index, batch, start
        self._result: tuple[Tensor, Any, bool] | None = None

    def value(self, model: Any = None) -> Tensor:
        """Return the loss, a mean or a sum, as a scalar with its graph; `model` stands in for the user's."""
        value: Tensor
        value, count, summed = self.evaluate(model)
        _check_scalar(value, self.index)
        if summed:
            _check_count(count, self.index)
        self.record(value, count, summed=summed)
        return value

    def evaluate(self, model: Any = None, batch: Any = None) -> tuple[Any, Any, bool]:
        """Return what the loss gives, its count, and whether the loss gave it; neither checked nor recorded.

        For evaluations under transforms of torch.func, and on other batches than the pass's own.
        """
        batch = self.batch if batch is None else batch
        result = self._loss(self.model if model is None else model, batch)
        if not isinstance(result, tuple):
            return result, sample_count(batch), False
        if len(result) != 2:
            msg = f"`loss` must return a scalar or (sum, count), got a tuple of {len(result)} (batch {self.index})."
            raise ValueError(msg)
        return *result, True

    def record(self, value: Tensor, count: Any, *, summed: bool) -> None:
        """Keep a loss that was put together from several evaluations, unless one is kept already."""
        if self._result is None:
            self._result = value.detach(), count, summed

    @property
    def result(self) -> tuple[Tensor, Any, bool]:
        """The first evaluation: the loss, the count, and whether the loss gave it, so that the loss is a sum."""
        if self._result is None:
            self.value()
        assert self._result is not None
        return self._result


Visit = Callable[[Call], Tensor]


class Passes:
    """Runs over all batches, again and again, and refuses to go on if the loss changes."""

    __slots__ = ("batches", "data", "first", "loss", "mode", "model", "number", "tensors", "versions")

    def __init__(self, loss: Loss, model: Any, data: Any, tensors: Sequence[Tensor], mode: str = "as-is") -> None:
        self.loss, self.model, self.data, self.tensors, self.mode = loss, model, data, tensors, mode
        self.batches = as_batches(data)
        self.first: Record | None = None
        self.number = 0
        self.versions: list[int] = []

    @property
    def module(self) -> Module | None:
        """The model where it is a Module."""
        return self.model if isinstance(self.model, Module) else None

    @property
    def length(self) -> int | None:
        """The number of batches, None as long as nobody knows."""
        return len(self.first.losses) if self.first else length_hint(self.batches) or None

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Run what is inside with gradients, in the mode asked for, and put back everything of the user's."""
        with torch.inference_mode(False), torch.enable_grad(), preserved(self.module, self.tensors, seed=self.number):
            if self.mode != "as-is" and self.module is not None:
                self.module.train(self.mode == "train")
            yield

    def mean(self, visit: Visit, accumulate: torch.dtype) -> Tensor:
        """Return the mean over all samples of what visit(call) gives for each batch, itself a mean or a sum."""
        self.number += 1
        values, counts = list[Tensor](), list[Any]()
        total: Tensor | None = None
        summed = False
        for index, batch in enumerate(self.batches):
            call = Call(self.loss, self.model, index, batch)
            with explained(index, self.tensors[0]):
                part = visit(call)
                value, count, with_count = call.result
            if index and with_count != summed:
                msg = f"`loss` returned (sum, count) for some batches and a mean for others (batch {index})."
                raise ValueError(msg)
            summed = with_count
            counts.append(count)
            if self.first is None:  # later passes are compared at their end, with no wait per batch
                _check_finite(float(value), index)
            weight = 1.0 if summed else _weight(counts, index)
            values.append(value)
            # The first weight is 1.
            total = part.to(accumulate) if total is None else total.add_(part, alpha=weight)
            del call, batch, part  # the graph must be gone before the next batch makes its own
        record = Record(tuple(map(float, values)), tuple(None if c is None else float(c) for c in counts), summed)
        dtypes = {self.tensors[0].dtype, *(value.dtype for value in values)}
        self._compare(record, max(map(tolerance, dtypes)))
        assert total is not None  # the record is not empty
        return total if record.total == 1 else total.div_(record.total)

    def _compare(self, record: Record, relative: float) -> None:
        versions = [tensor._version for tensor in self.tensors]
        if self.first is None:
            _check_counts(record)
            self.first, self.versions = record, versions
            return
        if difference := _difference(self.first, record, relative):
            found = causes(self.module, self.data, modified=versions != self.versions)
            msg = (
                f"The loss is not the same at each pass over the data: {difference} "
                f"(product {self.number} against product 1). So every product would see another "
                f"matrix. {found}"
            )
            raise ValueError(msg)


def tolerance(dtype: torch.dtype) -> float:
    """How far two computations of one number may differ by rounding: eps^(2/3), relative.

    2e-5 in float32, 4e-11 in float64: hundreds of roundings, and still far below what dropout,
    shuffling or a wrong derivative do.
    """
    return math.pow(torch.finfo(dtype).eps, 2 / 3)


def _weight(counts: list[int | None], index: int) -> float:
    """n_i / n_0, or what to do where a count is not known."""
    first, count = counts[0], counts[-1]
    if index and (first is None or count is None):
        msg = (
            f"`loss` returned a mean, but the number of samples of batch {0 if first is None else index} "
            "is not clear (its tensors have no first dimension in common), so the batches cannot be "
            "weighted. Return (sum, count) from `loss`: the summed loss and the number of terms in it."
        )
        raise ValueError(msg)
    if count == 0:
        msg = f"Batch {index} of `data` has no samples. Leave it out."
        raise ValueError(msg)
    return 1.0 if first is None or count is None else count / first


def _check_scalar(value: Any, index: int) -> None:
    if not isinstance(value, Tensor):
        msg = (
            f"`loss` must return a scalar tensor or (sum, count), got {type(value).__name__} (batch {index}). "
            "If it is a model's output object, return its .loss."
        )
        raise TypeError(msg)
    if value.ndim or not value.is_floating_point():
        msg = (
            f"`loss` must return a real scalar, got shape {tuple(value.shape)} and {value.dtype} (batch "
            f"{index}). Reduce it with .mean(), or return (losses.sum(), number of losses)."
        )
        raise ValueError(msg)
    if not value.requires_grad:
        msg = (
            f"`loss` returned a value that does not require grad (batch {index}): it does not depend on the "
            "parameters through torch operations. Look for torch.no_grad, .detach(), .item() or "
            "torch.tensor(...) in it, and check `params`."
        )
        raise ValueError(msg)


def _check_count(count: Any, index: int) -> None:
    tensor = isinstance(count, Tensor)
    if not (isinstance(count, Real) or (tensor and count.numel() == 1 and not count.requires_grad)):
        what = f"a tensor of shape {tuple(count.shape)}" if tensor else type(count).__name__
        msg = (
            f"`loss` returned a tuple, which is read as (sum, count), but its second entry is {what} (batch "
            f"{index}). Return the mean alone, or a number (or a tensor with one, detached) as count."
        )
        raise TypeError(msg)


def _check_finite(value: float, index: int) -> None:
    if not math.isfinite(value):
        msg = f"`loss` is {value} for batch {index}. Check the parameters and this batch of `data`."
        raise ValueError(msg)


def _check_counts(record: Record) -> None:
    if not record.losses:
        msg = "`data` yielded no batch. Give at least one."
        raise ValueError(msg)
    for index, count in enumerate(record.counts):
        if count is not None and not 0 <= count < math.inf:
            msg = f"`loss` returned the count {count} for batch {index}. It must be a number >= 0."
            raise ValueError(msg)
    if not record.total:
        msg = "`loss` returned counts that are all zero: there is nothing to average."
        raise ValueError(msg)


def _difference(first: Record, later: Record, relative: float) -> str | None:
    """Say where two passes differ by more than rounding, None if they do not."""
    if len(first.losses) != len(later.losses):
        return f"it had {len(first.losses)} batches, now {len(later.losses)}"
    allowed = relative * max(map(abs, first.losses))
    for index, (a, b) in enumerate(zip(first.losses, later.losses, strict=True)):
        if not abs(a - b) <= allowed:
            return f"batch {index} had the loss {a:.9g}, now {b:.9g}"
        if first.counts[index] != later.counts[index]:
            return f"batch {index} had the count {first.counts[index]}, now {later.counts[index]}"
    return None
