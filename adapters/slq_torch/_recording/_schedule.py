"""When a recorder records: which steps are due, and whether there is time for another record."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import ceil, floor, log10
from numbers import Integral
from typing import Any, Literal

Every = int | Literal["log", "epoch", "demand"] | Iterable[int] | Callable[[int], bool]
# Records per factor of ten of the steps of a logarithmic schedule: 0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 18, 24, 32, ...
_PER_DECADE = 8


def due_by(every: Every) -> Callable[[int], bool]:
    """Return the function that tells whether a step is due, by the step alone: the same in a run that goes on.

    Parameters
    ----------
    every : int, "log", "epoch", "demand", iterable of int or callable
        As `Recorder` takes it.
    """
    if every == "log":
        return _logarithmic
    if every in ("epoch", "demand"):
        return lambda step: False
    if callable(every):
        return lambda step: bool(every(step))
    if isinstance(every, Integral) and not isinstance(every, bool):
        if every < 1:
            msg = f"`every` must be at least 1 step, got {every}."
            raise ValueError(msg)
        number = int(every)
        return lambda step: step % number == 0
    if isinstance(every, Iterable) and not isinstance(every, str):
        steps = frozenset(every)
        return lambda step: step in steps
    msg = (
        f'`every` must be a number of steps, "log", "epoch", "demand", an iterable of steps or a function of the '
        f"step, got {every!r}."
    )
    raise ValueError(msg)


def _logarithmic(step: int) -> bool:
    if step <= 1:
        return step >= 0
    nearest = floor(_PER_DECADE * log10(step) + 1e-9)
    return step == ceil(10 ** (nearest / _PER_DECADE) - 1e-9)


class Budget:
    """Seconds spent on records against seconds of everything else since the start.

    Parameters
    ----------
    share : float or None
        The largest share of the training time that records may take; None for no limit.
    """

    __slots__ = ("_began", "last", "share", "spent")

    def __init__(self, share: Any) -> None:
        if share is not None and not share > 0:
            msg = f"`budget` must be a positive share of the training time, such as 0.05, or None, got {share!r}."
            raise ValueError(msg)
        self.share, self.spent, self.last = share, 0.0, 0.0
        self._began = time.perf_counter()

    @property
    def training(self) -> float:
        """Seconds of training so far."""
        return time.perf_counter() - self._began - self.spent

    @property
    def allows(self) -> bool:
        """Whether another record, as dear as the last one, keeps within the share; the first is always allowed."""
        return self.share is None or self.spent == 0 or self.spent + self.last <= self.share * self.training

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Count what is inside as spent on a record."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.last = time.perf_counter() - began
            self.spent += self.last
