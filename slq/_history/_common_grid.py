"""All spectra of a history on one grid of eigenvalues, so that records compare: edges, densities, an xarray.Dataset.

These are methods of `History`, which is why their first argument is called `self`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._quadrature._coordinate import Coordinate, Scale, natural
from slq._spectrum._spectrum import Spectrum

if TYPE_CHECKING:
    from slq._history._history import History

# Points of the common grid, and the share of the range that it reaches beyond the outermost nodes.
_POINTS, _MARGIN = 251, 0.04


def edges(self: History) -> Floats:
    """Outermost nodes of each spectrum, shape (T, 2); NaN where there is none."""
    ends = [(np.nan, np.nan) if s is None else (s.nodes.min(), s.nodes.max()) for s in self.spectra]
    return np.array(ends, dtype=np.float64).reshape(-1, 2)


def coordinate(self: History, scale: Scale | Literal["auto"] = "auto") -> Coordinate:
    """Return a coordinate that shows all spectra, each counting the same; see `Spectrum.coordinate`."""
    known = _known(self)
    nodes = np.concatenate([s.nodes.ravel() for s in known])
    weights = np.concatenate([s.weights.ravel() / s.probes for s in known]) / len(known)
    return natural(nodes[None], weights[None], scale)


def grid(self: History, coordinate: Coordinate, points: int = _POINTS) -> Floats:
    """Return points over all spectra, even in a coordinate, as eigenvalues."""
    low, high = coordinate.forward(np.array([np.nanmin(self.edges), np.nanmax(self.edges)]))
    margin = _MARGIN * (high - low) or max(abs(low), 1.0)
    return coordinate.inverse(np.linspace(low - margin, high + margin, points))


def density(
    self: History, x: npt.ArrayLike | None = None, *, scale: Scale | Literal["auto"] | Coordinate = "auto"
) -> tuple[Floats, Floats]:
    """Return the densities of all steps on one grid.

    Parameters
    ----------
    self : History
        The records.
    x : array_like, shape (points,), optional
        Ascending eigenvalues; by default over all spectra.
    scale : {"auto", "linear", "asinh"} or Coordinate, default "auto"
        Density per unit of x or of asinh(x / s), as for `Spectrum.density`.

    Returns
    -------
    x : ndarray, shape (points,)
        The grid.
    density : ndarray, shape (T, points)
        One row per step, NaN where there is no spectrum. Outliers are not in it: they are no density.

    Raises
    ------
    ValueError
        If no record has a spectrum.
    """
    coordinate = scale if isinstance(scale, Coordinate) else self.coordinate(scale)
    points = self.grid(coordinate) if x is None else np.array(x, dtype=np.float64, ndmin=1)
    rows = np.full((len(self), points.size), np.nan)
    for row, spectrum in zip(rows, self.spectra, strict=True):
        if spectrum is not None:
            row[:] = spectrum.density(points, scale=coordinate).value
    return points, rows


def to_xarray(self: History) -> Any:
    """Return an xarray.Dataset (needs xarray): scalars, arrays, edges and densities along the dimension `step`.

    Raises
    ------
    ImportError
        If xarray is missing.
    """
    try:
        import xarray
    except ImportError as error:
        msg = "`History.to_xarray` needs xarray: python -m pip install xarray"
        raise ImportError(msg) from error
    variables: dict[str, Any] = {name: ("step", values) for name, values in self.scalars.items()}
    for name, values in self.arrays.items():
        variables[name] = (("step", *(f"{name}_{i}" for i in range(1, values.ndim))), values)
    coordinates: dict[str, Any] = {"step": self.steps}
    if any(s is not None for s in self.spectra):
        coordinate = self.coordinate()
        x, density = self.density(scale=coordinate)
        coordinates |= {"eigenvalue": x, "end": ["smallest", "largest"]}
        variables |= {"density": (("step", "eigenvalue"), density), "edges": (("step", "end"), self.edges)}
        variables["density"] += ({"per unit of": "λ" if coordinate.scale == "linear" else "asinh(λ/s)"},)
    return xarray.Dataset(variables, coordinates, {"metadata": json.dumps(dict(self.metadata), default=str)})


def _known(self: History) -> list[Spectrum]:
    known = [s for s in self.spectra if s is not None]
    if not known:
        msg = "no record of this history has a spectrum: there is nothing to show on a common grid."
        raise ValueError(msg)
    return known
