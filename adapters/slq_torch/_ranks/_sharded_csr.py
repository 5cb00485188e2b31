"""A sparse matrix in row shards over the ranks of torch.distributed: each multiplies its own rows.

Vectors are cut as the rows are. Before a product a rank needs the numbers of x that its columns name and others hold:
either just these (the halo), or, where that is most of x, all of it by an all-gather. Own columns are multiplied while
the rest is on its way. Blocks are NumPy arrays on the host, and travel by gloo or MPI.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
import torch.distributed as dist

from slq._files._shard_folder import MANIFEST, ShardFolder, shards_in
from slq._kernels._entries import Traces, sparse_traces, usable
from slq._kernels._kernels import Product
from slq._kernels._kernels_numpy import Rows
from slq_torch._ranks._ranks import Ranks

Block = npt.NDArray[Any]
Exchange = Literal["auto", "halo", "gather"]
# Share of what an all-gather brings from which on it is taken: it needs no packing and moves in fewer messages.
_MOST = 0.75


@dataclass
class Traffic:
    """What one rank has moved.

    Attributes
    ----------
    received : int
        Bytes of vectors that came from other ranks.
    messages : int
        In how many messages.
    sums : int
        How many small arrays were summed over ranks.
    """

    received: int = 0
    messages: int = 0
    sums: int = 0


class ShardedMatrix:
    """Some rows of a symmetric sparse matrix, the others being with other ranks. Made by `sharded_csr`.

    Attributes
    ----------
    shape : tuple of int
        (n, n), of the whole matrix.
    rows : range
        The rows that are here.
    dtype : dtype
        Of the entries and of vectors.
    nnz : int
        Entries that are here.
    traffic : Traffic
        What this rank has received from others so far.
    """

    order = "C"
    xp = np

    def __init__(self, shards: ShardFolder, exchange: Exchange, group: Any, timeout: float | None) -> None:
        self._ranks = None if group is None else Ranks(group, torch.device("cpu"), timeout)
        ranks, rank = (1, 0) if self._ranks is None else (self._ranks.size, self._ranks.rank)
        parts = _owners(shards, ranks)
        first = [shards.parts[part].first for part in parts[:-1]] + [shards.n]
        self._group, self._first, self._rank = group, np.array(first), rank
        self.shape, self.dtype = (shards.n, shards.n), np.dtype(shards.dtype)
        self.rows, self.traffic = range(first[rank], first[rank + 1]), Traffic()
        matrix = self._agreed(lambda: shards.matrix(range(parts[rank], parts[rank + 1])))
        self.nnz, self._traces = int(matrix.nnz), self._summed(matrix)
        own, others = _split(matrix, self.rows)
        self._own, self._gathers = Product(Rows(own)), False
        self._far, self._needed = _packed(others)
        self._wanted = self._swap(self._needed)
        self._choose(exchange)
        self.metadata = {"kind": "sharded sparse matrix", "ranks": ranks, "exchange": self.exchange}

    @property
    def exchange(self) -> str:
        """How ranks get what they need of x: "halo" or "gather"."""
        return "gather" if self._gathers else "halo"

    @property
    def halo(self) -> int:
        """Numbers of each vector that this rank needs from others."""
        return len(self._needed)

    def matmat(self, X: Block, /) -> Block:
        """Return the rows that are here of A @ X, from the same rows of X; all ranks must call it together."""
        X = np.ascontiguousarray(X)
        if self._ranks is None:
            return self._own(X)
        with self._ranks.alone():
            with self._ranks.together("an exchange of vectors"):
                arriving, requests = self._gather(X) if self._gathers else self._ask(X)
            image = self._own(X)
            self._wait(requests)
            if self._far.nnz:
                image += self._far @ arriving
        return image

    @property
    def reduce(self) -> Callable[[Block], Block] | None:
        """What sums small arrays over ranks; None where this process is alone."""
        return None if self._group is None else self._sum

    @property
    def product(self) -> Product | None:
        """What a fused step can read, where this process is alone."""
        return self._own if self._group is None else None

    @property
    def traces(self) -> Traces | None:
        """The numbers tr A and tr A^2 of the whole matrix."""
        return self._traces

    # -- before the first product -----------------------------------------------------------------------------------

    def _agreed(self, load: Any) -> Any:
        """Load something; where that fails on one rank, fail on all with its reason."""
        found, why = None, None
        try:
            found = load()
        except (OSError, ValueError, MemoryError) as error:
            why = f"{type(error).__name__}: {error}"
        reasons = {rank: reason for rank, reason in enumerate(_collected(why, self._group)) if reason}
        if reasons:
            rank, reason = next(iter(reasons.items()))
            msg = f"rank {rank} cannot load its rows: {reason}"
            raise ValueError(msg)
        return found

    def _summed(self, matrix: Any) -> Traces | None:
        """Sum what each rank has of the traces; their diagonals begin at its first row."""
        local = sparse_traces(matrix) or (0.0, 0.0 if matrix.nnz == 0 else np.nan)
        diagonal = float(matrix.diagonal(self.rows.start).sum(dtype=np.float64))
        first, second = self._sum(np.array([diagonal, local[1]])).tolist()
        return usable(first, second)

    def _swap(self, needed: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Tell every rank which of its rows are needed here; return which rows here each of them needs."""
        self._bounds = np.searchsorted(needed, self._first)
        if self._group is None:
            return []
        counts = torch.from_numpy(np.diff(self._bounds))
        table = [torch.empty_like(counts) for _ in range(len(self._first) - 1)]
        dist.all_gather(table, counts, group=self._group)
        wanted = [np.empty(int(row[self._rank]), dtype=np.int64) for row in table]
        self._wait(self._post([needed[i:j] for i, j in pairwise(self._bounds)], wanted))
        return [numbers - self.rows.start for numbers in wanted]

    def _choose(self, exchange: Exchange) -> None:
        """Take an all-gather where the halos of all ranks are not much less; then columns count in what it brings."""
        sizes = np.diff(self._first)
        halos = float(self._sum(np.array([float(self.halo)]))[0])
        all_of_it = float(sizes.max()) * len(sizes) * (len(sizes) - 1)
        self._gathers = exchange == "gather" or (exchange == "auto" and all_of_it > 0 and halos >= _MOST * all_of_it)
        if not self._gathers or self._group is None:
            return
        owner = np.searchsorted(self._first, self._needed, side="right") - 1
        places = owner * int(sizes.max()) + self._needed - self._first[owner]
        indices = places[self._far.indices].astype(self._far.indices.dtype)
        shape = (len(self.rows), int(sizes.max()) * len(sizes))
        self._far = scipy.sparse.csr_array((self._far.data, indices, self._far.indptr), shape=shape)

    # -- in each product ----------------------------------------------------------------------------------------------

    def _ask(self, X: Block) -> tuple[Block, list[Any]]:
        """Send what others need of X, and have what is needed here come."""
        halo = np.empty((self.halo, X.shape[1]), dtype=X.dtype)
        parts = [halo[i:j] for i, j in pairwise(self._bounds)]
        self.traffic.received += halo.nbytes
        self.traffic.messages += sum(1 for part in parts if part.size)
        return halo, self._post([X[rows] for rows in self._wanted], parts)

    def _gather(self, X: Block) -> tuple[Block, list[Any]]:
        """Have all of x come, the rows of each rank padded to those of the largest."""
        ranks, most = len(self._first) - 1, int(np.diff(self._first).max())
        padded = np.zeros((most, X.shape[1]), dtype=X.dtype)
        padded[: len(X)] = X
        whole = np.empty((ranks * most, X.shape[1]), dtype=X.dtype)
        parts = [torch.from_numpy(whole[i * most : (i + 1) * most]) for i in range(ranks)]
        self.traffic.received += (ranks - 1) * padded.nbytes
        self.traffic.messages += ranks - 1
        return whole, [dist.all_gather(parts, torch.from_numpy(padded), group=self._group, async_op=True)]

    def _sum(self, x: Block) -> Block:
        if self._ranks is None:
            return x
        self.traffic.sums += 1
        return np.asarray(self._ranks.sum(x))

    def _wait(self, requests: list[Any]) -> None:
        """Wait for messages that are under way."""
        if self._ranks is None:
            return
        limit = timedelta(seconds=self._ranks.seconds)
        with self._ranks.together("an exchange of vectors"):
            for request in requests:
                request.wait(limit)  # messages from one to another do not know of the group's time-out

    def _post(self, sent: list[Any], received: list[Any]) -> list[Any]:
        """Begin to send an array to each rank and to receive one from each; empty ones do not travel."""
        operations = []
        for rank, (out, into) in enumerate(zip(sent, received, strict=True)):
            if rank == self._rank:
                continue
            peer = dist.get_global_rank(self._group, rank)
            for send, array in ((dist.isend, out), (dist.irecv, into)):
                if array.size:
                    operations.append(dist.P2POp(send, torch.from_numpy(array), peer, group=self._group))
        return dist.batch_isend_irecv(operations) if operations else []


