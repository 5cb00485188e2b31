"""A history as one page of HTML: pictures, numbers, notes; opens anywhere, asks nothing of a network.

Pictures are inline, styles are inline, there is no script. Everything that comes from the history is escaped.
"""

from __future__ import annotations

import base64
import io
import json
from html import escape
from typing import Any

import numpy as np

from slq._history._history import History
from slq._text import printable

_INCHES, _DPI = (7.2, 3.8), 130
# Rows of the table of records: first and last ones beyond twice as many.
_ROWS = 50
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
img { max-width: 100%; height: auto; } figcaption { color: #555; font-size: .9rem; } figure { margin: 1rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
td.note { text-align: left; white-space: normal; } .warning { color: #a33; }
"""


def page(history: History, title: str) -> str:
    """Return the page.

    Parameters
    ----------
    history : History
        With one record at least.
    title : str
        Above it all; escaped like everything else.
    """
    name = escape(title)
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{name}</title>',
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>",
        f"<p>{escape(repr(history).splitlines()[0])}</p>",
        *_pictures(history),
        _notes(history),
        f'<h2>Records</h2>\n<div class="wide">{_table(history)}</div>',
        f"<h2>Facts</h2>\n<pre>{escape(json.dumps(dict(history.metadata), indent=2, default=str))}</pre>",
        "</body>\n</html>\n",
    ]
    return printable("\n".join(part for part in parts if part))


def _pictures(history: History) -> list[str]:
    """Draw what the history has the numbers for."""
    from slq import plot

    drawn: list[tuple[str, str, Any]] = []
    if any(s is not None for s in history.spectra):
        drawn += [
            ("Evolution", "Number of eigenvalues by step and place; lines are the extremes.", plot.evolution),
            ("Outliers", "Eigenvalues that stand apart from the rest, over the steps.", plot.outliers),
        ]
    if {"gradient_concentration", "subspace_overlap"} & history.scalars.keys():
        drawn.append(("Gradient", "How much of it lies in the top eigenspace.", plot.overlap))
    losses = [name for name in ("evaluation_loss", "loss") if name in history.scalars]
    if losses:
        drawn.append(("Loss", "Over the records.", lambda h, axes: _loss(h, axes, losses)))
    return [_figure(history, *row) for row in drawn]


def _figure(history: History, title: str, caption: str, draw: Any) -> str:
    from matplotlib.figure import Figure

    figure, stream = Figure(figsize=_INCHES, layout="constrained"), io.BytesIO()
    draw(history, figure.add_subplot())
    figure.savefig(stream, format="png", dpi=_DPI)
    data = base64.b64encode(stream.getvalue()).decode()
    picture = f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
    return f"<h2>{escape(title)}</h2>\n<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def _loss(history: History, axes: Any, names: list[str]) -> None:
    for name, colour in zip(names, ("#0072B2", "#D55E00"), strict=False):
        axes.plot(history.steps, history.scalars[name], color=colour, linewidth=1.3, label=name.replace("_", " "))
    axes.set_xlabel("training step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, fontsize="x-small")


def _notes(history: History) -> str:
    """List what went wrong, and what spectra warned of."""
    noted = [
        f"<li>step {step}: {escape(note)}</li>" for step, note in zip(history.steps, history.notes, strict=True) if note
    ]
    return f'<h2>Notes</h2>\n<ul class="warning">\n{"".join(noted)}\n</ul>' if noted else ""


def _table(history: History) -> str:
    """Write the scalars of the records, those in the middle of a long history left out."""
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in ("step", *history.scalars))
    places = list(range(len(history)))
    skipped = len(places) > 2 * _ROWS
    if skipped:
        places = places[:_ROWS] + places[-_ROWS:]
    rows = []
    for i in places:
        cells = [f"<td>{history.steps[i]}</td>"]
        cells += [f"<td>{_number(values[i])}</td>" for values in history.scalars.values()]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    if skipped:
        rows.insert(_ROWS, f'<tr><td class="note">{len(history) - 2 * _ROWS} more</td></tr>')
    return f"<table>\n<tr>{head}</tr>\n{chr(10).join(rows)}\n</table>"


def _number(value: Any) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"
