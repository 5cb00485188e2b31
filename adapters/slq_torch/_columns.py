"""The second backward pass: b columns pulled through one gradient graph.

Double backward only. `jvp(jacrev(loss))` is wrong through LayerNorm and is not an option here.
"""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from slq_torch._errors import refuse_once_differentiable
from slq_torch._parameters import Parameters
from slq_torch._passes import Call, tolerance
from slq_torch._quiet import quiet

Tensors = Sequence[Tensor]

# vmap multiplies the memory of the pass by b, so it must win by a tenth to be worth it.
_WORTH = 0.9


class Columns:
    """Computes H X for one batch, a column at a time or all at once, whichever was faster.

    The first time that a block of b > 1 columns comes, both are run and timed on its first batch
    and their results compared; the choice is kept for this b. The way of vmap is given up where
    torch cannot take it, where it disagrees, and where it runs out of memory.
    """

    __slots__ = ("_checked", "vmapped")

    kind = "hessian"

    def __init__(self) -> None:
        self.vmapped: dict[int, bool] = {}
        self._checked = False

    @property
    def facts(self) -> dict[str, Any]:
        """Which widths are vmapped."""
        return {"vmapped": {str(width): choice for width, choice in self.vmapped.items()}}

    def __call__(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Return H X of one batch as rows, (b, n) in the parameters' dtype."""
        grads = torch.autograd.grad(call.value(), params.tensors, create_graph=True, allow_unused=True)
        if not self._checked:
            refuse_once_differentiable(grads)
            self._checked = True
        width = len(rows)
        pairs = zip(grads, params.split(rows), strict=True)
        # Gradients that do not depend on the parameters have a derivative of zero.
        live = [(g, piece) for g, piece in pairs if g is not None and g.requires_grad]
        outputs, columns = [g for g, _ in live], [piece for _, piece in live]
        if not outputs:
            return torch.zeros_like(rows, dtype=params.dtype)
        if width > 1 and width not in self.vmapped:
            return self._try_both(outputs, columns, params)
        if self.vmapped.get(width, False):
            try:
                return vmapped(outputs, columns, params)
            except RuntimeError:  # out of memory, or a batch that takes another path in the model
                self.vmapped[width] = False
        return looped(outputs, columns, params)

    def _try_both(self, outputs: Tensors, columns: Tensors, params: Parameters) -> Tensor:
        width, ticks, device = len(columns[0]), list[float](), params.device

        def tick() -> None:
            synchronize = getattr(torch, device.type).synchronize
            synchronize(*([] if device.type == "mps" else [device]))
            ticks.append(time.perf_counter())

        tick()
        result = looped(outputs, columns, params, keep=True, tick=tick)
        limit = _WORTH * width * min(b - a for a, b in pairwise(ticks))
        self.vmapped[width] = False
        try:
            # A first call pays for vmap's own start (about 0.1 s), so a slow one gets a second chance.
            for _ in range(2):
                tick()
                other = vmapped(outputs, columns, params)
                tick()
                if ticks[-1] - ticks[-2] <= limit:
                    difference = torch.linalg.vector_norm(other - result)
                    allowed = tolerance(params.dtype) * torch.linalg.vector_norm(result)
                    self.vmapped[width] = bool(difference <= allowed)
                    break
        except RuntimeError:  # no rule for vmap, or out of memory
            pass
        return result


def looped(
    outputs: Tensors,
    columns: Tensors,
    params: Parameters,
    *,
    keep: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Tensor:
    """Pull one column after the other; the graph is freed with the last unless it is to be kept.

    `outputs` are gradients, `columns` holds for each of them b tensors of its shape, (b, *shape).
    """
    width = len(columns[0])
    result = torch.empty(width, params.size, dtype=params.dtype, device=params.device)
    for j in range(width):
        products = torch.autograd.grad(
            outputs,
            params.tensors,
            grad_outputs=[column[j] for column in columns],
            retain_graph=keep or j + 1 < width,
            allow_unused=True,
        )
        params.join(products, out=result[j])
        tick()
    return result


def vmapped(outputs: Tensors, columns: Tensors, params: Parameters) -> Tensor:
    """Pull all columns at once through torch's vmap, and keep the graph in case that this fails."""
    with quiet("There is a performance drop"):
        products = torch.autograd.grad(
            outputs, params.tensors, grad_outputs=columns, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
    return params.join(products, (len(columns[0]),))
