"""The verbs of the command `slq` that answer one question: the trace of a function, how far two results differ.

Like those in `_verbs`: a docstring is a help text, a signature the options, and the exit status comes back.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from slq._estimates import Estimate
from slq._functions import trace as trace_of
from slq._report import estimate_as_json, estimates_as_json
from slq._spectrum import Spectrum, load

_Flag = Annotated[bool, Parameter(show_default=False)]


def trace(
    source: str,
    /,
    *,
    function: Annotated[str, Parameter(name=("--function", "-f"))] = "identity",
    rtol: float = 1e-2,
    atol: float = 0.0,
    shift: float = 0.0,
    lower: float | None = None,
    seed: int | None = None,
    confidence: float = 0.95,
    max_products: int | None = None,
    gram: _Flag = False,
    symmetric_part: _Flag = False,
    json: _Flag = False,
) -> int:
    """Estimate the trace of a function of a matrix, such as its log-determinant.

    Parameters
    ----------
    source : str
        A matrix or a function that returns one, as for `slq run`; or a result of `slq run`, which costs no product and
        is as precise as that run.
    function : str
        One of identity, square, log, inverse, sqrt, exp, cosh, entropy (-x log x), or a power such as "x**1.5".
    rtol : float
        Half-width of the interval to reach, relative to the value.
    atol : float
        The same, absolute; the larger of both counts.
    shift : float
        Added to every eigenvalue: 1e-3 asks of A + 1e-3 I.
    lower : float
        A bound below all eigenvalues of A + shift I that you know.
    seed : int
        Makes the run repeatable.
    confidence : float
        Of the interval.
    max_products : int
        Never multiply by more vectors than this.
    gram : bool
        Take A^T A; A may be rectangular.
    symmetric_part : bool
        Take (A + A^T) / 2.
    json : bool
        Print one JSON object.
    """
    if (run := _result(source)) is not None:
        found = run.trace(function, shift=shift, lower=lower)
    else:
        from slq._sources import operator_from

        operator = operator_from(source, gram=gram, symmetric_part=symmetric_part)
        found = trace_of(
            operator, function, rtol, atol=atol, shift=shift, lower=lower, rng=seed, confidence=confidence,
            max_products=max_products,
        )  # fmt: skip
    sys.stdout.write((estimate_as_json(found) if json else _told(found)) + "\n")
    return 0


def compare(first: Path, second: Path, /, *, json: _Flag = False) -> int:
    """Tell how far two results differ, and whether that is more than their errors.

    Parameters
    ----------
    first : Path
        Written by `slq run` or `Spectrum.save`.
    second : Path
        The same.
    json : bool
        Print one JSON object.
    """
    one, two = load(first), load(second)
    rows: dict[str, Estimate] = {
        "distance (Wasserstein)": one.distance(two),
        "distance (Kolmogorov)": one.distance(two, "kolmogorov"),
    }
    for name, spectrum in (("first", one), ("second", two)):
        rows |= {
            f"mean, {name}": spectrum.moment(1),
            f"mean square, {name}": spectrum.moment(2),
            f"largest magnitude, {name}": spectrum.schatten_norm(float("inf")),
            f"below zero, {name}": spectrum.negative_count(),
        }
    lines = [f"{name:<26}{found}" for name, found in rows.items()]
    differ = any(found.low > 0 for found in (rows["distance (Wasserstein)"], rows["distance (Kolmogorov)"]))
    lines.append("They differ by more than their errors." if differ else "They agree within their errors.")
    sys.stdout.write((estimates_as_json(rows) if json else "\n".join(lines)) + "\n")
    return 0


def _result(source: str) -> Spectrum | None:
    """Return the run that a file holds, None where the source is something else."""
    if not source.endswith(".npz"):
        return None
    try:
        return load(source)
    except (OSError, ValueError):  # a matrix, or what the reader of matrices has a message for
        return None


def _told(found: Estimate) -> str:
    """Say a number, and what its error is made of."""
    parts: list[Any] = [(name, getattr(found.error, name)) for name in ("sampling", "quadrature", "numeric")]
    return f"{found}\n" + ", ".join(f"{name} {value:.2g}" for name, value in parts) + f" · {found.claim}"
