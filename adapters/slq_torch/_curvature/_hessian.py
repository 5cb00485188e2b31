"""The public `hessian`: what the user says, read, checked and handed to the operator."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._curvature._arguments import ABSENT, Mode, check_mode, is_loss, network, refuse_dropout
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._engine._engine import Products
from slq_torch._engine._strategies import Choice
from slq_torch._engine._ways import SecondDerivatives
from slq_torch._model._parameters import Parameters, Selection, from_tensors
from slq_torch._model._passes import Loss, Passes

Closure = Callable[[], Tensor]
Tensors = Tensor | Iterable[Tensor] | Mapping[str, Tensor]


@overload
def hessian(
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
) -> CurvatureOperator: ...
@overload
def hessian(
    model: Closure,
    loss: Tensors,
    /,
    *,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
    strategy: Choice = "auto",
    chunk: int | None = None,
    memory: float | None = None,
) -> CurvatureOperator: ...
@overload
def hessian(
    model: Closure,
    /,
    *,
    params: Tensors,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
    strategy: Choice = "auto",
    chunk: int | None = None,
    memory: float | None = None,
) -> CurvatureOperator: ...
def hessian(
    model: Any,
    loss: Any = None,
    data: Any = ABSENT,
    *,
    params: Any = None,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
    strategy: Choice = "auto",
    chunk: int | None = None,
    memory: float | None = None,
    microbatch: int | None = None,
) -> CurvatureOperator:
    r"""Make an operator that multiplies by the Hessian of a mean loss.

    Two forms: ``hessian(model, loss, data)`` for a network and a data set, and
    ``hessian(closure, params)`` for any scalar function of tensors. With the loss of sample (or
    token) s written :math:`\ell_s`, the operator is

    .. math:: H = \frac{1}{N} \sum_{s=1}^{N} \nabla^2 \ell_s(\theta),

    over all samples of `data`, however they are cut into batches. A product of b columns passes
    over the data once. By double backward it costs one forward pass and one backward pass that
    keeps its graph, and then about 1.4 to 2.5 gradients per column; the graphs of fixed batches are
    kept between products while `memory` allows, so that only the columns are paid for. It takes the
    memory of the graphs of both passes over one batch, or of all batches that are kept (up to b times
    that, where columns are vmapped), besides three blocks of n x b numbers;
    `CurvatureOperator.product_bytes` measures it.

    Parameters
    ----------
    model : Module or callable
        The network; it is never moved, and is run in the mode that `mode` says. In the second form
        the closure: no arguments, returns a scalar tensor.
    loss : callable or tensors
        ``loss(model, batch)`` returns the mean over the batch as a 0-d tensor, or a tuple
        ``(sum, count)`` so that samples or tokens weigh the same in batches of unlike size. A
        model that returns its own loss is used as ``lambda model, batch: model(**batch).loss``.
        In the second form the tensors to differentiate by: one, an iterable or a mapping.
    data : object
        A tensor, tuple, mapping, dataclass or object with ``.keys()`` is one batch. A list is a
        list of batches. Any other iterable (a DataLoader) is read anew, in order, by every
        product; what can be read only once is refused. Batches are given to `loss` as they are.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters H acts on: names, globs such as ``"layers.*.weight"`` and compiled
        regular expressions to be found in a name (both over trainable parameters), parameter
        tensors, submodules, or a function of (name, parameter) that returns bool. The vector
        keeps the model's order. Frozen parameters are differentiated if chosen in any way but by
        a pattern, and frozen again after every product. By default all that require grad.
    mode : {"as-is", "eval", "train"}, default "as-is"
        The mode in which a Module is run: as it is found, or as after ``model.eval()`` or
        ``model.train()``. Every product puts the flags back as they were.
    accumulate : torch.dtype, optional
        The dtype of the sum over batches, e.g. ``torch.float64`` for float32 parameters and
        thousands of batches. Vectors keep the operator's dtype. By default that dtype.
    strategy : str, default "auto"
        How columns are multiplied. "graph": double backward, one column after the other. "fused": the
        same with our own formulas for convolutions, batch norm in eval mode and GELU, SiLU and softplus.
        "graph-vmap": double backward for all at once. "forward-over-reverse": forward mode through the
        gradient, vmapped. "linearize": forward mode, traced once per batch and replayed for one column
        after the other. "compile": "forward-over-reverse" through ``torch.compile``: minutes before
        the first product, for each number of columns and
        each shape of batches (see Notes). "finite-difference": central differences of two gradients,
        for kernels without second derivative. "auto" times the first four on the first batch at
        each new number of columns, "linearize" too once products have cost more than the trace will,
        and keeps the fastest that agrees with the double backward to rounding;
        `CurvatureOperator.engine` tells. What is asked for by name is held against the double
        backward on one column of the first batch, and refused if it differs by more than sqrt(eps);
        what it differs by beyond rounding is its `noise`.
    chunk : int, optional
        Columns at once where they are vmapped. By default as many as `memory` holds, halved when it
        runs out; where a single one is too many, batches are cut as by `microbatch`.
    memory : float, optional
        Bytes for graphs. By default a quarter of what is free at the first product; 0 keeps nothing
        between products.
    microbatch : int, optional
        Cut batches into pieces of at most so many samples, weighted exactly, where the graph of a
        whole batch does not fit. By default whole batches, halved as often as memory runs out.

    Returns
    -------
    CurvatureOperator
        With `shape`, `dtype`, `device`, `xp`, `order`, `noise`, `metadata`, `matmat`, and
        `to_vector` / `to_params` between parameter-shaped tensors and vectors. Vectors have the
        parameters' dtype, or float32 where that is float16 or bfloat16.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind: a loss that takes (output, target), a Dataset, a
        generator, a loss that returns no tensor.
    ValueError
        If no parameter is chosen, dtypes or devices are mixed, dropout is active, the data are
        empty, the loss is not a finite scalar that depends on the parameters, batches cannot be
        weighted, or two passes over the data give different losses.
    NotImplementedError
        If an operation has no second derivative; the message names it. Fused attention is no such
        case: it is exchanged for the math kernel during products.
    OutOfMemoryError
        Torch's own, if one column of one sample does not fit, or a batch cannot be cut: BatchNorm in
        train mode, no common first dimension.

    Notes
    -----
    *Weights.* With a plain mean and several batches, batch i weighs by its number of samples: the
    first dimension that all its tensors share, looked for in tuples, lists, mappings and
    dataclasses. If they share none, or the mean is over anything but samples (tokens without
    padding, nodes, boxes), return ``(sum, count)``.

    *Passes that agree.* The losses of the first product are kept and compared at every later one;
    global random generators start from another seed each time, so that hidden randomness shows.

    *Kept graphs* are used only while parameters, buffers, training flags and batches are what they
    were, compared at every product. What else `loss` may read is looked for at every sixteenth
    product, which evaluates the loss again: what changes is refused then, not at once.

    *Compiled products* never paid on the CPU: on four networks they took 29 to 125 s to start and
    then 1.0 to 2.8 times the double backward's time, so "auto" does not try them.

    *BatchNorm* in train mode couples the samples of a batch. That Hessian is well defined for
    fixed batches and is allowed; the running statistics are put back after each product.

    *Put back* after each product, also after an exception: training flags, buffers, ``.grad``,
    ``requires_grad``, and the random states of Python, NumPy, torch on the CPU and on the
    parameters' device. A closure that is no Module has its tensors and the random states restored.

    *Not noticed*: a custom autograd.Function whose backward detaches from the graph has second
    derivatives that are silently zero in torch; compare with differences of the gradient.

    References
    ----------
    Pearlmutter (1994), Fast exact multiplication by the Hessian, Neural Computation 6(1),
    doi:10.1162/neco.1994.6.1.147. Here its product is computed by differentiating the gradient
    graph in reverse, not by the forward operator R of the paper.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
    >>> x, y = torch.eye(3, dtype=torch.float64), torch.zeros(3, 1, dtype=torch.float64)
    >>> def loss(model, batch):
    ...     return torch.nn.functional.mse_loss(model(batch[0]), batch[1])
    >>> H = slq_torch.hessian(model, loss, (x, y))
    >>> H.matmat(torch.ones(3, 1, dtype=torch.float64)).T
    tensor([[0.6667, 0.6667, 0.6667]], dtype=torch.float64)

    A closure over any tensors:

    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> H = slq_torch.hessian(lambda: (w**3).sum(), [w])
    >>> H @ torch.ones(2)
    tensor([ 6., 12.])
    """
    if data is ABSENT and not is_loss(loss):
        check_mode(mode)
        chosen = _closure_parameters(model, loss, params)
        module = model if isinstance(model, Module) else None
        if module is None and mode != "as-is":
            msg = f'`mode` is {mode!r}, but the closure is no Module to be switched. Leave it out, or "as-is".'
            raise ValueError(msg)
        passes = Passes(lambda _model, _batch: model(), module, (), chosen.tensors, mode)
        refuse_dropout(passes)
    else:
        chosen, passes = network(model, loss, data, params=params, mode=mode, closure="hessian(closure, params)")
    products = Products(SecondDerivatives(), strategy, chunk=chunk, memory=memory, microbatch=microbatch)
    return CurvatureOperator(products, chosen, passes, accumulate)


def _closure_parameters(closure: Any, tensors: Any, params: Any) -> Parameters:
    if (tensors is None) == (params is None):
        msg = (
            "hessian() takes (model, loss, data) or (closure, params); give `data`, or give the "
            "tensors that the closure depends on once."
        )
        raise TypeError(msg)
    if not callable(closure):
        msg = f"The closure must be a function without arguments, got {type(closure).__name__}."
        raise TypeError(msg)
    return from_tensors(params if tensors is None else tensors)
