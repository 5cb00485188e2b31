"""What k Lanczos runs leave behind: tridiagonal matrices of a few kilobytes, on the host, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats


@dataclass(frozen=True, slots=True)
class Tridiagonal:
    """The coefficients of k Lanczos runs of up to m steps.

    Attributes
    ----------
    alpha : ndarray, shape (probes, steps)
        Diagonals; zero beyond a probe's own length.
    beta : ndarray, shape (probes, steps)
        Off-diagonals; `beta[:, j]` couples steps j and j + 1, so the last one is the residual norm of the run.
    lengths : ndarray of int, shape (probes,)
        Steps that each probe made. A probe whose Krylov space is invariant stops early with a last beta of zero.
    overlaps : ndarray, shape (probes, steps, references)
        Inner products of Krylov vector j of each probe with the first start vectors of the run; they tell
        whether two probes saw the same eigenvector. No references where there was one probe.
    """

    alpha: Floats
    beta: Floats
    lengths: npt.NDArray[np.intp]
    overlaps: Floats

    @property
    def invariant(self) -> npt.NDArray[np.bool_]:
        """Per probe, whether its Krylov space is invariant, so that its Gauss rule is exact."""
        last = np.take_along_axis(self.beta, self.lengths[:, None] - 1, axis=1)[:, 0]
        return np.asarray(last == 0)


def concatenate(parts: list[Tridiagonal]) -> Tridiagonal:
    """Stack the runs of several batches, padded with zeros to the longest and to the most references."""
    shape = np.max([part.overlaps.shape[1:] for part in parts], axis=0)  # steps, references

    def stacked(name: str) -> Any:
        rows = [getattr(part, name) for part in parts]
        gaps = [[(0, 0), *((0, to - old) for to, old in zip(shape, x.shape[1:], strict=False))] for x in rows]
        return np.concatenate([np.pad(x, gap) for x, gap in zip(rows, gaps, strict=True)])

    return Tridiagonal(*map(stacked, ("alpha", "beta", "lengths", "overlaps")))
