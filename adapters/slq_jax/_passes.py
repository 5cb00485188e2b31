"""One pass over the data per product: losses, weights, and the proof that every pass is the same.

The mean over all samples is a weighted sum over batches, sum_i w_i loss_i / W. With a mean per
batch w_i = n_i / n_0 and W = N / n_0, so equal batches and a single batch have weight exactly 1;
with (sum, count) w_i = 1 and W is the sum of the counts.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import length_hint
from typing import Any

import jax
import jax.numpy as jnp

from slq_jax._data import ABSENT, as_batches, sample_count
from slq_jax._placement import automatic

# (batch as arguments, total so far, weight) -> (new total, loss, count or None)
Visit = Callable[[tuple[Any, ...], Any, float], tuple[Any, Any, Any]]


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


class Passes:
    """Runs over all batches, again and again.

    A batch or a list of batches is the same at every pass, since functions of JAX are pure: losses are looked at once.
    What is read anew (a loader) is compared at every pass, which waits for the device.
    """

    __slots__ = ("batches", "first", "number", "settled")

    def __init__(self, data: Any) -> None:
        self.batches: Iterable[Any] = as_batches(data)
        self.settled = isinstance(self.batches, list)
        self.first: Record | None = None
        self.number = 0

    @property
    def length(self) -> int | None:
        """The number of batches, None as long as nobody knows."""
        return len(self.first.losses) if self.first else length_hint(self.batches) or None

    def mean(self, visit: Visit, total: jax.Array, epsilon: float) -> jax.Array:
        """Add to `total` what each batch contributes, by the visit that is told its weight; return the mean."""
        self.number += 1
        values, counts, summed = list[Any](), list[Any](), False
        for index, batch in enumerate(self.batches):
            samples = sample_count(batch)
            with _told(index):
                # The weight of a mean; a sum takes 1, and what it is is known only after the loss has been traced.
                weight = samples / counts[0] if samples and index and counts[0] and not summed else 1.0
                arguments = () if batch is ABSENT else (automatic(batch),)
                total, value, count = visit(arguments, total, weight)
            if index and (count is not None) != summed:
                msg = f"`loss` returned (sum, count) for some batches and a mean for others (batch {index})."
                raise ValueError(msg)
            summed = count is not None
            counts.append(count if summed else samples)
            values.append(value)
            if not summed:
                _check_samples(counts, index)
            if self.first is None and not math.isfinite(float(value)):
                msg = f"`loss` is {float(value)} for batch {index}. Check the parameters and this batch of `data`."
                raise ValueError(msg)
        if self.first is None or not self.settled:
            self._compare(Record(tuple(map(float, values)), tuple(map(_number, counts)), summed), epsilon)
        assert self.first is not None  # the comparison keeps the first record
        return total if self.first.total == 1 else total / self.first.total

    def _compare(self, record: Record, epsilon: float) -> None:
        if self.first is None:
            _check_counts(record)
            self.first = record
        elif difference := _difference(self.first, record, tolerance(epsilon)):
            msg = (
                f"The loss is not the same at each pass over the data: {difference} (product {self.number} against "
                "product 1). So every product would see another matrix. Does the loader shuffle or augment? Give "
                "list(data), or a loader that does not."
            )
            raise ValueError(msg)


def tolerance(epsilon: float) -> float:
    """How far two computations of one number may differ by rounding: eps^(2/3), relative."""
    return math.pow(epsilon, 2 / 3)


def scalar_loss(result: Any) -> tuple[jax.Array, Any]:
    """Return what `loss` gave as (mean, None) or (sum, count), while it is traced; or refuse it."""
    value, count = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if isinstance(result, tuple) and len(result) != 2:
        msg = f"`loss` must return a scalar or (sum, count), got a tuple of {len(result)}."
        raise ValueError(msg)
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        msg = f"`loss` must return a scalar array or (sum, count), got {type(value).__name__}."
        raise TypeError(msg)
    if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
        msg = (
            f"`loss` must return a real scalar, got shape {tuple(value.shape)} and {value.dtype}. "
            "Reduce it with .mean(), or return (losses.sum(), number of losses)."
        )
        raise ValueError(msg)
    if count is not None and (jnp.shape(count) or not jnp.issubdtype(jnp.result_type(count), jnp.number)):
        msg = (
            "`loss` returned a tuple, which is read as (sum, count), but its second entry has shape "
            f"{tuple(jnp.shape(count))}. Return the mean alone, or a number as count."
        )
        raise TypeError(msg)
    return value, count if count is None else jax.lax.stop_gradient(jnp.asarray(count))


@contextmanager
def _told(index: int) -> Iterator[None]:
    """Say what JAX says about a batch together with a remedy, if there is one."""
    try:
        yield
    except TypeError as error:
        said = str(error)
        if "valid JAX type" in said or "abstract array" in said:
            msg = (
                "`data` must hold arrays, or pytrees of them: everything else in a batch cannot be passed to a "
                f"compiled function. Leave it out, or close over it in `loss`. [batch {index}; JAX said: {said}]"
            )
            raise TypeError(msg) from error
        if "forward-mode" in said and "custom_vjp" in said:
            msg = (
                "The function uses jax.custom_vjp, which has no forward mode, but this product needs it. Write it "
                f"with jax.custom_jvp. [batch {index}; JAX said: {said}]"
            )
            raise NotImplementedError(msg) from error
        error.add_note(f"slq_jax: raised while differentiating the loss of batch {index}.")
        raise
    except Exception as error:
        error.add_note(f"slq_jax: raised while differentiating the loss of batch {index}.")
        raise


def _number(count: Any) -> float | None:
    return None if count is None else float(count)


def _check_samples(counts: list[Any], index: int) -> None:
    """Refuse batches of means that cannot be weighted."""
    first, count = counts[0], counts[-1]
    if index and (first is None or count is None):
        msg = (
            f"`loss` returned a mean, but the number of samples of batch {0 if first is None else index} "
            "is not clear (its arrays have no first dimension in common), so the batches cannot be "
            "weighted. Return (sum, count) from `loss`: the summed loss and the number of terms in it."
        )
        raise ValueError(msg)
    if count == 0:
        msg = f"Batch {index} of `data` has no samples. Leave it out."
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
