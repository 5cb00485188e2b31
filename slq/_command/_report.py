"""What the command line says of a result, as JSON. Strings come out; nothing is printed here."""

from __future__ import annotations

import json
import math
from typing import Any

from slq._eigen._eigenpairs import Eigenpairs
from slq._estimates import Estimate
from slq._history._history import History
from slq._quadrature._outliers import Outliers
from slq._spectrum._spectrum import Spectrum


def as_json(result: Spectrum | Eigenpairs) -> str:
    """Return the main figures of a result as one JSON object; numbers that JSON cannot write become null."""
    found = figures_of_pairs(result) if isinstance(result, Eigenpairs) else figures(result)
    return json.dumps(_finite(found), indent=2, allow_nan=False, default=str)


def figures_of_pairs(pairs: Eigenpairs) -> dict[str, Any]:
    """Return eigenvalues, residuals and what is known about the others."""
    names = ("n", "which", "tol", "products", "seconds", "status", "seed", "verified", "confidence")
    return {name: getattr(pairs, name) for name in names} | {
        "values": pairs.values.tolist(),
        "residuals": pairs.residuals.tolist(),
        "converged": pairs.converged.tolist(),
        "rest": dict(zip(("low", "high"), pairs.rest, strict=True)),
        "warnings": list(pairs.warnings),
    }


def estimate_as_json(found: Estimate) -> str:
    """Return an estimate as one JSON object."""
    return json.dumps(_finite(_whole(found)), indent=2, allow_nan=False)


def estimates_as_json(found: dict[str, Estimate]) -> str:
    """Return named estimates as one JSON object."""
    return json.dumps(_finite({name: _whole(item) for name, item in found.items()}), indent=2, allow_nan=False)


def history_as_json(history: History) -> str:
    """Return steps, numbers and notes of a history as one JSON object."""
    columns = {name: values.tolist() for name, values in {**history.scalars, **history.arrays}.items()}
    told = {
        "steps": history.steps.tolist(),
        **columns,
        "notes": list(history.notes),
        "metadata": dict(history.metadata),
    }
    return json.dumps(_finite(told), indent=2, allow_nan=False, default=str)


def figures(spectrum: Spectrum) -> dict[str, Any]:
    """Return the main figures of a spectrum: what was run, what came out, how wrong it can be."""
    budget = spectrum.error
    error = {name: getattr(budget, name) for name in ("total", "quadrature", "quadrature_bound", "sampling", "numeric")}
    return {
        "n": spectrum.n,
        "probes": spectrum.probes,
        "steps": spectrum.steps,
        "products": spectrum.products,
        "seconds": spectrum.seconds,
        "status": spectrum.status,
        "seed": spectrum.seed,
        "kind": spectrum.kind,
        "reorth": spectrum.reorth,
        "confidence": spectrum.confidence,
        "claims": "certified" if spectrum.certified else "estimate",
        "edges": dict(zip(("low", "high"), spectrum.edges, strict=True)),
        "outliers": _outliers(spectrum.outliers),
        "trace": _estimate(spectrum.trace()),
        "trace_of_square": _estimate(spectrum.trace("square")),
        "error": error | {"unit": f"share of the {spectrum.coordinate().scale} range", "advice": budget.advice},
        "warnings": list(spectrum.warnings),
        "metadata": dict(spectrum.metadata),
    }


def _outliers(found: Outliers) -> list[dict[str, Any]]:
    columns = zip(found.values, found.residuals, found.multiplicities, found.exact, strict=True)
    return [
        {"value": float(v), "low": float(v - r), "high": float(v + r), "multiplicity": float(m), "exact": bool(e)}
        for v, r, m, e in columns
    ]


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "claim")}


def _whole(found: Estimate) -> dict[str, Any]:
    """Return all that an estimate holds."""
    parts = {name: getattr(found.error, name) for name in ("sampling", "quadrature", "numeric")}
    return _estimate(found) | {"error": parts, "confidence": found.confidence}


def _finite(value: Any) -> Any:
    """Replace infinities and NaN, for which JSON has no number, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
