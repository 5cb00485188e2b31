"""k Lanczos recurrences in lock-step: one batched product per step gives one more row of k tridiagonal matrices.

Vectors stay on the operator's device; alpha and beta are summed there in float64 and copied to the host every few
steps. Nothing is interpreted here: quadrature, errors and stopping rules come later.

Source: Paige's ordering of the recurrence (Paige 1972, doi:10.1093/imamat/10.3.373), one independent Krylov space per
probe. Differences from the textbook: 1. orthogonality by two block Gram-Schmidt sweeps; 2. breakdown is judged
against the size of T, per probe; 3. an operator of extreme scale is divided by a power of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from slq import _arrays
from slq._arrays import Array, Floats
from slq._basis import Basis
from slq._errors import RunError
from slq._operators import Operator, as_operator

Reorth = Literal["full", "none"]

# alpha and beta are fetched after 1, 2, 4, 8 steps and then every 8: a copy is a synchronisation on a GPU.
_FETCH_EVERY = 8
# beta_j below this many roundings of |T| is an invariant subspace: an operator product errs by a few roundings.
_BREAKDOWN_ROUNDINGS = 32.0
# Symmetry is tested on all pairs among this many probes.
_PAIRS = 4
# Squares of entries beyond 10**±these would leave the range of the dtype.
_SAFE_EXPONENT = {"float64": 100, "float32": 12}


@dataclass(frozen=True, slots=True)
class Tridiagonal:
    """The coefficients of k Lanczos runs of up to m steps.

    Attributes
    ----------
    alpha : ndarray, shape (probes, steps)
        Diagonals; zero beyond a probe's own length.
    beta : ndarray, shape (probes, steps)
        Off-diagonals; `beta[:, j]` couples steps j and j + 1, so the last one is the residual norm of the run.
    lengths : ndarray of int, shape (probes,)
        Steps that each probe made. A probe whose Krylov space is invariant stops early with a last beta of zero.
    overlaps : ndarray, shape (probes, steps, references)
        Inner products of Krylov vector j of each probe with the first start vectors of the run; they tell
        whether two probes saw the same eigenvector. No references where there was one probe.
    """

    alpha: Floats
    beta: Floats
    lengths: npt.NDArray[np.intp]
    overlaps: Floats

    @property
    def invariant(self) -> npt.NDArray[np.bool_]:
        """Per probe, whether its Krylov space is invariant, so that its Gauss rule is exact."""
        last = np.take_along_axis(self.beta, self.lengths[:, None] - 1, axis=1)[:, 0]
        return np.asarray(last == 0)

    def drop_first(self) -> Tridiagonal:
        """Return the runs of all probes but the first."""
        return Tridiagonal(self.alpha[1:], self.beta[1:], self.lengths[1:], self.overlaps[1:])


class LanczosRun:
    """Lanczos recurrences that can be taken further: `advance` makes steps, `tridiagonal` tells what there is.

    Parameters
    ----------
    operator : Operator
        The matrix.
    start : array, shape (k, n)
        Unit start vectors as rows, in the library, dtype and device of the run.
    reorth : {"full", "none"}
        Whether new vectors are made orthogonal to all earlier ones.
    references : array, shape (r, n), optional
        Vectors whose inner products with the Krylov vectors are recorded.
    first : int, default 0
        Number of the first probe, for messages.

    Attributes
    ----------
    products : int
        Columns multiplied so far.
    product_seconds : float
        Time spent in products so far, as the host sees it.
    asymmetry : float or None
        Estimate of |A - A^T|_F / |A|_F from the first products of two or more probes.
    """

    def __init__(
        self, operator: Operator, start: Array, *, reorth: Reorth, references: Array | None = None, first: int = 0
    ) -> None:
        xp = operator.xp
        self._operator, self._xp, self._references, self._first = operator, xp, references, first
        self._dtype, self._device = start.dtype, _arrays.device_of(start)
        self._accumulator = _arrays.accumulator_dtype(xp, self._device)
        self._basis = Basis(xp) if reorth == "full" else None
        probes = start.shape[0]
        self._active = np.arange(probes)
        self._current, self._previous = start, xp.zeros_like(start)
        self._beta = xp.zeros((probes,), dtype=self._dtype, device=self._device)
        self._scale: float | None = None
        self._pending: list[tuple[Array, Array, Array | None]] = []
        self._coefficients: list[list[tuple[float, float]]] = [[] for _ in range(probes)]
        self._overlaps: list[list[Floats]] = [[] for _ in range(probes)]
        self._norms = np.zeros(probes)
        self.products = 0
        self.product_seconds = 0.0
        self.asymmetry: float | None = None

    @property
    def active(self) -> int:
        """Number of probes that are still going."""
        return int(self._active.size)

    @property
    def finished(self) -> bool:
        """Whether every probe has reached an invariant subspace."""
        return self._active.size == 0

    @property
    def probes(self) -> int:
        """Number of start vectors."""
        return len(self._coefficients)

    @property
    def steps(self) -> int:
        """Steps made by the probes that are still going, or by the longest one."""
        return max(len(rows) for rows in self._coefficients)

    def advance(self, steps: int) -> None:
        """Make up to `steps` more steps of every active probe; never more than n in all."""
        target = min(self.steps + steps, self._operator.n)
        while not self.finished and self.steps < target:
            for _ in range(min(_FETCH_EVERY, max(1, self.steps), target - self.steps)):
                self._step()
            self._fetch()

    def drop_basis(self) -> None:
        """Free the stored vectors and go on without re-orthogonalisation."""
        self._basis = None

    def tridiagonal(self) -> Tridiagonal:
        """Return what has been computed, on the host."""
        lengths = np.array([len(rows) for rows in self._coefficients])
        k, m = len(lengths), int(lengths.max(initial=0))
        r = 0 if self._references is None else self._references.shape[0]
        alpha, beta, overlaps = np.zeros((k, m)), np.zeros((k, m)), np.zeros((k, m, r))
        for i, rows in enumerate(self._coefficients):
            if rows:
                alpha[i, : len(rows)], beta[i, : len(rows)] = np.array(rows).T
                overlaps[i, : len(rows)] = self._overlaps[i]
        scale = 1.0 if self._scale is None else self._scale
        return Tridiagonal(alpha * scale, beta * scale, lengths, overlaps)

    def _step(self) -> None:
        xp = self._xp
        if self._basis is not None:
            self._basis.append(self._current)
        w = self._product(self._current)
        if self.asymmetry is None:
            self.asymmetry = self._measure_asymmetry(self._current, w)
        w = w - self._beta[:, None] * self._previous
        alpha = self._dot(w, self._current)
        w = w - _arrays.cast(alpha, self._dtype, xp)[:, None] * self._current
        if self._basis is not None:
            w, own = self._basis.project_out(w)
            alpha = alpha + _arrays.cast(own, alpha.dtype, xp)
            w, _ = self._basis.project_out(w)
        beta = xp.sqrt(self._dot(w, w))
        overlap = None if self._references is None else xp.matmul(self._current, self._references.T)
        self._pending.append((alpha, beta, overlap))
        self._beta = _arrays.cast(beta, self._dtype, xp)
        # Dividing by one instead of an exact zero; a tiny beta is caught on the host and its step cut off there.
        divisor = xp.where(self._beta > 0, self._beta, xp.ones_like(self._beta))
        self._previous, self._current = self._current, w / divisor[:, None]

    def _product(self, rows: Array) -> Array:
        """Return A applied to each row, in the run's dtype, divided by the run's scale."""
        operator, xp = self._operator, self._xp
        began = perf_counter()
        block = operator.product(_arrays.cast(rows, operator.dtype, xp).T)
        self.product_seconds += perf_counter() - began
        self.products += rows.shape[0]
        if tuple(block.shape) != (operator.n, rows.shape[0]):
            msg = (
                f"a product of a block of shape ({operator.n}, {rows.shape[0]}) must have that shape, got "
                f"{tuple(block.shape)}. Check what `matmat` or the callable returns."
            )
            raise RunError(msg)
        result = _arrays.cast(_arrays.rows_of(block, xp), self._dtype, xp)
        if self._scale is None:
            self._scale = _power_of_two(float(xp.max(xp.abs(result))), self._dtype)
        return result if self._scale == 1.0 else result * (1.0 / self._scale)

    def _measure_asymmetry(self, rows: Array, images: Array) -> float:
        """Estimate |A - A^T|_F / |A|_F from products that are there anyway; 0 for a single probe.

        For random unit u, v: u^T B v has the size |B|_F / n, and |A v| that of |A|_F / sqrt(n).
        """
        if rows.shape[0] < 2:
            return 0.0
        gram = _arrays.to_host(self._xp.matmul(rows[:_PAIRS, :], images[:_PAIRS, :].T))
        sizes = _arrays.to_host(self._xp.sqrt(self._dot(images[:_PAIRS, :], images[:_PAIRS, :])))
        difference = (gram - gram.T)[np.triu_indices(len(gram), 1)]
        return float(np.sqrt(self._operator.n * np.mean(difference**2)) / (sizes.mean() or 1.0))

    def _dot(self, a: Array, b: Array) -> Array:
        return self._xp.sum(a * b, axis=-1, dtype=self._accumulator)

    def _fetch(self) -> None:
        """Copy pending coefficients to the host, cut each probe where it ended, and go on with the others only."""
        pending, self._pending = self._pending, []
        alphas, betas = (_arrays.to_host(self._xp.stack([p[i] for p in pending])) for i in (0, 1))
        overlaps = np.zeros((len(pending), len(self._active), 0))
        if self._references is not None:
            overlaps = _arrays.to_host(self._xp.stack([p[2] for p in pending]))
        finite = np.isfinite(alphas) & np.isfinite(betas)
        good = len(pending) if finite.all() else int(np.argmin(finite.all(axis=1)))
        ended = np.array([
            self._take(probe, alphas[:good, i], betas[:good, i], overlaps[:good, i])
            for i, probe in enumerate(self._active)
        ])
        if good < len(pending) and not ended.all():
            self._raise_not_finite(int(self._active[np.argmin(finite[good])]), self.steps + 1)
        if ended.any():
            self._retire(np.flatnonzero(~ended))

    def _take(self, probe: int, alphas: Floats, betas: Floats, overlaps: Floats) -> bool:
        """Append one probe's new coefficients; tell whether it ended: by an invariant Krylov space or after n steps."""
        rows = self._coefficients[probe]
        for alpha, beta, overlap in zip(alphas, betas, overlaps, strict=True):
            before = rows[-1][1] if rows else 0.0
            self._norms[probe] = max(self._norms[probe], before + abs(alpha) + beta)
            noise = max(_BREAKDOWN_ROUNDINGS * _arrays.epsilon(self._dtype), self._operator.noise)
            complete = len(rows) + 1 == self._operator.n
            invariant = beta <= noise * self._norms[probe] or (complete and self._basis is not None)
            rows.append((float(alpha), 0.0 if invariant else float(beta)))
            self._overlaps[probe].append(overlap)
            if invariant or complete:
                return True
        return False

    def _retire(self, kept: npt.NDArray[np.intp]) -> None:
        """Go on with the probes at the given positions only."""
        self._active = self._active[kept]
        if self.finished:
            return
        rows = [int(i) for i in kept]
        self._current, self._previous, self._beta = (
            self._xp.stack([x[i, ...] for i in rows]) for x in (self._current, self._previous, self._beta)
        )
        if self._basis is not None:
            self._basis.keep(kept)

    def _raise_not_finite(self, probe: int, step: int) -> None:
        msg = (
            f"the product gave NaN or Inf for probe {self._first + probe} at step {step}. Common causes: a loss "
            "that overflows in half precision, a division by zero inside the operator, uninitialised memory. "
            "`slq.check(A)` looks for the cause; the steps already done are in this exception's `.partial`."
        )
        raise RunError(msg)


