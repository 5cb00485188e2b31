"""The verbs of the command `slq`. Each returns an exit status; results go to stdout, notes to stderr.

A verb's docstring is its help text, and its signature its options. Everything heavy is imported when it is needed.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from slq._command._asking import compare, eigs, trace
from slq._command._drawing import plot, report
from slq._command._terminal import RESULT, Flag, note, require_checkpoint, result_file, say, tell, watched
from slq._errors import RunError, SlqWarning
from slq._files._store import HISTORY, kind_of
from slq._history._history import History
from slq._run._driver import spectrum
from slq._spectrum._spectrum import Spectrum, load

_START = """\
slq estimates the spectrum of a symmetric matrix from products with it alone,
and tells how wrong each number can be.

  slq demo            see it at work on a neural network (torch, scikit-learn)
  slq run SOURCE      compute: SOURCE is a matrix file, or module:factory
  slq trace SOURCE    the trace of a function, such as log: --function log
  slq shard MATRIX    cut a matrix too large for one memory into row shards
  slq eigs SOURCE     eigenvalues at the ends, with residuals
  slq show FILE       look at a result again
  slq compare A B     how far two results differ
  slq plot FILE       draw it
  slq report FILE     make a page of the history of a training
  slq info            versions and devices, for reports

Each explains itself: slq run --help"""


def command_of(arguments: Sequence[str]) -> Callable[[], object] | str:
    """Return what the command line asks for, ready to be called, or a text that says why it makes no sense."""
    verbs: dict[str, Callable[..., int]] = {
        verb.__name__: verb for verb in (demo, run, trace, eigs, shard, show, compare, plot, report, info)
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
    say(_START)


def demo(*, out: Annotated[Path, Parameter(name=("--out", "-o"))] = Path("slq-demo")) -> int:
    """Train a small network, compute the spectrum of its Hessian and compare with the exact eigenvalues.

    Takes less than a minute on two cores. The exit status is 1 if any number lies outside what was promised.

    Parameters
    ----------
    out : Path
        Folder for demo.png and demo.npz.
    """
    from slq._command._demo import demonstrate

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
    checkpoint: Path | None = None,
    resume: Flag = False,
    timeout: float | None = None,
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
    checkpoint : Path
        An .npz file that the run is written to as it goes, and resumed from where it exists.
    resume : bool
        Only resume: fail where CHECKPOINT does not exist.
    timeout : float
        Seconds that one product may take; without limit by default. A matrix in a file needs none.
    out : Path
        Result file; by default the name of SOURCE with .spectrum.npz, in the current folder.
    json : bool
        Print one JSON object instead of the table.
    """
    from slq._files._sources import name_of, operator_from

    target = result_file(source, Path(name_of(source) + RESULT) if out is None else out)
    require_checkpoint(checkpoint, resume)
    operator = operator_from(source, gram=gram, symmetric_part=symmetric_part)
    latest: list[Spectrum] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlqWarning)  # the result names them, and `_tell` shows them
            result = spectrum(
                operator, tol=tol, probes=probes, steps=steps, rng=seed, kind=kind, reorth=reorth,
                confidence=confidence, max_products=max_products, progress=watched(), checkpoint=checkpoint,
                timeout=timeout, callback=lambda partial: latest.__setitem__(slice(None), [partial]),
            )  # fmt: skip
    except RunError as error:
        raise RunError(str(error) + _rescue(error.partial, target), error.partial) from error
    except KeyboardInterrupt:
        kept = _rescue(latest[0] if latest else None, target).strip(" .")
        raise KeyboardInterrupt(*[kept] * bool(kept)) from None
    saved = result.save(target)
    tell(result, json)
    if result.status.startswith("interrupted"):
        msg = f"what there is lies in {saved}; the same command goes on from {checkpoint}."
        raise KeyboardInterrupt(msg)
    note(f"written: {saved}. Draw it: slq plot {saved}")
    return 0


def shard(
    source: Path, /, *, parts: int = 8, out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None
) -> int:
    """Cut a sparse matrix into row shards, for processes that each read some (slq_torch.distributed.sharded_csr).

    Parameters
    ----------
    source : Path
        A file .mtx or .mtx.gz (Matrix Market, of any size: memory holds one part) or .npz (scipy.sparse.save_npz).
    parts : int
        How many, with about equally many entries; at least as many as there will be processes.
    out : Path
        Folder to make; by default the name of SOURCE with .shards, in the current folder.
    """
    from slq._files._sharding import shard as shard_file

    written = shard_file(source, out, parts=parts, progress=watched())
    say(repr(written))
    note(f"written: {written.folder}")
    return 0


def show(file: Path, /, *, json: Flag = False) -> int:
    """Print a result.

    Parameters
    ----------
    file : Path
        Written by `slq run`, `Spectrum.save`, `History.save` or a recorder.
    json : bool
        Print one JSON object instead of the table.
    """
    from slq._command._report import history_as_json

    if kind_of(file) == HISTORY:
        say(history_as_json(History.load(file)) if json else repr(History.load(file)))
    else:
        tell(load(file), json)
    return 0


def info() -> int:
    """Print versions, threads, adapters, and which array libraries and devices work here."""
    from slq._command._environment import environment

    say(environment())
    return 0


# -- inside -----------------------------------------------------------------------------------------------------


def _rescue(partial: Any, target: Path) -> str:
    """Keep what a run had computed before it ended; say where."""
    if partial is None:
        return ""
    return f" {partial.probes} probes × {partial.steps} steps are kept in {partial.save(target)}."
