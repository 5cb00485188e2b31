"""tr A from products with A alone: Hutchinson's estimator and those that take the large eigenvalues out of it.

For a matrix whose trace is asked itself; of a function of A the Krylov spaces know more (`slq.trace`,
`slq.krylov_aware_trace`). All take a number of products, or double it until a tolerance is met, keeping what is there.

Sources: Hutchinson 1990, doi:10.1080/03610919008812866; Meyer, Musco, Musco & Woodruff 2021, arXiv:2010.09649
(Hutch++); Epperly, Tropp & Webber 2024, arXiv:2301.07825 (XTrace, XNysTrace). Written anew from the mathematics:
sketches may be rank-deficient, and intervals come from the jackknife, since the scatter of the leave-one-out estimates
understates the error up to threefold where eigenvalues decay (they share their sketch).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import stdtrit

from slq._arrays import Array, Floats
from slq._blocks import Blocks
from slq._estimates import ErrorParts, Estimate
from slq._leave_one_out import Found, of_samples, xnystrace_of, xtrace_of
from slq._operators import as_symmetric
from slq._probes import Seed, seed_from
from slq._sketch import Sketch, require_symmetric

# Products of the first look, when a tolerance decides; then they double, up to the second number by default.
_FIRST, _MOST = 24, 16384
# Rounding: so many roundings of the trace of magnitudes, per column of the small matrices.
_ROUNDINGS = 8.0

Step = Callable[[int], Found]


def hutchinson(
    A: Any,
    /,
    *,
    products: int | None = None,
    rtol: float = 1e-2,
    rng: Seed = None,
    confidence: float = 0.95,
    max_products: int | None = None,
) -> Estimate:
    """Estimate tr A by the mean of v^T A v over random signs v.

    The variance per probe is twice the sum of squares off the diagonal: best for matrices near a diagonal.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    products : int, optional
        Columns to multiply, one per sample. By default doubled until `rtol`.
    rtol : float, default 0.01
        Half-width of the interval to reach, relative to the value.
    rng : int, numpy.random.Generator or None
        Seed.
    confidence : float, default 0.95
        Of the interval, by Student's law.
    max_products : int, optional
        Where doubling ends; 16384 by default. From n products on the trace is computed exactly.

    Returns
    -------
    Estimate
        Its claim is "estimate".

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.
    RunError
        If a product has the wrong shape or is not finite.

    References
    ----------
    Hutchinson 1990, doi:10.1080/03610919008812866.

    Examples
    --------
    >>> import slq
    >>> operator, law = slq.gallery.laplacian_2d(20)
    >>> estimate = slq.hutchinson(operator, products=40, rng=0)
    >>> bool(estimate.low <= 4 * 400 <= estimate.high)
    True
    """
    blocks = Blocks(as_symmetric(A), seed_from(rng))
    samples: list[float] = []

    def step(target: int) -> Found:
        V = blocks.draw(range(len(samples), max(target, 2)), "rademacher")
        samples.extend(blocks.diagonal_of_inner(V, blocks.product(V)))
        return of_samples(np.array(samples), float(np.mean(np.abs(samples))))

    return _reach(blocks, step, products, rtol, confidence, max_products)


def hutchpp(
    A: Any,
    /,
    *,
    products: int | None = None,
    rtol: float = 1e-2,
    rng: Seed = None,
    confidence: float = 0.95,
    max_products: int | None = None,
) -> Estimate:
    """Estimate tr A by Hutch++: exactly on a random subspace of large eigenvalues, by signs on the rest.

    A third of the products each goes to the sketch, to its basis and to the rest.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    products : int, optional
        Columns to multiply, at least 6. By default doubled until `rtol`.
    rtol : float, default 0.01
        Half-width of the interval to reach, relative to the value.
    rng : int, numpy.random.Generator or None
        Seed.
    confidence : float, default 0.95
        Of the interval, by Student's law over the probes of the rest.
    max_products : int, optional
        Where doubling ends; 16384 by default. From n products on the trace is computed exactly.

    Returns
    -------
    Estimate
        Its claim is "estimate".

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.
    RunError
        If a product has the wrong shape or is not finite.

    References
    ----------
    Meyer, Musco, Musco & Woodruff 2021, arXiv:2010.09649, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> estimate = slq.hutchpp(np.diag(0.5 ** np.arange(200)), products=60, rng=0)
    >>> bool(abs(estimate.value - 2) < 1e-4)
    True
    """
    blocks = Blocks(as_symmetric(A), seed_from(rng))
    # Spheres for the sketch and signs for the rest: two kinds of probes have disjoint streams.
    sketch, rest = Sketch(blocks, "sphere"), _Rest(blocks)

    def step(target: int) -> Found:
        share = max(target // 3, 2)
        sketch.grow(share - sketch.probes)
        rest.grow(target - 2 * share - rest.probes)
        size = float(np.abs(np.linalg.eigvalsh(sketch.H)).sum())
        return of_samples(np.trace(sketch.H) + rest.samples(sketch), size)

    return _reach(blocks, step, products, rtol, confidence, max_products, least=6)


def xtrace(
    A: Any,
    /,
    *,
    products: int | None = None,
    rtol: float = 1e-2,
    rng: Seed = None,
    confidence: float = 0.95,
    max_products: int | None = None,
) -> Estimate:
    """Estimate tr A by XTrace: every probe serves the subspace of the others and samples what that leaves.

    Half of the products makes the sketch, half its basis. Any symmetric A; for positive semidefinite ones `xnystrace`
    is better by half the products.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    products : int, optional
        Columns to multiply, at least 4. By default doubled until `rtol`.
    rtol : float, default 0.01
        Half-width of the interval to reach, relative to the value.
    rng : int, numpy.random.Generator or None
        Seed.
    confidence : float, default 0.95
        Of the interval, by the jackknife: what is estimated without a part of the probes, each in turn.
    max_products : int, optional
        Where doubling ends; 16384 by default. From n products on the trace is computed exactly.

    Returns
    -------
    Estimate
        Its claim is "estimate".

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.
    RunError
        If a product has the wrong shape or is not finite.

    References
    ----------
    Epperly, Tropp & Webber 2024, arXiv:2301.07825, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> estimate = slq.xtrace(np.diag(0.5 ** np.arange(200)), products=60, rng=0)
    >>> bool(abs(estimate.value - 2) < 1e-6)
    True
    """
    blocks = Blocks(as_symmetric(A), seed_from(rng))
    sketch = Sketch(blocks, "sphere")

    def step(target: int) -> Found:
        sketch.grow(max(target // 2, 2) - sketch.probes)
        return xtrace_of(sketch.H, sketch.R, sketch.W, blocks.operator.n)

    return _reach(blocks, step, products, rtol, confidence, max_products, least=4)


def xnystrace(
    A: Any,
    /,
    *,
    products: int | None = None,
    rtol: float = 1e-2,
    rng: Seed = None,
    confidence: float = 0.95,
    max_products: int | None = None,
) -> Estimate:
    """Estimate tr A of a positive semidefinite A by XNysTrace: Nyström's approximation, each probe left out in turn.

    All products make the sketch.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes, positive semidefinite.
    products : int, optional
        Columns to multiply, at least 2. By default doubled until `rtol`.
    rtol : float, default 0.01
        Half-width of the interval to reach, relative to the value.
    rng : int, numpy.random.Generator or None
        Seed.
    confidence : float, default 0.95
        Of the interval, by the jackknife: what is estimated without a part of the probes, each in turn.
    max_products : int, optional
        Where doubling ends; 16384 by default. From n products on the trace is computed exactly.

    Returns
    -------
    Estimate
        Its claim is "estimate".

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or A certainly has a negative eigenvalue.
    RunError
        If a product has the wrong shape or is not finite.

    References
    ----------
    Epperly, Tropp & Webber 2024, arXiv:2301.07825, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> estimate = slq.xnystrace(np.diag(0.5 ** np.arange(200)), products=40, rng=0)
    >>> bool(abs(estimate.value - 2) < 1e-8)
    True
    """
    blocks = Blocks(as_symmetric(A), seed_from(rng))
    parts: list[tuple[Array, Array]] = []

    def step(target: int) -> Found:
        have = sum(int(X.shape[1]) for X, _ in parts)
        omega = blocks.draw(range(have, max(target, 2)), "sphere")
        parts.append((omega, blocks.product(omega)))
        Omega, Y = (blocks.xp.concat(list(both), axis=1) for both in zip(*parts, strict=True))
        core = blocks.inner(Omega, Y)
        require_symmetric(core, blocks.epsilon)
        gram, R, n = blocks.inner(Omega, Omega), blocks.upper_factor(Y), blocks.operator.n
        return xnystrace_of((core + core.T) / 2, gram, R, n, blocks.epsilon)

    return _reach(blocks, step, products, rtol, confidence, max_products)


class _Rest:
    """Signs and their images, for what a sketch leaves over."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._parts: list[tuple[Array, Array]] = []

    @property
    def probes(self) -> int:
        return sum(int(G.shape[1]) for G, _ in self._parts)

    def grow(self, count: int) -> None:
        G = self._blocks.draw(range(self.probes, self.probes + count), "rademacher")
        self._parts.append((G, self._blocks.product(G)))

    def samples(self, sketch: Sketch) -> Floats:
        """Return g^T P A P g with P = I - Q Q^T."""
        found = []
        for G, image in self._parts:
            plain = self._blocks.diagonal_of_inner(G, image)
            if sketch.Q is None or sketch.rank == 0:
                found.append(plain)
                continue
            W, R = self._blocks.inner(sketch.Q, G), self._blocks.inner(sketch.Q, image)
            found.append(plain - 2 * np.sum(W * R, axis=0) + np.sum(W * (sketch.H @ W), axis=0))
        return np.concatenate(found)


