"""The generalised Gauss-Newton matrix G = J^T H_z J, with H_z the Hessian of the loss by the model's outputs z."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._curvature._arguments import Mode, network
from slq_torch._curvature._jacobian import Factors, Sandwich, Tensors
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._engine._cut import Cut, cut, outputs_at
from slq_torch._engine._engine import Products
from slq_torch._engine._strategies import Choice
from slq_torch._model._parameters import Parameters, Selection
from slq_torch._model._passes import Call, Loss


class GaussNewton:
    """Makes the factors J and H_z of a batch."""

    kind = "ggn"
    facts: dict[str, Any] = {}  # noqa: RUF012 - nothing to tell, never written to

    def __call__(self, call: Call, params: Parameters) -> Factors:
        """Run the model once, and the loss on its detached outputs."""
        return factors_of(cut(call, params), call, params)


def factors_of(
    found: Cut, call: Call, params: Parameters, middle: Callable[[Tensors], Tensors] | None = None
) -> Factors:
    """Return the factors by the outputs of a loss that was cut; the middle is H_z if not given."""

    def at(values: Tensors) -> list[Tensor]:
        outputs = outputs_at(call, params, values)
        return [outputs[i] for i in found.positions]

    return Factors(found.outputs, middle or found.bend, at)


def ggn(
    model: Module,
    loss: Loss,
    data: Any,
    *,
    params: Selection | None = None,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
    strategy: Choice = "auto",
    chunk: int | None = None,
    memory: float | None = None,
    microbatch: int | None = None,
) -> CurvatureOperator:
    r"""Make an operator that multiplies by the generalised Gauss-Newton matrix of a mean loss.

    With the model's outputs z and their Jacobian J by the parameters,

    .. math:: G = \frac{1}{N} \sum_{s=1}^{N} J_s^T \, \nabla_z^2 \ell_s \, J_s, \qquad H = G + R,

    over all samples, weighted as in `hessian`. It is positive semi-definite where the loss is
    convex in z, and equals the Hessian where z is linear in the parameters; `split` gives G and
    the rest R together. A product of b columns costs about 1.3 b gradients where the graphs of the
    batches are kept between products, as for `hessian`, one gradient more where they are not, and
    the memory of these graphs (up to b times one of them, if vmapped): J v comes from the graph of
    :math:`J^T u`, built once per batch, or from dual numbers, whichever was faster and agreed.

    Parameters
    ----------
    model : Module
        The network; its outputs are what ``model(...)`` returns: a tensor or nested tuples, lists,
        mappings (as of Hugging Face models) and dataclasses of tensors.
    loss : callable
        ``loss(model, batch)`` as for `hessian`: a mean, or ``(sum, count)``. It may call the model
        several times. It must depend on the parameters through these outputs only.
    data : object
        One batch, a list of batches or a DataLoader, as for `hessian`.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters G acts on, as for `hessian`. By default all that require grad.
    mode : {"as-is", "eval", "train"}, default "as-is"
        The mode in which the model is run: as it is found, or as after ``model.eval()`` or
        ``model.train()``. Every product puts the flags back as they were.
    accumulate : torch.dtype, optional
        The dtype of the sum over batches. By default that of the vectors.
    strategy : {"auto", "graph", "graph-vmap", "forward", "forward-over-reverse", "linearize"}, default "auto"
        How J v is computed. "graph": from the graph of :math:`J^T u`, one column after the other. "graph-vmap": the
        same for all at once. "forward": dual numbers, one column after the other. "forward-over-reverse": the same
        for all at once. "linearize": traced once per batch and replayed, one column after the other. "auto" chooses
        as `hessian` does.
    chunk, memory, microbatch : int, float, int, optional
        As for `hessian`.

    Returns
    -------
    CurvatureOperator
        As `hessian` returns it.

    Raises
    ------
    TypeError
        As `hessian`.
    ValueError
        As `hessian`; and if the loss depends on parameters in other ways than through
        ``model(...)`` (weight decay in the loss, a submodule called by itself), does not call the
        model, feeds one of its outputs to another call of it, or passes on a loss that the model
        computed itself.
    NotImplementedError
        If neither way can differentiate an operation; the message names it. Fused attention is no
        such case: it is exchanged for the math kernel during products.

    Notes
    -----
    *The cut.* While the loss runs, a forward hook gives it detached copies of the outputs. Where
    the model ends matters: with the logits as outputs and cross-entropy as the loss, G is the
    Fisher information matrix of the model's own predictions; with a softmax as the last layer it
    is another matrix.

    *Weight decay* belongs into the operator: :math:`\tfrac{c}{2}|\theta|^2` is ``ggn(...) + c``.

    *BatchNorm* in train mode: J contains how a sample changes the others through the statistics.

    References
    ----------
    Schraudolph (2002), Fast curvature matrix-vector products for second-order gradient descent,
    Neural Computation 14(7), doi:10.1162/08997660260028683. Martens (2020), New insights and
    perspectives on the natural gradient method, arXiv:1412.1193.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
    >>> x, y = torch.eye(3, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64)
    >>> def loss(model, batch):
    ...     return torch.nn.functional.mse_loss(model(batch[0]), batch[1])
    >>> G = slq_torch.ggn(model, loss, (x, y))
    >>> G.matmat(torch.ones(3, 1, dtype=torch.float64)).T
    tensor([[0.6667, 0.6667, 0.6667]], dtype=torch.float64)
    """
    chosen, passes = network(model, loss, data, params=params, mode=mode)
    products = Products(Sandwich(GaussNewton()), strategy, chunk=chunk, memory=memory, microbatch=microbatch)
    return CurvatureOperator(products, chosen, passes, accumulate)
