"""tr f(A) where single eigenvalues weigh much: by the block Krylov space of a few random vectors.

The space knows f(A) well on its first blocks, which hold the eigenvectors that stand out: their part of the trace is
taken from there, and only the rest is sampled.

Source: Chen & Hallman 2023, arXiv:2205.01736.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import stdtrit

from slq import _arrays
from slq._arrays import Array, Floats
from slq._estimates import ErrorParts, Estimate
from slq._lanczos._krylov import unit_rows
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import Seed
from slq._operators._operators import as_symmetric
from slq._quadrature._bounds import spread
from slq._quadrature._integrands import Function, Integrand, Name, integrand_of
from slq._quadrature._quadrature import gauss
from slq._quadrature._rules import Rules
from slq._traces._block_krylov import BlockKrylov
from slq._traces._blocks import Blocks, require_counts


def krylov_aware_trace(
    A: Any,
    f: Function | Name = "identity",
    /,
    *,
    block: int = 8,
    depth: int = 8,
    steps: int = 24,
    probes: int = 16,
    rtol: float | None = None,
    rng: Seed = None,
    confidence: float = 0.95,
    max_products: int = 16384,
) -> Estimate:
    """Estimate tr f(A) exactly on the first blocks of a block Krylov space, and by quadrature on what they leave.

    Costs `block * (depth + steps) + probes * steps` products and memory for `block * (depth + steps)` vectors and as
    many of the rest. Better than `slq.trace` where few eigenvalues make most of the trace, as with exp or high powers.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    f : callable or str
        See `Spectrum.trace`.
    block : int, default 8
        Start vectors of the space.
    depth : int, default 8
        Blocks that are taken out of the sampling.
    steps : int, default 24
        Further blocks by which f(A) is known there, and Lanczos steps of each probe of the rest.
    probes : int, default 16
        Of the rest, at least 2.
    rtol : float, optional
        Half-width of the interval to reach, relative to the value: `steps` or `probes` are doubled, whichever the
        larger part of the error asks for, and what was computed is kept. By default the numbers above are all.
    rng : int, numpy.random.Generator or None
        Seed.
    confidence : float, default 0.95
        Of the interval, by Student's law over the probes of the rest.
    max_products : int, default 16384
        Doubling that would go beyond is not begun.

    Returns
    -------
    Estimate
        With the quadrature error judged by twice the change from three quarters of the steps. Its claim is "estimate".

    Raises
    ------
    ValueError
        If an argument is out of range, or f is certainly undefined on the spectrum.

    Warns
    -----
    SlqWarning
        If the operator is measurably asymmetric or nonlinear, or products do not repeat: one more column tells.

    References
    ----------
    Chen & Hallman 2023, arXiv:2205.01736, algorithm 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.spiked(500)
    >>> estimate = slq.krylov_aware_trace(operator, "exp", rng=0)
    >>> bool(abs(estimate.value / law.trace(np.exp) - 1) < 1e-2)
    True
    >>> closer = slq.krylov_aware_trace(operator, "exp", rtol=1e-3, rng=0)
    >>> bool(closer.high - closer.low <= 2e-3 * closer.value)
    True
    """
    require_counts(block=block, depth=depth, steps=steps, probes=probes, max_products=max_products, least={"probes": 2})
    if rtol is not None and not rtol > 0:
        msg = f"`rtol` must be positive or None, got {rtol}."
        raise ValueError(msg)
    integrand = integrand_of(f)
    blocks = Blocks(as_symmetric(A, shards=True), rng)
    n = blocks.operator.n
    space = BlockKrylov(blocks, blocks.draw(range(min(block, n)), "sphere"))
    space.advance(depth + steps)
    space.require_defined(integrand)
    rest = _Rest(blocks, space.basis(depth), block)
    spent, looks = block * (depth + steps) + probes * steps, 1
    if rtol is not None:  # every look takes its share of the risk
        looks += max(0, int(np.log2(max_products / spent)))
    while True:
        found = _estimate(blocks, space, rest, integrand, (depth, steps, probes), (confidence, looks))
        if rtol is None or looks == 1 or found.high - found.low <= 2 * rtol * abs(found.value):
            break
        longer = found.error.quadrature > found.error.sampling and steps < n
        spent += (block + probes) * steps if longer else probes * steps
        if spent > max_products or found.error.quadrature + found.error.sampling == 0:
            break
        steps, probes = (2 * steps, probes) if longer else (steps, 2 * probes)
        space.advance(depth + steps - len(space.sizes) + 1)
    blocks.test(above=1)
    return found


def _estimate(
    blocks: Blocks,
    space: BlockKrylov,
    rest: _Rest,
    integrand: Integrand,
    effort: tuple[int, int, int],
    interval: tuple[float, int],
) -> Estimate:
    """Return what the first `depth` blocks of the space hold, and the mean of so many probes of the rest.

    `effort` are depth, steps and probes; the confidence of the interval is that of so many looks together.
    """
    (depth, steps, probes), (confidence, looks) = effort, interval
    r, n = rest.removed, blocks.operator.n
    inside, inside_before = (
        float(np.trace(space.function(integrand, m)[:r, :r])) for m in (None, depth + (3 * steps) // 4)
    )
    rounding = blocks.epsilon * n * float(np.max(np.abs(np.diag(space.function(integrand))), initial=0.0))
    if r >= n:
        parts = ErrorParts(0.0, 0.0, rounding)
        return Estimate(inside, inside - rounding, inside + rounding, parts, confidence, "estimate")
    samples, before = rest.samples(integrand, probes, steps)
    half = float(stdtrit(probes - 1, 1 - (1 - confidence) / (2 * looks)) * spread(samples) / np.sqrt(probes))
    quadrature = 2 * (abs(inside - inside_before) + abs(float(np.mean(samples - before))))
    value, width = inside + float(samples.mean()), half + quadrature + rounding
    return Estimate(value, value - width, value + width, ErrorParts(half, quadrature, rounding), confidence, "estimate")


class _Rest:
    """Lanczos runs of probes that are orthogonal to a basis; more of them, and more steps, as they are asked for."""

    def __init__(self, blocks: Blocks, Q: Array, first: int) -> None:
        self._blocks, self._Q, self._first = blocks, Q, first
        self._runs: list[LanczosRun] = []
        self._probes = 0

    @property
    def removed(self) -> int:
        """Dimension of what was taken out."""
        return int(self._Q.shape[1])

    def samples(self, integrand: Integrand, probes: int, steps: int) -> tuple[Floats, Floats]:
        """Return each probe's part of the trace, and what it was at three quarters of the steps."""
        if probes > self._probes:
            self._runs.append(self._begun(self._first + self._probes, self._first + probes))
            self._probes = probes
        left, found, earlier = self._blocks.operator.n - self.removed, [], []
        for run in self._runs:
            run.advance(steps - run.steps)
            T = run.tridiagonal()
            rule = gauss(T)
            found.append(np.sum(rule.weights * integrand.f(rule.nodes), axis=1))
            shorter = (Rules.shortened(T, i) for i in range(len(T.lengths)))
            earlier.append(np.array([w @ integrand.f(x) for x, w in shorter]))
        return left * np.concatenate(found), left * np.concatenate(earlier)

    def _begun(self, begin: int, end: int) -> LanczosRun:
        blocks = self._blocks
        G = blocks.draw(range(begin, end), "sphere")
        for _ in range(2):
            G = blocks.project_out(G, self._Q)
        return LanczosRun(
            blocks.operator, unit_rows(_arrays.rows_of(G, blocks.xp), blocks.xp, blocks.shards), reorth="full"
        )
