"""The command `slq`: reads the command line, runs one verb, and turns every ending into an exit status.

0 is success, 1 a check or a run that failed, 2 a command or an input that cannot be used, 130 an interruption. What
the user can mend is told in one line on stderr, without a traceback. The verbs are in `_verbs`.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from slq._errors import RunError
from slq._text import printable

_FAILED, _UNUSABLE, _INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows `slq`; by default what the process was started with.
    """
    try:
        status = _status(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt as interrupt:
        status = _complain(": ".join(["interrupted", *map(str, interrupt.args)]), _INTERRUPTED)
    sys.exit(status)


def _status(arguments: Sequence[str]) -> int:
    """Return the exit status of a command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± and × still shows the rest
    try:
        from slq._command._verbs import command_of
    except ImportError as error:
        if (error.name or "").split(".")[0] == "slq":
            raise
        return _complain("the command line needs cyclopts: python -m pip install 'slq[cli]'", _UNUSABLE)
    command = command_of(arguments)
    return _complain(command, _UNUSABLE) if isinstance(command, str) else _run(command)


def _run(command: Callable[[], object]) -> int:
    """Run a verb; return its status, or the one that belongs to how it ended."""
    try:
        status = command()
        sys.stdout.flush()
    except RunError as error:
        return _complain(str(error), _FAILED)
    except BrokenPipeError:
        return _end_quietly()
    except (ImportError, OSError, TypeError, ValueError) as error:
        if not _meant(error):
            error.add_note(
                "This is a mistake in slq, not in the input. Please report it with the output of `slq info`."
            )
            raise
        return _complain(_plain(error), _UNUSABLE)
    return status if isinstance(status, int) else 0


def _meant(error: Exception) -> bool:
    """Tell whether an error is meant for the user: from the system, or from a `raise` in slq or an adapter."""
    if isinstance(error, ImportError | OSError):
        return True
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    line = traceback.extract_tb(error.__traceback__)[-1].line
    return str(frame.f_globals.get("__name__")).startswith("slq") and (line or "raise").startswith("raise")


def _plain(error: Exception) -> str:
    """Say an error without Python's brackets: `[Errno 2] No such file ...: 'x'` becomes `x: No such file ...`."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {(error.strerror or 'cannot be used').lower()}"
    return str(error)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"slq: {printable(' '.join(message.split()))}\n")
    return status


def _end_quietly() -> int:
    """Whoever read our output has seen enough (`slq show x | head -1`): keep Python from complaining at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
