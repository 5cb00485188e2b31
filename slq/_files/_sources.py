"""What `slq run SOURCE` multiplies by: a matrix in a file, or what a Python function returns.

A matrix from a file is looked at once: whether it is square and symmetric. If not, the message gives the measured
asymmetry and names the two symmetric matrices that can be made of it. A Python source is run, as the user who asks.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from slq._arrays import is_array
from slq._files._matrix_files import SourceError, read_matrix
from slq._operators._gram import gram as gram_of
from slq._operators._operators import Operator, as_operator

# Rows of a dense matrix that are compared with its columns at once: 1000 rows of 100 000 numbers are 0.8 GB.
_BLOCK = 1000
# |A - A^T| / |A| up to this power of a rounding is rounding.
_ROUNDING = 0.5


def operator_from(source: str, *, gram: bool = False, symmetric_part: bool = False) -> Operator:
    """Return the operator that a source on the command line stands for.

    Parameters
    ----------
    source : str
        Name of a matrix file, or `package.module:factory` or `path/file.py:factory`.
    gram : bool
        Take A^T A, or A A^T where that is smaller, by two products; A may be rectangular.
    symmetric_part : bool
        Take (A + A^T) / 2.
    """
    if gram and symmetric_part:
        msg = "--gram and --symmetric-part exclude each other: the first gives A^T A, the second (A + A^T) / 2."
        raise SourceError(msg)
    path = Path(source)
    found = read_matrix(path) if path.exists() or ":" not in source else _made_by(source)
    if not (is_array(found) or scipy.sparse.issparse(found)):
        return gram_of(found) if gram else _as_it_is(found, source, symmetric_part)
    matrix = floating(found)
    if gram:
        return gram_of(matrix)
    _require_square(matrix, source)
    if symmetric_part:
        return as_operator((matrix + matrix.T) / 2)
    _require_symmetric(matrix, source)
    return as_operator(matrix)


def name_of(source: str) -> str:
    """Return the bare name of a source: of `dir/matrix.mtx.gz`, `matrix`; of `module:factory`, `factory`."""
    if ":" in source and not Path(source).exists():
        return source.rpartition(":")[2]
    return Path(source).name.removesuffix(".gz").rpartition(".")[0] or Path(source).name


# -- Python -----------------------------------------------------------------------------------------------------


def _made_by(source: str) -> Any:
    """Import a module or run a file, and return what its factory makes."""
    place, _, name = source.rpartition(":")
    if not place or not name:
        msg = f"{source}: a Python source is written module:factory or file.py:factory."
        raise SourceError(msg)
    module = _within(source, lambda: _module(place))
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        msg = f"{place} has no `{name}`. It has: {', '.join(public[:8]) or 'no functions'}."
        raise SourceError(msg)
    made = getattr(module, name)
    if callable(made) and not hasattr(made, "shape"):
        return _within(source, made)
    return made


def _module(place: str) -> ModuleType:
    path = Path(place)
    if path.suffix != ".py":
        sys.path.insert(0, "")
        return importlib.import_module(place)
    if not path.is_file():
        msg = f"{place}: no such file."
        raise SourceError(msg)
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(f"slq_source_{path.stem}", path)
    if spec is None or spec.loader is None:  # pragma: no cover - a .py file always has a loader
        msg = f"{place} cannot be imported."
        raise SourceError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _within(source: str, call: Callable[[], Any]) -> Any:
    """Run the user's code; what it raises becomes one line that says where."""
    try:
        return call()
    except SourceError:
        raise
    except Exception as error:
        msg = f"{source} failed: {type(error).__name__}: {error}{_where(error)}"
        raise SourceError(msg) from error


def _where(error: Exception) -> str:
    """Name the innermost line of the user's code that an error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    return f" ({Path(files[-1].filename).name}, line {files[-1].lineno})" if files else ""


def _as_it_is(found: Any, source: str, symmetric_part: bool) -> Operator:
    if symmetric_part:
        msg = f"--symmetric-part needs a matrix, and {source} gives a {type(found).__name__}. Symmetrise it there."
        raise SourceError(msg)
    if found is None:
        msg = f"{source} returned nothing. It must return a matrix or an operator."
        raise SourceError(msg)
    return as_operator(found)


# -- matrices ---------------------------------------------------------------------------------------------------


def floating(matrix: Any) -> Any:
    """Return a matrix of real floating numbers, sparse ones by rows; others raise in `as_operator`."""
    if scipy.sparse.issparse(matrix):
        matrix = matrix.tocsr()
    kind = getattr(matrix.dtype, "kind", "f")
    return matrix.astype(np.float64) if kind in "iub" else matrix


def _require_square(matrix: Any, source: str) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        shape = " × ".join(map(str, matrix.shape))
        msg = f"{source} is {shape}; eigenvalues need a square matrix. --gram takes A^T A (squared singular values)."
        raise SourceError(msg)


def _require_symmetric(matrix: Any, source: str) -> None:
    """Refuse a matrix of NumPy or SciPy that differs from its transpose; those of others are tested in the run."""
    if not (isinstance(matrix, np.ndarray) or scipy.sparse.issparse(matrix)) or matrix.dtype.kind == "c":
        return
    asymmetry = _asymmetry(matrix)
    if asymmetry > np.finfo(matrix.dtype).eps ** _ROUNDING:
        msg = (
            f"{source} is not symmetric: |A - A^T| / |A| = {asymmetry:.2g}. --symmetric-part takes (A + A^T) / 2, "
            "--gram takes A^T A (squared singular values)."
        )
        raise SourceError(msg)


def _asymmetry(matrix: Any) -> float:
    """Return |A - A^T| / |A| in the Frobenius norm."""
    if scipy.sparse.issparse(matrix):
        size, difference = scipy.sparse.linalg.norm(matrix), scipy.sparse.linalg.norm(matrix - matrix.T)
        return float(difference / size) if size else 0.0
    size = difference = 0.0
    for start in range(0, len(matrix), _BLOCK):
        rows = matrix[start : start + _BLOCK]
        size += float(np.vdot(rows, rows))
        rest = rows - matrix[:, start : start + _BLOCK].T
        difference += float(np.vdot(rest, rest))
    return float(np.sqrt(difference / size)) if size else 0.0
