"""Eigenvalues and eigenvectors with what is known about them: residuals, and where all others lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from slq._arrays import Array, Floats
from slq._eigen._ends import Which

# Rows of a printed table.
_SHOWN = 12


@dataclass(frozen=True, slots=True, repr=False)
class Eigenpairs:
    """Some eigenvalues and eigenvectors of a symmetric operator. Made by `slq.eigsh`; prints as a table.

    Attributes
    ----------
    values : ndarray, shape (k,)
        Eigenvalues, ascending. Each lies within its residual of an eigenvalue of the matrix.
    vectors : array, shape (n, k)
        Orthonormal eigenvectors as columns, in the operator's array library and on its device. Of an operator whose
        vectors are cut into shards the rows that are here.
    residuals : ndarray, shape (k,)
        Norms of A x - value x, measured by a product with each final vector, where the budget allowed it.
    products : int
        Columns multiplied in all.
    converged : ndarray of bool, shape (k,)
        Whether a residual is at most the tolerance.
    rest : tuple of float
        All eigenvalues that are not among `values` lie in [low, high], with probability `confidence`; infinite at an
        end that was not asked about or not verified. Deflated eigenvalues count as known.
    verified : bool
        Whether `rest` leaves no room for an eigenvalue that was missed, up to the tolerance.
    n : int
        Dimension.
    which : {"LM", "LA", "SA", "BE"}
        Which eigenvalues were asked for.
    tol : float
        The largest residual that counts as converged.
    confidence : float
        Of `rest`.
    seed : int
        Of the random vectors.
    seconds : float
        Time taken.
    status : str
        In words, how the run ended.
    warnings : tuple of str
        What deserves a look.
    """

    values: Floats
    vectors: Array
    residuals: Floats
    products: int
    converged: npt.NDArray[np.bool_]
    rest: tuple[float, float]
    verified: bool
    n: int
    which: Which
    tol: float
    confidence: float
    seed: int
    seconds: float
    status: str
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.values)

    def __repr__(self) -> str:
        size = f"{self.n:,} × {self.n:,}".replace(",", " ")
        lines = [f"{len(self)} eigenpairs ({self.which}) of a {size} operator", f"  {'value':>22}  {'residual':>9}"]
        shown = range(len(self) - 1, -1, -1)
        for i in list(shown)[:_SHOWN]:
            mark = "" if self.converged[i] else "  not converged"
            lines.append(f"  {self.values[i]:>22.15g}  {self.residuals[i]:>9.1e}{mark}")
        if len(self) > _SHOWN:
            lines.append(f"  … and {len(self) - _SHOWN} more")
        lines.append(f"  others      {self._others()}")
        lines.append(f"  run         {self.products} products, {self.seconds:.3g} s")
        lines.append(f"  status      {self.status}")
        return "\n".join(lines + [f"  warning     {text}" for text in self.warnings])

    def _others(self) -> str:
        """Say where the eigenvalues lie that are not among these."""
        low, high = self.rest
        if len(self) == self.n:
            return "none"
        if low == -np.inf and high == np.inf:
            return "not verified"
        place = f"below {high:.8g}" if low == -np.inf else f"above {low:.8g}" if high == np.inf else ""
        said = place or f"between {low:.8g} and {high:.8g}"
        return f"all {said} ({self.confidence:.0%}){'' if self.verified else ': some may have been missed'}"


def columns_of(pairs: Any) -> Any:
    """Return the vectors of Eigenpairs, and anything else as it is."""
    return pairs.vectors if isinstance(pairs, Eigenpairs) else pairs
