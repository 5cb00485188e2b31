"""How far new Krylov vectors are from orthogonal to earlier ones, predicted from alpha and beta (Simon 1984).

While all inner products stay below sqrt(eps), T is that of exactly orthogonal vectors up to rounding, so nothing has to
be projected out (Simon 1984, doi:10.1090/S0025-5718-1984-0725988-X). Inner products w_jk of q_j and q_k follow the
recurrence of the vectors themselves, and grow as Ritz values converge:

    beta_j w_{j+1,k} = beta_k w_{j,k+1} + (alpha_k - alpha_j) w_jk + beta_{k-1} w_{j,k-1} - beta_{j-1} w_{j-1,k}

up to rounding, which is added with the sign that does most harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats

# Inner products may reach this share of sqrt(eps), as predicted, before vectors are made orthogonal again. Rounding is
# at random and its share in them guessed: they were seen to reach an eighth.
_SHARE = 0.1
# After so many steps without a projection one is made to measure what the prediction is worth.
_LOOK_EVERY = 16
# Share of the steps that are followed by a projection all the same.
LEAST_SHARE = 2 / _LOOK_EVERY


def allowed(unit: float) -> float:
    """Return the inner products that Krylov vectors of a relative rounding may have."""
    return float(_SHARE * np.sqrt(unit))


class Loss:
    """Predictions for the newest two vectors of every probe, and when to project.

    Two vectors in a row are made orthogonal, since the next one inherits from both.

    Parameters
    ----------
    probes : int
        Their number.
    unit : float
        Relative rounding of a step.

    Attributes
    ----------
    clean : bool
        Whether the vectors that the last prediction was made from had both been made orthogonal: all that is found
        along others then comes from the product.
    """

    __slots__ = ("_alphas", "_betas", "_due", "_newest", "_older", "_projected", "_since", "_unit", "_units", "clean")

    def __init__(self, probes: int, unit: float) -> None:
        self._unit, self._units = unit, np.full(probes, unit)
        self._alphas, self._betas = np.zeros((probes, 0)), np.zeros((probes, 0))
        self._older, self._newest = np.zeros((probes, 0)), np.zeros((probes, 0))
        self._due, self._since, self._projected = 0, 0, 0
        self.clean = True

    @property
    def share(self) -> float:
        """Share of the steps at which vectors were made orthogonal, or will be where nothing grows."""
        return max(self._projected / max(self._alphas.shape[1], 1), LEAST_SHARE)

    def grows(self, alpha: Floats, beta: Floats, nearest: Floats) -> bool:
        """Predict the next vectors' inner products with all earlier ones; tell whether to project now.

        `nearest` are those with the newest two, as they were measured, of shape (2, k) and times beta.
        """
        self.clean = max(self._older.max(initial=0.0), self._newest.max(initial=0.0)) <= self._unit
        divisor = np.where(beta > 0, beta, 1.0)[:, None]
        a = self._alphas = np.concatenate([self._alphas, alpha[:, None]], axis=1)
        b = self._betas = np.concatenate([self._betas, beta[:, None]], axis=1)
        j = a.shape[1] - 1
        new = np.empty((len(a), j + 1))
        new[:, max(j - 1, 0) :] = np.maximum(np.abs(nearest[-min(j + 1, 2) :].T) / divisor, self._unit)
        if j > 1:
            now, before, last = self._newest, self._older, slice(0, j - 1)
            term = b[:, last] * now[:, 1:j] + (a[:, last] - a[:, j:]) * now[:, last] - b[:, j - 1 : j] * before
            term[:, 1:] += b[:, : j - 2] * now[:, : j - 2]
            size = np.max(np.abs(a) + b, axis=1) + np.max(b, axis=1)
            term += np.copysign((self._units * size)[:, None], term)
            new[:, last] = term / divisor
        self._older, self._newest, self._since = self._newest, new, self._since + 1
        if self._due == 0 and (self._since > _LOOK_EVERY or np.max(np.abs(new)) > allowed(self._unit)):
            self._due = 2
        needed, self._due = self._due > 0, max(self._due - 1, 0)
        self._projected += needed
        return needed

    def cleared(self, found: Floats) -> None:
        """Take note that the newest vectors were made orthogonal; `found` are the norms of what was removed."""
        predicted = np.sqrt(np.sum(self._newest**2, axis=1))
        self._units = np.minimum(self._units * np.maximum(found / predicted, 1.0), 1.0)
        self._newest[:] = self._unit
        self._since = 0

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return all that predictions go on from; it grows with the steps."""
        numbers = (self._alphas, self._betas, self._older, self._newest, self._units[:, None])
        width = max(x.shape[1] for x in numbers)
        table = np.stack([np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in numbers])
        return {"loss": table, "turn": np.array([self._due, self._since, self._projected])}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what `state` gave."""
        (self._due, self._since, self._projected), table = (int(x) for x in state["turn"]), state["loss"]
        self._alphas, self._betas, older, self._newest, units = table
        self._older, self._units = older[:, : max(older.shape[1] - 1, 0)], units[:, 0]

    def keep(self, which: npt.NDArray[np.intp]) -> None:
        """Drop all probes but those at the given positions."""
        for name in ("_alphas", "_betas", "_older", "_newest", "_units"):
            setattr(self, name, getattr(self, name)[which])
