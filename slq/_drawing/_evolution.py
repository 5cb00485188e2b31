"""The spectrum over the steps of a training: a heat map with its edges and outliers, or ridge lines.

Part of `slq.plot`. All records share one grid of eigenvalues. Colours and heights are numbers of eigenvalues in a
hundredth of the eigenvalue axis, so that records of unlike size compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._drawing._axes import CURVE, axes_for, eigenvalue_name, eigenvalue_ticks
from slq._drawing._step_axis import (
    StepScale,
    label_steps,
    legend_above,
    require_history,
    step_coordinate,
    step_edges,
    upright_eigenvalues,
)
from slq._history._history import History
from slq._quadrature._coordinate import Coordinate, Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["heat", "ridge"]
# Counts are per this share of the axis; cells of the heat map are finer, ridges finer still.
_BINS, _CELLS, _POINTS = 100, 200, 401
# Where less than this part of an eigenvalue lies in a bin nothing is drawn.
_LEAST = 0.4
# Light to dark, even to the eye, told apart by the colour-blind; edges and outliers stand out of it (Okabe & Ito).
_MAP, _EDGE, _OUTLIER, _ABSENT = "cividis_r", "#D55E00", "#CC3311", "0.9"
_COUNT = "eigenvalues per 1/100 of the axis"
# More ridges than this hide each other; a ridge is at most so many spacings high.
_RIDGES, _OVERLAP = 24, 3.6


def evolution(
    history: History,
    ax: Axes | None = None,
    *,
    kind: Kind = "heat",
    scale: Scale | Literal["auto"] = "auto",
    step_scale: StepScale = "auto",
    colorbar: bool = True,
    **style: Any,
) -> Axes:
    """Draw how a spectrum evolves over the steps of a training.

    The heat map has steps across and eigenvalues upright; the colour is the number of eigenvalues in a hundredth of the
    eigenvalue axis, on a logarithmic scale, and white is less than one. Lines are the largest and the smallest Ritz
    value, dots the outliers. Steps without a spectrum are grey. Ridge lines show up to 24 of the same curves one behind
    the other, the oldest in front.

    Parameters
    ----------
    history : History
        What to draw; as `slq_torch.Recorder` makes it.
    ax : Axes, optional
        Where; by default in a new figure.
    kind : {"heat", "ridge"}, default "heat"
        Heat map or ridge lines.
    scale : {"auto", "linear", "asinh"}, default "auto"
        Of the eigenvalue axis; "auto" takes asinh where far outliers squeeze the bulk.
    step_scale : {"auto", "linear", "log"}, default "auto"
        Of the step axis of the heat map; "auto" is logarithmic where the distances of the records differ widely.
    colorbar : bool, default True
        Whether a colour bar stands beside the heat map.
    **style : dict
        Passed to the heat map (`cmap`, `norm`, `rasterized`, ...) or to the ridge lines (`color`, `linewidth`, ...).

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `history` is no History.
    ValueError
        If it has no records or none with a spectrum, or an option is not among its choices.

    Examples
    --------
    >>> import slq
    >>> history = slq.History()
    >>> for step in range(3):
    ...     operator, _ = slq.gallery.spiked(200, outliers=(3.0 + step,))
    ...     history = history.append(step, slq.spectrum(operator, probes=2, steps=30, rng=0))
    >>> slq.plot.evolution(history).get_xlabel()
    'training step'
    """
    require_history(history, "evolution")
    if kind not in get_args(Kind):
        msg = f'`kind` must be "heat" or "ridge", got {kind!r}.'
        raise ValueError(msg)
    coordinate = history.coordinate(scale)
    axes, _ = axes_for(ax)
    if kind == "ridge":
        return _ridges(axes, history, coordinate, style)
    return _heat(axes, history, coordinate, step_scale, style, colorbar=colorbar)


def _counts(history: History, coordinate: Coordinate, x: Floats) -> Floats:
    """Return the number of eigenvalues per bin of the axis at the points x, shape (T, points)."""
    ends = coordinate.forward(history.grid(coordinate, 2))
    sizes = np.array([np.nan if s is None else s.n for s in history.spectra])
    return np.asarray(history.density(x, scale=coordinate)[1] * sizes[:, None] * float(ends[1] - ends[0]) / _BINS)


def _heat(
    axes: Axes,
    history: History,
    coordinate: Coordinate,
    step_scale: StepScale,
    style: dict[str, Any],
    *,
    colorbar: bool,
) -> Axes:
    from matplotlib.colors import LogNorm

    borders = history.grid(coordinate, _CELLS + 1)
    middle = coordinate.inverse((coordinate.forward(borders[1:]) + coordinate.forward(borders[:-1])) / 2)
    counts = _counts(history, coordinate, middle)
    steps = step_coordinate(history, step_scale)
    edges = step_edges(history, steps)
    shown = np.ma.masked_where(~(counts >= _LEAST), counts)
    usual: dict[str, Any] = {
        "cmap": _MAP,
        "norm": LogNorm(_LEAST, max(float(np.nanmax(counts)), 10.0)),
        "rasterized": True,
    }
    mesh = axes.pcolormesh(edges, borders, shown.T, **(usual | style))
    for i, spectrum in enumerate(history.spectra):
        if spectrum is None:
            axes.axvspan(edges[i], edges[i + 1], color=_ABSENT, linewidth=0, label="_none")
    _lines(axes, history, _outside(history, borders, np.ma.getmaskarray(shown)))
    label_steps(axes, steps, edges)
    upright_eigenvalues(axes, borders, coordinate)
    if colorbar:
        bar = axes.figure.colorbar(mesh, ax=axes, pad=0.02, fraction=0.06)
        bar.set_label(_COUNT, fontsize="small")
        bar.ax.tick_params(labelsize="small")
        bar.outline.set_visible(False)
    return legend_above(axes)


def _outside(history: History, borders: Floats, blank: npt.NDArray[np.bool_]) -> list[tuple[int, float]]:
    """Return (step, value) of the recorded top eigenvalues where the heat map is blank: no run resolves all of them."""
    rows = history.arrays.get("eigenvalues", np.zeros((len(history), 0)))
    found = []
    for step, row, empty in zip(history.steps, rows, blank, strict=True):
        values = row[np.isfinite(row)]
        cells = np.clip(np.searchsorted(borders, values) - 1, 0, len(empty) - 1)
        found += [(int(step), float(value)) for value in values[empty[cells]]]
    return found


def _lines(axes: Axes, history: History, others: list[tuple[int, float]]) -> None:
    """Draw the outermost eigenvalues as lines; the outliers, and others that stand outside, as dots."""
    ends = history.edges
    # Recorded eigenvalues have converged; the outermost nodes of a spectrum may lie within them.
    largest = np.fmax.reduce(history.arrays.get("eigenvalues", ends), axis=1, initial=np.nan)
    axes.plot(
        history.steps, np.fmax(ends[:, 1], largest), color=_EDGE, linewidth=1.1, label="largest and smallest", gid=CURVE
    )
    axes.plot(history.steps, ends[:, 0], color=_EDGE, linewidth=1.1)
    found = [(s, o) for s, x in zip(history.steps, history.spectra, strict=True) if x for o in x.outliers.values]
    if found := [*found, *others]:
        at = np.array(found)
        size = float(np.clip(2.4 - len(history) / 80, 1.2, 2.4))
        axes.plot(at[:, 0], at[:, 1], "o", color=_OUTLIER, markersize=size, markeredgewidth=0, label="outliers")


def _ridges(axes: Axes, history: History, coordinate: Coordinate, style: dict[str, Any]) -> Axes:
    from matplotlib import colormaps

    known = [i for i, s in enumerate(history.spectra) if s is not None]
    chosen = [known[i] for i in np.unique(np.linspace(0, len(known) - 1, min(len(known), _RIDGES)).round().astype(int))]
    x = history.grid(coordinate, _POINTS)
    heights = np.log10(np.maximum(_counts(history, coordinate, x)[chosen], _LEAST) / _LEAST)
    heights *= _OVERLAP / max(float(heights.max()), 1.0)
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(chosen)))
    outliers = [np.zeros(0) if s is None else s.outliers.values for s in history.spectra]
    for place, (i, shade) in enumerate(zip(chosen, shades, strict=True)):
        line = {"color": shade, "linewidth": 0.9} | style
        behind = 2 * (len(chosen) - place)
        axes.fill_between(x, place, place + heights[place], color="w", alpha=0.85, linewidth=0, zorder=behind)
        axes.plot(x, place + heights[place], **line, zorder=behind + 0.5, gid=CURVE)
        at_base = np.full(outliers[i].size, float(place))
        axes.plot(outliers[i], at_base, "o", color=_OUTLIER, markersize=2.2, zorder=behind + 0.7)
    if coordinate.scale == "asinh":
        axes.set_xscale("asinh", linear_width=coordinate.unit)
        eigenvalue_ticks(axes, x, coordinate, axes.bbox.width / axes.figure.dpi)
    labelled = np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), 8)).round().astype(int))
    axes.set_yticks(labelled, [str(history.steps[chosen[i]]) for i in labelled])
    axes.set_ylim(-0.6, len(chosen) - 1 + _OVERLAP + 0.2)
    axes.set_xlim(float(x[0]), float(x[-1]))
    axes.set_xlabel(eigenvalue_name(coordinate))
    axes.set_ylabel("training step")
    axes.spines[["top", "right"]].set_visible(False)
    return axes
