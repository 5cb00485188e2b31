"""f(A) b by Lanczos: Q f(T) e_1 |b|, with the vectors kept (one pass) or made a second time (two passes).

One pass keeps the Krylov vectors orthogonal and in memory. Two passes keep nothing: the first finds T, the second
repeats its arithmetic to the bit and adds the vectors up as they come; twice the products, a handful of vectors.

Source: Druskin & Knizhnerman 1989, doi:10.1016/S0041-5553(89)80020-5; for two passes and their stability Frommer &
Simoncini 2008, doi:10.1007/978-3-540-78841-6_13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array, Floats
from slq._errors import DomainError, RunError
from slq._lanczos._basis import pick
from slq._lanczos._krylov import unit_rows
from slq._lanczos._lanczos import LanczosRun, Reorth
from slq._lanczos._tridiagonal import Tridiagonal
from slq._operators._hermitian import joined, parts_of, real_form
from slq._operators._operators import Operator, as_operator
from slq._quadrature._integrands import Function, Integrand, Name, integrand_of
from slq._quadrature._quadrature import eigen_tridiagonal
from slq._run._choice import vectors_of

# Steps before the first look at the error; later looks come after a quarter more.
_FIRST = 8
# The error is told by what the last quarter of the steps changed, twice.
_SHORTER, _CAUTION = 0.75, 2.0
# Entries of a vector that are added up at once: they stay in the cache.
_PIECE = 65_536
# What rounding leaves of a combination of Krylov vectors, in roundings.
_ROUNDINGS = 8.0


@dataclass(frozen=True, slots=True)
class Applied:
    """f(A) b with an estimate of its error.

    Attributes
    ----------
    value : array, shape (n,) or (n, k)
        In the library, on the device and of the shape of b.
    error : ndarray, shape (k,)
        Estimated norm of the error of each column.
    norm : ndarray, shape (k,)
        Norm of each column of `value`, for comparison.
    steps : int
        Lanczos steps.
    products : int
        Columns multiplied.
    converged : bool
        Whether every error is within the tolerance.
    """

    value: Array
    error: Floats
    norm: Floats
    steps: int
    products: int
    converged: bool


def apply(
    A: Any,
    b: Array,
    f: Function | Name,
    /,
    rtol: float = 1e-8,
    *,
    steps: int | None = None,
    passes: Literal["auto", 1, 2] = "auto",
    memory: float | None = None,
) -> Applied:
    r"""Compute f(A) b, for example A^-1 b, A^(1/2) b or exp(A) b.

    After m steps :math:`f(A) b \approx \|b\| Q_m f(T_m) e_1`. Costs m products per column and memory for m vectors
    each in one pass; 2 m products in two, and memory for the result and four vectors, one of them the product's own:
    three where the operator is a sparse matrix.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    b : array, shape (n,) or (n, k)
        In the operator's array library; columns are different from zero. Complex ones for a Hermitian operator only.
        Of an operator whose vectors are cut into shards the rows that are here, here and in the result.
    f : callable or str
        Vectorised function of eigenvalues, or a name as for `Spectrum.trace`.
    rtol : float, default 1e-8
        Estimated error to reach, relative to the norm of the result.
    steps : int, optional
        Make so many steps instead; at most n are made.
    passes : {"auto", 1, 2}, default "auto"
        Keep the vectors, or make them twice. "auto" keeps them as long as memory holds them.
    memory : float, optional
        Bytes that Krylov vectors may take; half of what is free by default.

    Returns
    -------
    Applied
        With `value`, `error`, `norm`, `steps`, `products`, `converged`.

    Raises
    ------
    TypeError
        If `b` is no array of the operator's library, or complex where the operator is real.
    ValueError
        If `b` has another length than n or a zero column, an argument is out of range, or f is undefined at a Ritz
        value: then A certainly has an eigenvalue that far out.
    RunError
        If a product fails, or two passes differ.

    Warns
    -----
    SlqWarning
        If products contradict each other: A is not symmetric or not linear, or drifts.

    Notes
    -----
    The error is an estimate: twice the change of the result over the last quarter of the steps, and rounding. It can be
    too small where convergence stalls before it sets in, as for the inverse of a badly conditioned A.

    References
    ----------
    Druskin & Knizhnerman 1989, doi:10.1016/S0041-5553(89)80020-5. Frommer & Simoncini 2008,
    doi:10.1007/978-3-540-78841-6_13.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> A = np.diag([1.0, 4.0, 9.0])
    >>> slq.apply(A, np.ones(3), "sqrt").value
    array([1., 2., 3.])
    """
    operator, integrand = as_operator(A), integrand_of(f)
    shards = operator.shards.checked()
    if not shards.whole and _arrays.is_complex(operator.dtype):
        msg = "vectors of `A` are cut into shards over several ranks, and slq.apply takes real ones only then."
        raise TypeError(msg)
    operator = real_form(operator)
    b = parts_of("b", b, operator)
    _validate(rtol, steps, passes)
    rows, sizes = _unit_columns(operator, b)
    dtype, n = rows.dtype, operator.n
    free = _arrays.free_memory(operator.xp, operator.device) / 2 if memory is None else memory
    room = int(shards.total(free)[0] // (n * _arrays.itemsize(dtype) * len(sizes)))
    reorth: Reorth = "none" if passes == 2 else "full"
    most = min(n, steps or n)
    if passes == "auto" and (steps is not None) and vectors_of(most, 1.0) > room:
        reorth = "none"
    found: dict[int, Array] = {}
    run = LanczosRun(operator, rows, reorth=reorth, owned=True)
    del rows  # where no vectors are kept, this one is not either: it is made from b again
    if reorth == "full":
        run.on_end = lambda i: found.__setitem__(i, run.combine(i, _row(run.tridiagonal(), i, integrand.f)))
    while True:
        run.advance(min(most - run.steps, most if steps else max(_FIRST, run.steps // 4)))
        coefficients, errors = coefficients_of(run.tridiagonal(), integrand, run.rounding)
        norms = np.linalg.norm(coefficients, axis=1)
        done = bool(np.all(errors <= rtol * norms))
        if run.finished or run.steps >= most or (steps is None and done):
            break
        if passes == "auto" and run.orthogonal and vectors_of(run.steps + max(_FIRST, run.steps // 4), 1.0) > room:
            products = run.products
            run.drop_basis()
            second = apply(A, joined(b, operator), f, rtol, passes=2, memory=memory)
            return replace(second, products=second.products + products)
    run.warn(above=1)
    made, products, T = run.steps, run.products * (2 if reorth == "none" else 1), run.tridiagonal()
    if reorth == "full":
        values = gathered(run, coefficients, found)
        values = values * _arrays.from_host(sizes[:, None], operator.xp, dtype=dtype, device=operator.device)
    else:
        del run  # its vectors make room for those of the second pass
        values = replayed(operator, _unit_columns(operator, b)[0], coefficients * sizes[:, None], T, owned=True)
    value = joined(values.T, operator)
    return Applied(value[:, 0] if b.ndim == 1 else value, errors * sizes, norms * sizes, made, products, done)


def coefficients_of(T: Tridiagonal, integrand: Integrand, rounding: float) -> tuple[Floats, Floats]:
    """Return f(T) e_1 of each probe, shape (k, steps), and the estimated norm of what it lacks, shape (k,)."""
    coefficients, errors = np.zeros(T.alpha.shape), np.zeros(len(T.lengths))
    for i, m in enumerate(T.lengths):
        row = _function_of(T, i, int(m), integrand)
        coefficients[i, :m] = row
        if not T.invariant[i]:
            short = max(1, int(_SHORTER * m))
            row[:short] -= _function_of(T, i, short, integrand)
            errors[i] = _CAUTION * np.linalg.norm(row) if m > 1 else np.inf
        errors[i] += _ROUNDINGS * rounding * np.linalg.norm(coefficients[i])
    return coefficients, errors


def gathered(run: LanczosRun, coefficients: Floats, found: dict[int, Array]) -> Array:
    """Return each probe's combination of its kept vectors as rows; those of probes that have ended were `found`."""
    rows = []
    for i, row in enumerate(coefficients):
        ready: Array = found[i] if i in found else run.combine(i, row[None, :])
        rows.append(ready[0, ...])
    return run.xp.stack(rows)


