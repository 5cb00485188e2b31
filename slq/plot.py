"""Draw spectra with matplotlib: density, distribution function, outliers, small multiples, evolution over steps.

Every function takes `ax=None` (then it makes a figure) and returns the axes; `multiples` takes a whole figure. The data
axis is in eigenvalues on every scale, so anything can be drawn on top. Nothing is computed here that a `Spectrum` would
not tell, nothing is shown or saved, and matplotlib is imported by the first call, not with slq. Colours: Okabe & Ito,
safe for the colour-blind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._drawing._axes import CURVE, axes_for, bound_heights, colours, coordinate_on, finish, grid, others
from slq._drawing._evolution import evolution
from slq._drawing._multiples import multiples
from slq._drawing._over_steps import outliers_over_steps, overlap
from slq._estimates import Band
from slq._history._history import History
from slq._quadrature._coordinate import Coordinate, Scale
from slq._quadrature._density import Density
from slq._spectrum._spectrum import Spectrum
from slq._spectrum._views import DensityKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cdf", "density", "evolution", "multiples", "outliers", "overlap"]

# Histogram of exact eigenvalues, zone that is not resolved.
_EXACT, _SHADE = "0.78", "0.92"
# Stems and exact eigenvalues are as high as their bar in a histogram of this many bins; the curve has this many points
# per bin, and its narrowest kernel is one point wide: 0.4 bins = 1 / sqrt(2 pi) bins, as high as the bar again.
_BINS, _POINTS = 100, 2.5
# The height axis is logarithmic once the curve's peak exceeds its median, or the highest stem, this many times.
_LOG_FROM = 20.0
# A logarithmic axis ends below the bar of one eigenvalue, by this factor, and never this far below the peak.
_BELOW_ONE, _DECADES, _DIVE = 0.4, 1e-9, 1e-3
# The distribution function is drawn at this many points, and at its jumps.
_FINE = 500
# Forms of the density that have no other coordinate.
_LINEAR = ("kpm", "haydock")
# The curve's own style, where `style` does not say otherwise.
_LINE = {"linewidth": 1.3}


def density(
    spectrum: Spectrum,
    ax: Axes | None = None,
    *,
    scale: Scale | Literal["auto"] = "auto",
    exact: npt.ArrayLike | None = None,
    kind: DensityKind = "adaptive",
    **style: Any,
) -> Axes:
    """Draw the density of eigenvalues with its band, and what stands apart from it as stems.

    Stems, and the bars of `exact`, are as high as in a histogram of 100 bins over the axis, so an eigenvalue found is
    level with the exact one. The zone around zero that the steps do not resolve is shaded on the asinh scale. Heights
    are logarithmic where they span decades; the axis then ends just below the bar of a single eigenvalue.

    Parameters
    ----------
    spectrum : Spectrum
        What to draw.
    ax : Axes, optional
        Where; by default in a new figure. A second spectrum on the same axes takes the next colour.
    scale : {"auto", "linear", "asinh"}, default "auto"
        Of the eigenvalue axis; "auto" takes asinh where far outliers squeeze the bulk.
    exact : array_like, shape (k,), optional
        Exact eigenvalues; their histogram is drawn beneath.
    kind : {"adaptive", "gaussian", "kpm", "haydock", "lanczos-bins", "log"}, default "adaptive"
        See `Spectrum.density`. All but the first set nothing apart; "kpm" and "haydock" are linear, and "log" is drawn
        over magnitudes.
    **style : dict
        Passed to the curve (`color`, `label`, `linewidth`, ...); band and stems follow its colour.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> import slq
    >>> operator, law = slq.gallery.spiked(500)
    >>> ax = slq.plot.density(slq.spectrum(operator, rng=0))
    >>> ax.get_xlabel()
    'eigenvalue λ'
    """
    axes, rank = axes_for(ax)
    line_colour, stem_colour = colours(rank, style)
    if kind == "log":
        return _log_density(axes, rank, spectrum, exact, {"color": line_colour, "label": "density"} | style)
    coordinate = coordinate_on(axes, rank, spectrum, "linear" if kind in _LINEAR else scale)
    if kind == "adaptive":
        curve = spectrum.density(_points(spectrum, coordinate), scale=coordinate)
    else:
        curve = spectrum.density(kind=kind, scale=coordinate)
    one = 1 / (spectrum.n * _bin_width(curve.x, coordinate))
    floor = _floor(axes, rank, curve, one, spectrum.n)
    if exact is not None:
        _bars(axes, np.asarray(exact, dtype=np.float64).ravel(), curve.x, coordinate, floor)
    if rank == 0 and coordinate.scale == "asinh":
        _shade_unresolved(axes, spectrum, coordinate)
    _curve(axes, rank, curve, floor, {"color": line_colour, "label": "density"} | style)
    if kind == "adaptive":
        _stems(axes, spectrum, one, floor, stem_colour)
    bound_heights(axes, floor)
    axes.set_ylabel("share per unit of λ" if coordinate.scale == "linear" else "share per unit of asinh(λ/s)")
    return finish(axes, curve.x, coordinate)


def cdf(
    spectrum: Spectrum,
    ax: Axes | None = None,
    *,
    scale: Scale | Literal["auto"] = "auto",
    exact: npt.ArrayLike | None = None,
    **style: Any,
) -> Axes:
    """Draw the share of eigenvalues at or below each point, with the band that holds everywhere at once.

    Parameters
    ----------
    spectrum : Spectrum
        What to draw.
    ax : Axes, optional
        Where; by default in a new figure. A second spectrum on the same axes takes the next colour.
    scale : {"auto", "linear", "asinh"}, default "auto"
        Of the eigenvalue axis; "auto" takes asinh where far outliers squeeze the bulk.
    exact : array_like, shape (k,), optional
        Exact eigenvalues; their distribution function is drawn as a dashed line.
    **style : dict
        Passed to the curve (`color`, `label`, `linewidth`, ...); the band follows its colour.

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> import slq
    >>> operator, law = slq.gallery.semicircle(500)
    >>> ax = slq.plot.cdf(slq.spectrum(operator, rng=0))
    >>> ax.get_ylabel()
    'share of eigenvalues ≤ λ'
    """
    axes, rank = axes_for(ax)
    colour, _ = colours(rank, style)
    coordinate = coordinate_on(axes, rank, spectrum, scale)
    points, jumps = grid(spectrum, coordinate, _FINE), spectrum.outliers.values
    band = spectrum.cdf(np.unique(np.concatenate([points, jumps, np.nextafter(jumps, -np.inf)])))
    _curve(axes, rank, band, 0.0, {"color": colour, "label": "estimate"} | style)
    if exact is not None:
        values = np.sort(np.asarray(exact, dtype=np.float64).ravel())
        x = np.concatenate([points[:1], values, points[-1:]])
        share = np.minimum(np.arange(values.size + 2), values.size) / values.size
        axes.step(x, share, where="post", color="k", linestyle="--", linewidth=0.9, label="exact")
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("share of eigenvalues ≤ λ")
    return finish(axes, points, coordinate)


def outliers(spectrum: Spectrum | History, ax: Axes | None = None, **style: Any) -> Axes:
    """Draw the eigenvalues that stand apart: where, how often each occurs, and how far off it can be at most.

    Error bars are residuals, mostly too small to see. A hollow marker means that the multiplicity is an estimate. The
    shaded stretch holds all other eigenvalues. Of a History they are drawn over the steps, with 2 / learning rate
    where it holds numbers called "lr", and with curves of the eigenvalues that it holds.

    Parameters
    ----------
    spectrum : Spectrum or History
        What to draw.
    ax : Axes, optional
        Where; by default in a new figure.
    **style : dict
        Passed to the error bars (`color`, `label`, `capsize`, ...).

    Returns
    -------
    Axes
        The axes drawn on.

    Raises
    ------
    ImportError
        If matplotlib is missing.

    Examples
    --------
    >>> import slq
    >>> operator, law = slq.gallery.spiked(500)
    >>> ax = slq.plot.outliers(slq.spectrum(operator, rng=0))
    >>> ax.get_ylabel()
    'multiplicity'
    """
    if isinstance(spectrum, History):
        return outliers_over_steps(spectrum, ax, **style)
    axes, rank = axes_for(ax)
    _, colour = colours(rank, style)
    coordinate, found = coordinate_on(axes, rank, spectrum, "auto"), spectrum.outliers
    if len(found) == 0:
        axes.text(0.5, 0.5, "none stands apart", transform=axes.transAxes, ha="center")
    elif rank == 0 and (rest := others(spectrum)).size:
        axes.axvspan(rest.min(), rest.max(), color=_SHADE, linewidth=0, label="all others", zorder=0)
    axes.vlines(found.values, 0.0, found.multiplicities, color=colour, linewidth=1.0)
    usual = {"fmt": "o", "color": colour, "label": _number(len(found)) or "_none", "markersize": 4, "capsize": 2}
    markers = axes.errorbar(found.values, found.multiplicities, xerr=found.residuals, **(usual | style)).lines[0]
    markers.set_gid(CURVE)
    hollow = ~found.exact
    axes.plot(found.values[hollow], found.multiplicities[hollow], "o", markersize=2.4, color="w")
    top = 1.4 * float(found.multiplicities.max(initial=1.0))
    axes.set_ylim(0.0, max(top, axes.get_ylim()[1]) if rank else top)
    axes.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    axes.set_ylabel("multiplicity")
    return finish(axes, _points(spectrum, coordinate), coordinate)


def _log_density(axes: Axes, rank: int, spectrum: Spectrum, exact: npt.ArrayLike | None, style: dict[str, Any]) -> Axes:
    """Draw the share of eigenvalues per unit of ln |λ|."""
    curve, magnitudes = spectrum.density(kind="log"), Coordinate("log")
    if exact is not None:
        values = np.abs(np.asarray(exact, dtype=np.float64).ravel())
        _bars(axes, values[values > 0], curve.x, magnitudes, 0.0)
    _curve(axes, rank, curve, 0.0, style)
    axes.set_xscale("log")
    axes.set_xlim(curve.x[0], curve.x[-1])
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("magnitude of eigenvalue |λ|")
    axes.set_ylabel("share per unit of ln |λ|")
    axes.legend(frameon=False, fontsize="small")
    return axes


def _points(spectrum: Spectrum, coordinate: Coordinate) -> Floats:
    return grid(spectrum, coordinate, round(_POINTS * _BINS) + 1)


def _bin_width(x: Floats, coordinate: Coordinate) -> float:
    ends = coordinate.forward(x[[0, -1]])
    return float(ends[1] - ends[0]) / _BINS


def _floor(axes: Axes, rank: int, curve: Density, one: float, n: int) -> float:
    """Choose between linear and logarithmic heights and return the floor: 0, or just below a single eigenvalue."""
    peak = float(curve.value.max())
    visible = curve.value[curve.value > _DECADES * peak]
    lowest = float(np.median(visible)) if visible.size else 1.0
    if len(curve.stems):
        lowest = min(lowest, one * n * float(curve.stems[:, 1].max()))
    already = rank > 0 and axes.get_yscale() == "log"
    if peak <= _LOG_FROM * lowest and not already:
        return 0.0
    floor = max(_BELOW_ONE * one, _DECADES * peak)
    return min(floor, axes.get_ylim()[0]) if already else floor


def _curve(axes: Axes, rank: int, curve: Density | Band, floor: float, style: dict[str, Any]) -> None:
    """Draw curve and band; on logarithmic heights they dive below the floor, where there is nothing."""
    low, value, high = (np.maximum(part, _DIVE * floor) for part in (curve.low, curve.value, curve.high))
    percent = f"{curve.confidence * 100:g} % band" if rank == 0 else None
    axes.fill_between(curve.x, low, high, color=style["color"], alpha=0.25, linewidth=0, label=percent)
    axes.plot(curve.x, value, **(_LINE | style), gid=CURVE)


def _shade_unresolved(axes: Axes, spectrum: Spectrum, coordinate: Coordinate) -> None:
    """Shade where the asinh scale stretches what lies between two nodes; a wider gap is one of the spectrum."""
    spacing = float(spectrum.resolution(0.0)[0])
    if spacing >= coordinate.unit:
        return
    axes.axvspan(-spacing, spacing, color=_SHADE, linewidth=0, label="not resolved", zorder=0)


def _bars(axes: Axes, values: Floats, x: Floats, coordinate: Coordinate, floor: float) -> None:
    """Draw the histogram of exact eigenvalues, per unit of the coordinate."""
    first, last = coordinate.forward(x[[0, -1]])
    edges = np.linspace(first, last, _BINS + 1)
    counts, _ = np.histogram(coordinate.forward(values), edges)
    heights = np.maximum(counts / (values.size * (edges[1] - edges[0])), floor)
    at = coordinate.inverse(edges)
    axes.stairs(heights, at, baseline=floor, fill=True, color=_EXACT, label="exact", zorder=0.5)


def _stems(axes: Axes, spectrum: Spectrum, one: float, floor: float, colour: Any) -> None:
    """Draw eigenvalues that stand apart, as high as their bar in the histogram."""
    found = spectrum.outliers
    if len(found) == 0:
        return
    heights = found.multiplicities * one
    axes.vlines(found.values, floor, heights, color=colour, linewidth=0.9)
    axes.plot(found.values, heights, "o", color=colour, markersize=3.2, label=_number(len(found)))
    for x, height, multiplicity, exact in zip(found.values, heights, found.multiplicities, found.exact, strict=True):
        if multiplicity >= 1.5:
            text = f"{'' if exact else '≈'}×{multiplicity:.0f}"
            axes.annotate(text, (x, height), (0, 4), textcoords="offset points", ha="center", fontsize="x-small")


def _number(outliers: int) -> str:
    return f"{outliers} outlier{'s' * (outliers > 1)}" if outliers else ""
