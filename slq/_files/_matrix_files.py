"""Matrices out of files: Matrix Market (`_matrix_market`), SciPy's sparse .npz, NumPy's .npy, whoever wrote them.

What a file announces is compared with its size and with the free memory before any is taken, nothing is unpickled, and
every index of a sparse matrix is looked at: SciPy multiplies by what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from slq._files import _archive, _matrix_market
from slq._text import described

KINDS = "a matrix file (.mtx, .mtx.gz, .npz by scipy.sparse.save_npz, .npy) or module:factory or file.py:factory"
# Bytes of memory that a row takes: a pointer, in the file's form and in that by rows.
_ROW = 16
# Bytes of the numbers of sparse matrices: no half precision, no long doubles.
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (4, 8), "c": (8, 16)}
_BY_ROWS = {"csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array, "bsr": scipy.sparse.bsr_array}


class SourceError(ValueError):
    """What was given as SOURCE cannot be used; the message says why and what to do."""


def read_matrix(path: Path) -> Any:
    """Read a matrix by the ending of the file's name."""
    if not path.is_file():
        problem = "this is a folder" if path.is_dir() else "no such file"
        msg = f"{path}: {problem}. SOURCE is {KINDS}."
        raise SourceError(msg)
    reader = _READERS.get(Path(path.name.removesuffix(".gz")).suffix)
    if path.suffix == ".py":
        msg = f"{path}: name a function in it that returns a matrix or an operator, as {path}:factory."
        raise SourceError(msg)
    if reader is None or (path.suffix == ".gz" and reader is not _matrix_market.read):
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


def _read_npz(path: Path) -> Any:
    arrays = _archive.load(path)
    if {"header", "alpha"} <= arrays.keys():
        msg = f"{path} is a result of slq, not a matrix. Look at it with `slq show {path}` or `slq plot {path}`."
        raise SourceError(msg)
    if "format" not in arrays:
        msg = f"{path} holds the arrays {', '.join(sorted(arrays))}, not a sparse matrix by scipy.sparse.save_npz."
        raise SourceError(msg)
    return sparse_of(path, arrays)


def sparse_of(path: Path, arrays: Mapping[str, Any]) -> Any:
    """Return the matrix that `scipy.sparse.save_npz` took apart; what it raises wants to be told of the path."""
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
    dtype = arrays["data"].dtype
    if dtype.itemsize not in _SIZES.get(dtype.kind, ()):
        msg = f"numbers of type {dtype}, which sparse matrices cannot be multiplied in"
        raise ValueError(msg)
    if name in _BY_ROWS:
        pointers = arrays["indptr"].astype(np.int64)
        if (
            pointers.ndim != 1 or pointers[0] or (np.diff(pointers) < 0).any()
        ):  # SciPy does not look where the last is 0
            msg = "indptr that does not ascend from 0"
            raise ValueError(msg)
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


_READERS: dict[str, Callable[[Path], Any]] = {
    ".mtx": _matrix_market.read,
    ".npz": _read_npz,
    ".npy": _archive.load_array,
}
