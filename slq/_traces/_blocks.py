"""Blocks of vectors in the operator's own array library: drawn, multiplied, made orthonormal, compared.

Vectors are columns, on the operator's device; inner products come to the host in float64. Products are counted, and
made a few columns at a time.
"""

from __future__ import annotations

import numpy as np

from slq import _arrays, _doubts
from slq._arrays import Array, Floats
from slq._errors import RunError
from slq._lanczos import _probes, _rows
from slq._lanczos._probes import Kind, Seed
from slq._operators._operators import Operator, multiplied

# No more columns than this are multiplied at once.
_BATCH = 16
# Directions of a block below so many roundings of its largest are rounding.
_ROUNDINGS = 32.0


class Blocks:
    """What trace and diagonal estimators do with an operator.

    Parameters
    ----------
    operator : Operator
        The matrix.
    rng : int, numpy.random.Generator or None
        Seed of the probes' streams, the same on all ranks.

    Attributes
    ----------
    scale : float or None
        What products are divided by: a power of two, 1 for all but extreme units; None before the first.
    epsilon : float
        Relative rounding of products, or their stated noise.
    products : int
        Columns multiplied so far.
    """

    def __init__(self, operator: Operator, rng: Seed) -> None:
        self.operator, self.shards, self.xp = operator, operator.shards.checked(), operator.xp
        self.seed = _probes.shared_seed(rng, self.shards)
        self.dtype = _arrays.working_dtype(operator.dtype, operator.xp)
        self.scale: float | None = None
        self._underflow = 0.0
        self._first: tuple[Array, Array] | None = None
        self.epsilon = max(_arrays.epsilon(self.dtype), _arrays.epsilon(operator.dtype), operator.noise)
        self.products = 0

    def draw(self, indices: range, kind: Kind) -> Array:
        """Return probes of these numbers as columns of norm sqrt(n), so that their mean outer product is I."""
        n, xp = self.operator.n, self.xp
        rows = _probes.probes(n, indices, seed=self.seed, kind=kind, shards=self.shards) * np.sqrt(n)
        return self.from_host(rows.T) if not _arrays.is_numpy(xp) else rows.T.astype(self.dtype, copy=False)

    def from_host(self, X: Floats) -> Array:
        """Copy a block from the host."""
        return _arrays.from_host(X, self.xp, dtype=self.dtype, device=self.operator.device)

    def product(self, X: Array) -> Array:
        """Return A X / scale, finite and of the right shape."""
        operator, xp, several = self.operator, self.xp, X.shape[1] > _BATCH
        parts = []
        for start in range(0, X.shape[1], _BATCH):
            columns = _arrays.cast(X[:, start : min(start + _BATCH, X.shape[1])], operator.dtype, xp)
            if operator.order == "C" and _arrays.is_numpy(xp):
                columns = np.ascontiguousarray(columns)
            block = _arrays.cast(multiplied(operator, columns), self.dtype, xp)
            parts.append(xp.asarray(block, copy=True) if several else block)  # the next may come in the same memory
        self.products += X.shape[1]
        whole = xp.concat(parts, axis=1)
        if any(self.shards.any(not bool(xp.all(xp.isfinite(whole))))):
            msg = "a product gave NaN or Inf. `slq.check` looks for the cause."
            raise RunError(msg)
        whole = whole.detach() if hasattr(whole, "detach") else whole
        if self.scale is None:
            size = self.shards.largest(whole, xp)
            self.scale = _arrays.extreme_scale(size, self.dtype)
            self._underflow = _arrays.underflow(operator.n, size, operator.dtype)
            self.epsilon = max(self.epsilon, self._underflow)
        whole = whole if self.scale == 1.0 else whole / self.scale
        if self._first is None:
            self._first = xp.asarray(X[:, :1], copy=True), xp.asarray(whole[:, :1], copy=True)
        return whole

    def test(self, *, above: int) -> None:
        """Multiply -2 times the first column once more, and warn where that is not -2 times what it was before.

        The warning is at the line that called the function so many frames above the caller of this one.
        """
        if self._first is None:
            return
        if self._underflow > _doubts.suspicious(_arrays.epsilon(self.dtype), 0.0):
            _doubts.warn(_doubts.subnormal(self._underflow), above=above + 1)
            return
        x, image = self._first
        again, before = (_arrays.to_host(y) for y in (self.product(-2 * x) / -2, image))
        squares = self.shards.total(*(float(np.linalg.norm(y) ** 2) for y in (again - before, before)))
        change = float(np.sqrt(squares[0] / (squares[1] or 1.0)))
        if change > _doubts.suspicious(_arrays.epsilon(self.dtype), self.operator.noise, self.epsilon):
            _doubts.warn(_doubts.drifting(change), above=above + 1)

    def inner(self, X: Array, Y: Array) -> Floats:
        """Return X^T Y on the host."""
        return _arrays.to_host(self.shards.reduce(self.xp.matmul(X.T, Y)))

    def diagonal_of_inner(self, X: Array, Y: Array) -> Floats:
        """Return the inner products of corresponding columns on the host."""
        return _arrays.to_host(self.shards.reduce(self.xp.sum(X * Y, axis=0)))

    def size(self, X: Array) -> float:
        """Return the largest norm of a column, at any scale."""
        largest = self.shards.largest(X, self.xp)
        if largest == 0:
            return 0.0
        return largest * float(np.sqrt(self.diagonal_of_inner(X / largest, X / largest).max()))

    def combine(self, X: Array, coefficients: Floats) -> Array:
        """Return X @ coefficients."""
        return self.xp.matmul(X, self.from_host(coefficients))

    def project_out(self, X: Array, Q: Array) -> Array:
        """Return X without its components along orthonormal columns, after one sweep."""
        return X - self.xp.matmul(Q, self.shards.reduce(self.xp.matmul(Q.T, X)))

    def upper_factor(self, X: Array) -> Floats:
        """Return the R of X = Q R on the host, up to an orthogonal matrix from the left."""
        return self._factors(X)[1]

    def orthonormal(self, X: Array, against: Array | None, size: float) -> Array:
        """Return orthonormal columns for what X adds to the span of `against`, above a rounding of `size`.

        There are fewer than X has where it adds fewer directions: a rank-deficient sketch is no special case. Two
        sweeps of block Gram-Schmidt; the small factor is decomposed on the host.
        """
        rest, threshold = X, _ROUNDINGS * self.epsilon * size
        for sweep in range(2):
            if against is not None:
                rest = self.project_out(rest, against)
            Q, R = self._factors(rest)
            left, singular, _ = np.linalg.svd(R)
            kept = singular > (threshold if sweep == 0 else 0.5)
            rest = self.combine(Q, left[:, : singular.size][:, kept])
            if not kept.any():
                break
        return rest

    def _factors(self, X: Array) -> tuple[Array, Floats]:
        Q, R = _rows.orthonormal(X.T, self.xp, self.shards.reduce)
        return Q.T, _arrays.to_host(R)


def require_counts(*, least: dict[str, int] | None = None, **counts: int) -> None:
    """Refuse what is no integer of at least 1, or of at least what `least` says."""
    for name, value in counts.items():
        lowest = (least or {}).get(name, 1)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < lowest:
            msg = f"`{name}` must be an integer of at least {lowest}, got {value!r}."
            raise ValueError(msg)
