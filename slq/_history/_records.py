"""Columns of a history: how they grow by one record, and how they are packed into a few arrays for a file.

A thousand spectra of seven arrays each would be seven thousand members of an archive; here every kind of array is one
member, flat, with the shapes beside it. Metadata that repeat from record to record are written once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._files import _store
from slq._files._contents import require_run
from slq._spectrum._spectrum import Spectrum

Columns = Mapping[str, Floats]


def longer(before: Columns, new: Columns, records: int) -> dict[str, Floats]:
    """Append one entry to every column, with NaN where it was unknown, is unknown, or is shorter than others."""
    return {name: _column(name, before.get(name), new.get(name), records) for name in dict.fromkeys([*before, *new])}


def _column(name: str, old: Floats | None, value: Floats | None, records: int) -> Floats:
    if value is None:
        value = np.full(old.shape[1:] if old is not None else (), np.nan)
    if old is None:
        old = np.full((records, *value.shape), np.nan)
    if old.ndim != value.ndim + 1:
        msg = f"`{name}` had {old.ndim - 1} dimensions in earlier records, got {value.ndim}. Give it another name."
        raise ValueError(msg)
    column = np.full((records + 1, *np.maximum(old.shape[1:], value.shape)), np.nan)
    column[tuple(slice(size) for size in old.shape)] = old
    column[records, ...][tuple(slice(size) for size in value.shape)] = value
    return column


def pack(spectra: Sequence[Spectrum | None]) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return spectra as flat arrays with their shapes, and as facts that can be written as JSON."""
    parts = [s._parts() for s in spectra if s is not None]
    arrays: dict[str, npt.NDArray[Any]] = {"present": np.array([s is not None for s in spectra], dtype=bool)}
    for name in _store.ARRAYS if parts else ():
        pieces = [found[name] for found, _ in parts]
        arrays[name] = np.concatenate([piece.ravel() for piece in pieces])
        arrays[f"{name}_shape"] = np.array([piece.shape for piece in pieces], dtype=np.int64)
    facts = [_store.texts(found) for _, found in parts]
    common = dict(facts[0]["metadata"]) if facts else {}
    for found in facts:
        own = {key: value for key, value in found["metadata"].items() if key not in common or common[key] != value}
        found["metadata"], found["absent"] = own, [key for key in common if key not in found["metadata"]]
    return arrays, {"spectra": facts, "common": common}


def unpack(path: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> tuple[Spectrum | None, ...]:
    """Return the spectra that `pack` was given, out of the file of that path."""
    found, at = [], dict.fromkeys(_store.ARRAYS, 0)
    for i, own in enumerate(facts["spectra"]):
        one: dict[str, Any] = {}
        for name in _store.ARRAYS:
            shape = tuple(map(int, arrays[f"{name}_shape"][i]))
            one[name] = arrays[name][at[name] : at[name] + prod(shape)].reshape(shape).copy()
            at[name] += prod(shape)
        absent = own.pop("absent")
        kept = {key: value for key, value in facts["common"].items() if key not in absent}
        known = _store.restored(own | {"metadata": kept | own["metadata"]})
        require_run(path, one, known)
        found.append(Spectrum(**one, **known))
    rest = iter(found)
    return tuple(next(rest) if there else None for there in arrays["present"])
