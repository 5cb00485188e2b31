"""The Hessian in two: H = G + R, with the Gauss-Newton matrix G and the rest R that the model's own curvature makes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._arguments import Mode, network
from slq_torch._cut import cut
from slq_torch._gauss_newton import GaussNewton
from slq_torch._hessian import hessian
from slq_torch._jacobian import Sandwich, Transposed, pull
from slq_torch._kernels import Kernels
from slq_torch._operator import CurvatureOperator
from slq_torch._parameters import Parameters, Selection
from slq_torch._passes import Call, Loss
from slq_torch._quiet import quiet
from slq_torch._race import fastest

Part = Literal["residual", "ggn and residual"]
Way = Literal["looped", "vmapped"]

# vmap multiplies the memory of a pass by b, so it must win by a tenth to be worth it.
_HANDICAP: dict[Way, float] = {"vmapped": 1.1}


class Bent:
    """R X of a batch, or G X above R X: derivatives of the graph of J^T u at u = dl/dz.

    By the parameters that graph has the derivative R, since u is held; by u it has J^T. So one column
    through it gives R v and J v at once.
    """

    __slots__ = ("_kernels", "kind", "ways")

    def __init__(self, kind: Part) -> None:
        self.kind, self._kernels = kind, Kernels()
        self.ways: dict[int, Way] = {}

    @property
    def facts(self) -> dict[str, Any]:
        """The way chosen for each number of columns, and exchanged kernels."""
        return {"ways": {str(width): way for width, way in self.ways.items()}, "notes": self._kernels.notes}

    def __call__(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Return the rows of R X, (b, n), or those of G X and then of R X, (2 b, n)."""
        return self._kernels.run(lambda: self._rows(call, params, rows))

    def _rows(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        width = len(rows)
        if not width:
            cut(call, params)
            return torch.zeros_like(rows, dtype=params.dtype)

        def run(way: Way, *, check: bool = False) -> Callable[[], Tensor]:
            return lambda: self._product(call, params, params.split(rows), way=way, check=check)

        if width == 1:
            self.ways.setdefault(1, "looped")
        if width not in self.ways:
            both: dict[Way, Callable[[], Tensor]] = {"looped": run("looped", check=True), "vmapped": run("vmapped")}
            self.ways[width], result = fastest(both, handicap=_HANDICAP)
            return result
        if self.ways[width] == "vmapped":
            try:
                return run("vmapped")()
            except RuntimeError:  # out of memory, or a batch that takes another path in the model
                self.ways[width] = "looped"
        return run("looped", check=True)()

    def _product(self, call: Call, params: Parameters, columns: list[Tensor], *, way: Way, check: bool) -> Tensor:
        found = cut(call, params)
        transposed = Transposed(found.outputs, params, columns, at=found.slopes, check=check)
        both, width, count = self.kind != "residual", len(columns[0]), len(transposed.at)
        inputs = [*(transposed.at if both else []), *params.tensors]

        def column(j: int | None) -> tuple[Tensor, Tensor | None]:
            batch = () if j is not None else (width,)
            derivatives = transposed.push(j, inputs)
            if not both:
                return params.join(derivatives, batch), None
            tangents = [
                u.new_zeros(*batch, *u.shape) if d is None else d
                for d, u in zip(derivatives[:count], transposed.at, strict=True)
            ]
            cotangents = found.bend(tangents) if j is not None else torch.vmap(found.bend)(tangents)
            pulled = pull(found.outputs, cotangents, params, batched=j is None)
            return params.join(derivatives[count:], batch), params.join(pulled, batch)

        if way == "vmapped":
            with quiet("There is a performance drop"):
                residual, ggn = column(None)
            return residual if ggn is None else torch.cat([ggn, residual])
        result = torch.empty(2 * width if both else width, params.size, dtype=params.dtype, device=params.device)
        for j in range(width):
            residual, ggn = column(j)
            result[j - width] = residual
            if ggn is not None:
                result[j] = ggn
        return result


def residual(
    model: Module,
    loss: Loss,
    data: Any,
    *,
    params: Selection | None = None,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
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
    Papyan (2019), The full spectrum of deepnet Hessians at scale, arXiv:1811.07062: the bulk of
    the Hessian's spectrum is that of R (his H), the outliers come from G.

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
    return CurvatureOperator(Bent("residual"), chosen, passes, accumulate)


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
        found = self._both.matmat(X)
        return found[:, : X.shape[1]], found[:, X.shape[1] :]


def split(
    model: Module,
    loss: Loss,
    data: Any,
    *,
    params: Selection | None = None,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
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

    def operator(curvature: Any) -> CurvatureOperator:
        return CurvatureOperator(curvature, chosen, passes, accumulate)

    return Split(
        hessian(model, loss, data, params=params, mode=mode, accumulate=accumulate),
        operator(Sandwich(GaussNewton())),
        operator(Bent("residual")),
        operator(Bent("ggn and residual")),
    )
