"""One run in progress: limits, partial results, callbacks, progress, and what is told at the end.

The driver says how far to go; the session spends the products, keeps whatever was computed when something fails, and
turns measured asymmetry and drift into the noise floor and warnings.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np

from slq import _arrays
from slq._errors import RunError, SlqWarning
from slq._lanczos import Reorth
from slq._operators import Operator
from slq._probes import Kind
from slq._progress import NoMeter, meter
from slq._runs import Runs
from slq._spectrum import Spectrum

Callback = Callable[[Spectrum], object]

# From this dimension on one probe is sample enough; below, two tell simple eigenvalues from multiple ones.
_ONE_PROBE = 1_000_000
# So many start vectors at most are kept to compare the probes' Ritz vectors; multiplicities below it can be told.
_REFERENCES = 8
# No more columns than this are multiplied at once by default.
_BATCH = 16
# Steps that memory must hold for full re-orthogonalisation to be worth it, and vectors needed besides the basis.
_USUAL_STEPS, _WORK_VECTORS = 40, 4
# Projections may take this many seconds in all, or this many times the products' time, before they are given up.
_FREE_SECONDS, _PROJECTION_SHARE = 10.0, 3.0
# Bytes per second that projections read: two cores' memory, and a device's.
_HOST_BANDWIDTH, _DEVICE_BANDWIDTH = 8e9, 1e12
# Rounding in products and recurrence moves eigenvalues by about this many roundings of |A|.
_NOISE_ROUNDINGS = 8.0
# Relative asymmetry or change of products beyond this power of a rounding is no rounding.
_SUSPICIOUS = 0.5


@dataclass(frozen=True, slots=True)
class Choice:
    """What is decided before the first product: probes, how many at once, the most steps, orthogonality."""

    probes: int
    batch: int
    steps: int
    reorth: Reorth
    automatic: bool
    references: int


def choose(
    n: int, *, probes: int | None, steps: int | None, first: int | None, reorth: str, batch: int | str, room: int
) -> Choice:
    """Decide what fits: `room` is the number of vectors that memory holds."""
    first = probes or first or (1 if n >= _ONE_PROBE else 2)
    wanted = min(steps or _USUAL_STEPS, n) + _WORK_VECTORS
    policy: Reorth = "none" if reorth == "none" or (reorth == "auto" and room < wanted) else "full"
    width = min(first, _BATCH if batch == "auto" else int(batch))
    if batch == "auto":
        width = int(np.clip(room // (wanted if policy == "full" else _WORK_VECTORS), 1, width))
    most = n if steps is None else min(steps, n)
    if steps is None and policy == "full":
        most = min(most, max(room // width - _WORK_VECTORS, 1))
    # The number of probes to come is open unless it is given; comparing start vectors is cheap.
    references = min(_REFERENCES, n, probes or _REFERENCES)
    return Choice(first, width, most, policy, reorth == "auto", 0 if references == 1 else references)


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
    ) -> None:
        self.operator, self.choice = operator, choice
        self.why_stopped = ""
        self.runs = Runs(
            operator, seed=seed, kind=kind, reorth=choice.reorth, dtype=dtype, references=choice.references
        )
        self._seed, self._kind, self._dtype, self._confidence = seed, kind, dtype, confidence
        self._callback, self._limit = callback, sys.maxsize if max_products is None else int(max_products)
        self._meter: NoMeter = meter() if show_progress else NoMeter()
        self._began = perf_counter()

    @property
    def width(self) -> int:
        """Probes of one batch, as far as the budget of products allows."""
        return min(self.choice.batch, self._limit)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._meter.close()
        if isinstance(error, Exception):
            self._raise_with_partial(error)

    def advance(self, steps: int) -> bool:
        """Take the open batch further; False when a limit or the callback ends the run."""
        runs = self.runs
        allowed = min(steps, (self._limit - runs.products) // runs.width)
        if allowed > 0:
            runs.advance(allowed)
            if self.choice.automatic and runs.reorth == "full" and self._projections_too_slow():
                runs.stop_reorthogonalising()
            if self._stops():
                return False
        if allowed < steps:
            self.why_stopped = f"budget of {self._limit} products reached"
        return allowed == steps

    def add_probes(self, target: int) -> bool:
        """Run more probes to the length of the first, up to `target` in all; False when the run must end."""
        runs = self.runs
        steps = runs.steps
        while runs.probes < target:
            width = min(self.choice.batch, target - runs.probes, (self._limit - runs.products) // steps)
            if width < 1:
                self.why_stopped = f"budget of {self._limit} products reached"
                return False
            runs.open(width)
            while not runs.finished and runs.steps < steps:
                runs.advance(min(_BATCH, steps - runs.steps))
                if self._stops():
                    return False
        return True

    def resolving_is_cheaper(self, probes: float) -> bool:
        """Whether taking the open probes to n steps, where all is known, costs less than running so many in all."""
        runs, n = self.runs, self.operator.n
        if runs.reorth == "none" or self.choice.steps < n or runs.finished:
            return False
        return (probes - runs.probes) * runs.steps > runs.probes * (n - runs.steps)

    def partial(self, status: str = "running") -> Spectrum:
        """Return what is computed so far as a valid Spectrum."""
        spectrum = self._spectrum(status, ())
        if spectrum is None:
            msg = "no step is complete yet"
            raise RunError(msg)
        return spectrum

    def result(self, status: str) -> Spectrum:
        """Test the operator once more, warn of what was found, and return the final Spectrum."""
        with self:
            self.runs.repeat()
        found = self._findings()
        for text in found:
            warnings.warn(text, SlqWarning, stacklevel=3)
        spectrum = self._spectrum(status, found)
        if spectrum is None:
            msg = "no step was made. Raise `max_products` or lower `probes`."
            raise RunError(msg)
        return spectrum

    def _stops(self) -> bool:
        """Report a finished chunk; True when the callback asks to stop."""
        self._meter.update(self.runs.products, self.runs.steps)
        if self._callback is None:
            return False
        if self._callback(self.partial()) is True:
            self.why_stopped = "stopped by callback"
            return True
        return False

    def _spectrum(self, status: str, found: tuple[str, ...]) -> Spectrum | None:
        T, runs = self.runs.tridiagonal(), self.runs
        if T is None:
            return None
        if T.invariant.all() and found == () and status != "running":
            status += "; every Krylov space is invariant, its rule exact"
        metadata = {
            **self.operator.metadata,
            "dtype": _arrays.dtype_name(self._dtype),
            "device": str(self.operator.device),
        }
        return Spectrum(
            T.alpha,
            T.beta,
            T.lengths,
            T.overlaps,
            np.zeros(len(T.lengths), dtype=np.intp),
            self.operator.n,
            self._kind,
            self._seed,
            runs.reorth,
            self._noise(float(np.max(np.abs(T.alpha) + T.beta))),
            runs.products,
            perf_counter() - self._began,
            status,
            found,
            metadata,
            self._confidence,
        )

    def _noise(self, norm: float) -> float:
        """Return the absolute noise floor of eigenvalues of an operator of the given size."""
        rounding = _NOISE_ROUNDINGS * _arrays.epsilon(self._dtype)
        return norm * max(rounding, self.operator.noise, self.runs.asymmetry, self.runs.repeat_error)

    def _findings(self) -> tuple[str, ...]:
        suspicious = max(_arrays.epsilon(self._dtype) ** _SUSPICIOUS, 4 * self.operator.noise)
        found = []
        if self.runs.repeat_error > suspicious:
            found.append(
                f"the operator drifts: the same product came out {self.runs.repeat_error:.1g} different (relative). "
                "Common causes: another mini-batch at every product, dropout or augmentation left on, a matrix that "
                "changes while it is used. The result mixes several matrices."
            )
        elif self.runs.asymmetry > suspicious:
            found.append(
                f"the operator is not symmetric: |A - A^T| / |A| is about {self.runs.asymmetry:.1g}. slq sees "
                "a symmetric matrix in it, and the result is neither its eigenvalues nor its singular values. "
                "Pass (A + A^T) / 2, or A^T A for singular values."
            )
        return tuple(found)

    def _projections_too_slow(self) -> bool:
        """Whether staying orthogonal will take too long: its time grows with the square of the steps."""
        runs, n = self.runs, self.operator.n
        steps = min(self.choice.steps, 2 * max(runs.steps, _USUAL_STEPS))
        on_host = str(self.operator.device).startswith("cpu")
        read = 2.0 * steps**2 * runs.width * n * _arrays.itemsize(self._dtype)
        seconds = read / (_HOST_BANDWIDTH if on_host else _DEVICE_BANDWIDTH)
        return seconds > max(_FREE_SECONDS, _PROJECTION_SHARE * steps * runs.product_seconds)

    def _raise_with_partial(self, error: Exception) -> None:
        """Re-raise what stopped the run, with what was computed before it attached."""
        partial = self._spectrum(f"ended by {type(error).__name__}", ())
        done = (
            "nothing was computed"
            if partial is None
            else (f"{partial.probes} probes × {partial.steps} steps are kept in this exception's `.partial`")
        )
        if isinstance(error, RunError):
            raise RunError(str(error), partial) from error
        msg = f"the run was ended by {type(error).__name__}: {error} ({done})."
        raise RunError(msg, partial) from error
