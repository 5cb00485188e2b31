"""What one Lanczos step costs over many ranks: bytes, messages, memory and seconds, from the figures of a machine.

Pure arithmetic on how the four layouts work, per rank: n numbers are cut into `ranks` shards; a ring brings a rank
(ranks - 1) / ranks of what all have, in ranks - 1 messages (Thakur, Rabenseifner & Gropp 2005,
doi:10.1177/1094342005051521); a sum of a few numbers takes 2 log2(ranks) messages, or goes from each to each other
between few hosts. Products, exchanges and passes over memory are added up, as if nothing overlapped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, log2

from slq_torch._ranks._exchanges import FEW, together

# Passes over a vector in the three-term recurrence: x, w and the previous one read, two written, the probe's norm.
_PASSES = 6
# Passes over whole vectors in a product that is summed over ranks: tested, then weighted.
_WHOLE = 3
# Passes over the rows in which a sparse matrix adds what others' rows give: set to zero, written, read, and the sum.
_APART = 5
# Vectors of the recurrence that stay: the newest two and their image.
_VECTORS = 3
# Sums over ranks in a step of the recurrence, and more of them where the basis is projected out twice at each step; on
# hosts one is enough, and a projection of one sweep is made at some steps.
_SUMS, _SUMS_BASIS, _SUMS_HOST, _SUMS_BASIS_HOST = 2, 4, 1, 1
# Reads of every stored vector in a step: two sweeps, each an inner product and an update.
_READS = 4


@dataclass(frozen=True, slots=True)
class Machine:
    """Figures of one rank and of what connects it to others; those that programs reach, not those of the catalogue.

    Attributes
    ----------
    flops : float
        Floating-point operations per second in passes through a model.
    stream : float
        Bytes per second from memory.
    memory : float
        Bytes that a run may use.
    latency : float
        Seconds that a message takes, however short.
    bandwidth : float
        Bytes per second into one rank while all communicate, between nodes.
    node : int
        Ranks of one node; 1 by default, where there is one network only.
    node_bandwidth : float
        The same as `bandwidth`, within a node.
    """

    flops: float
    stream: float
    memory: float
    latency: float
    bandwidth: float
    node: int = 1
    node_bandwidth: float = 0.0

    def speed(self, ranks: int) -> float:
        """Return the bytes per second into one of so many ranks."""
        return self.node_bandwidth if 1 < ranks <= self.node else self.bandwidth


@dataclass(frozen=True, slots=True)
class Cost:
    """What one step of all probes costs one rank.

    Attributes
    ----------
    received : float
        Bytes that come from other ranks.
    messages : float
        In how many messages.
    memory : float
        Bytes that the run holds.
    product, exchange, vectors, latency : float
        Seconds of multiplying, of the bytes that come, of passes over vectors and basis, and of messages as such.
    """

    received: float
    messages: float
    memory: float
    product: float
    exchange: float
    vectors: float
    latency: float

    @property
    def seconds(self) -> float:
        """All of these together."""
        return self.product + self.exchange + self.vectors + self.latency

    @property
    def bottleneck(self) -> str:
        """The name of the largest of them."""
        return max(("product", "exchange", "vectors", "latency"), key=lambda name: getattr(self, name))


@dataclass(frozen=True, slots=True)
class Run:
    """What a run keeps of its vectors.

    Attributes
    ----------
    probes, steps : int
        Of the run.
    itemsize : int
        Bytes of a number in vectors; 4 by default.
    basis : int
        Bytes of a number in stored Krylov vectors, 0 where none are kept; 2 by default.
    host : bool
        Whether vectors are in the memory of hosts, where the recurrence needs fewer sums; no by default.
    """

    probes: int = 1
    steps: int = 60
    itemsize: int = 4
    basis: int = 2
    host: bool = False

    def held(self, n: float) -> float:
        """Return the bytes of the recurrence and the basis of all probes, for vectors of n numbers."""
        return self.probes * n * (_VECTORS * self.itemsize + self.steps * self.basis)

    def passes(self, n: float, machine: Machine) -> float:
        """Return the seconds of a step's passes over vectors of n numbers, with half of the basis there on average."""
        moved = _PASSES * self.itemsize + _READS * self.basis * self.steps / 2
        return self.probes * n * moved / machine.stream

    def sums(self, ranks: int) -> int:
        """Return the messages in which small sums over ranks are made in a step."""
        least, more = (_SUMS_HOST, _SUMS_BASIS_HOST) if self.host else (_SUMS, _SUMS_BASIS)
        each = ranks - 1 if self.host and ranks <= FEW else 2 * ceil(log2(ranks))
        return (least + (more if self.basis else 0)) * each


