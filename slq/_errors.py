"""The signals of slq: a warning for numerics, an error that keeps what was computed, one for undefined functions."""

from __future__ import annotations

from typing import Any


class SlqWarning(UserWarning):
    """Something about the operator or the numbers deserves a look; the result is still valid as described."""


class DomainError(ValueError):
    """A function was asked for that is not defined on the spectrum, such as the log of an indefinite matrix."""


class RunError(RuntimeError):
    """A run stopped by its operator or its callback; nothing that was computed before is lost.

    Parameters
    ----------
    message : str
        What happened, where, and what to do.
    partial : object, optional
        The `Spectrum` of all steps completed before, or None where there was no complete step.

    Attributes
    ----------
    partial : Spectrum or None
        As above.
    """

    def __init__(self, message: str, partial: Any = None) -> None:
        super().__init__(message)
        self.partial = partial
