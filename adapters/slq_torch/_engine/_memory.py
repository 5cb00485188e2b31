"""How much memory there is for graphs."""

import os

import torch

_SHARE = 0.25  # of what is free, unless the user says otherwise: the Krylov basis wants the rest


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
