"""The Lanczos recurrence of all active probes: from the newest two Krylov vectors and a product to the next.

Everything here stays on the operator's device. The recurrence is in Paige's ordering (1972,
doi:10.1093/imamat/10.3.373).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array, Floats
from slq._lanczos._basis import Basis, pick
from slq._shards import Shards, whole

# "Twice is enough"; to see whether once would be takes a copy to the host.
_SWEEPS = 2
# Symmetry is tested on all pairs among this many probes.
PAIRS = 4


class Krylov:
    """The newest two Krylov vectors of all active probes, the past ones where they are kept, and the step to the next.

    Parameters
    ----------
    start : array, shape (k, n)
        Unit start vectors as rows.
    xp : module
        Array namespace.
    reorth : bool
        Whether past vectors are kept and new ones made orthogonal to them.
    precision : str, optional
        Name of the dtype that vectors before the newest two are rounded to; none by default.
    references : array, shape (r, n), optional
        Vectors whose inner products with the Krylov vectors are recorded.
    shards : Shards, optional
        Which rows of vectors are here, where not all are: n is that of the local rows then.

    Attributes
    ----------
    current : array, shape (k, n)
        The newest Krylov vectors, those to be multiplied next.
    """

    __slots__ = (
        "_accumulator",
        "_basis",
        "_beta",
        "_coarse",
        "_drift",
        "_ended",
        "_previous",
        "_references",
        "_scale",
        "_shards",
        "_steps",
        "_strangers",
        "_xp",
        "current",
    )

    def __init__(
        self,
        start: Array,
        xp: Any,
        *,
        reorth: bool,
        precision: str | None = None,
        references: Array | None = None,
        shards: Shards | None = None,
    ) -> None:
        device = _arrays.device_of(start)
        self._xp, self._references = xp, references
        self._shards = shards or whole(start.shape[1])
        self._accumulator = _arrays.accumulator_dtype(xp, device)
        self._coarse = precision is not None and precision != _arrays.dtype_name(start.dtype)
        self._basis = Basis(xp, precision if self._coarse else None, self._shards) if reorth else None
        self._scale, self._steps = 1.0, 0
        self.current, self._previous = start, xp.zeros_like(start)
        self._beta = xp.zeros((start.shape[0],), dtype=start.dtype, device=device)
        self._drift = xp.zeros((start.shape[0],), dtype=start.dtype, device=device)
        self._strangers = xp.zeros((start.shape[0],), dtype=start.dtype, device=device)
        self._ended = xp.zeros((start.shape[0],), dtype=xp.bool, device=device)

    @property
    def orthogonal(self) -> bool:
        """Whether new vectors are made orthogonal to all earlier ones."""
        return self._basis is not None

    def combine(self, position: int, coefficients: Floats) -> Array | None:
        """Return combinations of one probe's Krylov vectors as rows; None where past vectors are not kept."""
        if self._basis is None:
            return None
        newest = self._previous[position, :]
        factors = _arrays.from_host(coefficients, self._xp, dtype=newest.dtype, device=_arrays.device_of(newest))
        total = factors[:, -1:] * newest
        past = self._basis.combine(position, factors[:, :-1])
        return total if past is None else total + past

    @property
    def drift(self) -> float:
        """How far A Q is from Q T by what was taken out along coarsely stored vectors; the norm, of all steps."""
        return float(self._xp.max(self._xp.sqrt(self._drift))) / self._scale if self._coarse else 0.0

    @property
    def strangers(self) -> float:
        """Largest inner product of an image with a vector before that should have been zero or known, of all steps."""
        return float(self._xp.max(self._xp.sqrt(self._strangers))) if self._strangers.shape[0] else 0.0

    @property
    def projected(self) -> tuple[int, float, float]:
        """Nothing: what a device does takes no time that could be seen here; it is done at every step."""
        return 0, 0.0, 1.0

    def drop_basis(self) -> None:
        """Free the past vectors."""
        self._basis = None

    def pair(self) -> tuple[Array, Array, Array]:
        """Return the newest vectors, those before, and what couples them: all that a recurrence goes on from."""
        return self.current, self._previous, self._beta

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return what the recurrence goes on from, but for the past vectors, on the host."""
        xp = self._xp
        numbers = [self._beta, self._drift, self._strangers, _arrays.cast(self._ended, self._beta.dtype, xp)]
        return {
            "previous": _arrays.to_host_exactly(self._previous),
            "current": _arrays.to_host_exactly(self.current),
            "numbers": np.stack([_arrays.to_host(x) for x in numbers]),
            "constants": np.array([self._scale, self._steps]),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]], stored: Iterable[npt.NDArray[Any]]) -> None:
        """Go on from what `state` gave, and past vectors as `stored` gives them."""
        dtype, device = self.current.dtype, _arrays.device_of(self.current)
        placed = partial(_arrays.from_host, xp=self._xp, dtype=dtype, device=device)
        self._previous, self.current = placed(state["previous"]), placed(state["current"])
        self._beta, self._drift, self._strangers, ended = map(placed, state["numbers"])
        self._ended = ended > 0
        self._scale, self._steps = float(state["constants"][0]), int(state["constants"][1])
        if self._basis is not None:
            for rows in stored:
                self._basis.restore(rows, device)

    def stored(self, first: int) -> Iterator[npt.NDArray[Any]]:
        """Give past vectors from the given number on, as they are kept."""
        return iter(()) if self._basis is None else self._basis.stored(first)

    @property
    def kept(self) -> int:
        """Past vectors that are kept, per probe."""
        return 0 if self._basis is None else len(self._basis)

    def images(self, product: Callable[[Array], Array]) -> Array:
        """Return A times the current vectors, as rows."""
        images = product(self.current)
        return images if self._scale == 1.0 else images * self._scale

    def size(self, images: Array) -> float:
        """Return the largest absolute entry; of several shards the sum of each one's, which is near enough."""
        return self._shards.largest(images, self._xp)

    def rescale(self, images: Array, factor: float) -> Array:
        """Multiply these images and all that come by a factor."""
        self._scale = factor
        return images * factor

    # What overflows becomes a coefficient that is not finite, which the run tells of; NumPy need not warn as well.
    @np.errstate(over="ignore", invalid="ignore")
    def step(self, images: Array) -> Array:
        """Go on to the next vectors, given A times the current ones.

        Returns an array of shape (k, 2 + r): alpha, beta, and the current vectors' inner products with the references.
        """
        xp, q, dtype = self._xp, self.current, self.current.dtype
        older = self._previous
        w = images - self._beta[:, None] * older
        alpha = self._sums(self._dot(w, q))
        w = w - _arrays.cast(alpha, dtype, xp)[:, None] * q
        if self._basis is not None:
            for sweep in range(_SWEEPS):
                w, removed = self._basis.project_out(w)
                # The newest two are kept in full and taken out to rounding, however coarse the others are.
                taken = self._sums(xp.stack([self._dot(w, x) for x in (older, q)]))
                back, own = (_arrays.cast(taken[i, :], dtype, xp) for i in (0, 1))
                w = w - back[:, None] * older - own[:, None] * q
                alpha = alpha + _arrays.cast(own, alpha.dtype, xp)
                taken = back * back + (0.0 if removed is None else removed)
                if sweep == 0 and self._steps > 0:
                    # Beyond an invariant space vectors are rounding, and what they couple to tells nothing of A.
                    size = self._beta + xp.abs(_arrays.cast(alpha, dtype, xp))
                    self._ended = self._ended | ~(self._beta > _arrays.epsilon(dtype) ** 0.5 * size)
                    more = (taken > self._strangers) & ~self._ended
                    self._strangers = xp.where(more, taken, self._strangers)
                if self._coarse:
                    self._drift = self._drift + taken
            if self._steps > 0:
                self._basis.append(older)
        self._steps += 1
        sums = [self._dot(w, w)[:, None]]
        if self._references is not None:
            sums.append(_arrays.cast(xp.matmul(q, self._references.T), alpha.dtype, xp))
        summed = self._sums(xp.concat(sums, axis=1))
        beta = xp.sqrt(summed[:, 0])
        self._beta = _arrays.cast(beta, dtype, xp)
        # Dividing by one instead of an exact zero; a tiny beta is caught on the host and its step cut off there.
        divisor = xp.where(self._beta > 0, self._beta, xp.ones_like(self._beta))
        self._previous, self.current = q, w / divisor[:, None]
        return xp.concat([alpha[:, None], beta[:, None], summed[:, 1:]], axis=1)

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        self.current, self._previous, self._beta = (
            pick(x, which, self._xp) for x in (self.current, self._previous, self._beta)
        )
        self._drift, self._strangers, self._ended = (
            pick(x, which, self._xp) for x in (self._drift, self._strangers, self._ended)
        )
        if self._basis is not None:
            self._basis.keep(which)

    @np.errstate(over="ignore", invalid="ignore")
    def asymmetry(self, images: Array) -> float:
        """Estimate |A - A^T|_F / |A|_F, given A times the current random vectors; 0 for a single probe."""
        k = min(images.shape[0], PAIRS)
        if k < 2:
            return 0.0
        rows, images = self.current[:k, :], images[:k, :]
        gram = _arrays.cast(self._xp.matmul(rows, images.T), self._accumulator, self._xp)
        squares = self._dot(images, images)
        found = _arrays.to_host(self._sums(self._xp.concat([gram, squares[:, None]], axis=1)))
        return asymmetry_of(found[:, :-1], np.sqrt(found[:, -1]), self._shards.n)

    def _dot(self, a: Array, b: Array) -> Array:
        """Return inner products of the rows that are here."""
        return self._xp.sum(a * b, axis=-1, dtype=self._accumulator)

    def _sums(self, parts: Array) -> Array:
        """Return the sums over ranks of what each has for the rows that it holds."""
        return self._shards.reduce(parts)


