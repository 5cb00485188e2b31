"""Trials of strategies: timed on one batch, compared, and not run where they cannot win.

Products of trials are needed by nobody, so they are few; where ways come out close, each runs again and medians decide.
They run at the first product of so many columns, not later: then a product gives the same bits each time.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._engine._strategies import Strategy
from slq_torch._model._passes import Call

# vmap multiplies the memory of a pass by the columns, so it must win by more than what clocks tell apart.
_WORTH = 0.97
# Ways within this factor of the fastest are timed until there are so many figures of each; one is enough for products
# of more seconds than that, which what else a machine does moves less.
_CLOSE, _ROUNDS, _LONG = 1.2, 3, 0.5
# A way that took so many times longer at one number of columns is not tried at others.
_HOPELESS = 1.5
# Seconds that the first use of vmap and of forward mode takes in a process (0.1 and 1.5 were seen).
_START = 2.0
# It is paid where a product of so many columns takes at least this share of it: a run makes some forty.
_SHARE_OF_START = 1 / 40
_SHORT = "products are too short for its first use to pay"
# Seconds spent on products before a trace is tried: per batch, each of which is traced if it wins, and for the import
# of torch's tracer (2 to 3 s). A trace saves a tenth to a third of a product, and a run is expected to go on for as
# long as it has.
_PATIENCE, _PATIENCE_OF_IMPORT = 5.0, 15.0


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

    __slots__ = (
        "_times",
        "_traced",
        "_vmapped",
        "batches",
        "choices",
        "disagreement",
        "reasons",
        "reference",
        "seconds",
    )

    def __init__(self) -> None:
        self.reference: Any = "graph"  # the name of what the others are held against
        self.choices: dict[int, Any] = {}
        self.seconds: dict[str, dict[int, float]] = {}
        self.disagreement: dict[str, float] = {}
        self.reasons: dict[str, str] = {}
        self.batches, self._traced = 1, False
        self._vmapped: set[str] = set()
        self._times: dict[int, dict[str, list[float]]] = {}  # of ways that may be chosen, by columns

    def begin(self, name: str, width: int, seconds: float) -> None:
        """Choose the first way, that the others have to beat."""
        self.reference = self.choices[width] = name
        self._times[width] = {}
        self.note(name, width, seconds)

    def refuse(self, name: str, error: BaseException) -> None:
        """Write down why a way failed, in torch's first line."""
        for times in self._times.values():
            times.pop(name, None)
        lines = str(error).strip().splitlines()
        self.reasons[name] = f"torch refused: {lines[0][:150] if lines else type(error).__name__}"

    def forget(self) -> None:
        """Start again: the kernels are others now."""
        self.choices.clear()
        self.reasons.clear()

    def candidates(self, ways: Iterable[Strategy], width: int, *, functional: bool) -> list[Strategy]:
        """List what could beat the reference at so many columns, by what is known from other trials.

        One column has nothing to gain from vmap, and a trace is tried later, when it can pay.
        """
        found = list[Strategy]()
        for way in ways:
            if way.name in (self.reference, "linearize") or not way.eager or (way.vmapped and width == 1):
                continue
            if way.functional and not functional:
                self.reasons[way.name] = "a closure is no function of its parameters"
            elif self.reasons.get(way.name, _SHORT) == _SHORT and not self._hopeless(way.name):
                found.append(way)
        return found

    def attempt(
        self,
        way: Strategy,
        width: int,
        run: Callable[[], Tensor],
        expected: Tensor,
        *,
        clock: Clock,
        extra: float,
        allowed: float,
    ) -> None:
        """Run a way at most twice; it is chosen if it is faster than the chosen one and agrees with the reference.

        `extra` seconds are what it takes besides.
        """
        name = way.name
        if way.vmapped and name != "graph-vmap" and self._hopeless("graph-vmap"):
            self.reasons[name] = "vmap is slow on this model"
            return
        best = self.seconds[self.choices[width]].get(width, float("inf"))
        if way.functional and name != "linearize" and best < _SHARE_OF_START * _START:
            self.reasons[name] = _SHORT
            return
        limit = _WORTH * best if way.vmapped and self.choices[width] not in self._vmapped else best
        if way.vmapped:
            self._vmapped.add(name)
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
        self.seconds.setdefault(name, {})[width] = seconds
        if self.agrees(name, other, expected, allowed):
            self.note(name, width, seconds)

    def turn(self, width: int) -> Any | None:
        """Return which of several close ways should be timed again, None once it is decided."""
        times = self._times.get(width, {})
        best = min((self.seconds[name][width] for name in times), default=0.0)
        close = [name for name in times if self.seconds[name][width] <= _CLOSE * best or self._cold(name, width)]
        if len(close) < 2 or best > _LONG:
            return None
        name = min(close, key=lambda name: len(times[name]))
        return name if len(times[name]) < _ROUNDS else None

    def note(self, name: Any, width: int, seconds: float) -> None:
        """Add the time of a way that agrees, and choose the fastest."""
        times = self._times[width]
        times.setdefault(name, []).append(seconds)
        self.seconds.setdefault(name, {})[width] = statistics.median_low(times[name])

        def handicapped(name: Any) -> float:
            return self.seconds[name][width] * (1.0 if name in self._vmapped else _WORTH)

        self.choices[width] = min(times, key=handicapped)

    def agrees(self, name: str, other: Tensor, expected: Tensor, allowed: float) -> bool:
        """Compare two products, and write down what came out."""
        norm = float(torch.linalg.vector_norm(expected))
        apart = float(torch.linalg.vector_norm(other - expected)) / (norm or 1.0)
        self.disagreement[name] = max(apart, self.disagreement.get(name, 0.0))
        if apart <= allowed:
            return True
        self.reasons[name] = (
            f"it disagrees with the {self.reference} by {apart:.1e}, more than rounding ({allowed:.1e})"
        )
        return False

    def worth_linearizing(self, spent: float, key: Any, call: Call, *, room: bool) -> bool:
        """Whether a trace should be tried now: once, when products have cost more than it will."""
        self.batches = max(self.batches, call.index + 1)
        if self._traced or not room or key != 0 or not isinstance(call.model, Module):
            return False
        self._traced = spent > _PATIENCE * self.batches + ("torch._dynamo" not in sys.modules) * _PATIENCE_OF_IMPORT
        return self._traced

    def _cold(self, name: str, width: int) -> bool:
        """Whether all that is known of a way is its very first run, which pays for whatever torch does once."""
        return name == self.reference and width == 1 and len(self._times[width][name]) == 1

    def _hopeless(self, name: str) -> bool:
        others, own = self.seconds.get(name, {}), self.seconds.get(self.reference, {})
        return any(seconds > _HOPELESS * own[width] for width, seconds in others.items() if width in own)
