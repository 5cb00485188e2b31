"""Sums, multiples and shifts of symmetric operators: one class, since all of them are linear combinations.

Only what keeps a matrix symmetric is here; products of operators are not. A product with a combination multiplies with
each of its terms: terms that read the same data read it once each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

from slq import _arrays
from slq._arrays import Array
from slq._kernels._entries import Traces, shifted_traces
from slq._operators._linear import Linear
from slq._operators._operators import Operator, as_operator, noise_of, require_one_home
from slq._shards import Reduce

# Sums of a few terms that do not cancel are this many times smaller than their parts together, or less.
_FEW = 8.0


@dataclass(frozen=True, slots=True)
class Combination(Linear):
    """The operator c_1 A_1 + ... + c_k A_k + s I.

    Attributes
    ----------
    terms : tuple of (float, Operator)
        The coefficients and the operators, all of one shape, dtype, array library and device.
    shift : float
        What is added to the diagonal.
    """

    terms: tuple[tuple[float, Operator], ...]
    shift: float = 0.0
    _cancelled: list[float] = field(default_factory=list, repr=False, compare=False)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape, (n, n)."""
        return self._first.shape

    @property
    def dtype(self) -> Any:
        """Of the operators' own array library."""
        return self._first.dtype

    @property
    def xp(self) -> Any:
        """Array namespace of the blocks."""
        return self._first.xp

    @property
    def device(self) -> Any:
        """Where the blocks live."""
        return self._first.device

    @property
    def order(self) -> Literal["C", "F"]:
        """Memory order in which the first term likes its blocks."""
        return self._first.order

    @property
    def noise(self) -> float:
        """The largest relative error of a term, and what cancellation makes of that and of rounding.

        Relative to what is left where terms cancel: for H - G with |H - G| = |H| / 100 a hundred times that of a term.
        How much is left is known from the first product on, as the ratio of the largest numbers in it: right for a
        block of random columns, which is what spectra begin with, and no bound.
        """
        worst = max((noise_of(operator) for coefficient, operator in self.terms if coefficient), default=0.0)
        if not self._cancelled:
            return worst
        cancelled = self._cancelled[0]
        return max(worst * max(1.0, cancelled), _arrays.epsilon(self.dtype) * max(0.0, cancelled - _FEW))

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The terms' facts beside their coefficients, and the shift."""
        terms = [{"coefficient": c, **operator.metadata} for c, operator in self.terms]
        return {"kind": str(self), "terms": terms, "shift": self.shift}

    @property
    def traces(self) -> Traces | None:
        """Its trace and that of its square, where they follow from those of a single term; None where not known."""
        if len(self.terms) > 1:
            return None
        ((factor, operator),) = self.terms
        own = operator.traces()
        return own and shifted_traces((factor * own[0], factor**2 * own[1]), self.shift, operator.n)

    @property
    def rows(self) -> tuple[range, ...] | None:
        """Which rows of vectors are here, where they are cut into shards."""
        return self._first.rows

    @property
    def reduce(self) -> Reduce | None:
        """What sums over ranks then."""
        return None if self._first.shards.whole else self._first.reduce

    @property
    def krylov(self) -> Any:
        """What makes the recurrence of a run, where the first term brings its own and leaves products to the core."""
        return self._first.krylov if self.deflates else None

    @property
    def deflates(self) -> bool:
        """Whether a run may project known eigenvectors out, as all terms say."""
        return all(operator.deflates for _, operator in self.terms)

    @property
    def copies(self) -> int:
        """How often every eigenvalue occurs that counts once, which is the same of all terms."""
        return self._first.copies

    def matmat(self, X: Array, /) -> Array:
        """Return the combination times X, one product with each term."""
        total = self.shift * X
        sizes = [self._largest(total)]
        for coefficient, operator in self.terms:
            part = operator.matmat(X)
            part = part if coefficient == 1.0 else coefficient * part
            total = total + part
            sizes.append(self._largest(part))
        if not self._cancelled and (left := self._largest(total)) > 0:
            self._cancelled.append(sum(sizes) / left)
        return total

    def _largest(self, block: Array) -> float:
        """Return the largest number in a block of the first product, zero in later ones."""
        if self._cancelled:
            return 0.0
        largest = 0.0 if 0 in block.shape else float(_arrays.to_host(self.xp.max(self.xp.abs(block))))
        return float(self._first.shards.total(largest)[0])

    def __matmul__(self, X: Array, /) -> Array:
        return self.matmat(X[:, None])[:, 0] if X.ndim == 1 else self.matmat(X)

    def __str__(self) -> str:
        text = " + ".join(_term(c, operator.metadata.get("kind", "operator")) for c, operator in self.terms)
        return (f"{text} + {self.shift:g}" if self.shift else text).replace("+ -", "- ")

    def __repr__(self) -> str:
        return f"Combination({self}, n={self.shape[0]:,})"

    @property
    def _first(self) -> Operator:
        return self.terms[0][1]