def sharded_csr(
    folder: str | os.PathLike[str], /, *, exchange: Exchange = "auto", group: Any = None, timeout: float | None = None
) -> ShardedMatrix:
    """Return a sparse matrix of which every rank loads its own rows, for slq.spectrum and what is asked of it.

    All ranks call it, and then the same functions of slq with the same arguments; results are the same on all. In one
    process without torch.distributed it is the whole matrix. A product moves `halo` numbers per vector to each rank,
    or nearly all n; memory is that of the rows, three times as much while they are loaded, of what is received, and of
    the vectors' rows.

    Parameters
    ----------
    folder : path-like
        Made by `slq shard` or `slq.shard`, of at least as many parts as there are ranks; each takes neighbouring parts
        with about equally many entries.
    exchange : {"auto", "halo", "gather"}, default "auto"
        Whether ranks ask each other for just the numbers they need, or gather whole vectors; by default the latter
        where the former would move three quarters as much.
    group : ProcessGroup, optional
        The ranks that share the matrix, of a backend that works on the host (gloo, MPI); by default all. Where the
        default group is NCCL, a gloo group is made beside it.
    timeout : float, optional
        Seconds that a rank waits in an exchange for one that has failed or died, before it ends with an error; that of
        the group by default, as given to init_process_group.

    Returns
    -------
    ShardedMatrix
        An operator with `shape`, `rows`, `matmat`, `reduce` and `traces`; and `halo`, `traffic`.

    Raises
    ------
    ValueError
        On all ranks, if the folder has fewer parts than there are ranks, is another one on some rank, or a part is
        missing or damaged; or if `exchange` or `timeout` is none of these.
    RunError
        From products, on all ranks: where one failed, with its number and reason, or died.

    Notes
    -----
    Entries are multiplied in another order than in one process, so that results agree to rounding. Vectors are cut into
    as many pieces as there are ranks, which `rows` names; the numbers of probes do not depend on that.

    References
    ----------
    Hendrickson & Plimpton 1995, "Parallel many-body simulations without all-to-all communication", on exchanging what
    rows need, doi:10.1006/jpdc.1995.1060.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import scipy.sparse
    >>> import slq
    >>> from slq_torch.distributed import sharded_csr
    >>> where = pathlib.Path(tempfile.mkdtemp())
    >>> chain = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(1000, 1000), format="csr")
    >>> scipy.sparse.save_npz(where / "chain.npz", chain)
    >>> A = sharded_csr(slq.shard(where / "chain.npz", where / "chain.shards", parts=4).folder)
    >>> A.rows, A.traces
    (range(0, 1000), (2000.0, 5998.0))
    """
    if exchange not in ("auto", "halo", "gather"):
        msg = f"`exchange` must be 'auto', 'halo' or 'gather', got {exchange!r}."
        raise ValueError(msg)
    group = _on_host(group)
    shards, why = None, None
    try:
        shards = shards_in(Path(folder))
    except (OSError, ValueError) as error:
        why = str(error)
    fingerprint = None if shards is None else hashlib.sha256((shards.folder / MANIFEST).read_bytes()).hexdigest()
    found = _collected((fingerprint, why), group)
    for rank, (other, reason) in enumerate(found):
        if reason is not None or other != found[0][0]:
            msg = reason or f"`folder` must be the same on all ranks; on rank {rank} it holds another matrix than on 0."
            raise ValueError(msg)
    if shards is None:  # pragma: no cover - one of the reasons above
        raise ValueError(why)
    if len(found) > len(shards.parts):
        msg = (
            f"{folder} has {len(shards.parts)} parts for {len(found)} ranks. Shard the matrix again with --parts "
            f"{len(found)} or more, or start fewer processes."
        )
        raise ValueError(msg)
    return ShardedMatrix(shards, exchange, group, timeout)


