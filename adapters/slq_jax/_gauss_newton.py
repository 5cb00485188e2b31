"""The generalised Gauss-Newton matrix G = J^T H_z J, with H_z the Hessian of the loss by the model's outputs z."""

from collections.abc import Callable
from typing import Any

import jax

from slq_jax._arguments import check_function, operator_of
from slq_jax._operator import CurvatureOperator, Leaves
from slq_jax._parameters import Selection
from slq_jax._passes import scalar_loss


class GaussNewton:
    """Multiplies by J^T H_z J: forward mode through the model, H_z between, and the transpose of the first."""

    kind = "ggn"

    def __init__(self, model: Callable[[Any, Any], Any], loss: Callable[[Any, Any], Any]) -> None:
        self._model, self._loss = model, loss

    def __call__(self, batch: Any, rebuild: Callable[[Leaves], Any], leaves: Leaves) -> tuple[Any, Any, Any]:
        """Return the product, the loss and its count."""
        start = list(leaves)

        def scalar(z: Any) -> tuple[jax.Array, Any]:
            value, count = scalar_loss(self._loss(z, *batch))
            return value, (value, count)

        outputs, push = jax.linearize(lambda x: self._model(rebuild(x), *batch), start)
        _, bend, (value, count) = jax.linearize(jax.grad(scalar, has_aux=True), outputs, has_aux=True)
        pull = jax.linear_transpose(push, start)
        return lambda pieces: pull(bend(push(pieces)))[0], value, count


def ggn(
    model: Callable[[Any, Any], Any],
    loss: Callable[[Any, Any], Any],
    params: Any,
    data: Any,
    *,
    select: Selection | None = None,
    accumulate: Any = None,
    chunk: int | None = None,
    memory: float | None = None,
) -> CurvatureOperator:
    r"""Make an operator that multiplies by the generalised Gauss-Newton matrix of a mean loss.

    With the model's outputs z and their Jacobian J by the parameters,

    .. math:: G = \frac{1}{N} \sum_{s=1}^{N} J_s^T \, \nabla_z^2 \ell_s \, J_s, \qquad H = G + R,

    over all samples, weighted as in `hessian`. It is positive semi-definite where the loss is convex in z, and equals
    the Hessian where z is linear in the parameters. A product costs one linearisation of the model per batch, and a
    forward and a backward pass through it per column.

    Parameters
    ----------
    model : callable
        ``model(params, batch)`` returns the outputs z, any pytree of floating arrays. The whole batch is handed to
        both functions; the model takes what it needs of it.
    loss : callable
        ``loss(outputs, batch)`` returns the mean over the batch as a scalar, or ``(sum, count)``. What it uses of the
        parameters other than through the outputs (weight decay) is not seen: add it to the operator, ``ggn(...) + c``.
    params, data : object
        As for `hessian`.
    select : str, iterable of these, or callable, optional
        Which leaves G acts on, as for `hessian`.
    accumulate : dtype, optional
        The dtype of the sum over batches, as for `hessian`.
    chunk : int, optional
        Columns at once, as for `hessian`.
    memory : float, optional
        Bytes for columns, as for `hessian`.

    Returns
    -------
    CurvatureOperator
        As `hessian` returns it.

    Raises
    ------
    TypeError, ValueError
        As `hessian`.
    NotImplementedError
        If `model` or `loss` holds a function that cannot be differentiated forward (jax.custom_vjp).

    Notes
    -----
    Where the model ends matters: with the logits as outputs and cross-entropy as the loss, G is the Fisher information
    matrix of the model's own predictions; with a softmax as the last layer it is another matrix. In `slq_torch` the
    model is a Module and the cut is found by running the loss; functions have no such seam, so here they are two.

    References
    ----------
    Schraudolph (2002), Fast curvature matrix-vector products for second-order gradient descent, Neural Computation
    14(7), doi:10.1162/08997660260028683.

    Examples
    --------
    >>> import jax.numpy as jnp, slq_jax
    >>> model = lambda params, batch: batch[0] @ params
    >>> loss = lambda outputs, batch: jnp.mean((outputs - batch[1]) ** 2)
    >>> G = slq_jax.ggn(model, loss, jnp.zeros(3), (2 * jnp.eye(3), jnp.zeros(3)))
    >>> G @ jnp.ones(3)
    Array([2.6666667, 2.6666667, 2.6666667], dtype=float32)
    """
    check_function(model, "model", "model(params, batch)")
    check_function(loss, "loss", "loss(outputs, batch)")
    return operator_of(
        GaussNewton(model, loss), params, data, select=select, accumulate=accumulate, chunk=chunk, memory=memory
    )
