"""A loss at the parameters as they are, on fixed batches, with nothing of the user's changed."""

from typing import Any

import torch
from torch import Tensor

from slq_torch._curvature._covariance import gradient_of
from slq_torch._model._data import as_batches
from slq_torch._model._errors import explained
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call, Passes, Record
from slq_torch._model._state import preserved


def fixed_batches(data: Any, limit: int | None, like: Tensor) -> list[Any]:
    """Read the batches once and keep them, so that a loader that shuffles or augments gives the same ones ever after.

    The random states stay as they were: asking a DataLoader for batches draws from them.
    """
    if limit is not None and limit < 1:
        msg = f"`batches` must be at least 1, got {limit}."
        raise ValueError(msg)
    kept: list[Any] = []
    with preserved(None, [like.detach()], seed=0):
        for batch in as_batches(data):
            if limit is not None and len(kept) == limit:
                break
            kept.append(batch)
    if not kept:
        msg = "`data` yielded no batch. Give at least one."
        raise ValueError(msg)
    return kept


def mean_loss(passes: Passes) -> float:
    """Return the mean loss over all samples, which may be infinite or NaN."""
    values, counts, summed = list[float](), list[Any](), False
    with passes.prepared():
        for index, batch in enumerate(passes.batches):
            with explained(index, passes.tensors[0]):
                value, count, summed = Call(passes.loss, passes.model, index, batch).evaluate()
            values.append(float(value.detach()))
            counts.append(None if count is None else float(count))
    return Record(tuple(values), tuple(counts), summed).mean


def mean_gradient(passes: Passes, params: Parameters, accumulate: torch.dtype) -> Tensor:
    """Return the gradient of the mean loss, (n,), in the parameters' vector dtype."""
    with passes.prepared():
        return passes.mean(lambda call: gradient_of(call, params), accumulate).to(params.vector_dtype)
