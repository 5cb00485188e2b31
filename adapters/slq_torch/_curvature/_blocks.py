"""Which parameters make up which block: by module, by name, by a function, or as a mapping says.

Names and tensors only; nothing is differentiated here. What one selection means is decided in `_parameters`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor
from torch.nn import Module, ModuleList, Sequential

from slq_torch._model._parameters import Parameters, Selection, from_model

Blocks = (
    str
    | re.Pattern[str]
    | Module
    | Iterable[str | re.Pattern[str] | Module]
    | Mapping[str, Selection]
    | Callable[[str, Tensor], str | None]
)


def from_blocks(model: Module, blocks: Blocks | None) -> dict[str, Parameters]:
    """Return the parameters of each block by its name, in the order asked for, or the model's."""
    if blocks is None:
        groups: Mapping[str, Any] = _owners(model)
    elif isinstance(blocks, Mapping):
        groups = {str(name): selection for name, selection in blocks.items()}
    elif isinstance(blocks, ModuleList | Sequential):
        return from_blocks(model, [module for module in blocks if any(p.requires_grad for p in module.parameters())])
    elif isinstance(blocks, str | re.Pattern | Module):
        groups = _named(model, blocks)
    elif callable(blocks):
        groups = _sorted_out(model, blocks)
    else:
        groups = {}
        for item in blocks:
            groups |= _named(model, item)
    if not groups:
        msg = "`blocks` makes no block: the model has no parameter that requires grad, or the function named none."
        raise ValueError(msg)
    return {name: _parameters(model, name, selection) for name, selection in groups.items()}


def _parameters(model: Module, name: str, selection: Any) -> Parameters:
    try:
        return from_model(model, selection)
    except (TypeError, ValueError) as error:
        error.add_note(f"slq_torch: raised for the block {name!r} of `blocks`.")
        raise


def _owners(model: Module) -> dict[str, list[Tensor]]:
    """Group trainable parameters by the module that holds them directly; a tied one belongs to its first holder."""
    taken: set[int] = set()
    groups: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad and id(p) not in taken]
        if own:
            groups[name or "(model)"] = own
            taken.update(map(id, own))
    return groups


def _named(model: Module, item: Any) -> dict[str, Any]:
    """Return the blocks that one name, glob, regular expression or module means."""
    if isinstance(item, re.Pattern):
        return _sorted_out(
            model, lambda name, _: found[0] if (found := item.search(name)) else None, repr(item.pattern)
        )
    modules = list(model.named_modules())
    if isinstance(item, Module):
        names = [name for name, module in modules if module is item]
        return {names[0] or "(model)": item} if names else _refuse(model, f"a {type(item).__name__}")
    if not isinstance(item, str):
        msg = f"`blocks` must hold names, globs, regular expressions or modules, got {type(item).__name__}."
        raise TypeError(msg)
    found = dict[str, Any]()
    for name, module in modules:
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if name and fnmatchcase(name, item) and not inside and any(p.requires_grad for p in module.parameters()):
            found[name] = [p for p in module.parameters() if p.requires_grad]
    names = [name for name, p in model.named_parameters() if p.requires_grad and fnmatchcase(name, item)]
    return found or {name: name for name in names} or _refuse(model, repr(item))


def _sorted_out(model: Module, sort: Callable[[str, Tensor], Any], what: str = "a function") -> dict[str, list[Tensor]]:
    """Group trainable parameters by the name of the block that a function gives them; None leaves one out."""
    groups: dict[str, list[Tensor]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad and (block := sort(name, p)) is not None:
            if not isinstance(block, str):
                msg = f"`blocks` as a function must return a block's name or None, got {block!r} for {name!r}."
                raise TypeError(msg)
            groups.setdefault(block, []).append(p)
    return groups or _refuse(model, what)


def _refuse(model: Module, what: str) -> Any:
    names = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
    msg = (
        f"`blocks` asks for {what}, which fits no module and no trainable parameter of the model. It has the modules "
        f"{names[:20]}{' ...' * (len(names) > 20)}."
    )
    raise ValueError(msg)
