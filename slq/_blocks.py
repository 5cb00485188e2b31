"""Blocks of vectors in the operator's own array library: drawn, multiplied, made orthonormal, compared.

Vectors are columns, on the operator's device; inner products come to the host in float64. Products are counted, and
made a few columns at a time.
"""

from __future__ import annotations

import numpy as np

from slq import _arrays, _probes
from slq._arrays import Array, Floats
from slq._errors import RunError
from slq._operators import Operator, require_block
from slq._probes import Kind

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
    seed : int
        Key of the probes' streams.
    """

    def __init__(self, operator: Operator, seed: int) -> None:
        self.operator, self.seed, self.xp = operator, seed, operator.xp
        self.dtype = _arrays.working_dtype(operator.dtype, operator.xp)
        self.epsilon = max(_arrays.epsilon(self.dtype), _arrays.epsilon(operator.dtype), operator.noise)
        self.products = 0

    def draw(self, indices: range, kind: Kind) -> Array:
        """Return probes of these numbers as columns of norm sqrt(n), so that their mean outer product is I."""
        n, xp = self.operator.n, self.xp
        rows = _probes.probes(n, indices, seed=self.seed, kind=kind) * np.sqrt(n)
        return self.from_host(rows.T) if not _arrays.is_numpy(xp) else rows.T.astype(self.dtype, copy=False)

    def from_host(self, X: Floats) -> Array:
        """Copy a block from the host."""
        return _arrays.from_host(X, self.xp, dtype=self.dtype, device=self.operator.device)

    def product(self, X: Array) -> Array:
        """Return A X, finite and of the right shape."""
        operator, xp = self.operator, self.xp
        parts = []
        for start in range(0, X.shape[1], _BATCH):
            columns = _arrays.cast(X[:, start : min(start + _BATCH, X.shape[1])], operator.dtype, xp)
            if operator.order == "C" and _arrays.is_numpy(xp):
                columns = np.ascontiguousarray(columns)
            block = operator.product(columns)
            require_block(block, columns)
            parts.append(_arrays.cast(block, self.dtype, xp))
        self.products += X.shape[1]
        whole = xp.concat(parts, axis=1)
        if not bool(xp.all(xp.isfinite(whole))):
            msg = "a product gave NaN or Inf. `slq.check` looks for the cause."
            raise RunError(msg)
        return whole.detach() if hasattr(whole, "detach") else whole

    def inner(self, X: Array, Y: Array) -> Floats:
        """Return X^T Y on the host."""
        return _arrays.to_host(self.xp.matmul(X.T, Y))

    def diagonal_of_inner(self, X: Array, Y: Array) -> Floats:
        """Return the inner products of corresponding columns on the host."""
        return _arrays.to_host(self.xp.sum(X * Y, axis=0))

    def size(self, X: Array) -> float:
        """Return the largest norm of a column, at any scale."""
        largest = float(self.xp.max(self.xp.abs(X)))
        if largest == 0:
            return 0.0
        return largest * float(np.sqrt(self.diagonal_of_inner(X / largest, X / largest).max()))

    def combine(self, X: Array, coefficients: Floats) -> Array:
        """Return X @ coefficients."""
        return self.xp.matmul(X, self.from_host(coefficients))

    def upper_factor(self, X: Array) -> Floats:
        """Return the R of X = Q R on the host."""
        return _arrays.to_host(self.xp.linalg.qr(X)[1])

    def orthonormal(self, X: Array, against: Array | None, size: float) -> Array:
        """Return orthonormal columns for what X adds to the span of `against`, above a rounding of `size`.

        There are fewer than X has where it adds fewer directions: a rank-deficient sketch is no special case. Two
        sweeps of block Gram-Schmidt; the small factor is decomposed on the host.
        """
        rest, threshold = X, _ROUNDINGS * self.epsilon * size
        for sweep in range(2):
            if against is not None:
                rest = rest - self.xp.matmul(against, self.xp.matmul(against.T, rest))
            Q, R = self.xp.linalg.qr(rest)
            left, singular, _ = np.linalg.svd(_arrays.to_host(R))
            kept = singular > (threshold if sweep == 0 else 0.5)
            rest = self.combine(Q, left[:, : singular.size][:, kept])
            if not kept.any():
                break
        return rest


def require_counts(*, least: dict[str, int] | None = None, **counts: int) -> None:
    """Refuse what is no integer of at least 1, or of at least what `least` says."""
    for name, value in counts.items():
        lowest = (least or {}).get(name, 1)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < lowest:
            msg = f"`{name}` must be an integer of at least {lowest}, got {value!r}."
            raise ValueError(msg)
