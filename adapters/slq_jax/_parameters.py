"""Which leaves of a pytree the operator acts on, and how they become one vector and back.

Nothing here changes a parameter; NumPy leaves are copied to JAX's default device.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Selected = str | re.Pattern[str]
Selection = Selected | Iterable[Selected] | Callable[[str, Array], bool]

_SELECTED = (str, re.Pattern)
_HALF = ("float16", "bfloat16")
_FLOATING = ("float32", "float64", *_HALF)
X64 = 'jax.config.update("jax_enable_x64", True)'


def x64_enabled() -> bool:
    """Whether JAX makes float64 arrays at all."""
    return bool(jax.dtypes.canonicalize_dtype(np.float64) == np.float64)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The chosen leaves, in the order in which they make up a vector of length `size`, and the tree they come from."""

    names: tuple[str, ...]
    leaves: tuple[Array, ...]
    everything: tuple[Any, ...]  # all leaves of the tree, None for those chosen
    tree: Any

    def __post_init__(self) -> None:
        _check_alike(self.names, self.leaves)

    @property
    def sizes(self) -> list[int]:
        return [prod(leaf.shape) for leaf in self.leaves]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    @property
    def dtype(self) -> Any:
        return self.leaves[0].dtype

    @property
    def vector_dtype(self) -> Any:
        """float32 for half-precision parameters: three digits cannot carry a Krylov space."""
        return np.dtype(np.float32) if self.dtype.name in _HALF else self.dtype

    @property
    def rest(self) -> list[Any]:
        """The arrays that are not chosen; numbers, functions and texts of the tree are no arrays."""
        return [leaf for leaf in self.everything if _is_array(leaf)]

    def whole(self, leaves: Sequence[Any], rest: Sequence[Any]) -> Any:
        """Put chosen leaves and the other arrays into the tree that the user gave."""
        chosen, others = iter(leaves), iter(rest)
        filled = [next(chosen) if x is None else next(others) if _is_array(x) else x for x in self.everything]
        return jax.tree.unflatten(self.tree, filled)

    def split(self, vector: Array) -> list[Array]:
        """Cut a vector (n,) into pieces shaped like the chosen leaves, in its own dtype."""
        ends = np.cumsum(self.sizes)[:-1].tolist()
        pieces = jnp.split(vector, ends)
        return [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, self.leaves, strict=True)]

    def join(self, pieces: Iterable[Array], dtype: Any) -> Array:
        """Flatten pieces shaped like the chosen leaves into a vector (n,)."""
        return jnp.concatenate([piece.reshape(-1).astype(dtype) for piece in pieces])

    def to_vector(self, values: Any) -> Array:
        """Flatten a tree like the parameters; leaves that are not chosen are passed over."""
        try:
            given = self.tree.flatten_up_to(values)
        except (ValueError, TypeError, KeyError) as error:
            msg = f"`values` must be a tree like the parameters, {self.tree}, got {jax.tree.structure(values)}."
            raise ValueError(msg) from error
        given = [value for value, other in zip(given, self.everything, strict=True) if other is None]
        shapes = [tuple(jnp.shape(value)) for value in given]
        expected = [tuple(leaf.shape) for leaf in self.leaves]
        if shapes != expected:
            msg = f"`values` must have the shapes {expected}, got {shapes}."
            raise ValueError(msg)
        return self.join(map(jnp.asarray, given), self.vector_dtype)

    def to_params(self, vector: Array) -> Any:
        """Cut a vector of length n into a tree like the parameters, with None for leaves that are not chosen."""
        if tuple(vector.shape) != (self.size,):
            msg = f"`vector` must have shape ({self.size},), got {tuple(vector.shape)}."
            raise ValueError(msg)
        return self.whole(self.split(vector), [None for _ in self.rest])


