"""The diagonal of f(A): by random signs, by unit vectors for chosen entries, or by XDiag for A itself.

Sources: Bekas, Kokiopoulou & Saad 2007, doi:10.1016/j.apnum.2007.01.003; Epperly, Tropp & Webber 2024,
arXiv:2301.07825, section 5 (XDiag).
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from scipy.special import stdtrit

from slq import _arrays
from slq._arrays import Array, Floats
from slq._estimates import Band, Claim
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import Seed
from slq._operators._operators import as_symmetric
from slq._quadrature._integrands import Function, Integrand, Name, integrand_of
from slq._quadrature._quadrature import gauss
from slq._quadrature._rules import Rules
from slq._traces._block_krylov import BlockKrylov, require_defined
from slq._traces._blocks import Blocks, require_counts
from slq._traces._doubling import Effort, diagonal_of, limits_of, targets
from slq._traces._sketch import Sketch

# Probes whose spaces are held at once.
_TOGETHER = 16


def diagonal(
    A: Any,
    f: Function | Name = "identity",
    /,
    *,
    indices: Any = None,
    probes: int = 64,
    steps: int = 24,
    rng: Seed = None,
    confidence: float = 0.95,
) -> Band:
    """Estimate the diagonal of f(A), all of it by random signs, or some entries each by its own unit vector.

    The mean of v * f(A) v over signs v has the diagonal as its expectation and the other entries of each row as its
    scatter. With `indices` nothing is random: f(A)_ii is the quadrature of unit vector i, certified for polynomials.
    Costs `probes * steps` products, or `len(indices) * steps`; memory for 16 * `steps` vectors.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    f : callable or str
        See `Spectrum.trace`.
    indices : array_like of int, optional
        Which entries; by default all n, by signs.
    probes : int, default 64
        Signs, at least 2; not used with `indices`.
    steps : int, default 24
        Lanczos steps.
    rng : int, numpy.random.Generator or None
        Seed.
    confidence : float, default 0.95
        Of the interval of each entry by itself, by Student's law over the probes.

    Returns
    -------
    Band
        With `x` the indices, and the entries in `value`, `low` and `high`.

    Raises
    ------
    ValueError
        If an argument is out of range, or f is certainly undefined on the spectrum.

    Warns
    -----
    SlqWarning
        If the operator is measurably asymmetric or nonlinear, or products do not repeat; without `indices` one more
        column tells.

    References
    ----------
    Bekas, Kokiopoulou & Saad 2007, doi:10.1016/j.apnum.2007.01.003.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> path = np.diag(np.ones(9), 1) + np.diag(np.ones(9), -1)
    >>> slq.diagonal(path, "square", indices=[0, 4], steps=3).value.round(6)
    array([1., 2.])
    """
    integrand = integrand_of(f)
    blocks = Blocks(as_symmetric(A), rng)
    n = blocks.operator.n
    if indices is not None:
        require_counts(steps=steps)
        return _entries(blocks, integrand, _indices(indices, n), steps, confidence)
    require_counts(probes=probes, steps=steps, least={"probes": 2})
    sums, squares, change, unit = np.zeros(n), np.zeros(n), np.zeros(n), 0.0
    for start in range(0, probes, _TOGETHER):
        V = blocks.draw(range(start, min(start + _TOGETHER, probes)), "rademacher")
        signs = _arrays.to_host(V)
        image, before = _applied(blocks, V, integrand, steps)
        unit = unit or float(np.abs(image).max())  # squares have room then
        image, before = image / (unit or 1.0), before / (unit or 1.0)
        sums += np.sum(signs * image, axis=1)
        squares += np.sum((signs * image) ** 2, axis=1)
        change += np.sum(signs * (image - before), axis=1)
    blocks.test(above=1)
    mean = sums / probes
    deviation = np.sqrt(np.maximum(squares / probes - mean**2, 0.0) / (probes - 1))
    half = stdtrit(probes - 1, (1 + confidence) / 2) * deviation + 2 * np.abs(change) / probes
    half = half + blocks.epsilon * steps * float(np.max(np.abs(mean), initial=0.0))
    mean, half = mean * (unit or 1.0), half * (unit or 1.0)
    return Band(np.arange(n, dtype=np.float64), mean, mean - half, mean + half, confidence, "estimate")


def xdiag(A: Any, /, *, products: int | None = None, rng: Seed = None, **effort: Unpack[Effort]) -> Band:
    """Estimate the diagonal of A by XDiag: every probe serves the subspace of the others and samples what that leaves.

    Better than `diagonal` where the eigenvalues decay.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    products : int, optional
        Columns to multiply, at least 4, and one more for the test; half makes the sketch, half its basis. By default
        doubled until `rtol`.
    rng : int, numpy.random.Generator or None
        Seed.
    **effort
        `rtol`, `confidence` and `max_products` as for `slq.hutchinson`. The tolerance is for half-widths relative to
        entries, as root mean squares over the diagonal; the confidence is that of each entry by itself, by Student's
        law over the leave-one-out estimates, which are not independent: an estimate.

    Returns
    -------
    Band
        With `x` the indices, and the entries in `value`, `low` and `high`.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; `products` must be at least 4.

    Warns
    -----
    SlqWarning
        If the operator is measurably asymmetric or nonlinear, or products do not repeat: one more column tells.

    References
    ----------
    Epperly, Tropp & Webber 2024, arXiv:2301.07825, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> A = np.diag(0.5 ** np.arange(200))
    >>> bool(np.abs(slq.xdiag(A, products=60, rng=0).value - np.diag(A)).max() < 1e-6)
    True
    """
    rtol, confidence, _ = limits_of(effort)
    blocks = Blocks(as_symmetric(A), rng)
    sketch, n = Sketch(blocks, "rademacher", keep=True), blocks.operator.n
    for target, risk in targets(n, products, effort, 4):
        if target >= n:
            value, deviation, quantile = diagonal_of(blocks), np.zeros(n), 0.0
        else:
            sketch.grow(target // 2 - sketch.probes)
            value, deviation = sketch.diagonals()
            quantile = float(stdtrit(sketch.probes - 1, 1 - risk / 2))
        rounding = blocks.epsilon * max(sketch.probes, 1) * float(np.max(np.abs(value), initial=0.0))
        half = quantile * deviation + rounding
        if np.linalg.norm(half) <= rtol * np.linalg.norm(value):
            break
    blocks.test(above=1)
    claim: Claim = "certified" if target >= n else "estimate"
    value, half = value * (blocks.scale or 1.0), half * (blocks.scale or 1.0)
    return Band(np.arange(n, dtype=np.float64), value, value - half, value + half, confidence, claim)


def _applied(blocks: Blocks, V: Array, integrand: Integrand, steps: int) -> tuple[Floats, Floats]:
    """Return f(A) V from the block Krylov space of V, of all steps and of three quarters of them."""
    space = BlockKrylov(blocks, V)
    space.advance(steps)
    space.require_defined(integrand)
    start = blocks.inner(space.Q[:, : space.sizes[0]], V)
    found = []
    for m in (None, max(1, (3 * steps) // 4)):
        small = space.function(integrand, m)[:, : space.sizes[0]] @ start
        found.append(_arrays.to_host(blocks.combine(space.Q[:, : len(small)], small)))
    return found[0], found[1]


def _entries(blocks: Blocks, integrand: Integrand, indices: Any, steps: int, confidence: float) -> Band:
    """Return chosen diagonal entries, each by the Lanczos run of its unit vector."""
    n, values, changes = blocks.operator.n, [], []
    for start in range(0, len(indices), _TOGETHER):
        some = indices[start : start + _TOGETHER]
        unit = np.zeros((len(some), n))
        unit[np.arange(len(some)), some] = 1.0
        run = LanczosRun(blocks.operator, _arrays.rows_of(blocks.from_host(unit.T), blocks.xp), reorth="full")
        run.advance(steps)
        run.warn(above=2)
        T = run.tridiagonal()
        rule = gauss(T)
        for i in range(len(some)):
            require_defined(rule.nodes[i], integrand, blocks.epsilon)
            values.append(float(rule.weights[i] @ integrand.f(rule.nodes[i])))
            nodes, weights = Rules.shortened(T, i)
            exact = 0 <= integrand.degree < 2 * T.lengths[i]
            changes.append(0.0 if exact else 2 * abs(values[-1] - float(weights @ integrand.f(nodes))))
    value = np.array(values)
    half = np.array(changes) + blocks.epsilon * steps * np.abs(value)
    claim = "certified" if 0 <= integrand.degree < 2 * steps else "estimate"
    return Band(indices.astype(np.float64), value, value - half, value + half, confidence, claim)  # type: ignore[arg-type]


def _indices(indices: Any, n: int) -> Any:
    found = np.atleast_1d(np.asarray(indices))
    if found.ndim != 1 or found.dtype.kind not in "iu" or found.size == 0:
        msg = f"`indices` must be one or more integers, got {indices!r}."
        raise ValueError(msg)
    if np.any((found < -n) | (found >= n)):
        msg = f"`indices` must lie in [-{n}, {n}), got {found[(found < -n) | (found >= n)][0]}."
        raise ValueError(msg)
    return found % n
