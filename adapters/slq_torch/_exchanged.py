"""A computation tried again with other kernels of torch where one of them cannot be differentiated twice."""

from collections.abc import Callable
from contextlib import ExitStack

from torch import Tensor

from slq_torch._attention import Exchange, exchange_for


def with_exchanged_kernels(compute: Callable[[], Tensor], used: dict[str, Exchange]) -> Tensor:
    """Return compute(), with the kernels in `used` exchanged, and with more of them if torch asks for it."""
    while True:
        try:
            with ExitStack() as stack:
                for exchange in used.values():
                    stack.enter_context(exchange.context())
                return compute()
        except RuntimeError as error:
            exchange_found = exchange_for(error, used)
            if exchange_found is None:
                raise
            used[exchange_found.name] = exchange_found
