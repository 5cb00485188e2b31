"""Eigenpairs at the ends of a spectrum: `slq.eigsh` checks what it is asked for and sends the hunt off.

Interior eigenvalues are not looked for: they need a factorisation or a filter, not products alone.
"""

from __future__ import annotations

import sys
import zlib
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np

from slq import _arrays
from slq._arrays import Array
from slq._eigen._eigenpairs import Eigenpairs
from slq._eigen._ends import Which
from slq._eigen._hunt import Callback, Hunt, resumed
from slq._files import _store
from slq._lanczos import _probes, _rows
from slq._lanczos._krylov import unit_rows
from slq._lanczos._probes import Seed
from slq._operators._operators import Operator, as_operator
from slq._run._checkpoint import Checkpoint
from slq._run._opening import dtype_of_vectors

# Vectors of the basis by default: beyond, on the gallery, products hardly become fewer.
_LEAST_BASIS, _SPARE, _BLOCKS = 48, 20, 12
# Products by default, at most: so many times n, and so many at least.
_LIMIT, _LEAST_LIMIT = 10, 1000
# Vectors that are needed besides: a product, its operands, and their like.
_WORK_VECTORS = 6


def eigsh(
    A: Any,
    /,
    k: int = 6,
    *,
    which: Which = "LM",
    tol: float = 0.0,
    start: Any = None,
    deflate: Any = None,
    verify: bool = True,
    basis: int | None = None,
    block: int = 1,
    rng: Seed = None,
    dtype: Any = None,
    confidence: float = 0.95,
    max_products: int | None = None,
    memory: float | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    checkpoint: str | Path | None = None,
    timeout: float | None = None,
) -> Eigenpairs:
    """Compute eigenvalues and eigenvectors at the ends of the spectrum, and verify that none was missed.

    Thick-restart Lanczos in the operator's own array library: vectors never leave its device. When the pairs have
    converged, another random vector is taken through what is orthogonal to them until it is proven, with probability
    `confidence`, that no other eigenvalue lies further out; copies of multiple eigenvalues and members of clusters that
    turn up on the way are taken in. Costs about as many products as ARPACK, proof included, and memory for about two
    times `basis` vectors.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes: matrix, sparse matrix, LinearOperator, Hessian, callable. A complex
        one is Hermitian, and its vectors are complex. Vectors that are cut into shards over several ranks stay so, in
        the arguments and in the result; all ranks make the same call.
    k : int, default 6
        Number of pairs, at most n.
    which : {"LM", "LA", "SA", "BE"}, default "LM"
        Those of largest magnitude, the largest, the smallest, or half from each end (one more from the upper end where
        `k` is odd).
    tol : float, default 0
        A pair has converged when the residual norm is at most `tol` times the magnitude of its value; 0 asks for as
        much as rounding allows, which is also the least that can be asked.
    start : array of shape (n,) or (n, s), or Eigenpairs, optional
        Where to begin: vectors near the wanted ones, as from a matrix that was a little different. Random by default.
    deflate : array of shape (n, d), or Eigenpairs, optional
        Known eigenvectors of `A`: the result is about what is orthogonal to them.
    verify : bool, default True
        Whether to spend products on the proof; at most half as many as were spent before, or 40.
    basis : int, optional
        Most Krylov vectors between restarts; by default max(2 k + 20, 48), or what `memory` and n allow. More vectors
        make fewer products and dearer steps.
    block : int, default 1
        Vectors multiplied at once. More than one pays where a block costs hardly more than a vector.
    rng : int, numpy.random.Generator or None
        Seed of the random vectors.
    dtype : dtype, optional
        Of the vectors, or of their real and imaginary parts; by default the operator's, at least float32.
    confidence : float, default 0.95
        Of the proof.
    max_products : int, optional
        Never multiply more columns than this, by default 10 n or 1000; what is there then is returned, with what has
        not converged marked.
    memory : float, optional
        Bytes that vectors may take; half of what is free by default.
    progress : bool, default False
        Show a progress bar on stderr (needs tqdm).
    callback : callable, optional
        Called with the partial Eigenpairs every few products; return True to stop. Making them costs time.
    checkpoint : str or Path, optional
        An .npz file that the search is written to, as often as costs 1 % of its time, and resumed from where it exists:
        with the same operator and options, to the same bits. All vectors lie in a file beside it. It stays when the
        search has ended; a call with it gives the result again. SIGINT and SIGTERM end a search that has one after the
        current product (on a device after those that are queued), with a status that begins with "interrupted"; a
        second one ends it at once. Resuming costs one product of `block` columns, which tells whether the operator is
        the same.
    timeout : float, optional
        Seconds that one product may take, as for `slq.as_operator`; no limit by default. Not among what a checkpoint
        must be resumed with.

    Returns
    -------
    Eigenpairs
        `values` ascending, shape (k,), `vectors` of shape (n, k), `residuals`, `converged`, and where all `rest` lies.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, an array of another library, or complex where `A` is real, or `checkpoint` is
        damaged or another run's, or given for vectors that are cut into shards.
    BlockingIOError
        If another run has `checkpoint` open.
    RunError
        If a product is not finite, of the wrong shape, raises or takes longer than `timeout`, or `callback` raises;
        `.partial` holds what was found.

    Warns
    -----
    SlqWarning
        If the operator is measurably asymmetric or nonlinear, its products do not repeat or are subnormal numbers.

    Notes
    -----
    What is certain: each value lies within its residual of an eigenvalue. What holds with probability `confidence`:
    all eigenvalues that are not returned lie in `rest`. So an exact copy of the last value may exist beside it. Of a
    complex operator a random vector hides an eigenvector less often than the proof reckons with. The
    differences to SciPy: residuals are those of a product with the final vector, which takes k products more, and what
    one start vector cannot see is looked for.

    References
    ----------
    Wu & Simon 2000, doi:10.1137/S0895479898334605 (thick restart). van Dorsselaer, Hochstenbach & van der Vorst 1999,
    doi:10.1137/S0895479897331427 (the bound of the proof).

    Examples
    --------
    >>> import slq
    >>> operator, law = slq.gallery.laplacian_2d(20)
    >>> pairs = slq.eigsh(operator, 4, which="LA", rng=0)
    >>> pairs.values.round(6)
    array([7.822291, 7.888807, 7.888807, 7.955323])
    >>> pairs.verified
    True
    """
    operator = as_operator(A, timeout=timeout)
    _validate(k, which, tol, block, confidence, max_products, memory)
    vectors = dtype_of_vectors(operator, dtype)
    if _arrays.is_complex(operator.dtype):
        vectors = _arrays.complex_dtype(vectors, operator.xp)
    shards = operator.shards.checked()
    if not shards.whole:
        _validate_shards(operator, checkpoint)
    known = None if deflate is None else _given("deflate", deflate, operator, vectors)
    if known is not None:
        known, _ = _rows.orthonormal(known, operator.xp, operator.reduce)
    found = 0 if known is None else int(known.shape[0])
    if k > operator.n - found:
        besides = f" less the {found} of `deflate`" if found else ""
        msg = f"`k` must be at most the dimension {operator.n}{besides}, got {k}."
        raise ValueError(msg)
    free = _arrays.free_memory(operator.xp, operator.device) / 2 if memory is None else memory
    room = int(shards.total(free)[0] // (operator.n * _arrays.itemsize(vectors)))
    first = None if start is None else _mixed(_given("start", start, operator, vectors), block, operator.xp)
    seed, saved = _probes.shared_seed(rng, shards), None
    size = _basis(k, operator.n - found, basis, room - found, block)
    with ExitStack() as stack:
        if checkpoint is not None:
            options = {
                "slq": version("slq"), "n": operator.n, "k": k, "which": which, "tol": tol,
                "dtype of the operator": _arrays.dtype_name(operator.dtype), "dtype": _arrays.dtype_name(vectors),
                "start": _named(first), "deflate": _named(known), "verify": verify, "basis": basis, "block": block,
                "confidence": confidence, "max_products": max_products, "memory": memory,
            }  # fmt: skip
            saved = Checkpoint(Path(checkpoint), options, _store.SEARCH, resumed)
            stack.callback(saved.close)
            seed = saved.known("rng", seed, free=rng is None)
            most = _basis(k, operator.n - found, basis, sys.maxsize, block)  # in all memory that one could have
            size = saved.known("size", size, allowed=range(1, most + 1))
        hunt = Hunt(
            operator,
            k,
            which,
            tol=tol,
            size=size,
            block=min(block, operator.n - found),
            seed=seed,
            dtype=vectors,
            start=first,
            known=known,
            verify=verify,
            confidence=confidence,
            limit=max(_LEAST_LIMIT, _LIMIT * operator.n) if max_products is None else int(max_products),
            callback=callback,
            show_progress=progress,
            checkpoint=saved,
        )
        stack.pop_all()
    return hunt.run()


def _named(rows: Array | None) -> str | None:
    """Return a name that other vectors do not have."""
    if rows is None:
        return None
    content = np.ascontiguousarray(_arrays.to_host(rows))
    return f"{len(content)} vectors of checksum {zlib.crc32(content.data):08x}"


def _basis(k: int, n: int, basis: int | None, room: int, block: int) -> int:
    """Return the most vectors of the basis: as asked for, or as many as are worth it and fit."""
    least = min(k + 1 + block, n)
    if basis is not None and basis < least:
        msg = f"`basis` must be at least {least} for k = {k} and block = {block}, got {basis}."
        raise ValueError(msg)
    fits = (room - _WORK_VECTORS * block) // 2
    wanted = max(2 * k + _SPARE, _LEAST_BASIS, _BLOCKS * block) if basis is None else basis
    if fits < (least if basis is None else min(wanted, n)):
        msg = (
            f"`memory` (by default half of what is free) has room for {max(room, 0)} vectors of length {n}; {k} pairs "
            f"need {2 * least + _WORK_VECTORS * block}. Raise it, ask for fewer pairs, or pass a float32 operator."
        )
        raise ValueError(msg)
    return min(wanted, fits, n)


def _given(name: str, given: Any, operator: Operator, dtype: Any) -> Array:
    """Return vectors given as columns, or Eigenpairs, as rows in the dtype of the run."""
    columns, xp = given.vectors if isinstance(given, Eigenpairs) else given, operator.xp
    if not _arrays.is_array(columns) or _arrays.namespace_of(columns) is not _arrays.wrapped(xp):
        library = xp.__name__.split(".")[-1]
        msg = (
            f"`{name}` must be Eigenpairs or an array of the operator's library, {library}, got {type(given).__name__}."
        )
        raise TypeError(msg)
    given, n = tuple(columns.shape), operator.shards.local
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2 or columns.shape[0] != n or not 1 <= columns.shape[1] <= operator.n:
        msg = f"`{name}` must have shape ({n},) or ({n}, s), got {given}."
        raise ValueError(msg)
    if _arrays.is_complex(columns.dtype) and not _arrays.is_complex(dtype):
        msg = f"`{name}` is complex and `A` real. Pass real and imaginary parts as two columns."
        raise TypeError(msg)
    return unit_rows(_arrays.cast(_arrays.rows_of(columns, xp), dtype, xp), xp, operator.shards, name=name)


def _mixed(rows: Array, block: int, xp: Any) -> Array:
    """Return at most `block` sums of rows, in which all of them take part."""
    return xp.stack([xp.sum(rows[i::block, :], axis=0) for i in range(min(block, rows.shape[0]))])


def _validate_shards(operator: Operator, checkpoint: str | Path | None) -> None:
    """Refuse what is not there for vectors that are cut into shards over ranks."""
    if _arrays.is_complex(operator.dtype):
        msg = "vectors of `A` are cut into shards over several ranks, and slq.eigsh takes real ones only then."
        raise TypeError(msg)
    if checkpoint is not None:
        msg = (
            "`checkpoint` of slq.eigsh holds whole vectors, and those of `A` are cut into shards over several ranks. "
            "Leave it out; with slq.spectrum it works on shards."
        )
        raise ValueError(msg)


def _validate(
    k: int, which: str, tol: float, block: int, confidence: float, max_products: int | None, memory: float | None
) -> None:
    for name, value in (("k", k), ("block", block), ("max_products", max_products)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            msg = f"`{name}` must be an integer, got {value!r}."
            raise TypeError(msg)
        if value < 1:
            msg = f"`{name}` must be at least 1, got {value}."
            raise ValueError(msg)
    if max_products is not None and max_products < block:
        msg = f"`max_products` must be at least `block` = {block}, got {max_products}."
        raise ValueError(msg)
    if which not in get_args(Which):
        hint = ' For those nearest to zero of a positive definite matrix, take "SA".' if which == "SM" else ""
        msg = f"`which` must be one of {', '.join(map(repr, get_args(Which)))}, got {which!r}.{hint}"
        raise ValueError(msg)
    if not 0 <= tol < 1:
        msg = f"`tol` must lie in [0, 1), got {tol}: it is a residual relative to the value."
        raise ValueError(msg)
    if not 0.5 <= confidence < 1:
        msg = f"`confidence` must lie in [0.5, 1), got {confidence}."
        raise ValueError(msg)
    if memory is not None and not memory > 0:
        msg = f"`memory` must be a positive number of bytes, got {memory}."
        raise ValueError(msg)