def replayed(operator: Operator, start: Array, coefficients: Floats, one: Tridiagonal, *, owned: bool = False) -> Array:
    """Make the vectors of a run without a basis a second time, and return their combinations as rows.

    `one` is what the run came to; `owned` start vectors may be overwritten.
    """
    again, total = LanczosRun(operator, start, reorth="none", owned=owned), _Sum(coefficients, operator.xp)
    del start
    again.on_step = total.add
    again.advance(int(one.lengths.max()))
    other = again.tridiagonal()
    if not (np.array_equal(one.alpha, other.alpha) and np.array_equal(one.beta, other.beta)):
        msg = (
            "two passes over the same start vectors gave different coefficients, so their vectors do not fit together: "
            "products of this operator do not repeat to the bit. Use passes=1, or make the product deterministic."
        )
        raise RunError(msg)
    return total.rows()


class _Sum:
    """Adds up Krylov vectors as they come; probes that end are set aside."""

    def __init__(self, coefficients: Floats, xp: Any) -> None:
        self._coefficients, self._xp, self._step = coefficients, xp, 0
        self._active = np.arange(len(coefficients))
        self._total: Array = None
        self._done: dict[int, Array] = {}

    def add(self, active: npt.NDArray[np.intp], rows: Array) -> None:
        """Add the next vectors of the active probes."""
        if len(active) < len(self._active):
            self._done |= {int(i): self._total[j, ...] for j, i in enumerate(self._active) if i not in active}
            self._total = pick(self._total, np.flatnonzero(np.isin(self._active, active)), self._xp)
            self._active = active
        factors = self._coefficients[active, self._step][:, None]
        self._total = self._xp.zeros_like(rows) if self._total is None else self._total
        self._step += 1
        total, own = _arrays.host_view(self._total), _arrays.host_view(rows)
        if total is None or own is None:
            factors = _arrays.from_host(factors, self._xp, dtype=rows.dtype, device=_arrays.device_of(rows))
            self._total = self._total + rows * factors
            return
        for first in range(0, rows.shape[1], _PIECE):  # in place: at n = 1e9 another vector is gigabytes
            piece = slice(first, first + _PIECE)
            total[:, piece] += own[:, piece] * factors.astype(own.dtype)

    def rows(self) -> Array:
        """Return all sums."""
        if not self._done:
            return self._total
        self._done |= {int(i): self._total[j, ...] for j, i in enumerate(self._active)}
        return self._xp.stack([self._done[i] for i in range(len(self._coefficients))])


