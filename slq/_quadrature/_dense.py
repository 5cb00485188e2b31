"""All columns of a small operator, and its eigenvalues by LAPACK: cheaper than sampling where n products are few.

The eigenvalues are kept as a run of one "probe" whose tridiagonal matrix is diagonal: the matrix in its eigenbasis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigvalsh

from slq import _arrays
from slq._arrays import Floats
from slq._errors import RunError
from slq._lanczos import _probes
from slq._lanczos._tridiagonal import Tridiagonal
from slq._operators._operators import Operator, multiplied
from slq._quadrature._quadrature import Rule


@dataclass(frozen=True, slots=True)
class Diagonalised:
    """The eigenvalues of an operator, ascending, and what its products showed besides.

    Attributes
    ----------
    tridiagonal : Tridiagonal
        One row: the eigenvalues, with zeros beside them.
    asymmetry : float
        |A - A^T|_F / |A|_F.
    repeat_error : float
        Relative error of one more product against the matrix built, beyond rounding.
    rounding : float
        Unit in the last place of the products.
    products : int
        Columns multiplied.
    """

    tridiagonal: Tridiagonal
    asymmetry: float
    repeat_error: float
    rounding: float
    products: int


def diagonalise(operator: Operator, batch: int, seed: int) -> Diagonalised:
    """Multiply all n unit vectors, `batch` at once, and one more that tells whether products repeat."""
    copies = operator.copies
    n = operator.n // copies
    field = np.float64 if copies == 1 else np.complex128
    matrix: npt.NDArray[Any] = np.empty((n, n), dtype=field, order="F")
    rounding = _arrays.epsilon(operator.dtype)
    for start in range(0, n, batch):
        columns = np.zeros((operator.n, min(batch, n - start)))
        columns[::copies] = np.eye(n, columns.shape[1], -start)
        matrix[:, start : start + batch], unit = _product(operator, columns)
        rounding = max(rounding, unit)
    if not np.isfinite(matrix).all():
        column = int(np.flatnonzero(~np.isfinite(matrix).all(axis=0))[0])
        msg = f"the product gave NaN or Inf for unit vector {column}. `slq.check` looks for the cause."
        raise RunError(msg)
    size = float(np.abs(matrix).max()) or 1.0
    matrix /= size
    v = _probes.probe(operator.n, seed=seed, index=0)[:, None]
    again, built = _product(operator, v)[0] / size, matrix @ _folded(v, copies)
    change = float(np.linalg.norm(again - built) / (np.linalg.norm(built) or 1.0))
    norm = float(np.linalg.norm(matrix)) or 1.0
    asymmetry = float(np.linalg.norm(matrix - matrix.conj().T) / norm)
    matrix += matrix.conj().T
    values = size / 2 * eigvalsh(matrix, overwrite_a=True, check_finite=False)
    row = np.zeros((1, n))
    T = Tridiagonal(values[None, :], row, np.array([n], dtype=np.intp), np.zeros((1, n, 0)))
    repeats = change <= 8 * rounding * np.sqrt(n)
    return Diagonalised(T, asymmetry, 0.0 if repeats else change, rounding, n + 1)


def rule_of(T: Tridiagonal) -> Rule:
    """Return the rule of eigenvalues kept as a diagonal matrix: each weighs 1 / n."""
    nodes = np.sort(T.alpha, axis=1)
    return Rule(nodes, np.full_like(nodes, 1 / nodes.size), np.zeros_like(nodes), np.zeros((*nodes.shape, 0)))


def _folded(block: Floats, copies: int) -> npt.NDArray[Any]:
    """Return a block of the matrix's own vectors: of a complex one from rows of real and imaginary parts in turn."""
    return block if copies == 1 else np.asarray(block[::2] + 1j * block[1::2])


def _product(operator: Operator, columns: Floats) -> tuple[npt.NDArray[Any], float]:
    """Multiply a block from the host, whole; return it on the host, whole, and the rounding of its dtype."""
    shards = operator.shards
    here = shards.numbers()
    block = _arrays.from_host(columns[here], operator.xp, dtype=operator.dtype, device=operator.device)
    product = multiplied(operator, block)
    image = np.zeros(columns.shape)
    image[here] = _arrays.to_host(product)
    return _folded(shards.reduce(image), operator.copies), _arrays.epsilon(product.dtype)
