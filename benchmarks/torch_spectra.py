"""Time whole spectra of Hessians beside the densities of other libraries, and measure how far they are from the truth.

    python benchmarks/torch_spectra.py [mlp resnet20] [--images N] [--cpu] [--json FILE]
    python benchmarks/torch_spectra.py --error

Everybody makes 10 probes x 80 steps on the same model and data, in turns. First calls pay for imports and trials; they
are told, too. hessian-eigenthings and PyHessian make every vector orthogonal to all before it, curvlinops none, and it
looks for the ends of the spectrum first. `--error` takes an MLP small enough for a dense matrix and measures the
Wasserstein distance to the exact spectrum over its range, of several seeds.
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
import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import nn
from torch_products import CLOCK, flattened, ours

import slq

PROBES, STEPS = 10, 80
# An MLP of so many inputs has 2,230 parameters.
_PIXELS = 10

Law = tuple[Any, Any]  # nodes or a grid, and weights or a density


class Timed:
    """An operator, with the time that went into its products."""

    def __init__(self, operator: Any) -> None:
        self.operator, self.inside = operator, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.operator, name)

    def matmat(self, X: torch.Tensor) -> torch.Tensor:
        """Multiply and look at the clock."""
        began = CLOCK[0]()
        Y: torch.Tensor = self.operator.matmat(X)
        self.inside += CLOCK[0]() - began
        return Y


def with_slq(operator: Any, seed: int) -> dict[str, Law]:
    """Return what slq finds."""
    s = slq.spectrum(operator, probes=PROBES, steps=STEPS, rng=seed)
    curve = s.density()
    return {"nodes": (s.nodes.ravel(), s.weights.ravel()), "density": (curve.x, curve.value)}


def with_curvlinops(problem: _networks.Problem, seed: int) -> dict[str, Law]:
    """Return what curvlinops finds."""
    papyan, library = import_module("curvlinops.papyan2020traces.spectrum"), import_module("curvlinops")
    model, data = flattened(problem)
    A = library.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), data, check_deterministic=False
    )
    torch.manual_seed(seed)
    return {"density": papyan.lanczos_approximate_spectrum(A, ncv=STEPS, num_repeats=PROBES)}


def with_eigenthings(problem: _networks.Problem, seed: int) -> dict[str, Law]:
    """Return what hessian-eigenthings finds."""
    library = import_module("hessian_eigenthings")
    E = library.HessianOperator(problem.model, problem.batches, _networks.loss)
    found = library.spectral_density(E, num_runs=PROBES, lanczos_steps=STEPS, seed=1000 * seed)
    nodes = found.raw_eigenvalues.ravel(), found.raw_weights.ravel()
    return {"nodes": nodes, "density": (found.grid, found.density)}


def with_pyhessian(problem: _networks.Problem, seed: int) -> dict[str, Law]:
    """Return what PyHessian finds."""
    library = import_module("pyhessian")
    torch.eig = lambda T, eigenvectors=True: (  # what it calls was taken out of torch
        torch.view_as_real(torch.linalg.eigh(T)[0].to(torch.complex64)),
        torch.linalg.eigh(T)[1],
    )
    one = len(problem.batches) == 1
    data = {"data": problem.batches[0]} if one else {"dataloader": problem.batches}
    torch.manual_seed(seed)
    H = library.hessian(problem.model, _networks.criterion, cuda=False, **data)
    nodes, weights = H.density(iter=STEPS, n_v=PROBES)
    return {"nodes": (np.ravel(nodes), np.ravel(weights))}


PEERS = {"curvlinops": with_curvlinops, "hessian_eigenthings": with_eigenthings, "pyhessian": with_pyhessian}


def attempt(problem: _networks.Problem, run: Callable[[], Any]) -> Any:
    """Run; return what comes out, or the error's first line."""
    try:
        return run()
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:100]
    finally:
        problem.model.zero_grad(set_to_none=True)


def build(make: Callable[..., _networks.Problem], **options: Any) -> _networks.Problem:
    """Make a problem, the same at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(**options)


def times(problem: _networks.Problem, rounds: int) -> dict[str, Any]:
    """Time the contestants in turns, so that a busy moment of the machine meets all of them."""
    print(f"{problem.name}, n = {problem.size:,}", flush=True)
    A = Timed(ours(problem, "auto"))
    contestants: dict[str, Callable[[int], Any]] = {"slq": partial(with_slq, A)}
    contestants |= {name: partial(run, problem) for name, run in PEERS.items()}
    row: dict[str, Any] = {"name": problem.name, "n": problem.size, **{name: [] for name in contestants}}
    for seed in range(rounds):
        A.inside = 0.0
        for name, run in contestants.items():
            row[name].append(attempt(problem, partial(seconds, run, seed)))
        row["outside"] = row["slq"][-1] - A.inside
        print("  " + ", ".join(f"{name} {_text(row[name][-1])}" for name in contestants), flush=True)
    print(f"  {row['outside']:.3g} s of the last call of slq outside products\n{A.engine}", flush=True)
    return row


def seconds(run: Callable[[int], Any], seed: int) -> float:
    """Return the seconds of one call."""
    began = CLOCK[0]()
    run(seed)
    return CLOCK[0]() - began


def errors(seeds: int) -> None:
    """Print distances to the exact spectrum, of nodes and of densities, over the range of the spectrum."""
    problem = build(_networks.tiny_mlp, pixels=_PIXELS)
    H = ours(problem, "auto")
    A = H.matmat(torch.eye(problem.size)).double()
    exact = np.linalg.eigvalsh(((A + A.T) / 2).numpy())
    contestants: dict[str, Callable[[int], dict[str, Law]]] = {"slq": partial(with_slq, H)}
    contestants |= {name: partial(run, problem) for name, run in PEERS.items()}
    for name, run in contestants.items():
        found = [attempt(problem, partial(run, seed)) for seed in range(seeds)]
        if isinstance(found[0], str):
            print(f"  {name}: {found[0]}")
            continue
        for kind in found[0]:
            apart = [_apart(*laws[kind], exact) / np.ptp(exact) for laws in found]
            print(f"  {name} {kind}: median {statistics.median(apart):.2e}, worst {max(apart):.2e}", flush=True)


def _text(found: Any) -> str:
    return f"{found:.4g} s" if isinstance(found, float) else f"({found})"


def _apart(x: Any, mass: Any, exact: Any) -> float:
    """Return the Wasserstein distance; a grid that is not even carries its widths."""
    x, mass = np.asarray(x, np.float64), np.clip(np.asarray(mass, np.float64), 0, None)
    if np.all(np.diff(x) > 0):
        mass = mass * np.gradient(x)
    return float(wasserstein_distance(x, exact, mass))


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", default=["mlp", "resnet20"])
    parser.add_argument("--images", type=int, default=128, help="of ResNet-20; fewer let the others end in minutes")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--error", action="store_true", help="measure distances to an exact spectrum")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--cpu", action="store_true", help="one thread, seconds of the processor")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.cpu:
        torch.set_num_threads(1)
        CLOCK[0] = time.process_time
    if options.error:
        errors(9)
        return
    makes: dict[str, Callable[[], _networks.Problem]] = {
        "mlp": partial(build, _networks.tiny_mlp),
        "resnet20": partial(build, _networks.resnet20, images=options.images),
    }
    rows = [times(makes[name](), options.rounds) for name in options.problems]
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"torch": torch.__version__, "threads": torch.get_num_threads(), "results": rows}, file)


if __name__ == "__main__":
    main()
