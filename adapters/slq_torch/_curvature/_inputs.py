"""The Hessian of a loss by its inputs: how the loss bends around the data, with the parameters held fixed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.nn import Module

from slq_torch._curvature._arguments import Mode, check_mode, check_network, refuse_dropout
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._engine._engine import Products
from slq_torch._engine._pull import Gradients, gradients
from slq_torch._engine._strategies import Choice, Strategy
from slq_torch._engine._ways import at_once, one_by_one
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call, Loss, Passes

Inputs = Tensor | Iterable[Tensor] | Mapping[str, Tensor]


def input_hessian(
    model: Module,
    loss: Loss,
    batch: Any,
    *,
    select: Callable[[Any], Inputs] | None = None,
    mode: Mode = "as-is",
    strategy: Choice = "auto",
    chunk: int | None = None,
    memory: float | None = None,
) -> CurvatureOperator:
    r"""Make an operator that multiplies by the Hessian of a loss with respect to the inputs of one batch.

    For the mean loss over N samples that do not interact, the matrix is block-diagonal,

    .. math:: H = \frac{1}{N} \operatorname{diag}(\nabla_x^2 \ell_1, \dots, \nabla_x^2 \ell_N),

    so its spectrum is that of all samples' own Hessians together, divided by N. Where the loss couples samples (batch
    statistics, contrastive losses) the blocks between them are there too. A product of b columns costs one gradient by
    the inputs and b second backward passes.

    Parameters
    ----------
    model : Module
        As for `hessian`; its parameters are constants here, frozen or not.
    loss : callable
        ``loss(model, batch)`` as for `hessian`: a mean, or ``(sum, count)``. With ``(sum, 1)`` every sample has its own
        Hessian, not divided by N.
    batch : object
        One batch. For a single sample, a batch of one.
    select : callable, optional
        Takes the batch and returns the tensor, or several in a list or mapping, to differentiate by: the very tensors
        that the loss reads, not copies or views. By default a batch that is a tensor itself, and the first entry of a
        tuple or list.
    mode : {"as-is", "eval", "train"}, default "as-is"
        As for `hessian`.
    strategy : {"auto", "graph", "graph-vmap"}, default "auto"
        How columns are multiplied: one after the other through a graph that is built once per batch, or all at once.
        "auto" chooses as `hessian` does.
    chunk, memory : int, float, optional
        As for `hessian`.

    Returns
    -------
    CurvatureOperator
        Of dimension n = the number of entries selected; `to_params` cuts vectors into the inputs' shapes. The tensors'
        `requires_grad` and `.grad` are as before after each product.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or it is not clear which part of the batch to differentiate by.
    ValueError
        If the inputs are integers, or the loss does not depend on what was selected.

    Notes
    -----
    Token numbers have no derivative. Differentiate by their embeddings instead: compute them once, put them into the
    batch, and let `loss` run the model from there, as ``model(inputs_embeds=...)`` does in many language models.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.ones(1, 2, dtype=torch.float64)
    >>> H = slq_torch.input_hessian(model, lambda model, x: model(x).square().sum() / 2, x)
    >>> w = model.weight.detach()
    >>> torch.allclose(H @ w[0], w[0] * w.square().sum())
    True
    """
    check_mode(mode)
    check_network(model, loss, batch)
    chosen = _inputs(batch, select)
    passes = Passes(loss, model, [batch], chosen.tensors, mode)
    refuse_dropout(passes)
    products = Products(_ByInputs(), strategy, chunk=chunk, memory=memory)
    return CurvatureOperator(products, chosen, passes, None)


class _ByInputs:
    """Columns pulled through the graph of the gradient by the inputs."""

    kind = "input hessian"
    parts = 1
    facts: dict[str, Any] = {}  # noqa: RUF012 - nothing to tell, never written to

    def ways(self) -> tuple[Strategy, ...]:
        """Double backward, one column after the other or all at once."""
        return (
            Strategy("graph", _graph, one_by_one, held=True),
            Strategy("graph-vmap", _graph, at_once, held=True, vmapped=True),
        )


def _graph(call: Call, params: Parameters) -> Gradients:
    grads = gradients(call.value(), params)
    unused = [name for name, gradient in zip(params.names, grads, strict=True) if gradient is None]
    if unused:
        msg = (
            f"`loss` does not depend on the selected tensor {', '.join(unused)}. `select` must return the very "
            "tensors that the loss takes out of the batch, not copies, slices or converted ones."
        )
        raise ValueError(msg)
    return grads


def _inputs(batch: Any, select: Callable[[Any], Inputs] | None) -> Parameters:
    """Return the tensors to differentiate by, as if they were parameters."""
    found: Any = _first(batch) if select is None else select(batch)
    if isinstance(found, Tensor):
        pairs = [("input", found)]
    elif isinstance(found, Mapping):
        pairs = [(str(name), tensor) for name, tensor in found.items()]
    elif isinstance(found, Iterable):
        pairs = [(str(i), tensor) for i, tensor in enumerate(found)]
    else:
        pairs = [("it", found)]
    for name, tensor in pairs:
        _check_input(name, tensor)
    return Parameters(tuple(name for name, _ in pairs), tuple(tensor for _, tensor in pairs), named=len(pairs) > 1)


def _first(batch: Any) -> Any:
    if isinstance(batch, Tensor):
        return batch
    if isinstance(batch, tuple | list) and batch:
        return batch[0]
    keys = f" with the keys {list(batch.keys())}" if hasattr(batch, "keys") and callable(batch.keys) else ""
    msg = (
        f"`select` is missing: it is not clear which part of a {type(batch).__name__}{keys} to differentiate by. Give "
        'a function such as select=lambda batch: batch["pixel_values"].'
    )
    raise TypeError(msg)


def _check_input(name: str, tensor: Any) -> None:
    if not isinstance(tensor, Tensor):
        msg = f"`select` must return a tensor or several, got {type(tensor).__name__} as {name}."
        raise TypeError(msg)
    if not tensor.is_floating_point():
        msg = (
            f"`select` returned {tensor.dtype} of shape {tuple(tensor.shape)}: integers, such as token numbers, have "
            "no derivative. Compute their embeddings once, e = embedding(tokens).detach(), put `e` into the batch, let "
            "`loss` run the model from it (model(inputs_embeds=e) in many language models), and select it."
        )
        raise ValueError(msg)
