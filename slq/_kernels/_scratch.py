"""Temporary files that stand in for memory: mapped, deleted by the system when nobody uses them any more.

A file has no name from the moment it is mapped (on Windows: it is deleted when it is closed), so that nothing is left
behind however a run ends. Its room on the disk is taken at once: a full disk shows when the file is made, not later
as a signal that kills the process.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# What is left free on the disk.
_LEFT_FREE = 2**28


def mapped(shape: tuple[int, ...], dtype: Any, folder: Path) -> npt.NDArray[Any]:
    """Return an array of zeros in a new temporary file."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    require_room(folder, size)
    with tempfile.TemporaryFile(dir=folder, prefix="slq-") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)


def free(folder: Path) -> int:
    """Return the bytes that files in a folder may take."""
    return max(0, shutil.disk_usage(folder).free - _LEFT_FREE)


def require_room(folder: Path, size: float) -> None:
    """Refuse a folder that does not exist, cannot be written to or has no room for so many bytes."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        msg = f"`scratch` must be a folder that can be written to, got {str(folder)!r}."
        raise ValueError(msg)
    if size > free(folder):
        msg = (
            f"`scratch`: {folder} has {free(folder) / 1e9:.3g} GB left, the Krylov vectors take {size / 1e9:.3g} GB. "
            'Name another folder, make fewer steps, or pass basis="float16" or reorth="none".'
        )
        raise ValueError(msg)


def fetch(block: npt.NDArray[Any]) -> None:
    """Ask the system to read a mapped array before it is needed; nothing for arrays in memory."""
    if isinstance(block, np.memmap) and hasattr(mmap, "MADV_WILLNEED"):
        mapping: Any = block._mmap  # type: ignore[attr-defined]
        mapping.madvise(mmap.MADV_WILLNEED)
