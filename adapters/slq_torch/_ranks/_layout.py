"""Which rows of the whole model's vectors a rank has, from how its parameters are placed on a mesh of one dimension.

A parameter that is cut along a dimension gives the rows of its piece: one range for each index of the dimensions before
that one. Parameters that every rank has whole are laid end to end and cut into equal pieces, one for each rank, so that
all ranks together hold each row once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from slq_torch._model._parameters import Parameters
from slq_torch._ranks._ranks import Ranks


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows that are here, and how vectors of them become vectors of all numbers that the rank's tensors hold.

    Attributes
    ----------
    rows : tuple of range
        Of the whole model's vectors, ascending, no two of them adjacent.
    sizes : tuple of int
        Numbers in each of this rank's tensors.
    own : tuple of slice
        Which of each tensor's numbers are this rank's rows: all of a shard, a part of what every rank has.
    whole : tuple of int
        Which tensors every rank has whole.
    """

    rows: tuple[range, ...]
    sizes: tuple[int, ...]
    own: tuple[slice, ...]
    whole: tuple[int, ...]

    @property
    def here(self) -> int:
        """How many rows are here."""
        return sum(part.stop - part.start for part in self.own)

    def kept(self, rows: Tensor) -> Tensor:
        """Return what is here of vectors of the rank's tensors: (b, numbers) -> (b, here)."""
        pieces = zip(torch.split(rows, list(self.sizes), dim=-1), self.own, strict=True)
        return torch.cat([piece[..., part] for piece, part in pieces], dim=-1)

    def shared(self, rows: Tensor) -> Tensor:
        """Return the part of what every rank has whole: (b, numbers) -> (b, numbers of those tensors)."""
        pieces = torch.split(rows, list(self.sizes), dim=-1)
        return torch.cat([pieces[i] for i in self.whole], dim=-1) if self.whole else rows[..., :0]

    def gathered(self, rows: Tensor, ranks: Ranks) -> Tensor:
        """Return what every rank has whole, from each one's rows of it: (b, here) -> (b, numbers of those tensors)."""
        pieces = torch.split(rows, [part.stop - part.start for part in self.own], dim=1)
        length = sum(self.sizes[i] for i in self.whole)
        return ranks.gathered(torch.cat([pieces[i] for i in self.whole], dim=1).contiguous(), length)

    def spread(self, rows: Tensor, ranks: Ranks) -> Tensor:
        """Return vectors of the rank's tensors, whose missing numbers others have: (b, here) -> (b, numbers)."""
        if not self.whole:
            return rows
        pieces = list(torch.split(rows, [part.stop - part.start for part in self.own], dim=1))
        arrived = torch.split(self.gathered(rows, ranks), [self.sizes[i] for i in self.whole], dim=1)
        for i, piece in zip(self.whole, arrived, strict=True):
            pieces[i] = piece
        return torch.cat(pieces, dim=1)


def layout(params: Parameters, ranks: Ranks) -> Layout:
    """Return the layout of parameters that `local` takes, over the ranks of their mesh."""
    sizes = [local(tensor).numel() for tensor in params.tensors]
    whole = [i for i, tensor in enumerate(params.tensors) if _dimension(tensor) is None]
    mine = ranks.rows(sum(sizes[i] for i in whole))  # of all that every rank has whole, end to end
    parts, own, start, laid = list[range](), list[slice](), 0, 0
    for i, (name, tensor) in enumerate(zip(params.names, params.tensors, strict=True)):
        if (dimension := _dimension(tensor)) is None:
            first, last = (min(max(edge - laid, 0), sizes[i]) for edge in (mine.start, mine.stop))
            laid += sizes[i]
            own.append(slice(first, last))
            parts.append(range(start + first, start + last))
        else:
            own.append(slice(0, sizes[i]))
            parts += _ranges(name, tensor, dimension, start, ranks)
        start += tensor.numel()
    return Layout(_merged(parts), tuple(sizes), tuple(own), tuple(whole))


def local(tensor: Any) -> Tensor:
    """Return what this rank has of a parameter, sharing its memory, without a graph."""
    with torch.no_grad():
        found: Tensor = tensor.detach()
        return found.to_local() if hasattr(found, "to_local") else found


def placement(tensor: Any) -> Any:
    """Return how a parameter is placed on its mesh of one dimension; None for plain tensors."""
    return tensor.placements[0] if hasattr(tensor, "placements") else None


