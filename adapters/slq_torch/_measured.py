"""Trials of strategies: timed on one batch, compared, and not run where they cannot win."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._passes import Call
from slq_torch._strategies import Name

# vmap multiplies the memory of a pass by the columns, so it must win by a tenth to be worth it.
_WORTH = 0.9
# A way that took so many times longer at one number of columns is not tried at others.
_HOPELESS = 1.5
# Seconds that the first use of vmap and of forward mode takes in a process (0.1 and 1.5 were seen).
_START = 2.0
# It is paid where a product of so many columns takes at least this share of it: a run makes some forty.
_SHARE_OF_START = 1 / 40
_SHORT = "products are too short for its first use to pay"
# Seconds spent on products per batch before a trace, which takes about as long, is tried.
_PATIENCE = 3.0


class Clock:
    """Seconds between ticks, with the device's queue run dry at each."""

    __slots__ = ("_device", "_last")

    def __init__(self, device: torch.device) -> None:
        self._device, self._last = device, 0.0

    def tick(self) -> float:
        """Return the seconds since the last tick."""
        synchronize = getattr(torch, self._device.type).synchronize
        synchronize(*([] if self._device.type == "mps" else [self._device]))
        last, self._last = self._last, time.perf_counter()
        return self._last - last


class Trials:
    """What was measured and decided, by strategy and number of columns."""

    __slots__ = ("_batches", "_traced", "choices", "disagreement", "reasons", "seconds")

    def __init__(self) -> None:
        self.choices: dict[int, Name] = {}
        self.seconds: dict[str, dict[int, float]] = {}
        self.disagreement: dict[str, float] = {}
        self.reasons: dict[str, str] = {}
        self._batches, self._traced = 1, False

    def note(self, name: str, width: int, seconds: float) -> None:
        """Write down a time."""
        self.seconds.setdefault(name, {})[width] = seconds

    def refuse(self, name: str, error: BaseException) -> None:
        """Write down why a way failed, in torch's first line."""
        lines = str(error).strip().splitlines()
        self.reasons[name] = f"torch refused: {lines[0][:150] if lines else type(error).__name__}"

    def forget(self) -> None:
        """Start again: the kernels are others now."""
        self.choices.clear()
        self.reasons.clear()

    def candidates(self, width: int, *, functional: bool) -> list[Name]:
        """List what could beat the graph at so many columns, by what is known from other trials."""
        names: list[Name] = ["graph-vmap"]
        if functional:
            names.append("forward-over-reverse")
        else:
            self.reasons["forward-over-reverse"] = "a closure is no function of its parameters"
        refused = {name for name, reason in self.reasons.items() if reason != _SHORT}
        return [name for name in names if name not in refused and not self._hopeless(name)]

    def attempt(
        self,
        name: Name,
        width: int,
        run: Callable[[], Tensor],
        expected: Tensor,
        *,
        clock: Clock,
        extra: float,
        allowed: float,
    ) -> None:
        """Run a way at most twice; it is chosen if it is faster than the chosen one and agrees with the graph."""
        if name == "forward-over-reverse" and self._hopeless("graph-vmap"):
            self.reasons[name] = "vmap is slow on this model"
            return
        best = self.seconds[self.choices[width]].get(width, float("inf"))
        if name == "forward-over-reverse" and best < _SHARE_OF_START * _START:
            self.reasons[name] = _SHORT
            return
        limit = _WORTH * best if self.choices[width] == "graph" else best
        try:
            # A first call pays for a start, so a slow one gets a second chance.
            seconds = float("inf")
            for _ in range(2):
                clock.tick()
                other = run()
                seconds = min(seconds, extra + clock.tick())
                if seconds <= limit or seconds > 3 * best + _START:
                    break
        except Exception as error:
            self.refuse(name, error)
            return
        self.reasons.pop(name, None)
        self.note(name, width, seconds)
        norm = float(torch.linalg.vector_norm(expected))
        apart = float(torch.linalg.vector_norm(other - expected)) / (norm or 1.0)
        self.disagreement[name] = max(apart, self.disagreement.get(name, 0.0))
        if not apart <= allowed:
            self.reasons[name] = f"it disagrees with the graph by {apart:.1e}, more than rounding ({allowed:.1e})"
        elif seconds <= limit:
            self.choices[width] = name

    def worth_linearizing(self, spent: float, key: Any, call: Call, *, room: bool) -> bool:
        """Whether a trace should be tried now: once, when products have cost more than it will."""
        self._batches = max(self._batches, call.index + 1)
        if self._traced or not room or key != 0 or not isinstance(call.model, Module):
            return False
        self._traced = spent > _PATIENCE * self._batches
        return self._traced

    def _hopeless(self, name: str) -> bool:
        others, graph = self.seconds.get(name, {}), self.seconds.get("graph", {})
        return any(seconds > _HOPELESS * graph[width] for width, seconds in others.items() if width in graph)
