"""tr f(A) that can be back-propagated: the value and its gradient by what A depends on, from one Krylov run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack, final

import torch
from torch import Tensor
from torch.autograd import Function as AutogradFunction

from slq._estimates import Estimate
from slq._operators._operators import as_operator
from slq._quadrature._integrands import Function, Name
from slq._traces._gradients import RunOptions, sensitivity

Multiply = Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True, slots=True)
class TraceValue:
    """tr f(A): a tensor to be back-propagated, and how wrong it can be.

    Attributes
    ----------
    value : Tensor
        0-d, in the dtype and on the device of A, attached to the graph of what A depends on.
    estimate : slq.Estimate
        The same number with its interval.
    """

    value: Tensor
    estimate: Estimate

    def backward(self) -> None:
        """Back-propagate from `value`."""
        self.value.backward()  # type: ignore[no-untyped-call]

    def __float__(self) -> float:
        """Return the bare value."""
        return self.estimate.value


class _Attached(AutogradFunction):
    """A number whose gradient is that of the sum of vectors * products, and which has no second derivative."""

    @staticmethod
    def forward(ctx: Any, products: Tensor, vectors: Tensor, value: float) -> Tensor:
        ctx.save_for_backward(products, vectors)
        return products.new_tensor(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        products, vectors = ctx.saved_tensors
        slope = grad * vectors
        if torch.is_grad_enabled():  # somebody is going to differentiate this once more
            slope = _Refused.apply(slope, products)  # type: ignore[no-untyped-call]
        return slope, None, None


class _Refused(AutogradFunction):
    """Passes a gradient on; refuses to be differentiated by anything that the products depend on."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, products: Tensor) -> Tensor:
        return slope.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        msg = (
            "tr f(A) has no second derivative here: f'(A) v was held constant in the first. Take second derivatives "
            "as differences of first ones, or densely."
        )
        raise NotImplementedError(msg)


def trace(
    A: Any,
    f: Function | Name = "identity",
    /,
    *,
    n: int | None = None,
    like: Tensor | None = None,
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
    the same run. Costs `probes * steps` products without a graph, and one with a graph of `probes` columns.

    Parameters
    ----------
    A : Tensor or callable
        A symmetric matrix (n, n), or a function that multiplies an (n, b) block by A in differentiable torch
        operations on tensors that it closes over; then with `n` and `like`.
    f : callable or str, default "identity"
        Vectorised NumPy function of eigenvalues, or a name as for `Spectrum.trace`.
    n : int, optional
        Dimension, for a function.
    like : Tensor, optional
        A tensor whose dtype and device the blocks shall have, for a function.
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
        With `value` for `backward`, and `estimate` with the interval.

    Raises
    ------
    TypeError
        If A is neither a tensor nor a function.
    ValueError
        If `n` or `like` is missing for a function, f is not defined on the spectrum, or `derivative` is missing.
    NotImplementedError
        If a second derivative is taken.

    Notes
    -----
    *Unbiased up to quadrature*: the mean of the gradient over probes is the gradient of tr f(A) but for what the steps
    leave. It is not the derivative of the realised value, which is another estimate of the same function: the two agree
    to sampling error only. Second derivatives are refused.

    A matrix gets a symmetric gradient: the mean over both triangles.

    References
    ----------
    Dong et al. 2017, Scalable log determinants for Gaussian process kernel learning, arXiv:1711.03481.

    Examples
    --------
    >>> import torch, slq_torch
    >>> scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    >>> found = slq_torch.trace(scale * torch.eye(10, dtype=torch.float64), "log", rng=0)
    >>> found.backward()
    >>> round(float(found), 4), round(float(scale.grad), 4)
    (6.9315, 5.0)
    """
    operator, product = _both(A, n, like)
    with torch.no_grad():
        found = sensitivity(
            operator, f, derivative=derivative, probes=probes, steps=steps, rtol=rtol, lower=lower, **options
        )
    vectors, images = found.probes.to(operator.dtype), found.images.to(operator.dtype)
    value = _Attached.apply(product(images), vectors, found.estimate.value)  # type: ignore[no-untyped-call]
    return TraceValue(value, found.estimate)


def logdet(
    A: Any,
    /,
    *,
    n: int | None = None,
    like: Tensor | None = None,
    probes: int = 16,
    steps: int | None = None,
    rtol: float = 1e-4,
    lower: float | None = None,
    **options: Unpack[RunOptions],
) -> TraceValue:
    """Estimate log det A of a positive definite A, with a gradient by everything that A depends on.

    Parameters
    ----------
    A : Tensor or callable
        As for `trace`.
    n, like : int, Tensor
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
    >>> import torch, slq_torch
    >>> K = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)).requires_grad_()
    >>> found = slq_torch.logdet(K, rng=0)
    >>> found.backward()
    >>> torch.allclose(K.grad.diagonal(), torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64), rtol=1.0)
    True
    """
    return trace(A, "log", n=n, like=like, probes=probes, steps=steps, rtol=rtol, lower=lower, **options)


def _both(A: Any, n: int | None, like: Tensor | None) -> tuple[Any, Multiply]:
    """Return A as an operator without a graph, and its product with one."""
    if isinstance(A, Tensor):
        return as_operator(A.detach()), lambda X: (A @ X + A.mT @ X) / 2
    if not callable(A):
        msg = f"`A` must be a tensor, or a function that multiplies a block, got {type(A).__name__}."
        raise TypeError(msg)
    if n is None or like is None:
        msg = "`n` and `like` are needed with a function: the dimension, and a tensor of the dtype and device of A."
        raise ValueError(msg)
    return as_operator(A, n=n, like=like.detach(), block=True), A
