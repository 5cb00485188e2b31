"""Losses that are negative log-likelihoods, recognised by their curvature, and labels drawn from them.

For these the Hessian of the loss by the outputs is s_t C(z_t) for each term t (a token, a pixel, an
entry), with s_t >= 0 whatever weights, masks and means the loss uses, and C the covariance of
d log p(y | z) / dz over labels y drawn from the model itself. So s_t is read off one product with
that Hessian, and a second one proves that the loss is of this kind.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from slq_torch._engine._cut import Cut
from slq_torch._model._passes import tolerance

Likelihood = Literal["categorical", "bernoulli", "gaussian"]

# d s_t / dz is a rounding for the right family, and of the order of s_t for another; logits have no unit.
_CONSTANT = 1e-3
# How far outputs are moved to see whether a loss is quadratic all over, in their size plus one.
_FAR = 1e3


@dataclass(frozen=True, slots=True)
class Family:
    """A distribution of labels; `dim` is that of the classes."""

    name: Likelihood
    dim: int | None = None

    def covariance(self, z: Tensor, y: Tensor) -> Tensor:
        """Multiply with C(z), the covariance of the score."""
        if self.name == "categorical":
            p = torch.softmax(z, self._axis)
            return torch.mul(p, y - (p * y).sum(self._axis, keepdim=True))
        return y if self.name == "gaussian" else torch.sigmoid(z) * torch.sigmoid(-z) * y

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Sum a * b over the entries of each term."""
        return a * b if self.dim is None else (a * b).sum(self.dim, keepdim=True)

    def score(self, z: Tensor, uniform: Tensor) -> Tensor:
        """Return d log p / dz for labels drawn by inversion of uniform numbers, one for each term."""
        if self.name == "categorical":
            p = torch.softmax(z, self._axis)
            label = (p.cumsum(self._axis) < uniform).sum(self._axis, keepdim=True).clamp_(max=p.shape[self._axis] - 1)
            return torch.zeros_like(p).scatter_(self._axis, label, 1.0) - p
        if self.name == "bernoulli":
            return (uniform < torch.sigmoid(z)).to(z.dtype) - torch.sigmoid(z)
        normal: Tensor = torch.special.ndtri(uniform)
        return normal.to(z.dtype)

    def terms(self, z: Tensor) -> tuple[int, ...]:
        """Return the shape of z with one entry per term."""
        shape = list(z.shape)
        if self.dim is not None:
            shape[self.dim] = 1
        return tuple(shape)

    @property
    def _axis(self) -> int:
        return -1 if self.dim is None else self.dim


def far(output: Tensor) -> Tensor:
    """Move an output at random, far beyond its size."""
    return output + _FAR * (1 + output.abs().max()) * _random_like([output], 3)[0]


def families_of(found: Cut, likelihood: Likelihood | None, elsewhere: Callable[[], Cut]) -> list[Family]:
    """Recognise the loss as a negative log-likelihood of its outputs, each term weighted, or refuse.

    `elsewhere` evaluates the loss at other outputs: losses that are quadratic near their minimum only, as Huber's is,
    cannot be told from a Gaussian at one point.
    """
    known = [Family("categorical", -1), Family("categorical", 1), Family("bernoulli"), Family("gaussian")]
    asked = [f for f in known if likelihood in (None, f.name)]
    first, second = _random_like(found.leaves, 0), _random_like(found.leaves, 1)
    bent, bent_again = found.bend(first, graph=True), found.bend(second)
    result = list[Family]()
    for k, z in enumerate(found.leaves):
        shape = tuple(z.shape)
        fitting = [f for f in asked if _fits(f, found, k, (first[k], bent[k]), (second[k], bent_again[k]))]
        if any(f.name == "gaussian" for f in fitting) and not _quadratic(found, elsewhere(), k):
            fitting = [f for f in fitting if f.name != "gaussian"]
        if not fitting:
            what = f"of the likelihood {likelihood!r}" if likelihood else "of a likelihood that is known here"
            msg = (
                f"`loss` is not {what}: its Hessian by the outputs, of shape {shape}, is another. Known are "
                '"categorical" (cross_entropy of logits, classes along the last or the second dimension), "bernoulli" '
                '(binary_cross_entropy_with_logits) and "gaussian" (mse_loss), with any weights, masks and means. '
                'Return logits from the model, or use kind="empirical", or ggn.'
            )
            raise ValueError(msg)
        if len({f.name for f in fitting}) > 1:
            names = " and ".join(f'"{f.name}"' for f in fitting)
            msg = f"`likelihood` is needed: at these outputs, of shape {shape}, {names} look alike. Give one of them."
            raise ValueError(msg)
        result.append(fitting[0])
    return result


