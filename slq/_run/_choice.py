"""What can be decided before the first product: how many probes, how many at once, how many steps fit, what policy.

Pure arithmetic on sizes; the driver acts on it and the plan predicts with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from slq._kernels import _scratch
from slq._lanczos._basis import Precision, Storage
from slq._lanczos._lanczos import Reorth

Deflate = Literal["auto", "none"]

# From this dimension on one probe is sample enough; below, two tell simple eigenvalues from multiple ones.
ONE_PROBE = 1_000_000
# No more columns than this are multiplied at once by default: within a tenth of the fastest of 8, 16 and 32 on all
# matrices and precisions measured (docs/benchmarks.md). It does not follow the clock, so that a run can be repeated.
_BATCH = 16
# So many start vectors at most are kept to compare the probes' Ritz vectors; multiplicities below it can be told.
_REFERENCES = 8
# Steps that memory must hold for full re-orthogonalisation to be worth it; and for a precision to be worth it while a
# shorter one would hold more.
_USUAL_STEPS, _AMPLE_STEPS = 40, 160
# Vectors per probe besides the basis: current, previous, product and its operands on the way.
WORK_VECTORS = 6
# What a run cannot do without: the newest two Krylov vectors, and one in the making.
_LEAST_VECTORS = 3
# From the longest to the shortest.
PRECISIONS: tuple[Precision, ...] = ("float64", "float32", "float16")


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
    storage : Storage
        How past vectors are kept.
    share : float
        Memory that the stored copy of a vector takes, as a share of a vector.
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
    storage: Storage
    share: float
    automatic: bool
    references: int
    deflate: Deflate

    def width(self, probes: int, steps: int, reorth: Reorth) -> int:
        """Return how many of `probes` columns can go at once through `steps` steps."""
        return max(1, min(self.batch, probes, int((self.room - self.references) // self.vectors(steps, reorth))))

    def vectors(self, steps: int, reorth: Reorth) -> float:
        """Return the vectors' worth of memory that one probe needs for so many steps."""
        return vectors_of(steps, self.share if reorth == "full" else 0.0)


def choose(
    n: int,
    *,
    probes: int | None,
    steps: int | None,
    first: int | None,
    reorth: Literal["auto", "full", "none"],
    precisions: Sequence[Precision],
    scratch: Path | None,
    itemsize: int,
    batch: int | Literal["auto"],
    deflate: Deflate,
    room: int,
) -> Choice:
    """Decide what fits into `room` vectors of numbers of `itemsize` bytes.

    `first` is the number of probes to begin with where `probes` is open; `precisions` are those that past vectors may
    be kept in, the longest first; `scratch` is where their files may go, None where there can be none.
    """
    _require_room(n, room)
    begin = probes or first or (1 if n >= ONE_PROBE else 2)
    # Independent of the number of probes, so that a run can be extended to what a longer one would have given.
    references = min(n, _REFERENCES if n < ONE_PROBE else 2) if n > 1 else 0
    if room < references + WORK_VECTORS:
        references = 0
    free, wanted, at_once = room - references, min(steps or _USUAL_STEPS, n), _BATCH if batch == "auto" else batch
    shares = [(precision, np.dtype(precision).itemsize / itemsize) for precision in precisions]
    ample = min(steps or _AMPLE_STEPS, n)
    fitting = [pair for pair in shares if free >= vectors_of(ample, pair[1])]
    fitting += [pair for pair in shares[-1:] if free >= vectors_of(wanted, pair[1])]
    on_disk = reorth == "full" and not fitting and scratch is not None
    precision, share = (fitting or shares[-1:])[0]
    storage = Storage(precision, scratch if on_disk else None, steps, sparing=True)
    policy: Reorth = "none" if reorth == "none" or (reorth == "auto" and not fitting) else "full"
    held = 0.0 if on_disk or policy == "none" else share
    width = max(1, min(begin, at_once, int(free // vectors_of(wanted, held))))
    most = n if steps is None else wanted
    if on_disk and scratch is not None:
        most = _steps_on_disk(scratch, width * n * share * itemsize, steps, most)
    elif steps is None and policy == "full":
        most = max(1, min(n, int((free / width - WORK_VECTORS) / share)))
    return Choice(begin, width, at_once, most, room, policy, storage, held, reorth == "auto", references, deflate)


def _steps_on_disk(folder: Path, size: float, steps: int | None, most: int) -> int:
    """Return for how many steps a disk has room, `size` bytes each; as many as are given, or it is refused."""
    _scratch.require_room(folder, size * (min(_USUAL_STEPS, most) if steps is None else most))
    return min(most, int(_scratch.free(folder) // size))


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


def vectors_of(steps: int, share: float) -> float:
    """Return the vectors' worth of memory that one probe needs, where each stored vector takes a share of one."""
    return WORK_VECTORS + steps * share
