"""The networks that products are timed on, with their data: random images and tokens, drawn from fixed seeds.

What a product costs does not depend on the values, so nothing is downloaded and nothing is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass(frozen=True)
class Problem:
    """A model, and batches (inputs, targets) that `loss` takes."""

    name: str
    model: nn.Module
    batches: list[tuple[Tensor, Tensor]]

    @property
    def size(self) -> int:
        """The number of parameters."""
        return sum(p.numel() for p in self.model.parameters())


def criterion(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy over the last axis, averaged over all others."""
    return functional.cross_entropy(output.flatten(0, -2), target.flatten())


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean loss of a batch."""
    return criterion(model(batch[0]), batch[1])


def digits(model: nn.Module, name: str, *, images: int, batches: int, pixels: int = 28) -> Problem:
    """Pair a model with grey images of 28 x 28."""
    generator = torch.Generator().manual_seed(1)
    data = [
        (torch.randn(images, 1, pixels, pixels, generator=generator), torch.randint(10, (images,), generator=generator))
        for _ in range(batches)
    ]
    return Problem(name, model.eval(), data)


def tiny_mlp(pixels: int = 28) -> Problem:
    """Build 784-20-10, the 15,910 parameters of the first paper on spectra of Hessians, or one of smaller images."""
    inputs = pixels**2
    model = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 20), nn.ReLU(), nn.Linear(20, 10))
    return digits(model, f"MLP {inputs}-20-10", images=1000, batches=2, pixels=pixels)


def mlp() -> Problem:
    """Build 784-256-256-10."""
    sizes = [(784, 256), (256, 256)]
    layers = [layer for a, b in sizes for layer in (nn.Linear(a, b), nn.ReLU())]
    return digits(nn.Sequential(nn.Flatten(), *layers, nn.Linear(256, 10)), "MLP 784-256-256-10", images=512, batches=2)


def cnn() -> Problem:
    """Build two convolutions and two linear layers, 105,866 parameters."""
    layers = [
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1568, 64), nn.ReLU(), nn.Linear(64, 10)),
    ]
    return digits(nn.Sequential(*layers), "CNN", images=256, batches=2)


class Block(nn.Module):
    """Two convolutions with batch norm and a shortcut that pads with zeros (He et al. 2016, option A)."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.stride, self.extra = stride, outer - inner

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.extra:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return functional.relu(x + y)


def resnet20(images: int = 128) -> Problem:
    """Build the CIFAR ResNet-20 in eval mode."""
    widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    model = nn.Sequential(*stem, *(Block(*w) for w in widths), *head)
    generator = torch.Generator().manual_seed(2)
    batch = torch.randn(images, 3, 32, 32, generator=generator), torch.randint(10, (images,), generator=generator)
    model(batch[0])  # one pass in train mode, for running statistics that fit
    return Problem("ResNet-20", model.eval(), [batch])


class Layer(nn.Module):
    """A pre-norm transformer layer; `attention` is "plain", "fused" (whatever torch chooses) or "math"."""

    def __init__(self, width: int, heads: int, attention: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads, self.attention = heads, attention

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention and MLP."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1))
        if self.attention == "plain":
            scores = q @ k.mT / q.shape[-1] ** 0.5
            hidden = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
            y = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
        elif self.attention == "fused":
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            with sdpa_kernel(SDPBackend.MATH):
                y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(-2))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """A small decoder over characters."""

    def __init__(self, vocabulary: int, context: int, width: int, heads: int, layers: int, attention: str) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.layers = nn.Sequential(*(Layer(width, heads, attention) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        return self.head(self.norm(self.layers(x)))


def gpt(attention: str = "plain") -> Problem:
    """Build a GPT of 4 layers and width 128 over 65 characters, two batches of 8 sequences of 64."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(65, (2, 8, 65), generator=generator)
    batches = [(t[:, :-1].contiguous(), t[:, 1:].contiguous()) for t in tokens]
    return Problem(f"GPT ({attention} attention)", GPT(65, 64, 128, 4, 4, attention).eval(), batches)


PROBLEMS: dict[str, Callable[[], Any]] = {"mlp": mlp, "cnn": cnn, "resnet20": resnet20, "gpt": gpt}


def build(name: str) -> Problem:
    """Build one of the problems, the same at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        problem: Problem = PROBLEMS[name]()
        return problem
