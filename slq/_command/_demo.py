"""`slq demo`: the Hessian of a small network, by slq from few products and exactly, side by side.

Every line of the table compares what slq said with the truth and with what it had promised; one that does not keep
its promise is a FAIL and the exit status 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from slq._arrays import Floats
from slq._estimates import Estimate
from slq._quadrature._coordinate import Coordinate
from slq._run._driver import spectrum
from slq._spectrum._spectrum import Spectrum

_TOLERANCE = 0.01
_SEED = 0
# Held-out images that must be classified right: a network that has learnt nothing has another spectrum.
_LEARNT = 0.95
# Outliers are what lies above this share of the largest eigenvalue.
_OUTLIER = 0.05
# The two exact Hessians agree to this share of their largest entry; the extreme eigenvalues to this share of the range.
_AGREE, _EXTREME = 1e-10, 1e-3
_POINTS = 20_000
_NEEDS = {"torch": "torch", "sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table.

    Attributes
    ----------
    name : str
        What is compared.
    found, exact, promise : str
        What slq says, what is true, and what was promised.
    passed : bool
        Whether the promise was kept.
    """

    name: str
    found: str
    exact: str
    promise: str
    passed: bool


@dataclass(frozen=True, slots=True)
class Clock:
    """What one way of computing took.

    Attributes
    ----------
    method : str
        Which.
    products : int
        Columns that the Hessian was multiplied by.
    seconds : float
        Wall time.
    """

    method: str
    products: int
    seconds: float


def demonstrate(out: Path) -> int:
    """Run the demo, write demo.png and demo.npz into a folder, and return the exit status."""
    missing = [name for module, name in _NEEDS.items() if find_spec(module) is None]
    if missing:
        msg = f"`slq demo` needs {', '.join(missing)}: python -m pip install 'slq[demo]'"
        raise ImportError(msg)
    from rich.console import Console

    from slq._command._digits import one_thread

    out.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False, soft_wrap=False)
    with one_thread():
        result, exact, checks, clocks = _compute(console)
    _print_tables(console, result, checks, clocks)
    saved, picture = result.save(out / "demo.npz"), _draw(result, exact, out / "demo.png")
    failed = sum(not check.passed for check in checks)
    verdict = f"FAIL: {failed} of {len(checks)} checks" if failed else f"PASS: all {len(checks)} checks"
    console.print(f"\n{verdict}", style="bold red" if failed else "bold green")
    for line in (f"Picture  {picture}", f"Result   {saved}", "Next     slq show " + str(saved)):
        console.print(line, soft_wrap=True)
    console.print(f"         slq plot {saved} --kind cdf --out {out / 'cdf.png'}", soft_wrap=True)
    return 1 if failed else 0


def _compute(console: Any) -> tuple[Spectrum, Floats, list[Check], list[Clock]]:
    """Train, compute the spectrum by slq and exactly, and compare."""
    import slq_torch

    from slq._command import _digits

    task = _digits.trained()
    operator = slq_torch.hessian(task.model, _digits.mean_loss, task.batches)
    n = operator.shape[0]
    console.print(f"A network 64-24-10 (tanh) reads digits: {n:,} parameters, float64, CPU.")
    console.print(f"Its Hessian: training loss of {len(task.data[1]):,} images in {len(task.batches)} batches.\n")
    result, quick = _timed(lambda: spectrum(operator, tol=_TOLERANCE, rng=_SEED))
    mine, slow = _timed(lambda: _digits.dense_by_products(operator))
    truth, reference = _timed(lambda: _digits.dense_by_torch(task))
    exact = np.linalg.eigvalsh(truth.numpy())
    difference = float((mine - truth).abs().max() / truth.abs().max())
    checks = [
        _check("held-out digits right", f"{task.accuracy:.1%}", "", f"> {_LEARNT:.0%}", task.accuracy > _LEARNT),
        _check("H against torch.func", f"{difference:.0e} off", "", f"< {_AGREE:.0e}", difference < _AGREE),
        *compare(result, exact),
    ]
    clocks = [
        Clock(f"slq.spectrum, tol = {_TOLERANCE:g}", result.products, quick),
        Clock("all columns, by the same operator", n, slow),
        Clock("all columns, by torch.func (the reference)", n, reference),
    ]
    return result, exact, checks, clocks