def concatenate(parts: list[Tridiagonal]) -> Tridiagonal:
    """Stack the runs of several batches, padded with zeros to the longest and to the most references."""
    m = max(part.alpha.shape[1] for part in parts)
    r = max(part.overlaps.shape[2] for part in parts)

    def pad(rows: Floats, *shape: int) -> Floats:
        return np.pad(rows, [(0, 0), *((0, size - old) for size, old in zip(shape, rows.shape[1:], strict=True))])

    return Tridiagonal(
        np.concatenate([pad(part.alpha, m) for part in parts]),
        np.concatenate([pad(part.beta, m) for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([pad(part.overlaps, m, r) for part in parts]),
    )


def lanczos(A: Any, v: Array, /, steps: int, *, reorth: Reorth = "full") -> Tridiagonal:
    r"""Run Lanczos from given start vectors and return the tridiagonal matrices.

    After m steps :math:`A Q_m = Q_m T_m + \beta_m q_{m+1} e_m^T` with orthonormal :math:`Q_m`, :math:`Q_m e_1 = v`.
    Costs `steps` products per vector and, with full re-orthogonalisation, memory for `steps` vectors each.

    Parameters
    ----------
    A : operator
        Anything that `as_operator` takes.
    v : array, shape (n,) or (n, k)
        Start vectors in the operator's array library; normalised here.
    steps : int
        Lanczos steps; at most n are made.
    reorth : {"full", "none"}, default "full"
        Whether each new vector is made orthogonal to all earlier ones.

    Returns
    -------
    Tridiagonal
        With `alpha`, `beta` of shape (k, m) and `lengths` of shape (k,).

    Raises
    ------
    ValueError
        If `v` has another length than n or is zero, or `steps` is not positive.
    RunError
        If a product has the wrong shape or is not finite.

    References
    ----------
    Golub & Van Loan 2013, Matrix Computations, 4th ed., section 10.1.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> T = slq.lanczos(np.diag([1.0, 2.0, 3.0]), np.ones(3), 3)
    >>> slq.gauss(T).nodes.round(6)
    array([[1., 2., 3.]])
    """
    operator = as_operator(A)
    if steps < 1:
        msg = f"`steps` must be at least 1, got {steps}."
        raise ValueError(msg)
    columns = v[:, None] if v.ndim == 1 else v
    if columns.ndim != 2 or columns.shape[0] != operator.n:
        msg = f"`v` must have shape ({operator.n},) or ({operator.n}, k), got {tuple(v.shape)}."
        raise ValueError(msg)
    xp = operator.xp
    rows = _arrays.cast(_arrays.rows_of(columns, xp), _arrays.working_dtype(operator.dtype, xp), xp)
    norms = xp.sqrt(xp.sum(rows * rows, axis=-1))
    if not bool(xp.all(norms > 0)) or not bool(xp.all(xp.isfinite(norms))):
        msg = "`v` must have finite columns different from zero."
        raise ValueError(msg)
    run = LanczosRun(operator, rows / norms[:, None], reorth=reorth)
    run.advance(steps)
    return run.tridiagonal()


def _power_of_two(size: float, dtype: Any) -> float:
    """Return a power of two near `size` where squares of entries would overflow or underflow, else 1."""
    if not np.isfinite(size) or size == 0:
        return 1.0
    exponent = int(np.floor(np.log2(size)))
    limit = _SAFE_EXPONENT[_arrays.dtype_name(dtype)] * np.log2(10)
    return 2.0**exponent if abs(exponent) > limit else 1.0