def asymmetry_of(gram: Floats, sizes: Floats, n: int) -> float:
    """Estimate |A - A^T|_F / |A|_F from the inner products u^T A v of random unit vectors and the norms |A v|.

    u^T B v has the size |B|_F / n, and |A v| that of |A|_F / sqrt(n).
    """
    difference = (gram - gram.T)[np.triu_indices(len(gram), 1)]
    return float(np.sqrt(n * np.mean(difference**2)) / (sizes.mean() or 1.0))


def unit_rows(rows: Array, xp: Any, shards: Shards | None = None, *, name: str = "v") -> Array:
    """Return start vectors divided by their norms, which may lie near the ends of the dtype's range."""
    shards = shards or whole(rows.shape[1])
    largest = xp.max(xp.abs(rows), axis=-1) if rows.shape[1] else xp.sum(rows, axis=-1)
    largest = shards.reduce(largest)  # of several shards at most so many times too large
    if not bool(xp.all((largest > 0) & xp.isfinite(largest))):
        msg = f"`{name}` must have finite columns different from zero."
        raise ValueError(msg)
    rows = rows / largest[:, None]  # their squares can neither overflow nor all vanish
    squares = xp.abs(rows) ** 2 if _arrays.is_complex(rows.dtype) else rows * rows
    return rows / xp.sqrt(shards.reduce(xp.sum(squares, axis=-1)))[:, None]
