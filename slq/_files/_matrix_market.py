"""Matrix Market files, plain or packed by gzip, read by a parser that refuses what is not what its header says.

SciPy 1.17 takes truncated files for whole ones, text for numbers, and writes beyond its arrays on odd bytes; here every
line counts. Format: Boisvert, Pozo & Remington 1996, NIST IR 5935. Entries of a symmetric file may be those of either
triangle, not of both; those of one place are added up.
"""

from __future__ import annotations

import gzip
import io
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import scipy.sparse

from slq._arrays import Floats
from slq._files import _archive

# Numbers that each kind of field gives per entry.
_NUMBERS = {"real": 1, "double": 1, "integer": 1, "unsigned-integer": 1, "complex": 2, "pattern": 0}
# What mirrored entries are multiplied by; those of a Hermitian matrix are conjugates.
_MIRRORED = {"general": 0.0, "symmetric": 1.0, "skew-symmetric": -1.0, "hermitian": 1.0}
# Bytes of the header with its comments, and of a line, at most; of an entry with the line's end at least.
_HEADER, _LINE = 2**20, 256
_LEAST = {"array": 2, "coordinate": 4}
# Bytes of memory that an entry takes while it is read, mirrored, and sorted by rows, and that a row takes.
_ENTRY, _ROW = 128, 16
_LONGEST_SIDE = 2**53


def read(path: Path) -> Any:
    """Return the matrix of a file: a NumPy array, or a sparse array of SciPy.

    Takes no more memory than 128 bytes per entry that its header announces and 16 per row and column; a header that
    announces more entries than the file can hold, or more than the free memory can, is refused before.

    Raises
    ------
    ValueError
        If the file is not of the format, holds fewer or more entries than it says, or another number.
    """
    packed = path.suffix == ".gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        stream = _Limited(file, _HEADER)
        lines = io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8")  # comments may be in any language
        kind, field, symmetry, sizes = _header(lines)
        rows, columns = sizes[:2]
        entries = sizes[2] if kind == "coordinate" else _stored(rows, columns, symmetry)
        size = path.stat().st_size * (_archive.INFLATION if packed else 1)
        if entries * _LEAST[kind] > size + 1:  # the last line may lack its end
            _refuse(f"{entries} entries do not fit into {size} bytes")
        dense = 16 * rows * columns if kind == "array" else 0
        _archive.require_memory(entries * _ENTRY + (rows + columns) * _ROW + dense, path)
        stream.left += entries * _LINE
        table = _table(lines, entries, 2 * (kind == "coordinate") + _NUMBERS[field])
    make = _sparse if kind == "coordinate" else _dense
    return make(table, rows, columns, field == "complex", symmetry)


class _Limited(io.RawIOBase):
    """A stream that ends with an error where it gives more than it should, as bombs do."""

    def __init__(self, stream: Any, left: int) -> None:
        self._stream, self.left = stream, left

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read what comes next."""
        count: int = self._stream.readinto(buffer)
        self.left -= count
        if self.left < 0:
            _refuse("it is longer than its entries take")
        return count


def _header(lines: io.TextIOBase) -> tuple[str, str, str, list[int]]:
    """Read the lines above the entries: format, field, symmetry, and sizes."""
    words = lines.readline().lower().split()
    if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"]:
        _refuse("it does not begin with %%MatrixMarket matrix, format, field, symmetry")
    kind, field, symmetry = words[2:]
    if kind not in _LEAST or field not in _NUMBERS or symmetry not in _MIRRORED:
        _refuse(f"a matrix that is {kind} {field} {symmetry}")
    if kind == "array" and field == "pattern":
        _refuse("a pattern has no array")
    while (line := lines.readline()).startswith("%") or line.isspace():
        pass
    sizes = [int(word) for word in line.split()]
    if len(sizes) != 2 + (kind == "coordinate") or not all(0 <= size < _LONGEST_SIDE for size in sizes):
        _refuse(f"sizes {line.strip():.60}")
    if symmetry != "general" and sizes[0] != sizes[1]:
        _refuse(f"{sizes[0]} × {sizes[1]} is not {symmetry}")
    return kind, field, symmetry, sizes


def _table(lines: io.TextIOBase, entries: int, width: int) -> Floats:
    """Read one row of numbers per entry, and nothing else."""
    filled = (line for line in lines if not line.isspace())
    first = next(filled, None)
    found = np.zeros((0, width)) if first is None else np.loadtxt(chain([first], filled), comments=None, ndmin=2)
    if found.shape != (entries, width):
        _refuse(f"{len(found)} lines of {found.shape[1]} numbers, its header says {entries} of {width}")
    return found


def _stored(rows: int, columns: int, symmetry: str) -> int:
    """Return how many entries the array of a matrix has in a file."""
    if symmetry == "general":
        return rows * columns
    return rows * (rows - 1) // 2 if symmetry == "skew-symmetric" else rows * (rows + 1) // 2


def _dense(table: Floats, rows: int, columns: int, complex_: bool, symmetry: str) -> Any:
    """Return the array whose columns a file gives one after the other, from the diagonal down where it is symmetric."""
    values = _values(table, complex_)
    if symmetry == "general":
        return values.reshape(columns, rows).T
    matrix = np.zeros((rows, rows), values.dtype)
    upper = np.triu_indices(rows, k=int(symmetry == "skew-symmetric"))
    matrix[upper[::-1]] = values
    return matrix + _mirrored(np.tril(matrix, -1), symmetry).T


def _sparse(table: Floats, rows: int, columns: int, complex_: bool, symmetry: str) -> Any:
    """Return the matrix of entries (row, column, numbers)."""
    places = table[:, :2].astype(np.int64) - 1
    if (places + 1 != table[:, :2]).any() or (places < 0).any() or (places >= (rows, columns)).any():
        _refuse("rows and columns are not numbers from 1 to its size")
    row, column = places.T
    values = _values(table[:, 2:], complex_)
    if symmetry != "general":
        if (row < column).any() and (row > column).any():
            _refuse(f"it is {symmetry} and gives entries on both sides of the diagonal")
        off = row != column
        if symmetry == "skew-symmetric" and not off.all():
            _refuse("it is skew-symmetric and gives entries on the diagonal")
        row, column = np.append(row, column[off]), np.append(column, row[off])
        values = np.append(values, _mirrored(values[off], symmetry))
    return scipy.sparse.coo_array((values, (row, column)), shape=(rows, columns))


def _mirrored(values: Any, symmetry: str) -> Any:
    return _MIRRORED[symmetry] * (values.conj() if symmetry == "hermitian" else values)


def _values(numbers: Floats, complex_: bool) -> Any:
    """Return one value per entry: a number, a pair of them as a complex one, or 1 where there is none."""
    if complex_:
        return numbers[:, 0] + 1j * numbers[:, 1]
    return numbers[:, 0] if numbers.shape[1] else np.ones(len(numbers))


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
