"""Doctests of an adapter need the library that it adapts."""

from importlib.util import find_spec

collect_ignore = [f"slq_{library}" for library in ("cupy", "jax", "torch") if find_spec(library) is None]
