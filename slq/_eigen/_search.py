"""Where a hunt for eigenpairs stands, besides its Krylov space: all that it goes on from, and its form in a file.

Numbers and texts are facts of the file, small matrices its arrays. Vectors are not: those that were found and those
that nearly converged are the first rows of the Krylov space, or all rows where there is none any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slq._arrays import Array, Floats
from slq._eigen._filters import Filter
from slq._eigen._pairs import Pairs

Stage = Literal["search", "proof", "admission", "measurement", "end"]
# Numbers and texts, which a file keeps as they are.
_PLAIN = (
    "stage", "spent", "drawn", "spaces", "norm", "asymmetry", "unit", "underflow", "scale", "allowed", "joined",
    "count", "verified", "tied", "status",
)  # fmt: skip


class Search:
    """The state of a hunt.

    Attributes
    ----------
    stage : str
        Converging to the wanted pairs, looking for missed ones, converging to one, measuring residuals, or done.
    spent, drawn, spaces : int
        Columns multiplied in Krylov spaces that were given up; random vectors drawn; Krylov spaces begun.
    norm, asymmetry, unit, underflow, scale : float
        What products have told of the matrix.
    found : list of Pairs
        Converged ones, in units of `scale`.
    near : Pairs, optional
        Nearly converged ones that the proof under way goes on without.
    proof : Filter
        Of the proof under way.
    fence : tuple of float
        Where all others must lie: low, high, and what rounding adds.
    allowed, joined, count : int
        Products of a proof; pairs that proofs have found; pairs that are being converged to.
    rest, verified, tied : tuple of float, bool, bool
        What has been proven.
    first : tuple of ndarray, optional
        Coefficients of the very first step, by which the operator is known again.
    status, warnings : str, tuple of str
        At the end.
    """

    def __init__(self) -> None:
        self.stage: Stage = "search"
        self.spent, self.drawn, self.spaces = 0, 0, 0
        self.norm, self.asymmetry, self.unit, self.underflow = 0.0, 0.0, 0.0, 0.0
        self.scale: float | None = None
        self.found: list[Pairs] = []
        self.near: Pairs | None = None
        self.proof = Filter()
        self.fence: tuple[float, float, float] = (-np.inf, np.inf, 0.0)
        self.allowed, self.joined, self.count = 0, 0, 0
        self.rest: tuple[float, float] = (-np.inf, np.inf)
        self.verified, self.tied = False, False
        self.first: tuple[Floats, Floats] | None = None
        self.status = ""
        self.warnings: tuple[str, ...] = ()

    def packed(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Return arrays and facts."""
        arrays: dict[str, npt.NDArray[Any]] = dict(self.proof.packed())
        sets = [*self.found, *([] if self.near is None else [self.near])]
        for i, pairs in enumerate(sets):
            arrays |= {f"values{i}": pairs.values, f"residuals{i}": pairs.residuals}
        if self.first is not None:
            arrays |= {"first-projected": self.first[0], "first-tail": self.first[1]}
        facts = {name: getattr(self, name) for name in _PLAIN}
        facts |= {name: list(getattr(self, name)) for name in ("rest", "fence", "warnings")}
        return arrays, facts | {"sets": len(sets), "nearly": self.near is not None}


def unpacked(arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any], rows: Array) -> Search:
    """Return the search of arrays, facts and the rows of all its pairs."""
    search, sets, last = Search(), [], 0
    for name in _PLAIN:
        setattr(search, name, facts[name])
    for i in range(facts["sets"]):
        values = arrays[f"values{i}"]
        sets.append(Pairs(values, rows[last : last + len(values), :], arrays[f"residuals{i}"]))
        last += len(values)
    if last != rows.shape[0]:
        msg = f"{last} eigenpairs with {rows.shape[0]} vectors"
        raise ValueError(msg)
    search.near = sets.pop() if facts["nearly"] else None
    search.found, search.proof = sets, Filter.unpacked(arrays)
    if "first-tail" in arrays:
        search.first = arrays["first-projected"], arrays["first-tail"]
    low, high, slack = facts["fence"]
    search.fence, search.rest = (low, high, slack), (facts["rest"][0], facts["rest"][1])
    search.warnings = tuple(facts["warnings"])
    return search
