"""Several processes, on one machine or many, by torch.distributed: three ways to split a run, under torchrun.

Every rank runs the same script. `data_parallel` cuts the data and the Krylov vectors, `parameter_sharded` takes models
that are sharded themselves, `spectrum` cuts the probes; `plan` says which. Results are the same on all ranks.
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
from slq_torch._ranks._parameter_sharded import ParameterShardedOperator, is_sharded
from slq_torch._ranks._probe_parallel import device_of, run_probes
from slq_torch._ranks._ranks import Ranks
from slq_torch._ranks._sharded_csr import ShardedMatrix, sharded_csr

__all__ = [
    "DataParallelOperator",
    "DistributedPlan",
    "ParameterShardedOperator",
    "ShardedMatrix",
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
    params: Selection | None = None,
    mode: Mode = "as-is",
    group: Any = None,
    timeout: float | None = None,
) -> ParameterShardedOperator:
    r"""Make the Hessian of a model whose parameters are sharded by FSDP2, by differences of gradients.

    .. math:: H v \approx (g(\theta + h v) - g(\theta - h v)) / 2h, \qquad h = \epsilon^{1/3} |\theta| / |v| .

    Vectors are laid out as the shards are and never gathered. A product costs two gradients per column; the first one
    four more, that measure the `noise`: about 1e-9 in float64, 1e-3 in float32, relative.

    Parameters
    ----------
    model : Module
        After ``torch.distributed.fsdp.fully_shard(model)`` over one mesh.
    loss : callable
        ``loss(model, batch)``, as for `slq_torch.hessian`.
    data : object
        This rank's share. Ranks with fewer batches take part in the others' with weight zero.
    params : str, tensor, iterable of these, Module or callable, optional
        Which parameters, as for `slq_torch.hessian`.
    mode : {"as-is", "eval", "train"}, default "as-is"
        The mode in which the model is run.
    group : ProcessGroup, optional
        That of the model's mesh; all ranks by default.
    timeout : float, optional
        Seconds that a rank waits in an exchange, those of FSDP within a product included, for one that has failed or
        died, before it ends with an error; that of the group by default, as given to init_process_group.

    Returns
    -------
    ParameterShardedOperator
        For `slq.spectrum` and all that takes shards, called on all ranks alike.

    Raises
    ------
    ValueError
        If a parameter is not cut along its first dimension over the ranks, or ranks differ.
    RunError
        From products, if they give NaN or Inf, and on the others if a rank has failed, with its number and reason, or
        died. The one that failed has its own error.
    RuntimeError
        If torch.distributed is not initialised.

    References
    ----------
    Pearlmutter 1994, doi:10.1162/neco.1994.6.1.147, section 2, for the differences that exact products replaced.

    Examples
    --------
    >>> import slq
    >>> from slq_torch import distributed
    >>> def main(model, loss, share):
    ...     torch.distributed.fsdp.fully_shard(model)
    ...     return slq.spectrum(distributed.parameter_sharded(model, loss, share), rng=0)
    """
    chosen, passes = network(model, loss, data, params=params, mode=mode)
    return ParameterShardedOperator(chosen, passes, Ranks(group, chosen.device, timeout))


def spectrum(A: Any, /, *, probes: int, steps: int, rng: Any = None, group: Any = None, **options: Any) -> Spectrum:
    """Estimate a spectrum with the probes shared among ranks, each on whole vectors of its own.

    The same probes as of ``slq.spectrum(A, probes=probes, steps=steps, rng=rng, deflate="none")``, hence the same
    numbers, whatever the number of ranks. Nothing is exchanged but coefficients at the end.

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes, the same matrix on all ranks.
    probes, steps : int
        In all, and of each.
    rng : int, numpy.random.Generator or None
        Seed, the same on all ranks; with None that of rank 0.
    group : ProcessGroup, optional
        The ranks that take part; all by default.
    **options
        `kind`, `reorth`, `basis`, `scratch`, `dtype`, `batch`, `confidence`, `memory` of `slq.spectrum`.

    Returns
    -------
    Spectrum
        From all probes, on all ranks.

    Raises
    ------
    ValueError
        If ranks were given different arguments.
    RunError
        If a rank failed, on all of them.
    TypeError
        If the vectors of `A` are shards: they need all ranks for each probe.
    RuntimeError
        If torch.distributed is not initialised.

    Examples
    --------
    >>> import slq_torch
    >>> from slq_torch import distributed
    >>> def main(model, loss, data):
    ...     H = slq_torch.hessian(model, loss, data)
    ...     return distributed.spectrum(H, probes=16, steps=60, rng=0)
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
    """

    split: Literal["data", "probes", "parameters"]
    bytes: float
    reason: str


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
    many as ranks and all vectors of one fit, else data.

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
    share = -(-probes // ranks)
    if is_sharded(model) or product > free:
        why = "the model is sharded" if is_sharded(model) else f"a product takes {product:.2g} bytes of {free:.2g}"
        return DistributedPlan("parameters", (product + probes * krylov) / ranks, why)
    if probes >= ranks > 1 and product + share * krylov <= free:
        why = f"{probes} probes for {ranks} ranks, whose vectors fit on each: nothing is exchanged; all need all data"
        return DistributedPlan("probes", product + share * krylov, why)
    why = "a product fits on each rank; data and vectors are shared"
    return DistributedPlan("data", product + probes * krylov / ranks, why)
