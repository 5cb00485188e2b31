"""One recurrence over several CUDA devices: each takes its share of the probes, by a thread of its own.

Devices wait for each other by events, the host for none of them. What the caller's stream has in work is done before a
device begins, and what the devices have in work before the caller's stream goes on.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cupy
import numpy as np
import numpy.typing as npt

from slq._lanczos._krylov import PAIRS
from slq_cupy._krylov import Krylov, asymmetry


class Devices:
    """The Krylov vectors of all active probes, shared out over devices; stands in for a `Krylov`.

    Probes are shared out in the order of their numbers. Results come together on the first device.

    Parameters
    ----------
    start : cupy.ndarray, shape (k, n)
        Unit start vectors as rows, on the current device.
    devices : sequence of int
        Numbers of the devices; the first is the current one.
    references : cupy.ndarray, shape (r, n), optional
        Vectors whose inner products with the Krylov vectors are recorded.
    **options
        As for `Krylov`.
    """

    __slots__ = ("_numbers", "_parts", "_pool")

    def __init__(self, start: Any, devices: Sequence[int], *, references: Any = None, **options: Any) -> None:
        shares = [share for share in np.array_split(np.arange(len(start)), len(devices)) if share.size]
        self._numbers = list(devices[: len(shares)])
        self._pool = ThreadPoolExecutor(len(shares), thread_name_prefix="slq_cupy")

        def begin(share: npt.NDArray[np.intp]) -> Krylov:
            rows = start[share[0] : share[-1] + 1]
            return Krylov(rows, references=None if references is None else references.copy(), **options)

        self._parts: list[Krylov] = self._on_each(begin, shares)

    @property
    def orthogonal(self) -> bool:
        """Whether new vectors are made orthogonal to all earlier ones."""
        return self._parts[0].orthogonal

    @property
    def drift(self) -> float:
        """How far A Q is from Q T by what was taken out along coarse vectors; the largest of all devices."""
        drifts: list[float] = self._on_each(lambda part: part.drift, self._parts)
        return max(drifts)

    @property
    def projected(self) -> tuple[int, float, float]:
        """Nothing: what a device does takes no time that could be seen here."""
        return 0, 0.0, 1.0

    def images(self, product: Callable[[Any], Any]) -> list[Any]:
        """Return A times the current vectors, as rows: one array per device."""
        return self._on_each(lambda part: part.images(product), self._parts)

    def size(self, images: list[Any]) -> float:
        """Return the largest absolute entry."""
        sizes: list[float] = self._on_each(lambda part, own: part.size(own), self._parts, images)
        return max(sizes)

    def rescale(self, images: list[Any], factor: float) -> list[Any]:
        """Multiply these images and all that come by a factor."""
        return self._on_each(lambda part, own: part.rescale(own, factor), self._parts, images)

    def step(self, images: list[Any]) -> Any:
        """Go on to the next vectors; return the coefficients of all probes on the first device."""
        return gathered(self._on_each(lambda part, own: part.step(own), self._parts, images))

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions; a device that has none left is done."""
        ends = np.cumsum([len(part.current) for part in self._parts])
        shares = np.split(which, np.searchsorted(which, ends[:-1]))
        shares = [share - first for share, first in zip(shares, [0, *ends[:-1]], strict=True)]
        left = [i for i, share in enumerate(shares) if share.size]
        self._numbers, self._parts = [self._numbers[i] for i in left], [self._parts[i] for i in left]
        self._on_each(lambda part, share: part.keep(share), self._parts, [shares[i] for i in left])

    def combine(self, position: int, coefficients: npt.NDArray[np.float64]) -> None:
        """Return None: further batches would need the combinations on every device at each product."""

    def drop_basis(self) -> None:
        """Free the past vectors."""
        for part in self._parts:
            part.drop_basis()

    def asymmetry(self, images: list[Any]) -> float:
        """Estimate |A - A^T|_F / |A|_F from the first images; 0 for a single probe."""
        rows = gathered([part.current[:PAIRS] for part in self._parts])
        return asymmetry(rows[:PAIRS], gathered([own[:PAIRS] for own in images])[:PAIRS])

    def _on_each(self, function: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
        """Call a function once per device, in its thread, with one element of each argument."""
        here = cupy.cuda.get_current_stream()
        begun = here.record()

        def task(number: int, *own: Any) -> tuple[Any, Any]:
            with cupy.cuda.Device(number):
                stream = cupy.cuda.get_current_stream()
                stream.wait_event(begun)
                return function(*own), stream.record()

        found = list(self._pool.map(task, self._numbers, *arguments))
        for _, ended in found:
            here.wait_event(ended)
        return [result for result, _ in found]


def gathered(parts: list[Any]) -> Any:
    """Return the rows of several devices as one array on the current device."""
    return cupy.concatenate([part.copy() for part in parts])
