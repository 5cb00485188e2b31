"""Double backward: columns pulled through the graph of a gradient, one by one or all at once.

For any scalar function of the parameters; nothing is timed or chosen here. Never `jvp(jacrev(loss))`, which is
silently wrong through LayerNorm.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from slq_torch._model._errors import refuse_once_differentiable
from slq_torch._model._parameters import Parameters
from slq_torch._model._quiet import quiet

Gradients = Sequence[Tensor | None]


def gradients(value: Tensor, params: Parameters) -> Gradients:
    """Differentiate a scalar once, with the graph that `pull` goes through; None where it does not depend."""
    grads = torch.autograd.grad(value, params.tensors, create_graph=True, allow_unused=True)
    refuse_once_differentiable(grads)
    return grads


def pull(grads: Gradients, params: Parameters, rows: Tensor, *, at_once: bool = False, keep: bool = False) -> Tensor:
    """Multiply the Hessian behind `grads` with b rows, (b, n), and free the graph unless it is to be kept.

    Costs b passes through the graph, or with `at_once` one vmapped pass that holds b copies of what it computes and
    always keeps the graph, in case that it fails.
    """
    # Gradients that do not depend on the parameters have a derivative of zero.
    pairs = zip(grads, params.split(rows), strict=True)
    live = [(grad, piece) for grad, piece in pairs if grad is not None and grad.requires_grad]
    outputs, columns = [grad for grad, _ in live], [piece for _, piece in live]
    if not outputs:
        return torch.zeros_like(rows, dtype=params.dtype)
    if at_once:
        with quiet("There is a performance drop"):
            products = torch.autograd.grad(
                outputs,
                params.tensors,
                grad_outputs=columns,
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=True,
            )
        return params.join(products, (len(rows),))
    result = torch.empty(len(rows), params.size, dtype=params.dtype, device=params.device)
    for j in range(len(rows)):
        products = torch.autograd.grad(
            outputs,
            params.tensors,
            grad_outputs=[column[j] for column in columns],
            retain_graph=keep or j + 1 < len(rows),
            allow_unused=True,
        )
        params.join(products, out=result[j])
    return result
