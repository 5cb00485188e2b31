"""A spectrum and the largest eigenpairs from one Krylov space: what a record of a training takes.

The space that shows the distribution of all eigenvalues has mostly converged to the outermost ones already. Its Ritz
vectors are taken along before it is given up, and where some are not exact enough yet, Lanczos goes on from them as
after a thick restart (`_restarts`). Copies of a multiple eigenvalue, which one start vector cannot tell, are not looked
for; `slq.eigsh` does that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from slq import _arrays
from slq._arrays import Array, Floats
from slq._eigen import _ends
from slq._eigen._eigen import eigsh
from slq._eigen._restarts import Restarts
from slq._lanczos import _probes
from slq._lanczos._loss import allowed
from slq._operators._deflation import straightened
from slq._operators._operators import Operator
from slq._quadrature._budget import scatter_of_one
from slq._quadrature._quadrature import eigen_tridiagonal
from slq._run._driver import run
from slq._run._opening import open_session
from slq._run._session import Session
from slq._spectrum._spectrum import Spectrum

# The mean of sqrt(F (1 - F)) over the range of a semicircle: spectra with outliers have less.
_DEVIATION = 0.35
# Ritz vectors that are taken along besides the wanted ones, and vectors of the basis between restarts.
_SPARE, _LEAST_BASIS = 10, 48
# A residual of so many roundings of |A| cannot fall much further.
_ROUNDINGS = 4.0
# Steps are those that the distribution takes, and none more for single eigenvalues.
_NONE = 1.0
# Steps that eigenpairs take in any case, each: where a spectrum would do with fewer, since it is one wide bulk, it
# begins with two thirds of them, which the eigenpairs save again. Of the matrix's dimension they are a part at most.
_PER_PAIR, _PART = 3, 4
# Products that eigenpairs may take, and how many between looks.
_LIMIT, _LOOK = 1000, 4


class Top(NamedTuple):
    """Largest eigenvalues, descending, orthonormal vectors as columns, residual norms, and products spent on them."""

    values: Floats
    vectors: Array
    residuals: Floats
    products: int


class _Ritz(NamedTuple):
    """Ritz values, vectors as rows, their couplings to the vector that comes next, and that vector as a row."""

    values: Floats
    rows: Array
    couplings: Floats
    following: Array


def spectrum_and_top(
    A: Any,
    k: int,
    *,
    tol: float,
    probes: int | None,
    steps: int | None,
    rng: int,
    accuracy: float,
    before: Array | None = None,
    expected: int | None = None,
    test: bool = True,
) -> tuple[Spectrum, Top | None]:
    """Estimate the spectrum of an operator, and compute its k largest eigenpairs from the same products.

    Parameters
    ----------
    A : operator
        As for `slq.spectrum`.
    k : int
        Number of eigenpairs; 0 leaves them out.
    tol : float
        As for `slq.spectrum`.
    probes, steps : int, optional
        As for `slq.spectrum`, but the run begins with one probe where its scatter is within the tolerance.
    rng : int
        Seed.
    accuracy : float
        Relative residual of the eigenpairs.
    before : array, shape (n, s), optional
        Vectors near the wanted ones, for where the run keeps none.
    expected : int, optional
        Steps that a matrix much like this one took; with eigenpairs, at least about those that they take.
    test : bool
        Whether to test symmetry and repeatability.

    Returns
    -------
    spectrum : Spectrum
        As from `slq.spectrum`.
    top : Top or None
        None for k = 0.
    """
    first = None if probes is not None or scatter_of_one(A.shape[0], _DEVIATION) > tol else 1
    if k:
        expected = max(expected or 0, min(_PER_PAIR * k, A.shape[0] // _PART))
    session = open_session(A, probes=probes, steps=steps, first=first, rng=rng, test=test)
    taken: list[_Ritz] = []

    def take() -> None:
        taken.extend(_taken(session, k) if k else ())

    fixed = {"fixed_probes": probes is not None, "fixed_steps": steps is not None}
    with session:  # what stands alone is for the eigenpairs to resolve
        status = run(session, tol=tol, **fixed, expected=expected, grown=take, patience=_NONE)
    spectrum = session.result(status)
    if not k:
        return spectrum, None
    if taken:
        return spectrum, _converged(session.operator, taken[0], k, accuracy, rng)
    pairs = eigsh(A, k, which="LA", tol=accuracy, start=before, rng=rng)
    order = range(k - 1, -1, -1)
    vectors = A.xp.stack([pairs.vectors[:, i] for i in order], axis=1)
    return spectrum, Top(pairs.values[::-1], vectors, pairs.residuals[::-1], pairs.products)


def _taken(session: Session, k: int) -> list[_Ritz]:
    """Return the Ritz vectors of probe 0 that matter, none where its vectors are not kept or too few."""
    open_run, T = session.runs.current, session.runs.tridiagonal()
    if open_run is None or T is None or T.lengths[0] <= k + 1:
        return []
    length = int(T.lengths[0])
    alpha, beta = T.alpha[0, :length], T.beta[0, :length]
    values, coefficients = eigen_tridiagonal(alpha, beta[:-1])
    size = float(np.max(np.abs(values)))
    kept = slice(-min(k + _SPARE, length), None)
    rows, following = open_run.combine(0, coefficients[:, kept].T), open_run.following(0)
    if rows is None or following is None or _arrays.extreme_scale(size, rows.dtype) != 1.0:
        return []
    rows = straightened(rows, session.operator.xp, session.operator.shards.reduce)  # Krylov vectors are so to sqrt(eps)
    return [_Ritz(values[kept], rows, beta[-1] * coefficients[-1, kept], following)]


def _converged(operator: Operator, begun: _Ritz, k: int, accuracy: float, rng: int) -> Top:
    """Go on from Ritz vectors until the k largest have converged."""
    dtype, xp = begun.rows.dtype, operator.xp

    def draw(count: int) -> Array:
        rows = _probes.probes(operator.n, range(1, 1 + count), seed=rng, dtype=np.dtype(_arrays.dtype_name(dtype)))
        return _arrays.from_host(rows, xp, dtype=dtype, device=operator.device)

    size = min(max(2 * (k + _SPARE), _LEAST_BASIS), operator.n)
    space = Restarts(operator, draw, dtype, size=size, start=begun.following[None, :], scale=1.0)
    space.take_up(begun.values, begun.rows, begun.couplings)
    unit = max(_arrays.epsilon(dtype), _arrays.epsilon(operator.dtype))
    while True:
        ritz = space.ritz()
        first = _ends.order(ritz.values, "LA")[:k]
        floor = max(_ROUNDINGS * unit, operator.noise) * float(np.max(np.abs(ritz.values)))
        goal = np.maximum(accuracy * np.abs(ritz.values[first]), floor)
        if np.all(ritz.residuals[first] <= goal) or space.complete or space.products >= _LIMIT:
            break
        if space.full:
            space.restart(ritz, _ends.kept(ritz.values, "LA", k, space.size))
        space.advance(_LOOK, _LIMIT - space.products)
    rows = space.vectors(ritz.coefficients[:, first])
    # The recurrence does not tell what its vectors have along each other.
    lost = allowed(_arrays.epsilon(dtype)) * float(np.max(np.abs(ritz.values)))
    residuals = np.maximum(np.hypot(ritz.residuals[first], lost), floor)
    return Top(ritz.values[first], rows.T, residuals, space.products)
