"""Known warnings of torch, kept from users who can do nothing about them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(message: str) -> Iterator[None]:
    """Ignore the warnings whose text matches the regular expression `message`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield
