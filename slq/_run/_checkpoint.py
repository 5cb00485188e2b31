"""A run on disk: what its products gave and what it goes on from, so that it may be killed at any instant.

The file is an archive as of `_store`, replaced in one step, and vectors beside it (`_vectors_file`). Here is known
whose file it is, when it is cheap to write, and which signals ask to end; what is written is said by `_past` for a
spectrum and by `_search` for eigenpairs.
"""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import IO, Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from slq._errors import SlqWarning
from slq._files import _store
from slq._files._vectors_file import Vectors, VectorsFile

# Share of the run's time that writing may take; and the one of these seconds, where so long nothing was written.
_SHARE, _LONG, _DEAR = 0.01, 60.0, 0.015
# Before the first write: seconds of two flushes to disk, and bytes per second, of a slow disk: a first write that was
# thought to be cheaper than it is takes more than its share of a short run.
_FLUSH, _SPEED = 0.01, 1e8

Arrays = Mapping[str, npt.NDArray[Any]]
Stored = Callable[[npt.NDArray[np.intp]], Iterator[Any]]
Content = TypeVar("Content")


class Interrupted(Exception):
    """The run was asked to end by a signal; all that was done is on disk."""


class AnotherRun(ValueError):
    """The file is of a run with another value of something."""


class Checkpoint(Generic[Content]):
    """The file of one run, which no other run can have open.

    Parameters
    ----------
    path : Path
        Where it is, or will be.
    options : Mapping
        All that the result depends on, n among them: a file that was made with others is refused.
    kind : str
        Of the file, as of `_store`.
    read : callable
        Makes of arrays, facts and, given which, vectors what the run goes on from.

    Attributes
    ----------
    content : object
        What `read` made of the file; None in a new one.
    seconds : float
        That it took.
    resumed : int
        How often the run was resumed.
    facts : dict
        JSON-able ones, which a resumed run finds again.
    asked : bool
        Whether a signal asks to end.
    """

    def __init__(
        self,
        path: Path,
        options: Mapping[str, Any],
        kind: str,
        read: Callable[[Arrays, Mapping[str, Any], Stored | None], Content],
    ) -> None:
        self.path, self._options, self._kind, self._read = _store.with_suffix(path), dict(options), kind, read
        self.content: Content | None = None
        self.seconds, self.resumed = 0.0, 0
        self.facts: dict[str, Any] = {}
        self.asked = False
        self._vectors = VectorsFile(self._own)
        self._previous: dict[int, Any] = {}
        self._began = self._written = perf_counter()
        self._spent, self._slowness, self._warned = 0.0, 1.0, False
        self._lock = self._locked()
        try:
            if self._begun():
                self._load()
        except Refused as error:
            self.close()
            raise ValueError(str(error)) from None
        except BaseException:
            self.close()
            raise

    def known(self, name: str, value: Any, *, free: bool = True, allowed: Container[Any] | None = None) -> Any:
        """Return a fact as the run began with it, the given value in a new run; refuse another unless it is free.

        One that is not `allowed` is damage.
        """
        before = self.facts.setdefault(name, value)
        if type(before) is not type(value) or before != before or not (allowed is None or before in allowed):
            msg = f"`checkpoint`: {self.path} is damaged: {name} = {before!r:.60}. Restore it or name another file."
            raise ValueError(msg)
        if not free and before != value:
            raise AnotherRun(self._differs(name, before, value))
        return before

    def recognise(self, change: float, noise: float) -> None:
        """Refuse another operator than that of the file, of which the first product came out so much different."""
        if change > 4 * noise:
            msg = (
                f"`checkpoint`: {self.path} is of another operator, or of one that does not repeat: its first product "
                f"came out {change:.1g} different (relative). Name another file, or remove this one to begin again."
            )
            raise ValueError(msg)

    def due(self, nbytes: int, vectors: Vectors | None = None) -> bool:
        """Whether writing so many bytes, and vectors as far as they are new, is cheap beside the run."""
        cost = self._slowness * (_FLUSH + (nbytes + self._vectors.new(vectors)) / _SPEED)
        now = perf_counter()
        waited = now - self._written
        return self._spent + cost <= _SHARE * (now - self._began) or (waited > _LONG and cost <= _DEAR * waited)

    def save(self, arrays: Arrays, facts: Mapping[str, Any], vectors: Vectors | None, seconds: float) -> None:
        """Write what was done; a disk that does not take it is told of once, and the run goes on."""
        began, size = perf_counter(), 0
        try:
            size = self._append(vectors)
            self._write(arrays, facts, seconds)
        except OSError as error:
            if not self._warned:
                self._warned = True
                msg = f"{self.path} cannot be written ({error.strerror or error}). It stays as it was; the run goes on."
                warnings.warn(msg, SlqWarning, stacklevel=2)
        self._written = perf_counter()
        taken = self._written - began
        self._spent += taken
        self._slowness = taken / (_FLUSH + (size + sum(x.nbytes for x in arrays.values())) / _SPEED)

    def listen(self) -> None:
        """Note SIGINT and SIGTERM instead of ending at once; a second one does what it always did."""
        if self._previous or threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not None:  # it was not set from outside of Python
                self._previous[number] = signal.signal(number, self._note)

    def close(self, *, heard: bool = False) -> None:
        """Let other runs have the file, give signals back to whom they belonged; repeat one that was not `heard`."""
        self._lock.close()
        seen = [number for number, handler in self._previous.items() if signal.getsignal(number) != self._note]
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
        for number in seen if not heard else ():
            signal.raise_signal(number)

    def _note(self, number: int, _: Any) -> None:
        self.asked = True
        signal.signal(number, self._previous[number])

    @property
    def blocks(self) -> int:
        """How many blocks of vectors the file has."""
        return self._vectors.blocks

    @property
    def advice(self) -> str:
        """What to do where a run has ended by an error, as a sentence to be appended; none where nothing is written."""
        return f" The same call goes on from {self.path}." if self.path.exists() else ""

    def damaged(self, error: Exception) -> str:
        """Say what is wrong with a file that was read whole and cannot be gone on from."""
        return f"`checkpoint`: {self.path} contradicts itself: {error}. Restore it, or remove it to begin again."

    @property
    def _own(self) -> Path:
        """The file that vectors lie beside."""
        return self.path

    def _locked(self) -> IO[bytes]:
        return _store.locked(self.path, "run")

    def _begun(self) -> bool:
        return self.path.exists()

    def _append(self, vectors: Vectors | None) -> int:
        return self._vectors.append(vectors)

    def _write(self, arrays: Arrays, facts: Mapping[str, Any], seconds: float) -> None:
        """Replace the archive, then remove vectors that it does not name."""
        self._replace(arrays, facts, seconds, {"vectors": self._vectors.facts})
        self._vectors.remove_others()

    def _replace(self, arrays: Arrays, facts: Mapping[str, Any], seconds: float, more: Mapping[str, Any]) -> None:
        known = {"options": self._options, "facts": self.facts, "seconds": seconds, "resumed": self.resumed}
        _store.write(self.path, arrays, {**known, "content": facts, **more}, kind=self._kind)

    def _load(self) -> None:
        """Read what was done, or refuse with the reason."""
        with _store.opened(self.path, self._kind) as (arrays, header):
            for name in {*header["options"], *self._options}:
                before, now = header["options"].get(name), self._options.get(name)
                if before != now:
                    raise Refused(self._differs(name, before, now))
            self.seconds, self.resumed = float(header["seconds"]), int(header["resumed"]) + 1
            self.facts = dict(header["facts"])
            whole, stored = self._restored(arrays, header)
            self.content = self._read(whole, header["content"], stored)

    def _restored(self, arrays: Arrays, header: Mapping[str, Any]) -> tuple[Arrays, Stored | None]:
        """Return the arrays and what gives the vectors, once they are seen to be whole."""
        self._vectors = VectorsFile(self.path, header["vectors"])
        self._require(self._vectors, self._options["n"])
        return arrays, None if self._vectors.facts is None else partial(self._vectors.read, self._options["n"])

    def _require(self, vectors: VectorsFile, n: int) -> None:
        if fault := vectors.fault(n):
            msg = (
                f"`checkpoint`: {vectors.path} is {fault}, and {self.path.name} cannot be resumed without it. Restore "
                "it, or remove both to begin again."
            )
            raise Refused(msg)

    def _differs(self, name: str, before: object, now: object) -> str:
        return (
            f"`checkpoint`: {self.path} is of a run with {name} = {before!r:.60}, this one has {now!r:.60}. "
            "Resume it with the same, or name another file."
        )


class Refused(RuntimeError):
    """What the user is told, as ValueError, once the file is closed."""