def _reach(
    blocks: Blocks,
    step: Step,
    products: int | None,
    rtol: float,
    confidence: float,
    max_products: int | None,
    least: int = 2,
) -> Estimate:
    """Take one step to so many products, or double them until the tolerance is met."""
    _validate(products, rtol, confidence, max_products, least)
    n = blocks.operator.n
    most = min(_MOST if max_products is None else max_products, n)
    target = most if products is None else products
    if products is None and most > _FIRST:
        target = max(_FIRST, least)
    looks = max(1, int(np.ceil(np.log2(most / _FIRST))) + 1) if products is None and most > _FIRST else 1
    while True:
        if target >= n:
            return _exact(blocks, confidence)
        found = _student(step(target), blocks.epsilon, confidence, looks)
        if products is not None or target >= most or found.high - found.low <= 2 * rtol * abs(found.value):
            return found
        target = min(2 * target, most)


def _student(found: Found, epsilon: float, confidence: float, looks: int) -> Estimate:
    """Return Student's interval; several looks share the risk."""
    quantile = float(stdtrit(found.freedom, 1 - (1 - confidence) / (2 * looks)))
    half, rounding = quantile * found.deviation, _ROUNDINGS * epsilon * found.columns * found.size
    low, high = found.value - half - rounding, found.value + half + rounding
    return Estimate(found.value, low, high, ErrorParts(half, 0.0, rounding), confidence, "estimate")


