"""What can be decided before the first product: how many probes, how many at once, how many steps fit, what policy.

Pure arithmetic on sizes; the driver acts on it and the plan predicts with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slq._lanczos import Reorth

Deflate = Literal["auto", "none"]

# From this dimension on one probe is sample enough; below, two tell simple eigenvalues from multiple ones.
_ONE_PROBE = 1_000_000
# No more columns than this are multiplied at once by default.
_BATCH = 16
# So many start vectors at most are kept to compare the probes' Ritz vectors; multiplicities below it can be told.
_REFERENCES = 8
# Steps that memory must hold for full re-orthogonalisation to be worth it.
_USUAL_STEPS = 40
# Vectors per probe besides the basis: current, previous, product and its operands on the way.
WORK_VECTORS = 6
# What a run cannot do without: the newest two Krylov vectors, and one in the making.
_LEAST_VECTORS = 3
# The basis grows by so many vectors at a time.
BASIS_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Choice:
    """The decisions.

    Attributes
    ----------
    probes : int
        Probes of the first batch, or all where their number is given.
    first_batch : int
        How many of them go at once while the number of steps is open.
    batch : int
        Columns multiplied at once, at most.
    steps : int
        Most steps that memory and dimension allow.
    room : int
        Vectors that memory holds.
    reorth : {"full", "none"}
        Policy to begin with.
    automatic : bool
        Whether the policy may change when projections turn out slow.
    references : int
        Start vectors kept for comparison.
    deflate : {"auto", "none"}
        Whether resolved eigenvectors may be projected out of later probes.
    """

    probes: int
    first_batch: int
    batch: int
    steps: int
    room: int
    reorth: Reorth
    automatic: bool
    references: int
    deflate: Deflate

    def width(self, probes: int, steps: int, reorth: Reorth) -> int:
        """Return how many of `probes` columns can go at once through `steps` steps."""
        return max(1, min(self.batch, probes, (self.room - self.references) // vectors(steps, reorth)))


def choose(
    n: int,
    *,
    probes: int | None,
    steps: int | None,
    first: int | None,
    reorth: Literal["auto", "full", "none"],
    batch: int | Literal["auto"],
    deflate: Deflate,
    room: int,
) -> Choice:
    """Decide what fits into `room` vectors; `first` is the number of probes to begin with where `probes` is open."""
    _require_room(n, room)
    begin = probes or first or (1 if n >= _ONE_PROBE else 2)
    # Independent of the number of probes, so that a run can be extended to what a longer one would have given.
    references = min(n, _REFERENCES if n < _ONE_PROBE else 2) if n > 1 else 0
    if room < references + WORK_VECTORS:
        references = 0
    wanted = min(steps or _USUAL_STEPS, n)
    fits = room - references >= vectors(wanted, "full")
    policy: Reorth = "none" if reorth == "none" or (reorth == "auto" and not fits) else "full"
    at_once = _BATCH if batch == "auto" else batch
    width = max(1, min(begin, at_once, (room - references) // vectors(wanted, policy)))
    most = n if steps is None else wanted
    if steps is None and policy == "full":
        most = max(1, min(n, (room - references) // width - WORK_VECTORS))
    return Choice(begin, width, at_once, most, room, policy, reorth == "auto", references, deflate)


def _require_room(n: int, room: int) -> None:
    """Refuse a limit that is too small for anything."""
    if room < _LEAST_VECTORS:
        least = _LEAST_VECTORS * n / 1e9
        msg = (
            f"`memory` (by default half of what is free) has room for {max(room, 0)} vectors of {n} numbers; one probe "
            f"needs {_LEAST_VECTORS}: {8 * least:.2g} GB in float64, {4 * least:.2g} GB in float32. Raise it, or pass "
            "a float32 operator."
        )
        raise ValueError(msg)


def vectors(steps: int, reorth: Reorth) -> int:
    """Return the vectors that one probe needs for so many steps."""
    return WORK_VECTORS + (-(-steps // BASIS_BLOCK) * BASIS_BLOCK if reorth == "full" else 0)