def parameters_of(params: Any, select: Selection | None) -> Parameters:
    """Choose leaves of a pytree; by default all real floating ones."""
    paths, tree = jax.tree_util.tree_flatten_with_path(params)
    names = [_name(path) for path, _ in paths]
    leaves = [_as_jax(name, leaf) for name, (_, leaf) in zip(names, paths, strict=True)]
    floating = [n for n, x in zip(names, leaves, strict=True) if _is_array(x) and x.dtype.name in _FLOATING]
    if select is None:
        chosen = set(floating)
    elif isinstance(select, _SELECTED) or not callable(select):
        items = [select] if isinstance(select, _SELECTED) else list(select)
        chosen = set().union(*(_matches(item, names, floating) for item in items))
    else:
        chosen = {n for n, x in zip(names, leaves, strict=True) if n in floating and select(n, x)}
    if not chosen:
        what = "`params` has no floating leaf" if select is None else "`select` selects no leaf of `params`"
        msg = f"{what}: there is nothing to differentiate by. Its leaves are {names[:20]}."
        raise ValueError(msg)
    pairs = [(name, leaf) for name, leaf in zip(names, leaves, strict=True) if name in chosen]
    others = tuple(None if name in chosen else leaf for name, leaf in zip(names, leaves, strict=True))
    return Parameters(tuple(n for n, _ in pairs), tuple(x for _, x in pairs), others, tree)


def _name(path: Sequence[Any]) -> str:
    """Write the path to a leaf as `layers.0.weight`."""
    parts = [next((getattr(key, a) for a in ("key", "name", "idx") if hasattr(key, a)), key) for key in path]
    return ".".join(map(str, parts)) or "params"


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array)


def _as_jax(name: str, leaf: Any) -> Any:
    """Return NumPy leaves as JAX's, where that loses nothing; refuse tracers."""
    if isinstance(leaf, jax.core.Tracer):
        msg = (
            f"`params` holds a tracer (leaf {name!r}): an operator is made of arrays. Call this outside of jax.jit, "
            "jax.grad and jax.vmap; its products are compiled by themselves."
        )
        raise TypeError(msg)
    if not isinstance(leaf, np.ndarray | np.generic):
        return leaf
    if leaf.dtype == np.float64 and not x64_enabled():
        msg = (
            f"`params` holds a float64 NumPy array (leaf {name!r}), but JAX would make it float32. Call {X64} "
            "first, or convert it with .astype(np.float32)."
        )
        raise ValueError(msg)
    return jnp.asarray(leaf)


def _matches(item: Any, names: list[str], floating: list[str]) -> set[str]:
    """Find what one entry of `select` means: a name, a branch of the tree, a glob or a regular expression."""
    if isinstance(item, re.Pattern):
        found = {name for name in floating if item.search(name)}
    elif isinstance(item, str):
        found = {name for name in floating if name == item or name.startswith(f"{item}.")}
        found = found or {name for name in floating if fnmatchcase(name, item)}
    else:
        msg = f"`select` must hold names, globs or regular expressions, got {type(item).__name__}."
        raise TypeError(msg)
    if not found:
        what = repr(item.pattern if isinstance(item, re.Pattern) else item)
        more = " ..." * (len(names) > 20)
        msg = f"`select` asks for {what}, which is no floating leaf of `params`. It has {names[:20]}{more}."
        raise ValueError(msg)
    return found


def _check_alike(names: tuple[str, ...], leaves: tuple[Array, ...]) -> None:
    """Refuse leaves that cannot be one vector: none, or of several dtypes."""
    if not sum(leaf.size for leaf in leaves):
        msg = "`params` is empty: there is nothing to differentiate by."
        raise ValueError(msg)
    first: dict[str, str] = {}
    for name, leaf in zip(names, leaves, strict=True):
        first.setdefault(leaf.dtype.name, name)
    if len(first) > 1:
        kinds = ", ".join(f"{kind} ({name!r})" for kind, name in first.items())
        msg = f"The parameters must share one dtype, got {kinds}. Convert them, or choose those of one by `select`."
        raise ValueError(msg)
