"""Numbers of a history over its steps: outliers against the bulk and 2 / learning rate, and shares of the gradient.

Part of `slq.plot`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from slq._arrays import Floats
from slq._drawing._axes import CURVE, axes_for, eigenvalue_name, eigenvalue_ticks, legend, others
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BULK, _DOT, _LINE, _LIMIT = "0.86", "#D55E00", "#0072B2", "k"
# 2 / learning rate is in the picture up to this multiple of the largest eigenvalue.
_ROOM = {"linear": 1.5, "asinh": 30.0}
# Shares over steps: name of the scalar, what it is called, colour, line style.
_SHARES = (
    ("gradient_concentration", "gradient in the top eigenspace", "#D55E00", "-"),
    ("subspace_overlap", "top eigenspace kept since the record before", "#0072B2", "--"),
)


def outliers_over_steps(
    history: History, ax: Axes | None = None, *, step_scale: StepScale = "auto", **style: Any
) -> Axes:
    """Draw the outliers of every record as dots, the bulk as an area; see `slq.plot.outliers`."""
    require_history(history, "outliers")
    axes, _ = axes_for(ax)
    coordinate, steps = history.coordinate(), step_coordinate(history, step_scale)
    ends, edges = np.full((len(history), 2), np.nan), step_edges(history, steps)
    for i, spectrum in enumerate(history.spectra):
        if spectrum is not None and (rest := others(spectrum)).size:
            ends[i] = rest.min(), rest.max()
    axes.fill_between(history.steps, ends[:, 0], ends[:, 1], color=_BULK, linewidth=0, label="all others", zorder=0)
    for i, values in enumerate(history.arrays.get("eigenvalues", np.zeros((len(history), 0))).T):
        label = "top eigenvalues" if i == 0 else None
        axes.plot(history.steps, values, color=_LINE, linewidth=0.8, alpha=0.7, label=label, gid=CURVE)
    found = [(s, o) for s, x in zip(history.steps, history.spectra, strict=True) if x for o in x.outliers.values]
    at = np.array(found).reshape(-1, 2)
    usual: dict[str, Any] = {
        "color": _DOT,
        "markersize": 3.0,
        "linestyle": "none",
        "marker": "o",
        "label": _said(history),
    }
    axes.plot(at[:, 0], at[:, 1], **(usual | style))
    grid = history.grid(coordinate)
    if "lr" in history.scalars:
        with np.errstate(divide="ignore"):
            limit = 2.0 / history.scalars["lr"]
        axes.plot(
            history.steps, limit, color=_LIMIT, linestyle="--", linewidth=0.9, label=f"2 / lr = {_last(limit):.3g}"
        )
        room = _ROOM[coordinate.scale] * grid[-1]  # far above all eigenvalues it would squeeze them
        seen = limit[np.isfinite(limit) & (limit <= room)]
        grid = np.append(grid, 1.1 * seen.max(initial=grid[-1]))
    label_steps(axes, steps, edges)
    upright_eigenvalues(axes, grid, coordinate)
    return legend_above(axes)


def overlap(
    history: History, ax: Axes | None = None, *, step: int | None = None, step_scale: StepScale = "auto", **style: Any
) -> Axes:
    """Draw how much of the gradient lies where the Hessian is large.

    Over the steps: the share of the gradient in the top eigenspace, the part of that space shared with the record
    before, and what a random direction would have in the top eigenspace (k / n). Of one `step`: the cumulative share of
    the gradient's energy from the largest eigenvalue down, beside that of all eigenvalues.

    Parameters
    ----------
    history : History
        With the scalars `gradient_concentration` and `subspace_overlap`, and the arrays `gradient_nodes` and
        `gradient_energy`, as `slq_torch.Recorder` writes them; what is missing is left out.
    ax : Axes, optional
        Where; by default in a new figure.
    step : int, optional
        A recorded step.
    step_scale : {"auto", "linear", "log"}, default "auto"
        Of the step axis.
    **style : dict
        Passed to all curves (`linewidth`, ...).

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
        If it lacks all of these numbers, or `step` was not recorded.

    Examples
    --------
    >>> import slq
    >>> history = slq.History().append(0, gradient_concentration=0.2).append(5, gradient_concentration=0.7)
    >>> slq.plot.overlap(history).get_ylabel()
    'share'
    """
    require_history(history, "overlap")
    if step is not None:
        return _energy(history, ax, step, style)
    present = [row for row in _SHARES if row[0] in history.scalars]
    if not present:
        msg = f"`history` holds none of {', '.join(row[0] for row in _SHARES)}: there is nothing to draw."
        raise ValueError(msg)
    axes, _ = axes_for(ax)
    steps = step_coordinate(history, step_scale)
    marker = "o" if len(history) <= 40 else ""
    for name, label, colour, dashes in present:
        line: dict[str, Any] = {
            "color": colour,
            "linestyle": dashes,
            "linewidth": 1.4,
            "marker": marker,
            "markersize": 3.0,
        }
        axes.plot(history.steps, history.scalars[name], **(line | {"label": label} | style), gid=CURVE)
    if (random := _random_share(history)) is not None:
        axes.axhline(random, color="0.5", linewidth=0.8, linestyle="-.", label="random direction")
    label_steps(axes, steps, step_edges(history, steps))
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("share")
    return legend_above(axes)


def _energy(history: History, ax: Axes | None, step: int, style: dict[str, Any]) -> Axes:
    """Draw the cumulative energy of the gradient at one step from the largest eigenvalue down."""
    found = np.flatnonzero(history.steps == step)
    if not found.size or "gradient_energy" not in history.arrays:
        msg = f"`step` must be a recorded one with a gradient, got {step}; recorded: {_some(history.steps)}."
        raise ValueError(msg)
    i = int(found[0])
    nodes, energy = history.arrays["gradient_nodes"][i], history.arrays["gradient_energy"][i]
    nodes, energy = nodes[~np.isnan(nodes)][::-1], energy[~np.isnan(energy)][::-1]
    axes, _ = axes_for(ax)
    coordinate, grid = history.coordinate(), history.grid(history.coordinate())
    x = np.concatenate([grid[-1:], nodes, grid[:1]])
    share = np.concatenate([[0.0], np.cumsum(energy), [1.0]])
    usual: dict[str, Any] = {"color": _DOT, "linewidth": 1.4, "label": "energy of the gradient"}
    axes.step(x, share, where="post", **(usual | style), gid=CURVE)
    if (spectrum := history.spectra[i]) is not None:
        axes.plot(grid, 1 - spectrum.cdf(grid).value, color="0.4", linewidth=1.1, linestyle="--", label="eigenvalues")
    if coordinate.scale == "asinh":
        axes.set_xscale("asinh", linear_width=coordinate.unit)
        eigenvalue_ticks(axes, grid, coordinate, axes.bbox.width / axes.figure.dpi)
    axes.set_xlim(float(grid[0]), float(grid[-1]))
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(eigenvalue_name(coordinate))
    axes.set_ylabel("share at or above λ")
    return legend(axes)


def _random_share(history: History) -> float | None:
    """Return k / n of the last record with eigenvalues, or None."""
    sizes = [s.n for s in history.spectra if s is not None]
    values = history.arrays.get("eigenvalues")
    return None if values is None or not sizes else values.shape[1] / sizes[-1]


def _last(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if known.size else float("nan")


def _said(history: History) -> str:
    """Return the legend of the outliers: how many at the last step, against the number of classes."""
    last = next((s for s in reversed(history.spectra) if s is not None), None)
    count = 0 if last is None else len(last.outliers)
    classes = history.metadata.get("classes")
    return f"outliers ({count} at last" + (f", {classes} classes)" if classes else ")")


def _some(steps: Any) -> str:
    return ", ".join(map(str, steps[:8])) + (", ..." if len(steps) > 8 else "")
