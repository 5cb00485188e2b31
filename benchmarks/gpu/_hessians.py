"""The section on PyTorch: Hessian products by every strategy, eager and compiled, and by curvlinops; in gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu._libraries import Library, seconds

Row = dict[str, Any]

STRATEGIES = ("auto", "graph", "graph-vmap", "forward-over-reverse", "linearize", "compile")
WIDTHS = (1, 10)


def products(library: Library, quick: bool) -> list[Row]:
    """Time products as multiples of a gradient pass over the same data; compare each with the CPU's in float64."""
    if library.name != "torch":
        return []
    from benchmarks import _networks

    rows = []
    for problem in [_networks.tiny_mlp()] if quick else map(_networks.build, ("mlp", "cnn", "gpt")):
        rows += _rows(library, problem, quick)
    return rows


def _rows(library: Library, problem: Any, quick: bool) -> list[Row]:
    import slq_torch
    import torch

    from benchmarks import _networks

    truth = slq_torch.hessian(copy.deepcopy(problem.model).double(), _networks.loss, _doubled(problem.batches))
    v = np.random.default_rng(0).standard_normal((max(WIDTHS), problem.size))
    expected = truth.matmat(torch.asarray(v).T)
    model = problem.model.to(library.device)
    data = [tuple(x.to(library.device) for x in batch) for batch in problem.batches]
    parameters = list(model.parameters())

    def gradient() -> None:
        for batch in data:
            torch.autograd.grad(_networks.loss(model, batch), parameters)

    rounds = 1 if quick else 10
    base = seconds(library, gradient, rounds)
    X = library.array(v.astype(np.float32)).T
    rows = []
    for strategy in STRATEGIES[:2] if quick else STRATEGIES:
        made: dict[str, Any] = {}

        def product(Y: Any, strategy: str = strategy, made: dict[str, Any] = made) -> Any:
            if not made:
                made["H"] = slq_torch.hessian(model, _networks.loss, data, strategy=strategy)
            return made["H"].matmat(Y)

        rows.append(_row(library, f"slq, {strategy}", product, X, expected, base, rounds))
    rows.append(_curvlinops(library, model, data, X, expected, base, rounds))
    head = {"network": problem.name, "n": problem.size, "gradient [ms]": 1e3 * base}
    return [head | row for row in rows]


def _row(
    library: Library, name: str, product: Callable[[Any], Any], X: Any, expected: Any, base: float, rounds: int
) -> Row:
    """Time one product of each width, and compare the widest one."""
    try:
        found = product(X)
        error = float((found.cpu().double() - expected).norm() / expected.norm())
        row: Row = {"product": name, "error": error, "agrees": error < 1e-3}
        for width in WIDTHS:
            taken = seconds(library, lambda width=width: product(X[:, :width]), rounds)
            row[f"gradients per column, {width}"] = taken / base / width
    except Exception as error:  # a strategy that a network has no rules for
        return {"product": name, "failed": f"{type(error).__name__}: {error}"[:120]}
    return row


def _curvlinops(library: Library, model: Any, data: Any, X: Any, expected: Any, base: float, rounds: int) -> Row:
    try:
        import curvlinops
    except ImportError:
        return {"product": "curvlinops", "failed": "not installed"}
    import torch
    from torch import nn

    flat = model if data[0][1].ndim == 1 else nn.Sequential(model, nn.Flatten(0, 1))
    pairs = [(x, y.flatten()) for x, y in data]
    sized = {} if data[0][1].ndim == 1 else {"batch_size_fn": lambda x: x.shape[0]}
    parameters = [p for p in flat.parameters() if p.requires_grad]
    H = curvlinops.HessianLinearOperator(
        flat, torch.nn.CrossEntropyLoss(), parameters, pairs, check_deterministic=False, **sized
    )
    return _row(library, "curvlinops", lambda Y: H @ Y, X, expected, base, rounds)


def _doubled(batches: Any) -> Any:
    return [tuple(x.double() if x.is_floating_point() else x for x in batch) for batch in batches]
