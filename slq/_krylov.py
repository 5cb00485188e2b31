"""The Lanczos recurrence of all active probes: from the newest two Krylov vectors and a product to the next.

Everything here stays on the operator's device. The recurrence is in Paige's ordering (1972,
doi:10.1093/imamat/10.3.373).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array, Floats
from slq._basis import Basis, pick

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
    references : array, shape (r, n), optional
        Vectors whose inner products with the Krylov vectors are recorded.

    Attributes
    ----------
    current : array, shape (k, n)
        The newest Krylov vectors, those to be multiplied next.
    """

    __slots__ = ("_accumulator", "_basis", "_beta", "_previous", "_references", "_scale", "_xp", "current")

    def __init__(self, start: Array, xp: Any, *, reorth: bool, references: Array | None = None) -> None:
        device = _arrays.device_of(start)
        self._xp, self._references = xp, references
        self._accumulator = _arrays.accumulator_dtype(xp, device)
        self._basis = Basis(xp) if reorth else None
        self._scale = 1.0
        self.current, self._previous = start, xp.zeros_like(start)
        self._beta = xp.zeros((start.shape[0],), dtype=start.dtype, device=device)

    @property
    def orthogonal(self) -> bool:
        """Whether new vectors are made orthogonal to all earlier ones."""
        return self._basis is not None

    def combine(self, position: int, coefficients: Floats) -> Array | None:
        """Return combinations of one probe's Krylov vectors as rows; None where past vectors are not kept."""
        if self._basis is None:
            return None
        q = self.current
        factors = _arrays.from_host(coefficients, self._xp, dtype=q.dtype, device=_arrays.device_of(q))
        return self._basis.combine(position, factors)

    def drop_basis(self) -> None:
        """Free the past vectors."""
        self._basis = None

    def pair(self) -> tuple[Array, Array, Array]:
        """Return the newest vectors, those before, and what couples them: all that a recurrence goes on from."""
        return self.current, self._previous, self._beta

    def images(self, product: Callable[[Array], Array]) -> Array:
        """Return A times the current vectors, as rows."""
        images = product(self.current)
        return images if self._scale == 1.0 else images * self._scale

    def size(self, images: Array) -> float:
        """Return the largest absolute entry."""
        return float(self._xp.max(self._xp.abs(images)))

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
        w = images - self._beta[:, None] * self._previous
        alpha = self._dot(w, q)
        w = w - _arrays.cast(alpha, dtype, xp)[:, None] * q
        if self._basis is not None:
            self._basis.append(q)
            w, own = self._basis.project_out(w)
            alpha = alpha + _arrays.cast(own, alpha.dtype, xp)
            w, _ = self._basis.project_out(w)
        beta = xp.sqrt(self._dot(w, w))
        columns = [alpha[:, None], beta[:, None]]
        if self._references is not None:
            columns.append(_arrays.cast(xp.matmul(q, self._references.T), alpha.dtype, xp))
        self._beta = _arrays.cast(beta, dtype, xp)
        # Dividing by one instead of an exact zero; a tiny beta is caught on the host and its step cut off there.
        divisor = xp.where(self._beta > 0, self._beta, xp.ones_like(self._beta))
        self._previous, self.current = q, w / divisor[:, None]
        return xp.concat(columns, axis=1)

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        self.current, self._previous, self._beta = (
            pick(x, which, self._xp) for x in (self.current, self._previous, self._beta)
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
        sizes = self._xp.sqrt(self._dot(images, images))
        found = _arrays.to_host(self._xp.concat([gram, sizes[:, None]], axis=1))
        return asymmetry_of(found[:, :-1], found[:, -1], rows.shape[1])

    def _dot(self, a: Array, b: Array) -> Array:
        return self._xp.sum(a * b, axis=-1, dtype=self._accumulator)


def asymmetry_of(gram: Floats, sizes: Floats, n: int) -> float:
    """Estimate |A - A^T|_F / |A|_F from the inner products u^T A v of random unit vectors and the norms |A v|.

    u^T B v has the size |B|_F / n, and |A v| that of |A|_F / sqrt(n).
    """
    difference = (gram - gram.T)[np.triu_indices(len(gram), 1)]
    return float(np.sqrt(n * np.mean(difference**2)) / (sizes.mean() or 1.0))


def unit_rows(rows: Array, xp: Any) -> Array:
    """Return start vectors divided by their norms, which may lie near the ends of the dtype's range."""
    largest = xp.max(xp.abs(rows), axis=-1)
    if not bool(xp.all((largest > 0) & xp.isfinite(largest))):
        msg = "`v` must have finite columns different from zero."
        raise ValueError(msg)
    rows = rows / largest[:, None]  # their squares can neither overflow nor all vanish
    return rows / xp.sqrt(xp.sum(rows * rows, axis=-1))[:, None]
