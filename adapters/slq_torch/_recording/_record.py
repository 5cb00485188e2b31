"""One record: spectrum, top eigenpairs and where the gradient lies, at the parameters as they are."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import slq
from slq._history._one_run import spectrum_and_top
from slq_torch._curvature._evaluation import mean_gradient, mean_loss
from slq_torch._curvature._operator import CurvatureOperator


@dataclass(frozen=True, slots=True)
class Measured:
    """What a record holds, and what the next one starts from."""

    spectrum: slq.Spectrum | None = None
    scalars: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)
    vectors: Tensor | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured, and how exactly; see `Recorder`."""

    top: int
    energy: int
    accuracy: float
    spectrum: dict[str, Any]


# Names of the numbers of a record; a user's own may not have these.
SCALARS = (
    "evaluation_loss", "gradient_norm", "gradient_concentration", "subspace_overlap", "largest", "smallest", "trace",
    "trace_ratio", "negative_mass", "outliers", "outlier_ratio", "products", "seconds",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Before:
    """What is known from the record before: its top eigenvectors, (n, k), and its spectrum."""

    vectors: Tensor | None = None
    spectrum: slq.Spectrum | None = None


def measure(make: Callable[[], CurvatureOperator], settings: Settings, before: Before) -> Measured:
    """Measure the matrix that `make` gives; the first is tested for symmetry and repeatability.

    Parameters
    ----------
    make : callable
        Returns the operator at the parameters as they are.
    settings : Settings
        What to measure.
    before : Before
        The record before; dropped where n is another one.
    """
    operator = make()
    passes, params, n = operator._passes, operator._params, operator.shape[0]
    scalars = {"evaluation_loss": mean_loss(passes)}
    if not math.isfinite(scalars["evaluation_loss"]):
        return Measured(scalars=scalars, notes=(f"the loss is {scalars['evaluation_loss']}",))
    last = before.spectrum if before.spectrum is not None and before.spectrum.n == n else None
    subspace = _usable(before.vectors, operator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slq.SlqWarning)  # the spectrum names them; they become notes
        gradient = mean_gradient(passes, params, operator._accumulate)
        scalars["gradient_norm"] = float(torch.linalg.vector_norm(gradient))
        spectrum, top = spectrum_and_top(
            operator,
            min(settings.top, n),
            **settings.spectrum,
            accuracy=settings.accuracy,
            before=subspace,
            expected=None if last is None or last.kind == "exact" else last.steps,
            test=last is None,
        )
        arrays, products = dict[str, Any](), spectrum.products
        if top is not None:
            arrays |= {"eigenvalues": top.values, "eigenvalue_residuals": top.residuals}
            scalars["outlier_ratio"] = slq.outlier_ratio(top.values, len(top.values))
            scalars["gradient_concentration"] = slq.gradient_concentration(gradient, top.vectors)
            if subspace is not None:
                scalars["subspace_overlap"] = slq.subspace_overlap(subspace, top.vectors)
            products += top.products
        if settings.energy and scalars["gradient_norm"] > 0:
            rule = slq.gradient_energy(operator, gradient, settings.energy)
            arrays |= {"gradient_nodes": rule.nodes[0], "gradient_energy": rule.weights[0]}
            products += rule.nodes.shape[1]
        scalars |= _of(spectrum) | {"products": float(products)}
        if top is not None:  # the eigenpairs went on where the spectrum stopped
            scalars["largest"] = max(scalars["largest"], float(top.values[0]))
    return Measured(spectrum, scalars, arrays, None if top is None else top.vectors, spectrum.warnings)


def _usable(vectors: Tensor | None, operator: CurvatureOperator) -> Tensor | None:
    """Return vectors where the operator is, None where they are not its own."""
    if vectors is None or vectors.shape[0] != operator.shape[0] or not bool(torch.isfinite(vectors).all()):
        return None
    return vectors.to(operator.device, operator.dtype)


def _of(spectrum: slq.Spectrum) -> dict[str, float]:
    """Return the numbers of a spectrum."""
    return {
        "largest": float(spectrum.nodes.max()),
        "smallest": float(spectrum.nodes.min()),
        "trace": spectrum.trace().value,
        "trace_ratio": slq.trace_ratio(spectrum).value,
        "negative_mass": slq.negative_mass(spectrum).value,
        "outliers": float(spectrum.outliers.multiplicities.sum()),
    }
