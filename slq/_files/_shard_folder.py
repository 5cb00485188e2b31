"""A sparse matrix as a folder of row shards: what lies in it, and some of its rows read back and verified.

The folder holds one scipy.sparse CSR file per part (.npz: some neighbouring rows, all columns) and `shards.json`, which
names the parts, their rows and entries, and the SHA-256 of each file. It is written by `_sharding`. Nothing is
unpickled, and a part that is not what the manifest says is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import scipy.sparse

from slq._text import described

MANIFEST, KIND, FORMAT = "shards.json", "slq.ShardFolder", 1
# What names of parts are made of: no path, nothing that a terminal obeys.
_NAME = re.compile(r"\w[\w.-]{0,200}", flags=re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """Some neighbouring rows of the matrix.

    Attributes
    ----------
    file : str
        Name of the file in the folder.
    first, rows : int
        The first row, from 0, and how many.
    nnz : int
        Entries stored.
    bytes : int
        Size of the file.
    sha256 : str
        Of the file, as `sha256sum` prints it.
    """

    file: str
    first: int
    rows: int
    nnz: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, repr=False)
class ShardFolder:
    """A symmetric sparse matrix in a folder, in parts of neighbouring rows. Made by `shard`.

    Attributes
    ----------
    folder : Path
        Where the parts and their manifest `shards.json` are.
    n : int
        Rows and columns.
    nnz : int
        Entries stored, both triangles.
    dtype : str
        "float32" or "float64".
    parts : tuple
        Each with `file`, `first` row, `rows`, `nnz`, `bytes` and `sha256`, in order.
    """

    folder: Path
    n: int
    nnz: int
    dtype: str
    parts: tuple[Part, ...]

    def __repr__(self) -> str:
        head = f"{self.folder}: n = {self.n:,}, {self.nnz:,} entries, {self.dtype}, {len(self.parts)} parts"
        lines = [f"{part.file}  {part.rows:>14,} rows  {part.nnz:>16,} entries" for part in self.parts]
        return "\n".join([head, *(lines if len(lines) <= 16 else [*lines[:8], "…", *lines[-7:]])])

    def matrix(self, numbers: range | None = None) -> Any:
        """Return the rows of neighbouring parts, of all by default, as a CSR matrix with all columns.

        Parameters
        ----------
        numbers : range, optional
            Which parts, counted from 0.

        Returns
        -------
        scipy.sparse.csr_array
            Of shape (rows of these parts, n).

        Raises
        ------
        ValueError
            If a file is missing, damaged, or not that of the manifest.
        """
        chosen = self.parts if numbers is None else self.parts[numbers.start : numbers.stop]
        if not chosen:
            return scipy.sparse.csr_array((0, self.n), dtype=self.dtype)
        pieces = [self._read(part) for part in chosen]
        return pieces[0] if len(pieces) == 1 else scipy.sparse.vstack(pieces, format="csr")

    def _read(self, part: Part) -> Any:
        """Read one part, verify its checksum and its structure."""
        from slq._files import _archive, _matrix_files  # `import slq` is quicker without

        path = self.folder / part.file
        if not path.is_file():
            _refuse(path, f"{MANIFEST} names it, and it is missing")
        with path.open("rb") as stream:
            if digest(stream) != part.sha256:
                _refuse(path, f"its checksum is not that of {MANIFEST}: it is damaged, or of another matrix")
            stream.seek(0)
            try:
                matrix = _matrix_files.sparse_of(path, _archive.load_open(stream, path))
            except _archive.Unreadable:
                raise
            except Exception as error:  # whatever parsers of damage raise
                _refuse(path, f"it is no sparse matrix by scipy.sparse.save_npz ({described(error)})")
        if matrix.format != "csr":
            _refuse(path, f"it is no CSR matrix but {matrix.format}")
        if matrix.shape != (part.rows, self.n) or matrix.nnz != part.nnz or matrix.dtype != self.dtype:
            _refuse(path, f"it is {matrix.shape[0]} × {matrix.shape[1]} {matrix.dtype}, not what {MANIFEST} says")
        return matrix


def shards_in(folder: Path) -> ShardFolder:
    """Return the shards that a folder holds, by its manifest; the parts themselves are read by `ShardFolder.matrix`."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        msg = f"{folder} is no folder of shards: it has no {MANIFEST}. Make one by `slq shard MATRIX` or slq.shard."
        raise ValueError(msg) from None
    try:
        found = _told(folder, json.loads(content.decode("utf-8")))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        _refuse(path, f"it is damaged ({described(error)})")
    if isinstance(found, str):
        _refuse(path, found)
    return found


def digest(stream: Any) -> str:
    """Return the SHA-256 of an open file."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _told(folder: Path, facts: Any) -> ShardFolder | str:
    """Return the shards that a manifest tells of, or why it cannot be true."""
    if facts["kind"] != KIND or type(facts["format"]) is not int:
        return "it is no manifest of shards"
    if facts["format"] > FORMAT:
        return (
            f"it has format {facts['format']!r:.20}, and this slq reads up to {FORMAT}. Install a newer slq to read it"
        )
    parts = tuple(Part(**part) for part in facts["parts"])
    shards = ShardFolder(folder, facts["n"], facts["nnz"], facts["dtype"], parts)
    problem = _problem(shards)
    return f"it contradicts itself ({problem})" if problem else shards


def _problem(shards: ShardFolder) -> str:
    """Tell what of a manifest cannot be true."""
    row = 0
    for number, part in enumerate(shards.parts):
        if not _NAME.fullmatch(part.file):
            return f"part {number} names a file outside of the folder, or none"
        if not all(type(x) is int for x in (part.first, part.rows, part.nnz)):
            return f"part {number} has numbers that are none"
        if part.first != row or part.rows < 1 or part.nnz < 0:
            return f"part {number} does not begin where the one before ends"
        row += part.rows
    if row != shards.n or sum(part.nnz for part in shards.parts) != shards.nnz:
        return "rows or entries of the parts do not add up"
    return "" if shards.dtype in ("float32", "float64") else f"dtype {shards.dtype!r:.20}"


def _refuse(path: Path, why: str) -> NoReturn:
    msg = f"{path}: {why}. Restore it or shard the matrix again."
    raise ValueError(msg)
