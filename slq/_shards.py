"""Which rows of all vectors are here, and how the small sums of all ranks are added: all that a run needs of others.

One process holds all rows, and then a sum is its own: the same code serves one process and thousands. Every decision
follows from sums, so that all ranks take it alike. Nothing is known of how ranks talk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from slq._arrays import Array, Floats
from slq._errors import RunError

# Takes a small array, of NumPy or of the operator's library, and returns its sum over ranks, of the same kind.
Reduce = Callable[[Array], Array]
# Integers are compared in pieces whose sums of squares are exact in float64.
_PIECE, _PIECES = 16, 8


def own(x: Array) -> Array:
    """Return the sum over the only rank there is."""
    return x


@dataclass(frozen=True, slots=True)
class Shards:
    """The rows of all vectors that this rank holds.

    Attributes
    ----------
    n : int
        Rows that all ranks hold together.
    rows : tuple of range
        The numbers of those that are here, ascending, in the order of the local vectors.
    reduce : callable
        Sums a small array over ranks.
    """

    n: int
    rows: tuple[range, ...]
    reduce: Reduce = own

    @property
    def local(self) -> int:
        """Number of rows that are here."""
        return sum(len(part) for part in self.rows)

    @property
    def whole(self) -> bool:
        """Whether all rows are here and nobody else has any."""
        return self.reduce is own

    def total(self, *numbers: float) -> Floats:
        """Return the sums of some numbers over ranks."""
        return np.asarray(self.reduce(np.array(numbers, dtype=np.float64)))

    def largest(self, x: Array, xp: Any) -> float:
        """Return the largest absolute entry; of several shards the sum of each one's, which is near enough."""
        return float(self.total(float(xp.max(xp.abs(x))) if 0 not in x.shape else 0.0)[0])

    def mean(self, *numbers: float) -> Floats:
        """Return the means of some numbers over ranks."""
        sums = self.total(*numbers, 1.0)
        return np.asarray(sums[:-1] / sums[-1])

    def any(self, *flags: bool) -> list[bool]:
        """Tell of each flag whether it is up on any rank."""
        return [bool(count) for count in self.total(*map(float, flags))]

    def asked(self, question: Callable[[], object]) -> bool:
        """Tell whether the answer is True on any rank; where it raises on one, raise on all."""
        answer, error = False, None
        try:
            answer = question() is True
        except Exception as raised:
            error = raised
        answer, failed = self.any(answer, error is not None)
        if error is not None:
            raise error
        if failed:
            msg = "`callback` raised on another rank, whose own message says what."
            raise RunError(msg)
        return answer

    def numbers(self) -> Any:
        """Return the numbers of the rows that are here, shape (local,)."""
        return np.concatenate([np.arange(part.start, part.stop) for part in self.rows] or [np.zeros(0, dtype=np.intp)])

    def checked(self) -> Shards:
        """Refuse rows that are not in order, or that all ranks together do not hold once each."""
        bad = any(part.step != 1 or part.start < 0 or part.stop > self.n for part in self.rows) or any(
            before.stop > after.start for before, after in pairwise(self.rows)
        )
        count, wrong = self.total(self.local, bad)
        if wrong or count != self.n:
            msg = (
                f"`rows` of an operator must be ascending ranges that all ranks together fill once: {self.n} rows in "
                f"all, got {int(count)}; here {self.rows}."
            )
            raise ValueError(msg)
        return self

    def same(self, name: str, number: int) -> int:
        """Return a number below 2**128, refused where ranks were given different ones."""
        pieces = _pieces(number)
        mean, square = np.split(self.mean(*pieces, *(piece**2 for piece in pieces)), 2)
        if np.any(mean**2 != square):
            msg = f"`{name}` differs between ranks; here it is {number}. Pass the same on all."
            raise ValueError(msg)
        return number

    def mixed(self, number: int) -> int:
        """Return one number below 2**128 for all ranks, made of random ones that they drew."""
        sums = self.total(*_pieces(number))
        return sum(int(piece) % (1 << _PIECE) << (_PIECE * i) for i, piece in enumerate(sums))


def whole(n: int) -> Shards:
    """Return all rows of n, on the only rank."""
    return Shards(n, (range(n),))


def _pieces(number: int) -> list[float]:
    return [float(number >> (_PIECE * i) & ((1 << _PIECE) - 1)) for i in range(_PIECES)]
