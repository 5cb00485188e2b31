"""
A small language model, layer by layer
======================================

A transformer of two layers learns to write the manual of Python, character by character: half a million characters of
English that come with the language. Its sequences differ in length, so the mean is over characters, not over batches;
its attention is torch's own. Where is such a model curved, before and after it has learnt?
"""

# %%
# The text
# --------
# Lines of `pydoc_data.topics`, up to 64 characters of each. Where there is only padding, the target is -100.

import argparse
import math
import re
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import slq_torch
import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=32)
parser.add_argument("--training", type=int, default=600, help="training steps")
parser.add_argument("--sequences", type=int, default=64, help="at which the Hessian is taken")
parser.add_argument("--steps", type=int, default=40, help="Lanczos steps per layer")
parser.add_argument("--save", help="file for the picture")
options = parser.parse_args()

LENGTH, HEADS = 64, 4
torch.manual_seed(0)
torch.set_num_threads(1)  # the products are small: a second thread costs more than it brings
text = "\n".join(topics.values())
lines = [line for line in re.sub(r" +", " ", text).split("\n") if len(line) > 8]
alphabet = sorted(set("".join(lines)))
code = {character: i for i, character in enumerate(alphabet)}


def padded(some):
    """Return characters and those that follow them, (N, 64) each."""
    inputs, targets = torch.zeros(len(some), LENGTH, dtype=torch.long), torch.full((len(some), LENGTH), -100)
    for row, line in enumerate(some):
        codes = torch.tensor([code[c] for c in line[: LENGTH + 1]])
        inputs[row, : len(codes) - 1], targets[row, : len(codes) - 1] = codes[:-1], codes[1:]
    return inputs, targets


print(f"{len(text):,} characters, {len(alphabet)} different ones, {len(lines):,} lines")

# %%
# The model
# ---------


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        parts = self.attention(self.before(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.mlp(self.between(x))


class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.characters, self.places = nn.Embedding(len(alphabet), width), nn.Embedding(LENGTH, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(alphabet))

    def forward(self, codes):
        x = self.characters(codes) + self.places.weight[: codes.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def loss(model, batch):
    inputs, targets = batch
    total = cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    return total, int((targets != -100).sum())  # every character weighs the same


model = Model(options.width)
shuffled = [lines[i] for i in torch.randperm(len(lines)).tolist()]
held = shuffled[: options.sequences]

# %%
# Every character weighs the same
# -------------------------------
# With (sum, count) the matrix does not depend on how the lines are put into batches. A mean over batches of means does:
# here one of few short lines and one of many long ones.

ordered = sorted(held, key=len)
quarter = len(ordered) // 4
uneven = [padded(ordered[:quarter]), padded(ordered[quarter:])]


def mean_loss(model, batch):
    total, count = loss(model, batch)
    return total / count


v = torch.randn(sum(p.numel() for p in model.parameters()))
whole = slq_torch.hessian(model, loss, padded(held)) @ v
for name, function in (("(sum, count)", loss), ("means", mean_loss)):
    product = slq_torch.hessian(model, function, uneven) @ v
    print(f"two batches, {name}: product off by {(product - whole).norm() / whole.norm():.1e}")

# %%
# Layer by layer, before and after
# --------------------------------
# One pass over the text per Lanczos step, for all blocks together.

batches = [padded(held[: len(held) // 2]), padded(held[len(held) // 2 :])]
blocks = {
    "characters": model.characters, "places": model.places,
    "attention 1": ["layers.0.attention.*", "layers.0.out.*"], "mlp 1": "layers.0.mlp.*",
    "attention 2": ["layers.1.attention.*", "layers.1.out.*"], "mlp 2": "layers.1.mlp.*",
    "head": model.head,
}  # fmt: skip
before = slq_torch.layers(model, loss, batches, blocks=blocks).spectra(probes=2, steps=options.steps, rng=0)

optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(options.training):
    picked = torch.randint(options.sequences, len(shuffled), (16,)).tolist()
    optimizer.zero_grad()
    value = mean_loss(model, padded([shuffled[i] for i in picked]))
    value.backward()
    optimizer.step()
with torch.no_grad():
    total, count = loss(model, padded(held))
chance = math.log(len(alphabet))
print(f"loss {total / count:.2f} per character on lines not trained on, {chance:.2f} by chance")

after = slq_torch.layers(model, loss, batches, blocks=blocks).spectra(probes=2, steps=options.steps, rng=0)
print(after)

# %%
# What has changed
# ----------------
# The trace of each block, its share of that of all blocks, and the largest eigenvalue, at least its Ritz value and at
# most the certified edge. Intervals are those of the estimates, 95 %.

traces = {name: s.trace() for name, s in after.items()}
for name, old in before.items():
    own, new = traces[name], after[name]
    low, value, high = (
        mine / (mine + sum(others))
        for mine, others in zip(
            (own.low, own.value, own.high),
            zip(*((t.high, t.value, t.low) for other, t in traces.items() if other != name), strict=True),
            strict=True,
        )
    )
    print(f"{name:<12}trace {old.trace()} -> {own}, {value:.1%} ({low:.1%} to {high:.1%}) of all blocks;", end=" ")
    print("largest eigenvalue", " -> ".join(f"{s.nodes.max():.3g} to {s.edges[1]:.3g}" for s in (old, new)))

# %%
# The picture
# -----------
# After training.

panels = slq.plot.multiples(after)
if options.save:
    panels["head"].figure.savefig(options.save, dpi=100)
plt.show()
