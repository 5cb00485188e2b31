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
from slq._estimates import ErrorParts, Estimate
from slq._lanczos._krylov import unit_rows
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import Seed
from slq._operators._operators import as_symmetric
from slq._quadrature._bounds import spread
from slq._quadrature._integrands import Function, Name, integrand_of
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
    rng: Seed = None,
    confidence: float = 0.95,
) -> Estimate:
    """Estimate tr f(A) exactly on the first blocks of a block Krylov space, and by quadrature on what they leave.

    Costs `block * (depth + steps) + probes * steps` products and memory for `block * (depth + steps)` vectors. Better
    than `slq.trace` where few eigenvalues make most of the trace, as with exp or high powers.

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
    rng : int, numpy.random.Generator or None
        Seed.
    confidence : float, default 0.95
        Of the interval, by Student's law over the probes of the rest.

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
    """
    require_counts(block=block, depth=depth, steps=steps, probes=probes, least={"probes": 2})
    integrand = integrand_of(f)
    blocks = Blocks(as_symmetric(A, shards=True), rng)
    n = blocks.operator.n
    space = BlockKrylov(blocks, blocks.draw(range(min(block, n)), "sphere"))
    space.advance(depth + steps)
    space.require_defined(integrand)
    Q = space.basis(depth)
    r = int(Q.shape[1])
    inside, inside_before = (
        float(np.trace(space.function(integrand, m)[:r, :r])) for m in (None, depth + (3 * steps) // 4)
    )
    rounding = blocks.epsilon * n * float(np.max(np.abs(np.diag(space.function(integrand))), initial=0.0))
    if r >= n:
        blocks.test(above=1)
        parts = ErrorParts(0.0, 0.0, rounding)
        return Estimate(inside, inside - rounding, inside + rounding, parts, confidence, "estimate")
    G = blocks.draw(range(block, block + probes), "sphere")
    for _ in range(2):
        G = blocks.project_out(G, Q)
    rows = unit_rows(_arrays.rows_of(G, blocks.xp), blocks.xp, blocks.shards)
    run = LanczosRun(blocks.operator, rows, reorth="full")
    run.advance(steps)
    blocks.test(above=1)
    T = run.tridiagonal()
    rule = gauss(T)
    shorter = [Rules.shortened(T, i) for i in range(probes)]
    samples = (n - r) * np.sum(rule.weights * integrand.f(rule.nodes), axis=1)
    before = (n - r) * np.array([w @ integrand.f(x) for x, w in shorter])
    half = float(stdtrit(probes - 1, (1 + confidence) / 2) * spread(samples) / np.sqrt(probes))
    quadrature = 2 * (abs(inside - inside_before) + abs(float(np.mean(samples - before))))
    value, width = inside + float(samples.mean()), half + quadrature + rounding
    return Estimate(value, value - width, value + width, ErrorParts(half, quadrature, rounding), confidence, "estimate")