def _row(T: Tridiagonal, i: int, f: Callable[[Floats], Floats]) -> Floats:
    return _function_of(T, i, int(T.lengths[i]), Integrand(f))[None, :]


def _function_of(T: Tridiagonal, i: int, m: int, integrand: Integrand) -> Floats:
    """Return f(T_m) e_1 for the leading m steps of probe i."""
    theta, basis = eigen_tridiagonal(T.alpha[i, :m], T.beta[i, : m - 1])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        values = np.asarray(integrand.f(theta), dtype=np.float64)
    if values.shape != theta.shape:
        msg = f"`f` must return an array of the shape of its argument, got {values.shape} for {theta.shape}."
        raise ValueError(msg)
    outside = theta[0] < integrand.above if integrand.closed else theta[0] <= integrand.above
    if outside or not np.isfinite(values).all():
        worst = float(theta[0] if outside else theta[~np.isfinite(values)][0])
        msg = (
            f"`{integrand.name}` is not defined at {worst:.6g}, a Ritz value: A has an eigenvalue at least that far "
            "out. Check the sign of A, or apply the function to A + shift I."
        )
        raise DomainError(msg)
    return np.asarray(basis @ (values * basis[0]))


def _unit_columns(operator: Operator, b: Any) -> tuple[Array, Floats]:
    """Return b's columns as unit rows in the run's dtype, and their norms on the host."""
    xp = operator.xp
    if not _arrays.is_array(b) or _arrays.namespace_of(b) is not _arrays.wrapped(xp):
        msg = f"`b` must be an array of the operator's library, {xp.__name__.split('.')[-1]}, got {type(b).__name__}."
        raise TypeError(msg)
    columns = b[:, None] if b.ndim == 1 else b
    shards = operator.shards
    if columns.ndim != 2 or columns.shape[0] != shards.local or not columns.shape[1]:
        msg = f"`b` must have shape ({shards.local},) or ({shards.local}, k), got {tuple(b.shape)}."
        raise ValueError(msg)
    rows = _arrays.cast(_arrays.rows_of(columns, xp), _arrays.working_dtype(operator.dtype, xp), xp)
    largest = xp.max(xp.abs(rows), axis=-1) if rows.shape[1] else xp.sum(rows, axis=-1)
    largest = _arrays.to_host(shards.reduce(largest))
    if not (np.isfinite(largest).all() and (largest > 0).all()):
        msg = "`b` must have finite columns different from zero: f(A) 0 is 0."
        raise ValueError(msg)
    unit = unit_rows(rows, xp, shards)
    sizes = _arrays.to_host(shards.reduce(xp.sum(rows * unit, axis=-1)))
    return unit, sizes


def _validate(rtol: float, steps: int | None, passes: Any) -> None:
    if not rtol >= 0:
        msg = f"`rtol` must be a number >= 0, got {rtol}."
        raise ValueError(msg)
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1):
        msg = f"`steps` must be a positive integer or None, got {steps!r}."
        raise ValueError(msg)
    if passes not in ("auto", 1, 2):
        msg = f'`passes` must be "auto", 1 or 2, got {passes!r}.'
        raise ValueError(msg)
