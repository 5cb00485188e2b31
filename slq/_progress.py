"""A progress line on stderr, by tqdm; silent unless asked for."""

from __future__ import annotations


class NoMeter:
    """Shows nothing."""

    def update(self, products: int, steps: int) -> None:
        """Report the products and steps done so far."""

    def close(self) -> None:
        """Take the line away."""


class _Bar(NoMeter):
    def __init__(self) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(unit=" products", leave=False)

    def update(self, products: int, steps: int) -> None:
        self._bar.set_description(f"{steps} steps", refresh=False)
        self._bar.update(products - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def meter() -> NoMeter:
    """Return a tqdm bar, or say how to get one."""
    try:
        return _Bar()
    except ImportError as error:
        msg = "`progress=True` needs tqdm: python -m pip install 'slq[cli]'."
        raise ImportError(msg) from error
