"""One file for one run: NumPy .npz without pickle, facts as JSON inside, written atomically.

Nothing is executed on reading. The format has a number; a reader refuses newer ones instead of guessing.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from slq._files import _archive
from slq._text import described

ARRAYS = ("alpha", "beta", "lengths", "overlaps", "groups", "deflated", "projected")
_FORMAT = 1
SPECTRUM, HISTORY, CHECKPOINT, SEARCH = "slq.Spectrum", "slq.History", "slq.Checkpoint", "slq.Search"
SHARD = "slq.Shard"  # of a checkpoint
# How each kind of file is read.
_READERS = {
    SPECTRUM: "Read it by slq.load",
    HISTORY: "Read it by slq.History.load",
    CHECKPOINT: "Go on from it by slq.spectrum(A, checkpoint=...)",
    SEARCH: "Go on from it by slq.eigsh(A, checkpoint=...)",
    SHARD: "It belongs to the checkpoint beside it: pass that one",
}
# What `tempfile.mkstemp` adds to a name.
_TEMPORARY = "[a-z0-9_]{8}"
# Python integers of a seed can exceed what JSON readers of other languages keep exactly.
_AS_TEXT = ("seed",)


def write(
    path: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], *, kind: str = SPECTRUM
) -> Path:
    """Write arrays and facts to `path`, which either stays as it was or becomes the complete new file."""
    path = with_suffix(path)
    header = {"kind": kind, "format": _FORMAT, "facts": texts(facts)}
    members: dict[str, Any] = {"header": np.array(json.dumps(header, default=_plain)), **arrays}  # nothing to pickle
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **members)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~umask())
        Path(temporary).replace(path)
        flush(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


@contextmanager
def read(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Give arrays and facts of a spectrum that `write` made; errors that using them raises are told of the file."""
    with opened(path, SPECTRUM, ARRAYS) as (arrays, facts):
        yield {name: arrays[name] for name in ARRAYS}, restored(facts)


@contextmanager
def opened(path: Path, kind: str, names: Iterable[str] = ()) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Give arrays and facts of a file of one kind that holds these arrays at least."""
    arrays, header = _parts(path)
    found = header.get("kind") if isinstance(header, dict) else None
    if found != kind and isinstance(found, str) and found in _READERS:
        msg = f"{path} holds a {found.removeprefix('slq.')}, not a {kind.removeprefix('slq.')}. {_READERS[found]}."
        raise ValueError(msg)
    if found != kind:
        msg = f"{path} is an .npz file, but no result of slq. `slq run` takes matrices, `slq show` results."
        raise ValueError(msg)
    if isinstance(number := header.get("format"), int) and number > _FORMAT:
        msg = f"{path} has format {number}, this slq reads up to {_FORMAT}. Install a newer slq to read it."
        raise ValueError(msg)
    if missing := set(names) - set(arrays):
        msg = f"{path} lacks {', '.join(sorted(missing))}: it is damaged. Restore it or run again."
        raise ValueError(msg)
    with consistent(path):
        if not isinstance(number, int):
            msg = "no format number"
            raise ValueError(msg)
        yield arrays, header["facts"]


@contextmanager
def consistent(path: Path) -> Iterator[None]:
    """Tell errors that using the parts of a file raises as what they are."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, IndexError, ValueError, ArithmeticError, RecursionError) as error:
        msg = f"{path} contradicts itself ({described(error)}). Restore it or run again."
        raise ValueError(msg) from error


def kind_of(path: Path) -> str | None:
    """Return what kind of result a file holds, None where it is none."""
    header = _parts(path)[1]
    return header.get("kind") if isinstance(header, dict) else None


def with_suffix(path: Path) -> Path:
    """Return the path that `write` writes to."""
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def texts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a spectrum with those as text that JSON would not keep."""
    return {name: str(value) if name in _AS_TEXT else value for name, value in facts.items()}


def restored(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a spectrum as they were before `texts` and JSON."""
    plain = {name: int(value) if name in _AS_TEXT else value for name, value in facts.items()}
    return plain | {"warnings": tuple(facts["warnings"])}


def _parts(path: Path) -> tuple[dict[str, npt.NDArray[Any]], Any]:
    """Read all arrays and the header, whatever they are."""
    arrays = _archive.load(path)
    if "header" not in arrays:
        return arrays, None
    try:
        return arrays, json.loads(str(arrays.pop("header")))
    except (ValueError, RecursionError) as error:
        msg = f"{path} is damaged: its header is no JSON ({error!s:.200}). Restore it or run again."
        raise ValueError(msg) from error


def locked(path: Path, writer: str) -> IO[bytes]:
    """Open the lock file beside `path` and lock it, or refuse; the system frees it when the process ends.

    What writers that were killed have left beside it is removed.
    """
    lock = path.with_name(f".{path.name}.lock").open("ab")
    try:
        _lock(lock.fileno())
    except OSError as error:
        lock.close()
        msg = f"{path} is being written by another {writer}. Give each its own `path`, or close the other one."
        raise BlockingIOError(msg) from error
    sweep(path)
    return lock


def sweep(path: Path) -> None:
    """Remove what writers of `path` that were killed have left beside it; to be called where nobody writes it."""
    for file in list(path.parent.iterdir()):
        if re.fullmatch(re.escape(f".{path.name}.") + _TEMPORARY, file.name):
            file.unlink(missing_ok=True)


def _lock(descriptor: int) -> None:
    """Lock an open file for this opener alone, without waiting."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def flush(folder: Path) -> None:
    """Have the new name of a file on disk before anything relies on it; Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    """Make NumPy scalars and other odd values JSON-able; what has no JSON form becomes its text."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else str(value)


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
