"""Questions to a Spectrum about exponentials of A and ensembles: partition functions, free energy, heat, entropy.

Each function here is a method of `Spectrum` under the same name, which is why its first argument is called `self`.
Sums of exponentials are taken relative to an edge of the spectrum, so that none overflows. Quotients of traces share
their probes; see `_joint`. Units: Boltzmann's constant is 1, a temperature is an energy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, overload

import numpy as np

from slq._arrays import Floats
from slq._estimates import Band, ErrorParts, Estimate
from slq._quadrature._integrals import require_domain, trace_estimate
from slq._quadrature._integrands import KNOWN, exponential
from slq._quadrature._joint import Combination, joint_estimate
from slq._spectrum._answers import integral, joint, over, rules_of, sampling_of, transformed

if TYPE_CHECKING:
    from slq._spectrum._spectrum import Spectrum


def estrada_index(self: Spectrum) -> Estimate:
    """Return tr exp(A), of an adjacency matrix the weighted number of closed walks.

    Overflows where the largest eigenvalue exceeds 709, which is an error; `log_sum_exp` does not.
    """
    return integral(self, KNOWN["exp"])


def log_sum_exp(self: Spectrum) -> Estimate:
    """Return log tr exp(A), for eigenvalues of any size."""
    top, largest = self.edges[1], float(np.max(self.nodes[self.weights > 0]))
    found = transformed(integral(self, exponential(1.0, top)), lambda t: np.log(np.maximum(t, 0.0)) + top)
    return _within(found, largest - self.noise, largest, top + np.log(self.n))


@overload
def heat_trace(self: Spectrum, time: float, /) -> Estimate: ...
@overload
def heat_trace(self: Spectrum, time: Floats | list[float], /) -> Band: ...
def heat_trace(self: Spectrum, time: float | Floats | list[float], /) -> Estimate | Band:
    """Return tr exp(-time A), of a Laplacian the heat that is left after a time, for one time or many.

    Parameters
    ----------
    self : Spectrum
        The run.
    time : float or array_like
        In the unit of 1 / eigenvalue. An array gives a Band that holds at all times at once.
    """
    rules = rules_of(self)

    def ask(t: float, confidence: float) -> Estimate:
        return trace_estimate(rules, exponential(-t), sampling_of(self, confidence))

    return over(time, "time", self.confidence, ask)


@overload
def free_energy(self: Spectrum, temperature: float, /) -> Estimate: ...
@overload
def free_energy(self: Spectrum, temperature: Floats | list[float], /) -> Band: ...
def free_energy(self: Spectrum, temperature: float | Floats | list[float], /) -> Estimate | Band:
    """Return the free energy -T log tr exp(-A / T) of a Hamiltonian A, for one temperature or many.

    Parameters
    ----------
    self : Spectrum
        The run.
    temperature : float or array_like
        T > 0, in the unit of the eigenvalues. An array gives a Band that holds at all temperatures at once.
    """
    rules, ground, smallest = rules_of(self), self.edges[0], float(np.min(self.nodes[self.weights > 0]))

    def ask(T: float, confidence: float) -> Estimate:
        partition = trace_estimate(rules, exponential(-1 / T, ground), sampling_of(self, confidence))
        found = transformed(partition, lambda z: ground - T * np.log(np.maximum(z, 0.0)))
        return _within(found, ground - T * np.log(self.n), smallest, smallest + self.noise)

    return over(_positive(temperature), "temperature", self.confidence, ask)


@overload
def heat_capacity(self: Spectrum, temperature: float, /) -> Estimate: ...
@overload
def heat_capacity(self: Spectrum, temperature: Floats | list[float], /) -> Band: ...
def heat_capacity(self: Spectrum, temperature: float | Floats | list[float], /) -> Estimate | Band:
    """Return the heat capacity (<A^2> - <A>^2) / T^2 of a Hamiltonian A in the canonical ensemble.

    Numerators and partition function are seen by the same probes, and the interval is that of the quotient: by the
    jackknife over the probes from eight on, by their law to first order for fewer.

    Parameters
    ----------
    self : Spectrum
        The run.
    temperature : float or array_like
        T > 0, in the unit of the eigenvalues. An array gives a Band that holds at all temperatures at once.
    """
    rules, ground = rules_of(self), self.edges[0]

    def ask(T: float, confidence: float) -> Estimate:
        # Energies are counted from the ground state, in units of T: what cancels is then small.
        def weight(x: Floats) -> Floats:
            return np.asarray(np.exp(-(x - ground) / T))

        def energy(x: Floats) -> Floats:
            return np.asarray((x - ground) / T)

        def squared(x: Floats) -> Floats:
            return np.asarray(energy(x) ** 2 * weight(x))

        combination = Combination((weight, lambda x: energy(x) * weight(x), squared), _variance, _variance_slopes)
        return joint_estimate(rules, combination, sampling_of(self, confidence))

    return over(_positive(temperature), "temperature", self.confidence, ask)


def von_neumann_entropy(self: Spectrum) -> Estimate:
    """Return -tr rho log rho of the density matrix rho = A / tr A, for a positive semidefinite A, in nats."""
    require_domain(self._measure, KNOWN["entropy"], self.noise)
    unit = max(map(abs, self.edges)) or 1.0
    combination = Combination(
        (lambda x: x / unit, lambda x: KNOWN["entropy"].f(x / unit)),
        lambda t: float(np.log(t[0]) + t[1] / t[0]),
        lambda t: np.array([1 / t[0] - t[1] / t[0] ** 2, 1 / t[0]]),
    )
    return joint(self, combination)


def _variance(t: Floats) -> float:
    """Return <e^2> - <e>^2 from the sums of weights, energies and squares."""
    return float(t[2] / t[0] - (t[1] / t[0]) ** 2)


def _variance_slopes(t: Floats) -> Floats:
    mean, square = float(t[1] / t[0]), float(t[2] / t[0])
    return np.asarray(np.array([2 * mean**2 - square, -2 * mean, 1.0]) / t[0])


def _within(estimate: Estimate, low: float, middle: float, high: float) -> Estimate:
    """Return an estimate cut off at bounds that hold whatever the probes saw: no sum is below its largest term."""
    ends = zip((estimate.value, estimate.low, estimate.high), (middle, low, high), strict=True)
    value, below, above = (float(np.clip(x if np.isfinite(x) else end, low, high)) for x, end in ends)
    error = estimate.error
    if not np.isfinite([error.sampling, error.quadrature, error.numeric]).all():
        error = ErrorParts(0.0, max(above - value, value - below), 0.0)
    return replace(estimate, value=value, low=below, high=above, error=error)


def _positive(temperature: float | Floats | list[float]) -> Floats:
    values = np.asarray(temperature, dtype=np.float64)
    if not np.all(values > 0):
        msg = f"`temperature` must be positive, got {temperature!r}. It is in the unit of the eigenvalues."
        raise ValueError(msg)
    if np.any(values < np.finfo(np.float64).tiny):
        msg = f"`temperature` is too small, got {temperature!r}: 1 / T overflows. Ask for the spectrum of c A at c T."
        raise ValueError(msg)
    return values
