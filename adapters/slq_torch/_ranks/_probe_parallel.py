"""Each rank runs probes of its own, on whole vectors: nothing is exchanged until coefficients are merged."""

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from slq._errors import RunError
from slq._lanczos._probes import seed_from
from slq._lanczos._tridiagonal import concatenate
from slq._operators._operators import as_whole
from slq._run._driver import part
from slq._spectrum._spectrum import Spectrum
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._ranks._ranks import Ranks, agreed, content


def run_probes(A: Any, ranks: Ranks, *, probes: int, steps: int, rng: Any, options: dict[str, Any]) -> Spectrum:
    """Run this rank's share of the probes, and return the spectrum from all of them, on all ranks."""
    operator = as_whole(A)
    seed = ranks.told(seed_from(rng))[0] if rng is None else seed_from(rng)
    facts = {
        "The versions of slq": version("slq"),
        "The dimensions of `A`": operator.n,
        "The values of `probes`": probes,
        "The values of `steps`": steps,
        "The values of `rng`": seed,
        "The values of the parameters": content(A._params.tensors) if isinstance(A, CurvatureOperator) else None,
        **{f"The values of `{name}`": repr(value) for name, value in options.items()},
    }
    agreed(ranks, facts)
    first, last = (probes * r // ranks.size for r in (ranks.rank, ranks.rank + 1))
    found, failure = None, None
    try:
        if last > first:
            found = part(operator, first, probes=last - first, steps=steps, rng=seed, **options)
    except Exception as error:
        failure = error
    said = ranks.told(failure and f"{type(failure).__name__}: {failure}")
    for rank, text in enumerate(said):
        if text is not None:
            msg = f"rank {rank} of {ranks.size} failed: {text}"
            raise RunError(msg, found) from failure
    parts = [Spectrum(**arrays, **known) for arrays, known in filter(None, ranks.told(found and found._parts()))]
    return _joined(parts, ranks.size)


def _joined(parts: list[Spectrum], size: int) -> Spectrum:
    """Return one spectrum of the probes of all parts, which have the same seed and the same first start vectors."""
    T = concatenate([s._tridiagonal for s in parts])
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
        metadata={**parts[0].metadata, "ranks": size, "split": "probes"},
    )


def device_of(A: Any) -> torch.device:
    """Return where an operator of any library lives, as torch names it; the CPU where that is not torch's."""
    device = getattr(A, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")
