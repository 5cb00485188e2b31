"""One run in progress: limits, partial results, callbacks, progress, and what is told at the end.

The driver says how far to go; the session spends the products, keeps whatever was computed when something fails, and
turns measured asymmetry and drift into the noise floor and warnings.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np

from slq import _arrays, _doubts
from slq._errors import DomainError, RunError, SlqWarning
from slq._files._vectors_file import Vectors
from slq._kernels._entries import Traces
from slq._lanczos._probes import Kind
from slq._lanczos._record import Contradiction, Past
from slq._operators._operators import Operator, noise_of
from slq._progress import NoMeter, meter
from slq._quadrature._dense import Columns, Diagonalised, change_of_first, diagonalise
from slq._run import _past
from slq._run._checkpoint import AnotherRun, Checkpoint, Interrupted
from slq._run._choice import Choice
from slq._run._orthogonality import Projections, too_slow
from slq._run._runs import Runs
from slq._spectrum._spectrum import Spectrum

Callback = Callable[[Spectrum], object]

# Steps between reports while probes are added.
_CHUNK = 16
# Projections are judged for at least so many steps.
_USUAL_STEPS = 40
# So many further probes make projecting eigenvectors out of them worth its memory, at most this share of all.
_WORTH_DEFLATING, _DEFLATION_SHARE = 4, 0.25
# Rounding in products and recurrence moves eigenvalues by about this many roundings of |A|.
_NOISE_ROUNDINGS = 8.0
# Products that the test of repeatability takes at most.
_TEST = 2
# Up to this dimension LAPACK takes a second or two.
_DENSE = 2000


class Session:
    """Spends products on behalf of the driver; a context manager that keeps partial results on failure."""

    def __init__(
        self,
        operator: Operator,
        choice: Choice,
        *,
        seed: int,
        kind: Kind,
        dtype: Any,
        confidence: float,
        callback: Callback | None,
        max_products: int | None,
        show_progress: bool,
        before: Spectrum | None = None,
        patience: float = 1.0,
        checkpoint: Checkpoint[Past] | None = None,
        begin: int = 0,
        test: bool = True,
    ) -> None:
        self._checkpoint, self._interrupted, self._tests = checkpoint, False, test
        self._seen: set[str] = set()
        self.operator, self.choice = operator, choice
        self.why_stopped = ""
        self._before, self._patience = before, patience
        self.runs = Runs(
            operator,
            seed=seed,
            kind=kind,
            reorth=choice.reorth,
            storage=choice.storage,
            dtype=dtype,
            references=choice.references,
            done=before._tridiagonal if before is not None and before.steps == choice.steps else None,
            past=None if checkpoint is None else checkpoint.content,
            after_step=None if checkpoint is None else self._after_step,
            begin=begin,
        )
        self._seed, self._kind, self._dtype, self._confidence = seed, kind, dtype, confidence
        self._callback, self._allowed = callback, sys.maxsize if max_products is None else int(max_products)
        on_host = _arrays.host_view(operator.xp.zeros(1, dtype=dtype, device=operator.device)) is not None
        self.projections, self._given_up = Projections(choice, operator.shards.local, dtype, on_host), ""
        self._meter: NoMeter = meter() if show_progress else NoMeter()
        self._began = perf_counter() - (checkpoint.seconds if checkpoint else 0.0)
        self._deflated = np.zeros(0) if before is None else before.deflated
        self._exact: Diagonalised | None = None
        past = None if checkpoint is None else checkpoint.content
        self._columns = None if past is None else past.columns  # of the matrix, where all are multiplied
        field = "f" if operator.copies == 1 else "c"
        if self._columns is not None and (len(self._columns), self._columns.dtype.kind) != (self.n, field):
            msg = (
                f"`checkpoint` is damaged: its columns are {len(self._columns)} numbers of {self._columns.dtype}. "
                "Remove it to begin again."
            )
            raise ValueError(msg)
        self._known: tuple[Traces | None] | None = None  # asked for once
        self._backed_off, self._stopped = "", False

    @property
    def n(self) -> int:
        """Number of eigenvalues."""
        return self.operator.n // self.operator.copies

    @property
    def width(self) -> int:
        """Probes of the first batch, as far as the budget of products allows."""
        return min(self.choice.first_batch, self._limit)

    @property
    def _limit(self) -> int:
        """Products for the probes: what is allowed less what the test of repeatability takes, where that leaves any."""
        return self._allowed - _TEST if self._allowed > _TEST else self._allowed

    def test(self) -> None:
        """Multiply once more where the budget allows, to see whether products repeat and are symmetric."""
        if not self._tests or self.runs.products + _TEST > self._allowed:
            return
        try:
            self._repeat()
        except Exception:
            if self.operator.shards.whole:
                self._save()
            raise

    def _repeat(self) -> None:
        """Multiply once more, without the vectors of the open batch where memory is short."""
        try:
            self.runs.repeat()
            return
        except Exception as error:
            if not _arrays.out_of_memory(error):
                raise
        self.runs.close()  # its vectors make room for those of the test
        self.runs.repeat()

    def __enter__(self) -> Session:
        if self._checkpoint is not None:
            self._checkpoint.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._meter.close()
        if isinstance(error, Interrupted):
            self._interrupted = True
            return True
        if error is not None and self._checkpoint is not None:
            self._checkpoint.close()
        if isinstance(error, Exception) and not isinstance(error, DomainError | AnotherRun):
            self._raise_with_partial(error)
        return False

    def same(self, name: str, value: str) -> None:
        """Refuse a checkpoint of a run in which a value was another one when it was first known."""
        if self._checkpoint is not None and name not in self._seen:
            self._seen.add(name)
            self._checkpoint.known(name, value, free=False)

    def _after_step(self, whole: bool) -> None:
        """Write the checkpoint when it is time to, at the latest when a product raised or a signal asks to end."""
        file, run = self._checkpoint, self.runs.current
        if file is None or run is None:
            return
        shards = self.operator.shards
        newest = 2 * run.active * shards.local * _arrays.itemsize(self._dtype)
        due, asked = shards.any(file.due(newest, self._vectors(self.runs.batches - 1)), file.asked) if whole else (0, 0)
        if due or asked or (not whole and shards.whole):  # of several ranks others may not be here then
            self._save()
        if asked:
            raise Interrupted

    def _save(self) -> None:
        """Write what was done, if there is something that one can go on from."""
        file, past = self._checkpoint, self.runs.past()
        if file is None or past is None or not ((past.records and past.records[0].rows) or self._columns is not None):
            return
        state = past.records[-1].state if past.records else {}
        (broken,) = self.operator.shards.any(not all(np.isfinite(x).all() for x in state.values()))
        if not broken:
            vectors = self._vectors(len(past.records) - 1) if state else None
            past = replace(past, columns=self._columns)
            file.save(*_past.packed(past), vectors, perf_counter() - self._began)

    def _vectors(self, batch: int) -> Vectors | None:
        """Return the past vectors of the open batch."""
        run = self.runs.current
        if run is None:
            return None
        nbytes = int(self.projections.size(run.active, 1))
        return Vectors(f"{batch}-{run.probes}", run.kept, nbytes, run.stored)

    def advance(self, steps: int) -> bool:
        """Take the open batch further; False when a limit or the callback ends the run."""
        runs, target = self.runs, self.runs.steps + steps
        while (allowed := self._affordable(target - runs.steps)) > 0:
            if self._fits(partial(runs.advance, allowed), runs.opened):
                break
            self.open(self.width)
        if allowed > 0:
            if self.may_drop_basis and self._projections_too_slow():
                self.drop_basis(self._predicted())
            if self._stops():
                return False
        if runs.steps < target and not runs.finished:
            self.why_stopped = f"budget of {self._allowed} products reached"
            return False
        return True

    @property
    def may_drop_basis(self) -> bool:
        """Whether vectors are kept orthogonal though nobody insists on it."""
        return self.choice.automatic and self.runs.reorth == "full"

    def drop_basis(self, why: str) -> None:
        """Go on without keeping vectors orthogonal; claims are estimates from here on."""
        self._deflate()  # while the vectors are there
        self._given_up = f"not kept orthogonal after step {self.runs.steps}: {why}"
        if self._checkpoint is not None:
            self._given_up = str(self._checkpoint.known("given_up", self._given_up))
        self.runs.stop_reorthogonalising()

    def open(self, count: int) -> None:
        """Start so many more probes together, or fewer where memory runs out."""
        while not self._fits(partial(self.runs.open, count), count):
            count = min(count, self.choice.batch)

    def _affordable(self, steps: int) -> int:
        """Return how many of so many further steps of the open batch the budget allows."""
        return min(steps, (self._limit - self.runs.products) // max(self.runs.width, 1))

    def _fits(self, act: Callable[[], object], width: int) -> bool:
        """Do something with a batch of so many probes.

        Where memory runs out the batch is given up, and further ones have half as many probes; one alone goes without
        stored vectors, if the policy is ours to choose.
        """
        try:
            act()
            return True
        except Exception as error:
            if not _arrays.out_of_memory(error):
                raise
            if width == 1 and not (self.choice.automatic and self.runs.reorth == "full"):
                raise RunError(self._out_of_memory(error)) from error
        # Not within the handler: the error holds on to the arrays of the functions that it passed through.
        self.runs.discard()
        if width > 1:
            fewer = width // 2
            self.choice = replace(self.choice, batch=fewer, first_batch=min(fewer, self.choice.first_batch))
            self._backed_off = f"; memory ran out with {width} columns at once, {fewer} from then on"
        else:
            self.runs.stop_reorthogonalising()
            self._backed_off = "; memory ran out with stored vectors, none from then on"
        return False

    def _out_of_memory(self, error: Exception) -> str:
        operator = self.operator
        stored = "; past vectors are kept since reorth='full'" if self.runs.reorth == "full" else ""
        return (
            f"memory ran out on {operator.device} with one probe of {operator.n:,} numbers of "
            f"{_arrays.dtype_name(self._dtype)} at a time{stored}: {error}. Free memory there, pass an operator of a "
            "shorter dtype, or one whose product needs less; what was computed before is kept."
        )

    def add_probes(self, target: int) -> bool:
        """Run more probes to the length of the first, up to `target` in all; False when the run must end."""
        runs = self.runs
        steps = runs.steps
        if target - runs.probes >= _WORTH_DEFLATING:
            self._deflate()
        while runs.probes < target:
            fits = self.choice.width(target - runs.probes, steps, runs.reorth)
            width = min(fits, (self._limit - runs.products) // steps)
            if width < 1:
                self.why_stopped = f"budget of {self._allowed} products reached"
                return False
            self.open(width)
            while not runs.finished and runs.steps < steps:
                if not self._fits(partial(runs.advance, min(_CHUNK, steps - runs.steps)), runs.opened):
                    break  # and begin again with fewer
                if self._stops():
                    return False
        return True

    def diagonalising_is_cheaper(self, products: float) -> bool:
        """Whether all n columns, and LAPACK, cost less than so many more products; and fit."""
        n = self.n
        fits = n <= _DENSE and 2 * n <= self.choice.room and self.runs.products + n + 1 <= self._allowed
        return fits and self._before is None and n < products

    def diagonalise(self) -> str:
        """Compute all eigenvalues instead of going on; return the status."""
        while self._exact is None:
            self._fits(self._diagonalise, self.choice.batch)
        self._meter.update(self.runs.products + self._exact.products, 0)
        return "exact: all eigenvalues, from all columns"

    def _diagonalise(self) -> None:
        try:
            after = None if self._checkpoint is None else self._after_columns
            self._exact = diagonalise(self.operator, self.choice.batch, self._seed, done=self._columns, after=after)
        except Exception as error:
            if self.operator.shards.whole and not isinstance(error, Interrupted) and not _arrays.out_of_memory(error):
                self._save()
            raise
        n = self.operator.n
        size = float(np.max(np.abs(self._exact.tridiagonal.alpha))) / np.sqrt(n)  # of products of unit vectors
        self.runs.underflow = max(self.runs.underflow, _arrays.underflow(n, size, self.operator.dtype))

    def _after_columns(self, columns: Columns) -> None:
        """Write the checkpoint when it is time to, at the latest when a signal asks to end."""
        self._columns, file, shards = columns, self._checkpoint, self.operator.shards
        due, asked = (False, False) if file is None else shards.any(file.due(columns.nbytes), file.asked)
        if due or asked:
            self._save()
        if asked:
            raise Interrupted

    @property
    def _column_products(self) -> int:
        """Products that columns of the matrix have taken."""
        if self._exact is not None:
            return self._exact.products
        return 0 if self._columns is None else self._columns.shape[1]

    def change_of_columns(self) -> float:
        """Return how much the first column, multiplied again, differs from the one that is known; relative."""
        return 0.0 if self._columns is None else change_of_first(self.operator, self._columns)

    def resolving_is_cheaper(self, probes: float) -> bool:
        """Whether taking the open probes to n steps, where all is known, costs less than running so many in all."""
        runs, n = self.runs, self.operator.n
        if runs.reorth == "none" or self.choice.steps < n or runs.finished:
            return False
        return (probes - runs.probes) * runs.steps > runs.probes * (n - runs.steps)

    def _deflate(self) -> None:
        """Project simple eigenvalues that are resolved out of all further probes: they stay exact however many come.

        Their eigenvectors are Ritz vectors of probe 0 and cost no product.
        """
        runs = self.runs
        if self.choice.deflate == "none" or runs.deflating or runs.reorth == "none" or runs.steps == 0:
            return
        spectrum = self.partial()
        values, coefficients = spectrum._simple_ritz_vectors(int(_DEFLATION_SHARE * self.choice.room))
        if len(values) and runs.deflate(coefficients):
            self._deflated = values

    def partial(self, status: str = "running") -> Spectrum:
        """Return what is computed so far as a valid Spectrum."""
        spectrum = self._spectrum(status, ())
        if spectrum is None:
            msg = "no step is complete yet"
            raise RunError(msg)
        return spectrum

    def result(self, status: str) -> Spectrum:
        """Test the operator once more, warn of what was found, and return the final Spectrum."""
        if self._exact is None and not self._interrupted:
            with self:
                self.test()
        if self._checkpoint is not None:
            if not (self._interrupted or self._stopped):
                self.runs.close()  # its vectors are not needed any more
                self._save()
            self._checkpoint.close(heard=self._interrupted)
        found = self._findings()
        for text in found:
            warnings.warn(text, SlqWarning, stacklevel=3)
        spectrum = self._spectrum(status + self._backed_off, found)
        if spectrum is None:
            msg = "no step was made. Raise `max_products` or lower `probes`."
            if self._interrupted:
                msg = "interrupted before the first step was done." + self._advice
            raise RunError(msg)
        return spectrum

    def _stops(self) -> bool:
        """Report a finished chunk; True when the callback asks to stop."""
        self._meter.update(self.runs.products, self.runs.steps)
        shards = self.operator.shards
        if self.runs.replaying or (self._callback is None and shards.whole):
            return False
        self._stopped = True
        try:
            self._stopped = shards.asked(lambda: self._callback is not None and self._callback(self.partial()))
        finally:
            if self._stopped:
                self._save()
        self.why_stopped = "stopped by callback" if self._stopped else self.why_stopped
        return self._stopped

    def _spectrum(self, status: str, found: tuple[str, ...]) -> Spectrum | None:
        exact, runs = self._exact, self.runs
        T = runs.tridiagonal() if exact is None else exact.tridiagonal
        if T is None:
            return None
        if exact is None and T.invariant.all() and found == () and status != "running":
            status += "; every Krylov space is invariant, its rule exact"
        metadata = {
            **self.operator.metadata,
            **getattr(self.operator.source, "metadata", {}),
            "dtype": _arrays.dtype_name(self._dtype),
            "device": str(self.operator.device),
        }
        if exact is None:
            metadata["vectors"] = self.projections.told(runs.reorth, self._given_up, len(T.lengths), T.alpha.shape[1])
            if runs.reorth == "full":
                metadata["basis"] = self.projections.precision
        if self._checkpoint is not None:
            metadata["resumed"] = self._checkpoint.resumed
        return Spectrum(
            T.alpha,
            T.beta,
            T.lengths,
            T.overlaps,
            np.zeros(len(T.lengths), dtype=np.intp),
            self.n,
            self._kind if exact is None else "exact",
            self._seed,
            runs.reorth if exact is None else "full",
            self._noise(float(np.max(np.abs(T.alpha) + T.beta))),
            runs.products + self._column_products + (self._before.products if self._before else 0),
            perf_counter() - self._began + (self._before.seconds if self._before else 0.0),
            status,
            found,
            metadata,
            self._confidence,
            self._deflated if exact is None else np.zeros(0),
            runs.projected[: len(T.lengths)] if exact is None else np.zeros(1, dtype=bool),
            0.0 if exact is not None else max(runs.drift, self._before.drift if self._before else 0.0),
            self._traces(),
            self.operator.copies,
        )

    def _traces(self) -> Traces | None:
        """Return exact traces of the operator, while it looks like a symmetric matrix that stays as it is."""
        if self._known is None:
            self._known = (self.operator.traces(),)
        return None if self._findings() else self._known[0]

    def _noise(self, norm: float) -> float:
        """Return the absolute noise floor of eigenvalues of an operator of the given size."""
        if self._exact is not None:  # LAPACK's rounding grows like the square root of n, at worst
            rounding = max(_NOISE_ROUNDINGS, np.sqrt(self.operator.n)) * self._exact.rounding
        else:
            unit = max(_arrays.epsilon(self._dtype), self.runs.rounding, self.runs.coarseness**2)
            rounding = _NOISE_ROUNDINGS * unit
        return float(norm * max(rounding, noise_of(self.operator), *self._tested))

    @property
    def _tested(self) -> tuple[float, float]:
        """Relative asymmetry and change of products, as far as they were seen."""
        asymmetry, change = self.runs.asymmetry, self.runs.repeat_error
        if self._exact is not None:  # all columns tell the first exactly; what the probes saw was an estimate
            return self._exact.asymmetry, max(change, self._exact.repeat_error)
        return asymmetry, change

    def _findings(self) -> tuple[str, ...]:
        suspicious = _doubts.suspicious(_arrays.epsilon(self._dtype), self.operator.noise, self.runs.rounding)
        asymmetry, change = self._tested
        found = []
        if self.runs.underflow > _doubts.suspicious(_arrays.epsilon(self._dtype), 0.0):
            found.append(_doubts.subnormal(self.runs.underflow))
        elif change > suspicious:
            found.append(_doubts.drifting(change))
        elif asymmetry > suspicious:
            advice = (
                "slq sees a symmetric matrix in it, and the result is neither its eigenvalues nor its singular values. "
                "Pass (A + A^T) / 2, or A^T A for singular values."
            )
            found.append(_doubts.asymmetric(asymmetry, advice))
        return tuple(found)

    def _ahead(self) -> tuple[float, float]:
        """Predict the seconds of projections and of products by the next time that the steps of the open batch grow."""
        runs = self.runs
        steps = min(self.choice.steps, max(5 * runs.steps // 4, _USUAL_STEPS))
        projections = self.projections.seconds(runs.width, steps, runs.projection_cost)
        projections, products = self.operator.shards.mean(projections, steps * runs.product_seconds)
        return float(projections), float(products)

    def _projections_too_slow(self) -> bool:
        run = self.runs.current
        if run is not None and (run.replaying or run.dropped is not None):
            return run.dropped == run.steps  # as it was decided before
        return too_slow(*self._ahead(), patience=self._patience)

    def _predicted(self) -> str:
        return "it would take about {:.2g} s beside {:.2g} s of products".format(*self._ahead())

    @property
    def _advice(self) -> str:
        """What to do about an error, where something can be done."""
        return "" if self._checkpoint is None else self._checkpoint.advice

    def _raise_with_partial(self, error: Exception) -> None:
        """Re-raise what stopped the run, with what was computed before it attached."""
        if isinstance(error, Contradiction) and self._checkpoint is not None:
            raise ValueError(self._checkpoint.damaged(error)) from error
        partial = self._spectrum(f"ended by {type(error).__name__}", ())
        done = (
            "nothing was computed" if partial is None else (f"{partial.probes} probes × {partial.steps} steps are kept")
        )
        if isinstance(error, RunError):
            msg = f"{error}{self._advice}"
            raise RunError(msg, partial) from error
        msg = f"the run was ended by {type(error).__name__}: {error} ({done}).{self._advice}"
        raise RunError(msg, partial) from error
