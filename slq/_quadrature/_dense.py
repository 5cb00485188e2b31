"""All columns of a small operator, and its eigenvalues by LAPACK: cheaper than sampling where n products are few.

The eigenvalues are kept as a run of one "probe" whose tridiagonal matrix is diagonal: the matrix in its eigenbasis.
"""

from __future__ import annotations

from collections.abc import Callable
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

Columns = npt.NDArray[Any]


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


def diagonalise(
    operator: Operator,
    batch: int,
    seed: int,
    *,
    done: Columns | None = None,
    after: Callable[[Columns], object] | None = None,
) -> Diagonalised:
    """Multiply all n unit vectors, `batch` at once, and one more that tells whether products repeat.

    The first columns may be `done` already; `after` is called with all so far after every product.
    """
    copies = operator.copies
    n = operator.n // copies
    field = np.float64 if copies == 1 else np.complex128
    matrix: Columns = np.empty((n, n), dtype=field, order="F")
    rounding, begin = _arrays.epsilon(operator.dtype), 0
    if done is not None:
        begin = done.shape[1]
        matrix[:, :begin] = done
    for start in range(begin, n, batch):
        width = min(batch, n - start)
        image, unit = _product(operator, _unit_vectors(n, range(start, start + width), copies))
        if not (finite := np.isfinite(image).all(axis=0)).all():
            msg = (
                f"the product gave NaN or Inf for unit vector {start + int(np.argmin(finite))}. `slq.check` looks for "
                "the cause."
            )
            raise RunError(msg)
        matrix[:, start : start + width], rounding = image, max(rounding, unit)
        if after is not None:
            after(matrix[:, : start + width])
    size = float(np.abs(matrix).max()) or 1.0
    matrix = matrix / size  # the columns themselves may be kept
    v = _probes.probe(operator.n, seed=seed, index=0)[:, None]
    image, unit = _product(operator, v)
    again, built, rounding = image / size, matrix @ _folded(v, copies), max(rounding, unit)
    change = float(np.linalg.norm(again - built) / (np.linalg.norm(built) or 1.0))
    norm = float(np.linalg.norm(matrix)) or 1.0
    asymmetry = float(np.linalg.norm(matrix - matrix.conj().T) / norm)
    matrix += matrix.conj().T
    values = size / 2 * eigvalsh(matrix, overwrite_a=True, check_finite=False)
    row = np.zeros((1, n))
    T = Tridiagonal(values[None, :], row, np.array([n], dtype=np.intp), np.zeros((1, n, 0)))
    repeats = change <= 8 * rounding * np.sqrt(n)
    return Diagonalised(T, asymmetry, 0.0 if repeats else change, rounding, n + 1)


def change_of_first(operator: Operator, done: Columns) -> float:
    """Multiply the first unit vector again; return how much that differs from the first of some columns, relative."""
    image = _product(operator, _unit_vectors(len(done), range(1), operator.copies))[0][:, 0]
    change, size = float(np.linalg.norm(image - done[:, 0])), float(np.linalg.norm(done[:, 0])) or 1.0
    return change / size if change > 8 * _arrays.epsilon(operator.dtype) * size else 0.0


def rule_of(T: Tridiagonal) -> Rule:
    """Return the rule of eigenvalues kept as a diagonal matrix: each weighs 1 / n."""
    nodes = np.sort(T.alpha, axis=1)
    return Rule(nodes, np.full_like(nodes, 1 / nodes.size), np.zeros_like(nodes), np.zeros((*nodes.shape, 0)))


def _unit_vectors(n: int, numbers: range, copies: int) -> Floats:
    """Return unit vectors of the matrix as those of its real form."""
    columns = np.zeros((copies * n, len(numbers)))
    columns[::copies] = np.eye(n, len(numbers), -numbers.start)
    return columns


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
