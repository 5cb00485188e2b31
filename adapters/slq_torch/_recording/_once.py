"""Warnings that are given once of each kind, however often a training meets the same trouble."""

import warnings

import slq


class Once:
    """Warns once of each kind."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        self._given: set[str] = set()

    def warn(self, kind: str, message: str) -> None:
        """Warn, unless that was done for this kind."""
        if kind not in self._given:
            self._given.add(kind)
            warnings.warn(message, slq.SlqWarning, stacklevel=2)
