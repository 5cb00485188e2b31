"""The arithmetic that every operator has: sums, differences, multiples, numbers on the diagonal.

What comes of it is made in `_algebra`, which needs operators and is reached from inside the methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slq._operators._algebra import Combination


class Linear:
    """Gives an operator the arithmetic of `Combination`: sums, differences, multiples, numbers on the diagonal."""

    __slots__ = ()
    # NumPy's arrays and numbers leave sums and products with an operator to the operator.
    __array_ufunc__ = None

    def __add__(self, other: Any) -> Combination:
        """Add another operator of this shape, or a number times the identity."""
        from slq._operators._algebra import plus

        return plus(self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Combination:
        """Subtract another operator of this shape, or a number times the identity."""
        from slq._operators._algebra import plus

        return plus(self, other, -1.0)

    def __rsub__(self, other: Any) -> Combination:
        """Subtract from another operator, or from a number times the identity."""
        from slq._operators._algebra import plus, times

        return plus(times(self, -1.0), other)

    def __neg__(self) -> Combination:
        """Change the sign."""
        from slq._operators._algebra import times

        return times(self, -1.0)

    def __mul__(self, factor: Any) -> Combination:
        """Multiply by a number."""
        from slq._operators._algebra import times

        return times(self, factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Combination:
        """Divide by a number."""
        from slq._operators._algebra import over

        return over(self, divisor)
