"""Arrays out of files that nobody vouches for: .npy, and .npz that hold nothing but .npy.

What a file announces is compared with its own size and with the memory that is free before any is taken. Nothing is
unpickled, nothing is extracted, and the name of a member is a name, never a path.

The format: NumPy's NEP 1; deflate's limits: https://zlib.net/zlib_tech.html.
"""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from slq._arrays import free_memory
from slq._text import described

# Deflate makes no more bytes than this of one.
INFLATION = 1032
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NAME = re.compile(r"([\w-]+)\.npy", flags=re.ASCII)
# Numbers, truth values, and the texts that headers and scipy's formats are.
_KINDS = "biufcUS"
_FOREIGN = np.dtype(np.uint32).newbyteorder()


class Unreadable(ValueError):
    """A file is not what its name says, damaged, or larger than what can be read here."""


def load(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return all arrays of an .npz file.

    Takes no more memory than twice what the arrays take, and those at most 1032 times the size of the file.

    Raises
    ------
    Unreadable
        If it is no such file, damaged, or its arrays do not fit into the free memory.
    """
    with _damage_told(path), path.open("rb") as stream:
        return load_open(stream, path)


def load_open(stream: IO[bytes], path: Path) -> dict[str, npt.NDArray[Any]]:
    """Do the same with a file that is open; what is wrong with it is told of its path."""
    with _damage_told(path), zipfile.ZipFile(stream) as archive:
        members = {_name(info): info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            _refuse("two arrays of one name")
        stored = all(info.compress_type == zipfile.ZIP_STORED for info in members.values())
        room = os.fstat(stream.fileno()).st_size * (1 if stored else INFLATION)
        announced = sum(info.file_size for info in members.values())
        if announced > room:
            _refuse(f"it announces {announced} bytes, {room} is all that it can hold")
        require_memory(announced, path)
        arrays = {}
        for name, info in members.items():
            with archive.open(info) as member:
                arrays[name] = _read(member, info.file_size)
        return arrays


def load_array(path: Path) -> npt.NDArray[Any]:
    """Return the array of an .npy file; `Unreadable` as for `load`."""
    with _damage_told(path), path.open("rb") as stream:
        size = path.stat().st_size
        require_memory(size, path)
        return _read(stream, size)


def require_memory(size: int, path: Path) -> None:
    """Refuse to read what does not fit into the memory that is free."""
    free = free_memory(np, "cpu")
    if size > free:
        msg = f"{path} takes {size / 1e9:.3g} GB of memory to read, {free / 1e9:.3g} GB are free."
        raise Unreadable(msg)


def _name(info: zipfile.ZipInfo) -> str:
    """Return the name of an array, if this is one."""
    found = _NAME.fullmatch(info.filename)
    if found is None or info.compress_type not in _METHODS or info.flag_bits & 1:
        _refuse(f"{info.filename!r:.80} is no array of NumPy's, or packed in another way")
    return found[1]


def _read(stream: IO[bytes], size: int) -> npt.NDArray[Any]:
    """Read one array that takes so many bytes with its header."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        _refuse(f"version {version} of NumPy's format")
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if dtype.hasobject:
        _refuse("Python objects, which slq never opens")
    if dtype.kind not in _KINDS or not dtype.itemsize:
        _refuse(f"numbers of type {dtype}")
    if min(shape, default=1) < 0 or prod(shape) * dtype.itemsize != size - stream.tell():
        _refuse(f"shape {shape} of {dtype} does not take the {size - stream.tell()} bytes that are there")
    array = np.empty(shape[::-1] if fortran else shape, dtype)
    flat: Any = array.reshape(-1).view(np.uint8)
    left = memoryview(flat) if array.size else memoryview(b"")
    while left:
        count = stream.readinto(left)  # type: ignore[attr-defined]
        if not count:
            _refuse("it ends too early")
        left = left[count:]
    stream.read(1)  # only at its end is a member compared with its checksum
    if dtype.kind == "U" and array.size and flat.view(np.uint32 if dtype.isnative else _FOREIGN).max() > sys.maxunicode:
        _refuse("text that is none")
    array = array.astype(dtype.newbyteorder("="), copy=False)
    return array.T if fortran else array


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Say of whatever a parser raises that the file is damaged; what the system says of it passes."""
    try:
        yield
    except (Unreadable, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:
        msg = f"{path} is truncated, damaged or no {path.suffix} file ({described(error)}). Restore it or make it anew."
        raise Unreadable(msg) from error


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
