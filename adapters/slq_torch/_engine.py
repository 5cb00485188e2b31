"""The Hessian of a batch times columns, by whichever way was fastest: measured on the first batch, held to agree.

What the ways are is said in `_strategies`; what is kept between products in `_held`.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._attention import Exchange, exchange_for
from slq_torch._differences import measured_noise
from slq_torch._errors import name_the_module
from slq_torch._held import Held
from slq_torch._measured import Clock, Trials
from slq_torch._memory import Weigher, allowance, out_of_memory
from slq_torch._parameters import Parameters
from slq_torch._passes import Call, tolerance
from slq_torch._pieces import in_pieces
from slq_torch._report import Engine
from slq_torch._strategies import Choice, Name, Strategy, cannot_compile, strategies

# Beside graphs and the result: two columns in flight, and of the graph itself what one pull holds at its peak.
# Measured on four networks on the CPU: 0.76 to 1.2 of the peak one by one, 1.0 to 1.7 where columns are vmapped.
_RESERVED, _TRANSIENT = 2, 0.3


class HessianProducts:
    """A curvature of kind "hessian" that chooses its way per number of columns."""

    __slots__ = (
        "_chunk",
        "_exchanged",
        "_given",
        "_half",
        "_held",
        "_memory",
        "_microbatch",
        "_noise",
        "_notes",
        "_spent",
        "_ways",
        "trials",
    )

    kind = "hessian"

    def __init__(
        self,
        strategy: Choice = "auto",
        *,
        chunk: int | None = None,
        memory: float | None = None,
        microbatch: int | None = None,
    ) -> None:
        self._ways: dict[Name, Strategy] = strategies()
        self._given: Name | None = None if strategy == "auto" else strategy
        self._chunk, self._memory, self._microbatch = chunk, memory, microbatch
        self._held: Held | None = None
        self._exchanged: dict[str, Exchange] = {}
        self._notes: list[str] = []
        self._half: torch.dtype | None = None
        self._noise = 0.0
        self._spent = 0.0
        self.trials = Trials()

    @property
    def noise(self) -> float:
        """Relative error beyond rounding: of half precision inside the loss, or of differences, as measured."""
        return max(self._noise, 0.0 if self._half is None else torch.finfo(self._half).eps)

    @property
    def engine(self) -> Engine:
        """What was chosen so far."""
        held = self._held
        return Engine(
            dict(self.trials.choices),
            {name: dict(times) for name, times in self.trials.seconds.items()},
            dict(self.trials.disagreement),
            dict(self.trials.reasons),
            0 if held is None else len({batch for _, batch in held.items}),
            None if held is None else held.bytes_each,
            tuple(self._notes),
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The engine, for the metadata."""
        return {"engine": self.engine.facts}

    def product_bytes(self, width: int, params: Parameters) -> int | None:
        """Estimate the peak memory of a product in bytes, None before the first or where no graph is built."""
        held = self._held
        if held is None or held.bytes_each is None:
            return None
        name = self.trials.choices.get(width, self._given or "graph")
        copies = 0 if name in ("graph", "finite-difference") else self._columns(name, width)
        graphs = max(1, len(held.items)) + _TRANSIENT + copies
        return int(graphs * held.bytes_each) + (_RESERVED + width) * params.size * params.tensors[0].itemsize

    def __call__(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Return H X of one batch as rows, (b, n) in the parameters' dtype."""
        if self._held is None:
            self._held = Held(allowance(params.device) if self._memory is None else self._memory)
        if self._microbatch is None:
            return self._patient(call.index, call, params, rows)
        return in_pieces(
            call, self._microbatch, params.dtype, lambda key, piece: self._patient(key, piece, params, rows)
        )

    def _patient(self, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Multiply, with other kernels or fewer columns at once where torch refuses."""
        assert self._held is not None
        while True:
            try:
                with self._kernels():
                    began = time.perf_counter()
                    result = self._multiply(key, call, params, rows)
                    self._spent += time.perf_counter() - began
                    return result
            except RuntimeError as error:
                self._held.visits.clear()  # another attempt is no second pass
                if out_of_memory(error) and self._shrink(len(rows)):
                    continue
                exchange = exchange_for(error, self._exchanged)
                if exchange is None:
                    with self._kernels():
                        name_the_module(error, call)
                    raise
                self._exchanged[exchange.name] = exchange
                self._notes.append(exchange.note)
                self.trials.forget()

    @contextmanager
    def _kernels(self) -> Iterator[None]:
        with ExitStack() as stack:
            for exchange in self._exchanged.values():
                stack.enter_context(exchange.context())
            yield

    def _shrink(self, width: int) -> bool:
        """Do with less memory: let go of held graphs, then halve the columns at once; False if nothing is left."""
        held = self._held
        assert held is not None
        if held.items:
            held.clear()
            held.limit = 0.0
            self._notes.append("out of memory: graphs are no longer kept between products")
            return True
        name = self.trials.choices.get(width, self._given)
        if name in (None, "graph", "finite-difference"):
            return False
        now = self._columns(name, width)
        if now > 1:
            self._chunk = now // 2
            self._notes.append(f"out of memory: {self._chunk} columns at once")
            return True
        if self._given is not None:
            return False
        self.trials.choices[width] = "graph"
        return True

    def _columns(self, name: Name, width: int) -> int:
        """How many columns go at once: as asked, else what the memory holds copies of the graph for."""
        if self._chunk is not None:
            return min(self._chunk, width)
        held = self._held
        if name in ("graph", "finite-difference") or held is None or not held.bytes_each:
            return width
        return int(min(width, max(1.0, (self._memory or allowance_left(held)) // held.bytes_each)))

    def _multiply(self, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        width = len(rows)
        if not width:
            call.value()
            return torch.zeros_like(rows, dtype=params.dtype)
        if self._given is not None:
            self._check_admissible(self._ways[self._given], call, params)
            self.trials.choices[width] = self._given
            return self._run(self._ways[self._given], key, call, params, rows)
        name = self.trials.choices.get(width)
        if name is None:
            return self._try(key, call, params, rows)
        result = self._run(self._ways[name], key, call, params, rows)
        if self.trials.worth_linearizing(self._spent, key, call, room=self._held is not None and self._held.room(1)):
            self._try_linearize(call, params, rows, result)
        return result

    def _run(self, way: Strategy, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        prepared, kept = self._prepared(way, key, call, params)
        if way.name == "finite-difference" and not self._noise:
            self._noise = measured_noise(call, params, rows[0])
        size = self._columns(way.name, len(rows))
        if size >= len(rows):
            return way.multiply(prepared, params, rows, kept)
        chunks = torch.split(rows, size)
        last = len(chunks) - 1
        parts = [way.multiply(prepared, params, part, kept or i < last) for i, part in enumerate(chunks)]
        return torch.cat(parts)

    def _prepared(self, way: Strategy, key: Any, call: Call, params: Parameters) -> tuple[Any, bool]:
        """Prepare a batch, or find it held; the first graph is weighed."""
        if not way.held:
            return way.prepare(call, params), False
        held, name = self._held, (way.prepare, key)
        assert held is not None
        found = held.find(name, call, params, first=call.index == 0)
        if found is not None:
            return found, True
        if held.bytes_each is None:
            weigher = Weigher(params.tensors)
            with weigher.weighed():
                prepared = self._ways["graph"].prepare(call, params)
            held.bytes_each, self._half = weigher.bytes, weigher.half
            return prepared if way.name.startswith("graph") else way.prepare(call, params), False
        prepared = way.prepare(call, params)
        return prepared, held.keep(name, call, params, prepared)

    def _try(self, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Run the admissible ways on this batch, compare, and keep the fastest for this number of columns."""
        clock, width, trials = Clock(params.device), len(rows), self.trials
        clock.tick()
        prepared, _ = self._prepared(self._ways["graph"], key, call, params)
        building = clock.tick()
        result = torch.empty(width, params.size, dtype=params.dtype, device=params.device)
        columns = []
        for j in range(width):
            result[j] = self._ways["graph"].multiply(prepared, params, rows[j : j + 1], True)[0]
            columns.append(clock.tick())
        held = self._held
        assert held is not None
        once = 0.0 if held.room(1) else building  # what is held is built once, whoever uses it
        trials.note("graph", width, once + width * min(columns))
        trials.choices[width] = "graph"
        if width == 1:
            return result
        functional = isinstance(call.model, Module)
        for name in trials.candidates(width, functional=functional):
            if self._columns(name, width) < min(width, 2):
                trials.reasons[name] = "one column would fill the memory"
                continue
            way = self._ways[name]
            own = once if way.held else 0.0
            trials.attempt(
                name,
                width,
                partial(self._in_chunks, way, prepared if way.held else call, params, rows),
                result,
                clock=clock,
                extra=own,
                allowed=tolerance(params.dtype),
            )
        return result

    def _in_chunks(self, way: Strategy, prepared: Any, params: Parameters, rows: Tensor) -> Tensor:
        size = self._columns(way.name, len(rows))
        return torch.cat([way.multiply(prepared, params, part, True) for part in torch.split(rows, size)])

    def _try_linearize(self, call: Call, params: Parameters, rows: Tensor, result: Tensor) -> None:
        """Trace the linear map once enough time went into products to pay for it."""
        way = self._ways["linearize"]
        try:
            push = way.prepare(call, params)
            self._in_chunks(way, push, params, rows)  # a trace that spoils its own constants shows at the second run
        except Exception as error:
            self.trials.refuse("linearize", error)
            return
        self.trials.attempt(
            "linearize",
            len(rows),
            lambda: self._in_chunks(way, push, params, rows),
            result,
            clock=Clock(params.device),
            extra=0.0,
            allowed=tolerance(params.dtype),
        )

    def _check_admissible(self, way: Strategy, call: Call, params: Parameters) -> None:
        if way.functional and not isinstance(call.model, Module):
            msg = (
                f'`strategy` is "{way.name}", which evaluates the loss at other tensors than the parameters; a closure '
                'closes over its own. Use "graph", "graph-vmap" or "finite-difference", or give (model, loss, data).'
            )
            raise ValueError(msg)
        if way.name == "compile" and (reason := cannot_compile(params.device)):
            msg = f'`strategy` is "compile", but {reason}. Install one, or use strategy="auto".'
            raise ValueError(msg)


def allowance_left(held: Held) -> float:
    """Return the bytes that graphs may still take beside those that are held."""
    return held.limit - len(held.items) * (held.bytes_each or 0)
