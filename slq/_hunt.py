"""The search for eigenpairs: converge, look whether any was missed, and go on where one was.

1. A restarted Krylov space converges to the wanted eigenvectors (`_restarts`).
2. A fresh random vector is taken through the complement of all that was found, the nearly converged included, until the
   polynomial it went through proves that nothing wanted is left there (`_filters`), or until something turns up. That
   joins, and the proof begins anew with another random vector: so copies of multiple eigenvalues and members of
   clusters are found that one start vector cannot see.
3. Each pair is multiplied once more: residuals are measured, not inferred.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from slq import _arrays, _ends, _pairs, _probes
from slq._arrays import Array, Floats
from slq._eigenpairs import Eigenpairs
from slq._ends import Which
from slq._errors import RunError, SlqWarning
from slq._filters import Filter
from slq._operators import Operator
from slq._pairs import Pairs
from slq._progress import NoMeter, meter
from slq._restarts import Restarts, Ritz

Callback = Callable[[Eigenpairs], object]

# A residual of so many roundings of |A| cannot fall much further; measured with a product it is larger by rounding.
_CONVERGED, _MEASURED = 4.0, 64.0
# Steps between looks at the Ritz values, at most.
_LOOK = 8
# The proof may take this share of the products before it, and so many at least.
_PROOF_SHARE, _PROOF_LEAST = 0.5, 40
# Measured asymmetry beyond this power of a rounding is no rounding.
_SUSPICIOUS = 0.5


class Stop(Exception):
    """Ends a search early; the text says why."""


class Hunt:
    """Spends products until the wanted pairs are found; keeps what it has when it is stopped."""

    def __init__(
        self,
        operator: Operator,
        k: int,
        which: Which,
        *,
        tol: float,
        size: int,
        block: int,
        seed: int,
        dtype: Any,
        start: Array | None,
        known: Array | None,
        verify: bool,
        confidence: float,
        limit: int,
        callback: Callback | None,
        show_progress: bool,
    ) -> None:
        self.operator, self.k, self.which, self.tol = operator, k, which, tol
        self._size, self._block, self._seed, self._dtype = size, block, seed, dtype
        self._start, self._known = start, known
        self._verify, self._confidence, self._limit = verify, confidence, limit
        self._callback = callback
        self._meter: NoMeter = meter() if show_progress else NoMeter()
        self._began, self._drawn = perf_counter(), 0
        self._space: Restarts | None = None
        self._spent, self._norm, self._asymmetry = 0, 0.0, 0.0
        self._scale: float | None = None
        self._found: list[Pairs] = []
        self._rest, self._verified, self._tied = (-np.inf, np.inf), False, False

    @property
    def products(self) -> int:
        """Columns multiplied so far."""
        return self._spent + (self._space.products if self._space else 0)

    def run(self) -> Eigenpairs:
        """Find the pairs, verify that none was missed, and measure the residuals."""
        try:
            status = self._find()
            return self._measured(status)
        except Exception as error:
            self._raise_with_partial(error)
            raise
        finally:
            self._meter.close()

    # -- spending -----------------------------------------------------------------------------------------------

    def _find(self) -> str:
        """Search and verify; return in words how it ended."""
        try:
            space = self._open(self._draw(self._block) if self._start is None else self._start, self._known)
            ritz = self._converge(space, self.k)
            complete, near = space.complete, self._take(space, ritz, self.k)
            if complete:
                low, high, _ = self._limits()
                self._rest, self._verified = self._around((np.inf, -np.inf), low, high), True
                return "exact: the basis spans the whole space"
            return self._verify_all(near) if self._verify else "converged"
        except Stop as stop:
            return str(stop)

    def _converge(self, space: Restarts, k: int) -> Ritz:
        """Restart until the first k Ritz pairs have converged."""
        steps = min(k, _LOOK)
        while True:
            ritz = self._step(space, steps)
            first = _ends.order(ritz.values, self.which)[:k]
            with np.errstate(divide="ignore", invalid="ignore"):
                excess = np.log10(np.max(ritz.residuals[first] / self._goal(ritz.values[first])))
            if (len(first) == k and not excess > 0) or space.complete:
                return ritz
            steps = k - len(first) or int(np.clip(excess, 1, _LOOK))
            if space.full:
                space.restart(ritz, _ends.kept(ritz.values, self.which, k, space.size))

    def _verify_all(self, near: Pairs | None) -> str:
        """Prove that nothing wanted is left, taking in what is; return in words how that ended."""
        allowed, joined = max(int(_PROOF_SHARE * self.products), _PROOF_LEAST), 0
        while count := self._prove(near, allowed):
            near, joined = None, joined + count
        missed = f"; {joined} found that the first start vector could not see" if joined else ""
        tied = "; the last value has a copy that was not asked for" if self._tied else ""
        return f"converged, {'' if self._verified else 'not '}verified{missed}{tied}"

    def _prove(self, near: Pairs | None, allowed: int) -> int:
        """Take a random vector through the complement; return how many wanted eigenpairs turned up there."""
        low, high, slack = self._limits()
        found = self._locked(None)
        if found.shape[0] == self.operator.n:
            self._rest, self._verified = self._around((np.inf, -np.inf), low, high), True
            return 0
        locked = self._locked(near)
        if locked.shape[0] == self.operator.n:
            locked, near = found, None
        space, proof, steps = self._open(self._draw(1), locked), Filter(), 1
        ends = int(np.isfinite(low)) + int(np.isfinite(high))
        risk = (1 - self._confidence) * 2 / ends  # `Filter.edges` shares it among two
        while True:
            ritz = self._step(space, steps)
            beyond = (ritz.values > high + slack) | (ritz.values < low - slack)
            if beyond.any():
                return self._admit(space, ritz, beyond, exact=near is None)
            edges = _pairs.coupled(proof.edges(ritz, space.tail, space.room, risk), near)
            self._rest = self._around(edges, low, high)
            self._verified = edges[0] >= low - slack and edges[1] <= high + slack
            self._tied = bool(np.any((ritz.values > high - slack) | (ritz.values < low + slack)))
            if self._verified or self._tied or space.complete or space.products >= allowed:
                self._close()
                return 0
            steps = int(np.clip(space.products // 4, 1, _LOOK))
            if space.full:
                keep = _ends.kept(ritz.values, self.which, 1, space.size)
                proof.restart(ritz, keep)
                space.restart(ritz, keep)

    def _admit(self, space: Restarts, ritz: Ritz, beyond: npt.NDArray[np.bool_], *, exact: bool) -> int:
        """Converge to what lies beyond the limits, take it in, and return how many there are."""
        count = int(beyond.sum())
        if not exact:  # vectors that are not quite eigenvectors have a complement without quite the others
            start = space.vectors(ritz.coefficients[:, beyond])
            self._close()
            space = self._open(start, self._locked(None))
            ritz = self._step(space)
        first = _ends.order(ritz.values, self.which)[:count]
        if not np.all(ritz.residuals[first] <= self._goal(ritz.values[first])):
            ritz = self._converge(space, count)
        self._take(space, ritz, count)
        return count

    def _around(self, edges: tuple[float, float], low: float, high: float) -> tuple[float, float]:
        """Return edges that hold, up to rounding, what was found and is not among the best too; infinite if unasked."""
        values = np.sort(np.concatenate([pairs.values for pairs in self._found]))
        others = values[_ends.order(values, self.which)[self.k :]]
        noise = float(self._goal(np.zeros(1), _MEASURED)[0])
        below, above = others.min(initial=edges[0]) - noise, others.max(initial=edges[1]) + noise
        return float(below) if np.isfinite(low) else -np.inf, float(above) if np.isfinite(high) else np.inf

    def _step(self, space: Restarts, steps: int = 1) -> Ritz:
        """Advance by a few steps and return the Ritz pairs, or end the search."""
        before = space.products
        # Products that measure the residuals are set aside.
        space.advance(steps, self._limit - self.products - (self.k if self._limit > 2 * self.k else 0))
        self._norm, self._asymmetry = max(self._norm, space.norm), max(self._asymmetry, space.asymmetry)
        self._scale = space.scale
        if space.products == before:
            msg = f"budget of {self._limit} products reached"
            raise Stop(msg)
        self._meter.update(self.products, space.used)
        if self._callback is not None and self._callback(self._result(self._best(), "running", ())) is True:
            msg = "stopped by callback"
            raise Stop(msg)
        return space.ritz()

    def _goal(self, values: Floats, roundings: float = _CONVERGED) -> Floats:
        """Return the residuals at which values count as converged."""
        unit = max(_arrays.epsilon(self._dtype), _arrays.epsilon(self.operator.dtype))
        floor = max(roundings * unit, self.operator.noise) * self._norm
        return np.maximum(self.tol * np.abs(values), floor)

    def _limits(self) -> tuple[float, float, float]:
        """Return where all others must lie, and how much further rounding and the tolerance let them seem to."""
        values = np.sort(self._best().values)
        return *_ends.limits(values, self.which), float(np.max(self._goal(values, _MEASURED)))

    # -- keeping ------------------------------------------------------------------------------------------------

    def _draw(self, count: int) -> Array:
        numbers = range(self._drawn, self._drawn + count)
        self._drawn += count
        kind = np.dtype(_arrays.dtype_name(self._dtype))
        rows = _probes.probes(self.operator.n, numbers, seed=self._seed, dtype=kind)
        return _arrays.from_host(rows, self.operator.xp, dtype=self._dtype, device=self.operator.device)

    def _open(self, start: Array, locked: Array | None) -> Restarts:
        size = max(self._size, 2 * int(start.shape[0]) + 1)
        self._space = Restarts(
            self.operator, self._draw, self._dtype, size=size, start=start, locked=locked, scale=self._scale
        )
        return self._space

    def _close(self) -> None:
        if self._space is not None:
            self._spent, self._space = self.products, None

    def _take(self, space: Restarts, ritz: Ritz, k: int) -> Pairs | None:
        """Keep the first k pairs and all that have converged; return those that nearly have; give up the space."""
        ranked, goal = _ends.order(ritz.values, self.which), self._goal(ritz.values)
        low, high = _ends.limits(np.sort(ritz.values[ranked[:k]]), self.which)
        exact = np.array([i for place, i in enumerate(ranked) if place < k or ritz.residuals[i] <= goal[i]])
        near = ranked[~np.isin(ranked, exact)]
        distances = np.minimum(ritz.values - low, high - ritz.values)
        near = near[: _pairs.prefix(ritz.residuals[near], distances[near])]
        self._found.append(_pairs.picked(space, ritz, exact))
        kept = _pairs.picked(space, ritz, near) if near.size else None
        self._close()
        return kept

    def _locked(self, near: Pairs | None) -> Array:
        """Return all rows that the search goes on without."""
        parts = [self._known, *(pairs.rows for pairs in self._found), None if near is None else near.rows]
        return self.operator.xp.concat([rows for rows in parts if rows is not None], axis=0)

    def _best(self) -> Pairs:
        """Return the best k pairs there are, of a space in progress too."""
        parts = list(self._found)
        if self._space is not None and self._space.used:
            ritz = self._space.ritz()
            parts.append(_pairs.picked(self._space, ritz, _ends.order(ritz.values, self.which)[: self.k]))
        return _pairs.best(parts, self.which, self.k, self.operator.xp)

    # -- telling ------------------------------------------------------------------------------------------------

    def _partial(self, status: str) -> Eigenpairs | None:
        """Return what there is, with residuals as the recurrence has them; None before the first step."""
        if not self._found and (self._space is None or not self._space.used):
            return None
        return self._result(self._best(), status, ())

    def _measured(self, status: str) -> Eigenpairs:
        """Multiply each vector once more, rotate to the best pairs in their span, and measure the residuals."""
        best = self._best()
        self._close()
        if self._limit - self.products < len(best.values):
            return self._result(best, status + "; residuals are those of the recurrence", ())
        measured = _pairs.measured(self.operator, best, self._scale or 1.0)
        self._spent += len(best.values)
        unit = max(_arrays.epsilon(self._dtype), _arrays.epsilon(self.operator.dtype))
        suspicious = max(unit**_SUSPICIOUS, 4 * self.operator.noise) * self._norm
        found = _pairs.findings(best, measured, self._asymmetry, self._norm, suspicious)
        for text in found:
            warnings.warn(text, SlqWarning, stacklevel=4)
        return self._result(measured, status, found)

    def _result(self, pairs: Pairs, status: str, found: tuple[str, ...]) -> Eigenpairs:
        up, scale = np.argsort(pairs.values, kind="stable"), self._scale or 1.0
        rows = self.operator.xp.stack([pairs.rows[int(i), ...] for i in up])
        values, residuals = pairs.values[up], pairs.residuals[up]
        return Eigenpairs(
            values * scale,
            rows.T,
            residuals * scale,
            self.products,
            residuals <= self._goal(values, _MEASURED),
            (self._rest[0] * scale, self._rest[1] * scale),
            self._verified,
            self.operator.n,
            self.which,
            self.tol,
            self._confidence,
            self._seed,
            perf_counter() - self._began,
            status,
            found,
        )

    def _raise_with_partial(self, error: Exception) -> None:
        """Re-raise what stopped the run, with what was computed before it attached."""
        partial = self._partial(f"ended by {type(error).__name__}")
        if isinstance(error, RunError):
            raise RunError(str(error), partial) from error
        done = "nothing was computed" if partial is None else f"{len(partial)} pairs after {self.products} products"
        msg = f"the run was ended by {type(error).__name__}: {error} ({done})."
        raise RunError(msg, partial) from error
