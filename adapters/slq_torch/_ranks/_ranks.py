"""Ranks of a process group: sums, gathers and scatters of vectors' rows, and what was seen on each rank.

A vector of n numbers is cut into as many equal pieces as there are ranks; the last ones may be short, and are padded on
the way. When another rank fails or dies, what waits for it ends with an error that says so, after a time-out.
"""

import math
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from slq._arrays import out_of_memory
from slq._errors import RunError
from slq_torch._ranks._board import Board
from slq_torch._ranks._exchanges import Exchanges

# What the backends say when another rank is gone, where they raise no error of their own.
_LOST = re.compile(r"gloo|NCCL|ucc|Connection (closed|reset)|[Tt]imed? ?out", re.ASCII)


class Limit:
    """The time-out of a group, another one while it is entered; re-entrant.

    Parameters
    ----------
    group : ProcessGroup or None
        The default group where None.
    device : torch.device
        Whose exchanges it is of.
    timeout : float, optional
        Seconds; the group's own by default.
    """

    def __init__(self, group: Any, device: torch.device, timeout: float | None) -> None:
        world: Any = dist.group.WORLD
        self._backend = (group or world)._get_backend(device)
        options = getattr(self._backend, "options", None)  # MPI has none
        if timeout is not None and options is None:
            msg = f"`timeout` is not for {dist.get_backend(group)}, whose exchanges have none."
            raise ValueError(msg)
        own: timedelta = dist.default_pg_timeout if options is None else options._timeout
        self._timeout, self._before = timeout, [own]

    @property
    def seconds(self) -> float:
        """How long is waited."""
        return self._before[0].total_seconds() if self._timeout is None else self._timeout

    def __enter__(self) -> None:
        if self._timeout is not None:
            self._before.append(self._backend.options._timeout)
            self._backend._set_default_timeout(timedelta(seconds=self._timeout))

    def __exit__(self, *_: object) -> None:
        if self._timeout is not None:
            self._backend._set_default_timeout(self._before.pop())


