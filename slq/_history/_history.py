"""Spectra over time, such as the Hessian's through the training of a network: one record per step.

A record is a spectrum, numbers, and small arrays (top eigenvalues, say), all at one step. A `History` is a value that
never changes; `append` returns a longer one. How it lives on disk while it grows is the business of `_history_file`,
how it looks that of `slq.plot`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._files import _store
from slq._files._contents import require_history
from slq._history import _common_grid
from slq._history._records import longer, pack, unpack
from slq._spectrum._spectrum import Spectrum
from slq._text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NO_STEPS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class History:
    """Spectra and numbers over steps. Made by `slq_torch.Recorder`, by `History.load`, or by `append` from nothing.

    Attributes
    ----------
    steps : ndarray of int, shape (T,)
        Ascending.
    spectra : tuple of Spectrum or None
        One per step; None where there was none, for example because the loss was not a number.
    scalars : Mapping
        Name -> ndarray of shape (T,), NaN where a record lacks that number.
    arrays : Mapping
        Name -> ndarray of shape (T, ...), padded with NaN where records differ in length.
    notes : tuple of str
        One per step: what went wrong, empty where nothing did.
    metadata : Mapping
        Facts about the whole, that can be written as JSON.

    Examples
    --------
    >>> import slq
    >>> history = slq.History()
    >>> for step in (0, 10, 20):
    ...     operator, _ = slq.gallery.spiked(200, outliers=(3.0 + step,))
    ...     history = history.append(step, slq.spectrum(operator, probes=1, steps=20, rng=0), loss=1 / (1 + step))
    >>> history.steps, history.scalars["loss"].round(2)
    (array([ 0, 10, 20]), array([1.  , 0.09, 0.05]))
    """

    steps: npt.NDArray[np.int64] = field(default_factory=_NO_STEPS.copy)
    spectra: tuple[Spectrum | None, ...] = ()
    scalars: Mapping[str, Floats] = field(default_factory=dict)
    arrays: Mapping[str, Floats] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("scalars", "arrays"):
            frozen = {key: _read_only(value) for key, value in getattr(self, name).items()}
            object.__setattr__(self, name, MappingProxyType(frozen))
        self.steps.flags.writeable = False
        lengths = {
            len(self.spectra),
            len(self.notes),
            *map(len, self.scalars.values()),
            *map(len, self.arrays.values()),
        }
        if lengths - {len(self.steps)} or np.any(np.diff(self.steps) <= 0):
            msg = "`steps` must ascend, and everything else have one entry per step."
            raise ValueError(msg)

    def __reduce__(self) -> tuple[Any, ...]:
        plain = (self.steps, self.spectra, dict(self.scalars), dict(self.arrays), self.notes, self.metadata)
        return History, plain

    def __len__(self) -> int:
        return len(self.steps)

    def __eq__(self, other: object) -> bool:
        """Compare all records, not the times that their spectra took."""
        if not isinstance(other, History):
            return NotImplemented
        named = zip((self.scalars, self.arrays), (other.scalars, other.arrays), strict=True)
        return (
            np.array_equal(self.steps, other.steps)
            and (self.spectra, self.notes) == (other.spectra, other.notes)
            and all(
                a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a.keys() - {"seconds"}) for a, b in named
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not len(self):
            return "History of no records"
        sizes = sorted({s.n for s in self.spectra if s is not None})
        head = f"History of {len(self)} records, steps {self.steps[0]} to {self.steps[-1]}"
        lines = [head + (f", n = {', '.join(map(str, sizes))}" if sizes else "")]
        for name, values in self.scalars.items():
            known = values[~np.isnan(values)]
            lines.append(f"  {name:<24} {known[0]:.4g} … {known[-1]:.4g}" if known.size else f"  {name:<24} nan")
        lines += [f"  {name:<24} {' × '.join(map(str, a.shape))}" for name, a in self.arrays.items()]
        noted = [f"  step {step}: {note}" for step, note in zip(self.steps, self.notes, strict=True) if note]
        return printable(
            "\n".join([*lines, *noted[:3], *([f"  and {len(noted) - 3} more notes"] if len(noted) > 3 else [])])
        )

    # -- growing ------------------------------------------------------------------------------------------------

    def append(
        self,
        step: int,
        spectrum: Spectrum | None = None,
        *,
        arrays: Mapping[str, npt.ArrayLike] | None = None,
        note: str = "",
        **scalars: float,
    ) -> History:
        """Return the history with one more record.

        Parameters
        ----------
        step : int
            Beyond the last one.
        spectrum : Spectrum, optional
            Leave it out where there is none.
        arrays : Mapping, optional
            Name -> small array, such as the top eigenvalues.
        note : str
            What went wrong.
        **scalars : float
            Numbers, such as the loss.

        Returns
        -------
        History
            A new one; this one stays.

        Raises
        ------
        ValueError
            If the step is not beyond the last one, or an array has another number of dimensions than before.
        """
        if len(self) and step <= self.steps[-1]:
            msg = f"`step` must be beyond the last recorded one, {self.steps[-1]}, got {step}."
            raise ValueError(msg)
        rows = {name: np.asarray(value, dtype=np.float64) for name, value in (arrays or {}).items()}
        columns = {name: np.asarray(value, dtype=np.float64) for name, value in scalars.items()}
        for name, value in columns.items():
            if value.ndim:
                msg = f"`{name}` must be a number, got shape {value.shape}. Pass arrays in `arrays`."
                raise ValueError(msg)
        return replace(
            self,
            steps=np.append(self.steps, np.int64(step)),
            spectra=(*self.spectra, spectrum),
            scalars=longer(self.scalars, columns, len(self)),
            arrays=longer(self.arrays, rows, len(self)),
            notes=(*self.notes, note),
        )

    # -- on one grid --------------------------------------------------------------------------------------------

    edges = property(_common_grid.edges)
    coordinate = _common_grid.coordinate
    grid = _common_grid.grid
    density = _common_grid.density
    to_xarray = _common_grid.to_xarray

    # -- elsewhere ----------------------------------------------------------------------------------------------

    def save(self, path: str | Path, /) -> Path:
        """Write everything to one .npz file (no pickle, metadata as JSON, atomically) and return its path."""
        return _store.write(Path(path), *_packed(self), kind=_store.HISTORY)

    @staticmethod
    def load(path: str | Path, /) -> History:
        """Read a file written by `save` or by a recorder, also while the recorder goes on.

        Parameters
        ----------
        path : str or Path
            The .npz file.

        Returns
        -------
        History
            Equal to the one that was written.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is truncated, no history, of a newer format, or contradicts itself; the message says which.
        """
        with _store.opened(Path(path), _store.HISTORY, ("steps", "present")) as (arrays, facts):
            return _unpacked(Path(path), arrays, facts)

    def plot(self, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw the evolution on matplotlib axes and return them; see `slq.plot.evolution`."""
        from slq import plot

        return plot.evolution(self, ax, **style)


def _read_only(values: npt.ArrayLike) -> Floats:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def _same(a: Floats, b: Floats) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _packed(history: History) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    arrays, facts = pack(history.spectra)
    arrays |= {
        "steps": history.steps,
        "scalars": np.array([*history.scalars.values()]).reshape(len(history.scalars), len(history)),
    }
    arrays |= {f"array_{i}": values for i, values in enumerate(history.arrays.values())}
    names = {"scalars": [*history.scalars], "arrays": [*history.arrays]}
    return arrays, facts | {"names": names, "notes": history.notes, "metadata": history.metadata}


def _unpacked(path: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> History:
    require_history(arrays, facts)
    names = facts["names"]
    return History(
        steps=arrays["steps"],
        spectra=unpack(path, arrays, facts),
        scalars=dict(zip(names["scalars"], arrays["scalars"], strict=True)),
        arrays={name: arrays[f"array_{i}"] for i, name in enumerate(names["arrays"])},
        notes=tuple(facts["notes"]),
        metadata=facts["metadata"],
    )
