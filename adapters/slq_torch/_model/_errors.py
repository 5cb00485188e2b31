"""Torch's run-time errors said again with what to do; errors we do not know pass through with a note."""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch.autograd.graph import Node
from torch.nn import Module
from torch.utils._pytree import tree_flatten

_NO_SECOND = "torch has no second derivative for {op}{where}, and a Hessian product differentiates the loss twice. "
_OTHERWISE = ' Or use strategy="finite-difference", which needs first derivatives only.'
# (what torch says, the type to raise, what to do); the first that matches is used.
_ADVICE: tuple[tuple[str, type[Exception], str], ...] = (
    (
        r"derivative for (?P<op>\S*attention\S*) is not implemented",
        NotImplementedError,
        _NO_SECOND
        + "Run the model inside `with sdpa_kernel(SDPBackend.MATH):` (from torch.nn.attention) in `loss`."
        + _OTHERWISE,
    ),
    (
        r"derivative for (?P<op>\S*rnn\S*) is not implemented",
        NotImplementedError,
        _NO_SECOND + "Run the model inside `with torch.backends.cudnn.flags(enabled=False):` in `loss`." + _OTHERWISE,
    ),
    (
        r"derivative for (?P<op>\S+) is not implemented",
        NotImplementedError,
        _NO_SECOND + "Replace this operation in the model or in `loss` by one built from elementary ones." + _OTHERWISE,
    ),
    (
        r"(?P<op>torch\.compile with aot_autograd) does not currently support double backward",
        NotImplementedError,
        _NO_SECOND + "Pass the model as it was before torch.compile." + _OTHERWISE,
    ),
    (
        r"same device|is not on the expected device|Input type \(torch\.\w+\.\w+\) and|"
        r"Input type \(torch\.\w+\) and \w+ type \(torch\.\w+\.\w+\)",
        ValueError,
        "The batch and the model are on different devices; the parameters are on {device}. Move each "
        'batch in `loss`, e.g. x = x.to("{device}"), or let the loader do it.',
    ),
    (
        r"must have the same dtype|expected scalar type|expected m1 and m2 to have the same dtype|"
        r"Input type \(\w+\) and bias type",
        ValueError,
        "The batch and the model have different dtypes; the parameters are {dtype}. Convert each "
        "batch in `loss`, e.g. x = x.to({dtype}).",
    ),
    (
        r"backward through the graph a second time",
        ValueError,
        "The loss reuses a graph from outside. Compute everything that depends on the parameters anew at each call.",
    ),
)

_WHERE = "_slq_where"


@contextmanager
def explained(batch: int, like: torch.Tensor) -> Iterator[None]:
    """Re-raise what torch says about a batch together with a remedy, if there is one."""
    try:
        yield
    except RuntimeError as error:
        for pattern, kind, advice in _ADVICE:
            if found := re.search(pattern, str(error)):
                where = getattr(error, _WHERE, "")
                facts = {"device": like.device, "dtype": like.dtype, "where": where, **found.groupdict()}
                msg = f"{advice.format(**facts)} [batch {batch}; torch said: {error}]"
                raise kind(msg) from error
        error.add_note(f"slq_torch: raised while differentiating the loss of batch {batch}.")
        raise
    except Exception as error:
        error.add_note(f"slq_torch: raised while differentiating the loss of batch {batch}.")
        raise


def name_the_module(error: BaseException, call: Any) -> None:
    """Find the module that calls what has no second derivative, by one more evaluation, and tell `explained`."""
    if not (found := re.search(r"derivative for (?P<op>\S+) is not implemented", str(error))):
        return
    if not isinstance(call.model, Module):
        return
    if name := _caller(call, _bare(found["op"].removesuffix("_backward"))):
        error.__dict__[_WHERE] = f" (in {name})"


def _caller(call: Any, op: str) -> str | None:
    """Name the innermost module whose forward made a node called `op`."""
    seen: set[Node] = set()
    callers: list[str] = []

    def nodes(values: Any) -> list[Node | None]:
        return [leaf.grad_fn for leaf in tree_flatten(values)[0] if isinstance(leaf, torch.Tensor)]

    def walk(name: str, given: Any, output: Any) -> None:
        stack, done = nodes(output), set(nodes(given))  # beyond its inputs begins what others made
        while stack:
            node = stack.pop()
            if node is None or node in done:
                continue
            done.add(node)
            new = node not in seen  # modules inside this one have come first
            seen.add(node)
            if new and op in _bare(node.name()):
                callers.append(name)
            stack.extend(parent for parent, _ in node.next_functions)

    with ExitStack() as stack, suppress(Exception):
        for name, module in call.model.named_modules():
            label = f"{name or 'the model'} ({type(module).__name__})"

            def hook(_module: Module, args: Any, kwargs: Any, output: Any, label: str = label) -> None:
                walk(label, (args, kwargs), output)

            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
        call.evaluate()
    return callers[0] if callers else None


def _bare(name: str) -> str:
    return name.removeprefix("aten::").replace("_", "").lower()


def refuse_once_differentiable(grads: Iterable[torch.Tensor | None]) -> None:
    """Raise if gradients went through a function whose backward cannot be differentiated.

    torch ends the graph of such a gradient with a node that raises when it is reached. But where
    unused parameters are allowed, as here, it is never reached, and the product lacks a term.
    """
    seen: set[Node] = set()
    stack = [grad.grad_fn for grad in grads if grad is not None]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        if type(node).__name__ == "Error":
            msg = (
                "An autograd.Function used by `loss` is marked @once_differentiable, and a Hessian "
                "product differentiates twice. Write its backward from torch operations, unmarked."
            )
            raise NotImplementedError(msg)
        seen.add(node)
        stack.extend(parent for parent, _ in node.next_functions)
