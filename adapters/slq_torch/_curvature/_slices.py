"""The loss along straight lines and planes through the parameters, such as those of the top eigenvectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._curvature._arguments import Mode, network
from slq_torch._curvature._evaluation import mean_loss
from slq_torch._model._parameters import Selection
from slq_torch._model._passes import Loss

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slice:
    """The loss on a line or a plane.

    Attributes
    ----------
    at : ndarray, shape (points,)
        Distances from the parameters along each direction, in the norm of the parameters.
    loss : ndarray, shape (points,) or (points, points)
        The mean loss there; first index along the first direction.
    """

    at: Floats
    loss: Floats


def loss_slice(
    model: Module,
    loss: Loss,
    data: Any,
    directions: Tensor | Sequence[Tensor],
    *,
    radius: float = 1.0,
    points: int = 21,
    params: Selection | None = None,
    mode: Mode = "as-is",
) -> Slice:
    r"""Evaluate the loss along one direction, or over the plane of two, around the parameters as they are.

    .. math:: \ell(a) = L(\theta + a u), \qquad \ell(a, b) = L(\theta + a u + b v),

    with directions scaled to length one. Costs a forward pass over the data per point.

    Parameters
    ----------
    model : Module
        The network.
    loss : callable
        ``loss(model, batch)``, as for `hessian`.
    data : object
        One batch, a list of batches or a DataLoader.
    directions : Tensor, shape (n,) or (n, 1) or (n, 2), or sequence of one or two of shape (n,)
        For example columns of `slq.eigsh(...).vectors`, or random ones.
    radius : float, default 1.0
        Distances go from minus to plus this.
    points : int, default 21
        Per direction; an odd number has the parameters themselves in the middle.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters are moved, as for `hessian`. By default all that require grad.
    mode : {"as-is", "eval", "train"}, default "as-is"
        The mode in which the model is run.

    Returns
    -------
    Slice
        Distances and losses; infinite or NaN losses stay what they are.

    Raises
    ------
    ValueError
        If there are no or more than two directions, one is zero or of another length than n, `radius` is not
        positive, or `points` is below 2.

    Notes
    -----
    Parameters are changed during the call and put back bit for bit afterwards, also after an exception.

    References
    ----------
    Goodfellow, Vinyals & Saxe 2015, arXiv:1412.6544, for lines; Li et al. 2018, arXiv:1712.09913, for planes. Here
    directions are not rescaled filter by filter: along an eigenvector the second derivative is its eigenvalue.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    >>> _ = torch.nn.init.zeros_(model.weight)
    >>> def loss(model, batch):
    ...     return model(batch).square().mean()
    >>> u = torch.tensor([1.0, 0.0], dtype=torch.float64)
    >>> slq_torch.loss_slice(model, loss, torch.eye(2, dtype=torch.float64), u, points=3).loss
    array([0.5, 0. , 0.5])
    """
    chosen, passes = network(model, loss, data, params=params, mode=mode)
    lines = _checked(directions, chosen.size)
    if not radius > 0 or points < 2:
        msg = f"`radius` must be positive and `points` at least 2, got {radius} and {points}."
        raise ValueError(msg)
    at = np.linspace(-radius, radius, points)
    moves = [chosen.split(line.to(chosen.device, chosen.vector_dtype)[None]) for line in lines]
    saved = [tensor.detach().clone() for tensor in chosen.tensors]
    found = np.empty((points,) * len(lines))
    try:
        for index in np.ndindex(found.shape):
            for k, (tensor, origin) in enumerate(zip(chosen.tensors, saved, strict=True)):
                tensor.data.copy_(origin)  # .data: graphs that others hold stay valid, as all is put back
                for i, move in zip(index, moves, strict=True):
                    tensor.data.add_(move[k][0], alpha=float(at[i]))
            found[index] = mean_loss(passes)
    finally:
        for tensor, origin in zip(chosen.tensors, saved, strict=True):
            tensor.data.copy_(origin)
    return Slice(at, found)


def _checked(directions: Any, n: int) -> list[Tensor]:
    """Return one or two directions of length one."""
    if isinstance(directions, Tensor):
        directions = list(directions.T) if directions.ndim == 2 else [directions]
    lines = list(directions)
    if len(lines) not in (1, 2):
        msg = f"`directions` must be one or two, got {len(lines)}. Of a block (n, k) take two columns."
        raise ValueError(msg)
    for line in lines:
        norm = float(torch.linalg.vector_norm(line)) if tuple(line.shape) == (n,) else 0.0
        if not 0 < norm < float("inf"):
            msg = f"`directions` must have length {n} and be neither zero nor infinite, got shape {tuple(line.shape)}."
            raise ValueError(msg)
    return [line.detach() / torch.linalg.vector_norm(line) for line in lines]
