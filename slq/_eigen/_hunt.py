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
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slq import _arrays, _doubts
from slq._arrays import Array, Floats
from slq._eigen import _ends, _pairs, _search
from slq._eigen._eigenpairs import Eigenpairs
from slq._eigen._ends import Which
from slq._eigen._filters import Filter
from slq._eigen._pairs import Pairs
from slq._eigen._restarts import Restarts, Ritz, Saved
from slq._eigen._search import Search, Stage
from slq._errors import RunError, SlqWarning
from slq._files import _store
from slq._files._contents import require_search
from slq._files._vectors_file import Vectors
from slq._lanczos import _probes
from slq._operators._operators import Operator
from slq._progress import NoMeter, meter
from slq._run._checkpoint import Checkpoint, Interrupted

Callback = Callable[[Eigenpairs], object]
Judge = Callable[[Restarts, Ritz], str]
Stored = Callable[[npt.NDArray[np.intp]], Iterator[npt.NDArray[Any]]]

# A residual of so many roundings of |A| cannot fall much further; measured with a product it is larger by rounding.
_CONVERGED, _MEASURED = 4.0, 64.0
# Steps between looks at the Ritz values, at most.
_LOOK = 8
# The proof may take this share of the products before it, and so many at least.
_PROOF_SHARE, _PROOF_LEAST = 0.5, 40


# How residuals are known where no product was spent on them.
_INFERRED = "residuals are those of the recurrence"


class Resumed(NamedTuple):
    """What a checkpoint holds."""

    arrays: Mapping[str, npt.NDArray[Any]]
    facts: Mapping[str, Any]
    stored: Stored | None


