"""Whether numba can be used: it may be missing, and it may refuse the NumPy that it meets."""

from functools import cache
from importlib.util import find_spec
from warnings import warn

from slq._errors import SlqWarning


@cache
def usable() -> bool:
    """Import numba (0.5 s) and tell whether that worked; where it is installed and fails, warn once."""
    if find_spec("numba") is None:
        return False
    try:
        import numba  # noqa: F401
    except Exception as error:  # whatever its own checks, llvmlite or the linker say
        msg = (
            f"numba is installed but cannot be imported ({type(error).__name__}: {error}). slq goes on without "
            f"it, more slowly. Install a numba that fits your NumPy, or uninstall it."
        )
        warn(msg, SlqWarning, stacklevel=2)
        return False
    return True
