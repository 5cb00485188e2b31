"""Which parameters the operator acts on, and how a list of them becomes one vector and back.

Nothing here copies or changes a parameter.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy

Selected = str | re.Pattern[str] | Tensor | Module
Selection = Selected | Iterable[Selected] | Callable[[str, Tensor], bool]

_SELECTED = (str, re.Pattern, Tensor, Module)
_HALF = (torch.float16, torch.bfloat16)
_FLOATING = (torch.float32, torch.float64, *_HALF)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The chosen parameters, in the order in which they make up a vector of length `size`."""

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    named: bool

    def __post_init__(self) -> None:
        _check_alike(self.names, self.tensors)

    @property
    def sizes(self) -> list[int]:
        return [tensor.numel() for tensor in self.tensors]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    @property
    def dtype(self) -> torch.dtype:
        return self.tensors[0].dtype

    @property
    def vector_dtype(self) -> torch.dtype:
        """float32 for half-precision parameters: three digits cannot carry a Krylov space."""
        return torch.float32 if self.dtype in _HALF else self.dtype

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    def split(self, rows: Tensor) -> list[Tensor]:
        """Cut (b, n) into one (b, *shape) per parameter, in the parameters' dtype; views if that is `rows`'s."""
        pieces = torch.split(rows.to(self.dtype), self.sizes, dim=1)
        return [piece.reshape(len(rows), *t.shape) for piece, t in zip(pieces, self.tensors, strict=True)]

    def join(self, pieces: Sequence[Tensor | None], batch: tuple[int, ...] = (), out: Tensor | None = None) -> Tensor:
        """Flatten one (*batch, *shape) per parameter, None standing for zeros, into (*batch, n)."""
        flat = [
            t.new_zeros((*batch, t.numel())) if piece is None else piece.reshape(*batch, t.numel())
            for piece, t in zip(pieces, self.tensors, strict=True)
        ]
        return torch.cat(flat, dim=-1, out=out)

    def to_vector(self, values: Any) -> Tensor:
        """Flatten tensors shaped like the parameters (a list in their order, or a mapping by name)."""
        given = values
        if isinstance(values, Mapping):
            if set(values) != set(self.names):
                msg = f"`values` must have the keys {list(self.names)}, got {list(values)}."
                raise ValueError(msg)
            given = [values[name] for name in self.names]
        given = list(given)
        shapes = [tuple(value.shape) for value in given]
        expected = [tuple(tensor.shape) for tensor in self.tensors]
        if shapes != expected:
            msg = f"`values` must have the shapes {expected}, got {shapes}."
            raise ValueError(msg)
        dtype = self.vector_dtype
        return self.join([value.detach().to(device=self.device, dtype=dtype) for value in given])

    def to_params(self, vector: Tensor) -> dict[str, Tensor] | list[Tensor]:
        """Cut a vector of length n into views shaped like the parameters."""
        if tuple(vector.shape) != (self.size,):
            msg = f"`vector` must have shape ({self.size},), got {tuple(vector.shape)}."
            raise ValueError(msg)
        pieces = torch.split(vector, self.sizes)
        views = [p.reshape(t.shape) for p, t in zip(pieces, self.tensors, strict=True)]
        return dict(zip(self.names, views, strict=True)) if self.named else views


def from_model(model: Module, selection: Selection | None) -> Parameters:
    """Choose parameters of a model; a tied parameter counts once, the model's order is kept."""
    everything = list(model.named_parameters(remove_duplicate=False))
    if selection is None:
        chosen = {id(p) for _, p in everything if p.requires_grad}
        if not chosen:
            msg = (
                "`model` has no parameter that requires grad. Set requires_grad on some, or name the "
                "frozen ones that you want in `params`."
            )
            raise ValueError(msg)
    elif isinstance(selection, _SELECTED) or not callable(selection):
        items = [selection] if isinstance(selection, _SELECTED) else list(selection)
        chosen = set().union(*(_matches(item, everything) for item in items))
    else:
        chosen = {id(p) for name, p in everything if selection(name, p)}
    if not chosen:
        msg = "`params` selects no parameter of the model."
        raise ValueError(msg)
    picked = [(name, p) for name, p in model.named_parameters() if id(p) in chosen]
    return Parameters(tuple(n for n, _ in picked), tuple(p for _, p in picked), named=True)


