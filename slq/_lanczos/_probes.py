"""Random start vectors from counter-based streams: probe i is the same on every backend, batch and device.

A vector is cut into blocks of 65,536 entries; block j of probe i is drawn from a Philox generator whose key is the
seed and whose 256-bit counter starts at (0, j, i, kind). Any piece of any probe can so be made anywhere. Squares are
summed over whole blocks, each by the rank that holds its first row: so not even the last bit depends on the ranks.

Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", doi:10.1145/2063384.2063405.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._kernels import _threads
from slq._shards import Shards, whole

Kind = Literal["sphere", "rademacher"]
# What stands in for the probes' law where all columns were multiplied instead.
Law = Literal["sphere", "rademacher", "exact"]
# A block, whether its first row is here, and which of its rows go where.
_Cut = tuple[int, bool, list[tuple[slice, slice]]]
Seed = int | np.integer | np.random.Generator | None

_BLOCK = 65_536
# Pieces that a thread should have to draw before another one is worth waking: a piece takes half a millisecond.
_WORTH_A_THREAD = 2
_KIND_WORD = {"sphere": 0, "rademacher": 1}


def seed_from(rng: Seed) -> int:
    """Return the integer below 2**128 that keys every stream of a run.

    An integer is taken as it is, a Generator gives its next 63 bits, None gives fresh entropy.
    """
    if rng is None:
        return secrets.randbits(63)
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**63))
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        if 0 <= rng < 2**128:
            return int(rng)
        msg = f"`rng` must lie in [0, 2**128), got {rng}."
        raise ValueError(msg)
    msg = f"`rng` must be an integer, a numpy.random.Generator or None, got {type(rng).__name__}."
    raise TypeError(msg)


def shared_seed(rng: Seed, shards: Shards) -> int:
    """Return the key of `seed_from`, one for all ranks; refuse different ones."""
    seed = seed_from(rng)
    if shards.whole:
        return seed
    return shards.mixed(seed) if rng is None else shards.same("rng", seed)


def probe(n: int, *, seed: int, index: int, kind: Kind = "sphere", shards: Shards | None = None) -> Floats:
    """Return probe number `index`, a unit vector of shape (n,).

    "sphere" is uniform on the unit sphere (a normalised Gaussian); "rademacher" has entries ±1/sqrt(n).
    """
    return np.asarray(probes(n, range(index, index + 1), seed=seed, kind=kind, shards=shards)[0])


def probes(
    n: int,
    indices: range,
    *,
    seed: int,
    kind: Kind = "sphere",
    dtype: npt.DTypeLike = np.float64,
    shards: Shards | None = None,
) -> npt.NDArray[Any]:
    """Return the probes of the given numbers as rows, shape (len(indices), n); of n the rows that `shards` names.

    In memory they are the columns of an (n, k) block, as a fused step wants them. A shorter dtype gets what rounding
    the float64 probe gives, without that probe ever being held: its numbers are drawn twice.
    """
    shards = shards or whole(n)
    columns = np.empty((shards.local, len(indices)), dtype=dtype)
    pieces, threads, cuts = -(-n // _BLOCK), _threads.limit(), _cuts(shards)
    for column, index in zip(columns.T, indices, strict=True):
        squares = np.zeros(pieces)
        fill = partial(_fill, column, cuts, squares, seed, index, kind, n, None)
        _threads.run(fill, len(cuts), threads=threads, least=_WORTH_A_THREAD)
        norm = np.sqrt(np.float64(n) if kind == "rademacher" else shards.reduce(squares).sum())
        if columns.dtype == np.float64:
            column /= norm
        else:
            again = partial(_fill, column, cuts, squares, seed, index, kind, n, norm)
            _threads.run(again, len(cuts), threads=threads, least=_WORTH_A_THREAD)
    return columns.T


def _cuts(shards: Shards) -> list[_Cut]:
    """Return what of each block is here, of those blocks of which anything is."""
    found: list[_Cut] = []
    local = 0
    for part in shards.rows:
        for j in range(part.start // _BLOCK, -(-part.stop // _BLOCK)) if part else ():
            begin, end = max(part.start, j * _BLOCK), min(part.stop, (j + 1) * _BLOCK)
            if not found or found[-1][0] != j:
                found.append((j, begin == j * _BLOCK, []))
            target = slice(local + begin - part.start, local + end - part.start)
            found[-1][2].append((slice(begin - j * _BLOCK, end - j * _BLOCK), target))
        local += len(part)
    return found


def _fill(
    column: npt.NDArray[Any],
    cuts: list[_Cut],
    squares: Floats,
    seed: int,
    index: int,
    kind: Kind,
    n: int,
    norm: np.float64 | None,
    first: int,
    last: int,
) -> None:
    """Draw some pieces of one probe; note the sums of squares of those begun here, or divide by the norm if known."""
    buffer = np.empty(min(_BLOCK, n))
    for j, begun, parts in cuts[first:last]:
        drawn = buffer[: min(_BLOCK, n - j * _BLOCK)]
        _draw(np.random.Generator(np.random.Philox(key=seed, counter=_counter(j, index, kind))), drawn, kind)
        if norm is not None:
            drawn /= norm
        for source, target in parts:
            column[target] = drawn[source]
        if norm is None and begun:  # no BLAS here: its own threads would wait for those that call it
            squares[j] = np.sum(np.multiply(drawn, drawn, out=drawn))


def _counter(block: int, index: int, kind: Kind) -> npt.NDArray[np.uint64]:
    return np.array([0, block, index, _KIND_WORD[kind]], dtype=np.uint64)


def _draw(generator: np.random.Generator, out: Floats, kind: Kind) -> None:
    if kind == "sphere":
        generator.standard_normal(out=out)
    else:
        bits = np.unpackbits(generator.integers(0, 256, size=-(-out.size // 8), dtype=np.uint8), count=out.size)
        out[:] = np.where(bits == 1, 1.0, -1.0)
