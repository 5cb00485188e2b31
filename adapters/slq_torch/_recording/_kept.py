"""Where records are kept: a history in memory or in a file, the last eigenvectors beside it, and loggers that are told.

What the next record starts from is known here too, and what is odd about a record beside those before.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

import slq
from slq_torch._recording._loggers import checked_loggers, evolution_figure, log
from slq_torch._recording._once import Once
from slq_torch._recording._record import Before, Measured
from slq_torch._recording._subspaces import Subspaces


class Kept:
    """The records of one recorder; goes on with those that are in its file.

    Parameters
    ----------
    path : str or Path, optional
        The file; by default in memory only.
    facts : dict
        About the whole, for a history that is new.
    vectors : bool
        Whether the last eigenvectors are kept beside the file.
    log_to : object or list, optional
        As for `Recorder`.
    figures : bool
        Whether pictures go there too.
    once : Once
        Takes the warnings.
    """

    def __init__(
        self, path: str | Path | None, facts: dict[str, Any], *, vectors: bool, log_to: Any, figures: bool, once: Once
    ) -> None:
        self._loggers, self._figures, self._once = checked_loggers(log_to), figures, once
        self._file = None if path is None else slq.HistoryFile(path, metadata=facts)
        self.history = slq.History(metadata=facts) if self._file is None else self._file.history
        self._subspaces = Subspaces(self._file.path) if self._file is not None and vectors else None
        self._vectors: Tensor | None = None
        if self._subspaces is not None and len(self.history):
            self._vectors = self._subspaces.load(int(self.history.steps[-1]))

    @property
    def before(self) -> Before:
        """What the next record starts from."""
        return Before(self._vectors, next((s for s in reversed(self.history.spectra) if s is not None), None))

    def append(self, step: int, found: Measured, numbers: dict[str, float]) -> None:
        """Append the record, write it, and tell the loggers."""
        note = "; ".join([*found.notes, *self._oddities(found)])
        if found.vectors is not None:
            self._vectors = found.vectors
        if self._file is None:
            self.history = self.history.append(step, found.spectrum, arrays=found.arrays, note=note, **numbers)
        else:
            if self._subspaces is not None and self._vectors is not None:
                self._subspaces.save(step, self._vectors)
            written = self._file.append(step, found.spectrum, arrays=found.arrays, note=note, **numbers)
            self.history = self._file.history
            if written and self._subspaces is not None:
                self._subspaces.forget_but(step)
        if self._loggers:
            try:
                log(self._loggers, step, numbers, evolution_figure(self.history) if self._figures else None)
            except Exception as error:
                told = f"`log_to` raised {type(error).__name__}: {error}. The record is kept all the same."
                self._once.warn("log", told)

    def close(self) -> None:
        """Let others write to the file."""
        if self._file is not None:
            self._file.close()

    def _oddities(self, found: Measured) -> list[str]:
        """Notice a model that was rebuilt, and one that is not the one that is trained."""
        odd, last = [], self.before.spectrum
        if last is not None and found.spectrum is not None and last.n != found.spectrum.n:
            odd.append(f"the model has {found.spectrum.n} parameters, before it had {last.n}")
        pair = ("evaluation_loss", "gradient_norm")
        before = [self.history.scalars[name][-1] for name in pair if name in self.history.scalars]
        if before == [found.scalars.get(name) for name in pair]:
            odd.append("nothing has changed since the record before")
            advice = "Give the recorder the model that is trained: perhaps another one was built or loaded."
            self._once.warn("same", f"Loss and gradient are those of step {self.history.steps[-1]}. {advice}")
        return odd