def data_parallel(
    n: float, ranks: int, machine: Machine, run: Run, /, *, work: float, model: float, working: float = 0.0
) -> Cost:
    """Cost exact products of a model that every rank holds, on its share of the data, with vectors in shards.

    Parameters
    ----------
    n : float
        Parameters.
    ranks : int
        How many.
    machine : Machine
        Figures of one rank.
    run : Run
        Probes, steps and precisions.
    work : float
        Floating-point operations of one product on all data.
    model : float
        Bytes of the parameters on one rank.
    working : float
        Bytes of activations and buffers.

    Returns
    -------
    Cost
        Per step and rank. It receives 2 n itemsize (ranks - 1) / ranks per probe: shards of the product, and of the
        next vector from the others. One message more tells each rank how the others' products went.
    """
    share = run.probes * n * run.itemsize * (ranks - 1) / ranks
    whole = 2 * (run.probes + 1) * n * run.itemsize  # vectors and their images; the gradient, and its graph's share
    exchanges = 2 * ceil(run.probes / together(int(n))) + 1
    messages = exchanges * (ranks - 1) + run.sums(ranks)
    return Cost(
        received=2 * share,
        messages=messages,
        memory=model + whole + working + run.held(n / ranks),
        product=run.probes * (work / ranks / machine.flops + _WHOLE * n * run.itemsize / machine.stream),
        exchange=2 * share / machine.speed(ranks),
        vectors=run.passes(n / ranks, machine),
        latency=messages * machine.latency,
    )


def probe_parallel(
    n: float, ranks: int, machine: Machine, run: Run, /, *, work: float, model: float, working: float = 0.0
) -> Cost:
    """Cost ranks that each run some of the probes on all data; parameters as for `data_parallel`."""
    own = replace(run, probes=ceil(run.probes / ranks))
    return Cost(
        received=0.0,
        messages=0,
        memory=model + own.probes * n * own.itemsize + working + own.held(n),
        product=own.probes * work / machine.flops,
        exchange=0.0,
        vectors=own.passes(n, machine),
        latency=0.0,
    )


def parameter_sharded(
    n: float,
    ranks: int,
    machine: Machine,
    run: Run,
    /,
    *,
    work: float,
    layers: int = 1,
    parameter: int = 4,
    working: float = 0.0,
) -> Cost:
    """Cost differences of two gradients of a model whose parameters are in shards, as are the vectors.

    Parameters
    ----------
    n : float
        Parameters.
    ranks : int
        How many.
    machine : Machine
        Figures of one rank.
    run : Run
        Probes, steps and precisions.
    work : float
        Floating-point operations of two gradients on all data.
    layers : int
        Groups of parameters that are gathered one after the other.
    parameter : int
        Bytes in which a parameter travels.
    working : float
        Bytes of activations, buffers and of the layers that are gathered at a time.

    Returns
    -------
    Cost
        Per step and rank. Each gradient gathers all parameters twice, forwards and backwards, and scatters the sums of
        gradients: six times the parameters per product.
    """
    received = 6 * run.probes * n * parameter * (ranks - 1) / ranks
    messages = 6 * run.probes * layers * (ranks - 1) + run.sums(ranks)
    return Cost(
        received=received,
        messages=messages,
        memory=3 * n / ranks * run.itemsize + working + run.held(n / ranks),
        product=run.probes * work / ranks / machine.flops,
        exchange=received / machine.speed(ranks),
        vectors=run.passes(n / ranks, machine),
        latency=messages * machine.latency,
    )


def sharded_csr(
    n: float, ranks: int, machine: Machine, run: Run, /, *, nnz: float, halo: float, peers: int, index: int = 4
) -> Cost:
    """Cost a sparse matrix in row shards.

    Parameters
    ----------
    n : float
        Rows.
    ranks : int
        How many.
    machine : Machine
        Figures of one rank.
    run : Run
        Probes, steps and precisions.
    nnz : float
        Entries of the whole matrix.
    halo : float
        Numbers of each vector that a rank needs from others.
    peers : int
        Ranks that these come from.
    index : int
        Bytes of a column number.

    Returns
    -------
    Cost
        Per step and rank. A product reads the entries once for all probes, and reads x and writes its image; what came
        from others is multiplied by itself and added.
    """
    rows = n / ranks
    touched = (2 + (_APART if halo else 0)) * rows + halo
    entries = nnz / ranks * (run.itemsize + index)
    received = run.probes * halo * run.itemsize
    messages = peers + run.sums(ranks)
    return Cost(
        received=received,
        messages=messages,
        memory=entries + run.probes * (rows + halo) * run.itemsize + run.held(rows),
        product=(entries + run.probes * touched * run.itemsize) / machine.stream,
        exchange=received / machine.speed(ranks),
        vectors=run.passes(rows, machine),
        latency=messages * machine.latency,
    )
