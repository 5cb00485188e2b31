"""A matrix of a batch times columns, by whichever way was fastest: measured on the first batch, held to agree.

What the ways are is said in `_ways` and `_jacobian`; what is kept between products in `_held`.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq._arrays import out_of_memory
from slq_torch._engine._attention import Exchange, exchange_for
from slq_torch._engine._measured import Clock, Trials
from slq_torch._engine._pieces import Pieces
from slq_torch._engine._report import Engine
from slq_torch._engine._running import Runner
from slq_torch._engine._strategies import Choice, Name, Recipe, Strategy, check_admissible, check_options
from slq_torch._model._errors import name_the_module
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call, tolerance

# What was asked for may differ from the graph by sqrt(eps), and what is beyond tolerance() counts as noise: fused code
# rounds in another order, and where a ReLU's input is about zero it decides otherwise (8e-5 on a ResNet in float32).
_ASKED_FOR = 0.5


class Products:
    """A curvature that chooses its way per number of columns."""

    __slots__ = (
        "_checked",
        "_exchanged",
        "_given",
        "_notes",
        "_pieces",
        "_runner",
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
        check_options(recipe.kind, tuple(self._ways), strategy, chunk, memory, microbatch)
        self._given: Name | None = None if strategy == "auto" else strategy
        self._runner, self._pieces = Runner(chunk, memory), Pieces(microbatch)
        self._exchanged: dict[str, Exchange] = {}
        self._notes: list[str] = []
        self._spent = 0.0
        self._checked = self._given == next(iter(self._ways))
        self.trials = Trials()

    @property
    def kind(self) -> str:
        """What its recipe says."""
        return self.recipe.kind

    @property
    def noise(self) -> float:
        """Relative error beyond rounding: of half precision inside the loss, or as it was measured."""
        return max(self._runner.noise, self._runner.rounding)

    @property
    def engine(self) -> Engine:
        """What was chosen so far."""
        return Engine(
            dict(self.trials.choices),
            {name: dict(times) for name, times in self.trials.seconds.items()},
            dict(self.trials.disagreement),
            dict(self.trials.reasons),
            self._runner.held.batches,
            self._runner.graph_bytes,
            tuple(self._notes),
        )

    @property
    def facts(self) -> dict[str, Any]:
        """The recipe's, and the engine, for the metadata."""
        return {**self.recipe.facts, "engine": self.engine.facts}

    @property
    def resident(self) -> int:
        """Bytes that are kept between products."""
        return self._runner.held.resident

    def __call__(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Return the products of one batch as rows, (b, n) in the parameters' dtype."""
        self._runner.begin(params.device)
        while True:
            try:
                return self._pieces.run(call, params.dtype, lambda key, piece: self._patient(key, piece, params, rows))
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                self._notes.append(self._pieces.shrink(call, error))

    def _patient(self, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Multiply, with other kernels, less memory or the first way where torch refuses."""
        while True:
            try:
                with self._kernels():
                    began = time.perf_counter()
                    result = self._multiply(key, call, params, rows)
                    self._spent += time.perf_counter() - began
                    return result
            except RuntimeError as error:
                self._runner.held.again()
                if self._changed(error, len(rows)):
                    continue
                with self._kernels():
                    name_the_module(error, call)
                raise

    def _changed(self, error: RuntimeError, width: int) -> bool:
        """Whether something could be changed that may help against an error."""
        name = self.trials.choices.get(width, self._given)
        fallible = self._given is None and name not in (None, self.trials.reference)
        if out_of_memory(error):
            if note := self._runner.shrink(None if name is None else self._ways[name], width):
                self._notes.append(note)
                return True
        elif (exchange := exchange_for(error, self._exchanged)) is not None:
            self._exchanged[exchange.name] = exchange
            self._notes.append(exchange.note)
            self.trials.forget()
            return True
        elif fallible:
            assert name is not None
            self.trials.refuse(name, error)  # a batch that takes another path in the model
        if fallible:
            self.trials.choices[width] = self.trials.reference
        return fallible

    @contextmanager
    def _kernels(self) -> Iterator[None]:
        with ExitStack() as stack:
            for exchange in self._exchanged.values():
                stack.enter_context(exchange.context())
            yield

    def _multiply(self, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        width = len(rows)
        if not width:
            call.value()
            return rows.new_zeros((0, self.recipe.parts * params.size), dtype=params.dtype)
        if self._given is not None:
            if not self._checked:
                return self._check(self._ways[self._given], key, call, params, rows)
            self.trials.choices[width] = self._given
            return self._runner.run(self._ways[self._given], key, call, params, rows)
        name = self.trials.choices.get(width)
        if name is None:
            return self._try(key, call, params, rows)
        result = self._runner.run(self._ways[name], key, call, params, rows)
        room = self._runner.room and "linearize" in self._ways
        if self.trials.worth_linearizing(self._spent, key, call, room=room):
            self._try_linearize(key, call, params, rows, result)
        return result

    def _try(self, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Run the admissible ways on this batch, compare, and keep the fastest for this number of columns."""
        clock, width, trials = Clock(params.device), len(rows), self.trials
        first, prepared, building, result = self._reference(key, call, params, rows, clock)
        held = self._runner.room
        made = {first.prepare: (prepared, building)}
        functional = isinstance(call.model, Module)

        def multiply(way: Strategy) -> Tensor:
            return self._runner.multiply(way, made[way.prepare][0], params, rows)

        def extra(way: Strategy) -> float:
            return 0.0 if way.held and held else made[way.prepare][1]  # what is held is made once, whoever uses it

        for way in trials.candidates(self._ways.values(), width, functional=functional):
            if way.vmapped and self._runner.columns(way, width) < min(width, 2):
                trials.reasons[way.name] = "one column would fill the memory"
                continue
            if way.prepare not in made:
                clock.tick()
                try:
                    made[way.prepare] = way.prepare(call, params), clock.tick()
                except RuntimeError as error:
                    trials.refuse(way.name, error)
                    continue
            trials.attempt(
                way,
                width,
                partial(multiply, way),
                result,
                clock=clock,
                extra=extra(way),
                allowed=tolerance(params.dtype),
            )
        while (name := trials.turn(width)) is not None:
            clock.tick()
            multiply(self._ways[name])
            trials.note(name, width, extra(self._ways[name]) + clock.tick())
        return result

    def _reference(
        self, key: Any, call: Call, params: Parameters, rows: Tensor, clock: Clock
    ) -> tuple[Strategy, Any, float, Tensor]:
        """Multiply by the first way that torch can take, and time it: its time once made, and the time to make it."""
        refusal: RuntimeError | None = None
        for way in self._ways.values():
            if way.vmapped or not way.eager or way.name == "linearize":
                continue
            try:
                clock.tick()
                prepared, _ = self._runner.prepared(way, key, call, params)
                building = clock.tick()
                result, times = None, []
                for j in range(len(rows)):
                    product = way.multiply(prepared, params, rows[j : j + 1], True)
                    if result is None:
                        result = product.new_empty(len(rows), product.shape[1])
                    result[j] = product[0]
                    times.append(clock.tick())
            except RuntimeError as error:
                if self._recoverable(error):
                    raise
                refusal = refusal or error
                self.trials.refuse(way.name, error)
                continue
            assert result is not None
            seconds = (0.0 if self._runner.room else building) + len(rows) * statistics.median(times)
            self.trials.begin(way.name, len(rows), seconds)
            return way, prepared, building, result
        assert refusal is not None  # the first way is one of these
        raise refusal

    def _try_linearize(self, key: Any, call: Call, params: Parameters, rows: Tensor, result: Tensor) -> None:
        """Trace the linear map once enough time went into products to pay for it."""
        way, held = self._ways["linearize"], self._runner.held
        try:
            push, size = self._runner.weighed(way, call, params)
            self._runner.multiply(way, push, params, rows)  # what spoils its own constants shows when run again
        except Exception as error:
            self.trials.refuse("linearize", error)
            return
        if not held.room(size * self.trials.batches):
            self.trials.reasons["linearize"] = "what it would keep is more than the memory for graphs"
            return
        self.trials.attempt(
            way,
            len(rows),
            lambda: self._runner.multiply(way, push, params, rows),
            result,
            clock=Clock(params.device),
            extra=0.0,
            allowed=tolerance(params.dtype),
        )
        if self.trials.choices[len(rows)] == way.name:
            held.keep((way.prepare, key), call, push, size)

    def _check(self, way: Strategy, key: Any, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Multiply for the first time by the way that was asked for, and hold one column against the first way."""
        check_admissible(way, call.model, params.device)
        self.trials.choices[len(rows)] = way.name
        shared, expected = self._expected(way, key, call, params, rows[:1])
        if expected is None:
            result = self._runner.run(way, key, call, params, rows)
            self._checked = True
            return result
        same = way.prepare == next(iter(self._ways.values())).prepare
        try:
            own = shared if same else self._runner.prepared(way, key, call, params)[0]
            # A trace that spoils its own constants shows when it is run again.
            results = [self._runner.multiply(way, own, params, rows) for _ in range(1 + (way.name == "linearize"))]
        except RuntimeError as error:
            if self._recoverable(error):
                raise
            self.trials.refuse(way.name, error)
        else:
            allowed = float(torch.finfo(params.dtype).eps) ** _ASKED_FOR
            if all(self.trials.agrees(way.name, result[:1], expected, allowed) for result in results):
                if (apart := self.trials.disagreement[way.name]) > tolerance(params.dtype):
                    self._runner.noise = max(self._runner.noise, apart)
                self._checked = True
                return results[0]
        msg = f'`strategy` is "{way.name}", but {self.trials.reasons[way.name]}. Use strategy="auto".'
        raise ValueError(msg)

    def _expected(
        self, way: Strategy, key: Any, call: Call, params: Parameters, row: Tensor
    ) -> tuple[Any, Tensor | None]:
        """Multiply one column by the first way; None where torch cannot, and for ways that measure their own noise."""
        first = next(iter(self._ways.values()))
        if way.noise is not None:
            return None, None
        try:
            prepared, _ = self._runner.prepared(first, key, call, params)
            return prepared, first.multiply(prepared, params, row, True)
        except RuntimeError as error:
            if self._recoverable(error):
                raise
            self.trials.refuse(first.name, error)
            return None, None

    def _recoverable(self, error: RuntimeError) -> bool:
        """Whether less memory or other kernels may help."""
        return out_of_memory(error) or exchange_for(error, self._exchanged) is not None
