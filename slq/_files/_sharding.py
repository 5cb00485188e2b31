"""`shard`: a sparse matrix in a file becomes a folder of row shards, in memory that holds one of them.

A Matrix Market file is read twice: first the entries of each row are counted and symmetry is tested, then every entry
goes to a temporary file of its part, and each part is sorted by rows. The folder appears under its name in one step,
complete or not at all.

Symmetry is tested by one number, x^T A y - y^T A x for Gaussian x and y: its variance is |A - A^T|_F^2, so that
asymmetry a thousand times above the threshold stays unseen with a probability below 1e-3.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from slq._arrays import free_memory
from slq._files._market import Entries, Market, market
from slq._files._shard_folder import FORMAT, KIND, MANIFEST, Part, ShardFolder, digest, shards_in
from slq._files._store import flush, umask
from slq._progress import reading

# Bytes per row that stay in memory while entries are counted: the count and two random numbers.
_PER_ROW = 24
# |A - A^T| / |A| up to this power of a rounding is rounding.
_ROUNDING = 0.5
# Entries of a matrix in memory that are handed on at a time.
_ENTRIES = 1 << 19


def shard(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    /,
    *,
    parts: int = 8,
    progress: bool = False,
) -> ShardFolder:
    """Cut a sparse symmetric matrix in a file into row shards with about equally many entries.

    For matrices larger than the memory of one process, which `slq_torch.distributed.sharded_csr` multiplies by under
    torchrun. A Matrix Market file is streamed: memory holds 24 bytes per row, some 50 bytes per entry of the largest
    part, and 100 MB; the disk holds another 16 bytes per entry for the time being. An .npz file is loaded whole.

    Parameters
    ----------
    source : path-like
        A file .mtx or .mtx.gz (Matrix Market, coordinate, real, integer or pattern, symmetric or general with both
        triangles) or .npz (scipy.sparse.save_npz). Entries given twice are added up.
    folder : path-like, optional
        Folder to make; by default the name of `source` with .shards, in the current folder. It must not exist.
    parts : int, default 8
        How many; at least as many as processes will read them. More do no harm: a process takes several.
    progress : bool, default False
        Show how far it is on stderr (needs tqdm).

    Returns
    -------
    ShardFolder
        What was written: `folder`, `n`, `nnz`, `dtype` and `parts`.

    Raises
    ------
    ValueError
        If the file is no sparse real symmetric matrix, is damaged, has entries that are not finite or fewer rows than
        parts, or its rows do not fit into memory; the message says where and what to do.
    FileExistsError
        If the folder exists.

    Notes
    -----
    Values become float64, except those of an .npz file in float32, which stay so. Nothing is left behind where it
    fails; a process that was killed leaves a folder whose name begins with a dot.

    References
    ----------
    Boisvert, Pozo & Remington 1996, "The Matrix Market exchange formats: initial design", NISTIR 5935.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import scipy.sparse
    >>> import slq
    >>> where = pathlib.Path(tempfile.mkdtemp())
    >>> chain = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(1000, 1000), format="csr")
    >>> scipy.sparse.save_npz(where / "chain.npz", chain)
    >>> shards = slq.shard(where / "chain.npz", where / "chain.shards", parts=4)
    >>> [part.rows for part in shards.parts], shards.nnz
    ([250, 250, 250, 250], 2998)
    """
    from slq._files._sources import name_of  # `import slq` is quicker without

    path = Path(source)
    target = Path(name_of(str(path)) + ".shards") if folder is None else Path(folder)
    if isinstance(parts, bool) or not isinstance(parts, (int, np.integer)) or parts < 1:
        msg = f"`parts` must be an integer of at least 1, got {parts!r}."
        raise ValueError(msg)
    if target.exists():
        msg = f"{target} exists. Remove it, or name another folder."
        raise FileExistsError(msg)
    matrix = _opened(path)
    if parts > matrix.n:
        msg = f"`parts` must be at most the number of rows, {matrix.n:,}, got {parts:,}."
        raise ValueError(msg)
    meter = reading(2 * matrix.size) if progress else None
    watch = meter.reach if meter else _unseen
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.resolve().parent))
    try:
        cuts = _cuts(_counted(matrix, watch), int(parts))
        _route(matrix, cuts, temporary, watch)
        written = [_assembled(matrix, number, cuts, temporary) for number in range(len(cuts) - 1)]
        shards = ShardFolder(target, matrix.n, sum(part.nnz for part in written), matrix.dtype.name, tuple(written))
        _finish(shards, temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        if meter:
            meter.close()
    return shards_in(target)


# -- where entries come from --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A CSR matrix in memory, handed on as `Market` hands on a file."""

    path: Path
    matrix: Any
    symmetric: bool = False

    @property
    def n(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def dtype(self) -> Any:
        return self.matrix.dtype

    @property
    def size(self) -> int:
        return int(self.matrix.nnz)

    def pieces(self) -> Iterator[tuple[Entries, int]]:
        """Give the entries, and how many there were so far."""
        indptr, indices, data = self.matrix.indptr, self.matrix.indices, self.matrix.data
        for first in range(0, self.size, _ENTRIES):
            last = min(first + _ENTRIES, self.size)
            rows = np.searchsorted(indptr, np.arange(first, last), side="right") - 1
            yield (rows, indices[first:last], data[first:last]), last


def _opened(path: Path) -> Market | _Loaded:
    """Return the source of entries that a file is; refuse what is no square sparse matrix or has too many rows."""
    if not path.name.endswith((".mtx", ".mtx.gz", ".npz")):
        msg = f"{path}: the name of a sparse matrix ends in .mtx, .mtx.gz or .npz."
        raise ValueError(msg)
    matrix = _checked(path) if path.suffix == ".npz" else market(path)
    if (needed := _PER_ROW * matrix.n) > (free := free_memory(np, "cpu")):
        msg = f"{path} has {matrix.n:,} rows: counting their entries takes {needed:,} bytes, and {free:,.0f} are free."
        raise ValueError(msg)
    return matrix


def _checked(path: Path) -> _Loaded:
    """Load a matrix that SciPy saved."""
    from slq._files._matrix_files import read_matrix
    from slq._files._sources import floating

    found = floating(read_matrix(path))
    if found.ndim != 2 or found.shape[0] != found.shape[1] or found.shape[0] == 0 or found.dtype.kind == "c":
        shape = " × ".join(map(str, found.shape))
        msg = f"{path} is {shape} of {found.dtype}; eigenvalues need a real square matrix of at least one row."
        raise ValueError(msg)
    try:
        found.check_format(full_check=True)
    except ValueError as error:
        msg = f"{path} is damaged ({error})."
        raise ValueError(msg) from error
    if not np.isfinite(found.data).all():
        msg = f"{path} has entries that are not finite."
        raise ValueError(msg)
    return _Loaded(path, found if found.dtype in (np.float32, np.float64) else found.astype(np.float64))


# -- from entries to parts ----------------------------------------------------------------------------------------


def _counted(matrix: Market | _Loaded, watch: Any) -> npt.NDArray[np.int64]:
    """Return the entries of each row, both triangles; refuse a matrix that is not symmetric."""
    counts = np.zeros(matrix.n, dtype=np.int64)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 0 if matrix.symmetric else matrix.n))
    difference = size = scale = 0.0
    below = above = False
    for (rows, columns, values), done in matrix.pieces():
        watch(done)
        np.add.at(counts, rows, 1)
        if matrix.symmetric:
            np.add.at(counts, columns[rows != columns], 1)
            continue
        scale = scale or 2.0 ** np.frexp(float(np.abs(values).max(initial=0.0)))[1]
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            scaled = values / (scale or 1.0)
            difference += float(np.sum(scaled * (x[rows] * y[columns] - x[columns] * y[rows])))
            size += float(np.sum(scaled * scaled))
        below, above = below or bool((rows > columns).any()), above or bool((rows < columns).any())
    asymmetry = abs(difference) / np.sqrt(size) if 0 < size < np.inf else 0.0
    if asymmetry > np.finfo(matrix.dtype).eps ** _ROUNDING:
        _refuse_asymmetric(matrix, asymmetry, both=below and above)
    return counts


