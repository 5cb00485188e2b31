"""A history that grows on disk: every record is its own atomic write, and one process writes at a time.

The file is written anew with every record and takes the place of the old one in one step. So it is complete at every
moment: for readers while it grows, after a crash, and when the disk is full, where the records stay in memory and are
written with the next. A spectrum is a few kilobytes; a thousand of them are written in a fraction of a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy.typing as npt

from slq._errors import SlqWarning
from slq._files import _store
from slq._history._history import History
from slq._spectrum._spectrum import Spectrum


class HistoryFile:
    """A history in a file that records are appended to; continues the one that is there.

    Use it in a `with` statement, or `close` it: until then no other process can write to the file. The lock belongs to
    the process and ends with it, however it ends.

    Parameters
    ----------
    path : str or Path
        The .npz file; beside it a small file named ``.NAME.lock`` appears and stays.
    metadata : Mapping, optional
        Facts about the whole, for a file that is new.

    Attributes
    ----------
    path : Path
        The file.
    history : History
        All records so far.

    Raises
    ------
    ValueError
        If the file is there and is no history.
    BlockingIOError
        If another recorder, of this process or another, has the file open.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import slq
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with slq.HistoryFile(f"{folder}/run.npz") as file:
    ...         _ = file.append(0, slq.spectrum(np.diag([1.0, 2.0]), rng=0), loss=0.5)
    ...     len(slq.History.load(f"{folder}/run.npz"))
    1
    """

    __slots__ = ("_lock", "_warned", "history", "path")

    def __init__(self, path: str | Path, *, metadata: Mapping[str, Any] | None = None) -> None:
        self.path = _store.with_suffix(Path(path))
        self._lock: IO[bytes] | None = _store.locked(self.path, "recorder")
        self._warned = False
        try:
            self.history = History.load(self.path) if self.path.exists() else History(metadata=dict(metadata or {}))
        except BaseException:
            self.close()
            raise

    def append(
        self,
        step: int,
        spectrum: Spectrum | None = None,
        *,
        arrays: Mapping[str, npt.ArrayLike] | None = None,
        note: str = "",
        **scalars: float,
    ) -> bool:
        """Append a record and write the file; parameters are those of `History.append`.

        Parameters
        ----------
        step : int
            Beyond the last one.
        spectrum : Spectrum, optional
            Leave it out where there is none.
        arrays : Mapping, optional
            Name -> small array.
        note : str
            What went wrong.
        **scalars : float
            Numbers.

        Returns
        -------
        bool
            Whether the record is on disk. Where it is not, it is kept and written with the next one.

        Raises
        ------
        ValueError
            If the step is not beyond the last one, or the file was closed.

        Warns
        -----
        SlqWarning
            Once, when the file cannot be written; it stays as it was.
        """
        if self._lock is None:
            msg = f"{self.path} was closed: nothing more is written to it. Open it again by HistoryFile(path)."
            raise ValueError(msg)
        self.history = self.history.append(step, spectrum, arrays=arrays, note=note, **scalars)
        return self._write()

    def _write(self) -> bool:
        try:
            self.history.save(self.path)
        except OSError as error:
            if not self._warned:
                self._warned = True
                msg = (
                    f"{self.path} cannot be written ({error.strerror or error}). It stays as it was; records are kept "
                    "in memory and written as soon as there is room."
                )
                warnings.warn(msg, SlqWarning, stacklevel=4)
            return False
        self._warned = False
        return True

    def close(self) -> None:
        """Let others write to the file; can be called twice."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
