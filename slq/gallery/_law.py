"""Hold an exact spectrum, and answer the questions that an estimate is checked against.

No operator is built here, and nothing is estimated.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Density = Callable[[Reals], Reals]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Law:
    """Hold the exact spectrum of one symmetric operator.

    Costs 16 bytes per *distinct* eigenvalue, whatever n is, and one pass over them per answer.

    Attributes
    ----------
    n : int
        Order of the operator; the multiplicities sum to it.
    values : float64 array, shape (distinct,)
        Distinct eigenvalues, strictly ascending.
    multiplicities : int64 array, shape (distinct,)
        How often each value occurs, at least once.
    density : callable, optional
        Limiting density (n -> infinity) of the continuous part, vectorised, for plots. It integrates to the mass of
        that part (1 minus the atoms). None, the default, where the spectrum has no continuous limit in closed form.

    Raises
    ------
    ValueError
        If the arrays differ in shape, `values` is not finite and strictly ascending, or `multiplicities` holds an
        entry below 1 or does not sum to `n`.

    Examples
    --------
    >>> law = Law(3, [1.0, 2.0], [1, 2])
    >>> law.count(1.0, 2.0), law.moment(1), law.edges
    (2, 1.6666666666666667, (1.0, 2.0))
    """

    n: int
    values: Reals
    multiplicities: Counts
    density: Density | None = None

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        multiplicities = np.array(self.multiplicities, dtype=np.int64)
        if values.ndim != 1 or values.size == 0 or values.shape != multiplicities.shape:
            msg = (
                "`values` and `multiplicities` must be one-dimensional, of equal length and not empty, "
                f"got shapes {values.shape} and {multiplicities.shape}."
            )
            raise ValueError(msg)
        if not np.all(np.isfinite(values)) or np.any(values[1:] <= values[:-1]):
            msg = "`values` must be finite and strictly ascending. Count repeats in `multiplicities`."
            raise ValueError(msg)
        if multiplicities.min() < 1 or int(multiplicities.sum()) != self.n:
            msg = (
                f"`multiplicities` must be at least 1 and sum to n = {self.n}, "
                f"got {multiplicities.min()} as the smallest and {multiplicities.sum()} as the sum."
            )
            raise ValueError(msg)
        for name, array in (("values", values), ("multiplicities", multiplicities)):
            array.setflags(write=False)  # frozen means the arrays too: tests share one law
            object.__setattr__(self, name, array)

    def __repr__(self) -> str:
        return f"Law(n={self.n}, distinct={self.values.size}, edges={self.edges})"

    @property
    def edges(self) -> tuple[float, float]:
        """Smallest and largest eigenvalue."""
        return float(self.values[0]), float(self.values[-1])

    def eigenvalues(self) -> Reals:
        """Return all n eigenvalues ascending, shape (n,): 8 n bytes."""
        return np.repeat(self.values, self.multiplicities)

    def _cumulative(self) -> Reals:
        return np.cumsum(self.multiplicities) / self.n

    def cdf(self, x: npt.ArrayLike, /) -> Reals:
        """Return the share of eigenvalues <= x, in the shape of `x`; NaN where `x` is NaN."""
        points = np.asarray(x, dtype=np.float64)
        steps = np.concatenate([[0.0], self._cumulative()])
        share: Reals = steps[np.searchsorted(self.values, points, side="right")]
        return np.where(np.isnan(points), np.nan, share)

    def quantile(self, q: npt.ArrayLike, /) -> Reals:
        """Return the smallest eigenvalue with a `cdf` of at least q, in the shape of `q`."""
        share = np.asarray(q, dtype=np.float64)
        if not np.all((share >= 0) & (share <= 1)):
            msg = f"`q` must lie between 0 and 1, got {share}. Did you mean per cent? Divide by 100."
            raise ValueError(msg)
        # The same quotients as in `cdf`, so that quantile(cdf(v)) == v holds without a tolerance.
        quantiles: Reals = self.values[np.searchsorted(self._cumulative(), share, side="left")]
        return quantiles

    def count(self, a: float, b: float, /) -> int:
        """Return the number of eigenvalues in (a, b]: half-open, so that counts add up."""
        if not a <= b:
            msg = f"`a` must not exceed `b`, got a = {a} and b = {b}. Swap them."
            raise ValueError(msg)
        first, last = np.searchsorted(self.values, [a, b], side="right")
        return int(self.multiplicities[first:last].sum())

    def trace(self, f: Callable[[Reals], Reals], /) -> float:
        """Return tr f(A), the sum of multiplicity times f(value); `f` maps array to array."""
        terms = np.asarray(f(self.values), dtype=np.float64)
        if terms.shape != self.values.shape:
            msg = f"`f` must keep the shape {self.values.shape} of its argument, got {terms.shape}."
            raise ValueError(msg)
        return float(np.sum(self.multiplicities * terms))

    def moment(self, p: int, /) -> float:
        """Return tr A^p / n, the mean of the eigenvalues to the power p."""
        return self.trace(lambda values: values**p) / self.n


def law_of(
    values: npt.ArrayLike,
    multiplicities: npt.ArrayLike | None = None,
    *,
    density: Density | None = None,
    tolerance: float = 0.0,
) -> Law:
    """Build the law of unsorted eigenvalues; those within `tolerance` of the next are one."""
    points = np.asarray(values, dtype=np.float64)
    counts = np.ones(points.shape, np.int64) if multiplicities is None else np.asarray(multiplicities, np.int64)
    order = np.argsort(points, kind="stable")
    points, counts = points[order], counts[order]
    first = np.flatnonzero(np.concatenate([[True], np.diff(points) > tolerance]))
    return Law(int(counts.sum()), points[first], np.add.reduceat(counts, first), density)
