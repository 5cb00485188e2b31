"""One file for one run: NumPy .npz without pickle, facts as JSON inside, written atomically.

Nothing is executed on reading. The format has a number; a reader refuses newer ones instead of guessing.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ARRAYS = ("alpha", "beta", "lengths", "overlaps", "groups", "deflated", "projected")
_FORMAT = 1
_KIND = "slq.Spectrum"
# What reading a damaged archive raises, by where the damage is.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    KeyError,
    ValueError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
)
# Python integers of a seed can exceed what JSON readers of other languages keep exactly.
_AS_TEXT = ("seed",)


def write(path: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> Path:
    """Write arrays and facts to `path`, which either stays as it was or becomes the complete new file."""
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    texts = {name: str(value) if name in _AS_TEXT else value for name, value in facts.items()}
    header = {"kind": _KIND, "format": _FORMAT, "facts": texts}
    text = json.dumps(header, default=_plain)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, header=np.array(text), **arrays)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


@contextmanager
def read(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Give arrays and facts of a file that `write` made; errors that using them raises are told of the file."""
    arrays, header = _parts(path)
    if not isinstance(header, dict) or header.get("kind") != _KIND:
        msg = f"{path} is an .npz file, but no result of slq. `slq run` takes matrices, `slq show` results."
        raise ValueError(msg)
    if isinstance(number := header.get("format"), int) and number > _FORMAT:
        msg = f"{path} has format {number}, this slq reads up to {_FORMAT}. Install a newer slq to read it."
        raise ValueError(msg)
    if missing := set(ARRAYS) - set(arrays):
        msg = f"{path} lacks {', '.join(sorted(missing))}: it is damaged. Restore it or run again."
        raise ValueError(msg)
    try:
        if not isinstance(number, int):
            msg = "no format number"
            raise ValueError(msg)
        facts: dict[str, Any] = {
            name: int(value) if name in _AS_TEXT else value for name, value in header["facts"].items()
        }
        yield {name: arrays[name] for name in ARRAYS}, facts | {"warnings": tuple(facts["warnings"])}
    except (AttributeError, KeyError, TypeError, IndexError, ValueError, ArithmeticError) as error:
        msg = f"{path} contradicts itself ({type(error).__name__}: {error}). Restore it or run again."
        raise ValueError(msg) from error


def _parts(path: Path) -> tuple[dict[str, npt.NDArray[Any]], Any]:
    """Read all arrays and the header, whatever they are."""
    try:
        # An open stream: np.load leaves a file of its own open when it turns out to be damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop("header"))) if "header" in arrays else None
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except _DAMAGE as error:
        msg = (
            f"{path} is truncated, damaged or no .npz file ({type(error).__name__}: {error}). Restore it or run again."
        )
        raise ValueError(msg) from error


def _plain(value: Any) -> Any:
    """Make NumPy scalars and other odd values JSON-able; what has no JSON form becomes its text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else str(value)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
