"""A limit on the time of one product: it is made in a thread of its own, which is left behind where it does not return.

Python can end neither a thread nor a call that hangs. So the caller stops waiting, and goes on to keep what was done
before; the thread ends when its product returns, of which nothing is used any more, or with the process. Code that
neither returns nor lets other threads run (that holds Python's lock) cannot be limited.
"""

from __future__ import annotations

import contextvars
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from slq import _arrays
from slq._arrays import Array


class Limited:
    """A product that raises TimeoutError where it takes too long.

    Parameters
    ----------
    product : callable
        (n, b) block -> (n, b) block.
    seconds : float
        That it may take.
    kind : str
        What multiplies, for the message.
    """

    __slots__ = ("_kind", "product", "seconds")

    def __init__(self, product: Callable[[Array], Array], seconds: float, kind: str) -> None:
        self.product, self.seconds, self._kind = product, seconds, kind

    def __call__(self, X: Array) -> Array:
        """Return the product, or stop waiting for it."""
        made: list[Array] = []
        failed: list[BaseException] = []
        around = _surroundings()

        def make() -> None:
            try:
                with around():
                    made.append(_arrays.waited(self.product(X)))
            except BaseException as error:  # whatever it is belongs to the caller
                failed.append(error)

        run = contextvars.copy_context().run  # NumPy's error state, and in newer Pythons warnings
        thread = threading.Thread(target=run, args=(make,), name="slq-product", daemon=True)
        thread.start()
        thread.join(self.seconds)
        if failed:
            raise failed[0]
        if not made:
            msg = (
                f"a product of {self._kind} with a block of shape {tuple(X.shape)} has not returned within `timeout` = "
                f"{self.seconds:g} s. It is left to its thread, which ends with it or with the process. Find out what "
                "it waits for, or raise `timeout`"
            )
            raise TimeoutError(msg)
        return made[0]


def limited(product: Callable[[Array], Array], seconds: float, kind: str) -> Limited:
    """Return a product with a limit, in place of one that it may have had."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= threading.TIMEOUT_MAX:
        msg = f"`timeout` must be a positive number of seconds, got {seconds!r}."
        raise ValueError(msg)
    return Limited(product.product if isinstance(product, Limited) else product, float(seconds), kind)


def _surroundings() -> Callable[[], Any]:
    """Note what libraries keep per thread; return what makes it so in another one."""
    parts = [note() for name, note in _NOTES.items() if name in sys.modules]

    @contextmanager
    def around() -> Iterator[None]:
        with ExitStack() as stack:
            for part in parts:
                for manager in part():
                    stack.enter_context(manager)
            yield

    return around


def _torch() -> Callable[[], Iterator[Any]]:
    torch: Any = importlib.import_module("torch")
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    kinds = ("cpu", "cuda")
    casts = [(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in kinds]
    stream = torch.cuda.current_stream() if torch.cuda.is_initialized() else None

    def managers() -> Iterator[Any]:
        if stream is not None:
            yield torch.cuda.device(stream.device)
            yield torch.cuda.stream(stream)
        yield torch.inference_mode(inference)
        yield torch.set_grad_enabled(grad)
        for kind, dtype, enabled in casts:
            if enabled:
                yield torch.autocast(kind, dtype=dtype)

    return managers


def _jax() -> Callable[[], Iterator[Any]]:
    jax: Any = importlib.import_module("jax")
    wide, device = jax.config.jax_enable_x64, jax.config.jax_default_device
    precision = jax.config.jax_default_matmul_precision
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental").enable_x64

    def managers() -> Iterator[Any]:
        yield enable(wide)
        yield jax.default_device(device)
        yield jax.default_matmul_precision(precision)

    return managers


def _cupy() -> Callable[[], Iterator[Any]]:
    cupy: Any = importlib.import_module("cupy")
    device, stream = cupy.cuda.Device(), cupy.cuda.get_current_stream()

    def managers() -> Iterator[Any]:
        yield device
        yield stream

    return managers


_NOTES: dict[str, Callable[[], Callable[[], Iterator[Any]]]] = {"torch": _torch, "jax": _jax, "cupy": _cupy}
