"""What is known of a function whose trace is asked: its domain, and the signs of its derivatives.

Quadrature rules bound an integral from one side where these signs are known; nothing is integrated here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slq._arrays import Floats
from slq._errors import DomainError

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
    above : float
        The domain is x > above.
    closed : bool
        Whether its end belongs to the domain; `f` then takes what rounding puts below it for the end.
    degree : int
        Degree, for a polynomial; -1 else.
    first : int
        The order from which the signs hold; m steps need those from 2 m on.
    name : str
        For messages.
    derivative : callable, optional
        Vectorised derivative, for gradients of traces.
    parameter : str
        Which argument moves the end of the domain, for messages.
    """

    f: Function
    even: int = 0
    odd: int = 0
    above: float = -np.inf
    closed: bool = False
    degree: int = -1
    first: int = 2
    name: str = "f"
    derivative: Function | None = None
    parameter: str = "shift"

    def bracketed(self, steps: int) -> bool:
        """Whether quadrature rules of so many steps bound its integral from both sides."""
        return self.degree >= 0 or ((self.even != 0 or self.odd != 0) and self.first <= 2 * steps)

    def shifted(self, shift: float) -> Integrand:
        """Return x -> f(x + shift), for the spectrum of A + shift I on the nodes of A."""
        if shift == 0:
            return self
        f, slope = self.f, self.derivative
        moved: Function | None = None if slope is None else lambda x: slope(x + shift)
        return replace(self, f=lambda x: f(x + shift), derivative=moved, above=self.above - shift)


def _sqrt(x: Floats) -> Floats:
    return np.asarray(np.sqrt(np.maximum(x, 0.0)))


def _entropy(x: Floats) -> Floats:
    positive = np.maximum(x, np.finfo(np.float64).tiny)
    return np.where(x > 0, -positive * np.log(positive), 0.0)


KNOWN: dict[str, Integrand] = {
    "identity": Integrand(lambda x: np.asarray(x, dtype=np.float64), degree=1, name="x", derivative=np.ones_like),
    "square": Integrand(np.square, degree=2, name="x**2", derivative=lambda x: 2 * x),
    "log": Integrand(np.log, -1, 1, above=0.0, name="log", derivative=np.reciprocal),
    "inverse": Integrand(np.reciprocal, 1, -1, above=0.0, name="1/x", derivative=lambda x: -1 / x**2),
    "sqrt": Integrand(_sqrt, -1, 1, above=0.0, closed=True, name="sqrt", derivative=lambda x: 0.5 / np.sqrt(x)),
    "exp": Integrand(np.exp, 1, 1, name="exp", derivative=np.exp),
    "cosh": Integrand(np.cosh, 1, name="cosh", derivative=np.sinh),
    "entropy": Integrand(_entropy, -1, 1, above=0.0, closed=True, name="-x log x", derivative=lambda x: -np.log(x) - 1),
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
    """Return `f` with what is known of it: names and NumPy functions are recognised, other callables are checked."""
    if isinstance(f, str):
        if f in KNOWN:
            return KNOWN[f]
        if power := _POWER.fullmatch(f.strip()):
            return power_of(float(power[1]))
        msg = f"`f` must be a callable, a power such as 'x**1.5', or one of {', '.join(KNOWN)}; got {f!r}."
        raise ValueError(msg)
    if not callable(f):
        msg = f"`f` must be a callable or a name such as 'log', got {type(f).__name__}."
        raise TypeError(msg)
    name = _UFUNCS.get(f) if getattr(f, "__hash__", None) else None
    if name:
        return KNOWN[name]
    _tried(f)
    return Integrand(_checked(f))


def power_of(p: float) -> Integrand:
    """Return x**p: a polynomial, or a function on x > 0 whose derivatives alternate in sign from some order on.

    The k-th one is p (p - 1) ... (p - k + 1) x**(p - k): from k = p on every factor more is negative.
    """
    if p >= 0 and p.is_integer():
        k = int(p)
        slope: Function = (lambda x: k * np.asarray(x, dtype=np.float64) ** (k - 1)) if k else np.zeros_like
        return Integrand(lambda x: np.asarray(x, dtype=np.float64) ** k, degree=k, name=f"x**{p:g}", derivative=slope)
    first = max(int(np.ceil(p)), 0)
    even, closed = 1 if first % 2 == 0 else -1, p > 0

    def power(x: Floats) -> Floats:
        return np.asarray((np.maximum(x, 0.0) if closed else x) ** p)

    def slope_of_power(x: Floats) -> Floats:
        return np.asarray(p * x ** (p - 1))

    facts: dict[str, Any] = {"above": 0.0, "closed": closed, "first": first, "name": f"x**{p:g}"}
    return Integrand(power, even, -even, derivative=slope_of_power, **facts)


def exponential(rate: float, centre: float = 0.0) -> Integrand:
    """Return exp(rate (x - centre))."""
    side = int(np.sign(rate))

    def slope(x: Floats) -> Floats:
        return np.asarray(rate * np.exp(rate * (x - centre)))

    return Integrand(lambda x: np.exp(rate * (x - centre)), 1, side or 1, name=f"exp({rate:g} x)", derivative=slope)


def ridge_share(ridge: float) -> Integrand:
    """Return x / (x + ridge), for x > -ridge: 1 - ridge / (x + ridge)."""
    side = int(np.sign(ridge))

    def share(x: Floats) -> Floats:
        return np.asarray(x / (x + ridge))

    def slope(x: Floats) -> Floats:
        return np.asarray(ridge / (x + ridge) ** 2)

    name = "x / (x + ridge)"
    return Integrand(share, -side, side, above=-ridge, name=name, derivative=slope, parameter="ridge")


def _tried(f: Function) -> None:
    """Refuse a callable that gives no real array of the shape of its argument, before anything is spent on it.

    What it raises or leaves undefined here tells nothing: eigenvalues may lie elsewhere.
    """
    x = np.array([0.25, 0.5, 1.0])
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = np.asarray(f(x.copy()))
    except Exception:
        return
    _require_alike(given, x)


def _require_alike(given: npt.NDArray[Any], x: Floats) -> None:
    if given.shape != x.shape:
        msg = (
            f"`f` must return an array of the shape of its argument: for eigenvalues of shape {x.shape} it gave "
            f"{given.shape}. Write it with NumPy functions, or wrap it in np.vectorize."
        )
        raise ValueError(msg)
    if given.dtype.kind not in "fiub":
        msg = f"`f` must return real numbers, got dtype {given.dtype}. Take its real part, or ask for it twice."
        raise ValueError(msg)


def _checked(f: Function) -> Function:
    """Return a callable of the user that is told what it returns wrongly, with the eigenvalue at which it does."""

    def checked(x: Floats) -> Floats:
        if x.size == 0:  # np.vectorize, which is advised, refuses it
            return np.zeros(x.shape)
        try:
            with np.errstate(all="ignore"):  # what comes out is judged, and told with its place
                given = np.asarray(f(x))
        except (TypeError, ValueError) as error:
            msg = (
                f"`f` failed on an array of {x.size} eigenvalues: {error}. If it takes one number at a time, write it "
                "with NumPy functions, or wrap it in np.vectorize."
            )
            raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from error
        _require_alike(given, x)
        values = given.astype(np.float64)
        if not np.isfinite(values).all():
            where = int(np.flatnonzero(~np.isfinite(values))[0])
            msg = (
                f"`f` gives {values[where]} at {x[where]:.6g}, which lies between the smallest and the largest "
                "eigenvalue. Define it there, for example with np.where, or shift A."
            )
            raise DomainError(msg)
        return values

    return checked
