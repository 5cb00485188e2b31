"""What the drawings of `slq.plot` share: matplotlib, colours, and an eigenvalue axis with ticks at eigenvalues.

Several spectra can be drawn on the same axes: the first decides about the scale, the next take it over. Nothing about
spectra is decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from slq._arrays import Floats
from slq._quadrature._coordinate import Coordinate, Scale
from slq._spectrum._spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# By this name the curves of spectra are recognised on axes that are drawn on again.
CURVE = "slq spectrum"
# Curve and stems of the first, second, ... spectrum on the same axes (Okabe & Ito, and darker shades of theirs).
_COLOURS = ("#0072B2", "#D55E00"), ("#009E73", "#E69F00"), ("#CC79A7", "#8C3D6B"), ("#56B4E9", "#4D4D4D")
# What is drawn reaches beyond the outermost nodes by this share of their distance.
_MARGIN = 0.05
# Inches that a label such as -10^-2 needs on the eigenvalue axis, across and upright.
_LABEL, _LABEL_HEIGHT = 0.45, 0.22


def axes_for(ax: Axes | None) -> tuple[Axes, int]:
    """Return the axes, new ones if there are none, and how many spectra are on them."""
    if ax is None:
        return figure_for(None, (5.0, 3.2)).add_subplot(), 0
    if not hasattr(ax, "fill_between"):
        msg = f"`ax` must be matplotlib axes, got {type(ax).__name__}. Of a figure, take `figure.gca()`."
        raise TypeError(msg)
    return ax, _drawn(ax)


def figure_for(figure: Any, size: tuple[float, float]) -> Any:
    """Return the figure, a new one of the given size in inches if there is none."""
    if figure is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            msg = "`slq.plot` needs matplotlib: python -m pip install 'slq[plot]'"
            raise ImportError(msg) from error
        return pyplot.figure(figsize=size, layout="constrained")
    if not hasattr(figure, "subplots"):
        msg = f"`figure` must be a matplotlib figure, got {type(figure).__name__}. Of axes, take `axes.figure`."
        raise TypeError(msg)
    return figure


def colours(rank: int, style: dict[str, Any]) -> tuple[Any, Any]:
    """Take the colour out of `style` and return those of curve and stems; one that was asked for serves both."""
    asked = style.pop("color", None) or style.pop("c", None)
    return _COLOURS[rank % len(_COLOURS)] if asked is None else (asked, asked)


def coordinate_on(axes: Axes, rank: int, spectrum: Spectrum, scale: Scale | Literal["auto"]) -> Coordinate:
    """Return the coordinate of the axes; those without a spectrum or a scale of their own get the spectrum's."""
    if axes.get_xscale() == "asinh":
        return Coordinate("asinh", float(axes.xaxis.get_transform().linear_width))  # type: ignore[attr-defined]
    if rank > 0:
        return Coordinate("linear")
    coordinate = spectrum.coordinate(scale)
    if coordinate.scale == "asinh":
        axes.set_xscale("asinh", linear_width=coordinate.unit)
    return coordinate


def grid(spectrum: Spectrum, coordinate: Coordinate, points: int) -> Floats:
    """Return points over the spectrum with a margin, even in the coordinate."""
    low, high = coordinate.forward(np.array([spectrum.nodes.min(), spectrum.nodes.max()]))
    margin = _MARGIN * (high - low) or max(abs(low), 1.0)
    return coordinate.inverse(np.linspace(low - margin, high + margin, points))


def finish(axes: Axes, x: Floats, coordinate: Coordinate) -> Axes:
    """Bound and label the eigenvalue axis, with ticks at eigenvalues, and show the legend."""
    low, high = float(x[0]), float(x[-1])
    if _drawn(axes) > 1:
        low, high = min(low, axes.get_xlim()[0]), max(high, axes.get_xlim()[1])
    axes.set_xlim(low, high)
    eigenvalue_ticks(axes, np.array([low, high]), coordinate, axes.bbox.width / axes.figure.dpi)
    axes.set_xlabel(eigenvalue_name(coordinate))
    return legend(axes)


def legend(axes: Axes) -> Axes:
    """Show the legend, curves first, where anything has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        order = sorted(range(len(handles)), key=lambda i: not hasattr(handles[i], "get_xdata"))  # curves come first
        handles, labels = [handles[i] for i in order], [labels[i] for i in order]
        axes.legend(handles, labels, frameon=False, fontsize="x-small", handlelength=1.2, borderaxespad=0.2)
    return axes


def eigenvalue_ticks(
    axes: Axes, x: Floats, coordinate: Coordinate, inches: float, axis: Literal["x", "y"] = "x"
) -> None:
    """Put ticks on an asinh axis from x[0] to x[-1] that is so many inches long."""
    if coordinate.scale == "asinh":
        y, label = coordinate.forward(x[[0, -1]]), _LABEL if axis == "x" else _LABEL_HEIGHT
        major, minor = _decades(x[0], x[-1], coordinate, float(y[1] - y[0]) * label / inches)
        put = axes.set_xticks if axis == "x" else axes.set_yticks
        put(major, [_power(tick) for tick in major])
        put(minor, minor=True)


def eigenvalue_name(coordinate: Coordinate) -> str:
    """Return the label of the eigenvalue axis."""
    return "eigenvalue λ" if coordinate.scale == "linear" else f"eigenvalue λ  (s = {coordinate.unit:.2g})"


def others(spectrum: Spectrum) -> Floats:
    """Return the nodes that are no outliers."""
    alive = spectrum.weights > 0
    nodes, near = spectrum.nodes[alive], 2 * (spectrum.residuals[alive] + spectrum.noise)
    return np.asarray(nodes[~np.any(np.abs(nodes[:, None] - spectrum.outliers.values) <= near[:, None], axis=1)])


def bound_heights(axes: Axes, floor: float) -> None:
    """Let the height axis reach from the floor to a little above all that has been drawn."""
    top = axes.dataLim.y1
    if floor > 0:
        axes.set_yscale("log")
    axes.set_ylim(floor, top * (2.0 if floor > 0 else 1.12))


def _drawn(axes: Axes) -> int:
    return sum(line.get_gid() == CURVE for line in axes.lines)


def _decades(low: float, high: float, coordinate: Coordinate, room: float) -> tuple[list[float], list[float]]:
    """Return ticks of an asinh axis: zero and powers of ten, `room` apart at least, and the digits between them."""
    largest = int(np.floor(np.log10(max(abs(low), abs(high)))))
    smallest = int(np.floor(np.log10(coordinate.unit)))
    powers = [10.0**k for k in range(largest, smallest - 1, -1)]
    candidates = [0.0] + [sign * power for power in powers for sign in (1.0, -1.0)]
    major: list[float] = []
    for tick in candidates:
        y = coordinate.forward(np.array([tick, *major]))
        if low <= tick <= high and np.all(np.abs(y[1:] - y[0]) >= room):
            major.append(tick)
    between = {digit * tick for tick in candidates for digit in range(1, 10)}
    return sorted(major), sorted(tick for tick in between - set(major) if low <= tick <= high)


def _power(x: float) -> str:
    """Write 0, 1 or a power of ten."""
    if x == 0 or abs(x) == 1:
        return f"{x:.0f}"
    return f"${'-' if x < 0 else ''}10^{{{round(np.log10(abs(x)))}}}$"
