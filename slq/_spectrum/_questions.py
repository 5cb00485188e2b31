"""Questions to a Spectrum that are traces of one function: tr f(A), log-determinant, moments, norms.

Each function here is a method of `Spectrum` under the same name, which is why its first argument is called `self`. No
product is spent, and A + t I is asked for any t, since the Krylov spaces are the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, overload

import numpy as np

from slq._arrays import Floats
from slq._estimates import Band, Claim, ErrorParts, Estimate
from slq._quadrature._integrals import trace_estimate
from slq._quadrature._integrands import Function, Integrand, Name, integrand_of, power_of, ridge_share
from slq._spectrum._answers import integral, over, rules_of, sampling_of, transformed

if TYPE_CHECKING:
    from slq._spectrum._spectrum import Spectrum

# Eigenvalues that many noise floors below zero are taken for zeros.
_ZEROS = 4.0
# Powers of eigenvalues have magnitudes below 2 to this: sums over any n and their squares have room.
_WITHIN = 300


@overload
def trace(
    self: Spectrum, f: Function | Name = "identity", /, *, shift: float = 0.0, lower: float | None = None
) -> Estimate: ...
@overload
def trace(
    self: Spectrum, f: Function | Name = "identity", /, *, shift: Floats | list[float], lower: float | None = None
) -> Band: ...
def trace(
    self: Spectrum,
    f: Function | Name = "identity",
    /,
    *,
    shift: float | Floats | list[float] = 0.0,
    lower: float | None = None,
) -> Estimate | Band:
    """Return tr f(A + shift I), the sum of f over all eigenvalues.

    Parameters
    ----------
    self : Spectrum
        The run.
    f : callable or str
        A vectorised function, a power such as "x**1.5", or one of "identity", "square", "log", "inverse",
        "sqrt", "exp", "cosh", "entropy" (-x log x). For these, and for the NumPy functions of the same meaning,
        rules with prescribed nodes bound the quadrature error; for other callables it is extrapolated.
    shift : float or array_like, default 0
        Added to every eigenvalue. For an array of shifts the answer is a Band over them that holds at all of them.
    lower : float, optional
        A bound below all eigenvalues of A + shift I that you know, such as the noise variance added to a kernel; with
        several shifts, of A. It sharpens "log" and "inverse" much where the steps have not settled the smallest
        eigenvalue.

    Returns
    -------
    Estimate or Band
        With sampling, quadrature and numeric error.

    Raises
    ------
    ValueError
        If f needs positive eigenvalues and A + shift I certainly has others, returns another shape, or something that
        is no finite real number, or `lower` is no lower bound.
    """
    integrand, rules, several = integrand_of(f), rules_of(self), np.ndim(shift) > 0

    def ask(t: float, confidence: float) -> Estimate:
        least = lower if lower is None or several else lower - t
        return trace_estimate(rules, integrand.shifted(t), sampling_of(self, confidence), lower=least)

    return over(shift, "shift", self.confidence, ask)


@overload
def logdet(self: Spectrum, shift: float = 0.0, *, lower: float | None = None) -> Estimate: ...
@overload
def logdet(self: Spectrum, shift: Floats | list[float], *, lower: float | None = None) -> Band: ...
def logdet(self: Spectrum, shift: float | Floats | list[float] = 0.0, *, lower: float | None = None) -> Estimate | Band:
    """Return log det(A + shift I) of a positive definite A + shift I, for one shift or many; see `trace`."""
    return trace(self, "log", shift=shift, lower=lower)


@overload
def trace_inverse(self: Spectrum, shift: float = 0.0, *, lower: float | None = None) -> Estimate: ...
@overload
def trace_inverse(self: Spectrum, shift: Floats | list[float], *, lower: float | None = None) -> Band: ...
def trace_inverse(
    self: Spectrum, shift: float | Floats | list[float] = 0.0, *, lower: float | None = None
) -> Estimate | Band:
    """Return tr (A + shift I)^-1 of a positive definite A + shift I, for one shift or many; see `trace`."""
    return trace(self, "inverse", shift=shift, lower=lower)


@overload
def effective_dimension(self: Spectrum, ridge: float, /) -> Estimate: ...
@overload
def effective_dimension(self: Spectrum, ridge: Floats | list[float], /) -> Band: ...
def effective_dimension(self: Spectrum, ridge: float | Floats | list[float], /) -> Estimate | Band:
    """Return tr A (A + ridge I)^-1, the degrees of freedom of ridge regression with the kernel matrix A.

    Parameters
    ----------
    self : Spectrum
        The run.
    ridge : float or array_like
        Positive, in the unit of the eigenvalues, for a positive semidefinite A; else above minus its smallest
        eigenvalue. An array gives a Band.
    """
    rules = rules_of(self)

    def ask(t: float, confidence: float) -> Estimate:
        return trace_estimate(rules, ridge_share(t), sampling_of(self, confidence))

    return over(ridge, "ridge", self.confidence, ask)


def moment(self: Spectrum, order: int, /, *, about: float = 0.0) -> Estimate:
    """Return the mean of (eigenvalue - about)**order, tr (A - about I)**order / n.

    Of m steps the rule is exact up to order 2 m - 1, so that only the probes' scatter is left.
    """
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or order < 0:
        msg = f"`order` must be an integer from 0 on, got {order!r}."
        raise ValueError(msg)
    n = self.n
    return transformed(integral(self, power_of(float(order)).shifted(-about)), lambda t: t / n)


def schatten_norm(self: Spectrum, p: float, /, *, gram: bool = False) -> Estimate:
    """Return the Schatten norm (sum of ``|eigenvalue|**p``)**(1/p).

    Parameters
    ----------
    self : Spectrum
        The run.
    p : float
        Positive, or inf for the largest magnitude. Even p are polynomials, and positive semidefinite matrices are
        bracketed for all; for others the kink at zero makes the steps' error an estimate.
    gram : bool, default False
        Whether this is the spectrum of B^T B (or B B^T) and the norm of B is asked, of whatever shape B is.
    """
    if not p > 0:
        msg = f"`p` must be positive, got {p}. 1 is the nuclear norm, 2 Frobenius', inf the largest magnitude."
        raise ValueError(msg)
    power = p / 2 if gram else p
    if gram and self.edges[0] < 0 and np.min(self.nodes) < -_ZEROS * self.noise:
        msg = f"`gram` needs a spectrum of B^T B, but an eigenvalue is at most {np.min(self.nodes):.6g}."
        raise ValueError(msg)
    if np.isinf(p):
        largest = _largest(self)
        return transformed(largest, lambda t: np.sqrt(t)) if gram else largest
    integrand, unit = _magnitude(self, power, definite=gram), _unit(self, power)
    if unit != 1.0:
        integrand = replace(integrand, f=_in_units(integrand.f, unit), derivative=None)
    return transformed(integral(self, integrand), lambda t: np.maximum(t, 0.0) ** (1 / p) * unit ** (power / p))


def nuclear_norm(self: Spectrum, *, gram: bool = False) -> Estimate:
    """Return the sum of all magnitudes, the Schatten norm for p = 1; see `schatten_norm`."""
    return schatten_norm(self, 1.0, gram=gram)


def frobenius_norm(self: Spectrum, *, gram: bool = False) -> Estimate:
    """Return the root of the sum of all squares, the Schatten norm for p = 2; see `schatten_norm`."""
    return schatten_norm(self, 2.0, gram=gram)


def _in_units(f: Function, unit: float) -> Function:
    """Return x -> f(x / unit)."""
    return lambda x: f(x / unit)


def _unit(spectrum: Spectrum, p: float) -> float:
    """Return the power of two in whose units p-th powers of the eigenvalues stay far within float64; 1 if they do."""
    exponent = int(np.frexp(np.max(np.abs(spectrum.nodes)))[1])
    return 1.0 if abs(exponent * p) < _WITHIN else float(np.ldexp(1.0, int(np.clip(exponent, -1022, 1022))))


def _magnitude(spectrum: Spectrum, p: float, *, definite: bool) -> Integrand:
    """Return ``|x|**p``, with the signs of its derivatives where no eigenvalue is negative."""
    if definite or spectrum.edges[0] >= -_ZEROS * spectrum.noise or p % 2 == 0:
        return power_of(float(p))
    return Integrand(lambda x: np.abs(x) ** p, name=f"|x|**{p:g}")


def _largest(spectrum: Spectrum) -> Estimate:
    """Return the largest magnitude: at least that of every Ritz value, at most that of the certified edges."""
    low = float(np.max(np.abs(spectrum.nodes)))
    high = max(low, *map(abs, spectrum.edges))
    parts = ErrorParts(0.0, max((high - low) / 2 - spectrum.noise, 0.0), spectrum.noise)
    claim: Claim = "certified" if spectrum.certified else "estimate"
    return Estimate(low, max(low - spectrum.noise, 0.0), high, parts, spectrum.confidence, claim)
