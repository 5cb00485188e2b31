"""Text that came out of files, for eyes only: what a terminal would obey is written out."""

from __future__ import annotations

import re

# Controls but the line's end, directions and what has no width, halves of pairs.
_OBEYED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_LONGEST = 300


def printable(text: str) -> str:
    r"""Return the text with an escape as the four characters ``\x1b``, and likewise for the others of its kind."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def described(error: BaseException) -> str:
    """Return the class of an error that a file's contents caused and what it says, printable and not too long."""
    return f"{type(error).__name__}: {printable(str(error))[:_LONGEST]}" if str(error) else type(error).__name__
