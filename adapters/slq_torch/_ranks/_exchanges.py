"""Exchanges of arrays between the ranks of a group, made of what its backend is quickest at.

Gloo moves arrays from each rank to each other one several times faster than it sums them (measured with 2 and 4 ranks
of one host: two to three times for vectors and for a few numbers); so there, ranks send each other what is to be
summed, and add it up in the order of ranks. As many bytes arrive as in a reduction. Several short vectors go in one
exchange, since the wait for others is the same for one as for many.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Torch 2.13 renamed the collectives of single tensors.
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor

# Numbers of vectors that go together. They are laid out anew for it, which longer vectors are not worth.
TOGETHER = 1 << 20
# Ranks up to which what is summed goes from each to each other, and numbers that one may receive then.
FEW, _NUMBERS = 16, 1 << 14


class Exchanges:
    """The collectives of a group.

    Parameters
    ----------
    group : ProcessGroup or None
        The default group where None.
    """

    def __init__(self, group: Any) -> None:
        self._group, self._size = group, dist.get_world_size(group)
        self._gloo = "gloo" in str(dist.get_backend(group))

    def everyone(self, x: Tensor) -> Tensor:
        """Return a small array of each rank, shape (ranks, *shape)."""
        every = x.new_empty((self._size, *x.shape))
        if self._gloo:
            dist.all_to_all_single(every, x.expand_as(every).contiguous(), group=self._group)
        else:
            _gather(every.view(-1), x.contiguous().view(-1), group=self._group)
        return every

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of an array over ranks."""
        if self._gloo and self._size <= FEW and self._size * x.numel() <= _NUMBERS:
            return self.everyone(x).sum(0, dtype=x.dtype)
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self._group)
        return total

    def gathered(self, rows: Tensor, piece: int) -> Tensor:
        """Return whole vectors, (b, ranks piece), from each rank's part of them, (b, up to piece)."""
        whole = rows.new_empty((len(rows), self._size * piece))
        for some in _groups(len(rows), whole.shape[1]):
            own = _padded(rows[some], piece)
            parts = whole[some].view(len(own), self._size, piece).transpose(0, 1)  # by ranks, as they arrive
            arrived = parts if len(own) == 1 else parts.new_empty(parts.shape)
            _gather(arrived.view(-1), own.view(-1), group=self._group)
            if arrived is not parts:
                parts.copy_(arrived)
        return whole

    def scattered(self, rows: Tensor, piece: int) -> Tensor:
        """Return this rank's part, (b, piece), of the sum over ranks of whole vectors, (b, up to ranks piece)."""
        here = rows.new_empty((len(rows), piece))
        for some in _groups(len(rows), self._size * piece):
            whole = _padded(rows[some], self._size * piece)
            parts = whole.view(len(whole), self._size, piece).transpose(0, 1).contiguous()
            if self._gloo:
                arrived = torch.empty_like(parts)
                dist.all_to_all_single(arrived, parts, group=self._group)
                torch.sum(arrived, 0, out=here[some])
            else:
                _scatter(here[some].view(-1), parts.view(-1), group=self._group)
        return here


def together(n: int) -> int:
    """Return how many vectors of n numbers go in one exchange."""
    return max(1, TOGETHER // max(n, 1))


def _groups(count: int, n: int) -> Iterator[slice]:
    """Cut the numbers of so many vectors into what goes together."""
    step = together(n)
    return (slice(start, start + step) for start in range(0, count, step))


def _padded(rows: Tensor, length: int) -> Tensor:
    """Return contiguous rows of a length, with zeros behind."""
    missing = length - rows.shape[1]
    return (torch.nn.functional.pad(rows, (0, missing)) if missing else rows).contiguous()
