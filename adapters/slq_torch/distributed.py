"""Several processes, on one machine or many, by torch.distributed: three ways to split a run, under torchrun.

Every rank runs the same script. `data_parallel` cuts the data and the Krylov vectors, `parameter_sharded` takes models
that are sharded themselves, `spectrum` shares the probes, among ranks or groups of them that split a matrix in one of
the other ways; `plan` says which. Results are the same on all ranks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch.nn import Module

from slq._arrays import free_memory
from slq._run._choice import WORK_VECTORS
from slq._spectrum._spectrum import Spectrum
from slq_torch._curvature._arguments import Mode, network
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._model._parameters import Selection, from_model
from slq_torch._model._passes import Loss
from slq_torch._ranks import _cost as cost
from slq_torch._ranks._data_parallel import DataParallelOperator, unwrapped
from slq_torch._ranks._layout import is_fully_sharded, is_sharded, mesh_of
from slq_torch._ranks._parameter_sharded import ParameterShardedOperator
from slq_torch._ranks._probe_parallel import device_of, run_probes
from slq_torch._ranks._ranks import Ranks
from slq_torch._ranks._sharded_csr import ShardedMatrix, sharded_csr
from slq_torch._ranks._tensor_parallel import TensorParallelOperator

__all__ = [
    "DataParallelOperator",
    "DistributedPlan",
    "ParameterShardedOperator",
    "ShardedMatrix",
    "TensorParallelOperator",
    "cost",
    "data_parallel",
    "parameter_sharded",
    "plan",
    "sharded_csr",
    "spectrum",
]

# Vectors that a product takes on the way: gradient, its graph's share, the block and the result.
_PRODUCT_VECTORS = 4


def data_parallel(
    make: Callable[..., CurvatureOperator],
    model: Module,
    loss: Loss,
    data: Any,
    /,
    *,
    group: Any = None,
    timeout: float | None = None,
    **options: Any,
) -> DataParallelOperator:
    r"""Make the operator of the data of all ranks from each rank's share, with Krylov vectors cut into shards.

    With the matrix :math:`A_r`, a mean over :math:`w_r` samples, of the data of rank r,

    .. math:: A = \sum_r w_r A_r \Big/ \sum_r w_r .

    Shares may be unequal and batches ragged: every sample, or with ``(sum, count)`` every unit of count, weighs the
    same. A product of b columns costs one with the rank's own operator, and moves 2 n b numbers per rank: vectors are
    gathered before and summed into shards after it. Krylov vectors take 1/p of the memory of a single process.

    Parameters
    ----------
    make : callable
        `slq_torch.hessian`, `slq_torch.ggn`, `slq_torch.fisher` or, with ``centred=False``,
        `slq_torch.gradient_covariance`.
    model : Module
        The network, the same on all ranks. DistributedDataParallel is taken off, with a note in the metadata.
    loss : callable
        As for `make`.
    data : object
        This rank's share, as for `make`: at least one batch.
    group : ProcessGroup, optional
        The ranks that take part; all by default.
    timeout : float, optional
        Seconds that a rank waits in an exchange for one that has died, before it ends with an error; that of the group
        by default, as given to init_process_group. More than ranks differ in the time of a product.
    **options
        As for `make`.

    Returns
    -------
    DataParallelOperator
        For `slq.spectrum` and all that takes shards, called on all ranks alike.

    Raises
    ------
    ValueError
        On all ranks, if versions, parameters, modes or kinds of batches differ between them, or shares cannot be
        weighted.
    RunError
        On all ranks, from products: where one failed, with its number and reason, gave NaN or Inf, or died.
    RuntimeError
        If torch.distributed is not initialised.

    References
    ----------
    Rajbhandari, Rasley, Ruwase & He 2020, arXiv:1910.02054, section 5, whose optimiser states are cut likewise.

    Examples
    --------
    Under ``torchrun --nproc-per-node 4 script.py``:

    >>> import slq, slq_torch
    >>> from slq_torch import distributed
    >>> def main(model, loss, share):
    ...     H = distributed.data_parallel(slq_torch.hessian, model, loss, share)
    ...     return slq.spectrum(H, rng=0)
    """
    if options.get("centred", make.__name__ == "gradient_covariance"):
        msg = (
            "`make` is gradient_covariance with centred=True, which subtracts the mean gradient of each rank's own "
            "share. Pass centred=False: C_0 adds up over ranks."
        )
        raise ValueError(msg)
    inner, notes = unwrapped(model)
    local = make(inner, loss, data, **options)
    return DataParallelOperator(local, Ranks(group, local.device, timeout), notes)


def parameter_sharded(
    model: Module,
    loss: Loss,
    data: Any,
    /,
    *,
    kind: Literal["hessian", "ggn"] = "hessian",
    params: Selection | None = None,
    mode: Mode = "as-is",
    strategy: Literal["auto", "graph", "finite-difference"] = "auto",
    group: Any = None,
    timeout: float | None = None,
) -> ParameterShardedOperator | TensorParallelOperator:
    r"""Make a curvature matrix of a model whose parameters are cut over ranks, by FSDP2 or by tensor parallelism.

    Vectors are laid out as the pieces are and never gathered. Of a model whose layers are cut (`parallelize_module`)
    all ranks take the same batches, and products are exact: a gradient with its graph, and then about two gradients
    per column. Second derivatives do not pass through FSDP2 (`fully_shard`), whose ranks each take a share of the
    data; there, and where autograd is not exact,

    .. math:: H v \approx (g(\theta + h v) - g(\theta - h v)) / 2h, \qquad h = \epsilon^{1/3} |\theta| / |v| ,

    at two gradients per column. The first product costs four more, that measure the `noise`: about 1e-9 in float64,
    1e-3 in float32, relative; and that the exact product is held against.

    Parameters
    ----------
    model : Module
        After ``torch.distributed.fsdp.fully_shard(model)`` or
        ``torch.distributed.tensor.parallel.parallelize_module(model, ...)``, over one mesh of one dimension.
    loss : callable
        ``loss(model, batch)``, as for `slq_torch.hessian`.
    data : object
        With FSDP2 this rank's share; ranks with fewer batches take part in the others' with weight zero. With tensor
        parallelism all data, the same on all ranks.
    kind : {"hessian", "ggn"}, default "hessian"
        Which matrix; "ggn", as of `slq_torch.ggn`, for tensor parallelism only.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters, as for `slq_torch.hessian`.
    mode : {"as-is", "eval", "train"}, default "as-is"
        The mode in which the model is run.
    strategy : {"auto", "graph", "finite-difference"}, default "auto"
        How columns are multiplied: exactly, "graph", or by differences. "auto" takes the former with tensor
        parallelism, if at the first product it agrees with differences to ten times their noise, else the latter;
        ``metadata["engine"]`` says which and why.
    group : ProcessGroup, optional
        That of the model's mesh, the default.
    timeout : float, optional
        Seconds that a rank waits in an exchange, those of FSDP within a product included, for one that has failed or
        died, before it ends with an error; that of the group by default, as given to init_process_group.

    Returns
    -------
    ParameterShardedOperator or TensorParallelOperator
        For `slq.spectrum` and all that takes shards, called on all ranks alike.

    Raises
    ------
    ValueError
        If a parameter is placed in another way, such as on a mesh of two dimensions, ranks differ, or see other batches
        with tensor parallelism; or if `kind` or `strategy` is not for this model.
    RunError
        From products, if they give NaN or Inf, and on the others if a rank has failed, with its number and reason, or
        died. The one that failed has its own error.
    RuntimeError
        If torch.distributed is not initialised.

    Notes
    -----
    During exact products `DTensor.from_local` is exchanged for one whose backward can be differentiated: torch's, up to
    2.13, sums gradients over ranks outside of the graph, so that second derivatives through `ColwiseParallel` layers
    lack terms without a word.

    References
    ----------
    Pearlmutter 1994, doi:10.1162/neco.1994.6.1.147, section 2, for the differences that exact products replaced.
    Shoeybi, Patwary, Puri, LeGresley, Casper & Catanzaro 2019, arXiv:1909.08053, section 3, for layers cut over ranks.

    Examples
    --------
    >>> import slq
    >>> from slq_torch import distributed
    >>> def main(model, loss, share):
    ...     torch.distributed.fsdp.fully_shard(model)
    ...     return slq.spectrum(distributed.parameter_sharded(model, loss, share), rng=0)
    """
    for name, value, allowed in (
        ("kind", kind, ("hessian", "ggn")),
        ("strategy", strategy, ("auto", "graph", "finite-difference")),
    ):
        if value not in allowed:
            msg = f"`{name}` must be one of {', '.join(map(repr, allowed))}, got {value!r}."
            raise ValueError(msg)
    chosen, passes = network(model, loss, data, params=params, mode=mode)
    mesh, shares_data = mesh_of(chosen), is_fully_sharded(model, chosen)
    ranks = Ranks(mesh.get_group() if group is None and mesh is not None else group, chosen.device, timeout)
    if mesh is not None and not shares_data:
        return TensorParallelOperator(chosen, passes, ranks, kind=kind, strategy=strategy)
    for name, value, possible in (("kind", kind, "hessian"), ("strategy", strategy, "finite-difference")):
        if value not in (possible, "auto"):
            msg = (
                f"`{name}` is {value!r}, and this model is sharded by FSDP, through which second derivatives do not "
                f"pass; {possible!r} is allowed. Cut its layers by torch.distributed.tensor.parallel instead."
            )
            raise ValueError(msg)
    return ParameterShardedOperator(chosen, passes, ranks)


def spectrum(A: Any, /, *, probes: int, steps: int, rng: Any = None, group: Any = None, **options: Any) -> Spectrum:
    """Estimate a spectrum with the probes shared among ranks, or among groups of ranks that share vectors.

    The same probes as of ``slq.spectrum(A, probes=probes, steps=steps, rng=rng, deflate="none")``, hence the same
    numbers, whatever the number of ranks. Nothing is exchanged but coefficients at the end; and, where the vectors of
    `A` are cut over ranks, what its products take, among these.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes, the same matrix on all ranks; or an operator of `data_parallel`,
        `parameter_sharded` or `sharded_csr`, made with a group of its own.
    probes, steps : int
        In all, and of each.
    rng : int, numpy.random.Generator or None
        Seed, the same on all ranks; with None one that they draw.
    group : ProcessGroup, optional
        The ranks that take part; all by default. Where vectors of `A` are cut, the ranks that have the same place in
        different groups of `A`: see the example.
    **options
        `kind`, `reorth`, `basis`, `scratch`, `dtype`, `batch`, `confidence`, `memory` of `slq.spectrum`.

    Returns
    -------
    Spectrum
        From all probes, on all ranks.

    Raises
    ------
    ValueError
        If ranks were given different arguments, or `group` has several ranks that share vectors of `A`, or has not
        the same place for all that do.
    RunError
        If a rank failed, on all of them.
    RuntimeError
        If torch.distributed is not initialised.

    Examples
    --------
    >>> import slq_torch
    >>> from slq_torch import distributed
    >>> def main(model, loss, data):
    ...     H = slq_torch.hessian(model, loss, data)
    ...     return distributed.spectrum(H, probes=16, steps=60, rng=0)

    Two groups, each with half of the probes and all data, whose ranks share data and vectors:

    >>> def combined(model, loss, share):
    ...     mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2, 2), mesh_dim_names=("probes", "data"))
    ...     H = distributed.data_parallel(slq_torch.hessian, model, loss, share, group=mesh["data"].get_group())
    ...     return distributed.spectrum(H, probes=8, steps=60, rng=0, group=mesh["probes"].get_group())
    """
    return run_probes(A, Ranks(group, device_of(A)), probes=probes, steps=steps, rng=rng, options=options)


@dataclass(frozen=True, slots=True)
class DistributedPlan:
    """How to split a run, by `slq_torch.distributed.plan`.

    Attributes
    ----------
    split : {"data", "probes", "parameters"}
        For `data_parallel`, `spectrum` and `parameter_sharded`.
    bytes : float
        What a rank needs, for parameters, a product and Krylov vectors; activations come on top.
    reason : str
        In words.
    groups : int
        How many groups of as many ranks run probes of their own, with the vectors of each cut over its ranks; 1 where
        all ranks run all probes together.
    """

    split: Literal["data", "probes", "parameters"]
    bytes: float
    reason: str
    groups: int = 1


def plan(
    model: Module,
    *,
    probes: int = 1,
    steps: int = 60,
    ranks: int | None = None,
    memory: float | None = None,
    params: Selection | None = None,
) -> DistributedPlan:
    """Choose how to split a run over ranks, from the size of the model, their number and their memory.

    Nothing is run. Parameters are sharded where a product does not fit on one rank, probes shared where there are as
    many as ranks and all vectors of one fit, else data; of several probes by as many groups of ranks as there may be,
    each with some of the probes and all data, since ranks then exchange fewer vectors.

    Parameters
    ----------
    model : Module
        The network, sharded or not.
    probes, steps : int, default 1 and 60
        Of the run.
    ranks : int, optional
        Their number; that of the default group, or 1, by default.
    memory : float, optional
        Bytes on each rank; what is free on the parameters' device by default.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters, as for `slq_torch.hessian`.

    Returns
    -------
    DistributedPlan
        The split, the bytes per rank, and the reason.

    Raises
    ------
    ValueError
        If `params` selects no parameter of the model.

    Examples
    --------
    >>> import torch
    >>> from slq_torch import distributed
    >>> distributed.plan(torch.nn.Linear(1000, 1000), ranks=4, memory=1e9).split
    'data'
    """
    chosen = from_model(model, params)
    if ranks is None:
        ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    free = free_memory(torch, chosen.device) if memory is None else memory
    vector = float(chosen.size * torch.empty(0, dtype=chosen.vector_dtype).element_size())
    everything = float(sum(p.numel() * p.element_size() for p in model.parameters()))
    product, krylov = everything + _PRODUCT_VECTORS * vector, (WORK_VECTORS + steps) * vector
    if is_sharded(model) or product > free:
        why = "the model is sharded" if is_sharded(model) else f"a product takes {product:.2g} bytes of {free:.2g}"
        return DistributedPlan("parameters", (product + probes * krylov) / ranks, why)
    for groups in (g for g in range(min(probes, ranks), 1, -1) if ranks % g == 0):
        share, together = -(-probes // groups), ranks // groups
        needed = product + share * krylov / together
        if needed > free:
            continue
        if together == 1:
            why = (
                f"{probes} probes for {ranks} ranks, whose vectors fit on each: nothing is exchanged; all need all data"
            )
            return DistributedPlan("probes", needed, why, groups)
        why = f"{groups} groups of {together} ranks share {probes} probes; each needs all data, and cuts its vectors"
        return DistributedPlan("data", needed, why, groups)
    why = "a product fits on each rank; data and vectors are shared"
    return DistributedPlan("data", product + probes * krylov / ranks, why)
