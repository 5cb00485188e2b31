"""The public `class_decomposition`: a classifier's Gauss-Newton matrix by class and cross-class structure.

The parts are made in `_clusters`. Source: Papyan (2020), arXiv:2008.11865.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._curvature._arguments import Mode, network
from slq_torch._curvature._clusters import Clusters, Means, OwnClass, Targets, Within
from slq_torch._curvature._jacobian import Sandwich
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._engine._engine import Products
from slq_torch._engine._strategies import Choice
from slq_torch._model._parameters import Selection
from slq_torch._model._passes import Loss


@dataclass(frozen=True, slots=True)
class ClassDecomposition:
    """The four parts of a classifier's Gauss-Newton matrix; made by `slq_torch.class_decomposition`.

    Attributes
    ----------
    between : CurvatureOperator
        G_class, of rank C at most: the outliers.
    cross : CurvatureOperator
        G_cross, of rank C (C - 2) at most.
    within : CurvatureOperator
        G_within, the scatter of gradients about their cluster means.
    own : CurvatureOperator
        G_{c=c'}, the terms of the true class.
    """

    between: CurvatureOperator
    cross: CurvatureOperator
    within: CurvatureOperator
    own: CurvatureOperator
    _means: Callable[[], tuple[Tensor, Tensor]] = field(repr=False)

    def means(self) -> tuple[Tensor, Tensor]:
        """Return the cluster means delta_cc', (C, C, n), and their weights w_cc', (C, C).

        The first index is the class of the samples, the second the label that their gradients are taken at. Computed
        by one pass when first asked for, by this or by a product with `between`, `cross` or `within`.
        """
        return self._means()


def class_decomposition(
    model: Module,
    loss: Loss,
    data: Any,
    *,
    targets: Targets | None = None,
    params: Selection | None = None,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
    strategy: Choice = "auto",
    chunk: int | None = None,
    memory: float | None = None,
    microbatch: int | None = None,
) -> ClassDecomposition:
    r"""Split a classifier's Gauss-Newton matrix into class, cross-class, within-class and own parts.

    Let :math:`g_{icc'}` be the gradient that sample i of class c would have with the label c', and
    :math:`w_{icc'} = p_{c'}(x_i)/N`. Then :math:`G = \sum w_{icc'} g_{icc'} g_{icc'}^T`, and with
    the weighted means :math:`\delta_{cc'}` over i, and :math:`\delta_c` of these over c' ≠ c,

    .. math:: G = \sum_c w_c \delta_c \delta_c^T
              + \sum_{c' \ne c} w_{cc'} (\delta_{cc'} - \delta_c)(\delta_{cc'} - \delta_c)^T
              + \sum_{i, c' \ne c} w_{icc'} (g_{icc'} - \delta_{cc'})(g_{icc'} - \delta_{cc'})^T
              + \sum_{i} w_{icc} g_{icc} g_{icc}^T,

    named `between`, `cross`, `within` and `own`; each is positive semi-definite. The means take one
    pass over the data with up to C x C backward passes per batch and 2 C² n numbers of memory
    (again C² n for `cross` and for `within`: 80 MB in all for C = 10, n = 50 000, float32); once
    there, products with `between` and `cross` cost no pass at all, those with `within` and `own`
    what one with `ggn` costs.

    Parameters
    ----------
    model : Module
        The classifier; ``model(...)`` returns logits of shape (N, C).
    loss : callable
        ``loss(model, batch)``: the plain cross-entropy of these logits, as a mean or
        ``(sum, count)``. It is checked.
    data : object
        One batch, a list of batches or a DataLoader, as for `hessian`.
    targets : callable, optional
        Function of a batch that returns its labels, int64, (N,). By default ``batch[1]``.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters the matrices act on, as for `hessian`. By default all that require grad.
    mode : {"as-is", "eval", "train"}, default "as-is"
        The mode in which the model is run during products.
    accumulate : torch.dtype, optional
        The dtype of the sums over batches and of the means. By default that of the vectors.
    strategy : {"auto", "graph", "graph-vmap", "forward", "forward-over-reverse", "linearize"}, default "auto"
        As for `ggn`.
    chunk, memory, microbatch : int, float, int, optional
        As for `hessian` and, like `strategy`, for `within` and `own` only.

    Returns
    -------
    ClassDecomposition
        With `between`, `cross`, `within`, `own`, and ``means()``.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `ggn`; and at the first product if the logits are not (N, C), the labels are not found
        or not of these classes, or the loss is not their plain cross-entropy.

    Notes
    -----
    `within` is computed as the sum over c' ≠ c less the two low-rank parts: its small eigenvalues
    are right to rounding of G, not of themselves.

    References
    ----------
    Papyan (2020), Traces of class/cross-class structure pervade deep learning spectra, JMLR 21,
    arXiv:2008.11865: equation 6.2 for G, 6.4 for its parts, called class, cross-class, within-class
    and c = c' there.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Linear(2, 3, dtype=torch.float64)
    >>> batch = torch.eye(2, dtype=torch.float64), torch.tensor([0, 2])
    >>> def loss(model, batch):
    ...     return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> parts = slq_torch.class_decomposition(model, loss, batch)
    >>> v = torch.ones(9, dtype=torch.float64).cumsum(0)
    >>> total = sum(part @ v for part in (parts.between, parts.cross, parts.within, parts.own))
    >>> torch.allclose(total, slq_torch.ggn(model, loss, batch) @ v)
    True
    """
    if targets is not None and not callable(targets):
        msg = f"`targets` must be a function of a batch, got {type(targets).__name__}. E.g. lambda batch: batch[1]."
        raise TypeError(msg)
    chosen, passes = network(model, loss, data, params=params, mode=mode)
    clusters = Clusters(targets)

    def operator(curvature: Any) -> CurvatureOperator:
        return CurvatureOperator(curvature, chosen, passes, accumulate)

    def means() -> tuple[Tensor, Tensor]:
        with passes.prepared():
            clusters.prepare(passes, chosen, accumulate or chosen.vector_dtype)
        assert clusters.means is not None
        assert clusters.weights is not None
        return clusters.means, clusters.weights

    def products(*, own: bool) -> Products:
        recipe = Sandwich(OwnClass(clusters, own=own))
        return Products(recipe, strategy, chunk=chunk, memory=memory, microbatch=microbatch)

    return ClassDecomposition(
        operator(Means(clusters, "class")),
        operator(Means(clusters, "cross-class")),
        operator(Within(clusters, products(own=False))),
        operator(products(own=True)),
        means,
    )