def resumed(arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], stored: Stored | None) -> Resumed:
    """Return what a checkpoint holds, once it is seen that it can be that of a search."""
    require_search(arrays, facts)
    return Resumed(arrays, facts, stored)


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
        checkpoint: Checkpoint[Resumed] | None = None,
    ) -> None:
        self.operator, self.k, self.which, self.tol = operator, k, which, tol
        self._size, self._block, self._seed, self._dtype = size, block, seed, dtype
        self._start, self._known = start, known
        self._verify, self._confidence, self._limit = verify, confidence, limit
        self._callback = callback
        self._meter: NoMeter = meter() if show_progress else NoMeter()
        self._began, self._file = perf_counter() - (checkpoint.seconds if checkpoint else 0.0), checkpoint
        self._at = Search()
        self._space: Restarts | None = None
        self._measuring, self._sealed = 0, False
        if checkpoint is not None and checkpoint.content is not None:
            self._resume(checkpoint, checkpoint.content)

    @property
    def products(self) -> int:
        """Columns multiplied so far."""
        return self._at.spent + self._measuring + (self._space.products if self._space else 0)

    def run(self) -> Eigenpairs:
        """Find the pairs, verify that none was missed, and measure the residuals."""
        heard = False
        try:
            if self._file is not None:
                self._file.listen()
            if self._at.stage != "end":
                self._measure(self._find())
            return self._told()
        except Interrupted:
            heard = True
            return self._result(self._best(), f"interrupted; {_INFERRED}", ())
        except Exception as error:
            self._raise_with_partial(error)
            raise
        finally:
            self._meter.close()
            if self._file is not None:
                self._file.close(heard=heard)

    # -- spending -----------------------------------------------------------------------------------------------

    def _find(self) -> str:
        """Search and verify; return in words how it ended. Between any two steps it can be left and gone on with."""
        at = self._at
        judge: dict[Stage, Judge] = {"search": self._search, "proof": self._prove, "admission": self._admit}
        if at.stage == "measurement":
            return at.status
        try:
            if self._space is None:
                self._open(self._draw(self._block) if self._start is None else self._start, self._known)
                self._ask(min(self.k, _LOOK))
            while True:
                space, ritz = self._step()
                if ended := judge[at.stage](space, ritz):
                    return ended
        except Stop as stop:
            return str(stop)

    def _search(self, space: Restarts, ritz: Ritz) -> str:
        """Take the wanted pairs once they have converged, and begin a proof."""
        if not self._converged(space, ritz, self.k):
            return ""
        complete, self._at.near = space.complete, self._take(space, ritz, self.k)
        if complete:
            low, high, _ = self._limits()
            self._at.rest, self._at.verified = self._around((np.inf, -np.inf), low, high), True
            return "exact: the basis spans the whole space"
        self._at.allowed = max(int(_PROOF_SHARE * self.products), _PROOF_LEAST)
        return self._begin_proof() if self._verify else "converged"

    def _converged(self, space: Restarts, ritz: Ritz, count: int) -> bool:
        """Whether the first pairs have converged; where not, say how far to go, from a restart where there is need."""
        first = _ends.order(ritz.values, self.which)[:count]
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.log10(np.max(ritz.residuals[first] / self._goal(ritz.values[first])))
        if (len(first) == count and not excess > 0) or space.complete:
            return True
        if space.full:
            space.restart(ritz, _ends.kept(ritz.values, self.which, count, space.size))
        self._ask(count - len(first) or int(np.clip(excess, 1, _LOOK)))
        return False

    def _begin_proof(self) -> str:
        """Take another random vector through the complement; say how all ended where there is none."""
        at = self._at
        at.stage, at.fence = "proof", self._limits()
        if self._locked(None).shape[0] == self.operator.n:
            at.rest, at.verified = self._around((np.inf, -np.inf), *at.fence[:2]), True
            return self._proven()
        if self._locked(at.near).shape[0] == self.operator.n:
            at.near = None
        self._open(self._draw(1), self._locked(at.near))
        at.proof = Filter()
        self._ask(1)
        return ""

    def _prove(self, space: Restarts, ritz: Ritz) -> str:
        """Look what the proof has come to: that something was missed, that nothing was, or nothing yet."""
        at, (low, high, slack) = self._at, self._at.fence
        ends = int(np.isfinite(low)) + int(np.isfinite(high))
        risk = (1 - self._confidence) * 2 / ends  # `Filter.edges` shares it among two
        beyond = (ritz.values > high + slack) | (ritz.values < low - slack)
        if beyond.any():
            return self._turned_up(space, ritz, beyond)
        edges = _pairs.coupled(at.proof.edges(ritz, space.tail, space.room, risk), at.near)
        at.rest = self._around(edges, low, high)
        at.verified = bool(edges[0] >= low - slack and edges[1] <= high + slack)
        at.tied = bool(np.any((ritz.values > high - slack) | (ritz.values < low + slack)))
        if at.verified or at.tied or space.complete or space.products >= at.allowed:
            self._close()
            return self._proven()
        if space.full:
            keep = _ends.kept(ritz.values, self.which, 1, space.size)
            at.proof.restart(ritz, keep)
            space.restart(ritz, keep)
        self._ask(int(np.clip(space.products // 4, 1, _LOOK)))
        return ""

    def _proven(self) -> str:
        """Say in words how the proof ended."""
        at = self._at
        missed = f"; {at.joined} found that the first start vector could not see" if at.joined else ""
        tied = "; the last value has a copy that was not asked for" if at.tied else ""
        return f"converged, {'' if at.verified else 'not '}verified{missed}{tied}"

    def _turned_up(self, space: Restarts, ritz: Ritz, beyond: npt.NDArray[np.bool_]) -> str:
        """Converge to what lies beyond the limits."""
        at = self._at
        at.stage, at.count = "admission", int(beyond.sum())
        if at.near is None:
            return self._admit(space, ritz)
        # Vectors that are not quite eigenvectors have a complement without quite the others.
        start, at.near = space.vectors(ritz.coefficients[:, beyond]), None
        self._close()
        self._open(start, self._locked(None))
        self._ask(1)
        return ""

    def _admit(self, space: Restarts, ritz: Ritz) -> str:
        """Take in what was missed once it has converged, and begin another proof."""
        if not self._converged(space, ritz, self._at.count):
            return ""
        self._take(space, ritz, self._at.count)
        self._at.joined += self._at.count
        return self._begin_proof()

    def _around(self, edges: tuple[float, float], low: float, high: float) -> tuple[float, float]:
        """Return edges that hold, up to rounding, what was found and is not among the best too; infinite if unasked."""
        values = np.sort(np.concatenate([pairs.values for pairs in self._at.found]))
        others = values[_ends.order(values, self.which)[self.k :]]
        noise = float(self._goal(np.zeros(1), _MEASURED)[0])
        below, above = others.min(initial=edges[0]) - noise, others.max(initial=edges[1]) + noise
        return float(below) if np.isfinite(low) else -np.inf, float(above) if np.isfinite(high) else np.inf

    def _ask(self, steps: int) -> None:
        """Say how many steps to make until the next look."""
        if self._space is not None:
            self._space.ask(steps)

    def _step(self) -> tuple[Restarts, Ritz]:
        """Make the steps until the next look and return the space and its Ritz pairs, or end the search."""
        at, space = self._at, self._space
        if space is None:
            msg = "no space is open"
            raise RuntimeError(msg)
        before = space.products
        # Products that measure the residuals are set aside.
        space.go_on(self._limit - self.products - (self.k if self._limit > 2 * self.k else 0))
        at.norm, at.asymmetry, at.scale = max(at.norm, space.norm), max(at.asymmetry, space.asymmetry), space.scale
        at.unit, at.underflow = max(at.unit, space.unit), max(at.underflow, space.underflow)
        at.first = at.first or space.first
        if space.made == 0:
            msg = f"budget of {self._limit} products reached"
            raise Stop(msg)
        self._meter.update(self.products, space.used)
        if space.products > before and self._stops():
            msg = "stopped by callback"
            raise Stop(msg)
        return space, space.ritz()

    def _stops(self) -> bool:
        """Whether the callback, of any rank, ends the search, which can be gone on with then."""
        stopped, callback, shards = True, self._callback, self.operator.shards
        if callback is None and shards.whole:
            return False
        try:
            partial = self._result(self._best(), "running", ())
            stopped = shards.asked(lambda: callback is not None and callback(partial))
        finally:
            if stopped:
                self._save()
                self._sealed = True
        return stopped

    def _goal(self, values: Floats, roundings: float = _CONVERGED) -> Floats:
        """Return the residuals at which values count as converged."""
        unit = max(_arrays.epsilon(self._dtype), _arrays.epsilon(self.operator.dtype))
        floor = max(roundings * max(unit, self._at.unit), self.operator.noise) * self._at.norm
        return np.maximum(self.tol * np.abs(values), floor)

    def _limits(self) -> tuple[float, float, float]:
        """Return where all others must lie, and how much further rounding and the tolerance let them seem to."""
        values = np.sort(self._best().values)
        return *_ends.limits(values, self.which), float(np.max(self._goal(values, _MEASURED)))

    # -- keeping ------------------------------------------------------------------------------------------------

    def _draw(self, count: int) -> Array:
        numbers = range(self._at.drawn, self._at.drawn + count)
        self._at.drawn += count
        kind = np.dtype(_arrays.dtype_name(self._dtype))
        parts = 2 if kind.kind == "c" else 1  # a point of the complex sphere is one of the real sphere
        n, shards = parts * self.operator.n, None if parts == 2 else self.operator.shards
        rows = _probes.probes(n, numbers, seed=self._seed, dtype=np.finfo(kind).dtype, shards=shards)
        rows = (rows[:, ::2] + 1j * rows[:, 1::2]).astype(kind) if parts == 2 else rows
        return _arrays.from_host(rows, self.operator.xp, dtype=self._dtype, device=self.operator.device)

    def _open(self, start: Array | Saved, locked: Array | None) -> Restarts:
        """Begin a Krylov space, or go on with a saved one."""
        size = start.facts["size"] if isinstance(start, Saved) else max(self._size, 2 * int(start.shape[0]) + 1)
        self._at.spaces += not isinstance(start, Saved)
        self._space = Restarts(
            self.operator, self._draw, self._dtype, size=size, start=start, locked=locked, scale=self._at.scale
        )
        if self._file is not None:
            self._space.after_step = self._after_step
        return self._space

    def _close(self) -> None:
        if self._space is not None:
            self._at.spent, self._space = self.products, None

    def _take(self, space: Restarts, ritz: Ritz, k: int) -> Pairs | None:
        """Keep the first k pairs and all that have converged; return those that nearly have; give up the space."""
        ranked, goal = _ends.order(ritz.values, self.which), self._goal(ritz.values)
        low, high = _ends.limits(np.sort(ritz.values[ranked[:k]]), self.which)
        exact = np.array([i for place, i in enumerate(ranked) if place < k or ritz.residuals[i] <= goal[i]])
        near = ranked[~np.isin(ranked, exact)]
        distances = np.minimum(ritz.values - low, high - ritz.values)
        near = near[: _pairs.prefix(ritz.residuals[near], distances[near])]
        self._at.found.append(_pairs.picked(space, ritz, exact))
        kept = _pairs.picked(space, ritz, near) if near.size else None
        self._close()
        return kept

    def _locked(self, near: Pairs | None) -> Array:
        """Return all rows that the search goes on without."""
        parts = [self._known, *(pairs.rows for pairs in self._at.found), None if near is None else near.rows]
        return self.operator.xp.concat([rows for rows in parts if rows is not None], axis=0)

    def _best(self) -> Pairs:
        """Return the best k pairs there are, of a space in progress too."""
        parts = list(self._at.found)
        if self._space is not None and self._space.used:
            ritz = self._space.ritz()
            parts.append(_pairs.picked(self._space, ritz, _ends.order(ritz.values, self.which)[: self.k]))
        return _pairs.best(parts, self.which, self.k, self.operator.xp)

    # -- leaving and coming back ------------------------------------------------------------------------------------

    def _after_step(self, whole: bool) -> None:
        """Write the checkpoint when it is time to, at the latest when a product failed or a signal asks to end."""
        file, space = self._file, self._space
        if file is None or space is None:
            return
        if not whole or file.asked or file.due(space.size**2, self._vectors(space.rows)):
            self._save()
        if whole and file.asked:
            raise Interrupted

    def _after_batch(self, count: int) -> None:
        self._measuring += count
        if self._file is not None and self._file.asked:
            self._save()
            raise Interrupted

    def _vectors(self, count: int) -> Vectors:
        """Return all vectors that the search goes on from."""
        space, one = self._space, self.operator.n * _arrays.itemsize(self._dtype)
        stock = self._at.stage if space is None else f"{self._at.spaces}-{space.version}"
        nought = np.zeros(1, dtype=np.intp)
        if space is None:
            return Vectors(stock, count, one, lambda first: (nought, _pairs.stored(self._at.found[0], first)))
        return Vectors(stock, count, one, lambda first: (nought, space.stored(first, count)))

    def _save(self) -> None:
        """Write where the search stands, if there is something that one can go on from."""
        file, at, space = self._file, self._at, self._space
        if file is None or self._sealed:
            return
        if space is not None:
            at.first, at.scale = at.first or space.first, space.scale
        if at.first is None or not all(np.isfinite(x).all() for x in at.first):
            return
        arrays, facts = at.packed()
        count = len(at.found[0].values) if space is None else 0
        if space is not None:
            more, facts["space"], count = space.state()
            arrays |= more
        file.save(arrays, facts, self._vectors(count), perf_counter() - self._began)

    def _resume(self, file: Checkpoint[Resumed], saved: Resumed) -> None:
        """Go on where the file ends, if the operator is the one that it is of."""
        start = self._draw(self._block) if self._start is None else self._start
        block, xp = int(start.shape[0]), self.operator.xp
        trial = Restarts(self.operator, self._draw, self._dtype, size=block, start=start, locked=self._known)
        trial.advance(1, block)
        with _store.consistent(file.path):
            self._recognise(file, saved, trial)
            rows = iter(()) if saved.stored is None else saved.stored(np.zeros(1, dtype=np.intp))
            if "space" in saved.facts:
                self._require_room(file, saved.facts["space"])
                space = self._open(Saved(saved.arrays, saved.facts["space"], rows), None)
                besides = 0 if self._known is None else int(self._known.shape[0])
                vectors = xp.asarray(space.locked[besides:, :], copy=True)
            else:
                found = np.concatenate(list(rows))
                if not np.isfinite(found).all():
                    msg = "vectors that are not finite"
                    raise ValueError(msg)
                vectors = _arrays.from_host(found, xp, dtype=self._dtype, device=self.operator.device)
            self._at = _search.unpacked(saved.arrays, saved.facts, vectors)

    def _require_room(self, file: Checkpoint[Resumed], space: Mapping[str, Any]) -> None:
        """Refuse a space that takes more memory than that of a search like this one, or has other vectors."""
        count = space["locked"] + space["used"] + space["width"]
        if space["locked"] > self.operator.n or space["size"] > 2 * self._size + 1 or space["block"] > self._size:
            msg = f"a basis of {space['size']} where that of the run has {self._size}"
            raise ValueError(msg)
        if count != file.blocks:
            msg = f"{file.blocks} vectors where {count} belong"
            raise ValueError(msg)

    def _recognise(self, file: Checkpoint[Resumed], saved: Resumed, trial: Restarts) -> None:
        """Refuse another operator, by its first product once more."""
        new = trial.first
        if new is None:
            msg = "the first product was not made"
            raise ValueError(msg)
        scale = saved.facts["scale"] or saved.facts.get("space", {}).get("scale")  # the space knows it first
        ratio = (trial.scale or 1.0) / (scale or 1.0)
        before = np.concatenate([saved.arrays["first-projected"], saved.arrays["first-tail"]])
        change = float(np.linalg.norm(np.concatenate(new) * ratio - before))
        size = float(np.linalg.norm(before)) or 1.0
        # A random error vector of norm e moves an inner product by e / sqrt(n).
        visible = change > 8 * _arrays.epsilon(self._dtype) * size
        file.recognise(change / size * np.sqrt(self.operator.n / 2) if visible else 0.0, self.operator.noise)

    # -- telling ------------------------------------------------------------------------------------------------

    def _partial(self, status: str) -> Eigenpairs | None:
        """Return what there is, with residuals as the recurrence has them; None before the first step."""
        if not self._at.found and (self._space is None or not self._space.used):
            return None
        return self._result(self._best(), status, ())

    def _measure(self, status: str) -> None:
        """Multiply each vector once more, rotate to the best pairs in their span, and measure the residuals."""
        best, at = self._best(), self._at
        self._close()
        at.found, at.near, at.stage, at.status = [best], None, "measurement", status
        if self._limit - self.products < len(best.values):
            at.status += f"; {_INFERRED}"
            return
        if self._file is not None and self._file.due(0, self._vectors(len(best.values))):
            self._save()
        try:
            measured = _pairs.measured(self.operator, best, at.scale or 1.0, self._after_batch)
        except Exception as error:
            if not isinstance(error, Interrupted):
                self._save()
            raise
        at.spent, self._measuring = self.products, 0
        unit = max(_arrays.epsilon(self._dtype), _arrays.epsilon(self.operator.dtype))
        suspicious = _doubts.suspicious(unit, self.operator.noise, at.unit) * at.norm
        at.warnings = _pairs.findings(best, measured, at.asymmetry, at.norm, suspicious)
        if at.underflow > _doubts.suspicious(unit, 0.0):
            at.warnings = (_doubts.subnormal(at.underflow),)
        at.found = [measured]

    def _told(self) -> Eigenpairs:
        """Return the result, and keep it."""
        at = self._at
        for text in at.warnings:
            warnings.warn(text, SlqWarning, stacklevel=4)
        if at.stage != "end":
            at.stage = "end"
            self._save()
        return self._result(at.found[0], at.status, at.warnings)

    def _result(self, pairs: Pairs, status: str, found: tuple[str, ...]) -> Eigenpairs:
        up, scale = np.argsort(pairs.values, kind="stable"), self._at.scale or 1.0
        rows = self.operator.xp.stack([pairs.rows[int(i), ...] for i in up])
        values, residuals = pairs.values[up], pairs.residuals[up]
        return Eigenpairs(
            values * scale,
            rows.T,
            residuals * scale,
            self.products,
            residuals <= self._goal(values, _MEASURED),
            (self._at.rest[0] * scale, self._at.rest[1] * scale),
            self._at.verified,
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
        advice = "" if self._file is None else self._file.advice
        if isinstance(error, RunError):
            msg = f"{error}{advice}"
            raise RunError(msg, partial) from error
        done = "nothing was computed" if partial is None else f"{len(partial)} pairs after {self.products} products"
        msg = f"the run was ended by {type(error).__name__}: {error} ({done}).{advice}"
        raise RunError(msg, partial) from error
