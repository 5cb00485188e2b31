"""The losses of the single samples of a batch, as one tensor with its graph.

The loss is called on slices ``batch[i : i + 1]`` of every tensor in the batch, all at once under
vmap, or one after the other where vmap cannot take the model. That their mean (or sum) is the loss
of the batch is checked, not assumed.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from slq_torch._curvature._jacobian import Factors, Tensors
from slq_torch._engine._cut import evaluated_at, mapped
from slq_torch._model._data import sample_count
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call, tolerance
from slq_torch._model._quiet import quiet

Weights = Literal["sums", "means"]


class SampleGradients:
    """Makes the factors of sum_i w_i g_i g_i^T, with g_i the gradient of the loss of sample i.

    J is that of the vector of losses. With a mean per batch w_i = 1 / N. With (sum, count), g_i is the gradient of the
    sum of sample i and w_i = 1 if `weights` is "sums", or w_i = 1 / count_i: the mean losses, weighted by their counts.
    """

    __slots__ = ("_checked", "kind", "vmapped", "weights")

    def __init__(self, kind: str, weights: Weights) -> None:
        self.kind, self.weights = kind, weights
        self.vmapped = True
        self._checked = set[int]()

    @property
    def facts(self) -> dict[str, Any]:
        """How the losses of the samples were come by."""
        return {"per_sample": "vmap" if self.vmapped else "loop"}

    def __call__(self, call: Call, params: Parameters) -> Factors:
        """Evaluate the loss of each sample."""
        samples = _Slices(call)
        losses, counts = self._losses(samples)
        if call.index not in self._checked:
            _check_additive(call, losses, counts)
            self._checked.add(call.index)
        scale: Tensor | float
        if counts is None:
            call.record(losses.mean(), samples.count, summed=False)
            scale = 1.0 / samples.count
        else:
            call.record(losses.sum(), counts.sum(), summed=True)
            means = torch.where(counts > 0, 1.0 / counts, torch.zeros_like(counts))
            scale = 1.0 if self.weights == "sums" else means.to(losses.dtype)

        def at(values: Tensors) -> list[Tensor]:
            return [evaluated_at(call.model, params, values, lambda: self._losses(samples)[0])]

        return Factors([losses], lambda tangents: [tangents[0] * scale], at)

    def _losses(self, samples: "_Slices") -> tuple[Tensor, Tensor | None]:
        if self.vmapped:
            try:
                return samples.vmapped()
            except (RuntimeError, TypeError, ValueError):  # .item(), control flow by values, no batching rule
                self.vmapped = False
        return samples.looped()


class _Slices:
    """A batch cut into its samples."""

    __slots__ = ("call", "count", "tensors")

    def __init__(self, call: Call) -> None:
        count = sample_count(call.batch)
        if count is None:
            msg = (
                f"Batch {call.index} of `data` cannot be cut into samples: its tensors have no first dimension in "
                "common, or it has none. Give batches whose tensors all have the samples along their first dimension."
            )
            raise ValueError(msg)
        self.call, self.count = call, count
        self.tensors = list[Tensor]()

        def kept(tensor: Tensor) -> Tensor:
            self.tensors.append(tensor)
            return tensor

        mapped(call.batch, kept)

    def vmapped(self) -> tuple[Tensor, Tensor | None]:
        """Evaluate all samples at once."""
        axes = tuple(0 if t.ndim else None for t in self.tensors)
        summed = list[bool]()

        def one(*slices: Tensor) -> tuple[Tensor, Tensor]:
            kept = [s[None] if axis == 0 else s for s, axis in zip(slices, axes, strict=True)]
            value, count, with_count = self._evaluate(kept)
            summed.append(with_count)
            return value, torch.as_tensor(count if with_count else 1, device=value.device).detach()

        with quiet("There is a performance drop"):
            losses, counts = torch.vmap(one, in_dims=axes)(*self.tensors)
        return losses, counts.to(torch.float64) if summed[0] else None

    def looped(self) -> tuple[Tensor, Tensor | None]:
        """Evaluate one sample after the other."""
        values, counts = list[Tensor](), list[float]()
        summed = False
        for i in range(self.count):
            value, count, summed = self._evaluate([t[i : i + 1] if t.ndim else t for t in self.tensors])
            values.append(value)
            counts.append(float(count) if summed else 1.0)
        losses = torch.stack(values)
        return losses, torch.tensor(counts, dtype=torch.float64, device=losses.device) if summed else None

    def _evaluate(self, slices: Sequence[Tensor]) -> tuple[Any, Any, bool]:
        rest = iter(slices)
        value, count, summed = self.call.evaluate(batch=mapped(self.call.batch, lambda _: next(rest)))
        if not isinstance(value, Tensor) or value.ndim:
            msg = (
                "`loss` must return a scalar tensor or (sum, count) for a batch of one sample as well, got "
                f"{tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__}."
            )
            raise ValueError(msg)
        return value, count, summed


def _check_additive(call: Call, losses: Tensor, counts: Tensor | None) -> None:
    """Compare with the loss of the whole batch, which must be the mean, or the sum, over its samples."""
    value, count, _ = call.evaluate()
    value, losses = value.detach(), losses.detach()
    total = losses.mean() if counts is None else losses.sum()
    scale = losses.abs().mean() if counts is None else losses.abs().sum()
    agree = bool((value - total).abs() <= tolerance(losses.dtype) * scale)
    if agree and (counts is None or float(count) == float(counts.sum())):
        return
    what = "mean" if counts is None else "sum"
    msg = (
        f"`loss` is no {what} over the samples of batch {call.index}: it is {float(value):.9g} (count "
        f"{float(count):g}), the {what} of the losses of its samples alone {float(total):.9g}. Per-sample gradients "
        "belong to a loss that adds up over samples. If some weigh more (class weights, ignore_index, padding), "
        "return (sum, count); a loss between samples (contrastive, ranking) has none: use ggn or hessian."
    )
    raise ValueError(msg)
