"""One way to multiply, run on a batch within the memory there is: what is kept, what is weighed, how many columns go.

Which way is not decided here.
"""

from typing import Any

import torch
from torch import Tensor

from slq_torch._engine._held import Held
from slq_torch._engine._live import Live
from slq_torch._engine._memory import allowance
from slq_torch._engine._strategies import Strategy
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call


class Runner:
    """Prepares batches and multiplies.

    Attributes
    ----------
    graph_bytes : int or None
        What the largest graph of a batch holds, once one was weighed.
    noise : float
        Relative error of products beyond rounding, as far as it was measured.
    """

    __slots__ = ("_chunk", "_half", "_held", "_memory", "graph_bytes", "noise")

    def __init__(self, chunk: int | None, memory: float | None) -> None:
        self._chunk, self._memory = chunk, memory
        self._held: Held | None = None
        self._half: torch.dtype | None = None
        self.graph_bytes: int | None = None
        self.noise = 0.0

    def begin(self, device: torch.device) -> None:
        """Look how much memory there is, at the first product."""
        if self._held is None:
            self._held = Held(allowance(device) if self._memory is None else self._memory)

    @property
    def held(self) -> Held:
        """What is kept between products, nothing before the first."""
        return self._held or Held(0.0)

    @property
    def rounding(self) -> float:
        """Eps of half precision inside the loss, else 0."""
        return 0.0 if self._half is None else torch.finfo(self._half).eps

    @property
    def room(self) -> bool:
        """Whether a graph can be held."""
        return self.graph_bytes is not None and self.graph_bytes <= self.held.limit

    def run(self, way: Strategy, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Multiply the columns of a batch."""
        prepared, kept = self.prepared(way, key, call, params)
        if way.noise is not None and not self.noise:
            self.noise = way.noise(call, params, rows[0])
        return self.multiply(way, prepared, params, rows, keep=kept)

    def multiply(self, way: Strategy, prepared: Any, params: Parameters, rows: Tensor, *, keep: bool = True) -> Tensor:
        """Multiply by what was prepared, as many columns at once as there is memory for."""
        size = self.columns(way, len(rows))
        if size >= len(rows):
            return way.multiply(prepared, params, rows, keep)
        chunks = torch.split(rows, size)
        last = len(chunks) - 1
        return torch.cat([way.multiply(prepared, params, part, keep or i < last) for i, part in enumerate(chunks)])

    def prepared(self, way: Strategy, key: Any, call: Call, params: Parameters) -> tuple[Any, bool]:
        """Prepare a batch, or find it held; what is to be held is weighed, and the first graph."""
        if not way.held:
            return way.prepare(call, params), False
        name, known = (way.prepare, key), self.graph_bytes
        found = self.held.find(name, call, params, first=call.index == 0, size=known)
        if found is not None:
            return found, True
        if known is not None and not self.held.wanted(name, known):
            return way.prepare(call, params), False
        prepared, size = self.weighed(way, call, params)
        if way.name.startswith("graph") or known is None:
            self.graph_bytes = max(size, known or 0)
        return prepared, self.held.keep(name, call, prepared, size)

    def weighed(self, way: Strategy, call: Call, params: Parameters) -> tuple[Any, int]:
        """Prepare a batch, and tell the bytes of what was prepared."""
        with Live() as live:
            prepared = way.prepare(call, params)
        self._half = self._half or live.half
        return prepared, live.bytes

    def columns(self, way: Strategy, width: int) -> int:
        """How many columns go at once: as asked, else what the memory holds copies of the graph for."""
        if not way.vmapped:
            return width
        if self._chunk is not None:
            return min(self._chunk, width)
        if not self.graph_bytes:
            return width
        room = self.held.limit - self.held.bytes if self._memory is None else self._memory
        return int(min(width, max(1.0, room // self.graph_bytes)))

    def shrink(self, way: Strategy | None, width: int) -> str | None:
        """Do with less memory and say how: let go of held graphs, then halve the columns; None if nothing is left."""
        if self.held.items:
            self.held.clear()
            return "out of memory: graphs are no longer kept between products"
        now = 1 if way is None or not way.vmapped else self.columns(way, width)
        if now == 1:
            return None
        self._chunk = now // 2
        return f"out of memory: {self._chunk} columns at once"
