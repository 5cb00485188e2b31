"""What the verbs of the command `slq` print with: results to stdout, notes to stderr; and options that they share."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from slq._eigen._eigenpairs import Eigenpairs
from slq._files._store import with_suffix
from slq._spectrum._spectrum import Spectrum
from slq._text import printable

Flag = Annotated[bool, Parameter(show_default=False)]
# What the name of a file that `slq run` writes ends in.
RESULT = ".spectrum.npz"


def say(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"slq: {printable(text)}\n")


def tell(result: Spectrum | Eigenpairs, json: bool) -> None:
    """Print a result. Where stdout is not read by a person at once, repeat its warnings on stderr."""
    from slq._command._report import as_json

    say(as_json(result) if json else repr(result))
    if json or not sys.stdout.isatty():
        for warning in result.warnings:
            note(f"warning: {warning}")


def watched() -> bool:
    """Whether a person watches stderr, and a bar can be drawn for them."""
    return sys.stderr.isatty() and find_spec("tqdm") is not None


def result_file(source: str, target: Path) -> Path:
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


def require_checkpoint(checkpoint: Path | None, resume: bool) -> None:
    """Refuse to resume from what is not there."""
    if resume and (checkpoint is None or not with_suffix(checkpoint).exists()):
        msg = f"--resume needs --checkpoint FILE, the file of a run that was begun with it; got {checkpoint}."
        raise ValueError(msg)
