"""A progress line on stderr, by tqdm; silent unless asked for."""

from __future__ import annotations

from typing import Any


class NoMeter:
    """Shows nothing."""

    def update(self, products: int, steps: int) -> None:
        """Report the products and steps done so far."""

    def close(self) -> None:
        """Take the line away."""


class _Bar(NoMeter):
    def __init__(self, **options: Any) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(leave=False, **options)

    def update(self, products: int, steps: int) -> None:
        self._bar.set_description(f"{steps} steps", refresh=False)
        self.reach(products)

    def reach(self, done: int) -> None:
        """Move on to so many units."""
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def meter() -> NoMeter:
    """Return a tqdm bar, or say how to get one."""
    return _bar(unit=" products")


def reading(size: int) -> _Bar:
    """Return a bar of bytes that are read, as `meter` does; `reach` moves it."""
    return _bar(unit="B", unit_scale=True, total=size)


def _bar(**options: Any) -> _Bar:
    try:
        return _Bar(**options)
    except ImportError as error:
        msg = "`progress=True` needs tqdm: python -m pip install 'slq[cli]'."
        raise ImportError(msg) from error
