"""Time Hessian products beside those of other libraries: one process, the same models and data, ratios to a gradient.

    python benchmarks/torch_products.py [mlp cnn resnet20 gpt] [--compile] [--json FILE]

A figure is the time per column of a product as a multiple of one pass that computes the gradient over the same data:
the median of at least five ratios, each of a product to the gradient that was timed right before it, so that what else
the machine does weighs on both. On a machine that others load too, `--cpu` counts the seconds of the processor on one
thread, not those of the wall. Libraries that are not installed are left out with a word.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import _networks
import slq_torch
import torch
from torch import nn

WIDTHS = (1, 10)
OURS = ("auto", "graph", "fused", "graph-vmap", "forward-over-reverse", "linearize")
PEERS = ("curvlinops", "hessian_eigenthings", "pyhessian")

CLOCK: list[Callable[[], float]] = [time.perf_counter]
Product = Callable[[torch.Tensor], Any]


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    began = CLOCK[0]()
    run()
    return CLOCK[0]() - began


def ratio(run: Callable[[], Any], base: Callable[[], Any], repeats: int, warm: int) -> float:
    """Return the median over rounds of the time of `run` to that of `base` just before."""
    for _ in range(warm):
        run()
    base()
    return statistics.median([(1 / timed(base)) * timed(run) for _ in range(repeats)])


def gradient(problem: _networks.Problem) -> None:
    """Pass over the data once for the gradient of the mean loss."""
    params = list(problem.model.parameters())
    for batch in problem.batches:
        torch.autograd.grad(_networks.loss(problem.model, batch), params)


class Criterion(nn.Module):
    """The criterion as those want it who look for its `reduction`."""

    reduction = "mean"

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Average over everything."""
        return _networks.criterion(output, target)


def flattened(problem: _networks.Problem) -> tuple[nn.Module, list[Any]]:
    """Return a model whose output is (terms, classes), with targets to match, for torch's own CrossEntropyLoss."""
    data = [(x, y.flatten()) for x, y in problem.batches]
    if problem.batches[0][1].ndim == 1:
        return problem.model, data
    return nn.Sequential(problem.model, nn.Flatten(0, 1)), data


def peer(name: str, problem: _networks.Problem) -> Product:
    """Return another library's product of a block (n, b)."""
    library = import_module(name)
    model, data = flattened(problem)
    params = [p for p in model.parameters() if p.requires_grad]
    if name == "curvlinops":
        sized = {"batch_size_fn": lambda x: x.shape[0]} if problem.batches[0][1].ndim > 1 else {}
        H = library.HessianLinearOperator(
            model, nn.CrossEntropyLoss(), params, data, check_deterministic=False, **sized
        )
        return lambda X: H @ X
    if name == "hessian_eigenthings":
        E = library.HessianOperator(problem.model, problem.batches, _networks.loss)
        return lambda X: [E.matvec(x) for x in X.T.contiguous()]
    one = len(problem.batches) == 1
    P = library.hessian(
        problem.model,
        _networks.criterion,
        data=problem.batches[0] if one else None,
        dataloader=None if one else problem.batches,
        cuda=False,
    )

    def product(X: torch.Tensor) -> Any:
        out = []
        for x in X.T.contiguous():
            v = [piece.view(p.shape) for piece, p in zip(x.split([p.numel() for p in P.params]), P.params, strict=True)]
            if one:
                out.append(torch.autograd.grad(P.gradsH, P.params, grad_outputs=v, retain_graph=True))
            else:
                out.append(P.dataloader_hv_product(v))
        return out

    return product


def ours(problem: _networks.Problem, strategy: str, memory: float | None = None) -> Any:
    """Make the operator by one strategy."""
    if strategy == "ggn":
        return slq_torch.ggn(problem.model, _networks.loss, problem.batches)
    return slq_torch.hessian(problem.model, _networks.loss, problem.batches, strategy=strategy, memory=memory)


def measure(name: str, strategies: list[str], repeats: int, only: list[str] | None = None) -> dict[str, Any]:
    """Time everything on one problem."""
    problem = _networks.build(name)
    base = partial(gradient, problem)
    found: dict[str, Any] = {"name": problem.name, "n": problem.size, "ratios": {}, "failed": {}}
    found["gradient"] = statistics.median([timed(base) for _ in range(9)][2:])
    contestants: dict[str, Callable[[], Product]] = {}
    for strategy in strategies:
        contestants[f"slq {strategy}"] = lambda s=strategy: ours(problem, s).matmat
    contestants["slq auto, nothing held"] = lambda: ours(problem, "auto", memory=0).matmat
    for library in PEERS:
        contestants[library] = lambda library=library: peer(library, problem)
    for label, make in contestants.items():
        if only and label not in only:
            continue
        try:
            product = make()
            ratios = {}
            for width in WIDTHS:
                X = torch.randn(width, problem.size, generator=torch.Generator().manual_seed(4)).T
                warm = 3 if label.startswith("slq") else 1
                ratios[width] = ratio(lambda p=product, X=X: p(X), base, repeats, warm) / width
            found["ratios"][label] = ratios
            if label == "slq auto":
                print(product.__self__.engine)
        except ImportError as error:
            found["failed"][label] = f"not installed ({error})"
        except Exception as error:
            found["failed"][label] = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        finally:
            problem.model.zero_grad(set_to_none=True)
        print(f"  {label}: {found['ratios'].get(label) or found['failed'][label]}", flush=True)
    return found


def table(results: list[dict[str, Any]]) -> str:
    """Lay ratios out as Markdown: one column / each of ten."""
    labels = list(dict.fromkeys(label for r in results for label in [*r["ratios"], *r["failed"]]))
    lines = ["| | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
    for r in results:
        cells = [" / ".join(f"{r['ratios'][x][w]:.2f}" for w in WIDTHS) if x in r["ratios"] else "–" for x in labels]
        lines.append(f"| {r['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=list(_networks.PROBLEMS))
    parser.add_argument("--compile", action="store_true", help="time torch.compile too")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the columns of the table, e.g. 'slq graph'")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--cpu", action="store_true", help="one thread, seconds of the processor")
    options = parser.parse_args()
    if options.cpu:
        torch.set_num_threads(1)
        CLOCK[0] = time.process_time
    warnings.simplefilter("ignore")
    strategies = [*OURS, *(["compile"] if options.compile else []), "ggn"]
    results = []
    for name in options.problems or list(_networks.PROBLEMS):
        print(name, flush=True)
        results.append(measure(name, strategies, options.repeats, options.only))
    print(table(results))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"torch": torch.__version__, "threads": torch.get_num_threads(), "results": results}, file)


if __name__ == "__main__":
    main()
