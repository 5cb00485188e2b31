"""Lanczos on B^-1 A in the inner product x^T B y: stands in for a `Krylov` where an operator is a pencil.

With z = B v, a step is w = A v - beta z' - alpha z, v'' = B^-1 w / beta'', beta''^2 = w^T B^-1 w: no product with B
beyond those that make w orthogonal to past vectors, w - B V V^T w.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array, Floats
from slq._lanczos._basis import pick
from slq._lanczos._krylov import PAIRS, asymmetry_of
from slq._operators._operators import Operator, image_rows

_SWEEPS = 2


class PencilKrylov:
    """The newest Krylov vectors of all active probes in the coordinates of the pencil, and the step to the next.

    Parameters
    ----------
    start : array, shape (k, n)
        Unit start vectors g as rows; v = B^-1/2 g.
    A, B : Operator
        The pencil.
    solve, root : callable
        Blocks times B^-1, and times B^1/2.
    reorth : bool
        Whether past vectors are kept and new ones made orthogonal to them.
    references : array, shape (r, n), optional
        Vectors like `start` whose inner products with the Krylov vectors are recorded.
    """

    __slots__ = ("_A", "_B", "_beta", "_dual", "_older", "_past", "_references", "_root", "_scale", "_solve", "_v")

    drift, projected = 0.0, (0, 0.0, 1.0)

    def __init__(
        self,
        start: Array,
        A: Operator,
        B: Operator,
        solve: Callable[[Array], Array],
        root: Callable[[Array], Array],
        *,
        reorth: bool,
        references: Array | None,
    ) -> None:
        self._A, self._B, self._solve, self._root, self._scale = A, B, solve, root, 1.0
        self._dual = self._rows(root, start)
        self._v = self._rows(solve, self._dual)
        self._older = A.xp.zeros_like(start)
        self._beta = A.xp.sum(self._older, axis=-1)
        self._past: list[Array] | None = [] if reorth else None
        self._references = None if references is None else self._rows(root, references)

    @property
    def orthogonal(self) -> bool:
        """Whether new vectors are made orthogonal to all earlier ones."""
        return self._past is not None

    @property
    def current(self) -> Array:
        """The newest Krylov vectors of the symmetric operator, B^1/2 v, as rows."""
        return self._rows(self._root, self._v)

    def images(self, _: Any) -> Array:
        """Return A times the current vectors, as rows."""
        return _arrays.cast(image_rows(self._A, self._v), self._v.dtype, self._A.xp) * self._scale

    def size(self, images: Array) -> float:
        """Return the largest absolute entry."""
        return float(self._A.xp.max(self._A.xp.abs(images)))

    def rescale(self, images: Array, factor: float) -> Array:
        """Multiply these images and all that come by a factor."""
        self._scale = factor
        return images * factor

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, images: Array) -> Array:
        """Go on to the next vectors; return alpha, beta and inner products with the references, shape (k, 2 + r)."""
        xp, v, z = self._A.xp, self._v, self._dual
        w = images - self._beta[:, None] * self._older
        alpha = xp.sum(w * v, axis=-1)
        w = w - alpha[:, None] * z
        if self._past is not None:
            self._past.append(v)
            for _ in range(_SWEEPS):
                total = xp.zeros_like(w)
                for vector in self._past:
                    total = total + xp.sum(vector * w, axis=-1)[:, None] * vector
                w = w - _arrays.cast(image_rows(self._B, total), w.dtype, xp)
        image = self._rows(self._solve, w)
        square = xp.sum(w * image, axis=-1)
        beta = xp.sqrt(xp.where(square < 0, xp.zeros_like(square), square))  # NaN stays, and is told of
        columns = [alpha[:, None], beta[:, None]]
        if self._references is not None:
            columns.append(xp.matmul(v, self._references.T))
        divisor = xp.where(beta > 0, beta, xp.ones_like(beta))[:, None]
        self._older, self._dual, self._v, self._beta = z, w / divisor, image / divisor, beta
        return xp.concat(columns, axis=1)

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        xp = self._A.xp
        self._v, self._dual, self._older, self._beta = (
            pick(x, which, xp) for x in (self._v, self._dual, self._older, self._beta)
        )
        if self._past is not None:
            self._past = [pick(x, which, xp) for x in self._past]

    def combine(self, position: int, coefficients: Floats) -> Array | None:
        """Return combinations of one probe's Krylov vectors as rows; None where they are not kept."""
        if self._past is None:
            return None
        xp = self._A.xp
        vectors = xp.stack([x[position, :] for x in self._past])
        factors = _arrays.from_host(coefficients, xp, dtype=vectors.dtype, device=_arrays.device_of(vectors))
        return self._rows(self._root, xp.matmul(factors, vectors))

    def drop_basis(self) -> None:
        """Free the past vectors."""
        self._past = None

    def asymmetry(self, images: Array) -> float:
        """Estimate |C - C^T|_F / |C|_F, given A times the current vectors; 0 for a single probe."""
        k, xp = min(images.shape[0], PAIRS), self._A.xp
        if k < 2:
            return 0.0
        images = images[:k, :]
        gram = _arrays.to_host(xp.matmul(self._v[:k, :], images.T))
        squares = _arrays.to_host(xp.sum(images * self._rows(self._solve, images), axis=-1))
        return asymmetry_of(gram, np.sqrt(np.maximum(squares, 0.0)), images.shape[1])

    def _rows(self, function: Callable[[Array], Array], rows: Array) -> Array:
        """Apply a function of column blocks to rows, in the operators' dtype."""
        xp = self._A.xp
        block = function(_arrays.cast(rows, self._A.dtype, xp).T)
        return _arrays.cast(_arrays.rows_of(block, xp), rows.dtype, xp)
