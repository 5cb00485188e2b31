"""
The Hessian of a network of ImageNet's size
===========================================

A residual network with bottlenecks, 50 layers deep and 25 million parameters, on images of 224 x 224 pixels: one random
vector and twenty steps, within the memory that ``slq.plan`` states beforehand. The images are noise, for the cost does
not depend on what they show. With two images at a time it takes about ten minutes on two cores. On a GPU, with more:

.. code-block:: bash

    python examples/imagenet_resnet.py --device cuda --batch 64
"""

# %%
# The network
# -----------
# He, Zhang, Ren and Sun (2016, arXiv:1512.03385), the network of 50 layers. Batch normalisation runs in eval mode, so
# that samples do not interact.

import argparse
import resource
import time

import slq_torch
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="cpu")
parser.add_argument("--batch", type=int, default=2, help="images")
parser.add_argument("--size", type=int, default=224, help="pixels per side")
parser.add_argument("--width", type=int, default=64, help="channels of the first convolution")
parser.add_argument("--blocks", type=int, nargs=4, default=[3, 4, 6, 3], help="blocks per stage")
parser.add_argument("--steps", type=int, default=20, help="Lanczos steps")
parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
options = parser.parse_args()
torch.set_num_threads(options.threads)


class Bottleneck(nn.Module):
    def __init__(self, inside, width, stride):
        super().__init__()
        self.path = nn.Sequential(
            *(nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)),
        )
        self.short = nn.Sequential()
        if stride > 1 or inside != 4 * width:
            self.short = nn.Sequential(nn.Conv2d(inside, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

    def forward(self, x):
        return torch.relu(self.path(x) + self.short(x))


def residual_network(width, blocks, classes=1000):
    layers = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            layers.append(Bottleneck(inside, width << stage, 2 if stage > 0 and block == 0 else 1))
            inside = 4 * (width << stage)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, classes))


torch.manual_seed(0)
model = residual_network(options.width, options.blocks).to(options.device).eval()
images = torch.randn(options.batch, 3, options.size, options.size, device=options.device)
labels = torch.randint(1000, (options.batch,), device=options.device)
H = slq_torch.hessian(model, lambda model, batch: cross_entropy(model(batch[0]), batch[1]), (images, labels))
print(H)

# %%
# What it will cost
# -----------------
# The plan multiplies twice and predicts the rest. What a product itself needs, the graph of one batch, comes on top of
# the Krylov vectors, and has been seen once the plan is made.


def peak():
    """Return the most bytes that were in use so far."""
    if options.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(options.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


plan = slq.plan(H, probes=1, steps=options.steps)
print(plan)
before = peak()

# %%
# The run
# -------

began = time.perf_counter()
s = slq.spectrum(H, probes=1, steps=options.steps, rng=0)
seconds = time.perf_counter() - began
print(s)
print(f"time: {seconds:.0f} s, planned {plan.seconds:.0f} s")
print(
    f"peak memory: {peak() / 1e9:.2f} GB, of which products {before / 1e9:.2f} GB; "
    f"{(peak() - before) / 1e9:.2f} GB more than products alone, planned at most {plan.bytes / 1e9:.2f} GB"
)
