"""A run over several ranks on disk: rows of vectors in files of each rank's own, and a manifest that says which count.

NAME.npz, the manifest, is the archive of `_checkpoint` without what is cut: that is in NAME.pP-C.rows-F-L.G.npz, of P
ranks whose rows, from F to L here, have the checksum C. G is 0 and 1 in turn, so that the files before stay until the
manifest, written when all ranks have written theirs, is replaced in one step. Past vectors lie beside, as always. A run
that goes on may have other ranks: each reads its rows from whatever files have them, which all ranks must see.
"""

from __future__ import annotations

import io
import re
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slq._files import _store
from slq._files._vectors_file import Vectors, VectorsFile
from slq._run._checkpoint import Arrays, Checkpoint, Content, Refused, Stored
from slq._shards import Shards


class ShardedCheckpoint(Checkpoint[Content]):
    """The files of one run whose vectors are shards; as `Checkpoint`, called on all ranks alike.

    Parameters
    ----------
    path : Path
        Of the manifest.
    options : Mapping
        All that the result depends on; that vectors are shards is added.
    kind : str
        Of the manifest, as of `_store`.
    read : callable
        As for `Checkpoint`, given arrays whose rows are those that are here.
    axis : callable
        Along which axis the array of a name is cut, None where all ranks have the same.
    shards : Shards
        The rows that are here.
    """

    def __init__(
        self,
        path: Path,
        options: Mapping[str, Any],
        kind: str,
        read: Callable[[Arrays, Mapping[str, Any], Stored | None], Content],
        axis: Callable[[str], int | None],
        shards: Shards,
    ) -> None:
        self._axis, self._shards, self._generation, self._saves = axis, shards, 0, 0
        self._run = shards.mixed(secrets.randbits(63))
        self._failed: OSError | None = None
        self._rows = [[part.start, part.stop] for part in shards.rows if part]
        ranks, checksum = (int(x) for x in shards.total(1, zlib.crc32(str(self._rows).encode())))
        self._cut = f"p{ranks}-{checksum:x}"
        super().__init__(path, {**options, "vectors in shards": True}, kind, read)

    @property
    def _first(self) -> bool:
        """Whether this rank, of the first row, is the one that writes the manifest."""
        return bool(self._rows) and self._rows[0][0] == 0

    @property
    def _own(self) -> Path:
        first, last = (self._rows[0][0], self._rows[-1][1]) if self._rows else (self._shards.n, self._shards.n)
        return self.path.with_name(f"{self.path.stem}.{self._cut}.rows-{first}-{last}")

    def _archive(self, generation: int) -> Path:
        return self.path.with_name(f"{self._own.name}.{generation}.npz")

    @contextmanager
    def _together(self, refusal: type[Exception]) -> Iterator[None]:
        """Go on where all ranks can, else fail on all."""
        failed: Exception | None = None
        try:
            yield
        except Exception as error:
            failed = error
        if self._shards.any(failed is not None)[0]:
            raise failed or refusal(f"`checkpoint`: another rank failed with {self.path}; it says why")

    def _locked(self) -> IO[bytes]:
        with self._together(BlockingIOError):
            lock = super()._locked() if self._first else io.BytesIO()
        for generation in (0, 1):
            _store.sweep(self._archive(generation))
        return lock

    def _begun(self) -> bool:
        return self._shards.any(super()._begun())[0]

    def _append(self, vectors: Vectors | None) -> int:
        """Write new vectors; that this failed is told when all ranks ask."""
        try:
            return super()._append(vectors) if self._rows else 0
        except OSError as error:
            self._failed = error
            return 0

    def _write(self, arrays: Arrays, facts: Mapping[str, Any], seconds: float) -> None:
        """Write this rank's archive beside the one before, the manifest when all have, and remove what it names not."""
        failed, self._failed = self._failed, None
        self._saves += 1
        generation, token = 1 - self._generation, f"{self._run}-{self._saves}"
        cut = {name: x for name, x in arrays.items() if self._axis(name) is not None}
        with self._together(OSError):
            if failed is not None:
                raise failed
            if self._rows:
                known = {"token": token, "rows": self._rows, "vectors": self._vectors.facts}
                _store.write(self._archive(generation), cut, known, kind=_store.SHARD)
        with self._together(OSError):
            if self._first:
                same = {name: x for name, x in arrays.items() if name not in cut}
                shards = {"token": token, "cut": self._cut, "generation": generation}
                self._replace(same, facts, seconds, {"shards": shards})
        self._generation = generation
        self._vectors.remove_others()
        for file, cut_there, _ in self._files() if self._first else ():
            if cut_there != self._cut:
                file.unlink(missing_ok=True)

    def _files(self) -> list[tuple[Path, str, str]]:
        """Return all files of shards, how they are cut, and what follows their rows: .G.npz in archives."""
        name = re.compile(re.escape(f"{self.path.stem}.") + r"(p\d+-[0-9a-f]+)\.rows-\d+-\d+(\..*)")
        found = ((file, name.fullmatch(file.name)) for file in sorted(self.path.parent.iterdir()))
        return [(file, match[1], match[2]) for file, match in found if match]

    def _load(self) -> None:
        with self._together(Refused):
            super()._load()

    def _restored(self, arrays: Arrays, header: Mapping[str, Any]) -> tuple[Arrays, Stored | None]:
        """Put this rank's rows together from the files of all ranks."""
        told = header["shards"]
        self._generation = (0, 1).index(told["generation"])
        reading, pieces = _Reading(arrays, self._axis, self._shards), []
        try:
            for file, cut, rest in self._files():
                if (cut, rest) == (told["cut"], f".{self._generation}.npz"):
                    with _store.opened(file, _store.SHARD) as (parts, facts):
                        if facts["token"] == told["token"]:
                            own = file.with_name(file.name.removesuffix(rest))
                            pieces.append(reading.take(parts, facts["rows"], VectorsFile(own, facts["vectors"])))
        except ValueError as error:  # says of which file it is
            raise Refused(str(error)) from None
        if reading.found != self._shards.n or not reading.filled.all():
            msg = (
                f"`checkpoint`: {self.path} names files with {self._shards.n} rows in all, of which {reading.found} "
                "are there. All ranks must see the folder; restore it, or remove it to begin again."
            )
            raise Refused(msg)
        for piece in pieces:
            if piece.vectors.path is not None and piece.vectors.path.name.startswith(f"{self._own.name}.basis-"):
                self._vectors = piece.vectors
        return reading.arrays, self._assembled(pieces)

    def _assembled(self, pieces: list[_Piece]) -> Stored | None:
        """Return what gives past vectors with the rows that are here, if there are any, of files that are whole."""
        used = [piece for piece in pieces if piece.source.size or not self._rows]
        counts = {0 if piece.vectors.facts is None else int(piece.vectors.facts["count"]) for piece in used}
        for piece in used:
            self._require(piece.vectors, piece.rows)
        if len(counts) > 1:
            msg = f"its shards have different numbers of past vectors: {counts}"
            raise ValueError(msg)

        def stored(wanted: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[Any]]:
            streams = [piece.vectors.read(piece.rows, wanted) for piece in used]
            for blocks in zip(*streams, strict=True):
                rows = np.empty((len(wanted), self._shards.local), blocks[0].dtype)
                for piece, block in zip(used, blocks, strict=True):
                    rows[:, piece.target] = block[:, piece.source]
                yield rows

        return stored if max(counts) else None


