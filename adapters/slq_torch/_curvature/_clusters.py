"""Cluster means of gradients, and the four parts of a softmax classifier's Gauss-Newton matrix made with them.

Source: Papyan (2020), arXiv:2008.11865, equation 6.4. Notation: g_icc' is the gradient that sample i of class c would
have if its label were c', weighted by w_icc' = p_c'(x_i) / N; delta_cc' are the weighted means over i, delta_c those
over c' != c.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from slq_torch._curvature._gauss_newton import factors_of
from slq_torch._curvature._jacobian import Factors, Tensors, pull
from slq_torch._curvature._operator import Product
from slq_torch._engine._cut import Cut, cut
from slq_torch._engine._engine import Products
from slq_torch._engine._report import Engine
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call, Passes, tolerance

Targets = Callable[[Any], Tensor]
LowRank = Literal["class", "cross-class"]


class Clusters:
    """The cluster means and their weights, computed by one pass when first needed and shared by all parts."""

    __slots__ = ("means", "targets", "weights")

    def __init__(self, targets: Targets | None) -> None:
        self.targets = targets
        self.means: Tensor | None = None  # (C, C, n): delta_cc'
        self.weights: Tensor | None = None  # (C, C): w_cc'

    @property
    def resident(self) -> int:
        """Bytes of the means."""
        return 0 if self.means is None else self.means.nbytes

    def prepare(self, passes: Passes, params: Parameters, accumulate: torch.dtype) -> None:
        """Compute the means if they are not there yet."""
        if self.means is not None:
            return
        sums = passes.mean(lambda call: self._sums(call, params), accumulate)
        classes = round(len(sums) ** 0.5)
        weights = sums[:, -1:]
        means = torch.where(weights > 0, sums[:, :-1] / weights, torch.zeros_like(sums[:, :-1]))
        self.means = means.reshape(classes, classes, params.size)
        self.weights = weights.reshape(classes, classes)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return the rows sqrt(w_c) delta_c, (C, n), and sqrt(w_cc') (delta_cc' - delta_c) for c' != c, (C C, n)."""
        assert self.means is not None  # prepared
        assert self.weights is not None
        off = self.weights * (1 - torch.eye(len(self.weights), dtype=self.weights.dtype, device=self.weights.device))
        total = off.sum(1, keepdim=True)
        shares = torch.where(total > 0, off / total, torch.zeros_like(off))
        centres = torch.einsum("cd,cdn->cn", shares, self.means)
        crossed = off.sqrt()[:, :, None] * (self.means - centres[:, None])
        return total.sqrt() * centres, crossed.flatten(0, 1)

    def read(self, call: Call, found: Cut) -> tuple[Tensor, Tensor, float]:
        """Return p and labels of a batch, and the weight of each of its samples, after checking that this is right."""
        z = found.leaves[0].detach()
        if len(found.leaves) != 1 or z.ndim != 2:
            shapes = [tuple(leaf.shape) for leaf in found.leaves]
            msg = f"`loss` must depend on one output of the model, logits of shape (N, C), got {shapes}."
            raise ValueError(msg)
        labels = self._labels(call.batch, z)
        value, _, summed = call.result
        plain = cross_entropy(z, labels, reduction="sum" if summed else "mean")
        if not (value - plain).abs() <= tolerance(z.dtype) * plain.abs():
            msg = (
                f"`loss` must be the plain cross-entropy of the logits, {float(plain):.9g} for batch {call.index} with "
                f"these labels, got {float(value):.9g}. Leave out class weights, label smoothing and other terms, and "
                "check `targets`."
            )
            raise ValueError(msg)
        return torch.softmax(z, 1), labels, 1.0 if summed else 1.0 / len(z)

    def _labels(self, batch: Any, z: Tensor) -> Tensor:
        if self.targets is not None:
            labels = self.targets(batch)
        elif isinstance(batch, tuple | list) and len(batch) > 1:
            labels = batch[1]
        else:
            msg = (
                f"`targets` is needed: a batch of type {type(batch).__name__} does not tell where its labels are. "
                'Give a function of the batch, e.g. targets=lambda batch: batch["labels"].'
            )
            raise TypeError(msg)
        good = isinstance(labels, Tensor) and labels.shape == z.shape[:1] and labels.dtype == torch.int64
        if not good or (labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < z.shape[1]):
            what = f"{tuple(labels.shape)}, {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
            msg = f"labels must be an int64 tensor of shape ({len(z)},) with classes 0 to {z.shape[1] - 1}, got {what}."
            raise ValueError(msg)
        return labels.to(z.device)

    def _sums(self, call: Call, params: Parameters) -> Tensor:
        """Return the rows (w_cc' delta_cc', w_cc') of one batch, (C C, n + 1)."""
        found = cut(call, params)
        p, labels, weight = self.read(call, found)
        classes = p.shape[1]
        sums = p.new_zeros(classes, classes, params.size + 1)
        for c in sorted(set(labels.tolist())):
            member = (labels == c).to(p.dtype)
            for other in range(classes):
                w = weight * member * p[:, other]
                score = p.clone()
                score[:, other] -= 1  # the gradient of the cross-entropy with the label c' is p - e_c'
                pulled = pull(found.outputs, [w[:, None] * score], params)
                params.join(pulled, out=sums[c, other, :-1])
                sums[c, other, -1] = w.sum()
        return sums.flatten(0, 1)


