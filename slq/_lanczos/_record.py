"""What the steps of one batch gave: enough to go through them again without a product, and then to go on.

A batch that was saved is replayed: its recorded rows take the place of products, so that everything that follows from
them (which probes ended, when the driver stopped, what it deflated) happens again by the same code. With the last row
the Krylov vectors come back, bit for bit. Nothing is known of files here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = Callable[[npt.NDArray[np.intp]], Iterable[npt.NDArray[Any]]]


class Contradiction(ValueError):
    """A record that no run can have left."""


@dataclass(frozen=True, slots=True)
class Record:
    """The steps of one batch.

    Attributes
    ----------
    probes : int
        That it began with.
    reorth : {"full", "none"}
        Whether it began with a basis.
    rows : list of ndarray, shape (active, 2 + references)
        What each step gave: alpha, beta, overlaps of all probes that were active.
    drifts : list of float
        Drift as it was known when the rows were fetched; shorter than `rows` where some were not fetched yet.
    scale, asymmetry, rounding, underflow : float
        As the first step found them.
    dropped : list of int
        The step after which the basis was given up, if it was.
    state : dict
        Arrays that the recurrence goes on from; empty where it cannot.
    stored : callable, optional
        Gives the basis, one block of vectors of the probes asked for after the other.
    """

    probes: int = 0
    reorth: str = "none"
    rows: list[npt.NDArray[Any]] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)
    scale: float = 1.0
    asymmetry: float = 0.0
    rounding: float = 0.0
    underflow: float = 0.0
    dropped: list[int] = field(default_factory=list)
    state: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    stored: Vectors | None = None

    def restore(self, krylov: Any, active: npt.NDArray[np.intp]) -> None:
        """Bring a recurrence, begun from the same start vectors, to where the record ends; forget the vectors."""
        if _form(krylov.state()) != _form(self.state):
            msg = "its vectors are not those of this run"
            raise Contradiction(msg)
        krylov.restore(self.state, () if self.stored is None else self.stored(active))
        self.state.clear()


def _form(state: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Return names, dtypes and shapes but for a third axis, which grows with the steps."""
    return {name: (x.dtype, x.shape[:2]) for name, x in state.items()}


@dataclass(frozen=True, slots=True)
class Past:
    """All that a run has done.

    Attributes
    ----------
    records : list of Record
        Of its batches, in order; the last one may go on.
    tests : list of (float, float, int)
        Asymmetry, change and products of each test of repeatability.
    deflated : ndarray, shape (n, d), optional
        Eigenvectors that are projected out of all batches but the first.
    columns : ndarray, shape (n, m), optional
        The first columns of the matrix, where all are multiplied.
    """

    records: list[Record] = field(default_factory=list)
    tests: list[tuple[float, float, int]] = field(default_factory=list)
    deflated: npt.NDArray[Any] | None = None
    columns: npt.NDArray[Any] | None = None