def from_tensors(params: Any) -> Parameters:
    """Take the tensors that a closure depends on: one tensor, an iterable or a mapping of them."""
    named = isinstance(params, Mapping)
    items = params if named else enumerate([params] if isinstance(params, Tensor) else params)
    pairs = [(str(name), tensor) for name, tensor in (params.items() if named else items)]
    for name, tensor in pairs:
        if not isinstance(tensor, Tensor):
            msg = f"`params` must hold tensors, got {type(tensor).__name__} as entry {name}."
            raise TypeError(msg)
        if not tensor.requires_grad:
            msg = (
                f"`params` must require grad, entry {name} does not. Call .requires_grad_() on it "
                "before the closure uses it."
            )
            raise ValueError(msg)
    if len({id(tensor) for _, tensor in pairs}) < len(pairs):
        msg = "`params` names the same tensor twice. Give each tensor once."
        raise ValueError(msg)
    return Parameters(tuple(n for n, _ in pairs), tuple(t for _, t in pairs), named=named)


def _matches(item: Any, everything: list[tuple[str, Any]]) -> set[int]:
    """Find what one entry of `params` means: a tensor, those of a module, a name, or a pattern over trainable ones."""
    if isinstance(item, Tensor):
        found = {id(p) for _, p in everything if p is item}
    elif isinstance(item, Module):
        inside = {id(p) for p in item.parameters()}
        found = {id(p) for _, p in everything if id(p) in inside}
    elif isinstance(item, re.Pattern):
        found = {id(p) for name, p in everything if p.requires_grad and item.search(name)}
    elif isinstance(item, str):
        found = {id(p) for name, p in everything if name == item}
        found = found or {id(p) for name, p in everything if p.requires_grad and fnmatchcase(name, item)}
    else:
        msg = f"`params` must hold names, globs, regular expressions, tensors or modules, got {type(item).__name__}."
        raise TypeError(msg)
    if not found:
        what = _described(item)
        frozen = any(_fits(name, item) for name, _ in everything)
        advice = (
            "It matches frozen parameters only: a pattern means trainable ones, so give their full names."
            if frozen
            else f"The model has {[name for name, _ in everything[:20]]}{' ...' * (len(everything) > 20)}."
        )
        msg = f"`params` asks for {what}, which is no parameter of the model. {advice}"
        raise ValueError(msg)
    return found


def _described(item: Any) -> str:
    if isinstance(item, Tensor):
        return f"a tensor of shape {tuple(item.shape)}"
    if isinstance(item, Module):
        return f"the parameters of a {type(item).__name__}"
    return repr(item.pattern if isinstance(item, re.Pattern) else item)


def _fits(name: str, item: Any) -> bool:
    if isinstance(item, re.Pattern):
        return item.search(name) is not None
    return isinstance(item, str) and fnmatchcase(name, item)


def _check_alike(names: tuple[str, ...], tensors: tuple[Tensor, ...]) -> None:
    """Refuse parameters that cannot be one vector: none, unfinished, of several dtypes or devices."""
    for name, tensor in zip(names, tensors, strict=True):
        if is_lazy(tensor):
            msg = f"Parameter {name!r} is not initialised yet (a lazy module). Run the model once first."
            raise ValueError(msg)
    if not sum(tensor.numel() for tensor in tensors):
        msg = "`params` is empty: there is nothing to differentiate by."
        raise ValueError(msg)
    for what in ("dtype", "device"):
        first: dict[Any, str] = {}
        for name, tensor in zip(names, tensors, strict=True):
            first.setdefault(getattr(tensor, what), name)
        if len(first) > 1:
            kinds = ", ".join(f"{kind} ({name!r})" for kind, name in first.items())
            msg = (
                f"The parameters must share one {what}, got {kinds}. "
                f"Convert the model with .to(...), or choose those of one {what} by `params`."
            )
            raise ValueError(msg)
    if tensors[0].dtype not in _FLOATING or tensors[0].device.type == "meta":
        msg = (
            "The parameters must be float16, bfloat16, float32 or float64 on a real device, "
            f"got {tensors[0].dtype} on {tensors[0].device}."
        )
        raise ValueError(msg)
