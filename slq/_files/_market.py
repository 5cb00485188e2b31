"""Matrix Market files piece by piece: the entries of a square matrix of any size in little memory.

SciPy parses the numbers: each piece of the file is handed to it as a small file of its own. Dense ("array") files,
complex and skew-symmetric ones are refused with the way out.

Format: Boisvert, Pozo & Remington 1996, "The Matrix Market exchange formats: initial design", NISTIR 5935.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

# Rows, columns, values of some entries.
Entries = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]

# Bytes of text read at a time; the entries in it take up to ten times as many while they are worked on.
_PIECE = 1 << 23
# The longest line of a header: longer comments are no text.
_LINE = 1 << 16
# What decompressing a damaged file raises.
_DAMAGE = (EOFError, OSError, zlib.error)
_FIELDS = {"real": "real", "double": "real", "integer": "integer", "pattern": "pattern"}


@dataclass(frozen=True, slots=True)
class Market:
    """What the header of a coordinate file says, and its entries.

    Attributes
    ----------
    path : Path
        The file, .mtx or .mtx.gz.
    n : int
        Rows and columns.
    stored : int
        Entries that the file holds.
    field : str
        "real", "integer" or "pattern".
    symmetric : bool
        Whether each entry below the diagonal stands for the one above it too.
    """

    path: Path
    n: int
    stored: int
    field: str
    symmetric: bool

    @property
    def dtype(self) -> Any:
        """The dtype of the values."""
        return np.dtype(np.float64)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def pieces(self) -> Iterator[tuple[Entries, int]]:
        """Give the entries as they are stored, float64, from row 0, with the bytes of the file that were read so far.

        Raises ValueError where a line is no entry of the matrix, a value is not finite, or entries are missing.
        """
        seen = 0
        with self.path.open("rb") as raw:
            file = _text(self.path, raw)
            line = _header(self.path, file)[1]
            for text in _whole_lines(self.path, file):
                rows, columns, values = self._parsed(text, line)
                seen, line = seen + len(values), line + text.count(b"\n")
                if not np.isfinite(values).all():
                    at = int(np.flatnonzero(~np.isfinite(values))[0])
                    where = f"({rows[at] + 1}, {columns[at] + 1})"
                    _refuse(self.path, f"entry {where} is {values[at]}. All entries must be finite.")
                if seen > self.stored:
                    break
                yield (rows, columns, values), raw.tell()
        if seen != self.stored:
            told = "more" if seen > self.stored else f"{seen:,}"
            _refuse(self.path, f"its header announces {self.stored:,} entries, and it holds {told}. It is damaged.")

    def _parsed(self, text: bytes, line: int) -> Entries:
        """Have SciPy read whole lines; blank ones are dropped where it minds them."""
        try:
            return self._read(text)
        except ValueError:
            kept = b"\n".join(row for row in text.split(b"\n") if row.strip()) + b"\n"
            try:
                return self._read(kept)
            except (ValueError, OverflowError) as error:
                self._say(error, line)
        except OverflowError as error:
            self._say(error, line)

    def _read(self, text: bytes) -> Entries:
        import scipy.io  # `import slq` is quicker without

        count = text.count(b"\n")
        head = f"%%MatrixMarket matrix coordinate {self.field} general\n{self.n} {self.n} {count}\n"
        found = scipy.io.mmread(io.BytesIO(head.encode() + text), spmatrix=False)
        return found.row, found.col, found.data.astype(np.float64, copy=False)

    def _say(self, error: Exception, line: int) -> NoReturn:
        """Name the line of the file rather than of the piece, whose header has two."""
        found = re.match(r"Line (\d+): (.*)", str(error))
        where, what = (line + int(found[1]) - 2, found[2]) if found else (f"{line + 1} or later", str(error))
        _refuse(self.path, f"line {where}: {what.rstrip('.').lower()}. It must be `row column value`, from 1 to n.")


def market(path: Path) -> Market:
    """Read the header of a Matrix Market file; refuse what is no sparse real symmetric or general square matrix."""
    with path.open("rb") as raw:
        (kind, form, field, symmetry), _, sizes = _header(path, _text(path, raw))
    if kind != "matrix" or form != "coordinate":
        _refuse(path, f"it is a {form} {kind}. Sparse matrices are `matrix coordinate`; a dense one fits into memory.")
    if field not in _FIELDS:
        _refuse(
            path, f"its entries are {field}; they must be real, integer or pattern (see slq.real_form for complex)."
        )
    if symmetry not in ("general", "symmetric"):
        _refuse(path, f"it is {symmetry}; it must be symmetric, or general with both triangles.")
    if len(sizes) != 3:
        _refuse(path, "the line after the comments must name rows, columns and entries.")
    n, columns, stored = sizes
    if n != columns or n == 0:
        _refuse(path, f"it is {n:,} × {columns:,}; eigenvalues need a square matrix of at least one row.")
    return Market(path, n, stored, _FIELDS[field], symmetry == "symmetric")


def _text(path: Path, raw: IO[bytes]) -> Any:
    return gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw


def _header(path: Path, file: Any) -> tuple[list[str], int, list[int]]:
    """Return the words of the first line, the lines up to that of the sizes, and these."""
    words = _line(path, file).decode("latin-1").lower().split()
    if len(words) != 5 or words[0] != "%%matrixmarket":
        _refuse(
            path, "it is no Matrix Market file: those begin with `%%MatrixMarket matrix coordinate real symmetric`."
        )
    lines, line = 1, b"%"
    while line.startswith(b"%") or not line.strip():
        line, lines = _line(path, file), lines + 1
        if not line:
            _refuse(path, "it ends before the line with its sizes.")
    sizes = line.split()
    if not all(size.isdigit() and len(size) < 19 for size in sizes):
        _refuse(path, f"line {lines} must name rows, columns and entries, got {line[:60].decode('latin-1').strip()!r}.")
    return words[1:], lines, [int(size) for size in sizes]


def _line(path: Path, file: Any) -> bytes:
    """Return the next line of a header."""
    try:
        line: bytes = file.readline(_LINE)
    except _DAMAGE as error:
        _refuse(path, f"it is damaged ({type(error).__name__}: {error}).")
    if len(line) == _LINE:
        _refuse(path, "a line of its header has no end. It is no Matrix Market file.")
    return line


def _whole_lines(path: Path, file: Any) -> Iterator[bytes]:
    """Give the rest of a file in pieces that end with a line."""
    rest, more = b"", True
    while more:
        try:
            piece = file.read(_PIECE)
        except _DAMAGE as error:
            _refuse(path, f"it is damaged ({type(error).__name__}: {error}).")
        more = bool(piece)
        text = rest + (piece or b"\n")
        end = text.rfind(b"\n") + 1
        if not end:
            _refuse(path, f"a line is longer than {_PIECE:,} bytes. It is damaged.")
        rest = text[end:]
        if text[:end].strip():
            yield text[:end]


def _refuse(path: Path, why: str) -> NoReturn:
    msg = f"{path}: {why}"
    raise ValueError(msg)
