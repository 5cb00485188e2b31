"""tr f(A) that JAX can differentiate: the value and its gradient by what A depends on, from one Krylov run."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from slq._operators._operators import as_operator
from slq._quadrature._integrands import Function, Name
from slq._traces._gradients import RunOptions, sensitivity
from slq_jax._data import ABSENT
from slq_jax._krylov import recurrence
from slq_jax._placement import placement_of

Multiply = Callable[[Any, jax.Array], jax.Array]


class TraceValue(NamedTuple):
    """tr f(A) with its interval; a pytree of three scalars.

    Attributes
    ----------
    value : Array
        The estimate, differentiable.
    low, high : Array
        The interval; constants to differentiation.
    """

    value: jax.Array
    low: jax.Array
    high: jax.Array

    def __float__(self) -> float:
        """Return the bare value."""
        return float(self.value)


def trace(
    A: Any,
    f: Function | Name = "identity",
    /,
    params: Any = ABSENT,
    *,
    n: int | None = None,
    derivative: Function | None = None,
    probes: int = 16,
    steps: int | None = None,
    rtol: float = 1e-4,
    lower: float | None = None,
    **options: Unpack[RunOptions],
) -> TraceValue:
    r"""Estimate tr f(A) with a gradient by everything that A depends on.

    The value is that of a run of `probes` probes. Its gradient is the estimate
    :math:`\frac{n}{k} \sum_i v_i^T\, dA\, f'(A) v_i` of :math:`\mathrm{tr}\, f'(A)\, dA` from the Krylov spaces of
    the same run. Costs `probes * steps` products, and a backward pass through one of `probes` columns.

    Parameters
    ----------
    A : Array or callable
        A symmetric matrix (n, n); or a function ``A(params, X)`` that multiplies (n, b) blocks, with `params` and `n`.
    f : callable or str, default "identity"
        Vectorised NumPy function of eigenvalues, or a name as for `Spectrum.trace`.
    params : pytree, optional
        What a function A depends on and is differentiated by.
    n : int, optional
        Dimension, for a function.
    derivative : callable, optional
        The derivative of an f that has no name.
    probes : int, default 16
        Rademacher probes; the first one is of the sphere.
    steps : int, optional
        Lanczos steps. By default they grow until trace and gradient are settled to `rtol`.
    rtol : float, default 1e-4
        Relative quadrature error to reach.
    lower : float, optional
        A bound below all eigenvalues that you know; tightens the interval of log and its like.
    **options
        `rng`, `reorth`, `dtype`, `batch`, `confidence` and `memory` as for `slq.spectrum`. With the same `rng` an
        optimiser sees the same probes at every call, and a smooth function.

    Returns
    -------
    TraceValue
        With `value` to be differentiated, by jax.grad or jax.vjp, and `low` and `high`.

    Raises
    ------
    TypeError
        If A is neither an array nor a function, or under jax.jit or jax.vmap: how many steps it takes is decided while
        it runs, by code on the host.
    ValueError
        If `n` or `params` is missing for a function, f is not defined on the spectrum, or `derivative` is missing.

    Notes
    -----
    *Unbiased up to quadrature*: the mean of the gradient over probes is the gradient of tr f(A) but for what the steps
    leave. It is not the derivative of the realised value, which is another estimate of the same function: the two agree
    to sampling error only. There is no forward mode (jax.jvp) and no second derivative.

    A matrix gets a symmetric gradient: the mean over both triangles.

    References
    ----------
    Dong et al. 2017, Scalable log determinants for Gaussian process kernel learning, arXiv:1711.03481.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, slq_jax
    >>> scaled = lambda scale, X: scale * X
    >>> logdet = lambda scale: slq_jax.trace(scaled, "log", scale, n=10, rng=0).value
    >>> value, slope = jax.value_and_grad(logdet)(2.0)
    >>> round(float(value), 3), round(float(slope), 3)
    (6.931, 5.0)
    """
    if isinstance(A, jax.Array):
        multiply, params, n = _symmetric, A, A.shape[0] if A.ndim else 0
    elif not callable(A):
        msg = f"`A` must be an array, or a function A(params, X) that multiplies a block, got {type(A).__name__}."
        raise TypeError(msg)
    elif n is None or params is ABSENT:
        msg = "`n` and `params` are needed with a function: the dimension, and what A depends on."
        raise ValueError(msg)
    else:
        multiply = A

    def run(theta: Any) -> tuple[TraceValue, jax.Array, jax.Array]:
        _refuse_tracers(theta)
        found = sensitivity(
            _operator(multiply, theta, n),
            f,
            derivative=derivative,
            probes=probes,
            steps=steps,
            rtol=rtol,
            lower=lower,
            **options,
        )
        dtype, estimate = found.images.dtype, found.estimate
        numbers = (jnp.asarray(x, dtype=dtype) for x in (estimate.value, estimate.low, estimate.high))
        return TraceValue(*numbers), found.probes, found.images

    @jax.custom_vjp
    def differentiable(theta: Any) -> TraceValue:
        return run(theta)[0]

    def forward(theta: Any) -> tuple[TraceValue, Any]:
        found, vectors, images = run(theta)
        return found, (theta, vectors, images)

    def backward(kept: Any, cotangent: TraceValue) -> tuple[Any]:
        theta, vectors, images = kept
        product, pull = jax.vjp(lambda x: multiply(x, images), theta)
        return pull((cotangent.value * vectors).astype(product.dtype))

    differentiable.defvjp(forward, backward)
    return differentiable(params)


def logdet(
    A: Any,
    /,
    params: Any = ABSENT,
    *,
    n: int | None = None,
    probes: int = 16,
    steps: int | None = None,
    rtol: float = 1e-4,
    lower: float | None = None,
    **options: Unpack[RunOptions],
) -> TraceValue:
    """Estimate log det A of a positive definite A, with a gradient by everything that A depends on.

    Parameters
    ----------
    A : Array or callable
        As for `trace`.
    params, n : pytree, int
        As for `trace`, for a function.
    probes, steps : int
        As for `trace`.
    rtol : float, default 1e-4
        Relative quadrature error to reach.
    lower : float, optional
        A bound below all eigenvalues that you know, such as the noise variance of a Gaussian process.
    **options
        As for `trace`.

    Returns
    -------
    TraceValue
        See `trace`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, slq_jax
    >>> gradient = jax.grad(lambda K: slq_jax.logdet(K, probes=4, rng=0).value)(4 * jnp.eye(8))
    >>> bool(jnp.allclose(jnp.trace(gradient), 2.0, rtol=1e-3))
    True
    """
    return trace(A, "log", params, n=n, probes=probes, steps=steps, rtol=rtol, lower=lower, **options)


def _symmetric(array: jax.Array, X: jax.Array) -> jax.Array:
    """Multiply so that the gradient by the matrix is symmetric."""
    exact = jax.lax.Precision.HIGHEST
    return (jnp.matmul(array, X, precision=exact) + jnp.matmul(array.T, X, precision=exact)) / 2


def _operator(multiply: Multiply, theta: Any, n: int) -> Any:
    if multiply is _symmetric:
        return as_operator(theta)
    leaves = [x for x in map(jnp.asarray, jax.tree.leaves(theta)) if jnp.issubdtype(x.dtype, jnp.floating)]
    if not leaves:
        msg = "`params` has no floating leaf to differentiate by."
        raise ValueError(msg)
    placement = placement_of([str(i) for i in range(len(leaves))], leaves, n)
    like = jnp.zeros(1, dtype=jnp.result_type(*leaves), device=placement.device)
    compiled = jax.jit(multiply)
    operator = as_operator(lambda X: compiled(theta, X), n=n, like=like, block=True)
    return replace(operator, krylov=partial(recurrence, placement))


def _refuse_tracers(theta: Any) -> None:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(theta)):
        msg = (
            "tr f(A) cannot be computed inside of jax.jit, jax.vmap, jax.jvp or a second jax.grad: how many steps it "
            "takes is decided while it runs, on the host. Call it outside, under jax.grad or jax.value_and_grad alone; "
            "products are compiled by themselves."
        )
        raise TypeError(msg)