def _cuts(counts: npt.NDArray[np.int64], parts: int) -> npt.NDArray[np.int64]:
    """Return the first row of each part and n: about equally many entries each, at least one row."""
    ends = np.cumsum(counts)
    ideal = np.arange(1, parts) * (ends[-1] / parts)
    row = np.searchsorted(ends, ideal)  # the row within which each part would end; it goes to where most of it lies
    row += ends[row] - ideal < ideal - (ends - counts)[row]
    cuts = np.concatenate([[0], row, [len(counts)]])
    order = np.arange(parts + 1)
    return np.maximum.accumulate(np.minimum(cuts - order, len(counts) - parts)) + order


def _route(matrix: Market | _Loaded, cuts: npt.NDArray[np.int64], folder: Path, watch: Any) -> None:
    """Append every entry to the temporary file of its part."""
    record = _record(matrix)
    for (rows, columns, values), done in matrix.pieces():
        watch(matrix.size + done)
        if matrix.symmetric:
            off = rows != columns
            rows, columns = np.concatenate([rows, columns[off]]), np.concatenate([columns, rows[off]])
            values = np.concatenate([values, values[off]])
        entries = np.empty(len(rows), dtype=record)
        entries["row"], entries["column"], entries["value"] = rows, columns, values
        part = np.searchsorted(cuts, rows, side="right") - 1
        order = np.argsort(part, kind="stable")
        bounds = np.searchsorted(part[order], np.arange(len(cuts)))
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            with _unsorted(folder, number).open("ab") as file:
                entries[order[bounds[number] : bounds[number + 1]]].tofile(file)


