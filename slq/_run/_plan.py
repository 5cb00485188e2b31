"""What a run will cost, before anything but two products is spent.

Steps and probes follow from the tolerance by what is typical (measured on the gallery); the driver adapts to what it
finds. Seconds follow from timed products, bytes from the sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np

from slq import _arrays
from slq._lanczos import _probes
from slq._lanczos._basis import Precision
from slq._lanczos._lanczos import LanczosRun, Reorth
from slq._operators._operators import Operator
from slq._quadrature._budget import scatter_of_one, settled
from slq._quadrature._quadrature import gauss
from slq._run._driver import FIRST_LOOK, LEAST_LEFT
from slq._run._opening import open_session, validate_tolerance
from slq._run._orthogonality import too_slow
from slq._run._session import Session

# The quadrature error told after m steps on smooth spectra (semicircle, Marchenko-Pastur, Laplacians): the larger of
# these over m and over m**2. Where two steps show a heavy tail, about 40 steps are made whatever the tolerance: they
# go into resolving outliers (Hessian-like spectra).
_SMOOTH, _FIRST, _HEAVY = 0.082, 0.7, 40
# Distance of the two nodes of a two-step rule in standard deviations: 2 for a symmetric spectrum, more for heavy tails.
_HEAVY_STRETCH = 6.0
# Mean of sqrt(F (1 - F)) over the range, in standard deviations per distance of those nodes: 0.35 for a semicircle.
_DEVIATION = 0.7


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """The predicted cost of `slq.spectrum`. Prints as a table.

    Attributes
    ----------
    n : int
        Dimension.
    tol : float
        Tolerance planned for.
    probes, steps : int
        Expected numbers.
    products : int
        Expected columns multiplied, tests included.
    seconds : float
        Expected time: products at the measured speed, and projections at memory speed.
    bytes : float
        Peak memory of the Krylov vectors.
    reorth : {"full", "none"}
        Expected policy.
    basis : str
        Precision in which past Krylov vectors would be kept; "none" where they would not.
    batch : int
        Columns multiplied at once.
    seconds_per_column : float
        Measured on the two products spent.
    product_bytes : int or None
        Peak memory of one product beside the Krylov vectors, where the operator tells.
    """

    n: int
    tol: float
    probes: int
    steps: int
    products: int
    seconds: float
    bytes: float
    reorth: Reorth
    basis: str
    batch: int
    seconds_per_column: float
    product_bytes: int | None = None

    @property
    def _policy(self) -> str:
        return self.reorth if self.basis in ("none", "float64") else f"{self.reorth}, past ones in {self.basis}"

    def __repr__(self) -> str:
        rows = [
            ("operator", f"{self.n:,} × {self.n:,}".replace(",", " ")),
            ("tolerance", f"{self.tol:g} of the displayed range"),
            ("products", f"{self.products} ({self.probes} probes × {self.steps} steps, and tests)"),
            ("time", f"{self.seconds:.3g} s ({self.seconds_per_column:.2g} s per column, {self.batch} at once)"),
            ("memory", f"{_size(self.bytes)} for Krylov vectors, re-orthogonalisation: {self._policy}"),
        ]
        if self.product_bytes is not None:
            rows.append(("", f"{_size(self.product_bytes)} for a product"))
        return "\n".join(f"{name:<10} {text}" for name, text in rows)


def plan(
    A: Any,
    /,
    *,
    tol: float = 0.01,
    probes: int | None = None,
    steps: int | None = None,
    reorth: Literal["auto", "full", "none"] = "auto",
    basis: Precision | Literal["auto"] = "auto",
    dtype: Any = None,
    batch: int | Literal["auto"] = "auto",
    memory: float | None = None,
) -> Plan:
    """Predict what `slq.spectrum` with the same arguments will cost, from two products.

    Operators that measure the memory of their products, as those of `slq_torch` do, are multiplied with up to two
    blocks of as many columns as the run will take at once; what they learn thereby they need not learn again.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    tol : float, default 0.01
        Tolerance, as for `slq.spectrum`; so are the others.
    probes, steps : int, optional
        Fixed numbers.
    reorth : {"auto", "full", "none"}, default "auto"
        Policy.
    basis : {"auto", "float64", "float32", "float16"}, default "auto"
        Precision of past Krylov vectors.
    dtype : dtype, optional
        Of the Krylov vectors.
    batch : int or "auto"
        Columns at once.
    memory : float, optional
        Bytes for Krylov vectors.

    Returns
    -------
    Plan
        Expect the products to be right within a factor 1.5 or by one probe, more where the spectrum is unusual.

    Raises
    ------
    ValueError, TypeError
        As `slq.spectrum`.

    Examples
    --------
    >>> import slq
    >>> operator, _ = slq.gallery.semicircle(5000)
    >>> p = slq.plan(operator, tol=0.02)
    >>> p.products == p.probes * p.steps + 1
    True
    """
    validate_tolerance(tol)
    session = open_session(
        A, probes=probes, steps=steps, rng=0, reorth=reorth, basis=basis, dtype=dtype, batch=batch, memory=memory
    )
    operator, choice = session.operator, session.choice
    seconds, stretch = _sample(operator)
    scatter = scatter_of_one(operator.n, _DEVIATION / stretch)
    m = min(choice.steps, steps or _scheduled(scatter, choice.probes, tol, heavy=stretch > _HEAVY_STRETCH))
    left = max(tol - _quadrature(m), LEAST_LEFT * tol)
    k = probes or max(choice.probes, int(np.ceil((scatter / left) ** 2)))
    resolved = steps is None and (k - choice.probes) * m > choice.probes * (operator.n - m)
    if probes is None and (resolved or m == operator.n):
        k, m = choice.probes, operator.n
    products = k * m + (2 if k == 1 else 1)
    if probes is None and steps is None and (dense := _all_columns(session, choice.probes * m, products)):
        products = dense
    width = choice.width(k, m, choice.reorth)
    itemsize = _arrays.itemsize(_arrays.working_dtype(operator.dtype if dtype is None else dtype, operator.xp))
    policy, projections = choice.reorth, session.projections.seconds(k, m)
    if choice.automatic and too_slow(projections, products * seconds):
        policy = "none"
    held = max(width, choice.first_batch) * choice.vectors(m, policy) + choice.references
    total = products * seconds + (projections if policy == "full" else 0.0)
    tell = getattr(A, "product_bytes", None)
    block = tell(width) if callable(tell) else None
    size = float(held * operator.n * itemsize)
    kept = session.projections.precision if policy == "full" else "none"
    return Plan(session.n, tol, k, m, products, total, size, policy, kept, width, seconds, block)


def _all_columns(session: Session, begun: int, products: int) -> int:
    """Return what is multiplied where all columns take the place of further probes, 0 where they do not."""
    if session.diagonalising_is_cheaper(session.width * FIRST_LOOK):
        return session.n + 1
    if session.diagonalising_is_cheaper(max(begun, products - begun)):
        return min(begun, session.n) + session.n + 1
    return 0


def _sample(operator: Operator) -> tuple[float, float]:
    """Make two steps of one probe: seconds per column, and the distance of the two nodes in standard deviations."""
    v = _probes.probe(operator.n, seed=0, index=0, shards=operator.shards)
    start = _arrays.from_host(
        v, operator.xp, dtype=_arrays.working_dtype(operator.dtype, operator.xp), device=operator.device
    )
    run, began = LanczosRun(operator, start[None, :], reorth="none"), perf_counter()
    run.advance(1)
    between = perf_counter()
    run.advance(1)  # the first product may have compiled something, which is paid once
    seconds = perf_counter() - between if run.steps > 1 else between - began
    rule = gauss(run.tridiagonal())
    nodes, weights = rule.nodes[0] / (float(np.abs(rule.nodes[0]).max()) or 1.0), rule.weights[0]
    spread = float(np.sqrt(np.average((nodes - np.average(nodes, weights=weights)) ** 2, weights=weights)))
    (seconds,) = operator.shards.mean(seconds)
    return float(seconds), float(nodes[-1] - nodes[0]) / spread if spread > 0 else 2.0


def _scheduled(scatter: float, probes: int, tol: float, *, heavy: bool) -> int:
    """Return at which of its looks the driver stops to take steps."""
    m = FIRST_LOOK
    while m < _HEAVY if heavy else not settled(_quadrature(m), scatter, probes, tol):
        m += max(FIRST_LOOK, m // 4)
    return m


def _quadrature(m: int) -> float:
    return max(_SMOOTH / m, _FIRST / m**2)


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
