"""tr A from products with A alone: Hutchinson's estimator and those that take the large eigenvalues out of it.

For a matrix whose trace is asked itself; of a function of A the Krylov spaces know more (`slq.trace`,
`slq.krylov_aware_trace`). All take a number of products, or double it until a tolerance is met, keeping what is there.

Sources: Hutchinson 1990, doi:10.1080/03610919008812866; Meyer, Musco, Musco & Woodruff 2021, arXiv:2010.09649
(Hutch++); Epperly, Tropp & Webber 2024, arXiv:2301.07825 (XTrace, XNysTrace). Written anew from the mathematics:
sketches may be rank-deficient, and intervals come from the jackknife, since the scatter of the leave-one-out estimates
understates the error up to threefold where eigenvalues decay (they share their sketch).
"""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from slq._arrays import Array, Floats
from slq._estimates import Estimate
from slq._lanczos._probes import Seed
from slq._operators._operators import as_symmetric
from slq._traces._blocks import Blocks
from slq._traces._doubling import Effort, reach
from slq._traces._leave_one_out import Found, of_samples, xnystrace_of, xtrace_of
from slq._traces._sketch import Sketch, require_symmetric


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
        Columns to multiply, one per sample, and one more for the test. By default doubled until `rtol`.
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
        If a product has the wrong shape or is not finite, or writes into its argument.

    Warns
    -----
    SlqWarning
        If the operator is measurably asymmetric or nonlinear, or products do not repeat: the one for the test tells.

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
    blocks = Blocks(as_symmetric(A, shards=True), rng)
    samples: list[float] = []

    def step(target: int) -> Found:
        V = blocks.draw(range(len(samples), max(target, 2)), "rademacher")
        samples.extend(blocks.diagonal_of_inner(V, blocks.product(V)))
        return of_samples(np.array(samples), float(np.mean(np.abs(samples))))

    effort = Effort(rtol=rtol, confidence=confidence, max_products=max_products)
    return reach(blocks, step, products, effort)


def hutchpp(A: Any, /, *, products: int | None = None, rng: Seed = None, **effort: Unpack[Effort]) -> Estimate:
    """Estimate tr A by Hutch++: exactly on a random subspace of large eigenvalues, by signs on the rest.

    A third of the products each goes to the sketch, to its basis and to the rest. The interval is Student's over the
    probes of the rest.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    products : int, optional
        Columns to multiply, at least 6, and one more for the test. By default doubled until `rtol`.
    rng : int, numpy.random.Generator or None
        Seed.
    **effort
        `rtol`, `confidence` and `max_products` as for `slq.hutchinson`.

    Returns
    -------
    Estimate
        Its claim is "estimate".

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.
    RunError
        If a product has the wrong shape or is not finite, or writes into its argument.

    Warns
    -----
    SlqWarning
        If the operator is measurably asymmetric or nonlinear, or products do not repeat: the one for the test tells.

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
    blocks = Blocks(as_symmetric(A, shards=True), rng)
    # Spheres for the sketch and signs for the rest: two kinds of probes have disjoint streams.
    sketch, rest = Sketch(blocks, "sphere"), _Rest(blocks)

    def step(target: int) -> Found:
        share = max(target // 3, 2)
        sketch.grow(share - sketch.probes)
        rest.grow(target - 2 * share - rest.probes)
        size = float(np.abs(np.linalg.eigvalsh(sketch.H)).sum())
        return of_samples(np.trace(sketch.H) + rest.samples(sketch), size)

    return reach(blocks, step, products, effort, least=6)


def xtrace(A: Any, /, *, products: int | None = None, rng: Seed = None, **effort: Unpack[Effort]) -> Estimate:
    """Estimate tr A by XTrace: every probe serves the subspace of the others and samples what that leaves.

    Half of the products makes the sketch, half its basis. Any symmetric A; for positive semidefinite ones `xnystrace`
    is better by half the products. The interval is the jackknife's: of what is estimated without a part of the probes,
    each in turn.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    products : int, optional
        Columns to multiply, at least 4, and one more for the test. By default doubled until `rtol`.
    rng : int, numpy.random.Generator or None
        Seed.
    **effort
        `rtol`, `confidence` and `max_products` as for `slq.hutchinson`.

    Returns
    -------
    Estimate
        Its claim is "estimate".

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.
    RunError
        If a product has the wrong shape or is not finite, or writes into its argument.

    Warns
    -----
    SlqWarning
        If the operator is measurably asymmetric or nonlinear, or products do not repeat: the one for the test tells.

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
    blocks = Blocks(as_symmetric(A, shards=True), rng)
    sketch = Sketch(blocks, "sphere")

    def step(target: int) -> Found:
        sketch.grow(max(target // 2, 2) - sketch.probes)
        return xtrace_of(sketch.H, sketch.R, sketch.W, blocks.operator.n)

    return reach(blocks, step, products, effort, least=4)


def xnystrace(A: Any, /, *, products: int | None = None, rng: Seed = None, **effort: Unpack[Effort]) -> Estimate:
    """Estimate tr A of a positive semidefinite A by XNysTrace: Nyström's approximation, each probe left out in turn.

    All products make the sketch. The interval is the jackknife's, as for `xtrace`.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes, positive semidefinite.
    products : int, optional
        Columns to multiply, at least 2, and one more for the test. By default doubled until `rtol`.
    rng : int, numpy.random.Generator or None
        Seed.
    **effort
        `rtol`, `confidence` and `max_products` as for `slq.hutchinson`.

    Returns
    -------
    Estimate
        Its claim is "estimate".

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, or A certainly has a negative eigenvalue.
    RunError
        If a product has the wrong shape or is not finite, or writes into its argument.

    Warns
    -----
    SlqWarning
        If the operator is measurably asymmetric or nonlinear, or products do not repeat: the one for the test tells.

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
    blocks = Blocks(as_symmetric(A, shards=True), rng)
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

    return reach(blocks, step, products, effort)


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
