"""Ranks that run probes of their own, each on whole vectors, or several together on vectors that are cut over them.

Nothing is exchanged between those of different probes until coefficients are merged. Where vectors are cut, ranks form
a rectangle: along one side they share the vectors of a probe, along the other the probes.
"""

import zlib
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from slq._errors import RunError
from slq._lanczos._probes import seed_from
from slq._lanczos._tridiagonal import concatenate
from slq._operators._operators import Operator, as_operator
from slq._run._driver import part
from slq._spectrum._spectrum import Spectrum
from slq_torch._model._parameters import Parameters
from slq_torch._ranks._ranks import Ranks, agreed, content

_HOW = (
    'Take both groups from one mesh: mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("probes", "data")), `A` '
    'made with group=mesh["data"].get_group(), and group=mesh["probes"].get_group() here.'
)


def run_probes(A: Any, ranks: Ranks, *, probes: int, steps: int, rng: Any, options: dict[str, Any]) -> Spectrum:
    """Run this rank's share of the probes, and return the spectrum from all of them, on all ranks."""
    operator = as_operator(A)
    sharing = _sharing(operator, ranks)
    seed = seed_from(rng)
    if rng is None:
        seed = ranks.told(seed if operator.shards.whole else operator.shards.mixed(seed))[0]
    facts = {
        "The versions of slq": version("slq"),
        "The dimensions of `A`": operator.n,
        "The rows of vectors": _summary(operator),
        "The values of `probes`": probes,
        "The values of `steps`": steps,
        "The values of `rng`": seed,
        "The values of the parameters": _parameters(A),
        **{f"The values of `{name}`": repr(value) for name, value in options.items()},
    }
    _agree(operator, ranks, facts)
    first, last = (probes * r // ranks.size for r in (ranks.rank, ranks.rank + 1))
    found, failure = None, None
    try:
        if last > first:
            found = part(operator, first, probes=last - first, steps=steps, rng=seed, **options)
    except Exception as error:
        failure = error
    if (problem := _problem(operator, ranks, failure)) is not None:
        problem.partial = found
        raise problem from failure
    parts = [Spectrum(**arrays, **known) for arrays, known in filter(None, ranks.told(found and found._parts()))]
    return _joined(parts, ranks.size, sharing)


def _sharing(operator: Operator, ranks: Ranks) -> int:
    """Return how many ranks have the vectors of a probe; refuse groups that are no rectangle with them."""
    if operator.shards.whole:
        return 1
    world = dist.get_world_size()
    own = np.zeros((3, world))
    own[0, dist.get_rank()] = own[1, ranks.rank] = own[2, ranks.size - 1] = 1.0
    members, numbers, sizes = (np.flatnonzero(row).tolist() for row in np.asarray(operator.reduce(own)))
    group = dist.get_process_group_ranks(ranks.group or dist.group.WORLD)
    if len(both := sorted({*members} & {*group})) > 1:
        given = "is not given, which stands for all ranks," if ranks.group is None else f"has the ranks {group},"
        msg = (
            f"`group` {given} and vectors of `A` are cut over the ranks {members}: {both} are in both, but they need "
            f"each other for every probe. Pass a group of ranks that each have another group's part of `A`. {_HOW}"
        )
        raise ValueError(msg)
    if len(numbers) > 1 or len(sizes) > 1:
        what = f"the numbers {numbers}" if len(numbers) > 1 else f"groups of {[size + 1 for size in sizes]} ranks"
        msg = f"`group` must have as many ranks, and this one at the same place, on ranks {members}; got {what}. {_HOW}"
        raise ValueError(msg)
    return len(members)


def _summary(operator: Operator) -> tuple[int, ...]:
    """Return what tells different rows apart: their number, and a checksum."""
    rows = operator.shards.rows
    return operator.shards.local, zlib.crc32(str([(part.start, part.stop) for part in rows if part]).encode())


def _parameters(A: Any) -> list[int] | None:
    """Return checksums of the parameters that are here, where there are any."""
    params = getattr(getattr(A, "local", A), "_params", None)
    if not isinstance(params, Parameters):
        return None
    return content(t.to_local() if hasattr(t, "to_local") else t for t in params.tensors)


def _agree(operator: Operator, ranks: Ranks, facts: dict[str, Any]) -> None:
    """Refuse different facts on all ranks, also on those that share vectors with one that was told of them."""
    problem = None
    try:
        agreed(ranks, facts)
    except ValueError as error:
        problem = error
    (refused,) = operator.shards.any(problem is not None)
    if problem is None and refused:
        problem = ValueError(
            "ranks that share vectors of `A` with this one refuse what others were given, and say why."
        )
    if problem is not None:
        raise problem


def _problem(operator: Operator, ranks: Ranks, failure: Exception | None) -> RunError | None:
    """Return what ended any rank, on all of them: it is told to those of other probes, and these tell on."""
    problem = None
    try:
        for rank, text in enumerate(ranks.told(failure and f"{type(failure).__name__}: {failure}")):
            if text is not None and problem is None:
                problem = RunError(f"rank {rank} of {ranks.size} failed: {text}")
    except RunError as error:
        problem = error
    if failure is not None:  # those that share its vectors may wait in a product: there is no meeting them
        return problem
    try:
        (ended,) = operator.shards.any(problem is not None)
    except RunError as error:
        return problem or error
    if ended and problem is None:
        return RunError("a rank of other probes failed, as ranks that share vectors of `A` with this one were told.")
    return problem


def _joined(parts: list[Spectrum], size: int, sharing: int) -> Spectrum:
    """Return one spectrum of the probes of all parts, which have the same seed and the same first start vectors."""
    T, known = concatenate([s._tridiagonal for s in parts]), parts[0].metadata
    split = "probes" if sharing == 1 else f"probes, {known.get('split', 'rows')}"
    return replace(
        parts[0],
        alpha=T.alpha,
        beta=T.beta,
        lengths=T.lengths,
        overlaps=T.overlaps,
        groups=np.concatenate([s.groups for s in parts]),
        projected=np.concatenate([s.projected for s in parts]),
        reorth="full" if all(s.reorth == "full" for s in parts) else "none",
        noise=max(s.noise for s in parts),
        drift=max(s.drift for s in parts),
        products=sum(s.products for s in parts),
        seconds=max(s.seconds for s in parts),
        warnings=tuple(dict.fromkeys(text for s in parts for text in s.warnings)),
        metadata={**known, "ranks": size * sharing, "split": split},
    )


def device_of(A: Any) -> torch.device:
    """Return where an operator of any library lives, as torch names it; the CPU where that is not torch's."""
    device = getattr(A, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")