def compare(result: Spectrum, exact: Floats) -> list[Check]:
    """Compare a spectrum with all exact eigenvalues.

    Parameters
    ----------
    result : Spectrum
        What slq found.
    exact : ndarray, shape (n,)
        Ascending eigenvalues.
    """
    span, (low, high) = float(exact[-1] - exact[0]), result.edges
    coordinate, linear = result.coordinate(), Coordinate("linear")
    limit = _OUTLIER * float(exact[-1])
    plain, shown = (distance(result, exact, c) for c in (linear, coordinate))
    covered = _covered(result, exact, coordinate)
    return [
        _extreme("largest eigenvalue", float(result.nodes.max()), float(exact[-1]), span),
        _extreme("smallest eigenvalue", float(result.nodes.min()), float(exact[0]), span),
        _check("all eigenvalues in", f"[{low:.4g}, {high:.4g}]", "", "certified",
               low <= exact[0] and exact[-1] <= high),
        _interval(f"number > {_OUTLIER:.0%} of largest", result.count(limit, np.inf), float(np.sum(exact > limit))),
        _interval("trace of H", result.trace(), float(exact.sum())),
        _interval("trace of H²", result.trace("square"), float(np.square(exact).sum())),
        _check("distance, linear axis", f"{plain:.3%}", "0", f"< {_TOLERANCE:.0%} of range", plain < _TOLERANCE),
        _check(f"distance, {coordinate.scale} axis", f"{shown:.2%}", "0", f"< stated {result.error.total:.2%}",
               shown < result.error.total),
        _check("CDF inside its band", f"{covered:.1%}", "100%", "everywhere", covered == 1.0),
    ]  # fmt: skip


def distance(result: Spectrum, exact: Floats, coordinate: Coordinate) -> float:
    """Return the Wasserstein distance to the exact spectrum along an axis, as a share of its range."""
    x, y = _axis(exact, coordinate)
    return float(np.trapezoid(np.abs(result.cdf(x).value - _share(exact, x)), y) / (y[-1] - y[0]))


def _covered(result: Spectrum, exact: Floats, coordinate: Coordinate) -> float:
    """Return the share of the axis where the band holds the exact distribution function."""
    x, _ = _axis(exact, coordinate)
    band, share = result.cdf(x), _share(exact, x)
    rounding = 1e-12
    return float(np.mean((band.low - rounding <= share) & (share <= band.high + rounding)))


def _axis(exact: Floats, coordinate: Coordinate) -> tuple[Floats, Floats]:
    first, last = coordinate.forward(exact[[0, -1]])
    y = np.linspace(first, last, _POINTS)
    return coordinate.inverse(y), y


def _share(exact: Floats, x: Floats) -> Floats:
    return np.searchsorted(exact, x, side="right") / exact.size


def _timed(call: Any) -> tuple[Any, float]:
    began = perf_counter()
    return call(), perf_counter() - began


def _check(name: str, found: str, exact: str, promise: str, passed: Any) -> Check:
    return Check(name, found, exact, promise, bool(passed))


def _extreme(name: str, found: float, exact: float, span: float) -> Check:
    return _check(
        name, f"{found:.6g}", f"{exact:.6g}", f"± {_EXTREME:.1%} of range", abs(found - exact) < _EXTREME * span
    )


def _interval(name: str, found: Estimate, exact: float) -> Check:
    text = f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}]"
    return _check(name, text, f"{exact:.5g}", f"{found.confidence:.0%} interval", found.low <= exact <= found.high)


def _print_tables(console: Any, result: Spectrum, checks: list[Check], clocks: list[Clock]) -> None:
    from rich.table import Table
    from rich.text import Text

    costs = Table("method", box=None, pad_edge=False, header_style="bold")
    for name in ("products", "seconds"):
        costs.add_column(name, justify="right")
    for clock in clocks:
        costs.add_row(clock.method, f"{clock.products:,}", f"{clock.seconds:.1f}")
    table = Table("check", "slq", "exact", "promised", "", box=None, pad_edge=False, header_style="bold")
    for check in checks:
        verdict = Text("PASS", style="green") if check.passed else Text("FAIL", style="bold red")
        table.add_row(check.name, Text(check.found), check.exact, check.promise, verdict)
    error = result.error
    console.print(costs)
    console.print()
    console.print(table)
    console.print(f"\nError stated by slq: {error.total:.2%} of the {result.coordinate().scale} range, of which")
    console.print(
        f"steps {error.quadrature:.2%}, probes {error.sampling:.2%}, rounding {error.numeric:.0e}; {error.advice}."
    )


def _draw(result: Spectrum, exact: Floats, picture: Path) -> Path:
    from matplotlib.figure import Figure

    from slq import plot

    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    plot.density(result, figure.add_subplot(), exact=exact)
    figure.savefig(picture, dpi=200)
    return picture