def weights_of(found: Cut, families: Sequence[Family]) -> list[Tensor]:
    """Return s_t for each term of each output."""
    directions = _random_like(found.leaves, 0)
    bent = found.bend(directions)
    return [_weights(f, z.detach(), y, h) for f, z, y, h in zip(families, found.leaves, directions, bent, strict=True)]


def seed_of(rng: int | np.integer | np.random.Generator | None) -> int:
    """Return the seed of a stream of `uniforms`: an integer is one, a generator and fresh entropy give 63 bits."""
    if rng is None or isinstance(rng, np.random.Generator):
        return int(np.random.default_rng(rng).integers(2**63))
    if not isinstance(rng, int | np.integer) or isinstance(rng, bool):
        msg = f"`rng` must be an integer, a numpy.random.Generator or None, got {type(rng).__name__}."
        raise TypeError(msg)
    if not 0 <= rng < 2**128:
        msg = f"`rng` must lie in [0, 2**128), got {rng}."
        raise ValueError(msg)
    return int(rng)


def uniforms(shape: tuple[int, ...], *, seed: int, start: int, draw: int, output: int) -> Tensor:
    """Return uniform numbers in (0, 1); those of a sample depend on its number, start + i, alone.

    Sample i reads its own blocks of a Philox stream whose counter starts at (block, 0, draw, output).
    """
    rows = shape[0] if shape else 1
    size = math.prod(shape[1:])
    blocks = -(-size // 4)  # a step of the counter gives four numbers
    counter = np.array([start * blocks, 0, draw, output], dtype=np.uint64)
    bits = np.random.Philox(key=seed, counter=counter).random_raw(rows * blocks * 4)
    numbers = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    kept = torch.from_numpy(numbers.reshape(rows, blocks * 4)[:, :size].copy())
    return kept.reshape(shape)


def _fits(family: Family, found: Cut, k: int, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> bool:
    """Whether output k has the Hessian s_t C, with s_t that do not depend on z."""
    z = found.leaves[k]
    if family.name == "categorical" and (z.ndim < 2 or (family.dim == 1 and z.ndim < 3)):
        return False
    weights = _weights(family, z, *first)
    difference = second[1] - weights * family.covariance(z, second[0])
    if not torch.linalg.vector_norm(difference) <= tolerance(z.dtype) * torch.linalg.vector_norm(second[1]):
        return False
    if not weights.requires_grad:
        return True
    probe = weights * _random_like([weights], 2)[0]
    slopes = torch.autograd.grad(probe.sum(), found.leaves, retain_graph=True, allow_unused=True)
    change = sum(float(torch.linalg.vector_norm(slope)) for slope in slopes if slope is not None)
    return change <= _CONSTANT * float(torch.linalg.vector_norm(probe.detach()))


def _quadratic(found: Cut, moved: Cut, k: int) -> bool:
    """Whether output k has the same weights far away, and no slope where it has none: what is masked has neither."""
    directions = _random_like(found.leaves, 0)
    here, there = (c.bend(directions)[k].detach() for c in (found, moved))
    if not torch.linalg.vector_norm(here - there) <= tolerance(here.dtype) * torch.linalg.vector_norm(here):
        return False
    slope = found.slopes[k].detach()
    return not bool((slope[here == 0] != 0).any())


def _weights(family: Family, z: Tensor, y: Tensor, bent: Tensor) -> Tensor:
    own = family.inner(y, family.covariance(z, y))
    there = own > 0
    ratio = family.inner(y, bent) / torch.where(there, own, torch.ones_like(own))
    return torch.where(there, ratio, torch.zeros_like(ratio)).clamp(min=0.0)


def _random_like(tensors: Sequence[Tensor], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=generator, dtype=torch.float32).to(t) for t in tensors]
