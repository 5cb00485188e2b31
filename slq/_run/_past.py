"""What a run of probes has done, as arrays and facts of a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from slq._files._contents import require_past
from slq._lanczos._record import Past, Record, Vectors

# Along which axis arrays have the rows of vectors, by the last part of their names.
_AXES = {"deflated": 0, "previous": 1, "current": 1}
_FIELDS = ("probes", "reorth", "scale", "asymmetry", "rounding", "underflow", "dropped")


def packed(past: Past) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return arrays and facts."""
    whole = {"deflated": past.deflated, "columns": past.columns}
    arrays: dict[str, npt.NDArray[Any]] = {name: x for name, x in whole.items() if x is not None}
    batches = []
    for i, record in enumerate(past.records):
        arrays[f"rows{i}"] = np.concatenate(record.rows)
        arrays[f"widths{i}"] = np.array([len(rows) for rows in record.rows])
        arrays[f"drifts{i}"] = np.array(record.drifts)
        arrays |= {f"state{i}-{name}": x for name, x in record.state.items()}
        batches.append({name: getattr(record, name) for name in _FIELDS})
    return arrays, {"tests": past.tests, "batches": batches}


def unpacked(arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], stored: Vectors | None) -> Past:
    """Return what was `packed`, with the vectors of its last batch."""
    require_past(arrays, facts)
    last = len(facts["batches"]) - 1
    if last < 0 and "columns" not in arrays:
        msg = "it has neither probes nor columns"
        raise ValueError(msg)
    records = [_record(i, known, arrays, stored if i == last else None) for i, known in enumerate(facts["batches"])]
    tests = [(a, b, c) for a, b, c in facts["tests"]]
    return Past(records, tests, arrays.get("deflated"), arrays.get("columns"))


def axis(name: str) -> int | None:
    """Return along which axis an array of `packed` is cut where vectors are, None where all ranks have the same."""
    return _AXES.get(name.rpartition("-")[2])


def _record(
    number: int, known: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], stored: Vectors | None
) -> Record:
    """Return the record of one batch."""
    widths, rows, prefix = arrays[f"widths{number}"], arrays[f"rows{number}"], f"state{number}-"
    state = {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}
    drifts = arrays[f"drifts{number}"]
    if widths.min() < 1 or widths.sum() != len(rows) or widths[0] != known["probes"] or drifts.ndim != 1:
        msg = f"rows of batch {number}"
        raise ValueError(msg)
    parts = np.split(rows, np.cumsum(widths)[:-1])
    fields = {name: known[name] for name in _FIELDS}
    return Record(rows=parts, drifts=drifts.tolist(), state=state, stored=stored, **fields)
