"""The verbs of the command `slq` that make pictures: `plot` a file of them, `report` a page.

Like those in `_verbs`: a docstring is a help text, a signature the options, and the exit status comes back.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import Parameter

from slq._command._terminal import RESULT, say
from slq._files._store import HISTORY, kind_of
from slq._history._history import History
from slq._spectrum._spectrum import load
from slq._text import printable

Kind = Literal[
    "density", "cdf", "outliers", "gaussian", "kpm", "haydock", "lanczos-bins", "log", "evolution", "ridge", "overlap"
]
_OF_HISTORY = ("evolution", "ridge", "outliers", "overlap")
_OF_SPECTRUM = tuple(kind for kind in get_args(Kind) if kind == "outliers" or kind not in _OF_HISTORY)
# Kinds that are drawn by a function of another name.
_HOW: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: ("density", {"kind": kind}) for kind in ("gaussian", "kpm", "haydock", "lanczos-bins", "log")},
    "ridge": ("evolution", {"kind": "ridge"}),
}
_PICTURES = (".png", ".pdf", ".svg")
# A figure that keeps its text legible in a column and on a screen.
_INCHES, _WIDE_INCHES, _DPI = (5.0, 3.2), (6.4, 3.6), 200


def plot(
    *files: Annotated[Path, Parameter(help="Written by `slq run`, `Spectrum.save`, `History.save` or a recorder.")],
    kind: Kind | None = None,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
) -> int:
    """Draw results into a picture, several over each other, and print its name.

    Parameters
    ----------
    *files : Path
        Written by `slq run`, `Spectrum.save`, `History.save` or a recorder.
    kind : str
        What to draw. Of a spectrum: its density (default), cdf, or outliers; or the density as others draw it, with
        Gaussians or Lorentzians of one width (gaussian, haydock), by kernel polynomials (kpm), as bars (lanczos-bins),
        or of magnitudes (log). Of a history: its evolution as heat map (default) or ridge lines, outliers, or the
        overlap: what of the gradient lies in the top eigenspace.
    out : Path
        Picture, .png, .pdf or .svg; by default the name of the first file with .png, in the current folder.
    """
    if not files:
        msg = "plot needs at least one FILE. See `slq plot --help`."
        raise ValueError(msg)
    if out is not None and out.suffix not in _PICTURES:
        msg = f"{out}: the name of a picture ends in {', '.join(_PICTURES)}."
        raise ValueError(msg)
    _require_matplotlib("plot")
    histories = [file for file in files if kind_of(file) == HISTORY]
    if histories and len(files) > 1:
        msg = f"{histories[0]} is a history, which has a picture of its own. Draw it alone."
        raise ValueError(msg)
    chosen = kind or ("evolution" if histories else "density")
    if chosen not in (allowed := _OF_HISTORY if histories else _OF_SPECTRUM):
        held = "history" if histories else "spectrum"
        msg = f"--kind {chosen} cannot be drawn of {files[0]}, which holds a {held}: {', '.join(allowed)}."
        raise ValueError(msg)
    picture = _picture(files[0], chosen, plain="evolution" if histories else "density") if out is None else out
    results: list[Any] = [History.load(file) if histories else load(file) for file in files]
    from matplotlib.figure import Figure

    from slq import plot as drawings

    figure = Figure(figsize=_WIDE_INCHES if histories else _INCHES, layout="constrained")
    axes, labels = figure.add_subplot(), [_label(file) for file in files]
    for item, label in zip(results, labels, strict=True):
        draw, style = _HOW.get(chosen, (chosen, {}))
        getattr(drawings, draw)(item, axes, **style, **({"label": label} if len(files) > 1 else {}))
    figure.savefig(picture, dpi=_DPI)
    say(str(picture))
    return 0


def report(file: Path, /, *, out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None) -> int:
    """Make one HTML page of the history of a training, with pictures and numbers inside, and print its name.

    Parameters
    ----------
    file : Path
        Written by a recorder or `History.save`.
    out : Path
        The page, .html; by default the name of the file with .html, in the current folder.
    """
    _require_matplotlib("report")
    target = Path(file.name.removesuffix(".npz") + ".html") if out is None else out
    if target.suffix != ".html":
        msg = f"--out {target}: the name of a page ends in .html."
        raise ValueError(msg)
    from slq._command._page import page

    history = History.load(file)
    if len(history) == 0:
        msg = f"{file} has no records yet: there is nothing to report."
        raise ValueError(msg)
    target.write_text(page(history, file.name.removesuffix(".npz")), encoding="utf-8")
    say(str(target))
    return 0


def _picture(first: Path, kind: str, *, plain: str) -> Path:
    stem = first.name.removesuffix(".npz")
    return Path(f"{stem}.png" if kind == plain else f"{stem}.{kind}.png")


def _require_matplotlib(verb: str) -> None:
    if find_spec("matplotlib") is None:
        msg = f"`slq {verb}` needs matplotlib: python -m pip install 'slq[plot]'"
        raise ImportError(msg)


def _label(file: Path) -> str:
    """Return the bare name of a result as Matplotlib shows it: its dollars begin no formula."""
    return printable(file.name.removesuffix(RESULT).removesuffix(".npz")).replace("$", r"\$")
