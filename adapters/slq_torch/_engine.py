"""A matrix of a batch times columns, by whichever way was fastest: measured on the first batch, held to agree.

What the ways are is said in `_ways` and `_jacobian`; what is kept between products in `_held`.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._attention import Exchange, exchange_for
from slq_torch._errors import name_the_module
from slq_torch._held import Held
from slq_torch._live import Live
from slq_torch._measured import Clock, Trials
from slq_torch._memory import allowance, out_of_memory
from slq_torch._parameters import Parameters
from slq_torch._passes import Call, tolerance
from slq_torch._pieces import Pieces
from slq_torch._report import Engine
from slq_torch._strategies import NAMES, Choice, Name, Recipe, Strategy, cannot_compile

# What was asked for may differ from the graph by sqrt(eps), and what is beyond tolerance() counts as noise: fused code
# rounds in another order, and where a ReLU's input is about zero it decides otherwise (8e-5 on a ResNet in float32).
_ASKED_FOR = 0.5


class Products:
    """A curvature that chooses its way per number of columns."""

    __slots__ = (
        "_checked",
        "_chunk",
        "_exchanged",
        "_given",
        "_graph_bytes",
        "_half",
        "_held",
        "_memory",
        "_noise",
        "_notes",
        "_pieces",
        "_spent",
        "_ways",
        "recipe",
        "trials",
    )

    def __init__(
        self,
        recipe: Recipe,
        strategy: Choice = "auto",
        *,
        chunk: int | None = None,
        memory: float | None = None,
        microbatch: int | None = None,
    ) -> None:
        self.recipe = recipe
        self._ways: dict[Name, Strategy] = {way.name: way for way in recipe.ways()}
        _check_options(recipe.kind, tuple(self._ways), strategy, chunk, memory, microbatch)
        self._given: Name | None = None if strategy == "auto" else strategy
        self._chunk, self._memory = chunk, memory
        self._pieces = Pieces(microbatch)
        self._held: Held | None = None
        self._exchanged: dict[str, Exchange] = {}
        self._notes: list[str] = []
        self._graph_bytes: int | None = None
        self._half: torch.dtype | None = None
        self._noise = self._spent = 0.0
        self._checked = self._given == next(iter(self._ways))
        self.trials = Trials()

    @property
    def kind(self) -> str:
        """What its recipe says."""
        return self.recipe.kind

    @property
    def noise(self) -> float:
        """Relative error beyond rounding: of half precision inside the loss, or of differences, as measured."""
        return max(self._noise, 0.0 if self._half is None else torch.finfo(self._half).eps)

    @property
    def engine(self) -> Engine:
        """What was chosen so far."""
        return Engine(
            dict(self.trials.choices),
            {name: dict(times) for name, times in self.trials.seconds.items()},
            dict(self.trials.disagreement),
            dict(self.trials.reasons),
            0 if self._held is None else self._held.batches,
            self._graph_bytes,
            tuple(self._notes),
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The recipe's, and the engine, for the metadata."""
        return {**self.recipe.facts, "engine": self.engine.facts}

    @property
    def resident(self) -> int:
        """Bytes that are kept between products."""
        return 0 if self._held is None else self._held.resident

    def __call__(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Return the products of one batch as rows, (b, n) in the parameters' dtype."""
        if self._held is None:
            self._held = Held(allowance(params.device) if self._memory is None else self._memory)
        while True:
            try:
                return self._pieces.run(call, params.dtype, lambda key, piece: self._patient(key, piece, params, rows))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self._notes.append(self._pieces.shrink(call, error))

    def _patient(self, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Multiply, with other kernels, fewer columns at once or the first way where torch refuses."""
        assert self._held is not None
        while True:
            try:
                with self._kernels():
                    began = time.perf_counter()
                    result = self._multiply(key, call, params, rows)
                    self._spent += time.perf_counter() - began
                    return result
            except RuntimeError as error:
                self._held.again()
                if out_of_memory(error):
                    if self._shrink(len(rows)):
                        continue
                    raise
                if (exchange := exchange_for(error, self._exchanged)) is not None:
                    self._exchanged[exchange.name] = exchange
                    self._notes.append(exchange.note)
                    self.trials.forget()
                    continue
                name = self.trials.choices.get(len(rows))
                if self._given is None and name not in (None, self.trials.reference):
                    self.trials.refuse(name, error)  # a batch that takes another path in the model
                    self.trials.choices[len(rows)] = self.trials.reference
                    continue
                with self._kernels():
                    name_the_module(error, call)
                raise

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
            self._notes.append("out of memory: graphs are no longer kept between products")
            return True
        name = self.trials.choices.get(width, self._given)
        if name is None or not self._ways[name].vmapped:
            return False
        now = self._columns(self._ways[name], width)
        if now > 1:
            self._chunk = now // 2
            self._notes.append(f"out of memory: {self._chunk} columns at once")
            return True
        if self._given is not None:
            return False
        self.trials.choices[width] = self.trials.reference
        return True

    def _columns(self, way: Strategy, width: int) -> int:
        """How many columns go at once: as asked, else what the memory holds copies of the graph for."""
        if not way.vmapped:
            return width
        if self._chunk is not None:
            return min(self._chunk, width)
        held = self._held
        if held is None or not self._graph_bytes:
            return width
        room = held.limit - held.bytes if self._memory is None else self._memory
        return int(min(width, max(1.0, room // self._graph_bytes)))

    def _multiply(self, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        width = len(rows)
        if not width:
            call.value()
            return rows.new_zeros((0, self.recipe.parts * params.size), dtype=params.dtype)
        if self._given is not None:
            if not self._checked:
                return self._check(self._ways[self._given], key, call, params, rows)
            self.trials.choices[width] = self._given
            return self._run(self._ways[self._given], key, call, params, rows)
        name = self.trials.choices.get(width)
        if name is None:
            return self._try(key, call, params, rows)
        result = self._run(self._ways[name], key, call, params, rows)
        room = self._room() and "linearize" in self._ways
        if self.trials.worth_linearizing(self._spent, key, call, room=room):
            self._try_linearize(key, call, params, rows, result)
        return result

    def _run(self, way: Strategy, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        prepared, kept = self._prepared(way, key, call, params)
        if way.noise is not None and not self._noise:
            self._noise = way.noise(call, params, rows[0])
        return self._in_chunks(way, prepared, params, rows, keep=kept)

    def _in_chunks(
        self, way: Strategy, prepared: Any, params: Parameters, rows: Tensor, *, keep: bool = True
    ) -> Tensor:
        size = self._columns(way, len(rows))
        if size >= len(rows):
            return way.multiply(prepared, params, rows, keep)
        chunks = torch.split(rows, size)
        last = len(chunks) - 1
        return torch.cat([way.multiply(prepared, params, part, keep or i < last) for i, part in enumerate(chunks)])

    def _prepared(self, way: Strategy, key: Any, call: Call, params: Parameters) -> tuple[Any, bool]:
        """Prepare a batch, or find it held; what is to be held is weighed, and the first graph."""
        if not way.held:
            return way.prepare(call, params), False
        held, name, known = self._held, (way.prepare, key), self._graph_bytes
        assert held is not None
        found = held.find(name, call, params, first=call.index == 0, size=known)
        if found is not None:
            return found, True
        wanted = held.wanted(name, known or 0)
        if known is not None and not wanted:
            return way.prepare(call, params), False
        with Live() as live:
            prepared = way.prepare(call, params)
        self._half = self._half or live.half
        if way.name.startswith("graph") or known is None:
            self._graph_bytes = max(live.bytes, known or 0)
        return prepared, held.keep(name, call, prepared, live.bytes)

    def _room(self) -> bool:
        """Whether a graph can be held."""
        return self._held is not None and self._graph_bytes is not None and self._graph_bytes <= self._held.limit

    def _try(self, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Run the admissible ways on this batch, compare, and keep the fastest for this number of columns."""
        clock, width, trials = Clock(params.device), len(rows), self.trials
        first, prepared, building, result = self._reference(key, call, params, rows, clock)
        held = self._room()
        functional = isinstance(call.model, Module)
        for way in trials.candidates(self._ways.values(), width, functional=functional, held=held):
            if way.vmapped and self._columns(way, width) < min(width, 2):
                trials.reasons[way.name] = "one column would fill the memory"
                continue
            shared, extra, allowed = way.prepare == first.prepare, building, tolerance(params.dtype)
            if not shared:
                clock.tick()
                try:
                    prepared_for_it = way.prepare(call, params)
                except RuntimeError as error:
                    trials.refuse(way.name, error)
                    continue
                extra = clock.tick()
            own = prepared if shared else prepared_for_it
            trials.attempt(
                way,
                width,
                lambda way=way, own=own: self._in_chunks(way, own, params, rows),  # type: ignore[misc]
                result,
                clock=clock,
                extra=0.0 if way.held and held else extra,  # what is held is made once, whoever uses it
                allowed=allowed,
            )
        return result

    def _reference(
        self, key: Any, call: Call, params: Parameters, rows: Tensor, clock: Clock
    ) -> tuple[Strategy, Any, float, Tensor]:
        """Multiply by the first way that torch can take, and time it: its time once made, and the time to make it."""
        refusal: RuntimeError | None = None
        for way in self._ways.values():
            if way.vmapped or not way.eager:
                continue
            try:
                clock.tick()
                prepared, _ = self._prepared(way, key, call, params)
                building = clock.tick()
                result, times = None, []
                for j in range(len(rows)):
                    product = way.multiply(prepared, params, rows[j : j + 1], True)
                    if result is None:
                        result = product.new_empty(len(rows), product.shape[1])
                    result[j] = product[0]
                    times.append(clock.tick())
            except RuntimeError as error:
                if out_of_memory(error) or exchange_for(error, self._exchanged) is not None:
                    raise
                refusal = refusal or error
                self.trials.refuse(way.name, error)
                continue
            assert result is not None
            self.trials.begin(way.name, len(rows), (0.0 if self._room() else building) + len(rows) * min(times))
            return way, prepared, building, result
        assert refusal is not None  # the first way is one of these
        raise refusal

    def _try_linearize(self, key: Any, call: Call, params: Parameters, rows: Tensor, result: Tensor) -> None:
        """Trace the linear map once enough time went into products to pay for it."""
        way, held = self._ways["linearize"], self._held
        assert held is not None
        try:
            with Live() as live:
                push = way.prepare(call, params)
            self._in_chunks(way, push, params, rows)  # a trace that spoils its own constants shows at the second run
        except Exception as error:
            self.trials.refuse("linearize", error)
            return
        if not held.room(live.bytes * self.trials.batches):
            self.trials.reasons["linearize"] = "what it would keep is more than the memory for graphs"
            return
        self.trials.attempt(
            way,
            len(rows),
            lambda: self._in_chunks(way, push, params, rows),
            result,
            clock=Clock(params.device),
            extra=0.0,
            allowed=tolerance(params.dtype),
        )
        if self.trials.choices[len(rows)] == way.name:
            held.keep((way.prepare, key), call, push, live.bytes)

    def _check(self, way: Strategy, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Multiply for the first time by the way that was asked for, and hold one column against another way."""
        self._check_admissible(way, call, params)
        allowed = float(torch.finfo(params.dtype).eps) ** _ASKED_FOR
        first = next(iter(self._ways.values()))
        expected: Tensor | None = None
        if way.noise is None:
            try:
                prepared, _ = self._prepared(first, key, call, params)
                expected = first.multiply(prepared, params, rows[:1], True)
            except RuntimeError as error:
                if out_of_memory(error) or exchange_for(error, self._exchanged) is not None:
                    raise
                self.trials.refuse(first.name, error)
        self.trials.choices[len(rows)] = way.name
        if expected is not None and way.prepare == first.prepare:
            result = self._in_chunks(way, prepared, params, rows)
        else:
            result = self._run(way, key, call, params, rows)
        if expected is None:
            self._checked = True
            return result
        again = result
        try:
            if way.name == "linearize":  # a trace that spoils its own constants shows when it is run again
                trace = way.prepare(call, params)
                again = [self._in_chunks(way, trace, params, rows) for _ in range(2)][-1]
            reason = ""
        except Exception as error:
            self.trials.refuse(way.name, error)
            reason = f"its trace cannot be run again ({self.trials.reasons[way.name]})"
        if not reason and not all(self.trials.agrees(way.name, r[:1], expected, allowed) for r in (result, again)):
            reason = self.trials.reasons[way.name]
        if reason:
            msg = f'`strategy` is "{way.name}", but {reason}. Use strategy="auto", or "{first.name}".'
            raise ValueError(msg)
        if (apart := self.trials.disagreement[way.name]) > tolerance(params.dtype):
            self._noise = max(self._noise, apart)
        self._checked = True
        return result

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


def _check_options(kind: str, names: tuple[Name, ...], strategy: Any, chunk: Any, memory: Any, microbatch: Any) -> None:
    if strategy not in ("auto", *names):
        what = f" for the {kind}" if strategy in NAMES else ""
        msg = f"`strategy` must be one of {', '.join(map(repr, ('auto', *names)))}{what}, got {strategy!r}."
        raise ValueError(msg)
    for name, value in (("chunk", chunk), ("microbatch", microbatch)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            msg = f"`{name}` must be a positive integer or None, got {value!r}."
            raise ValueError(msg)
    if memory is not None and not memory >= 0:
        msg = f"`memory` must be a number of bytes >= 0 or None, got {memory!r}."
        raise ValueError(msg)
