"""The Lanczos recurrence on one CUDA device: the core's, in the same order of operations, by fused kernels.

A step without stored vectors reads and writes vectors nine times; separate operations do nineteen times. All
coefficients stay on the device until the core fetches them: no call in a step waits for the device.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import cupy
import numpy as np
import numpy.typing as npt

from slq._lanczos._krylov import PAIRS, asymmetry_of
from slq_cupy._basis import Basis
from slq_cupy._kernels import kernels

# "Twice is enough"; to see whether once would be, the host would have to wait.
_SWEEPS = 2


class Krylov:
    """The newest two Krylov vectors of all active probes, the past ones where they are kept, and the step to the next.

    Parameters
    ----------
    start : cupy.ndarray, shape (k, n)
        Unit start vectors as rows, float32 or float64; copied, from another device if need be.
    reorth : bool
        Whether past vectors are kept and new ones made orthogonal to them.
    references : cupy.ndarray, shape (r, n), optional
        Vectors whose inner products with the Krylov vectors are recorded.
    precision : str, optional
        Name of the dtype that vectors before the newest two are rounded to; none by default. These two are taken out
        to the rounding of `start`, so that T is exact to the square of the coarse rounding.
    """

    __slots__ = (
        "_basis",
        "_beta",
        "_coarse",
        "_drift",
        "_kernels",
        "_previous",
        "_references",
        "_scale",
        "_steps",
        "current",
    )

    def __init__(self, start: Any, *, reorth: bool, references: Any = None, precision: str | None = None) -> None:
        number = start.dtype.name
        self._kernels = kernels(number, number)
        self._basis = Basis(number, precision or number, start.shape[1]) if reorth else None
        self._coarse = reorth and precision not in (None, number)
        self._references, self._scale, self._steps = references, 1.0, 0
        self._drift = cupy.zeros(start.shape[0], dtype=cupy.float64)
        self.current = start.copy(order="C")  # on the current device; the caller's own stays as it is
        self._previous = cupy.zeros_like(self.current)
        self._beta = cupy.zeros(start.shape[0], dtype=cupy.float64)

    @property
    def orthogonal(self) -> bool:
        """Whether new vectors are made orthogonal to all earlier ones."""
        return self._basis is not None

    @property
    def drift(self) -> float:
        """How far A Q is from Q T by what was taken out along coarse vectors: the norm, of all steps. Waits."""
        return float(cupy.sqrt(cupy.max(self._drift))) / self._scale if self._coarse else 0.0

    @property
    def projected(self) -> tuple[int, float, float]:
        """Nothing: what a device does takes no time that could be seen here."""
        return 0, 0.0, 1.0

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return what the recurrence goes on from, but for the past vectors, on the host."""
        return {
            "previous": self._previous.get(),
            "current": self.current.get(),
            "numbers": np.stack([self._beta.get(), self._drift.get()]),
            "constants": np.array([self._scale, self._steps]),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]], stored: Iterable[npt.NDArray[Any]]) -> None:
        """Go on from what `state` gave, and past vectors as `stored` gives them."""
        self._previous, self.current = cupy.asarray(state["previous"]), cupy.asarray(state["current"])
        self._beta, self._drift = (cupy.asarray(x) for x in state["numbers"])
        self._scale, self._steps = float(state["constants"][0]), int(state["constants"][1])
        if self._basis is not None:
            for rows in stored:
                self._basis.restore(rows)

    def stored(self, first: int) -> Iterator[npt.NDArray[Any]]:
        """Give past vectors from the given number on, as they are kept."""
        return iter(()) if self._basis is None else self._basis.stored(first)

    @property
    def kept(self) -> int:
        """Past vectors that are kept, per probe."""
        return 0 if self._basis is None else len(self._basis)

    def images(self, product: Callable[[Any], Any]) -> Any:
        """Return A times the current vectors, as rows."""
        images = cupy.ascontiguousarray(product(self.current))
        return images if self._scale == 1.0 else images * self._scale

    def size(self, images: Any) -> float:
        """Return the largest absolute entry. Waits for the device: asked once, before the first step."""
        return float(cupy.max(cupy.abs(images)))

    def rescale(self, images: Any, factor: float) -> Any:
        """Multiply these images and all that come by a factor."""
        self._scale = factor
        return images * factor

    def step(self, images: Any) -> Any:
        """Go on to the next vectors, given A times the current ones.

        Returns an array of shape (k, 2 + r): alpha, beta, and the current vectors' inner products with the references.
        """
        q, older = self.current, self._previous
        w = older if self._basis is None else cupy.empty_like(q)
        alpha = self._kernels.recur(images, older, q, self._beta, w)
        squares = self._kernels.orthogonalise(w, q, alpha)
        if self._basis is not None:
            for _ in range(_SWEEPS):
                removed = self._basis.project_out(w)
                overlaps = self._kernels.overlaps(w, older, q)
                squares = self._kernels.take_out(w, older, q, overlaps)
                alpha = alpha + overlaps[:, 1]
                if self._coarse:
                    self._drift += removed + overlaps[:, 0] ** 2
            if self._steps > 0:
                self._basis.append(older)
        self._steps += 1
        beta = cupy.sqrt(squares)
        columns = [alpha[:, None], beta[:, None]]
        if self._references is not None:
            columns.append((q @ self._references.T).astype(cupy.float64))
        self._previous, self._beta = q, beta
        self.current = self._kernels.normalise(w, beta)
        return cupy.concatenate(columns, axis=1)

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        rows = cupy.asarray(which)
        self.current, self._previous, self._beta = self.current[rows], self._previous[rows], self._beta[rows]
        self._drift = self._drift[rows]
        if self._basis is not None:
            self._basis.keep(rows)

    def combine(self, position: int, coefficients: npt.NDArray[np.float64]) -> Any:
        """Return combinations of one probe's Krylov vectors as rows; None where past vectors are not kept."""
        if self._basis is None:
            return None
        factors = cupy.asarray(coefficients, dtype=self.current.dtype)
        return factors[:, -1:] * self._previous[position] + self._basis.combine(position, factors[:, :-1])

    def drop_basis(self) -> None:
        """Free the past vectors."""
        self._basis = None

    def asymmetry(self, images: Any) -> float:
        """Estimate |A - A^T|_F / |A|_F from the first images, 0 for a single probe. Waits for the device, once."""
        return asymmetry(self.current[:PAIRS], images[:PAIRS])


def asymmetry(rows: Any, images: Any) -> float:
    """Estimate |A - A^T|_F / |A|_F from a few random unit vectors and A times them; 0 for less than two."""
    if len(rows) < 2:
        return 0.0
    gram = (rows @ images.T).astype(cupy.float64)
    sizes = cupy.sqrt((images * images).sum(axis=1, dtype=cupy.float64))
    found = cupy.concatenate([gram, sizes[:, None]], axis=1).get()
    return asymmetry_of(found[:, :-1], found[:, -1], rows.shape[1])