def plus(A: Any, other: Any, factor: float = 1.0) -> Combination:
    """Return A + factor * other, where a number stands for that number times the identity.

    Parameters
    ----------
    A : operator
        A `Combination`, or anything that `slq.as_operator` takes.
    other : operator or float
        A second one of the same shape, dtype and device, or a shift of the diagonal.
    factor : float, default 1.0
        1 for a sum, -1 for a difference.

    Returns
    -------
    Combination
        With the terms of both; nested combinations are written out.

    Raises
    ------
    TypeError
        If the two live in different array libraries, dtypes or devices.
    ValueError
        If the shapes differ, or a shift is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from slq._operators._algebra import plus
    >>> A = plus(np.diag([1.0, 2.0]), 0.5)
    >>> A.matmat(np.ones((2, 1))).T
    array([[1.5, 2.5]])
    """
    first = _combination(A)
    if isinstance(other, Real):
        return Combination(first.terms, first.shift + factor * _number(other, "shift"))
    second = times(_combination(other), factor)
    _require_alike(first, second)
    return Combination((*first.terms, *second.terms), first.shift + second.shift)


def times(A: Any, factor: Any) -> Combination:
    """Return factor * A.

    Parameters
    ----------
    A : operator
        A `Combination`, or anything that `slq.as_operator` takes.
    factor : float
        A finite real number.

    Returns
    -------
    Combination
        With every coefficient and the shift multiplied.

    Raises
    ------
    TypeError
        If `factor` is no real number: products of operators need not be symmetric.
    ValueError
        If it is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from slq._operators._algebra import times
    >>> times(np.eye(3), 2.0).matmat(np.ones((3, 1))).T
    array([[2., 2., 2.]])
    """
    combination = _combination(A)
    c = _number(factor, "factor")
    return Combination(tuple((c * own, operator) for own, operator in combination.terms), c * combination.shift)


def over(A: Any, divisor: Any) -> Combination:
    """Return A / divisor for a number other than zero."""
    number = _number(divisor, "divisor")
    if not number:
        msg = "`divisor` must not be 0. An operator is divided by a number, e.g. by its largest eigenvalue."
        raise ValueError(msg)
    return times(A, 1.0 / number)


def _combination(A: Any) -> Combination:
    return A if isinstance(A, Combination) else Combination(((1.0, as_operator(A)),))


def _number(value: Any, name: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        msg = f"`{name}` must be a real number, got {type(value).__name__}. Only sums and multiples stay symmetric."
        raise TypeError(msg)
    if not math.isfinite(value):
        msg = f"`{name}` must be finite, got {value}."
        raise ValueError(msg)
    return float(value)


def _require_alike(first: Combination, second: Combination) -> None:
    if first.shape != second.shape:
        msg = f"operators must have one shape to be added, got {first.shape} and {second.shape}."
        raise ValueError(msg)
    if first.copies != second.copies:
        msg = "a real form and a real matrix of its size cannot be added: pass the real form of both."
        raise ValueError(msg)
    if first.rows != second.rows:
        msg = f"operators must have the same rows here to be added, got {first.rows} and {second.rows}."
        raise ValueError(msg)
    require_one_home((first, second))


def _term(coefficient: float, kind: str) -> str:
    kind = f"({kind})" if any(sign in kind for sign in "+-") else kind
    return {1.0: kind, -1.0: f"-{kind}"}.get(coefficient, f"{coefficient:g} {kind}")
