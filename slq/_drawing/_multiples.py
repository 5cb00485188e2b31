"""Small multiples: one small density per spectrum, all on the same axes, so that shapes and places compare by eye.

Part of `slq.plot`. Heights are numbers of eigenvalues in a bin of the common axis, so a single eigenvalue is equally
high in every panel, however large the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from slq._arrays import Floats
from slq._drawing._axes import CURVE, colours, eigenvalue_name, eigenvalue_ticks, figure_for
from slq._quadrature._coordinate import Coordinate, Scale, natural
from slq._spectrum._spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A bin is this share of the common axis, as in `density`; the curve has this many points per bin.
_BINS, _POINTS = 100, 2.5
_MARGIN = 0.04
# Heights end below one eigenvalue by this factor; a curve that dives below it leaves the panel.
_BELOW_ONE, _ABOVE = 0.4, 2.5
# Inches: width of the figure, height of a row, and of what is written above and below all rows.
_WIDTH, _ROW, _REST = 7.2, 0.92, 0.55
# One or two rows have room to be taller.
_FEW_ROWS, _TALL_ROW = 2, 1.5
# Characters of a name that fit above a panel, per inch; the smaller font is for more columns than this.
_PER_INCH, _WIDE = {"x-small": 15.0, "xx-small": 18.0}, 4
# Labels are smaller than those of a whole figure, and panels a little narrower than their share of it.
_SMALLER = 1.1
_QUIET = "0.45"


def multiples(
    spectra: Mapping[str, Spectrum],
    figure: Any = None,
    *,
    columns: int | None = None,
    scale: Scale | Literal["auto"] = "auto",
    **style: Any,
) -> dict[str, Axes]:
    """Draw the densities of several spectra as small multiples on common axes.

    Every panel has the same eigenvalue axis and the same logarithmic height: how many eigenvalues lie in a hundredth of
    the axis. What stands apart is drawn as stems, simple eigenvalues of height 1. The number in the corner is the
    operator's size; the light area is the band of the density.

    Parameters
    ----------
    spectra : Mapping
        Name -> Spectrum, such as the Spectra of a network's layers; drawn row by row.
    figure : Figure or SubFigure, optional
        Where; by default a new figure, 7.2 inches wide.
    columns : int, optional
        Panels per row; by default 4, up to 6 where there are many.
    scale : {"auto", "linear", "asinh"}, default "auto"
        Of the eigenvalue axis; "auto" takes asinh where far outliers squeeze the bulk.
    **style : dict
        Passed to the curves (`color`, `linewidth`, ...); areas and stems follow their colour.

    Returns
    -------
    dict
        Name -> axes.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    ValueError
        If there is nothing to draw, or `columns` is not positive.

    Examples
    --------
    >>> import slq
    >>> spectra = {f"spiked {n}": slq.spectrum(slq.gallery.spiked(n)[0], rng=0) for n in (200, 400)}
    >>> axes = slq.plot.multiples(spectra)
    >>> list(axes)
    ['spiked 200', 'spiked 400']
    """
    if not spectra:
        msg = "`spectra` is empty: there is nothing to draw."
        raise ValueError(msg)
    if columns is not None and columns < 1:
        msg = f"`columns` must be at least 1, got {columns}."
        raise ValueError(msg)
    columns = min(columns or _columns(len(spectra)), len(spectra))
    rows = -(-len(spectra) // columns)
    figure = figure_for(figure, (_WIDTH, (_ROW if rows > _FEW_ROWS else _TALL_ROW) * rows + _REST))
    line, stem = colours(0, style)
    coordinate = _common(list(spectra.values()), scale)
    x = _grid(list(spectra.values()), coordinate)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = grid.ravel()
    for axes in panels[len(spectra) :]:
        axes.remove()
    drawn = dict(zip(spectra, panels, strict=False))
    top = max(_panel(drawn[name], s, x, coordinate, line, stem, style) for name, s in spectra.items())
    _common_axes(figure, panels[: len(spectra)], columns, x, coordinate, top)
    return {name: _named(axes, name, spectra[name].n, columns) for name, axes in drawn.items()}


def _columns(count: int) -> int:
    return int(np.clip(np.ceil(np.sqrt(0.7 * count)), 4, 6))


def _common(spectra: list[Spectrum], scale: Scale | Literal["auto"]) -> Coordinate:
    """Return the coordinate that shows all spectra, each counting the same."""
    nodes = np.concatenate([s.nodes.ravel() for s in spectra])
    weights = np.concatenate([s.weights.ravel() / s.probes for s in spectra]) / len(spectra)
    return natural(nodes[None], weights[None], scale)


def _grid(spectra: list[Spectrum], coordinate: Coordinate) -> Floats:
    ends = np.array([min(s.nodes.min() for s in spectra), max(s.nodes.max() for s in spectra)])
    low, high = coordinate.forward(ends)
    margin = _MARGIN * (high - low) or max(abs(low), 1.0)
    return coordinate.inverse(np.linspace(low - margin, high + margin, round(_POINTS * _BINS) + 1))


def _panel(
    axes: Axes, s: Spectrum, x: Floats, coordinate: Coordinate, line: Any, stem: Any, style: dict[str, Any]
) -> float:
    """Draw one spectrum in eigenvalues per bin and return its greatest height."""
    curve = s.density(x, scale=coordinate)
    y = coordinate.forward(x[[0, -1]])
    per_bin = s.n * float(y[1] - y[0]) / _BINS
    low, value, high = (np.maximum(part * per_bin, 1e-3 * _BELOW_ONE) for part in (curve.low, curve.value, curve.high))
    axes.axvline(0.0, color="0.8", linewidth=0.6, zorder=0)
    axes.fill_between(x, low, high, color=line, alpha=0.15, linewidth=0)
    axes.fill_between(x, _BELOW_ONE, np.maximum(value, _BELOW_ONE), color=line, alpha=0.35, linewidth=0)
    axes.plot(x, value, **({"color": line, "linewidth": 0.9} | style), gid=CURVE)
    found = s.outliers
    axes.vlines(found.values, _BELOW_ONE, found.multiplicities, color=stem, linewidth=0.8)
    axes.plot(found.values, found.multiplicities, "o", color=stem, markersize=2.0)
    return float(max(value.max(), found.multiplicities.max(initial=0.0)))


def _common_axes(figure: Any, panels: Any, columns: int, x: Floats, coordinate: Coordinate, top: float) -> None:
    """Bound all panels alike, label the outer ones, and take away the lines that carry nothing."""
    if coordinate.scale == "asinh":
        panels[0].set_xscale("asinh", linear_width=coordinate.unit)
    panels[0].set_yscale("log")
    panels[0].set_ylim(_BELOW_ONE, max(_ABOVE * top, 10.0))
    panels[0].set_xlim(x[0], x[-1])
    inches = figure.bbox.width / figure.dpi / columns * _SMALLER
    eigenvalue_ticks(panels[0], x, coordinate, inches)
    panels[0].yaxis.get_major_locator().set_params(numticks=4)
    panels[0].yaxis.set_minor_locator(_no_ticks())
    for i, axes in enumerate(panels):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set(color=_QUIET, linewidth=0.6)
        axes.tick_params(labelsize="x-small", color=_QUIET, labelcolor="0.25", pad=1.5, length=2.5)
        axes.tick_params(which="minor", length=1.2, color=_QUIET)
        axes.tick_params(labelbottom=i + columns >= len(panels), labelleft=i % columns == 0)
    figure.supxlabel(eigenvalue_name(coordinate), fontsize="small")
    name = "eigenvalues per 1/100 of the axis"
    tall = figure.bbox.height / figure.dpi > _FEW_ROWS * _TALL_ROW
    figure.supylabel(name if tall else name.replace("per ", "per\n"), fontsize="small")


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _named(axes: Axes, name: str, n: int, columns: int) -> Axes:
    """Write the name above a panel, the last parts of a long one, and the size into its corner."""
    inches = axes.figure.bbox.width / axes.figure.dpi / columns
    font = "x-small" if columns <= _WIDE else "xx-small"
    room = max(int(_PER_INCH[font] * inches), 6)
    axes.set_title(_ending(name, room), loc="left", fontsize=font, pad=2.0)
    size = f"{n:,}".replace(",", "\u2009")
    axes.text(0.985, 0.93, size, transform=axes.transAxes, ha="right", va="top", fontsize="xx-small", color=_QUIET)
    return axes


def _ending(name: str, room: int) -> str:
    """Return as many of the last parts of a dotted name as there is room for."""
    if len(name) <= room:
        return name
    parts = name.split(".")
    fitting = [ending for i in range(1, len(parts)) if len(ending := ".".join(parts[i:])) < room]
    return f"…{fitting[0] if fitting else name[1 - room :]}"
