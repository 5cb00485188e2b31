"""The last top eigenvectors on disk, so that a training that goes on tells the overlap with them as without a break.

They lie beside the history in a file named after its last step, which is written before the history and removed after
the next: whatever moment a crash comes, the history finds the vectors of its last record.
"""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Subspaces:
    """Keeps one block of vectors per history file.

    Parameters
    ----------
    path : Path
        The history.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, step: int) -> Tensor | None:
        """Return the vectors of a step, None where they are not there or damaged."""
        with suppress(OSError, ValueError, EOFError):
            return torch.from_numpy(np.load(self._file(step), allow_pickle=False))
        return None

    def save(self, step: int, vectors: Tensor) -> bool:
        """Write the vectors of a step; False where they cannot be written, as on a full disk."""
        file = self._file(step)
        temporary = file.with_suffix(f".{os.getpid()}")
        try:
            with temporary.open("wb") as stream:
                np.save(stream, vectors.detach().cpu().numpy(), allow_pickle=False)
            temporary.replace(file)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            return False
        return True

    def forget_but(self, step: int) -> None:
        """Remove the vectors of all other steps."""
        kept = self._file(step)
        for file in self._path.parent.glob(f".{self._path.name}.vectors-*"):
            if file != kept:
                with suppress(OSError):
                    file.unlink()

    def _file(self, step: int) -> Path:
        return self._path.with_name(f".{self._path.name}.vectors-{step}.npy")