def _assembled(matrix: Market | _Loaded, number: int, cuts: npt.NDArray[np.int64], folder: Path) -> Part:
    """Sort the entries of one part by rows, and write them as a CSR matrix."""
    first, rows = int(cuts[number]), int(cuts[number + 1] - cuts[number])
    file, unsorted = folder / f"part-{number:05d}.npz", _unsorted(folder, number)
    entries = np.fromfile(unsorted, dtype=_record(matrix)) if unsorted.exists() else np.empty(0, dtype=_record(matrix))
    unsorted.unlink(missing_ok=True)
    places = (entries["row"] - first, np.ascontiguousarray(entries["column"]))
    values = np.ascontiguousarray(entries["value"])
    del entries
    piece = scipy.sparse.coo_array((values, places), shape=(rows, matrix.n)).tocsr()
    piece.sum_duplicates()
    with file.open("x+b") as stream:
        scipy.sparse.save_npz(stream, piece, compressed=False)
        stream.flush()
        os.fsync(stream.fileno())
        size = stream.tell()
        stream.seek(0)
        return Part(file.name, first, rows, int(piece.nnz), size, digest(stream))


def _finish(shards: ShardFolder, temporary: Path) -> None:
    """Write the manifest, have all on disk, and give the folder its name."""
    parts = [asdict(part) for part in shards.parts]
    facts = {"kind": KIND, "format": FORMAT, "n": shards.n, "nnz": shards.nnz, "dtype": shards.dtype, "parts": parts}
    with (temporary / MANIFEST).open("x", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(0o777 & ~umask())
    flush(temporary)
    temporary.rename(shards.folder)
    flush(temporary.parent)


def _record(matrix: Market | _Loaded) -> Any:
    index = np.int32 if matrix.n <= np.iinfo(np.int32).max else np.int64
    return np.dtype([("row", index), ("column", index), ("value", matrix.dtype)])


def _unsorted(folder: Path, number: int) -> Path:
    return folder / f"unsorted-{number}"


def _refuse_asymmetric(matrix: Market | _Loaded, asymmetry: float, *, both: bool) -> None:
    cure = "Write (A + A^T) / 2, or A^T A for squared singular values (slq run does both for a matrix in memory)"
    if not both:
        way = "write `symmetric` for `general` in its first line"
        if isinstance(matrix, _Loaded):
            way = "save A + A.T - scipy.sparse.diags_array(A.diagonal())"
        cure = f"It has one triangle only: if that stands for the whole, {way}"
    msg = f"{matrix.path} is not symmetric: |A - A^T| / |A| is about {asymmetry:.1g}. {cure}."
    raise ValueError(msg)


def _unseen(done: int) -> None:
    """Show nothing."""
