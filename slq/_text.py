"""Text that came out of files, for eyes only: what a terminal would obey is written out."""

from __future__ import annotations

_LONGEST = 300


def printable(text: str) -> str:
    r"""Return the text with an escape as the four characters ``\x1b``, and so all without a glyph but line ends."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


def described(error: BaseException) -> str:
    """Return the class of an error that a file's contents caused and what it says, printable and not too long."""
    return f"{type(error).__name__}: {printable(str(error))[:_LONGEST]}" if str(error) else type(error).__name__
