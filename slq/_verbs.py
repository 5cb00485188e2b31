"""The verbs of the command `slq`. Each returns an exit status; results go to stdout, notes to stderr.

A verb's docstring is its help text, and its signature its options. Everything heavy is imported when it is needed.
"""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from slq._asking import compare, trace
from slq._driver import spectrum
from slq._eigenpairs import Eigenpairs
from slq._errors import RunError, SlqWarning
from slq._spectrum import Spectrum, load

_START = """\
slq estimates the spectrum of a symmetric matrix from products with it alone,
and tells how wrong each number can be.

  slq demo            see it at work on a neural network (torch, scikit-learn)
  slq run SOURCE      compute: SOURCE is a matrix file, or module:factory
  slq trace SOURCE    the trace of a function, such as log: --function log
  slq eigs SOURCE     eigenvalues at the ends, with residuals
  slq show FILE       look at a result again
  slq compare A B     how far two results differ
  slq plot FILE       draw it
  slq info            versions and devices, for reports

Each explains itself: slq run --help"""
Flag = Annotated[bool, Parameter(show_default=False)]
_PICTURES = (".png", ".pdf", ".svg")
_RESULT = ".spectrum.npz"
# A figure that keeps its text legible in a column and on a screen.
_INCHES, _DPI = (5.0, 3.2), 200


def command_of(arguments: Sequence[str]) -> Callable[[], object] | str:
    """Return what the command line asks for, ready to be called, or a text that says why it makes no sense."""
    verbs: dict[str, Callable[..., int]] = {
        verb.__name__: verb for verb in (demo, run, trace, eigs, show, compare, plot, info)
    }
    first = next(iter(arguments), "-")
    if not first.startswith("-") and first not in verbs:
        close = difflib.get_close_matches(first, verbs, n=1)
        hint = f"Did you mean `{close[0]}`?" if close else "To compute a spectrum: slq run SOURCE."
        return f"there is no verb `{first}`; there are {', '.join(verbs)}. {hint}"
    app = App(
        name="slq",
        help="The spectrum of any symmetric matrix that one can multiply by, with the error of every number.",
        version=version("slq"),
        default_command=_start,
        default_parameter=Parameter(negative=()),
        help_epilogue="Exit status: 0 success, 1 a check or run failed, 2 unusable command or input, 130 interrupted.",
    )
    for verb in verbs.values():
        app.command(verb, usage="Usage: slq plot [OPTIONS] FILE..." if verb is plot else None)
    try:
        command, bound, _ = app.parse_args(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        said = str(error).rstrip(".")
        return f"{said}{'' if said.endswith('?') else '.'} See `slq {first + ' ' if first in verbs else ''}--help`."
    return lambda: command(*bound.args, **bound.kwargs)


def _start() -> None:
    """Say what one can do."""
    _say(_START)


def demo(*, out: Annotated[Path, Parameter(name=("--out", "-o"))] = Path("slq-demo")) -> int:
    """Train a small network, compute the spectrum of its Hessian and compare with the exact eigenvalues.

    Takes less than a minute on two cores. The exit status is 1 if any number lies outside what was promised.

    Parameters
    ----------
    out : Path
        Folder for demo.png and demo.npz.
    """
    from slq._demo import demonstrate

    return demonstrate(out)


def run(
    source: str,
    /,
    *,
    tol: float = 0.01,
    probes: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    kind: Literal["sphere", "rademacher"] = "sphere",
    reorth: Literal["auto", "full", "none"] = "auto",
    confidence: float = 0.95,
    max_products: int | None = None,
    gram: Flag = False,
    symmetric_part: Flag = False,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    json: Flag = False,
) -> int:
    """Compute the spectrum of a matrix.

    Parameters
    ----------
    source : str
        A file .mtx, .mtx.gz (Matrix Market), .npz (scipy.sparse.save_npz) or .npy (dense), or module:factory or
        file.py:factory, a Python function that returns a matrix or an operator.
    tol : float
        Error to aim for, as a share of the drawn range of eigenvalues.
    probes : int
        Number of random start vectors; by default as many as the tolerance needs.
    steps : int
        Lanczos steps of each; by default as many as the tolerance needs.
    seed : int
        Makes the run repeatable.
    kind : {"sphere", "rademacher"}
        Law of the start vectors.
    reorth : {"auto", "full", "none"}
        Whether all Krylov vectors are kept and stayed orthogonal to.
    confidence : float
        Of all intervals.
    max_products : int
        Never multiply by more vectors than this.
    gram : bool
        Take A^T A, for squared singular values; A may be rectangular.
    symmetric_part : bool
        Take (A + A^T) / 2.
    out : Path
        Result file; by default the name of SOURCE with .spectrum.npz, in the current folder.
    json : bool
        Print one JSON object instead of the table.
    """
    from slq._sources import name_of, operator_from

    target = _result_file(source, Path(name_of(source) + _RESULT) if out is None else out)
    operator = operator_from(source, gram=gram, symmetric_part=symmetric_part)
    latest: list[Spectrum] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlqWarning)  # the result names them, and `_tell` shows them
            result = spectrum(
                operator, tol=tol, probes=probes, steps=steps, rng=seed, kind=kind, reorth=reorth,
                confidence=confidence, max_products=max_products, progress=_watched(),
                callback=lambda partial: latest.__setitem__(slice(None), [partial]),
            )  # fmt: skip
    except RunError as error:
        raise RunError(str(error) + _rescue(error.partial, target), error.partial) from error
    except KeyboardInterrupt:
        kept = _rescue(latest[0] if latest else None, target).strip(" .")
        raise KeyboardInterrupt(*[kept] * bool(kept)) from None
    saved = result.save(target)
    _tell(result, json)
    _note(f"written: {saved}. Draw it: slq plot {saved}")
    return 0


