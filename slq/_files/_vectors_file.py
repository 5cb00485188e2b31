"""Vectors on disk beside an archive: a file that only grows, of which the archive says how much counts.

So what a dying process has appended after that does no harm. A file belongs to one stock of vectors that are never
changed, only added to; another stock has another name, NAME.basis-STOCK, and takes its place when the archive says so.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_PIECE = 1 << 24
# Names of stocks: no path, nothing that a terminal obeys.
_STOCK = re.compile(r"[\w-]{1,80}", flags=re.ASCII)
# What vectors are numbers of.
_DTYPES = ("float16", "float32", "float64", "complex64", "complex128")


class Vectors(NamedTuple):
    """What there is to be written.

    Attributes
    ----------
    stock : str
        Its name, which has other vectors under another one.
    kept : int
        How many blocks of vectors there are.
    nbytes : int
        Of a block.
    since : callable
        Gives, from number `first` on, which vectors the blocks are of, and the blocks, each of shape (b, n).
    """

    stock: str
    kept: int
    nbytes: int
    since: Callable[[int], tuple[npt.NDArray[np.intp], Iterable[npt.NDArray[Any]]]]


class VectorsFile:
    """The files of one archive.

    Parameters
    ----------
    archive : Path
        That they lie beside.
    facts : Mapping, optional
        What the archive says of the file that counts: its stock, bytes, checksum, number of blocks and their kinds.
    """

    def __init__(self, archive: Path, facts: dict[str, Any] | None = None) -> None:
        self._archive, self.facts = archive, facts
        if facts is not None and not _STOCK.fullmatch(facts["stock"]):
            msg = f"vectors named {facts['stock']!r:.40}"
            raise ValueError(msg)

    @property
    def blocks(self) -> int:
        """How many blocks of vectors the file that counts has."""
        return 0 if self.facts is None else sum(count for _, count, _ in self.facts["parts"])

    @property
    def path(self) -> Path | None:
        """The file that counts."""
        return None if self.facts is None else self._side(self.facts["stock"])

    def new(self, vectors: Vectors | None) -> int:
        """Return the bytes that are not there yet."""
        if vectors is None:
            return 0
        there = self.facts["count"] if self.facts and self.facts["stock"] == vectors.stock else 0
        return (vectors.kept - int(there)) * vectors.nbytes

    def append(self, vectors: Vectors | None) -> int:
        """Write what is new behind what is there, or forget the file where there is nothing; return the bytes."""
        if vectors is None or not vectors.kept:
            self.facts = None
            return 0
        there = self.facts or {}
        if there.get("stock") != vectors.stock:
            there = {"stock": vectors.stock, "bytes": 0, "crc": 0, "count": 0, "parts": []}
        numbers, blocks = vectors.since(there["count"])
        size, crc, dtype = int(there["bytes"]), there["crc"], ""
        with self._side(vectors.stock).open("r+b" if size else "wb") as file:
            file.seek(size)
            file.truncate()
            for rows in blocks:
                data = np.ascontiguousarray(rows)
                file.write(data.data)
                size, crc, dtype = size + data.nbytes, zlib.crc32(data.data, crc), data.dtype.name
            file.flush()
            os.fsync(file.fileno())
        written: int = size - there["bytes"]
        part = [[dtype, vectors.kept - there["count"], numbers.tolist()]] * (written > 0)
        known = {"bytes": size, "crc": crc, "count": vectors.kept, "parts": there["parts"] + part}
        self.facts = {"stock": vectors.stock, **known}
        return written

    def remove_others(self) -> None:
        """Remove all files that do not count."""
        prefix, kept = f"{self._archive.name}.basis-", self.path
        for file in list(self._archive.parent.iterdir()):
            if file.name.startswith(prefix) and file != kept:
                file.unlink(missing_ok=True)

    def fault(self, n: int) -> str:
        """Compare the file of vectors of length n with its checksum; return in words what is wrong with it."""
        if self.path is None or self.facts is None:
            return ""
        if not self._adds_up(n):
            return "not what the archive says it is"
        crc, left = 0, int(self.facts["bytes"])
        try:
            with self.path.open("rb") as stream:
                while left and (piece := stream.read(min(_PIECE, left))):
                    crc, left = zlib.crc32(piece, crc), left - len(piece)
        except FileNotFoundError:
            return "missing"
        return "damaged" if left or crc != self.facts["crc"] else ""

    def _adds_up(self, n: int) -> bool:
        """Whether what the archive says of the file's parts is of so many bytes."""
        size, facts = 0, self.facts or {}
        for dtype, count, numbers in facts["parts"]:
            whole = all(type(x) is int and x >= 0 for x in (count, *numbers))
            if dtype not in _DTYPES or not whole or not numbers or sorted(set(numbers)) != numbers:
                return False
            size += np.dtype(dtype).itemsize * count * len(numbers) * n
        return bool(size == facts["bytes"] and self.blocks <= facts["count"])

    def read(self, n: int, wanted: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[Any]]:
        """Give the blocks, of the vectors of these numbers."""
        if self.path is None or self.facts is None:
            return
        with self.path.open("rb") as stream:
            for dtype, count, numbers in self.facts["parts"]:
                where = np.searchsorted(numbers, wanted)
                for _ in range(count):
                    yield np.fromfile(stream, np.dtype(dtype), len(numbers) * n).reshape(len(numbers), n)[where]

    def _side(self, stock: str) -> Path:
        return self._archive.with_name(f"{self._archive.name}.basis-{stock}")