class Means:
    """G_class or G_cross: of low rank, known once the means are, and then without a pass over the data."""

    def __init__(self, clusters: Clusters, part: LowRank) -> None:
        self._clusters, self._part = clusters, part
        self.kind = f"ggn, {part}"
        self.facts: dict[str, Any] = {}
        self._factor: Tensor | None = None

    @property
    def resident(self) -> int:
        """Bytes that are kept between products."""
        return self._clusters.resident + (0 if self._factor is None else self._factor.nbytes)

    def prepare(self, passes: Passes, params: Parameters, accumulate: torch.dtype) -> Product:
        """Make the factor D of D^T D."""
        if self._factor is None:
            self._clusters.prepare(passes, params, accumulate)
            self._factor = self._clusters.factors()[0 if self._part == "class" else 1].to(params.vector_dtype)
        factor = self._factor
        return lambda rows: (rows @ factor.T) @ factor


class OwnClass:
    """Makes the factors of G_own, the terms with c' = c, or of the rest, in the space of the logits."""

    def __init__(self, clusters: Clusters, *, own: bool) -> None:
        self._clusters, self._own = clusters, own
        self.kind = "ggn, own class" if own else "ggn, other classes"
        self.facts: dict[str, Any] = {}

    def __call__(self, call: Call, params: Parameters) -> Factors:
        """Run the model once, and the loss on its detached outputs."""
        found = cut(call, params)
        p, labels, weight = self._clusters.read(call, found)
        hit = one_hot(labels, p.shape[1]).to(p.dtype)
        mine = (hit * p).sum(1, keepdim=True)

        def middle(tangents: Tensors) -> list[Tensor]:
            y = tangents[0]
            own = weight * mine * (hit - p) * ((hit - p) * y).sum(1, keepdim=True)
            if self._own:
                return [own]
            weighted = p * y
            return [weight * (weighted - p * weighted.sum(1, keepdim=True)) - own]

        return factors_of(found, call, params, middle)


class Within:
    """G_within: the terms with c' != c about their cluster means."""

    kind = "ggn, within class"

    def __init__(self, clusters: Clusters, others: Products) -> None:
        self._clusters, self._others = clusters, others
        self._factor: Tensor | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Those of the terms with c' != c."""
        return self._others.facts

    @property
    def engine(self) -> Engine:
        """That of the terms with c' != c."""
        return self._others.engine

    @property
    def noise(self) -> float:
        """That of the terms with c' != c."""
        return self._others.noise

    @property
    def resident(self) -> int:
        """Bytes that are kept between products."""
        return self._others.resident + self._clusters.resident + (0 if self._factor is None else self._factor.nbytes)

    def prepare(self, passes: Passes, params: Parameters, accumulate: torch.dtype) -> None:
        """Make the factor D of what is subtracted, G_class + G_cross = D^T D."""
        if self._factor is None:
            self._clusters.prepare(passes, params, accumulate)
            self._factor = torch.cat(self._clusters.factors()).to(params.vector_dtype)

    def __call__(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Return the rows of this batch's part."""
        assert self._factor is not None  # prepared
        found = self._others(call, params, rows)
        _, count, summed = call.result
        return (found - (float(count) if summed else 1.0) * (rows @ self._factor.T) @ self._factor).to(found.dtype)