def show(file: Path, /, *, json: Flag = False) -> int:
    """Print a result.

    Parameters
    ----------
    file : Path
        Written by `slq run` or `Spectrum.save`.
    json : bool
        Print one JSON object instead of the table.
    """
    _tell(load(file), json)
    return 0


def plot(
    *files: Annotated[Path, Parameter(help="Written by `slq run` or `Spectrum.save`.")],
    kind: Literal["density", "cdf", "outliers", "gaussian", "kpm", "haydock", "lanczos-bins", "log"] = "density",
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
) -> int:
    """Draw results into a picture, several over each other, and print its name.

    Parameters
    ----------
    *files : Path
        Written by `slq run` or `Spectrum.save`.
    kind : {"density", "cdf", "outliers", "gaussian", "kpm", "haydock", "lanczos-bins", "log"}
        What to draw: the density, the distribution function, or the eigenvalues that stand apart; or the density as
        others draw it, with Gaussians or Lorentzians of one width, by kernel polynomials, as bars, or of magnitudes.
    out : Path
        Picture, .png, .pdf or .svg; by default the name of the first file with .png, in the current folder.
    """
    if not files:
        msg = "plot needs at least one FILE. See `slq plot --help`."
        raise ValueError(msg)
    if find_spec("matplotlib") is None:
        msg = "`slq plot` needs matplotlib: python -m pip install 'slq[plot]'"
        raise ImportError(msg)
    picture = _picture(files[0], kind) if out is None else out
    if picture.suffix not in _PICTURES:
        msg = f"{picture}: the name of a picture ends in {', '.join(_PICTURES)}."
        raise ValueError(msg)
    spectra = [load(file) for file in files]
    from matplotlib.figure import Figure

    from slq import plot as drawings

    figure = Figure(figsize=_INCHES, layout="constrained")
    axes, labels = figure.add_subplot(), [file.name.removesuffix(_RESULT).removesuffix(".npz") for file in files]
    for item, label in zip(spectra, labels, strict=True):
        style: dict[str, Any] = {"label": label} if len(files) > 1 else {}
        draw = {"density": drawings.density, "cdf": drawings.cdf, "outliers": drawings.outliers}.get(kind)
        if draw is None:
            draw, style = drawings.density, style | {"kind": kind}
        draw(item, axes, **style)
    figure.savefig(picture, dpi=_DPI)
    _say(str(picture))
    return 0


