"""How much memory graphs take and how much there is: measured once, by hooks on what autograd saves."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_SHARE = 0.25  # of what is free, unless the user says otherwise: the Krylov basis wants the rest


class Weigher:
    """Bytes and least precise dtype of what autograd saved while `weighed` was on."""

    __slots__ = ("_known", "bytes", "half")

    def __init__(self, known: Iterable[Tensor]) -> None:
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.bytes = 0
        self.half: torch.dtype | None = None

    @contextmanager
    def weighed(self) -> Iterator[None]:
        """Count each storage that is saved here once, parameters left out."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            yield

    def _pack(self, tensor: Tensor) -> Tensor:
        if tensor.dtype in (torch.float16, torch.bfloat16) and self.half is not torch.bfloat16:
            self.half = tensor.dtype
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._known:
                self._known.add(storage.data_ptr())
                self.bytes += storage.nbytes()
        return tensor


def allowance(device: torch.device) -> float:
    """Return a quarter of the free memory of a device in bytes, infinite where nobody knows."""
    if device.type == "cuda":
        return _SHARE * torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu":
        try:
            return _SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            pass
    return float("inf")


def out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory, on a GPU or on the CPU."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "not enough memory" in text
