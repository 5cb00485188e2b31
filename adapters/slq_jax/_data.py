"""What is a batch, what is a collection of batches, and how many samples a batch holds.

Nothing here looks at values, moves data or draws random numbers.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import jax

ABSENT: Any = object()


def as_batches(data: Any) -> Iterable[Any]:
    """Return an iterable over batches that gives the same batches each time, or refuse.

    Where there are no data there is one batch, ABSENT.
    One batch is an array, tuple, mapping, dataclass, registered pytree, or any object that cannot be iterated. Lists
    and other re-iterable objects are collections of batches.
    """
    if data is ABSENT:
        return [ABSENT]
    if data is None:
        msg = "`data` is None. Give one batch, a list of batches or a loader, or leave it out for loss(params)."
        raise TypeError(msg)
    if isinstance(data, list):
        return _checked_list(data)
    if _is_one_batch(data):
        return [data]
    if isinstance(data, Iterator):
        msg = (
            f"`data` is a {type(data).__name__}, which can be read only once, but every product "
            "reads all of it. Give list(data) or a loader that can be read again."
        )
        raise TypeError(msg)
    return data


def sample_count(batch: Any) -> int | None:
    """Return the first dimension that all arrays of a batch share, None if there is none; 0-d ones are passed over."""
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(batch) if getattr(leaf, "ndim", 0)}
    return sizes.pop() if len(sizes) == 1 else None


def _is_one_batch(data: Any) -> bool:
    return (
        isinstance(data, str | bytes)
        or not jax.tree_util.all_leaves([data])  # a registered pytree: tuple, dict, a struct of a library
        or not hasattr(type(data), "__iter__")
        or hasattr(data, "keys")
        or hasattr(data, "__array__")
        or dataclasses.is_dataclass(data)
    )


def _checked_list(batches: list[Any]) -> list[Any]:
    """Refuse an empty list, and one that is a single batch as some loaders make it: [x, y]."""
    if not batches:
        msg = "`data` is an empty list. Give at least one batch."
        raise ValueError(msg)
    if all(hasattr(batch, "ndim") for batch in batches) and len({(str(b.dtype), b.ndim) for b in batches}) > 1:
        msg = (
            "`data` is a list of arrays of different dtypes or dimensions. A list is read as a list "
            "of batches; if it is one batch, give tuple(batch)."
        )
        raise ValueError(msg)
    return batches
