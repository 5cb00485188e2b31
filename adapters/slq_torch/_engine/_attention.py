"""Kernels that torch differentiates once only, exchanged for others while a product is computed.

Fused attention has neither forward mode nor double backward, cuDNN's recurrent kernels no double backward. The choice
of kernels is a global setting of torch; it is put back when the product is done.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass(frozen=True, slots=True)
class Exchange:
    """Kernels that are exchanged once torch says that it cannot differentiate one of them again."""

    name: str
    said: str
    context: Callable[[], AbstractContextManager[Any]]
    note: str


EXCHANGES: tuple[Exchange, ...] = (
    Exchange(
        "attention",
        r"derivative for \S*attention\S* is not implemented|forward AD with \S*attention|attention\S* .*forward AD",
        lambda: sdpa_kernel(SDPBackend.MATH),
        "attention runs on torch's math kernel inside products: the fused kernels have no second derivative",
    ),
    Exchange(
        "recurrent",
        r"derivative for \S*_cudnn_rnn\S* is not implemented",
        lambda: torch.backends.cudnn.flags(enabled=False),
        "recurrent layers run without cuDNN inside products: its kernels have no second derivative",
    ),
)


def exchange_for(error: BaseException, used: dict[str, Exchange]) -> Exchange | None:
    """Find what helps against an error of torch, None if nothing does or it has been tried."""
    for exchange in EXCHANGES:
        if exchange.name not in used and re.search(exchange.said, str(error)):
            return exchange
    return None
