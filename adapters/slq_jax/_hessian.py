"""The public `hessian`: what the user says, read, checked and handed to the operator."""

from collections.abc import Callable
from typing import Any

import jax

from slq_jax._arguments import check_function, operator_of
from slq_jax._data import ABSENT
from slq_jax._operator import CurvatureOperator, Leaves
from slq_jax._parameters import Selection
from slq_jax._passes import scalar_loss


class Hessian:
    """Multiplies by the second derivative of the loss: forward mode through the gradient, linearised once."""

    kind = "hessian"

    def __init__(self, loss: Callable[..., Any]) -> None:
        self._loss = loss

    def __call__(self, batch: Any, rebuild: Callable[[Leaves], Any], leaves: Leaves) -> tuple[Any, Any, Any]:
        """Return the product, the loss and its count."""

        def scalar(x: Leaves) -> tuple[jax.Array, Any]:
            value, count = scalar_loss(self._loss(rebuild(x), *batch))
            return value, (value, count)

        _, push, (value, count) = jax.linearize(jax.grad(scalar, has_aux=True), list(leaves), has_aux=True)
        return push, value, count


def hessian(
    loss: Callable[..., Any],
    params: Any,
    data: Any = ABSENT,
    *,
    select: Selection | None = None,
    accumulate: Any = None,
    chunk: int | None = None,
    memory: float | None = None,
) -> CurvatureOperator:
    r"""Make an operator that multiplies by the Hessian of a mean loss over a pytree of parameters.

    With the loss of sample (or token) s written :math:`\ell_s`, the operator is

    .. math:: H = \frac{1}{N} \sum_{s=1}^{N} \nabla^2 \ell_s(\theta),

    over all samples of `data`, however they are cut into batches. A product of b columns passes over the data once:
    per batch one compiled call, which runs the gradient once and its derivative for each column, vmapped in chunks. It
    is compiled anew only for batches of another shape and for another b.

    Parameters
    ----------
    loss : callable
        ``loss(params, batch)``, a function that JAX can trace, returns the mean over the batch as a scalar, or a tuple
        ``(sum, count)`` so that samples or tokens weigh the same in batches of unlike size. Without `data` it is
        ``loss(params)``.
    params : pytree
        Where to take the Hessian. Leaves are arrays; sharded ones stay where they are. Floating leaves make up the
        vector, in the tree's order; everything else is handed to `loss` as it is.
    data : object, optional
        An array, tuple, mapping, dataclass or any other pytree but a list is one batch. A list is a list of batches.
        Any other iterable (a loader) is read anew, in order, by every product; what can be read only once is refused.
    select : str, iterable of these, or callable, optional
        Which leaves H acts on: names as ``"layers.0.weight"``, branches as ``"layers.0"``, globs as ``"*.weight"``,
        compiled regular expressions to be found in a name, or a function of (name, leaf) that returns bool. By default
        all floating leaves.
    accumulate : dtype, optional
        The dtype of the sum over batches, e.g. float64 for float32 parameters and thousands of batches (needs x64). By
        default that of the vectors.
    chunk : int, optional
        Columns at once. By default as many as `memory` holds, 64 at most, halved when it runs out.
    memory : float, optional
        Bytes that the columns of one product may take. By default a quarter of what is free at the first product.

    Returns
    -------
    CurvatureOperator
        With `shape`, `dtype`, `device`, `xp`, `order`, `noise`, `metadata`, `matmat`, and `to_vector` / `to_params`
        between trees and vectors. Vectors have the parameters' dtype, or float32 where that is float16 or bfloat16:
        then derivatives are taken in half precision, and sums over batches in float32.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind: a generator, tracers as parameters, a batch that is no pytree of arrays, a
        loss that returns no array.
    ValueError
        If no leaf is chosen, dtypes or devices are mixed, the data are empty, the loss is no finite scalar, batches
        cannot be weighted, two passes over a loader give different losses, or float64 is asked for while JAX is set to
        32 bits.

    Notes
    -----
    *Weights.* With a plain mean and several batches, batch i weighs by its number of samples: the first dimension that
    all its arrays share. If they share none, or the mean is over anything but samples, return ``(sum, count)``.

    *Randomness.* A key that `loss` closes over gives the same dropout at every product, and the Hessian of that
    network. Whatever `loss` draws outside of JAX is drawn once, while it is traced.

    *Tied weights* are one leaf that `loss` uses twice. Two leaves that hold the same array are two parameters.

    *Precision.* On accelerators JAX multiplies float32 matrices in fewer bits unless told otherwise; wrap the
    products in ``jax.default_matmul_precision("highest")``, or let `slq.check` measure what they are worth.

    References
    ----------
    Pearlmutter (1994), Fast exact multiplication by the Hessian, Neural Computation 6(1),
    doi:10.1162/neco.1994.6.1.147.

    Examples
    --------
    >>> import jax.numpy as jnp, slq_jax
    >>> params = {"w": jnp.array([1.0, 2.0])}
    >>> H = slq_jax.hessian(lambda p: jnp.sum(p["w"] ** 3), params)
    >>> H @ jnp.ones(2)
    Array([ 6., 12.], dtype=float32)
    """
    check_function(loss, "loss", "loss(params)" if data is ABSENT else "loss(params, batch)")
    return operator_of(Hessian(loss), params, data, select=select, accumulate=accumulate, chunk=chunk, memory=memory)
