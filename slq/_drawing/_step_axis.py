"""The axis of steps that the drawings of a history share, and an upright axis of eigenvalues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from slq._arrays import Floats
from slq._drawing._axes import eigenvalue_name, eigenvalue_ticks
from slq._history._history import History
from slq._quadrature._coordinate import Coordinate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

StepScale = Literal["auto", "linear", "log"]
# Steps are drawn on a logarithmic axis where the longest distance between records exceeds the shortest so many times.
_UNEVEN = 20.0
# Columns of a legend above the axes at most, and its width in theirs: it may reach over the labels to their left.
_COLUMNS, _WIDTH = 4, 1.15


def require_history(history: Any, name: str) -> None:
    """Refuse what is no history, or has nothing to draw."""
    if not isinstance(history, History):
        msg = f"`slq.plot.{name}` draws a History, got {type(history).__name__}. Load one by slq.History.load."
        raise TypeError(msg)
    if len(history) == 0:
        msg = "`history` has no records: there is nothing to draw."
        raise ValueError(msg)


def step_coordinate(history: History, scale: StepScale) -> Coordinate:
    """Return the coordinate of the step axis: linear, or logarithmic beyond the first distance of records."""
    if scale not in ("auto", "linear", "log"):
        msg = f'`step_scale` must be "auto", "linear" or "log", got {scale!r}.'
        raise ValueError(msg)
    gaps = np.diff(history.steps)
    if scale == "linear" or gaps.size == 0 or (scale == "auto" and gaps.max() <= _UNEVEN * gaps.min()):
        return Coordinate("linear")
    return Coordinate("asinh", float(gaps.min()))


def step_edges(history: History, coordinate: Coordinate) -> Floats:
    """Return T + 1 borders between the records, half-way in the coordinate."""
    y = coordinate.forward(history.steps.astype(np.float64))
    if y.size == 1:
        return coordinate.inverse(y[0] + np.array([-0.5, 0.5]))
    inner = (y[1:] + y[:-1]) / 2
    return coordinate.inverse(np.concatenate([[1.5 * y[0] - 0.5 * y[1]], inner, [1.5 * y[-1] - 0.5 * y[-2]]]))


def label_steps(axes: Axes, coordinate: Coordinate, edges: Floats) -> None:
    """Bound and label the axis of steps."""
    if coordinate.scale == "asinh":
        axes.set_xscale("asinh", linear_width=coordinate.unit)
        eigenvalue_ticks(axes, edges, coordinate, axes.bbox.width / axes.figure.dpi)
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    axes.set_xlabel("training step")


def upright_eigenvalues(axes: Axes, x: Floats, coordinate: Coordinate) -> None:
    """Make the height axis one of eigenvalues from x[0] to x[-1]."""
    if coordinate.scale == "asinh":
        axes.set_yscale("asinh", linear_width=coordinate.unit)
        eigenvalue_ticks(axes, x, coordinate, axes.bbox.height / axes.figure.dpi, "y")
    axes.set_ylim(float(x[0]), float(x[-1]))
    axes.set_ylabel(eigenvalue_name(coordinate))


def legend_above(axes: Axes) -> Axes:
    """Show the legend above the axes, where it hides nothing, in as many rows as its figure is too narrow for one."""
    entries = len(axes.get_legend_handles_labels()[0])
    for columns in range(min(entries, _COLUMNS), 0, -1):
        drawn = axes.legend(
            frameon=False, fontsize="x-small", handlelength=1.4, ncols=columns, columnspacing=1.2,
            loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1,
        )  # fmt: skip
        if drawn.get_window_extent().width <= _WIDTH * axes.bbox.width:
            break
    return axes
