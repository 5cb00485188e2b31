"""Matrices out of files: Matrix Market, SciPy's sparse .npz, NumPy's .npy, whoever wrote them.

What a file announces is compared with its size and with the free memory before any is taken, nothing is unpickled, and
every index of a sparse matrix is looked at: SciPy multiplies by what it is given.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

from slq import _archive
from slq._text import described

KINDS = "a matrix file (.mtx, .mtx.gz, .npz by scipy.sparse.save_npz, .npy) or module:factory or file.py:factory"
# Bytes of a Matrix Market file: of its header with comments at most; of an entry at least ("1\n", "1 1\n") and at most.
_HEADER = 2**20
_LEAST = {"array": 2, "coordinate": 4}
_LINE = 256
# Bytes of memory that an entry takes: two indices and a complex number; symmetric files give each twice, and the
# matrix by rows is a second one. A row takes a pointer in it.
_ENTRY, _ROW = 4 * 32, 2 * 8
_BY_ROWS = {"csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array, "bsr": scipy.sparse.bsr_array}


class SourceError(ValueError):
    """What was given as SOURCE cannot be used; the message says why and what to do."""


def read_matrix(path: Path) -> Any:
    """Read a matrix by the ending of the file's name."""
    if not path.is_file():
        problem = "this is a folder" if path.is_dir() else "no such file"
        msg = f"{path}: {problem}. SOURCE is {KINDS}."
        raise SourceError(msg)
    readers: dict[str, Callable[[Path], Any]] = {".mtx": _read_mtx, ".npz": _read_npz, ".npy": _archive.load_array}
    reader = readers.get(Path(path.name.removesuffix(".gz")).suffix)
    if path.suffix == ".py":
        msg = f"{path}: name a function in it that returns a matrix or an operator, as {path}:factory."
        raise SourceError(msg)
    if reader is None or (path.suffix == ".gz" and reader is not _read_mtx):
        msg = f"{path}: cannot tell what this is from its name. SOURCE is {KINDS}."
        raise SourceError(msg)
    try:
        return reader(path)
    except SourceError:
        raise
    except _archive.Unreadable as error:
        raise SourceError(str(error)) from error
    except Exception as error:
        msg = f"{path} cannot be read ({described(error)})"
        raise SourceError(msg) from error


# -- Matrix Market ----------------------------------------------------------------------------------------------


def _read_mtx(path: Path) -> Any:
    size = path.stat().st_size * (_archive.INFLATION if path.suffix == ".gz" else 1)
    with _opened(path) as stream:
        rows, columns, entries, kind, field, _ = scipy.io.mminfo(io.BytesIO(stream.read(_HEADER)))
    if entries * _LEAST[kind] > size + 1:  # the last line may lack its end
        msg = f"{entries} entries do not fit into {size} bytes"
        raise ValueError(msg)
    dense = rows * columns * (16 if field == "complex" else 8)
    _archive.require_memory(dense if kind == "array" else entries * _ENTRY + (rows + columns) * _ROW, path)
    with _Limited(path, _HEADER + entries * _LINE) as stream:
        return scipy.io.mmread(stream)


def _opened(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


class _Limited(io.RawIOBase):
    """A file that ends with an error where it gives more than its header let expect, as bombs do."""

    def __init__(self, path: Path, limit: int) -> None:
        self._stream, self._left = _opened(path), limit

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read what comes next."""
        count: int = self._stream.readinto(buffer)
        self._left -= count
        if self._left < 0:
            msg = "it is longer than its entries take"
            raise ValueError(msg)
        return count

    def close(self) -> None:
        """Close the file, too."""
        self._stream.close()
        super().close()


# -- sparse matrices of SciPy -----------------------------------------------------------------------------------


def _read_npz(path: Path) -> Any:
    arrays = _archive.load(path)
    if {"header", "alpha"} <= arrays.keys():
        msg = f"{path} is a result of slq, not a matrix. Look at it with `slq show {path}` or `slq plot {path}`."
        raise SourceError(msg)
    if "format" not in arrays:
        msg = f"{path} holds the arrays {', '.join(sorted(arrays))}, not a sparse matrix by scipy.sparse.save_npz."
        raise SourceError(msg)
    return _sparse(path, arrays)


def _sparse(path: Path, arrays: dict[str, Any]) -> Any:
    """Return the matrix that `scipy.sparse.save_npz` took apart."""
    name = arrays["format"].item()
    name = name.decode("ascii") if isinstance(name, bytes) else name
    shape = tuple(map(int, arrays["shape"]))
    if len(shape) != 2 or min(shape) < 1:
        msg = f"shape {shape}"
        raise ValueError(msg)
    _archive.require_memory(sum(shape) * _ROW + sum(x.nbytes for x in arrays.values()), path)
    for part in {"indices", "indptr", "row", "col", "coords", "offsets"} & arrays.keys():
        if arrays[part].dtype.kind not in "iu":
            msg = f"{part} of type {arrays[part].dtype}"
            raise ValueError(msg)
    if name in _BY_ROWS:
        matrix = _BY_ROWS[name](tuple(arrays[part] for part in ("data", "indices", "indptr")), shape=shape)
        matrix.check_format(full_check=True)
        return matrix
    if name == "dia":
        return scipy.sparse.dia_array((arrays["data"], arrays["offsets"]), shape=shape)
    if name == "coo":
        places = arrays["coords"] if "coords" in arrays else (arrays["row"], arrays["col"])
        return scipy.sparse.coo_array((arrays["data"], tuple(map(np.asarray, places))), shape=shape)
    msg = f"format {name!r:.20}"
    raise ValueError(msg)
