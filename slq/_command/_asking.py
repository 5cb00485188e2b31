"""The verbs of the command `slq` that answer one question: a trace, eigenvalues, how far two results differ.

Like those in `_verbs`: a docstring is a help text, a signature the options, and the exit status comes back.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from slq._command._report import estimate_as_json, estimates_as_json
from slq._command._terminal import Flag, note, require_checkpoint, result_file, say, tell, watched
from slq._errors import RunError, SlqWarning
from slq._estimates import Estimate
from slq._spectrum._spectrum import Spectrum, load
from slq._traces._functions import trace as trace_of


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
    gram: Flag = False,
    symmetric_part: Flag = False,
    timeout: float | None = None,
    json: Flag = False,
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
    timeout : float
        Seconds that one product may take; without limit by default. A matrix in a file needs none.
    json : bool
        Print one JSON object.
    """
    if (run := _result(source)) is not None:
        found = run.trace(function, shift=shift, lower=lower)
    else:
        from slq._files._sources import operator_from

        operator = operator_from(source, gram=gram, symmetric_part=symmetric_part)
        found = trace_of(
            operator, function, rtol, atol=atol, shift=shift, lower=lower, rng=seed, confidence=confidence,
            max_products=max_products, timeout=timeout,
        )  # fmt: skip
    say(estimate_as_json(found) if json else _told(found))
    return 0


def eigs(
    source: str,
    /,
    *,
    k: Annotated[int, Parameter(name="-k")] = 6,
    which: Literal["LM", "LA", "SA", "BE"] = "LM",
    tol: float = 0.0,
    seed: int | None = None,
    max_products: int | None = None,
    gram: Flag = False,
    symmetric_part: Flag = False,
    checkpoint: Path | None = None,
    resume: Flag = False,
    timeout: float | None = None,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    json: Flag = False,
) -> int:
    """Compute eigenvalues at the ends of the spectrum, and verify that none was missed.

    The exit status is 1 if any of them has not converged.

    Parameters
    ----------
    source : str
        As for `slq run`: a matrix file, or module:factory.
    k : int
        How many.
    which : {"LM", "LA", "SA", "BE"}
        Those of largest magnitude, the largest, the smallest, or half from each end.
    tol : float
        Residual relative to the value that counts as converged; 0 for as much as rounding allows.
    seed : int
        Makes the run repeatable.
    max_products : int
        Never multiply by more vectors than this.
    gram : bool
        Take A^T A, for squared singular values; A may be rectangular.
    symmetric_part : bool
        Take (A + A^T) / 2.
    checkpoint : Path
        An .npz file that the search is written to as it goes, and resumed from where it exists.
    resume : bool
        Only resume: fail where CHECKPOINT does not exist.
    timeout : float
        Seconds that one product may take; without limit by default. A matrix in a file needs none.
    out : Path
        Write values, residuals and vectors to this .npz file.
    json : bool
        Print one JSON object instead of the table.
    """
    import numpy as np

    from slq._arrays import to_host
    from slq._eigen._eigen import eigsh
    from slq._files._sources import operator_from

    target = None if out is None else result_file(source, out)
    require_checkpoint(checkpoint, resume)
    operator = operator_from(source, gram=gram, symmetric_part=symmetric_part)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SlqWarning)  # the result names them, and `_tell` shows them
            pairs = eigsh(
                operator, k, which=which, tol=tol, rng=seed, max_products=max_products, progress=watched(),
                checkpoint=checkpoint, timeout=timeout,
            )  # fmt: skip
    except RunError as error:
        if error.partial is not None:
            tell(error.partial, json)
        raise
    tell(pairs, json)
    if target is not None:
        np.savez(target, values=pairs.values, residuals=pairs.residuals, vectors=to_host(pairs.vectors))
        note(f"written: {target}: values, residuals, vectors.")
    if pairs.status.startswith("interrupted"):
        msg = f"the same command goes on from {checkpoint}."
        raise KeyboardInterrupt(msg)
    return 0 if pairs.converged.all() else 1


def compare(first: Path, second: Path, /, *, json: Flag = False) -> int:
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
    say(estimates_as_json(rows) if json else "\n".join(lines))
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
