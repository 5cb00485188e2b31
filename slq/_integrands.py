"""What is known of a function whose trace is asked: its domain, and the signs of its derivatives.

Quadrature rules bound an integral from one side where these signs are known; nothing is integrated here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slq._arrays import Floats

Function = Callable[[Floats], Floats]
Name = Literal["identity", "square", "log", "inverse", "sqrt", "exp", "cosh", "entropy"] | str
_POWER = re.compile(r"x\s*(?:\*\*|\^)\s*(-?\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Integrand:
    """A function with what is known of its derivatives on its domain.

    Attributes
    ----------
    f : callable
        Vectorised function.
    even, odd : {-1, 0, 1}
        Sign of all derivatives of even (odd) order, from order `first` on; 0 unknown.
    positive : bool
        Whether the domain is x > 0.
    degree : int
        Degree, for a polynomial; -1 else.
    first : int
        The order from which the signs hold; m steps need those from 2 m on.
    name : str
        For messages.
    derivative : callable, optional
        Vectorised derivative, for gradients of traces.
    """

    f: Function
    even: int = 0
    odd: int = 0
    positive: bool = False
    degree: int = -1
    first: int = 2
    name: str = "f"
    derivative: Function | None = None

    def bracketed(self, steps: int) -> bool:
        """Whether quadrature rules of so many steps bound its integral from both sides."""
        return self.degree >= 0 or ((self.even != 0 or self.odd != 0) and self.first <= 2 * steps)


KNOWN: dict[str, Integrand] = {
    "identity": Integrand(lambda x: np.asarray(x, dtype=np.float64), degree=1, name="x", derivative=np.ones_like),
    "square": Integrand(np.square, degree=2, name="x**2", derivative=lambda x: 2 * x),
    "log": Integrand(np.log, -1, 1, positive=True, name="log", derivative=np.reciprocal),
    "inverse": Integrand(np.reciprocal, 1, -1, positive=True, name="1/x", derivative=lambda x: -1 / x**2),
    "sqrt": Integrand(np.sqrt, -1, 1, positive=True, name="sqrt", derivative=lambda x: 0.5 / np.sqrt(x)),
    "exp": Integrand(np.exp, 1, 1, name="exp", derivative=np.exp),
    "cosh": Integrand(np.cosh, 1, name="cosh", derivative=np.sinh),
    "entropy": Integrand(
        lambda x: -x * np.log(x), -1, 1, positive=True, name="-x log x", derivative=lambda x: -np.log(x) - 1
    ),
}
_UFUNCS: dict[Function, str] = {
    np.log: "log",
    np.reciprocal: "inverse",
    np.sqrt: "sqrt",
    np.exp: "exp",
    np.cosh: "cosh",
    np.square: "square",
    np.positive: "identity",
}


def integrand_of(f: Function | Name) -> Integrand:
    """Return `f` with what is known of it: names and NumPy functions are recognised, other callables are taken bare."""
    if isinstance(f, str):
        if f in KNOWN:
            return KNOWN[f]
        if power := _POWER.fullmatch(f.strip()):
            return power_of(float(power[1]))
        msg = f"`f` must be a callable, a power such as 'x**1.5', or one of {', '.join(KNOWN)}; got {f!r}."
        raise ValueError(msg)
    name = _UFUNCS.get(f) if getattr(f, "__hash__", None) else None
    return KNOWN[name] if name else Integrand(f)


def power_of(p: float) -> Integrand:
    """Return x**p: a polynomial, or a function on x > 0 whose derivatives alternate in sign from some order on.

    The k-th one is p (p - 1) ... (p - k + 1) x**(p - k): from k = p on every factor more is negative.
    """
    if p >= 0 and p.is_integer():
        k = int(p)
        slope: Function = (lambda x: k * np.asarray(x, dtype=np.float64) ** (k - 1)) if k else np.zeros_like
        return Integrand(lambda x: np.asarray(x, dtype=np.float64) ** k, degree=k, name=f"x**{p:g}", derivative=slope)
    first = max(int(np.ceil(p)), 0)
    even = 1 if first % 2 == 0 else -1
    return Integrand(
        lambda x: x**p, even, -even, positive=True, first=first, name=f"x**{p:g}", derivative=lambda x: p * x ** (p - 1)
    )
