"""What a file says of a run is looked at before anything is computed with it: types, shapes, signs, finite numbers.

A file can be whole and hold nonsense all the same, written by another program or by hand. What passes here is a run
that could have been; whether it was, nobody can tell. Damage is the business of `_archive`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from slq._files._archive import require_memory
from slq._lanczos._probes import Law

# A Gauss rule of m steps takes so many matrices of m x m numbers to compute (`stevd` and its workspace).
_MATRICES = 4
_LARGEST = 2**62
# Squares of numbers beyond this leave the range of float64, and products of them with the dimension.
_MOST, _ROOT = 1e250, 1e150


def _whole(least: int, most: int = _LARGEST) -> Callable[[Any], bool]:
    return lambda x: type(x) is int and least <= x <= most


def _size(x: Any) -> bool:
    return isinstance(x, int | float) and type(x) is not bool and 0 <= x <= _MOST


def _pair(x: Any) -> bool:
    return (
        isinstance(x, list | tuple) and len(x) == 2 and all(isinstance(y, int | float) and abs(y) <= _MOST for y in x)
    )


_FACTS: dict[str, Callable[[Any], bool]] = {
    "n": _whole(1),
    "kind": lambda x: isinstance(x, str) and x in get_args(Law),
    "seed": lambda x: type(x) is int and x >= 0,
    "reorth": lambda x: x in ("full", "none"),
    "noise": _size,
    "products": _whole(0),
    "seconds": _size,
    "status": lambda x: isinstance(x, str),
    "warnings": lambda x: isinstance(x, tuple) and all(isinstance(y, str) for y in x),
    "metadata": lambda x: isinstance(x, dict),
    "confidence": lambda x: isinstance(x, float) and 0 < x < 1,
    "drift": _size,
    "traces": lambda x: x is None or _pair(x),
    "copies": _whole(1, 2),
}


def require_run(path: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Raise ValueError, in a few words, where arrays and facts cannot be those of a run."""
    for name, allowed in _FACTS.items():
        if name in facts and not allowed(facts[name]):
            _refuse(name, repr(facts[name]))
    alpha, lengths = arrays["alpha"], arrays["lengths"]
    if alpha.ndim != 2 or not alpha.size:
        _refuse("alpha", f"shape {alpha.shape}")
    k, m = alpha.shape
    exact = facts["kind"] == "exact"
    if exact and (k, m) != (1, facts["n"]):
        _refuse("alpha", f"shape {alpha.shape} for all eigenvalues")
    shapes = {"alpha": (k, m), "beta": (k, m), "lengths": (k,), "groups": (k,), "projected": (k,)}
    shapes |= {"overlaps": (k, m, *arrays["overlaps"].shape[2:3]), "deflated": arrays["deflated"].shape[:1]}
    for name, shape in shapes.items():
        x = arrays[name]
        if x.shape != shape and not (name == "projected" and x.size == 0):
            _refuse(name, f"shape {x.shape}")
        if x.dtype.kind != {"lengths": "i", "groups": "i", "projected": "b"}.get(name, "f"):
            _refuse(name, f"type {x.dtype}")
        if x.dtype.kind == "f" and not _moderate(x):
            _refuse(name, f"not a number, or beyond {_MOST:g}")
    if lengths.min() < 1 or lengths.max() > m:
        _refuse("lengths", f"{lengths.min()} to {lengths.max()}")
    if (arrays["beta"] < 0).any():
        _refuse("beta", "negative")
    size = max(facts["noise"], *(float(np.abs(x).max()) for x in (alpha, arrays["beta"])))
    if facts.get("traces") is not None and size > _ROOT:
        _refuse("traces", f"that of the square of {size:g}")
    require_memory(0 if exact else _MATRICES * 8 * int(lengths.max()) ** 2, path)