def mesh_of(params: Parameters) -> Any:
    """Return the mesh of parameters, None where all are plain tensors; refuse several, and more than one dimension."""
    found: Any = None
    for name, tensor in zip(params.names, params.tensors, strict=True):
        mesh = getattr(tensor, "device_mesh", None)
        if mesh is None:
            continue
        if mesh.ndim != 1 or (found is not None and mesh != found):
            names = getattr(mesh, "mesh_dim_names", None) or ("no name",)
            msg = (
                f"Parameter {name!r} is {_placements(tensor)} on a mesh of {mesh.ndim} dimension(s) ({', '.join(names)}"
                f"){'' if found is None or mesh.ndim != 1 else ', others are on another mesh'}; one mesh of one "
                "dimension is allowed for all. Of fully_shard with tensor parallelism, or of sharding with replicas, "
                "take one: for more ranks let groups of them run probes of their own, by "
                "slq_torch.distributed.spectrum(H, ..., group=mesh['probes'].get_group())."
            )
            raise ValueError(msg)
        found = mesh
    return found


def is_fully_sharded(model: Module, params: Parameters) -> bool:
    """Whether FSDP2 has the parameters of a model; refuse one of which it has a part, and one inside DDP."""
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        msg = (
            "`model` is inside DistributedDataParallel. Pass model.module; for ranks with other data take "
            "slq_torch.distributed.data_parallel, or fully_shard(model) instead."
        )
        raise ValueError(msg)
    # FSDP2 adds methods to a module's class, one of which gathers its parameters.
    inside = {id(p) for module in model.modules() if hasattr(module, "unshard") for p in module.parameters()}
    outside = [name for name, p in zip(params.names, params.tensors, strict=True) if id(p) not in inside]
    if inside and outside:
        msg = (
            f"Parameter {outside[0]!r} is in no module that fully_shard was given, as others are: ranks would have "
            "other data for one part of the model than for the rest. Call fully_shard(model) on all of it."
        )
        raise ValueError(msg)
    return bool(inside)


def is_sharded(model: Any) -> bool:
    """Whether any parameter of a model is a DTensor."""
    return isinstance(model, Module) and any(hasattr(p, "placements") for p in model.parameters())


def refuse_placements(params: Parameters, *, allowed: str, cut: bool) -> None:
    """Refuse parameters that are not cut along a dimension, or, unless all must be `cut`, not whole on every rank."""
    for name, tensor in zip(params.names, params.tensors, strict=True):
        here = placement(tensor)
        fits = _dimension(tensor) is not None or (not cut and (here is None or here.is_replicate()))
        if not fits:
            msg = f"Parameter {name!r} is {_placements(tensor)}; {allowed}"
            raise ValueError(msg)


def _placements(tensor: Any) -> str:
    return ", ".join(map(str, getattr(tensor, "placements", ("a plain tensor",))))


def _dimension(tensor: Any) -> int | None:
    """Return along which dimension a parameter is cut, None where it is not."""
    here = placement(tensor)
    return here.dim % tensor.ndim if here is not None and here.is_shard() else None


def _ranges(name: str, tensor: Any, dimension: int, start: int, ranks: Ranks) -> list[range]:
    """Return the rows of a rank's piece, which is as torch.chunk makes it; rows begin at `start`."""
    before, length, width = (
        tensor.shape[:dimension].numel(),
        tensor.shape[dimension],
        tensor.shape[dimension + 1 :].numel(),
    )
    piece = -(-length // ranks.size)
    first, last = (min(r * piece, length) * width for r in (ranks.rank, ranks.rank + 1))
    if before * (last - first) != local(tensor).numel():
        msg = f"Parameter {name!r} is cut in another way over the ranks than `group` has. Pass the mesh's group."
        raise ValueError(msg)
    starts = range(start, start + tensor.numel(), max(length * width, 1))
    return [range(edge + first, edge + last) for edge in starts]


def _merged(parts: Iterable[range]) -> tuple[range, ...]:
    """Join what is adjacent, and leave out what is empty."""
    found = list[range]()
    for part in parts:
        if found and part and found[-1].stop == part.start:
            found[-1] = range(found[-1].start, part.stop)
        elif part:
            found.append(part)
    return tuple(found)
