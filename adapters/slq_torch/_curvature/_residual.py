"""The Hessian in two: H = G + R, with the Gauss-Newton matrix G and the rest R that the model's own curvature makes."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._curvature._arguments import Mode, network
from slq_torch._curvature._gauss_newton import GaussNewton
from slq_torch._curvature._jacobian import Sandwich, Tensors, Transposed, pull
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._engine._cut import Cut, cut
from slq_torch._engine._engine import Products
from slq_torch._engine._strategies import KNOWN, Choice, Recipe, Strategy
from slq_torch._engine._ways import SecondDerivatives
from slq_torch._model._parameters import Parameters, Selection
from slq_torch._model._passes import Call, Loss
from slq_torch._model._quiet import quiet

Part = Literal["residual", "ggn and residual"]


class Bent:
    """R X of a batch, or G X beside R X: derivatives of the graph of J^T u at u = dl/dz.

    By the parameters that graph has the derivative R, since u is held; by u it has J^T. So one column
    through it gives R v and J v at once.
    """

    facts: dict[str, Any] = {}  # noqa: RUF012 - nothing to tell, never written to

    def __init__(self, kind: Part) -> None:
        self.kind: str = kind
        self.parts = 1 if kind == "residual" else 2

    def ways(self) -> tuple[Strategy, ...]:
        """Columns through the graph, one by one or all at once."""
        return (
            Strategy("graph", _graph, self._each, held=True),
            Strategy("graph-vmap", _graph, self._all, held=True, vmapped=True),
        )

    def _each(self, prepared: tuple[Cut, Transposed], params: Parameters, rows: Tensor, keep: bool) -> Tensor:
        columns = params.split(rows)
        result = torch.empty(len(rows), self.parts * params.size, dtype=params.dtype, device=params.device)
        for j in range(len(rows)):
            torch.cat(self._column(prepared, params, columns, j), out=result[j])
        return result

    def _all(self, prepared: tuple[Cut, Transposed], params: Parameters, rows: Tensor, keep: bool) -> Tensor:
        with quiet(KNOWN):
            return torch.cat(self._column(prepared, params, params.split(rows), None), dim=1)

    def _column(
        self, prepared: tuple[Cut, Transposed], params: Parameters, columns: Tensors, j: int | None
    ) -> list[Tensor]:
        """Return R v, or G v and R v, for column j, or for all of them at once."""
        found, transposed = prepared
        batch = () if j is not None else (len(columns[0]),)
        if self.parts == 1:
            return [params.join(transposed.push(columns, j, params.tensors), batch)]
        derivatives = transposed.push(columns, j, [*transposed.at, *params.tensors])
        count = len(transposed.at)
        tangents = transposed.shaped(derivatives[:count], batch)
        cotangents = found.bend(tangents) if j is not None else torch.vmap(found.bend)(tangents)
        pulled = pull(found.outputs, cotangents, params, batched=j is None)
        return [params.join(pulled, batch), params.join(derivatives[count:], batch)]


def _graph(call: Call, params: Parameters) -> tuple[Cut, Transposed]:
    found = cut(call, params)
    return found, Transposed(found.outputs, params, found.slopes)


def residual(
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
    r"""Make an operator that multiplies by the part of the Hessian that is not Gauss-Newton.

    With the model's outputs z,

    .. math:: R = H - G = \frac{1}{N} \sum_{s=1}^{N} \sum_k
              \frac{\partial \ell_s}{\partial z_k} \, \nabla_\theta^2 z_k,

    weighted as in `hessian`. It is computed as the Hessian of :math:`\langle u, z(\theta) \rangle`
    with :math:`u = \partial \ell / \partial z` held, not as a difference, so nothing cancels where
    R is small. It vanishes where each sample's loss has its minimum in z. A product of b columns
    costs what one with the Hessian costs.

    Parameters
    ----------
    model : Module
        The network, as for `ggn`.
    loss : callable
        ``loss(model, batch)``, as for `ggn`.
    data : object
        One batch, a list of batches or a DataLoader, as for `hessian`.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters R acts on, as for `hessian`. By default all that require grad.
    mode : {"as-is", "eval", "train"}, default "as-is"
        The mode in which the model is run during products.
    accumulate : torch.dtype, optional
        The dtype of the sum over batches. By default that of the vectors.
    strategy : {"auto", "graph", "graph-vmap"}, default "auto"
        How columns are multiplied: one after the other through a graph that is built once per batch, or all at once.
        "auto" chooses as `hessian` does.
    chunk, memory, microbatch : int, float, int, optional
        As for `hessian`.

    Returns
    -------
    CurvatureOperator
        As `hessian` returns it.

    Raises
    ------
    TypeError, ValueError
        As `ggn`.
    NotImplementedError
        If an operation has no second derivative, as for `hessian`.

    References
    ----------
    Papyan (2019), The full spectrum of deepnet Hessians at scale, arXiv:1811.07062, figure 3:
    the bulk of the Hessian's spectrum is that of R (his H), the outliers come from G.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
    >>> batch = torch.eye(3, dtype=torch.float64)
    >>> R = slq_torch.residual(model, lambda model, x: model(x).square().mean(), batch)
    >>> R.matmat(torch.ones(3, 1, dtype=torch.float64)).T  # a linear model has no curvature
    tensor([[0., 0., 0.]], dtype=torch.float64)
    """
    chosen, passes = network(model, loss, data, params=params, mode=mode)
    products = Products(Bent("residual"), strategy, chunk=chunk, memory=memory, microbatch=microbatch)
    return CurvatureOperator(products, chosen, passes, accumulate)


@dataclass(frozen=True, slots=True)
class Split:
    """The Hessian and its two parts, H = G + R; made by `slq_torch.split`.

    Attributes
    ----------
    hessian : CurvatureOperator
        H.
    ggn : CurvatureOperator
        G.
    residual : CurvatureOperator
        R.
    """

    hessian: CurvatureOperator
    ggn: CurvatureOperator
    residual: CurvatureOperator
    _both: CurvatureOperator

    def matmat(self, X: Tensor, /) -> tuple[Tensor, Tensor]:
        """Multiply G and R with b columns in one pass over the data.

        Parameters
        ----------
        X : Tensor
            Shape (n, b).

        Returns
        -------
        tuple of Tensor
            G @ X and R @ X, each (n, b); their sum is H @ X.
        """
        G_X, R_X = torch.split(self._both.matmat(X), len(X))
        return G_X, R_X


def split(
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
) -> Split:
    r"""Make the operators of H = G + R: the Hessian, its Gauss-Newton part and the rest.

    Each is an operator for `slq.spectrum`; their ``.matmat(X)`` together gives G X and R X from
    one forward pass per batch, since one derivative of the graph of :math:`J^T u` at
    :math:`u = \partial \ell / \partial z` gives J v and R v at once. That joint product costs
    about a Hessian product and half, less than the two alone.

    Parameters
    ----------
    model : Module
        The network, as for `ggn`.
    loss : callable
        ``loss(model, batch)``, as for `ggn`.
    data : object
        One batch, a list of batches or a DataLoader, as for `hessian`.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters the matrices act on, as for `hessian`. By default all that require grad.
    mode : {"as-is", "eval", "train"}, default "as-is"
        The mode in which the model is run during products.
    accumulate : torch.dtype, optional
        The dtype of the sums over batches. By default that of the vectors.
    strategy : {"auto", "graph", "graph-vmap"}, default "auto"
        How columns are multiplied: one after the other through a graph that is built once per batch, or all at once.
        "auto" chooses as `hessian` does.
    chunk, memory, microbatch : int, float, int, optional
        As for `hessian`; each of the four operators has its own.

    Returns
    -------
    Split
        With `hessian`, `ggn`, `residual` and `matmat`.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `ggn` and `residual`.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).double()
    >>> batch = torch.eye(2, dtype=torch.float64)
    >>> parts = slq_torch.split(model, lambda model, x: model(x).square().mean(), batch)
    >>> X = torch.ones(parts.hessian.shape[0], 2, dtype=torch.float64)
    >>> G_X, R_X = parts.matmat(X)
    >>> torch.allclose(G_X + R_X, parts.hessian @ X)
    True
    """
    chosen, passes = network(model, loss, data, params=params, mode=mode)

    def operator(recipe: Recipe) -> CurvatureOperator:
        products = Products(recipe, strategy, chunk=chunk, memory=memory, microbatch=microbatch)
        return CurvatureOperator(products, chosen, passes, accumulate)

    return Split(
        operator(SecondDerivatives()),
        operator(Sandwich(GaussNewton())),
        operator(Bent("residual")),
        operator(Bent("ggn and residual")),
    )
