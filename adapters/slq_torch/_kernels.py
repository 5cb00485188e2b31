"""Runs a product again with other kernels where torch could not differentiate its own twice, and remembers that."""

from collections.abc import Callable
from contextlib import ExitStack

from torch import Tensor

from slq_torch._attention import Exchange, exchange_for


class Kernels:
    """The kernels that were exchanged so far for one operator."""

    __slots__ = ("_used",)

    def __init__(self) -> None:
        self._used: dict[str, Exchange] = {}

    @property
    def notes(self) -> list[str]:
        """What was exchanged and why, in words."""
        return [exchange.note for exchange in self._used.values()]

    def run(self, product: Callable[[], Tensor]) -> Tensor:
        """Return the product, with more kernels exchanged after each error that asks for it."""
        while True:
            try:
                with ExitStack() as stack:
                    for exchange in self._used.values():
                        stack.enter_context(exchange.context())
                    return product()
            except RuntimeError as error:
                found = exchange_for(error, self._used)
                if found is None:
                    raise
                self._used[found.name] = found
