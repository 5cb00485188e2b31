"""A run on disk: what its products gave and what it goes on from, so that it may be killed at any instant.

The file is an archive as of `_store`, replaced in one step. Beside it, with re-orthogonalisation, the Krylov vectors of
the open batch are in a file that only grows: NAME.basis-I-K of batch I with K probes. The archive names how much of it
counts, with a checksum, so what a dying process has appended after that does no harm. A run that goes on does what it
did before, with recorded coefficients in place of products (`_record`).
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from slq import _store
from slq._errors import SlqWarning
from slq._record import Past, Record

# Share of the run's time that writing may take; and the one of these seconds, where so long nothing was written.
_SHARE, _LONG, _DEAR = 0.01, 60.0, 0.05
# Before the first write: seconds of two flushes to disk, and bytes per second.
_FLUSH, _SPEED = 0.01, 1e9
_PIECE = 1 << 24
_FIELDS = ("probes", "reorth", "scale", "asymmetry", "rounding", "dropped")


class Interrupted(Exception):
    """The run was asked to end by a signal; all that was done is on disk."""


class Checkpoint:
    """The file of one run, which no other run can have open.

    Parameters
    ----------
    path : Path
        Where it is, or will be.
    options : Mapping
        All that the result depends on: a file that was made with others is refused.

    Attributes
    ----------
    past : Past
        What was done before.
    seconds : float
        That it took.
    resumed : int
        How often the run was resumed.
    facts : dict
        JSON-able ones, which a resumed run finds again.
    asked : bool
        Whether a signal asks to end.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path, self._options = _store.with_suffix(path), dict(options)
        self.past, self.seconds, self.resumed = Past(), 0.0, 0
        self.facts: dict[str, Any] = {}
        self.asked = False
        self._basis: dict[str, Any] | None = None
        self._previous: dict[int, Any] = {}
        self._began = self._written = perf_counter()
        self._spent, self._slowness, self._warned = 0.0, 1.0, False
        self._lock = _store.locked(self.path, "run")
        try:
            if self.path.exists():
                self._load()
        except _Refused as error:
            self.close()
            raise ValueError(str(error)) from None
        except BaseException:
            self.close()
            raise

    def known(self, name: str, value: Any, *, free: bool = True) -> Any:
        """Return a fact as the run began with it, the given value in a new run; refuse another unless it is free."""
        before = self.facts.setdefault(name, value)
        if not free and before != value:
            raise ValueError(self._differs(name, before, value))
        return before

    def recognise(self, again: Callable[[float, float], float], noise: float) -> None:
        """Refuse another operator than that of the file, by one product with the first probe.

        `again` makes it and returns how much the coefficients differ from the given ones, beyond rounding.
        """
        if not self.past.records:
            return
        first = self.past.records[0]
        alpha, beta = (float(x) * first.scale for x in first.rows[0][0, :2])
        change = again(alpha, beta)
        if change > 4 * max([noise, *(seen[1] for seen in self.past.tests)]):
            msg = (
                f"`checkpoint`: {self.path} is of another operator, or of one that does not repeat: its first product "
                f"came out {change:.1g} different (relative). Name another file, or remove this one to begin again."
            )
            raise ValueError(msg)

    def due(self, probes: int, n: int, itemsize: int, kept: int) -> bool:
        """Whether writing two vectors per probe, and past ones as far as they are new, is cheap beside the run."""
        vectors = 2 + max(0, kept - (self._basis["vectors"] if self._basis else 0))
        cost = self._slowness * (_FLUSH + probes * n * itemsize * vectors / _SPEED)
        now = perf_counter()
        waited = now - self._written
        return self._spent + cost <= _SHARE * (now - self._began) or (waited > _LONG and cost <= _DEAR * waited)

    def save(self, past: Past, stored: Any = None, *, kept: int = 0, seconds: float = 0.0) -> None:
        """Write what was done; a disk that does not take it is told of once, and the run goes on.

        `stored` gives the past vectors of the open batch, of which there are `kept`, as of `LanczosRun`.
        """
        if not (past.records and past.records[0].rows):
            return
        state = past.records[-1].state
        if not all(np.isfinite(x).all() for x in state.values()):
            return
        began, size = perf_counter(), 0
        try:
            size = self._append(f"{len(past.records) - 1}-{past.records[-1].probes}", stored, kept) if state else 0
            self._write(past, seconds)
        except OSError as error:
            if not self._warned:
                self._warned = True
                msg = f"{self.path} cannot be written ({error.strerror or error}). It stays as it was; the run goes on."
                warnings.warn(msg, SlqWarning, stacklevel=2)
        self._written = perf_counter()
        taken = self._written - began
        self._spent += taken
        self._slowness = taken / (_FLUSH + (size + sum(x.nbytes for x in state.values())) / _SPEED)

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

    # -- the files ------------------------------------------------------------------------------------------------

    def _side(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}.basis-{name}")

    def _append(self, name: str, stored: Any, kept: int) -> int:
        """Write the past vectors that are new behind those that are there; return their bytes."""
        if not kept:
            self._basis = None
            return 0
        basis = self._basis or {}
        if basis.get("name") != name:
            basis = {"name": name, "bytes": 0, "crc": 0, "vectors": 0, "parts": []}
        probes, blocks = stored(basis["vectors"])
        size, crc, dtype = int(basis["bytes"]), basis["crc"], ""
        with self._side(name).open("r+b" if size else "wb") as file:
            file.seek(size)
            file.truncate()
            for rows in blocks:
                data = np.ascontiguousarray(rows)
                file.write(data.data)
                size, crc, dtype = size + data.nbytes, zlib.crc32(data.data, crc), data.dtype.name
            file.flush()
            os.fsync(file.fileno())
        written: int = size - basis["bytes"]
        part = [[dtype, kept - basis["vectors"], probes.tolist()]] * (written > 0)
        self._basis = {"name": name, "bytes": size, "crc": crc, "vectors": kept, "parts": basis["parts"] + part}
        return written

    def _write(self, past: Past, seconds: float) -> None:
        """Replace the archive, then remove vectors that it does not name."""
        arrays: dict[str, npt.NDArray[Any]] = {} if past.deflated is None else {"deflated": past.deflated}
        batches = []
        for i, record in enumerate(past.records):
            arrays[f"rows{i}"] = np.concatenate(record.rows)
            arrays[f"widths{i}"] = np.array([len(rows) for rows in record.rows])
            arrays[f"drifts{i}"] = np.array(record.drifts)
            arrays |= {f"state{i}-{name}": x for name, x in record.state.items()}
            batches.append({name: getattr(record, name) for name in _FIELDS})
        if not past.records[-1].state:
            self._basis = None
        facts = {
            "options": self._options, "facts": self.facts, "seconds": seconds, "resumed": self.resumed,
            "tests": past.tests, "batches": batches, "basis": self._basis,
        }  # fmt: skip
        _store.write(self.path, arrays, facts, kind=_store.CHECKPOINT)
        kept = self._basis and self._side(self._basis["name"])
        for file in self._sides():
            if file != kept:
                file.unlink(missing_ok=True)

    def _sides(self) -> list[Path]:
        prefix = f"{self.path.name}.basis-"
        return [file for file in self.path.parent.iterdir() if file.name.startswith(prefix)]

    def _load(self) -> None:
        """Read what was done, or refuse with the reason."""
        with _store.opened(self.path, _store.CHECKPOINT) as (arrays, facts):
            self._compare(facts["options"])
            self.seconds, self.resumed = float(facts["seconds"]), int(facts["resumed"]) + 1
            self.facts, self._basis = dict(facts["facts"]), facts["basis"]
            records = [_record(i, known, arrays) for i, known in enumerate(facts["batches"])]
            if self._basis is not None:
                records[-1] = replace(records[-1], stored=self._stored)
                self._verify(self._basis)
            self.past = Past(records, [(a, b, c) for a, b, c in facts["tests"]], arrays.get("deflated"))

    def _compare(self, options: Mapping[str, Any]) -> None:
        for name in {*options, *self._options}:
            before, now = options.get(name), self._options.get(name)
            if before != now:
                raise _Refused(self._differs(name, before, now))

    def _differs(self, name: str, before: object, now: object) -> str:
        return (
            f"`checkpoint`: {self.path} is of a run with {name} = {before!r}, this one has {now!r}. Resume it with the "
            "same, or name another file."
        )

    def _verify(self, basis: Mapping[str, Any]) -> None:
        """Compare the vectors with their checksum."""
        file, crc, left = self._side(basis["name"]), 0, int(basis["bytes"])
        try:
            with file.open("rb") as stream:
                while left and (piece := stream.read(min(_PIECE, left))):
                    crc, left = zlib.crc32(piece, crc), left - len(piece)
        except FileNotFoundError:
            left = -1
        if left or crc != basis["crc"]:
            what = "missing" if left < 0 else "damaged"
            msg = (
                f"`checkpoint`: {file} is {what}, and {self.path.name} cannot be resumed without it. Restore it, or "
                "remove both to begin again."
            )
            raise _Refused(msg)

    def _stored(self, active: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[Any]]:
        """Give the past vectors of these probes."""
        if self._basis is None:
            return
        n = self._options["n"]
        with self._side(self._basis["name"]).open("rb") as stream:
            for dtype, count, probes in self._basis["parts"]:
                where = np.searchsorted(probes, active)
                for _ in range(count):
                    flat = np.fromfile(stream, np.dtype(dtype), len(probes) * n)
                    yield flat.reshape(len(probes), n)[where]


class _Refused(RuntimeError):
    """What the user is told, as ValueError, once the file is closed."""


def _record(number: int, known: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Record:
    """Return the record of one batch."""
    widths, rows, prefix = arrays[f"widths{number}"], arrays[f"rows{number}"], f"state{number}-"
    state = {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}
    if widths.min() < 1 or widths.sum() != len(rows) or widths[0] != known["probes"]:
        msg = f"rows of batch {number}"
        raise ValueError(msg)
    parts = np.split(rows, np.cumsum(widths)[:-1])
    fields = {name: known[name] for name in _FIELDS}
    return Record(rows=parts, drifts=arrays[f"drifts{number}"].tolist(), state=state, **fields)