def eigs(
    source: str,
    /,
    *,
    k: Annotated[int, Parameter(name="-k")] = 6,
    which: Literal["LM", "LA", "SA", "BE"] = "LM",
    tol: float = 0.0,
    seed: int | None = None,
    max_products: int | None = None,
    gram: Flag = False,
    symmetric_part: Flag = False,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    json: Flag = False,
) -> int:
    """Compute eigenvalues at the ends of the spectrum, and verify that none was missed.

    The exit status is 1 if any of them has not converged.

    Parameters
    ----------
    source : str
        As for `slq run`: a matrix file, or module:factory.
    k : int
        How many.
    which : {"LM", "LA", "SA", "BE"}
        Those of largest magnitude, the largest, the smallest, or half from each end.
    tol : float
        Residual relative to the value that counts as converged; 0 for as much as rounding allows.
    seed : int
        Makes the run repeatable.
    max_products : int
        Never multiply by more vectors than this.
    gram : bool
        Take A^T A, for squared singular values; A may be rectangular.
    symmetric_part : bool
        Take (A + A^T) / 2.
    out : Path
        Write values, residuals and vectors to this .npz file.
    json : bool
        Print one JSON object instead of the table.
    """
    import numpy as np

    from slq._arrays import to_host
    from slq._eigen import eigsh
    from slq._sources import operator_from

    target = None if out is None else _result_file(source, out)
    operator = operator_from(source, gram=gram, symmetric_part=symmetric_part)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlqWarning)  # the result names them, and `_tell` shows them
            pairs = eigsh(operator, k, which=which, tol=tol, rng=seed, max_products=max_products, progress=_watched())
    except RunError as error:
        if error.partial is not None:
            _tell(error.partial, json)
        raise
    _tell(pairs, json)
    if target is not None:
        np.savez(target, values=pairs.values, residuals=pairs.residuals, vectors=to_host(pairs.vectors))
        _note(f"written: {target}: values, residuals, vectors.")
    return 0 if pairs.converged.all() else 1


def info() -> int:
    """Print versions, threads, adapters, and which array libraries and devices work here."""
    from slq._environment import environment

    _say(environment())
    return 0


# -- inside -----------------------------------------------------------------------------------------------------


def _result_file(source: str, target: Path) -> Path:
    """Refuse a result file that cannot be written, before anything is computed."""
    if target.suffix != ".npz":
        msg = f"--out {target}: the name of a result ends in .npz."
        raise ValueError(msg)
    if target.resolve() == Path(source).resolve():
        msg = f"--out {target} would overwrite SOURCE."
        raise ValueError(msg)
    folder = target.resolve().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        msg = f"--out {target}: {folder} is no folder that can be written to."
        raise ValueError(msg)
    return target


def _picture(first: Path, kind: str) -> Path:
    stem = first.name.removesuffix(".npz")
    return Path(f"{stem}.png" if kind == "density" else f"{stem}.{kind}.png")


def _rescue(partial: Any, target: Path) -> str:
    """Keep what a run had computed before it ended; say where."""
    if partial is None:
        return ""
    return f" {partial.probes} probes × {partial.steps} steps are kept in {partial.save(target)}."


def _watched() -> bool:
    """Whether a person watches stderr, and a bar can be drawn for them."""
    return sys.stderr.isatty() and find_spec("tqdm") is not None


def _tell(result: Spectrum | Eigenpairs, json: bool) -> None:
    """Print a result. Where stdout is not read by a person at once, repeat its warnings on stderr."""
    from slq._report import as_json

    _say(as_json(result) if json else repr(result))
    if json or not sys.stdout.isatty():
        for warning in result.warnings:
            _note(f"warning: {warning}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _note(text: str) -> None:
    sys.stderr.write(f"slq: {text}\n")
