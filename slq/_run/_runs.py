"""Lanczos runs of one operator, batch by batch: which probes, how many at once, how far; and what they cost.

The first batch stays open so that its steps can grow; further probes are run to the same length. Nothing is
interpreted here beyond the tests that come free with the products: symmetry and repeatability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array, Floats
from slq._kernels._kernels import Product
from slq._lanczos import _probes
from slq._lanczos._basis import Storage
from slq._lanczos._krylov import unit_rows
from slq._lanczos._lanczos import LanczosRun, Reorth
from slq._lanczos._probes import Kind
from slq._lanczos._record import Past, Record
from slq._lanczos._tridiagonal import Tridiagonal, concatenate
from slq._operators._deflation import project_out, projected, straightened
from slq._operators._operators import Multiply, Operator


class Runs:
    """All probes of one run of `slq.spectrum`, in the order of their numbers.

    Parameters
    ----------
    operator : Operator
        The matrix.
    seed : int
        Key of the probes' streams.
    kind : {"sphere", "rademacher"}
        Their law. With "rademacher" the first is a sphere probe all the same.
    reorth : {"full", "none"}
        Policy for new batches.
    storage : Storage
        How past vectors are kept with "full".
    dtype : dtype
        Of the Krylov vectors, in the operator's library.
    references : int
        How many start vectors to keep for comparing the probes' Ritz vectors.
    done : Tridiagonal, optional
        Coefficients of the first probes, from an earlier run.
    past : Past, optional
        What the same run had done when it was interrupted: it is gone through again without products.
    after_step : callable, optional
        As of `LanczosRun`.
    begin : int, default 0
        Number of the first probe, where others run those before it.
    """

    def __init__(
        self,
        operator: Operator,
        *,
        seed: int,
        kind: Kind,
        reorth: Reorth,
        storage: Storage,
        dtype: Any,
        references: int,
        done: Tridiagonal | None = None,
        past: Past | None = None,
        after_step: Callable[[bool], object] | None = None,
        begin: int = 0,
    ) -> None:
        self._begin = begin
        self._operator, self._seed, self._kind, self._dtype = operator, seed, kind, dtype
        self.reorth: Reorth = reorth
        self._storage = storage
        self._references: Array | None = None
        self._referred = references
        if references:
            self._references = self._kept(references)
        self._closed = [] if done is None else [done]
        self._projected = [] if done is None else [np.zeros(len(done.lengths), dtype=bool)]
        self._vectors: Array | None = None
        self._filling = 0.0
        self._open: LanczosRun | None = None
        self._products = 0
        self._tested_at = -1
        self._past, self._after_step = past or Past(), after_step
        self._records: list[Record] = []
        self._tests: list[tuple[float, float, int]] = []
        self._discarded: Tridiagonal | None = None
        self.asymmetry, self.underflow = 0.0, 0.0
        self.repeat_error = 0.0
        self.rounding, self.drift, self.coarseness = 0.0, 0.0, 0.0

    @property
    def products(self) -> int:
        """Columns multiplied so far."""
        return self._products + (self._open.products if self._open else 0)

    @property
    def probes(self) -> int:
        """Probes started so far."""
        return sum(len(T.lengths) for T in self._closed) + (self._open.probes if self._open else 0)

    @property
    def width(self) -> int:
        """Probes that are multiplied at the next step."""
        return self._open.active if self._open else 0

    @property
    def opened(self) -> int:
        """Probes that the open batch began with."""
        return self._open.probes if self._open else 0

    @property
    def product_seconds(self) -> float:
        """Mean time of one product of the open batch."""
        return self._open.product_seconds / max(self._open.steps - 1, 1) if self._open else 0.0

    @property
    def projection_cost(self) -> tuple[int, float, float]:
        """Bytes that projections of the open batch have read, and seconds that they took, as far as that is seen."""
        return self._open.projected if self._open else (0, 0.0, 1.0)

    @property
    def finished(self) -> bool:
        """Whether the open batch can go no further."""
        return self._open is None or self._open.finished

    @property
    def steps(self) -> int:
        """Steps of the batch run last."""
        if self._open is not None:
            return self._open.steps
        return int(self._closed[-1].lengths.max()) if self._closed else 0

    def open(self, count: int) -> LanczosRun:
        """Start `count` more probes as the open batch, closing the one before; return it."""
        self.close()
        first, record = self._begin + self.probes, self._recorded(count)
        operator, start = self._operator, self.starts(range(first, first + count))
        if self._vectors is not None:
            xp, shards = operator.xp, operator.shards
            operator = projected(operator, self._vectors, self._filling)
            start = unit_rows(project_out(start, self._vectors, xp, shards.reduce), xp, shards)
        self._open = LanczosRun(
            operator,
            start,
            reorth=self.reorth,
            storage=self._storage,
            references=self._references,
            first=first,
            owned=True,
            record=record,
        )
        self._open.after_step = self._after_step
        self._records.append(record)
        self._projected.append(np.full(count, self._vectors is not None))
        return self._open

    def advance(self, steps: int) -> None:
        """Take the open batch `steps` further."""
        if self._open is None:
            return
        try:
            self._open.advance(steps)
        finally:
            if not self.deflating:  # what is left of P A P can be small beside its rounding
                self.asymmetry = max(self.asymmetry, self._open.asymmetry or 0.0)
                self.underflow = max(self.underflow, self._open.underflow)
            for name in ("rounding", "drift", "coarseness"):
                setattr(self, name, max(getattr(self, name), getattr(self._open, name)))

    @property
    def current(self) -> LanczosRun | None:
        """The open batch."""
        return self._open

    @property
    def batches(self) -> int:
        """Batches begun so far, the open one among them."""
        return len(self._records)

    @property
    def replaying(self) -> bool:
        """Whether the open batch goes through steps that are known."""
        return self._open is not None and self._open.replaying

    def past(self) -> Past | None:
        """Return all that was done, with what the open batch goes on from; None after numbers that are not finite."""
        records, vectors = list(self._records), self._vectors
        if self._open is not None:
            record = self._open.record
            if record is None:
                return None
            records[-1:] = [record] if record.state and record.rows else []
        return Past(records, list(self._tests), None if vectors is None else np.ascontiguousarray(vectors.T))

    @property
    def deflating(self) -> bool:
        """Whether further batches run with known eigenvectors projected out."""
        return self._vectors is not None

    @property
    def projected(self) -> npt.NDArray[np.bool_]:
        """Which of the probes were run with known eigenvectors projected out."""
        if not self._whole and self._discarded is not None:
            return np.zeros(len(self._discarded.lengths), dtype=bool)
        return np.concatenate(self._projected)[: self.probes]

    def deflate(self, coefficients: Floats) -> bool:
        """Project these combinations of probe 0's Krylov vectors out of all further batches; False if they are gone.

        `coefficients` has shape (d, steps): one row of T's eigenvectors per Ritz vector.
        """
        xp, known, vectors = self._operator.xp, self._past.deflated, None
        if known is not None:
            # In the order in memory of those that were computed: products round differently in another one.
            vectors = _arrays.rows_of(_arrays.from_host(known, xp, dtype=self._dtype, device=self._operator.device), xp)
        elif self._open is not None and not self._closed:
            combined = self._open.combine(0, coefficients)
            vectors = None if combined is None else straightened(combined, xp, self._operator.reduce)
        if vectors is not None:
            self._vectors = vectors
            self._filling = float(self._open.tridiagonal().alpha[0].mean()) if self._open else 0.0
        return vectors is not None

    def stop_reorthogonalising(self) -> None:
        """Free the basis of the open batch; it goes on, and further batches start, without one."""
        self.reorth = "none"
        if self._open is not None:
            self._open.drop_basis()

    def close(self) -> None:
        """Free the vectors of the open batch and keep its coefficients."""
        if self._open is not None:
            self._closed.append(self._open.tridiagonal())
            self._products += self._open.products
            self._open = None

    def discard(self) -> None:
        """Free the open batch as if it had not been; what it cost counts, and its steps are kept for the worst case."""
        if self._open is not None:
            self._products += self._open.products
            if not self._closed and self._open.steps:
                self._discarded = self._open.tridiagonal()
            self._projected.pop()
            self._records.pop()
            self._open = None

    def tridiagonal(self) -> Tridiagonal | None:
        """Return all complete probes and steps so far, None where there is not one."""
        whole = self._whole
        return concatenate(whole) if whole else self._discarded

    @property
    def _whole(self) -> list[Tridiagonal]:
        """The batches of which every probe has made a step."""
        parts = [*self._closed, *([self._open.tridiagonal()] if self._open else [])]
        return [part for part in parts if part.lengths.size and part.lengths.min() > 0]

    def repeat(self) -> None:
        """Multiply probe 0 once more and see whether its first coefficients come out the same.

        An operator that drifts (another mini-batch, dropout) shows here. With a single probe a second vector goes
        along, for the test of symmetry that several probes give for free.
        """
        T = self.tridiagonal()
        if T is None or self._tested_at == self.products:
            return
        if self.reorth == "none":
            self.close()  # its vectors would stand beside those of the test; without a basis nothing asks for them
        known, count = self._past.tests, 2 if len(T.lengths) == 1 and self._operator.n > 1 else 1
        seen = known.pop(0) if known else self.again(count, T.alpha[0, 0], T.beta[0, 0])
        self._tests.append(seen)
        asymmetry, change, products = seen
        self._products += products
        self._tested_at = self.products
        self.asymmetry = max(self.asymmetry, asymmetry)
        self.repeat_error = change or self.repeat_error

    def again(self, probes: int, alpha: float, beta: float) -> tuple[float, float, int]:
        """Multiply the first probes, times -2, once more.

        Returns asymmetry, the change of the first's coefficients, and products.
        """
        n, doubled = self._operator.n, replace(self._operator, product=partial(_doubled, self._operator.product))
        # A stored matrix is linear, and has a fused step that takes its product apart.
        operator = self._operator if isinstance(self._operator.product, Product) else doubled
        starts = self.starts(range(self._begin, self._begin + probes))
        again = LanczosRun(operator, starts, reorth="none", owned=True)
        again.advance(1)
        new = again.tridiagonal()
        change = np.hypot(new.alpha[0, 0] - alpha, new.beta[0, 0] - beta)
        size = float(np.hypot(alpha, beta)) or 1.0
        # A random error vector of norm e moves these two inner products by e / sqrt(n) each.
        visible = change > 8 * _arrays.epsilon(self._dtype) * size
        return again.asymmetry or 0.0, float(change / size * np.sqrt(n / 2)) if visible else 0.0, again.products

    def _recorded(self, count: int) -> Record:
        """Return the record of the next batch: an empty one, or that of the run that is gone through again."""
        known = self._past.records
        if not known:
            return Record(count, self.reorth)
        if (known[0].probes, known[0].reorth) != (count, self.reorth):
            # So it was when memory ran out: the next try is with fewer probes, or without stored vectors.
            msg = "memory ran out here before"
            raise MemoryError(msg)
        return known.pop(0)

    def _kept(self, count: int) -> Array:
        """Return the first start vectors; of a complex matrix, i times each as well: both tell complex products."""
        rows, xp = self.starts(range(count)), self._operator.xp
        return rows if self._operator.copies == 1 else xp.concat([rows, _arrays.times_i(rows, xp)], axis=0)

    def starts(self, indices: range) -> Array:
        """Return the probes of the given numbers as rows."""
        xp, dtype, n, shards = self._operator.xp, self._dtype, self._operator.n, self._operator.shards
        on_host = _arrays.is_numpy(xp)
        if self._references is not None and indices.stop <= self._referred:  # drawing takes ten times as long
            known = self._references[indices.start : indices.stop, :]
            return np.array(known.T, order="C").T if on_host else xp.asarray(known, copy=True)
        drawn = dtype if on_host else np.float64
        rows = _probes.probes(n, indices, seed=self._seed, kind=self._kind, dtype=drawn, shards=shards)
        if 0 in indices and self._kind == "rademacher":
            # Signs can be orthogonal to an eigenvector; the edges are certified by one probe of the sphere.
            rows[indices.index(0)] = _probes.probe(n, seed=self._seed, index=0, kind="sphere", shards=shards)
        return rows if on_host else _arrays.from_host(rows, xp, dtype=dtype, device=self._operator.device)


def _doubled(product: Multiply, X: Array) -> Array:
    """Return a product from that of -2 X: the same to the bit, where a product is linear and does not overflow."""
    return product(-2 * X) / -2