class _Piece(NamedTuple):
    """One rank's past vectors, how many rows they have, and which of these go where here."""

    vectors: VectorsFile
    rows: int
    source: npt.NDArray[np.intp]
    target: npt.NDArray[np.intp]


class _Reading:
    """Arrays of a manifest, to which those that are cut come, with the rows that are here.

    Attributes
    ----------
    arrays : dict
        So far.
    found : int
        Rows that the files have which were taken.
    filled : ndarray of bool
        Of the rows that are here, which were among them.
    """

    def __init__(self, arrays: Arrays, axis: Callable[[str], int | None], shards: Shards) -> None:
        self.arrays, self._axis, self._n = dict(arrays), axis, shards.n
        self._here, self.found, self.filled = shards.numbers(), 0, np.zeros(shards.local, dtype=bool)

    def take(self, parts: Arrays, rows: list[list[int]], vectors: VectorsFile) -> _Piece:
        """Copy rows of one rank's arrays to where they belong."""
        edges = [0, *(edge for first, last in rows for edge in (first, last)), self._n]
        if edges != sorted(edges) or not all(type(edge) is int for edge in edges):
            msg = f"rows {rows!r:.80} of {self._n}"
            raise ValueError(msg)
        there = Shards(self._n, tuple(range(first, last) for first, last in rows)).numbers()
        _, source, target = np.intersect1d(there, self._here, assume_unique=True, return_indices=True)
        for name, part in parts.items():
            along = self._axis(name)
            if along is None or part.shape[along] != len(there):
                msg = f"{name} of shape {part.shape} for {len(there)} rows"
                raise ValueError(msg)
            shape = list(part.shape)
            shape[along] = len(self._here)
            whole = self.arrays.setdefault(name, np.empty(shape, part.dtype))
            np.moveaxis(whole, along, 0)[target] = np.moveaxis(part, along, 0)[source]
        self.found += len(there)
        self.filled[target] = True
        return _Piece(vectors, len(there), source, target)
