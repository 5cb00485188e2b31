"""Lanczos as a stage of its own: from given start vectors, for a given number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slq import _arrays
from slq._arrays import Array
from slq._lanczos._basis import Precision, Storage
from slq._lanczos._krylov import unit_rows
from slq._lanczos._lanczos import LanczosRun, Reorth
from slq._lanczos._tridiagonal import Tridiagonal
from slq._operators._hermitian import parts_of, real_form


def lanczos(
    A: Any,
    v: Array,
    /,
    steps: int,
    *,
    reorth: Reorth = "full",
    basis: Precision | None = None,
    scratch: str | Path | None = None,
) -> Tridiagonal:
    r"""Run Lanczos from given start vectors and return the tridiagonal matrices.

    After m steps :math:`A Q_m = Q_m T_m + \beta_m q_{m+1} e_m^T` with orthonormal :math:`Q_m`, :math:`Q_m e_1 = v`.
    Costs `steps` products per vector and, with full re-orthogonalisation, memory for `steps` vectors each.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    v : array, shape (n,) or (n, k)
        Start vectors in the operator's array library; normalised here.
    steps : int
        Lanczos steps; at most n are made.
    reorth : {"full", "none"}, default "full"
        Whether each new vector is made orthogonal to all earlier ones.
    basis : {"float64", "float32", "float16"}, optional
        Precision in which all vectors but the newest two are kept; their own by default. T is exact to the square of
        its rounding: 2e-7 for float16, 4e-15 for float32, of the largest eigenvalue.
    scratch : str or Path, optional
        Folder in which to keep them in temporary files, vectors of NumPy and of torch on the CPU only; in memory by
        default.

    Returns
    -------
    Tridiagonal
        With `alpha`, `beta` of shape (k, m) and `lengths` of shape (k,).

    Raises
    ------
    TypeError
        If `v` is no array of the operator's library, or complex where the operator is real.
    ValueError
        If `v` has another length than n or is zero, `steps` is not positive, the library has no dtype `basis`, or
        `scratch` is no folder with room enough.
    RunError
        If a product has the wrong shape or is not finite.

    Warns
    -----
    SlqWarning
        If products contradict each other: A is not symmetric or not linear, or drifts. The coefficients tell, of two
        steps or more.

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
    operator = real_form(A)
    v = parts_of("v", v, operator)
    if steps < 1:
        msg = f"`steps` must be at least 1, got {steps}."
        raise ValueError(msg)
    xp = operator.xp
    if not _arrays.is_array(v) or _arrays.namespace_of(v) is not _arrays.wrapped(xp):
        msg = f"`v` must be an array of the operator's library, {xp.__name__.split('.')[-1]}, got {type(v).__name__}."
        raise TypeError(msg)
    columns = v[:, None] if v.ndim == 1 else v
    length = operator.shards.local
    if columns.ndim != 2 or columns.shape[0] != length:
        msg = f"`v` must have shape ({length},) or ({length}, k), got {tuple(v.shape)}."
        raise ValueError(msg)
    rows = _arrays.cast(_arrays.rows_of(columns, xp), _arrays.working_dtype(operator.dtype, xp), xp)
    storage = Storage(basis, None if scratch is None else Path(scratch), steps)
    run = LanczosRun(operator, unit_rows(rows, xp, operator.shards), reorth=reorth, storage=storage, owned=True)
    run.advance(steps)
    run.warn(above=1)
    return run.tridiagonal()
