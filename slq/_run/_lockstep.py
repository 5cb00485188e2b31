"""Several runs of `slq.spectrum` in lock-step: all products that they wait for are computed at once.

Every run lives in a thread of its own, but only one thread ever moves: the caller wakes one run after the other, in
order, until each waits for a product; then the caller computes all of them together, in its own thread. So nothing
depends on timing, and what holds for the caller's thread (Ctrl-C, gradient modes, devices) holds for the products.
No numerics here: what a run does with its products is the driver's business.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import Semaphore, Thread
from time import perf_counter
from typing import Any

from slq import _arrays
from slq._arrays import Array
from slq._errors import RunError
from slq._lanczos._probes import seed_from
from slq._operators._operators import Operator, as_operator
from slq._progress import NoMeter, meter
from slq._run._driver import spectrum
from slq._spectrum._spectra import Spectra
from slq._spectrum._spectrum import Spectrum

Joint = Callable[[Mapping[str, Array]], Mapping[str, Array]]
Context = Callable[[], AbstractContextManager[Any]]


class _Ended(Exception):
    """Ends a run because another one failed."""


class Runner:
    """Runs a function in a thread that moves only while its owner waits, and hands over what the function asks for.

    Parameters
    ----------
    function : callable
        Takes `ask`, a function that hands a request to the owner and returns the owner's answer.
    context : callable, optional
        Makes a context manager to run within, such as a device's stream.

    Attributes
    ----------
    request : object
        What the function waits for.
    finished : bool
        Whether it has returned or raised.
    result, error : object
        What it returned, or raised.
    """

    def __init__(self, function: Callable[[Callable[[Any], Any]], Any], context: Context = nullcontext) -> None:
        self._function, self._context = function, context
        self._wake, self._waits = Semaphore(0), Semaphore(0)
        self._answer: Any = None
        self._thrown: BaseException | None = None
        self._given_up = False
        self.request: Any = None
        self.finished = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = Thread(target=contextvars.copy_context().run, args=(self._run,), daemon=True)

    def resume(self, answer: Any = None, error: BaseException | None = None) -> None:
        """Let the function go on with an answer, or with an exception, until it asks again or ends."""
        self._answer, self._thrown = answer, error
        if self._thread.ident is None:
            self._thread.start()
        self._wake.release()
        self._waits.acquire()

    def give_up(self) -> None:
        """End the function, wherever it is, and wait until it has ended."""
        self._given_up = True
        if self._thread.ident is not None:
            self._wake.release()
            self._thread.join()

    def _run(self) -> None:
        self._wake.acquire()
        try:
            with self._context():
                self.result = self._function(self._ask)
        except BaseException as error:  # it is the owner's to raise
            self.error = error
        self.finished, self.request, self._answer = True, None, None
        self._waits.release()

    def _ask(self, request: Any) -> Any:
        if not self._given_up:
            self.request = request
            self._waits.release()
            self._wake.acquire()
        if self._given_up:
            raise _Ended
        answer, thrown, self._answer, self._thrown, self.request = self._answer, self._thrown, None, None, None
        if thrown is not None:
            raise thrown
        return answer


def spectra(
    operators: Mapping[str, Any],
    /,
    *,
    joint: Joint | None = None,
    rng: Any = None,
    memory: float | None = None,
    progress: bool = False,
    callback: Callable[[str, Spectrum], object] | None = None,
    context: Context = nullcontext,
    **options: Any,
) -> Spectra:
    """Estimate the spectra of several operators, in lock-step where their products can be computed together.

    Each operator gets the same spectrum as from `slq.spectrum` with the same options. With `joint`, all runs advance
    together and each joint product serves them all: the blocks of one network's Hessian, for which data are read and
    gradients built once for all. It costs as many joint products as the longest run has steps, and the Krylov vectors
    of all operators at the same time. Without `joint` they are run one after the other.

    Parameters
    ----------
    operators : Mapping
        Name -> anything that `slq.as_operator` takes.
    joint : callable, optional
        ``joint(blocks)`` takes the blocks of columns that are waited for, name -> (n, b) array, and returns all
        products, name -> (n, b) array. It is called in the caller's thread, with the operators whose runs are not at
        their end.
    rng : int, numpy.random.Generator or None
        Seed, the same for every operator.
    memory : float, optional
        Bytes that all Krylov vectors together may take; half of what is free by default. In lock-step operators share
        it in proportion to their sizes.
    progress : bool, default False
        Show one progress bar on stderr (needs tqdm).
    callback : callable, optional
        ``callback(name, spectrum)`` gets the partial Spectrum of an operator after each of its chunks; return True
        to stop this operator's run.
    context : callable, optional
        Makes a context manager that each run is within: for settings of the array library that belong to a thread.
    **options
        `tol`, `probes`, `steps`, `kind`, `reorth`, `dtype`, `batch`, `deflate`, `confidence` and `max_products` (of
        each operator) as for `slq.spectrum`.

    Returns
    -------
    Spectra
        A mapping, name -> Spectrum, that prints as a table.

    Raises
    ------
    ValueError, TypeError
        If there is no operator, or an option is out of range.
    RunError
        If a product or the callback fails; `.partial` holds the Spectra of what every operator had reached.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> blocks = {"a": np.diag(np.arange(50.0)), "b": np.diag(np.arange(-20.0, 20.0))}
    >>> def joint(columns):
    ...     return {name: blocks[name] @ X for name, X in columns.items()}
    >>> s = slq.spectra(blocks, joint=joint, probes=2, steps=20, rng=0)
    >>> s["a"] == slq.spectrum(blocks["a"], probes=2, steps=20, rng=0)
    True
    """
    known = {str(name): as_operator(A) for name, A in operators.items()}
    if not known:
        msg = "`operators` is empty. Give at least one operator by name."
        raise ValueError(msg)
    options["rng"] = seed_from(rng)
    if joint is None:
        return _one_by_one(known, memory, progress, callback, options)
    runs = {
        name: _runner(name, operator, callback, context, options | {"memory": share})
        for (name, operator), share in zip(known.items(), _shares(known, memory), strict=True)
    }
    return _Lockstep(runs, joint, meter() if progress else NoMeter()).run()


def _runner(name: str, operator: Operator, callback: Any, context: Context, options: dict[str, Any]) -> Runner:
    """Prepare one run whose products and callbacks are requests: (the block, None) or (None, the call)."""

    def function(ask: Callable[[Any], Any]) -> Spectrum:
        reported = None if callback is None else lambda partial: ask((None, lambda: callback(name, partial)))
        proxy = replace(operator, product=lambda block: ask((block, None)))
        return spectrum(proxy, callback=reported, **options)

    return Runner(function, context)


class _Lockstep:
    """Wakes the runs in turn, computes what they wait for, and ends them all when one of them fails."""

    def __init__(self, runs: dict[str, Runner], joint: Joint, bar: NoMeter) -> None:
        self._runs, self._joint, self._bar = runs, joint, bar
        self._passes = self._columns = 0

    def run(self) -> Spectra:
        began = perf_counter()
        try:
            for name in self._runs:
                self._wake(name)
            while waiting := {name: run.request[0] for name, run in self._runs.items() if not run.finished}:
                products = self._products(waiting)
                for name in list(products):
                    self._wake(name, products.pop(name))
        finally:
            self._bar.close()
            for run in self._runs.values():
                run.give_up()
        return Spectra({name: run.result for name, run in self._runs.items()}, self._passes, perf_counter() - began)

    def _wake(self, name: str, answer: Any = None) -> None:
        """Let one run go on until it waits for a product or ends; its callbacks are called here."""
        run = self._runs[name]
        run.resume(answer)
        while not run.finished and run.request[1] is not None:
            try:
                answer = run.request[1]()
            except Exception as error:  # the run attaches what it had
                run.resume(error=error)
            else:
                run.resume(answer)
        if run.error is not None:
            self._fail(f"{name}: {run.error}", run.error)

    def _products(self, waiting: dict[str, Array]) -> dict[str, Array]:
        try:
            products = self._joint(waiting)
            if missing := waiting.keys() - products.keys():
                msg = f"`joint` returned no product for {sorted(missing)}. It must answer every block that it is given."
                raise RunError(msg)
        except Exception as error:
            for name in waiting:
                self._runs[name].resume(error=error)
            if not any(self._runs[name].finished for name in waiting):
                return {}  # memory ran out, and all of them now ask for less
            first = next(name for name in waiting if self._runs[name].finished)
            self._fail(str(self._runs[first].error), error)
        self._passes += 1
        self._columns += sum(block.shape[1] for block in waiting.values())
        self._bar.update(self._columns, self._passes)
        return {name: products[name] for name in waiting}

    def _fail(self, message: str, error: BaseException) -> None:
        """Raise on behalf of a run, with what every run had reached; mistakes in arguments pass as they are."""
        for run in self._runs.values():
            if not run.finished and run.request is not None:
                run.resume(error=_Ended("another run failed"))
        reached = {name: getattr(run.error, "partial", run.result) for name, run in self._runs.items()}
        known = {name: s for name, s in reached.items() if s is not None}
        cause = error.__cause__ if isinstance(error, RunError) and error.__cause__ is not None else error
        if not any(isinstance(run.error, RunError) for run in self._runs.values()):
            raise error
        raise RunError(message, Spectra(known, self._passes, 0.0) if known else None) from cause


def _one_by_one(
    operators: dict[str, Operator],
    memory: float | None,
    progress: bool,
    callback: Callable[[str, Spectrum], object] | None,
    options: dict[str, Any],
) -> Spectra:
    done: dict[str, Spectrum] = {}
    began = perf_counter()
    for name, operator in operators.items():
        reported = None if callback is None else lambda partial, name=name: callback(name, partial)
        try:
            done[name] = spectrum(operator, memory=memory, progress=progress, callback=reported, **options)
        except RunError as error:
            known = done if error.partial is None else done | {name: error.partial}
            msg = f"{name}: {error}"
            raise RunError(msg, Spectra(known, 0, 0.0) if known else None) from error.__cause__ or error
    return Spectra(done, sum(s.products for s in done.values()), perf_counter() - began)


def _shares(operators: dict[str, Operator], memory: float | None) -> list[float]:
    """Divide the memory for Krylov vectors in proportion to the sizes of the vectors."""
    sizes = [float(A.n * _arrays.itemsize(_arrays.working_dtype(A.dtype, A.xp))) for A in operators.values()]
    first = next(iter(operators.values()))
    free = _arrays.free_memory(first.xp, first.device) / 2 if memory is None else memory
    return [free * size / sum(sizes) for size in sizes]