def require_history(arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Raise ValueError, in a few words, where arrays and facts cannot be those of a history."""
    steps, present, scalars = arrays["steps"], arrays["present"], arrays["scalars"]
    names, notes = facts["names"], facts["notes"]
    if steps.ndim != 1 or (steps.dtype.kind != "i" and steps.size):
        _refuse("steps", f"{steps.dtype} of shape {steps.shape}")
    if present.shape != steps.shape or present.dtype.kind != "b" or present.sum() != len(facts["spectra"]):
        _refuse("present", f"{present.sum()} of shape {present.shape} for {len(facts['spectra'])} spectra")
    for name, words in (("scalars", names["scalars"]), ("arrays", names["arrays"]), ("notes", notes)):
        if not all(isinstance(word, str) for word in words):
            _refuse(name, "names that are no text")
    if scalars.ndim != 2 or any(arrays[x].dtype.kind != "f" for x in ("scalars", *_numbered(names["arrays"]))):
        _refuse("scalars", "no table of numbers")
    if not isinstance(facts["metadata"], dict):
        _refuse("metadata", repr(facts["metadata"]))


def require_past(arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Raise ValueError, in a few words, where arrays and facts cannot be those of a run that goes on."""
    for name, x in arrays.items():
        kinds = "i" if name.startswith("widths") else "fc" if name == "columns" else "f"
        if x.dtype.kind not in kinds and not name.startswith("state"):
            _refuse(name, f"type {x.dtype}")
        if name == "columns" and (x.ndim != 2 or not 1 <= x.shape[1] <= x.shape[0]):
            _refuse(name, f"shape {x.shape}")
        if name.startswith("rows") and (x.ndim != 2 or x.shape[1] < 2):
            _refuse(name, f"shape {x.shape}")
        if x.dtype.kind in "fc" and not _moderate(x):
            _refuse(name, f"not a number, or beyond {_MOST:g}")
    sizes = [size for test in facts["tests"] for size in test]
    sizes += [batch[name] for batch in facts["batches"] for name in ("scale", "asymmetry", "rounding", "underflow")]
    if not all(map(_size, sizes)):
        _refuse("batches", "sizes that are none")
    counts = [x for batch in facts["batches"] for x in (batch["probes"], *batch["dropped"])]
    if not all(map(_whole(0), counts)) or not all(batch["reorth"] in ("full", "none") for batch in facts["batches"]):
        _refuse("batches", "counts that are none")


_STAGES = ("search", "proof", "admission", "measurement", "end")
_COUNT = _whole(0)
_SEARCH: dict[str, Callable[[Any], bool]] = {
    "stage": lambda x: x in _STAGES,
    **dict.fromkeys(("spent", "drawn", "spaces", "allowed", "joined", "count", "sets"), _COUNT),
    **dict.fromkeys(("norm", "asymmetry", "unit", "underflow"), _size),
    "scale": lambda x: x is None or (_size(x) and x > 0),
    **dict.fromkeys(("verified", "tied", "nearly"), lambda x: type(x) is bool),
    "rest": lambda x: _numbers(x, 2),
    "fence": lambda x: _numbers(x, 3),
    "status": lambda x: isinstance(x, str),
    "warnings": lambda x: isinstance(x, list) and all(isinstance(y, str) for y in x),
}
_SPACE: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("locked", "used", "width", "ahead", "pending", "products", "left", "made", "version"), _COUNT),
    **dict.fromkeys(("size", "block", "chunk"), _whole(1)),
    **dict.fromkeys(("unit", "norm", "asymmetry", "underflow"), _size),
    "scale": _SEARCH["scale"],
}


def require_search(arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Raise ValueError, in a few words, where arrays and facts cannot be those of a search for eigenpairs."""
    space = facts.get("space")
    for known, kinds in ((facts, _SEARCH), ({} if space is None else space, {} if space is None else _SPACE)):
        for name, allowed in kinds.items():
            if not allowed(known[name]):
                _refuse(name, repr(known[name]))
    if (space is None) != (facts["stage"] in _STAGES[3:]) or facts["sets"] < facts["nearly"] + (space is None):
        _refuse("stage", f"{facts['stage']} with {facts['sets']} sets of pairs")
    shapes: dict[str, tuple[int, ...]]
    shapes = {name: (x.size,) for name, x in arrays.items() if name in ("weights", "roots")} | {"log-norm": ()}
    for i in range(min(facts["sets"], len(arrays))):
        shapes[f"values{i}"] = shapes[f"residuals{i}"] = (arrays[f"values{i}"].size,)
    if space is not None:
        size, ahead = space["size"], space["used"] + space["width"]
        if ahead > size + space["width"] * (space["ahead"] == 0) or space["ahead"] > space["chunk"] + space["pending"]:
            _refuse("space", f"{ahead} vectors of {size} with {space['ahead']} steps ahead")
        behind = sum(arrays[f"coupling{i}"].shape[0] for i in range(min(space["pending"], len(arrays))))
        shapes |= {"projected": (size, size), "tail": (arrays["tail"].shape[0], space["used"] - behind)}
    for name, x in arrays.items():
        if x.shape != shapes.get(name, x.shape) or x.dtype.kind not in "fc" or not _moderate(x):
            _refuse(name, f"{x.dtype} of shape {x.shape}, or not a number, or beyond {_MOST:g}")


def _numbers(x: Any, count: int) -> bool:
    return isinstance(x, list) and len(x) == count and all(isinstance(y, float) and y == y for y in x)


def _moderate(x: npt.NDArray[Any]) -> bool:
    return float(np.abs(x).max(initial=0.0)) <= _MOST  # not with NaN; as a Python number, for halves know none so large


def _numbered(names: Sized) -> list[str]:
    return [f"array_{i}" for i in range(len(names))]


def _refuse(name: str, what: str) -> None:
    msg = f"{name}: {what:.80}"
    raise ValueError(msg)
