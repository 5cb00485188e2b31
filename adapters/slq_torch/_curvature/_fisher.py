"""Fisher information matrices: empirical, by labels drawn from the model, and exact."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._curvature._arguments import Mode, network
from slq_torch._curvature._gauss_newton import factors_of
from slq_torch._curvature._jacobian import Factors, Sandwich, Source, Tensors
from slq_torch._curvature._likelihoods import Family, Likelihood, families_of, far, seed_of, uniforms, weights_of
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._curvature._samples import SampleGradients
from slq_torch._engine._cut import Cut, cut
from slq_torch._engine._engine import Products
from slq_torch._engine._strategies import Choice
from slq_torch._model._parameters import Parameters, Selection
from slq_torch._model._passes import Call, Loss, Passes
from slq_torch._model._suspects import active_batch_norm

Kind = Literal["empirical", "monte-carlo", "exact"]


class Exact:
    """Makes the factors J and H_z of a batch, after a proof that the loss is a negative log-likelihood."""

    kind = "exact fisher"

    def __init__(self, likelihood: Likelihood | None) -> None:
        self._likelihood = likelihood
        self._families = list[Family]()

    @property
    def facts(self) -> dict[str, Any]:
        """Which likelihood it is."""
        return {"likelihood": _named(self._families, self._likelihood)}

    def __call__(self, call: Call, params: Parameters) -> Factors:
        """Run the model once, and the loss on its detached outputs."""
        found = cut(call, params)
        if not self._families:
            self._families = families_of(found, self._likelihood, lambda: cut(call, params, moved=far))
        return factors_of(found, call, params)


class Drawn:
    """Makes the factors J and sum_i q_i q_i^T of a batch, q_i the score of drawn labels of sample i."""

    kind = "monte-carlo fisher"

    def __init__(self, likelihood: Likelihood | None, seed: int, draws: int) -> None:
        self._likelihood, self._seed, self._draws = likelihood, seed, draws
        self._families = list[Family]()
        self._starts = {0: 0}  # number of a batch -> number of its first sample

    @property
    def facts(self) -> dict[str, Any]:
        """Which likelihood it is, and what was drawn."""
        name = _named(self._families, self._likelihood)
        return {"likelihood": name, "mc_samples": self._draws, "seed": self._seed}

    def __call__(self, call: Call, params: Parameters) -> Factors:
        """Run the model once, and draw labels from its outputs."""
        found = cut(call, params)
        if not self._families:
            self._families = families_of(found, self._likelihood, lambda: cut(call, params, moved=far))
        start = self._starts[call.index] + call.start
        scores = self._scores(found, start)
        first = found.leaves[0]
        self._starts[call.index + 1] = start + (len(first) if first.ndim else 1)

        def middle(tangents: Tensors) -> list[Tensor]:
            return [_outer(q, t) for q, t in zip(scores, tangents, strict=True)]

        return factors_of(found, call, params, middle)

    def _scores(self, found: Cut, start: int) -> list[Tensor]:
        """Return q as (draws, *shape of z) per output."""
        result = list[Tensor]()
        weights = weights_of(found, self._families)
        for output, (family, leaf, weight) in enumerate(zip(self._families, found.leaves, weights, strict=True)):
            z = leaf.detach()
            shape = family.terms(z)
            drawn = [
                family.score(z, uniforms(shape, seed=self._seed, start=start, draw=draw, output=output).to(z.device))
                for draw in range(self._draws)
            ]
            result.append(torch.stack(drawn) * (weight / self._draws).sqrt())
        return result


def fisher(
    model: Module,
    loss: Loss,
    data: Any,
    *,
    kind: Kind = "empirical",
    likelihood: Likelihood | None = None,
    mc_samples: int | None = None,
    rng: int | np.integer | np.random.Generator | None = None,
    params: Selection | None = None,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
    strategy: Choice = "auto",
    chunk: int | None = None,
    memory: float | None = None,
    microbatch: int | None = None,
) -> CurvatureOperator:
    r"""Make an operator that multiplies by a Fisher information matrix.

    With the loss :math:`\ell_s` of sample s,

    .. math:: F_{emp} = \frac{1}{N} \sum_s \nabla \ell_s \nabla \ell_s^T, \qquad
              F = \frac{1}{N} \sum_s E_{y \sim p(y|x_s)} \nabla \log p(y|x_s) \, \nabla \log p(y|x_s)^T .

    "empirical" is the first, from the labels in `data`. "monte-carlo" is the second with labels
    drawn from the model's own predictions, "exact" the second itself, which is the Gauss-Newton
    matrix of these likelihoods. All are positive semi-definite. A product of b columns costs about
    what one with `ggn` costs: per-sample gradients are never formed, :math:`F v = J^T M J v` with
    the Jacobian of the losses ("empirical") or of the outputs.

    Parameters
    ----------
    model : Module
        The network.
    loss : callable
        ``loss(model, batch)`` as for `hessian`. For "empirical" it is called on the slices
        ``batch[i : i + 1]`` of every tensor in the batch, under vmap where that is possible; it
        must be the mean, or with ``(sum, count)`` the sum, of the losses of these. For the others
        it must see the outputs of ``model(...)`` only, as for `ggn`, and be a negative
        log-likelihood of them.
    data : object
        One batch, a list of batches or a DataLoader, as for `hessian`.
    kind : {"empirical", "monte-carlo", "exact"}, default "empirical"
        Which matrix.
    likelihood : {"categorical", "bernoulli", "gaussian"}, optional
        The distribution of labels given the outputs: softmax of logits (cross_entropy), sigmoid of
        logits (binary_cross_entropy_with_logits), or a normal law around them (mse_loss). It is
        checked against the loss. By default recognised. Not for "empirical".
    mc_samples : int, default 1
        How many labels are drawn for each sample. For "monte-carlo" only.
    rng : int, numpy.random.Generator or None, optional
        The seed of the labels. By default fresh; it is in the metadata. For "monte-carlo" only.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters F acts on, as for `hessian`. By default all that require grad.
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
    TypeError
        As `hessian`.
    ValueError
        As `hessian` and `ggn`; and if an argument does not belong to `kind`, BatchNorm is in train
        mode ("empirical": no sample has a loss of its own), the loss of a batch is not the mean or
        sum over its samples, or the loss is not of the likelihood.
    NotImplementedError
        If an operation cannot be differentiated as often as needed; the message names it.

    Notes
    -----
    *What is a sample.* With a mean, the entries of the first dimension. With ``(sum, count)``,
    :math:`F_{emp} = \sum_s g_s g_s^T / \sum_s c_s`, where :math:`g_s` is the gradient of the sum
    of slice s: for language models the outer products are of whole sequences, per token.

    *Weights and masks* (ignore_index, class weights, padding) are read off the Hessian of the loss
    by its outputs in "monte-carlo" and "exact": a term of weight 0 draws nothing.

    *Drawn labels* are a function of the seed and of the sample's number in the pass, so that every
    product sees the same matrix, on every device and however the data are batched. The mean over
    seeds is the exact matrix. With mean squared error the law has the variance that makes the
    loss, as it is scaled, its negative log-likelihood up to the weight of a sample.

    *Which one.* The empirical Fisher is neither the Fisher nor the Hessian unless the model fits
    its labels' distribution.

    References
    ----------
    Kunstner, Balles & Hennig (2019), Limitations of the empirical Fisher approximation,
    arXiv:1905.12558. Martens (2020), arXiv:1412.1193.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Linear(2, 2, bias=False, dtype=torch.float64)
    >>> batch = torch.eye(2, dtype=torch.float64), torch.tensor([0, 1])
    >>> def loss(model, batch):
    ...     return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> F = slq_torch.fisher(model, loss, batch, kind="monte-carlo", rng=0)
    >>> v = torch.ones(4, dtype=torch.float64)
    >>> bool(v @ (F @ v) >= 0)
    True
    """
    _check_kind(kind, likelihood, mc_samples, rng)
    chosen, passes = network(model, loss, data, params=params, mode=mode)
    source: Source
    if kind == "empirical":
        refuse_batch_norm(passes)
        source = SampleGradients("empirical fisher", "sums")
    elif kind == "monte-carlo":
        source = Drawn(likelihood, seed_of(rng), 1 if mc_samples is None else mc_samples)
    else:
        source = Exact(likelihood)
    products = Products(Sandwich(source), strategy, chunk=chunk, memory=memory, microbatch=microbatch)
    return CurvatureOperator(products, chosen, passes, accumulate)


def refuse_batch_norm(passes: Passes) -> None:
    """Refuse a model in which no sample has a loss of its own."""
    with passes.prepared():
        norms = active_batch_norm(passes.module)
    if norms:
        msg = (
            f"`model` has BatchNorm in train mode in {', '.join(norms[:3])}{' ...' * (len(norms) > 3)}, so the loss of "
            'a sample depends on the others and has no gradient of its own. Give mode="eval".'
        )
        raise ValueError(msg)


def _outer(scores: Tensor, tangent: Tensor) -> Tensor:
    """Multiply with sum over draws and samples of q q^T; `scores` are (draws, *shape of the tangent)."""
    axes = tuple(range(2, scores.ndim))
    inner = (scores * tangent).sum(axes, keepdim=True) if axes else scores * tangent
    return (scores * inner).sum(0)


def _named(families: list[Family], likelihood: Likelihood | None) -> str | None:
    return "; ".join(dict.fromkeys(f.name for f in families)) or likelihood


def _check_kind(kind: Any, likelihood: Any, mc_samples: Any, rng: Any) -> None:
    if kind not in get_args(Kind):
        msg = f"`kind` must be one of {', '.join(map(repr, get_args(Kind)))}, got {kind!r}."
        raise ValueError(msg)
    if likelihood not in (None, *get_args(Likelihood)):
        msg = f"`likelihood` must be one of {', '.join(map(repr, get_args(Likelihood)))} or None, got {likelihood!r}."
        raise ValueError(msg)
    if likelihood is not None and kind == "empirical":
        msg = '`likelihood` has no meaning for kind="empirical", which uses the labels in `data`. Leave it out.'
        raise ValueError(msg)
    for name, value in (("mc_samples", mc_samples), ("rng", rng)):
        if value is not None and kind != "monte-carlo":
            msg = f'`{name}` has no meaning for kind="{kind}", which draws nothing. Leave it out.'
            raise ValueError(msg)
    if mc_samples is not None and (not isinstance(mc_samples, int) or isinstance(mc_samples, bool) or mc_samples < 1):
        msg = f"`mc_samples` must be an integer >= 1, got {mc_samples!r}."
        raise ValueError(msg)
