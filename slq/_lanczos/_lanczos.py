"""k Lanczos recurrences in lock-step: one batched product per step gives one more row of k tridiagonal matrices.

Vectors stay on the operator's device (`_krylov`); alpha and beta are copied to the host every few steps. Nothing is
interpreted here: quadrature, errors and stopping rules come later.

Source: Golub & Van Loan 2013, section 10.1, one Krylov space per probe. Differences: orthogonality by two block
Gram-Schmidt sweeps; breakdown judged against the size of T, per probe; extreme scales divided by a power of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slq import _arrays, _doubts
from slq._arrays import Array, Floats
from slq._errors import RunError
from slq._kernels._kernels import Passes, Product, passes_for
from slq._lanczos._basis import Storage
from slq._lanczos._fused import Fused
from slq._lanczos._host import HostKrylov, NotFiniteError
from slq._lanczos._krylov import Krylov
from slq._lanczos._record import Contradiction, Record
from slq._lanczos._tridiagonal import Tridiagonal
from slq._operators._operators import Operator, multiplied

Reorth = Literal["full", "none"]

# alpha and beta are fetched after 1, 2, 4, 8 steps and then every 8: a copy is a synchronisation on a GPU.
_FETCH_EVERY = 8
# beta_j below this many roundings of |T| is an invariant subspace: a product errs by a few. It must be below twice as
# many of its own row of T too: far outliers must not cut off a bulk a millionth of them; stopping late only costs time.
_BREAKDOWN_ROUNDINGS = 32.0
# Roundings above this are those of half precisions; of them one is noise enough.
_HALF_PRECISION = 1e-5
# Past vectors that are kept coarsely may seem to contradict by so many of their roundings.
_CONTRADICTION = 8.0


class LanczosRun:
    """Lanczos recurrences that can be taken further: `advance` makes steps, `tridiagonal` tells what there is.

    Parameters
    ----------
    operator : Operator
        The matrix.
    start : array, shape (k, n)
        Unit start vectors as rows, in the library, dtype and device of the run.
    reorth : {"full", "none"}
        Whether new vectors are made orthogonal to all earlier ones.
    storage : Storage, optional
        How those are kept: in memory, as they are, by default.
    references : array, shape (r, n), optional
        Vectors whose inner products with the Krylov vectors are recorded.
    first : int, default 0
        Number of the first probe, for messages.
    owned : bool, default False
        Whether the start vectors may be overwritten: at n = 1e9 a copy is gigabytes.
    record : Record, optional
        Where to write down what steps give; the steps that it holds already are not multiplied again.

    Attributes
    ----------
    products : int
        Columns multiplied so far.
    product_seconds : float
        Time spent in products after the first, as the host sees it.
    rounding : float
        Unit in the last place of the shortest dtype that a product went through.
    underflow : float
        The same of products that are subnormal numbers, 0 for others.
    asymmetry : float or None
        Estimate of |A - A^T|_F / |A|_F from the first products of two or more probes.
    drift : float
        How far A Q is from Q T + r e^T because earlier vectors are kept coarsely: the norm, over all steps.
    coarseness : float
        Largest relative rounding of the earlier vectors, where they are kept more coarsely than they are.
    on_step : callable or None
        Called before each step with the numbers of the active probes and their newest Krylov vectors as rows.
    on_end : callable or None
        Called with the number of a probe that has ended, as long as its vectors are there to `combine`.
    after_step : callable or None
        Called after each product with True, and with False where it raised; what it raises ends the run.
    """

    def __init__(
        self,
        operator: Operator,
        start: Array,
        *,
        reorth: Reorth,
        storage: Storage | None = None,
        references: Array | None = None,
        first: int = 0,
        owned: bool = False,
        record: Record | None = None,
    ) -> None:
        self._operator, self._xp, self._dtype, self._first = operator, operator.xp, start.dtype, first
        self._references = references
        self._storage = None if reorth == "none" else storage or Storage()
        self._krylov = self._begin(start, owned=owned)
        self._active = np.arange(start.shape[0])
        self._scale: float | None = None
        self._pending: list[Array] = []
        self._coefficients: list[list[Floats]] = [[] for _ in self._active]
        self._norms = np.zeros(start.shape[0])
        self.products, self.product_seconds = 0, 0.0
        self.rounding = max(_arrays.epsilon(start.dtype), _arrays.epsilon(operator.dtype))
        self.underflow = 0.0
        self.asymmetry: float | None = None
        self._record = record = record or Record()
        self._lost = bool(record.rows)  # the vectors that the next step needs
        if record.rows:
            width = 2 + (0 if references is None else references.shape[0])
            if any(rows.shape[1] != width for rows in record.rows):
                msg = f"its rows are not of {width} numbers each"
                raise Contradiction(msg)
            self._scale, self.asymmetry = record.scale, record.asymmetry
            self.rounding, self.underflow = max(self.rounding, record.rounding), record.underflow
        self.drift, self.coarseness = 0.0, 0.0
        if self._storage is not None:
            name = self._storage.name(start.dtype)
            self.coarseness = 0.0 if name == _arrays.dtype_name(start.dtype) else _arrays.epsilon(np.dtype(name)) / 2
        self.on_step: Callable[[npt.NDArray[np.intp], Array], object] | None = None
        self.on_end: Callable[[int], object] | None = None
        self.after_step: Callable[[bool], object] | None = None
        self._made = self._fetched = 0

    @property
    def active(self) -> int:
        """Number of probes that are still going."""
        return int(self._active.size)

    @property
    def finished(self) -> bool:
        """Whether every probe has reached an invariant subspace."""
        return self._active.size == 0

    @property
    def xp(self) -> Any:
        """Array namespace."""
        return self._xp

    @property
    def orthogonal(self) -> bool:
        """Whether vectors are kept and new ones made orthogonal to them."""
        return self._krylov.orthogonal

    @property
    def probes(self) -> int:
        """Number of start vectors."""
        return len(self._coefficients)

    @property
    def steps(self) -> int:
        """Steps made by the probes that are still going, or by the longest one."""
        return max(len(rows) for rows in self._coefficients)

    @property
    def replaying(self) -> bool:
        """Whether the next step is known from the record."""
        return self._made < len(self._record.rows)

    @property
    def dropped(self) -> int | None:
        """Steps after which the basis was given up, before this run or in it."""
        return self._record.dropped[0] if self._record.dropped else None

    @property
    def contradiction(self) -> float:
        """How far products contradicted each other, as a share of |A|: q_i^T A q_j that should be zero or known."""
        strangers = getattr(self._krylov, "strangers", 0.0)
        return strangers / float(self._norms.max(initial=0.0) or 1.0)

    def warn(self, *, above: int) -> None:
        """Warn of products that underflow or contradict each other, at the line so many frames above the caller."""
        if self.underflow > _doubts.suspicious(_arrays.epsilon(self._dtype), 0.0):
            _doubts.warn(_doubts.subnormal(self.underflow), above=above + 1)
            return
        rounding = max(self.rounding, _CONTRADICTION * self.coarseness)
        limit = _doubts.suspicious(_arrays.epsilon(self._dtype), self._operator.noise, rounding)
        if self.contradiction > limit:
            _doubts.warn(_doubts.contradicting(self.contradiction), above=above + 1)

    @property
    def kept(self) -> int:
        """Past vectors that are kept, per probe, and can be given."""
        return self._krylov.kept if self._resumable else 0

    def stored(self, first: int) -> tuple[npt.NDArray[np.intp], Iterable[npt.NDArray[Any]]]:
        """Return the numbers of the active probes and, from number `first` on, their past vectors as they are kept."""
        return self._active, self._krylov.stored(first) if self._resumable else ()

    @property
    def _resumable(self) -> bool:
        """Whether the recurrence can tell what it goes on from: an adapter's may not."""
        return hasattr(self._krylov, "state")

    @property
    def record(self) -> Record | None:
        """All steps so far, with those that were not fetched yet; None where some were not finite."""
        rows = [*self._record.rows, *_table(self._pending, self._xp)[max(0, len(self._record.rows) - self._fetched) :]]
        if len(rows) != self._made or not all(np.isfinite(row[:, :2]).all() for row in rows[self._fetched :]):
            return None
        scale = 1.0 if self._scale is None else self._scale
        state = self._krylov.state() if self._resumable else {}
        return replace(
            self._record,
            rows=rows,
            drifts=list(self._record.drifts),
            scale=scale,
            asymmetry=self.asymmetry or 0.0,
            rounding=self.rounding,
            underflow=self.underflow,
            state=state,
        )

    @property
    def projected(self) -> tuple[int, float, float]:
        """Bytes that projections have read, seconds that they took, where the host sees it, and share of steps."""
        return self._krylov.projected

    def advance(self, steps: int) -> None:
        """Make up to `steps` more steps of every active probe; never more than n in all."""
        target = min(self.steps + steps, self._operator.n)
        while not self.finished and self.steps < target:
            try:
                for _ in range(min(_FETCH_EVERY, max(1, self.steps), target - self.steps)):
                    self._step()
            except Exception:
                if self.after_step is not None:
                    self.after_step(False)  # before the early fetch
                raise
            finally:  # when a product raises, the steps before it are kept
                self._fetch()

    def combine(self, probe: int, coefficients: Floats) -> Array | None:
        """Return combinations of one probe's Krylov vectors as rows, from host coefficients of shape (r, steps).

        None where the vectors are not kept, or the probe has ended.
        """
        where = np.flatnonzero(self._active == probe)
        if not where.size:
            return None
        # Steps that were made beyond the end of a probe's space mean nothing.
        padded = np.pad(coefficients, ((0, 0), (0, self._made - coefficients.shape[1])))
        return self._krylov.combine(int(where[0]), padded)

    def following(self, probe: int) -> Array | None:
        """Return the vector that a probe's next step would multiply, None where the probe has ended."""
        where = np.flatnonzero(self._active == probe)
        return self._krylov.current[int(where[0])] if where.size else None

    def drop_basis(self) -> None:
        """Free the stored vectors and go on without re-orthogonalisation."""
        self._krylov.drop_basis()
        self._record.dropped[:] = [self._made]
        passes = None if self.finished else self._passes(self.active)
        if not isinstance(self._krylov, Fused) and passes is not None:
            scale = 1.0 / (self._scale or 1.0)
            self._krylov = Fused(passes, *self._krylov.pair(), references=self._references, scale=scale)
        self._go_on(fetched=True)

    def tridiagonal(self) -> Tridiagonal:
        """Return what has been computed, on the host."""
        lengths = np.array([len(rows) for rows in self._coefficients])
        references = 0 if self._references is None else self._references.shape[0]
        table = np.zeros((len(lengths), int(lengths.max(initial=0)), 2 + references))
        for i, rows in enumerate(self._coefficients):
            table[i, : len(rows)] = rows or 0.0
        scale = 1.0 if self._scale is None else self._scale
        return Tridiagonal(table[:, :, 0] * scale, table[:, :, 1] * scale, lengths, table[:, :, 2:])

    def _step(self) -> None:
        krylov, began = self._krylov, perf_counter()
        if self.on_step is not None:
            self.on_step(self._active, krylov.current)
        if self.replaying:
            self._pending.append(self._record.rows[self._made])
            self._made += 1
            self.products += self.active
            self._go_on(fetched=False)
            return
        if self._lost:
            msg = "the checkpoint contradicts itself: it ends before its run did. Remove it to begin again."
            raise RunError(msg)
        images = krylov.images(self._product)
        if self._made > 1:  # the first may compile
            self.product_seconds += perf_counter() - began
        self.products += self.active
        if self._scale is None:
            size, n = krylov.size(images), self._operator.n
            self._scale = _arrays.extreme_scale(size, self._dtype)
            self.underflow = _arrays.underflow(n, size, self._operator.dtype)
            self.rounding = max(self.rounding, self.underflow)
            if self._scale != 1.0:
                images = krylov.rescale(images, 1.0 / self._scale)
        if self.asymmetry is None:
            self.asymmetry = krylov.asymmetry(images)
        self._pending.append(self._on(images))
        self._made += 1
        if self.after_step is not None:
            self.after_step(True)

    def _on(self, images: Array) -> Array:
        """Take the recurrence a step further; images that are not finite leave it where it was, as far as one sees."""
        krylov = self._krylov
        if not isinstance(krylov, HostKrylov):
            return krylov.step(images)
        try:
            return krylov.step(images)
        except NotFiniteError as error:
            for position in error.positions:
                if not self._has_ended(position):
                    raise self._not_finite(self._made, int(self._active[position])) from None
            return krylov.step(images, strict=False)

    def _product(self, rows: Array) -> Array:
        """Return A applied to each row, in the run's dtype."""
        operator, xp = self._operator, self._xp
        columns = _arrays.cast(rows, operator.dtype, xp).T
        if operator.order == "C" and _arrays.is_numpy(xp):
            columns = np.ascontiguousarray(columns)
        block = multiplied(operator, columns)
        self.rounding = max(self.rounding, _arrays.epsilon(block.dtype))
        return _arrays.cast(_arrays.rows_of(block, xp), self._dtype, xp)

    def _begin(self, start: Array, *, owned: bool) -> Krylov | HostKrylov | Fused:
        """Return the fastest recurrence for these vectors."""
        xp, storage, references, shards = self._xp, self._storage, self._references, self._operator.shards
        precision = None if storage is None else storage.precision
        passes = self._passes(start.shape[0]) if storage is None else None
        if passes is not None:
            return Fused(passes, start, references=references, owned=owned)
        if self._operator.krylov is None and _arrays.host_view(start) is not None:
            return HostKrylov(start, xp, storage=storage, references=references, owned=owned, shards=shards)
        if storage is not None and storage.folder is not None:
            msg = '`scratch` holds vectors of the host\'s memory only. Pass basis="float16" or reorth="none".'
            raise ValueError(msg)
        if self._operator.krylov is not None:
            made: Krylov = self._operator.krylov(
                start, reorth=storage is not None, precision=precision, references=references
            )
            return made
        rows = _arrays.rows_of(start.T, xp)
        return Krylov(rows, xp, reorth=storage is not None, precision=precision, references=references, shards=shards)

    def _passes(self, width: int) -> Passes | None:
        """Return a fused step for so many probes, where the matrix has one and it pays."""
        product = self._operator.product
        if not isinstance(product, Product) or self._dtype != self._operator.dtype:
            return None
        return passes_for(product.source, self._dtype, width)

    def _fetch(self) -> None:
        """Copy pending coefficients to the host, cut each probe where it ended, and go on with the others only."""
        if not self._pending:
            return
        table, drifts = np.stack(_table(self._pending, self._xp)), self._record.drifts
        drift = self._krylov.drift if self._made > len(drifts) else drifts[self._made - 1]
        self.drift = max(self.drift, drift)
        self._pending, reached = [], self.steps + len(table)
        ended = np.array([self._take(probe, table[:, i]) for i, probe in enumerate(self._active)])
        lengths = np.array([len(self._coefficients[probe]) for probe in self._active])
        worst = int(np.argmin(np.where(ended, reached, lengths)))
        if lengths[worst] < reached and not ended[worst]:
            for probe in self._active:  # all keep what all have made
                del self._coefficients[probe][lengths[worst] :]
            raise self._not_finite(int(lengths[worst]), int(self._active[worst]))
        self._record.rows.extend(table[len(self._record.rows) - self._fetched :])
        drifts.extend([drift] * (self._made - len(drifts)))
        self._fetched = self._made
        if ended.any():
            for probe in self._active[ended]:
                if self.on_end is not None:
                    self.on_end(int(probe))
            self._active = self._active[~ended]
            if not self.finished:
                self._krylov.keep(np.flatnonzero(~ended))
        self._go_on(fetched=True)

    def _go_on(self, *, fetched: bool) -> None:
        """Take up the vectors where the record ends, in the state in which it was written."""
        record = self._record
        here = self._lost and not self.replaying and (fetched or len(record.drifts) < self._made)
        if here and record.state and (not record.dropped or not self.orthogonal):
            if not self.finished:
                record.restore(self._krylov, self._active)
            self._lost = False

    def _take(self, probe: int, table: Floats) -> bool:
        """Append one probe's finite coefficients; tell whether it ended, after which the recurrence means nothing."""
        rows, unit = self._coefficients[probe], self.rounding
        unit = max(unit, self.coarseness**2)
        noise = max(min(_BREAKDOWN_ROUNDINGS * unit, max(unit, _HALF_PRECISION)), self._operator.noise)
        for row in table:
            if not np.isfinite(row[:2]).all():
                return False
            before = rows[-1][1] if rows else 0.0
            size = before + abs(row[0]) + row[1]
            self._norms[probe] = max(self._norms[probe], size)
            complete = len(rows) + 1 == self._operator.n
            invariant = row[1] <= noise * min(self._norms[probe], 2 * size) or (complete and self._krylov.orthogonal)
            rows.append(np.where(np.arange(row.size) == 1, 0.0, row) if invariant else row)
            if invariant or complete:
                return True
        return False

    def _has_ended(self, position: int) -> bool:
        """Whether what was not fetched yet tells that a probe has ended, after which its numbers mean nothing."""
        probe = self._active[position]
        rows, norm = self._coefficients[probe], self._norms[probe]
        self._coefficients[probe] = list(rows)
        ended = bool(self._pending) and self._take(probe, np.stack(_table(self._pending, self._xp))[:, position])
        self._coefficients[probe], self._norms[probe] = rows, norm
        return ended

    def _not_finite(self, steps: int, probe: int) -> RunError:
        """Return the error that names a probe that made no more steps than these."""
        msg = (
            f"the product gave NaN or Inf for probe {self._first + probe} at step {steps + 1}. Common causes: a loss "
            "that overflows in half precision, a division by zero inside the operator, uninitialised memory. "
            "`slq.check` looks for the cause; the steps already done are kept."
        )
        return RunError(msg)


def _table(pending: list[Array], xp: Any) -> list[npt.NDArray[Any]]:
    """Return rows on the host; those of a device are copied together."""
    live = [row for row in pending if not isinstance(row, np.ndarray)]
    return [
        *(row for row in pending if isinstance(row, np.ndarray)),
        *(_arrays.to_host(xp.stack(live)) if live else ()),
    ]