def _exact(blocks: Blocks, confidence: float) -> Estimate:
    """Return the trace from all columns."""
    n, total, size, width = blocks.operator.n, 0.0, 0.0, 64
    for start in range(0, n, width):
        unit = np.eye(n, min(width, n - start), -start)
        diagonal = blocks.diagonal_of_inner(blocks.from_host(unit), blocks.product(blocks.from_host(unit)))
        total, size = total + float(diagonal.sum()), size + float(np.abs(diagonal).sum())
    rounding = _ROUNDINGS * blocks.epsilon * size
    return Estimate(total, total - rounding, total + rounding, ErrorParts(0.0, 0.0, rounding), confidence, "certified")


def _validate(products: int | None, rtol: float, confidence: float, max_products: int | None, least: int) -> None:
    for name, value in (("products", products), ("max_products", max_products)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            msg = f"`{name}` must be an integer, got {value!r}."
            raise TypeError(msg)
        if value < least:
            msg = f"`{name}` must be at least {least}, got {value}."
            raise ValueError(msg)
    if not rtol > 0:
        msg = f"`rtol` must be positive, got {rtol}."
        raise ValueError(msg)
    if not 0.5 <= confidence < 1:
        hint = f" Did you mean {confidence / 100:g}?" if 50 <= confidence < 100 else ""
        msg = f"`confidence` must lie in [0.5, 1), got {confidence}.{hint}"
        raise ValueError(msg)