class Ranks:
    """A process group, as an operator needs it.

    Parameters
    ----------
    group : ProcessGroup, optional
        The default group by default.
    device : torch.device
        Where vectors live.
    timeout : float, optional
        Seconds that a rank waits for others; the group's own by default.

    Attributes
    ----------
    rank, size : int
        The number of this rank, and of all.
    """

    def __init__(self, group: Any, device: torch.device, timeout: float | None = None) -> None:
        if not dist.is_available() or not dist.is_initialized():
            msg = (
                "torch.distributed is not initialised. Start the script with torchrun and call "
                'torch.distributed.init_process_group("gloo"), or "nccl" on GPUs, before the operator is made.'
            )
            raise RuntimeError(msg)
        if timeout is not None and not 0 < timeout < math.inf:
            msg = f"`timeout` must be a positive number of seconds, got {timeout!r}."
            raise ValueError(msg)
        self.group, self._device = group, device
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._limit = Limit(group, device, timeout)
        self._board, self._lost, self._exchanges = Board(group), False, Exchanges(group)
        # NCCL moves what is on its device only.
        self._moving = device if "nccl" in str(dist.get_backend(group)) else torch.device("cpu")

    def sum(self, x: Any) -> Any:
        """Return the sum of a small array over ranks; of NumPy or torch. Of one rank it is the array itself."""
        if self.size == 1:
            return x
        if not isinstance(x, Tensor):
            return self.sum(torch.from_numpy(np.array(x))).numpy().astype(x.dtype, copy=False)
        with self.together("a sum"):
            return self._exchanges.sum(x.detach().to(self._moving)).to(x.device)

    def seen(self, *numbers: float) -> Tensor:
        """Return some numbers of each rank, (ranks, numbers), on the host."""
        own = torch.tensor(numbers, dtype=torch.float64, device=self._moving)
        if self.size == 1:
            return own.cpu()[None]
        with self.together("an exchange of states"):
            return self._exchanges.everyone(own).cpu()

    def told(self, what: Any) -> list[Any]:
        """Return an object of each rank."""
        every: list[Any] = [None] * self.size
        with self.together("an exchange of facts"):
            dist.all_gather_object(every, what, group=self.group)
        return every

    def rows(self, n: int) -> range:
        """Return the rows of vectors of length n that are here."""
        piece = self.piece(n)
        return range(min(self.rank * piece, n), min((self.rank + 1) * piece, n))

    def piece(self, n: int) -> int:
        """Return how many rows a rank has, but for the last ones."""
        return -(-n // self.size)

    def gathered(self, rows: Tensor, n: int) -> Tensor:
        """Return whole vectors, (b, n), from the part that each rank has, (b, rows here)."""
        if self.size == 1:
            return rows
        with self.together("a gathering of vectors"):
            return self._exchanges.gathered(rows, self.piece(n))[:, :n]

    def scattered(self, rows: Tensor) -> Tensor:
        """Return this rank's part of the sum of whole vectors, (b, n), over ranks."""
        if self.size == 1:
            return rows
        here = len(self.rows(rows.shape[1]))
        with self.together("a summing of vectors"):
            return self._exchanges.scattered(rows, self.piece(rows.shape[1]))[:, :here]

    @property
    def seconds(self) -> float:
        """How long a rank waits for others."""
        return self._limit.seconds

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Wait no longer than the time-out, and say what it means when others are not there."""
        try:
            with self._limit:
                yield
        except RuntimeError as error:
            if isinstance(error, RunError) or not (isinstance(error, dist.DistError) or _LOST.search(str(error))):
                raise
            self._tell(what, error)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let the others know why this rank takes no further part, if what it does by itself fails."""
        try:
            yield
        except Exception as error:
            if self._lost:
                raise
            self._board.failed(error)
            if out_of_memory(error):  # trying again with fewer columns would meet nobody
                msg = f"rank {self.rank} of {self.size} failed: {type(error).__name__}: {error}"
                raise RunError(msg) from error
            raise

    def _tell(self, what: str, error: RuntimeError) -> NoReturn:
        """Raise what is known of those that are not there."""
        self._lost = True
        waited = f"({str(error).splitlines()[0][:200]}; a rank waits {self.seconds:g} s for others)"
        if (found := self._board.reason()) is not None:
            rank, words = found
            msg = f"rank {rank} of {self.size} failed: {words} {waited}"
            raise RunError(msg) from error
        silent = ", ".join(map(str, self._board.silent()))
        who = f"rank {silent} of {self.size} does not answer" if silent else "all ranks answer, but wait elsewhere"
        msg = (
            f"rank {self.rank} of {self.size} lost the others in {what}: {who}. A rank has died, or was given other "
            f"arguments and waits elsewhere; its own message says why. {waited} Set how long by `timeout`, or by "
            "init_process_group(timeout=...)."
        )
        raise RunError(msg) from error


def agreed(ranks: Ranks, facts: dict[str, Any]) -> None:
    """Refuse facts that are not the same on all ranks, on all of them, and say which they are and where."""
    every = ranks.told(facts)
    for name in facts:
        values = [known.get(name) for known in every]
        if any(value != values[0] for value in values):
            other = next(rank for rank, value in enumerate(values) if value != values[0])
            msg = (
                f"{name} differ between ranks: rank 0 has {_short(values[0])}, rank {other} has "
                f"{_short(values[other])}. All ranks must run the same program on the same model."
            )
            raise ValueError(msg)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:120] + "…"


def content(tensors: Iterable[Tensor]) -> list[int]:
    """Return a number for each tensor that tells different ones apart: the checksum of its bytes."""
    return [zlib.crc32(t.detach().reshape(-1).cpu().contiguous().view(torch.uint8).numpy().data) for t in tensors]