def _on_host(group: Any) -> Any:
    """Return a group that moves arrays of the host, None where this process is alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    if group is None:
        return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else dist.group.WORLD
    return group


def _collected(fact: Any, group: Any) -> list[Any]:
    """Return a small fact of every rank."""
    if group is None:
        return [fact]
    found: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(found, fact, group=group)
    return found


def _owners(shards: ShardFolder, ranks: int) -> list[int]:
    """Return the first part of each rank, and how many there are: about equally many entries, at least one part."""
    ends = np.cumsum([0, *(part.nnz for part in shards.parts)])
    cuts = [int(np.abs(ends - ends[-1] * rank / ranks).argmin()) for rank in range(ranks)]
    for rank in range(ranks):
        least = 0 if rank == 0 else cuts[rank - 1] + 1
        cuts[rank] = min(max(cuts[rank], least), len(shards.parts) - ranks + rank)
    return [*cuts, len(shards.parts)]


def _split(matrix: Any, rows: range) -> tuple[Any, Any]:
    """Return the columns that are here, counted from the first, and the others, as two matrices."""
    own = matrix[:, rows.start : rows.stop]
    entries = matrix.tocoo()
    away = (entries.col < rows.start) | (entries.col >= rows.stop)
    places = (entries.row[away], entries.col[away])
    return own, scipy.sparse.coo_array((entries.data[away], places), shape=matrix.shape).tocsr()


def _packed(matrix: Any) -> tuple[Any, npt.NDArray[np.int64]]:
    """Return a matrix without its empty columns, and the numbers of the others."""
    needed, places = np.unique(matrix.indices, return_inverse=True)
    indices = places.reshape(-1).astype(matrix.indices.dtype)
    packed = scipy.sparse.csr_array((matrix.data, indices, matrix.indptr), shape=(matrix.shape[0], len(needed)))
    return packed, needed.astype(np.int64)
