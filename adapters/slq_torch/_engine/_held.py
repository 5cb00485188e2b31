"""What was prepared for a batch, kept for later products as long as nothing it came from has changed.

Held from the second visit of a batch on: the second finds the loss anew under other random numbers, which the pass
compares, so a loss with hidden randomness is still refused. Parameters, buffers, training flags and batches are
compared at every product. What else the loss may read (a global counter, a schedule, a file) is not seen, so every
sixteenth product evaluates it again, and the pass refuses it if it is another.
"""

import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils._pytree import tree_flatten

from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call

# A third of a gradient in this many products, of more than a gradient each: two per cent of a run at most.
_EVALUATED_AGAIN = 16


@dataclass(slots=True)
class _Item:
    batch: Any
    leaves: list[Any]
    result: tuple[Tensor, Any, bool]
    prepared: Any
    bytes: int


@dataclass(slots=True)
class Held:
    """Prepared batches, within a limit of bytes, keyed by how they were prepared and by their number."""

    limit: float
    items: dict[Any, _Item] = field(default_factory=dict)
    visits: dict[Any, int] = field(default_factory=dict)
    _state: list[Tensor] | None = None
    _flags: list[bool] = field(default_factory=list)
    _call: weakref.ref[Call] | None = None

    @property
    def bytes(self) -> int:
        """What is held."""
        return sum(item.bytes for item in self.items.values())

    @property
    def batches(self) -> int:
        """How many batches something is held for."""
        return len({batch for _, batch in self.items})

    @property
    def resident(self) -> int:
        """What is held, and the copies that tell whether it still holds, in bytes."""
        copies = [leaf for item in self.items.values() for leaf in item.leaves if isinstance(leaf, Tensor)]
        return self.bytes + sum(t.numel() * t.element_size() for t in [*copies, *(self._state or [])])

    def find(self, key: Any, call: Call, params: Parameters, *, first: bool, size: int | None) -> Any | None:
        """Return what is held for this batch and tell the pass its loss, None if it must be prepared anew.

        `size` are the bytes that it will take, if known.
        """
        batch = key[1]
        if self._call is None or self._call() is not call:  # several products of one pass are one visit
            self._call = weakref.ref(call)
            self.visits[batch] = self.visits.get(batch, 0) + 1
        if first and self.items and not self._unchanged(call.model, params):
            self.items.clear()
            self._remember(call.model, params)
        elif first and self._state is None and self.visits[batch] > 1 and size is not None and self.room(size):
            self._remember(call.model, params)  # before the loss: batch norm in train mode writes into its buffers
        item = self.items.get(key)
        if item is None or not _same(item, call.batch):
            self.items.pop(key, None)
            return None
        if not isinstance(call.model, Module):
            call.value()  # nobody sees what a closure closes over
        elif self.visits[batch] % _EVALUATED_AGAIN:
            value, count, summed = item.result
            call.record(value, count, summed=summed)
        else:
            with torch.no_grad():
                value, count, summed = call.evaluate()
            call.record(value, count, summed=summed)
        return item.prepared

    def again(self) -> None:
        """Forget the visits: another attempt at a product is no second pass."""
        self.visits.clear()
        self._call = None

    def wanted(self, key: Any, size: int) -> bool:
        """Whether what is prepared for this batch now is to be held, if it takes about so many bytes."""
        return self._state is not None and self.visits.get(key[1], 0) > 1 and self.room(size)

    def keep(self, key: Any, call: Call, prepared: Any, size: int) -> bool:
        """Hold what was prepared if it is wanted."""
        if not self.wanted(key, size):
            return False
        leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in tree_flatten(call.batch)[0]]
        self.items[key] = _Item(call.batch, leaves, call.result, prepared, size)
        return True

    def room(self, size: int) -> bool:
        """Whether so many bytes more are within the limit."""
        return self.bytes + size <= self.limit

    def clear(self) -> None:
        """Let go of everything, and keep nothing from now on."""
        self.items.clear()
        self.limit = 0.0

    def _remember(self, model: Any, params: Parameters) -> None:
        self._state = [tensor.detach().clone() for tensor in _tensors(model, params)]
        self._flags = _flags(model)

    def _unchanged(self, model: Any, params: Parameters) -> bool:
        now = _tensors(model, params)
        state = self._state or []
        alike = len(now) == len(state) and all(
            a.shape == b.shape and a.device == b.device and torch.equal(a, b) for a, b in zip(now, state, strict=True)
        )
        return alike and _flags(model) == self._flags


def _tensors(model: Any, params: Parameters) -> list[Tensor]:
    if not isinstance(model, Module):
        return list(params.tensors)
    return [*model.parameters(), *model.buffers()]


def _flags(model: Any) -> list[bool]:
    return [module.training for module in model.modules()] if isinstance(model, Module) else []


def _same(item: _Item, batch: Any) -> bool:
    """Whether a batch has the values it had; comparing costs one read of it."""
    leaves = tree_flatten(batch)[0]
    if len(leaves) != len(item.leaves):
        return False
    for old, new in zip(item.leaves, leaves, strict=True):
        if isinstance(old, Tensor) and isinstance(new, Tensor):
            if old.shape != new.shape or old.dtype != new.dtype or old.device != new.device:
                return False
            if not torch.equal(old, new):
                return False
        elif old is not new and not (isinstance(old, int | float | str | bool | None) and old == new):
            return False
    return True
