"""The Lanczos recurrence of vectors in the host's memory, NumPy's or torch's: as `_krylov`, in place and compiled.

Three buffers of k rows take turns, four with a basis; nothing is allocated from step to step but the blocks of the
basis. The newest two vectors stay in the run's own dtype and new ones are made orthogonal to them to its rounding,
however coarsely older ones are kept: so T is exact to the square of the coarse rounding (Simon 1984,
doi:10.1090/S0025-5718-1984-0725988-X). A second sweep is made only where the first one removed much beside what it
left (Daniel, Gragg, Kaufman & Stewart 1976,
doi:10.1090/S0025-5718-1976-0431641-8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array, Floats
from slq._kernels._sweeps import Rows, sweeps_for
from slq._lanczos._basis import Storage
from slq._lanczos._host_basis import HostBasis
from slq._lanczos._krylov import PAIRS, asymmetry_of
from slq._lanczos._loss import Loss
from slq._shards import Shards, whole

# What a sweep may remove, as a share of what it leaves, both squared, without another one: its own errors are then a
# hundredth of a rounding of what is left.
_MUCH = 1e-4
# Roundings that may be left along the newest two vectors.
_LEFT = 4.0
# Share of a squared norm that may be taken off it: half a bit of it is lost at most.
_FAR = 0.25
# Vectors that a step passes over without a basis, and with one in the middle of a usual run.
_PASSED, _PASSED_WITH_BASIS = 8, 40


class NotFiniteError(ArithmeticError):
    """The images of the probes at these `positions` are not finite; the recurrence stays where it was."""

    def __init__(self, positions: list[int]) -> None:
        super().__init__(positions)
        self.positions = positions


class HostKrylov:
    """The newest two Krylov vectors of all active probes, and the step to the next; stands in for a `Krylov`.

    Parameters
    ----------
    start : array, shape (k, n)
        Unit start vectors as rows, of NumPy or of torch on the CPU.
    xp : module
        Their namespace.
    storage : Storage, optional
        How past vectors are kept; they are not by default.
    references : array, shape (r, n), optional
        Vectors whose inner products with the Krylov vectors are recorded.
    owned : bool, default False
        Whether `start` may be overwritten.
    shards : Shards, optional
        Which rows of vectors are here, where not all are: n is that of the local rows then.
    """

    __slots__ = (
        "_alpha",
        "_basis",
        "_beta",
        "_coarse",
        "_drift",
        "_ended",
        "_loss",
        "_references",
        "_rows",
        "_scale",
        "_shards",
        "_steps",
        "_strangers",
        "_sweeps",
        "_xp",
    )

    def __init__(
        self,
        start: Array,
        xp: Any,
        *,
        storage: Storage | None = None,
        references: Array | None = None,
        owned: bool = False,
        shards: Shards | None = None,
    ) -> None:
        rows, self._xp, self._scale, self._steps = _arrays.host_view(start), xp, 1.0, 0
        usable = owned and rows.flags.c_contiguous and rows.flags.writeable
        numbers = rows.size * (_PASSED if storage is None else _PASSED_WITH_BASIS)
        self._sweeps = sweeps_for(numbers)
        self._shards = shards or whole(rows.shape[1])
        self._basis = None if storage is None else HostBasis(storage, self._sweeps, self._shards)
        self._coarse = storage is not None and storage.name(rows.dtype) != rows.dtype.name
        sparing = storage is not None and storage.sparing and not self._coarse
        self._loss = Loss(len(rows), float(np.finfo(rows.dtype).eps)) if sparing else None
        # The vectors before the newest, the newest, and two in the making.
        empty = [np.empty(rows.shape, rows.dtype) for _ in range(1 if storage is None else 2)]
        self._rows = [np.zeros(rows.shape, rows.dtype), rows if usable else rows.copy(order="C"), *empty]
        self._beta, self._drift, self._strangers = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
        self._ended, self._alpha = np.zeros(len(rows), dtype=bool), np.zeros(len(rows))
        self._references = None if references is None else _arrays.host_view(references)

    @property
    def orthogonal(self) -> bool:
        """Whether new vectors are made orthogonal to all earlier ones."""
        return self._basis is not None

    @property
    def current(self) -> Array:
        """The newest Krylov vectors as rows, shape (k, n)."""
        return _arrays.from_view(self._rows[1], self._xp)

    @property
    def drift(self) -> float:
        """How far A Q is from Q T by what was taken out along coarsely stored vectors; the norm, of all steps."""
        return float(np.sqrt(self._drift.max(initial=0.0))) / self._scale

    @property
    def strangers(self) -> float:
        """Largest inner product of an image with a vector before that should have been zero or known, of all steps."""
        return float(np.sqrt(self._strangers.max(initial=0.0)))

    @property
    def projected(self) -> tuple[int, float, float]:
        """Bytes that projections have read, seconds that they took, and the share of steps that needed them."""
        basis = self._basis
        if basis is None:
            return 0, 0.0, 0.0
        return basis.bytes_read, basis.seconds, 1.0 if self._loss is None else self._loss.share

    def pair(self) -> tuple[Array, Array, Array]:
        """Return the newest vectors, those before, and what couples them: all that a recurrence goes on from."""
        return self._rows[1], self._rows[0], self._beta

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return what the recurrence goes on from, but for the past vectors."""
        numbers = np.stack([self._beta, self._drift, *([] if self._shards.whole else [self._alpha])])
        previous, current = self._rows[:2]
        constants = np.array([self._scale, self._steps])
        own = {"previous": previous, "current": current, "numbers": numbers, "constants": constants}
        own["strangers"] = np.stack([self._strangers, self._ended])
        return own if self._loss is None else own | self._loss.state()

    def restore(self, state: Mapping[str, npt.NDArray[Any]], stored: Iterable[Rows]) -> None:
        """Go on from what `state` gave, and past vectors as `stored` gives them."""
        self._rows[:2] = state["previous"], state["current"]
        self._beta, self._drift, *more = state["numbers"]
        self._alpha = more[0] if more else np.zeros_like(self._beta)
        self._strangers, self._ended = state["strangers"][0], state["strangers"][1] > 0
        self._scale, self._steps = float(state["constants"][0]), int(state["constants"][1])
        if self._loss is not None:
            self._loss.restore(state)
        if self._basis is not None:
            for rows in stored:
                self._basis.restore(rows)

    def stored(self, first: int) -> Iterator[Rows]:
        """Give past vectors from the given number on, as they are kept."""
        return iter(()) if self._basis is None else self._basis.stored(first)

    @property
    def kept(self) -> int:
        """Past vectors that are kept, per probe."""
        return 0 if self._basis is None else len(self._basis)

    def images(self, product: Callable[[Array], Array]) -> Rows:
        """Return A times the current vectors, as rows."""
        images: Rows = _arrays.host_view(product(self.current))
        return images if self._scale == 1.0 else self.rescale(images, self._scale)

    def size(self, images: Rows) -> float:
        """Return the largest absolute entry; of several shards the sum of each one's, which is near enough."""
        largest = np.maximum(images.max(), -images.min()) if images.size else 0.0
        return float(self._shards.total(float(largest))[0])

    def rescale(self, images: Rows, factor: float) -> Rows:
        """Multiply these images and all that come by a factor."""
        self._scale = factor
        return np.asarray(images * images.dtype.type(factor))

    # What overflows becomes a coefficient that is not finite, which the run tells of; NumPy need not warn as well.
    @np.errstate(over="ignore", invalid="ignore", under="ignore")
    def step(self, images: Rows, *, strict: bool = True) -> Floats:
        """Go on to the next vectors, given A times the current ones.

        Returns an array of shape (k, 2 + r): alpha, beta, and the current vectors' inner products with the references.
        Raises NotFiniteError, having changed nothing, where images are not finite, if `strict`.
        """
        older, q, w, *spare = self._rows
        coupled, held = self._coupled if self._shards.whole else self._coupled_by_one_sum, self._alpha
        alpha, overlaps, (back, own, squares) = coupled(images, w)
        if strict and not (finite := np.isfinite(alpha)).all():
            self._alpha = held
            raise NotFiniteError(np.flatnonzero(~finite).tolist())
        terms = self._terms
        due = self._loss is None or self._loss.grows(alpha, np.sqrt(squares), np.stack([back, own]))
        size = self._beta + np.abs(alpha) + np.sqrt(squares)
        # Beyond an invariant space vectors are rounding, and what they couple to tells nothing of A.
        self._ended |= (self._steps > 0) & ~(self._beta > np.sqrt(np.finfo(w.dtype).eps) * size)
        # Where a coupling is small, what is left of the one before is rounding that it magnified.
        strange = (back * self._beta / np.where(size > 0, size, 1.0)) ** 2
        if self._basis is not None and due:
            for sweep in range(2):
                removed = self._basis.project_out(w)
                if self._loss is not None and sweep == 0 and removed is not None:
                    self._loss.cleared(np.sqrt(removed / np.where(squares > 0, squares, 1.0)))
                taken = back**2 + (0.0 if removed is None else removed)
                if sweep == 0 and (self._loss is None or self._loss.clean):
                    strange = taken
                self._drift += taken * self._coarse
                alpha, removed = alpha + own, taken + own**2
                back, own, squares = terms(w, older, q, np.stack([back, own]), spare[0])
                w, spare = spare[0], [w]
                if sweep == 1 or not np.any(removed > _MUCH * squares):
                    break
            # What coarse vectors took out has parts along the newest two.
            if self._coarse and np.any(back**2 + own**2 > (_LEFT * np.finfo(w.dtype).eps) ** 2 * squares):
                alpha, squares = alpha + own, terms(w, older, q, np.stack([back, own]), spare[0])[2]
                w, spare = spare[0], [w]
        self._strangers = np.where(self._ended, self._strangers, np.maximum(self._strangers, strange))
        if self._basis is not None and self._steps > 0:
            self._basis.append(older)
        beta = np.sqrt(squares)
        # Dividing by one instead of an exact zero; a tiny beta is caught on the host and its step cut off there.
        w /= np.where(beta > 0, beta, 1.0).astype(w.dtype)[:, None]
        self._beta, self._steps = beta, self._steps + 1
        self._rows = [q, w, older, *spare]
        return np.stack([alpha, beta, *overlaps], axis=1)

    def _coupled(self, images: Rows, w: Rows) -> tuple[Floats, Floats, Floats]:
        """Write what the newest two leave of the images; return alpha, overlaps, and inner products of what is left.

        These are with the vectors before, with the newest, and with itself.
        """
        older, q = self._rows[:2]
        first = self._sweeps.three_terms(images, older, q, np.stack([self._beta, np.zeros_like(self._beta)]), w)[1:2]
        alpha, *overlaps = self._shards.reduce(self._with_overlaps(first))
        return alpha, np.array(overlaps), self._terms(images, older, q, np.stack([self._beta, alpha]), w)

    def _coupled_by_one_sum(self, images: Rows, w: Rows) -> tuple[Floats, Floats, Floats]:
        """Do the same with one sum over ranks, where alpha is near that of the step before.

        With that one taken out what is left of alpha is small, and so is what it adds to the norm: that can be taken
        off without losing digits. Where it is not small, norms are summed after it is out.
        """
        older, q = self._rows[:2]
        parts = self._sweeps.three_terms(images, older, q, np.stack([self._beta, self._alpha]), w)
        back, own, squares, *overlaps = self._shards.reduce(self._with_overlaps(parts))
        self._alpha = self._alpha + own
        if np.any(own**2 > _FAR * squares):
            left = self._terms(images, older, q, np.stack([self._beta, self._alpha]), w)
        else:
            nothing = np.zeros_like(own)
            self._sweeps.three_terms(w, older, q, np.stack([nothing, own]), w)
            left = np.stack([back, nothing, squares - own**2])
        return self._alpha, np.array(overlaps), left

    def _with_overlaps(self, parts: Floats) -> Floats:
        """Add the newest vectors' inner products with the references, if there are any."""
        if self._references is None:
            return parts
        return np.concatenate([parts, np.matmul(self._references, self._rows[1].T)])

    def _terms(self, x: Rows, older: Rows, newer: Rows, factors: Floats, out: Rows) -> Floats:
        """Write the three terms of the rows that are here; return the sums of all."""
        return np.asarray(self._shards.reduce(self._sweeps.three_terms(x, older, newer, factors, out)))

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        self._rows = [rows[which] for rows in self._rows]
        for name in ("_alpha", "_beta", "_drift", "_strangers", "_ended"):
            setattr(self, name, getattr(self, name)[which])
        if self._loss is not None:
            self._loss.keep(which)
        if self._basis is not None:
            self._basis.keep(which)

    def combine(self, position: int, coefficients: Floats) -> Array | None:
        """Return combinations of one probe's Krylov vectors as rows; None where past vectors are not kept."""
        if self._basis is None:
            return None
        newest, dtype = self._rows[0][position], self._rows[0].dtype
        total = coefficients[:, -1:].astype(dtype) * newest
        past = self._basis.combine(position, coefficients[:, :-1], dtype)
        return _arrays.from_view(total if past is None else total + past, self._xp)

    def drop_basis(self) -> None:
        """Free the past vectors."""
        self._basis, self._loss, self._rows = None, None, self._rows[:3]

    @np.errstate(over="ignore", invalid="ignore")
    def asymmetry(self, images: Rows) -> float:
        """Estimate |A - A^T|_F / |A|_F, given A times the current random vectors; 0 for a single probe."""
        k = min(len(images), PAIRS)
        if k < 2:
            return 0.0
        gram = np.matmul(self._rows[1][:k], images[:k].T).astype(np.float64)
        squares = np.square(images[:k]).sum(axis=1, dtype=np.float64, keepdims=True)
        found = self._shards.reduce(np.concatenate([gram, squares], axis=1))
        return asymmetry_of(found[:, :-1], np.sqrt(found[:, -1]), self._shards.n)
