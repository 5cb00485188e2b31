"""Second moments of per-sample gradients, about zero or about their mean."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._curvature._arguments import Mode, network
from slq_torch._curvature._fisher import refuse_batch_norm
from slq_torch._curvature._jacobian import Sandwich
from slq_torch._curvature._operator import Curvature, CurvatureOperator
from slq_torch._curvature._samples import SampleGradients
from slq_torch._engine._engine import Products
from slq_torch._engine._report import Engine
from slq_torch._engine._strategies import Choice
from slq_torch._model._parameters import Parameters, Selection
from slq_torch._model._passes import Call, Loss, Passes


class Centred:
    """The second moment of a batch less the outer product of the mean gradient of all data."""

    kind = "gradient covariance"

    def __init__(self, moment: Products) -> None:
        self._moment = moment
        self._mean: Tensor | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Those of the second moment."""
        return self._moment.facts

    @property
    def engine(self) -> Engine:
        """That of the second moment."""
        return self._moment.engine

    @property
    def noise(self) -> float:
        """That of the second moment."""
        return self._moment.noise

    @property
    def resident(self) -> int:
        """Bytes that are kept between products."""
        return self._moment.resident + (0 if self._mean is None else self._mean.nbytes)

    def prepare(self, passes: Passes, params: Parameters, accumulate: torch.dtype) -> None:
        """Compute the mean gradient, once."""
        if self._mean is None:
            self._mean = passes.mean(lambda call: gradient_of(call, params), accumulate)

    def __call__(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Return the rows of this batch's part."""
        assert self._mean is not None  # prepared
        found = self._moment(call, params, rows)
        _, count, summed = call.result
        weight = float(count) if summed else 1.0
        mean = self._mean.to(rows.dtype)
        return (found - weight * torch.outer(rows @ mean, mean)).to(found.dtype)


def gradient_of(call: Call, params: Parameters) -> Tensor:
    """Return the gradient of a batch, (n,)."""
    return params.join(torch.autograd.grad(call.value(), params.tensors, allow_unused=True))


def gradient_covariance(
    model: Module,
    loss: Loss,
    data: Any,
    *,
    centred: bool = True,
    params: Selection | None = None,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
    strategy: Choice = "auto",
    chunk: int | None = None,
    memory: float | None = None,
    microbatch: int | None = None,
) -> CurvatureOperator:
    r"""Make an operator that multiplies by the covariance matrix of per-sample gradients.

    With the gradient :math:`g_s` of the loss of sample s and the mean gradient :math:`\bar g`,

    .. math:: C = \frac{1}{N} \sum_{s=1}^{N} (g_s - \bar g)(g_s - \bar g)^T, \qquad
              C_0 = \frac{1}{N} \sum_{s=1}^{N} g_s g_s^T = C + \bar g \bar g^T .

    It is the noise of stochastic gradients: a batch of B samples drawn with replacement has the
    gradient covariance C / B. A product of b columns costs what one with the empirical `fisher`
    costs; the first one also a gradient of all data, which is kept (n numbers).

    Parameters
    ----------
    model : Module
        The network.
    loss : callable
        ``loss(model, batch)``, the mean or with ``(sum, count)`` the sum over the samples of a
        batch, as for the empirical `fisher`.
    data : object
        One batch, a list of batches or a DataLoader, as for `hessian`.
    centred : bool, default True
        Whether the mean gradient is subtracted: C, or else :math:`C_0`.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters the matrix acts on, as for `hessian`. By default all that require grad.
    mode : {"as-is", "eval", "train"}, default "as-is"
        The mode in which the model is run during products.
    accumulate : torch.dtype, optional
        The dtype of the sum over batches. By default that of the vectors.
    strategy : {"auto", "graph", "graph-vmap", "forward", "forward-over-reverse", "linearize"}, default "auto"
        As for `ggn`.
    chunk, memory, microbatch : int, float, int, optional
        As for `hessian`.

    Returns
    -------
    CurvatureOperator
        As `hessian` returns it.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As the empirical `fisher`.

    Notes
    -----
    *Weights.* With ``(sum, count)``, a sample of count c counts c times with its mean gradient
    :math:`g_s / c`, so that C stays the covariance of a distribution; samples of count 0 are left
    out. Where all counts are 1, :math:`C_0` is the empirical Fisher.

    *Normalisation.* The sum is divided by N, not by N - 1.

    References
    ----------
    Jastrzebski et al. (2018), Three factors influencing minima in SGD, arXiv:1711.04623.
    Thomas et al. (2020), On the interplay between noise and curvature and its effect on
    optimization and generalization, arXiv:1906.07774.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
    >>> batch = torch.eye(2, dtype=torch.float64)
    >>> C = slq_torch.gradient_covariance(model, lambda model, x: model(x).mean(), batch)
    >>> C.matmat(torch.eye(2, dtype=torch.float64))
    tensor([[ 0.2500, -0.2500],
            [-0.2500,  0.2500]], dtype=torch.float64)
    """
    if not isinstance(centred, bool):
        msg = f"`centred` must be True or False, got {centred!r}."
        raise TypeError(msg)
    chosen, passes = network(model, loss, data, params=params, mode=mode)
    refuse_batch_norm(passes)
    source = SampleGradients("gradient second moment", "means")
    moment = Products(Sandwich(source), strategy, chunk=chunk, memory=memory, microbatch=microbatch)
    curvature: Curvature = Centred(moment) if centred else moment
    return CurvatureOperator(curvature, chosen, passes, accumulate)
