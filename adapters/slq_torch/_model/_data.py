"""What is a batch, what is a collection of batches, and how many samples a batch holds.

Nothing here looks at values, moves data or draws random numbers.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset


def as_batches(data: Any) -> Iterable[Any]:
    """Return an iterable over batches that gives the same batches each time, or refuse.

    One batch is a tensor, tuple, mapping (anything with `.keys()`), dataclass, array, text, or any
    object that cannot be iterated. Lists and other re-iterable objects are collections of batches.
    """
    if data is None:
        msg = "`data` is None. Give one batch, a list of batches or a DataLoader, or use hessian(closure, params)."
        raise TypeError(msg)
    if isinstance(data, Dataset):
        msg = (
            f"`data` is a {type(data).__name__}, which yields samples, not batches. Wrap it: "
            "DataLoader(dataset, batch_size=256), or batch_size=None if its items are batches."
        )
        raise TypeError(msg)
    if isinstance(data, list):
        return _checked_list(data)
    if _is_one_batch(data):
        return (data,)
    if isinstance(data, Iterator):  # not iter(data): a loader would start its workers
        msg = (
            f"`data` is a {type(data).__name__}, which can be read only once, but every product "
            "reads all of it. Give list(data) or a DataLoader."
        )
        raise TypeError(msg)
    return data  # type: ignore[no-any-return]


def sample_count(batch: Any) -> int | None:
    """Return the first dimension that all tensors of a nested batch share, None if there is no such.

    Looks into tuples, lists, mappings, objects with `.keys()` and dataclasses; 0-d tensors are
    passed over.
    """
    sizes = {tensor.shape[0] for tensor in _tensors(batch) if tensor.ndim}
    return sizes.pop() if len(sizes) == 1 else None


def _is_one_batch(data: Any) -> bool:
    return (
        isinstance(data, Tensor | tuple | str | bytes)
        or not hasattr(type(data), "__iter__")
        or hasattr(data, "keys")
        or hasattr(data, "__array__")
        or dataclasses.is_dataclass(data)
    )


def _checked_list(batches: list[Any]) -> list[Any]:
    """Refuse an empty list, and one that is a single batch as the default collate makes it: [x, y]."""
    if not batches:
        msg = "`data` is an empty list. Give at least one batch."
        raise ValueError(msg)
    if all(isinstance(batch, Tensor) for batch in batches):
        kinds = {(batch.dtype, batch.ndim) for batch in batches}
        if len(kinds) > 1:
            msg = (
                "`data` is a list of tensors of different dtypes or dimensions. A list is read as a list "
                "of batches; if it is one batch, as a DataLoader yields it, give tuple(batch)."
            )
            raise ValueError(msg)
    return batches


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, tuple | list):
        for item in batch:
            yield from _tensors(item)
    elif hasattr(batch, "keys") and hasattr(batch, "__getitem__"):
        keys = batch.keys() if callable(batch.keys) else batch.keys
        for key in keys:
            yield from _tensors(batch[key])
    elif dataclasses.is_dataclass(batch):
        for field in dataclasses.fields(batch):
            yield from _tensors(getattr(batch, field.name))
