"""Words that ranks leave for each other where they cannot meet: why one failed, and who has noticed that.

They go through the store by which torch.distributed brought the ranks together, which is there as long as the launcher
is. Nothing is written while all goes well.
"""

from __future__ import annotations

import zlib
from collections import Counter
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

import torch.distributed as dist

# How long those that have lost somebody wait to hear who else is left, in seconds.
_GRACE, _POLL = 5.0, 0.05
_MOST = 2000
# Boards of one group are counted, so that each has a name that is the same on all ranks.
_boards: Counter[str] = Counter()


class Board:
    """Where the ranks of a group leave words about one operator.

    Parameters
    ----------
    group : ProcessGroup or None
        The ranks; the default group where None.
    """

    def __init__(self, group: Any) -> None:
        self._rank, self._size = dist.get_rank(group), dist.get_world_size(group)
        members = dist.get_process_group_ranks(group or dist.group.WORLD)
        name = f"slq/{self._size}-{zlib.crc32(str(members).encode())}"
        _boards[name] += 1
        self._name = f"{name}/{_boards[name]}"

    def failed(self, error: BaseException) -> None:
        """Say why this rank takes no further part."""
        self._write("failed", f"{type(error).__name__}: {error}"[:_MOST])

    def reason(self) -> tuple[int, str] | None:
        """Return the number of a rank that failed, and its words."""
        for rank in range(self._size):
            if words := self._read("failed", rank):
                return rank, words
        return None

    def silent(self) -> list[int]:
        """Say that this rank has lost others; return the ranks from which no word comes."""
        self._write("lost", "1")
        missing, end = list(range(self._size)), monotonic() + _GRACE
        while missing and monotonic() < end:
            missing = [rank for rank in missing if not (self._read("lost", rank) or self._read("failed", rank))]
            sleep(_POLL if missing else 0.0)
        return missing

    def _write(self, what: str, text: str) -> None:
        with suppress(RuntimeError):  # the launcher, or the rank that keeps the store, is gone too
            _store().set(f"{self._name}/{what}/{self._rank}", text)

    def _read(self, what: str, rank: int) -> str | None:
        store, key = _store(), f"{self._name}/{what}/{rank}"
        with suppress(RuntimeError):
            return str(store.get(key), "utf-8", "replace") if store.check([key]) else None
        return None


def _store() -> Any:
    """Return the store of the default group, which torch has no public name for."""
    return dist.distributed_c10d._get_default_store()
