"""One record: spectrum, top eigenpairs and where the gradient lies, at the parameters as they are."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import slq
from slq_torch._evaluation import mean_gradient, mean_loss
from slq_torch._operator import CurvatureOperator


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


def measure(make: Callable[[], CurvatureOperator], settings: Settings, start: Tensor | None) -> Measured:
    """Measure the matrix that `make` gives.

    Parameters
    ----------
    make : callable
        Returns the operator at the parameters as they are.
    settings : Settings
        What to measure.
    start : Tensor, optional
        Top eigenvectors of the record before, (n, k); dropped where n is another one.
    """
    operator = make()
    passes, params = operator._passes, operator._params
    scalars = {"evaluation_loss": mean_loss(passes)}
    if not math.isfinite(scalars["evaluation_loss"]):
        return Measured(scalars=scalars, notes=(f"the loss is {scalars['evaluation_loss']}",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slq.SlqWarning)  # the spectrum names them; they become notes
        gradient = mean_gradient(passes, params, operator._accumulate)
        scalars["gradient_norm"] = float(torch.linalg.vector_norm(gradient))
        spectrum = slq.spectrum(operator, **settings.spectrum)
        arrays, products = dict[str, Any](), spectrum.products
        vectors = None
        if settings.top:
            vectors, spent = _top(operator, gradient, settings, start, scalars, arrays)
            products += spent
        if settings.energy and scalars["gradient_norm"] > 0:
            rule = slq.gradient_energy(operator, gradient, settings.energy)
            arrays |= {"gradient_nodes": rule.nodes[0], "gradient_energy": rule.weights[0]}
            products += rule.nodes.shape[1]
        scalars |= _of(spectrum) | {"products": float(products)}
    return Measured(spectrum, scalars, arrays, vectors, spectrum.warnings)


def _top(
    operator: CurvatureOperator,
    gradient: Tensor,
    settings: Settings,
    start: Tensor | None,
    scalars: dict[str, float],
    arrays: dict[str, Any],
) -> tuple[Tensor, int]:
    """Compute the top eigenpairs and what follows from them; return the vectors and the products spent."""
    n = operator.shape[0]
    usable = start is not None and start.shape[0] == n and bool(torch.isfinite(start).all())
    before = start.to(operator.device, operator.dtype) if start is not None and usable else None
    pairs = slq.eigsh(
        operator, min(settings.top, n), which="LA", tol=settings.accuracy, start=before, rng=settings.spectrum["rng"]
    )
    order = np.argsort(-np.asarray(pairs.values))
    vectors = pairs.vectors[:, torch.as_tensor(order.copy(), device=operator.device)]
    arrays |= {"eigenvalues": pairs.values[order], "eigenvalue_residuals": pairs.residuals[order]}
    scalars["outlier_ratio"] = slq.outlier_ratio(pairs.values, len(order))
    scalars["gradient_concentration"] = slq.gradient_concentration(gradient, vectors)
    if before is not None:
        scalars["subspace_overlap"] = slq.subspace_overlap(before, vectors)
    return vectors, int(pairs.products)


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
