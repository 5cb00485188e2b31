"""All quadrature rules of one run: Gauss, with a node prescribed at an end, at both ends, or of fewer steps.

Each probe's rules are made once, however many functions are integrated by them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from slq._arrays import Floats
from slq._kernels._entries import Traces
from slq._lanczos._tridiagonal import Tridiagonal
from slq._quadrature._measure import Measure
from slq._quadrature._quadrature import eigen_tridiagonal, lobatto, radau

Nodes = list[tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a run: a list of (nodes, weights), one per probe of the measure.

    Attributes
    ----------
    measure : Measure
        What is known and what each probe saw of the rest.
    T : Tridiagonal
        The run's coefficients.
    traces : tuple of float, optional
        tr A and tr A^2, where they are known exactly.
    assumed : bool
        Whether some known eigenvalue is counted once without proof.
    """

    measure: Measure
    T: Tridiagonal
    traces: Traces | None = None
    assumed: bool = False
    _made: dict[tuple[float, ...], Nodes] = field(default_factory=dict, repr=False)

    @property
    def steps(self) -> int:
        """Steps of the shortest probe."""
        return min(int(self.T.lengths[p.row]) for p in self.measure.probes)

    @property
    def gauss(self) -> Nodes:
        """The Gauss rules."""
        return [(p.nodes, p.weights) for p in self.measure.probes]

    def radau(self, node: float) -> Nodes:
        """Return the rules with a node beyond the Ritz values; the Gauss rule where it is exact."""
        if (node,) not in self._made:
            self._made[(node,)] = [self._radau(i, node) for i in range(len(self.measure.probes))]
        return self._made[(node,)]

    def lobatto(self, low: float, high: float) -> Nodes:
        """Return the rules with nodes beyond the Ritz values at both ends; the Gauss rule where it is exact."""
        if (low, high) not in self._made:
            self._made[(low, high)] = [self._lobatto(i, low, high) for i in range(len(self.measure.probes))]
        return self._made[(low, high)]

    def shorter(self) -> Nodes:
        """Return the Gauss rules of three quarters of the steps."""
        if () not in self._made:
            self._made[()] = [self.shortened(self.T, p.row) for p in self.measure.probes]
        return self._made[()]

    @staticmethod
    def shortened(T: Tridiagonal, i: int) -> tuple[Floats, Floats]:
        """Return the Gauss rule of three quarters of one probe's steps."""
        m = T.lengths[i]
        short = m if T.beta[i, m - 1] == 0 else max(1, (3 * m) // 4)
        theta, vectors = eigen_tridiagonal(T.alpha[i, :short], T.beta[i, : short - 1])
        return theta, vectors[0] ** 2

    def _radau(self, position: int, node: float) -> tuple[Floats, Floats]:
        probe, T = self.measure.probes[position], self.T
        i, m = probe.row, T.lengths[probe.row]
        first, last = probe.nodes[0], probe.nodes[-1]
        outside = min(node, first) if node < 0.5 * (first + last) else max(node, last)
        if T.beta[i, m - 1] == 0 or outside in (first, last):
            return probe.nodes, probe.weights
        return radau(T.alpha[i, :m], T.beta[i, :m], outside)

    def _lobatto(self, position: int, low: float, high: float) -> tuple[Floats, Floats]:
        probe, T = self.measure.probes[position], self.T
        i, m = probe.row, T.lengths[probe.row]
        ends = min(low, probe.nodes[0]), max(high, probe.nodes[-1])
        if T.beta[i, m - 1] == 0 or ends[0] == probe.nodes[0] or ends[1] == probe.nodes[-1]:
            return probe.nodes, probe.weights
        return lobatto(T.alpha[i, :m], T.beta[i, :m], *ends)
