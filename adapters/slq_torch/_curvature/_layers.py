"""All diagonal blocks of one Hessian at once: a layer's curvature is its own block, and one pass serves all layers.

Per batch the gradient graph is built once; the product of a block needs only the derivative of its own part of the
gradient by its own parameters, and torch visits only what lies between the two.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

import slq
from slq_torch._curvature._arguments import ABSENT, Mode, check_network
from slq_torch._curvature._blocks import Blocks, from_blocks
from slq_torch._curvature._hessian import hessian
from slq_torch._curvature._operator import CurvatureOperator, check_block
from slq_torch._engine._engine import Products
from slq_torch._engine._pull import gradients, pull
from slq_torch._engine._report import Engine
from slq_torch._engine._strategies import Choice, Strategy
from slq_torch._model._parameters import Parameters, from_tensors
from slq_torch._model._passes import Call, Loss


def layers(
    model: Any,
    loss: Loss | None = None,
    data: Any = ABSENT,
    *,
    blocks: Blocks | None = None,
    mode: Mode = "as-is",
    accumulate: torch.dtype | None = None,
    strategy: Choice = "auto",
    chunk: int | None = None,
    memory: float | None = None,
    microbatch: int | None = None,
) -> "Layers":
    r"""Make operators for the diagonal blocks of a Hessian, one per layer, that share their passes over the data.

    Block i is :math:`H_{ii} = \nabla^2_{\theta_i} L`, the Hessian of the mean loss by the parameters of that block
    alone. Each is an operator of its own. The spectra of all of them together read the data and build the gradient
    graph once per Lanczos step: a joint product of L blocks costs one gradient and L second backward passes, each only
    as long as the way from the loss down to its layer and back, half of a whole one on average.

    Parameters
    ----------
    model : Module or callable
        As for `hessian`. A closure, without `loss` and `data`, needs `blocks` as a mapping, name -> tensor or tensors.
    loss : callable
        ``loss(model, batch)``, as for `hessian`.
    data : object
        As for `hessian`.
    blocks : str, Pattern, Module, iterable of these, Mapping or callable, optional
        What the blocks are. By default every module that holds trainable parameters itself. A glob such as
        ``"layers.*"`` makes a block of each outermost module whose name it matches, with all trainable parameters
        inside, or of each parameter if no module matches. A ModuleList or Sequential means each of its modules. A
        compiled regular expression puts parameters together whose names contain the same match, as
        ``re.compile(r"layers\.\d+\.(attn|mlp)")`` does. A function of (name, parameter) returns the name of the block,
        or None. A mapping gives a name to anything that ``params=`` of `hessian` takes. Blocks may overlap.
    mode : {"as-is", "eval", "train"}, default "as-is"
        As for `hessian`.
    accumulate : torch.dtype, optional
        As for `hessian`.
    strategy : {"auto", "graph", "graph-vmap"}, default "auto"
        How columns are multiplied: one after the other through a graph that is built once per batch, or all at once.
        "auto" chooses as `hessian` does.
    chunk, memory, microbatch : int, float, int, optional
        As for `hessian`; the joint products have their graphs, and each block has its own where it is multiplied alone.

    Returns
    -------
    Layers
        A mapping, name -> CurvatureOperator, with `spectra` and `products` for all at once.

    Raises
    ------
    TypeError
        As `hessian`, and if `blocks` holds something else.
    ValueError
        As `hessian`, and if a block has no parameters.

    Notes
    -----
    The trace of the Hessian is the sum of the traces of blocks that share no parameter and leave none out. Its largest
    eigenvalue is at least that of every block.

    Examples
    --------
    >>> import torch, slq_torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1)).double()
    >>> batch = torch.eye(3, dtype=torch.float64)
    >>> blocks = slq_torch.layers(model, lambda model, x: model(x).square().mean(), batch)
    >>> blocks
    Layers of a hessian, torch.float64, cpu
      0                     8
      2                     3
    >>> s = blocks.spectra(rng=0)
    >>> s["0"].n, s["2"].n
    (8, 3)
    """
    closure = loss is None and data is ABSENT
    if not closure:
        check_network(model, loss, data, closure="layers(closure, blocks={...})")
    chosen = _closure_blocks(blocks) if closure else from_blocks(model, blocks)

    def operator(params: Parameters) -> CurvatureOperator:
        first: Any = (model,) if closure else (model, loss, data)
        return hessian(*first, params=list(params.tensors), mode=mode, accumulate=accumulate, **options)

    everything = _union(chosen.values())
    options: dict[str, Any] = {"strategy": strategy, "chunk": chunk, "memory": memory}
    if not closure:
        options["microbatch"] = microbatch
    products = Products(_Diagonal(everything), **options)
    return Layers({name: operator(params) for name, params in chosen.items()}, operator(everything), products)


@final
class Layers(Mapping[str, CurvatureOperator]):
    """The diagonal blocks of a Hessian by name, each an operator of its own; made by `slq_torch.layers`."""

    __slots__ = ("_operators", "_products", "_whole")

    def __init__(self, operators: dict[str, CurvatureOperator], whole: CurvatureOperator, products: Products) -> None:
        self._operators, self._whole, self._products = operators, whole, products

    def __getitem__(self, name: str) -> CurvatureOperator:
        """Return the operator of one block."""
        return self._operators[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the blocks' names."""
        return iter(self._operators)

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._operators)

    @property
    def engine(self) -> Engine:
        """How joint products are computed and why so."""
        return self._products.engine

    def products(self, columns: Mapping[str, Tensor], /) -> dict[str, Tensor]:
        """Multiply some or all of the blocks with their own columns, in one pass over the data.

        Parameters
        ----------
        columns : Mapping
            Name -> Tensor of shape (n, b), on the parameters' device; n and b may differ from block to block.

        Returns
        -------
        dict
            Name -> product of shape (n, b), without a graph; its transpose is contiguous.
        """
        if not columns:
            return {}
        dtype, passes = self._whole.dtype, self._whole._passes
        groups: dict[int, list[str]] = {}  # of as many columns each
        for name, X in columns.items():
            check_block(X, self[name])
            groups.setdefault(X.shape[1], []).append(name)
        blocks = [_Blocks.of([self[name]._params for name in names]) for names in groups.values()]
        rows = [torch.cat([columns[name].detach().to(dtype).T for name in names], dim=1) for names in groups.values()]

        def visit(call: Call) -> Tensor:
            return torch.cat([self._products(call, b, r).reshape(-1) for b, r in zip(blocks, rows, strict=True)])

        with passes.prepared():
            total = passes.mean(visit, self._whole._accumulate).to(dtype)
        found = dict[str, Tensor]()
        for names, r, part in zip(groups.values(), rows, torch.split(total, [r.numel() for r in rows]), strict=True):
            pieces = torch.split(part.view(r.shape), [self[name].shape[0] for name in names], dim=1)
            found |= {name: piece.contiguous().T for name, piece in zip(names, pieces, strict=True)}
        return {name: found[name] for name in columns}

    def spectra(self, **options: Any) -> slq.Spectra:
        """Estimate the spectra of all blocks in lock-step: the data are read once per step for all of them.

        Parameters
        ----------
        **options
            As for `slq.spectra`: `tol`, `probes`, `steps`, `rng`, `memory` (of all blocks together), `progress`,
            `callback(name, spectrum)` and so on.

        Returns
        -------
        Spectra
            The same as from `slq.spectrum` of each block with the same options, up to rounding.

        Raises
        ------
        RunError
            If a product fails; `.partial` holds the Spectra of what was done.
        """
        return slq.spectra(self._operators, joint=self.products, context=_stream(self._whole.device), **options)

    def __repr__(self) -> str:
        width = max(len(name) for name in self)
        lines = [f"  {name:<{width}}  {operator.shape[0]:>{20},}" for name, operator in self._operators.items()]
        return "\n".join([f"Layers of a hessian, {self._whole.dtype}, {self._whole.device}", *lines])


@dataclass(frozen=True, slots=True)
class _Blocks(Parameters):
    """The parameters of several blocks, one after the other in one vector; blocks may share some."""

    blocks: tuple[Parameters, ...]

    @classmethod
    def of(cls, blocks: Sequence[Parameters]) -> "_Blocks":
        names = tuple(name for block in blocks for name in block.names)
        return cls(names, tuple(t for block in blocks for t in block.tensors), True, tuple(blocks))


class _Diagonal:
    """The diagonal blocks of a Hessian: all through one graph of the gradient by all their parameters."""

    kind = "hessian blocks"
    parts = 1
    facts: dict[str, Any] = {}  # noqa: RUF012 - nothing to tell, never written to

    def __init__(self, everything: Parameters) -> None:
        self._everything = everything

    def ways(self) -> tuple[Strategy, ...]:
        """Double backward, one column after the other or all at once."""
        return (
            Strategy("graph", self._graph, partial(_pulled, at_once=False), held=True),
            Strategy("graph-vmap", self._graph, partial(_pulled, at_once=True), held=True, vmapped=True),
        )

    def _graph(self, call: Call, params: Parameters) -> dict[int, Tensor | None]:
        """Return the gradient by each parameter, by its id: which blocks are asked for may change."""
        grads = gradients(call.value(), self._everything)
        return dict(zip(map(id, self._everything.tensors), grads, strict=True))


def _pulled(known: dict[int, Tensor | None], params: Any, rows: Tensor, keep: bool, *, at_once: bool) -> Tensor:
    pieces = torch.split(rows, [block.size for block in params.blocks], dim=1)
    return torch.cat(
        [
            pull([known[id(t)] for t in block.tensors], block, piece, at_once=at_once, keep=True)
            for block, piece in zip(params.blocks, pieces, strict=True)
        ],
        dim=1,
    )


def _stream(device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Let the threads of the runs work on the stream that is current in the caller's."""
    if device.type != "cuda":
        return nullcontext
    current = torch.cuda.current_stream(device)
    return lambda: torch.cuda.stream(current)


def _closure_blocks(blocks: Any) -> dict[str, Parameters]:
    if not isinstance(blocks, Mapping) or not blocks:
        msg = "`blocks` of a closure must be a mapping, name -> tensor or tensors: there is no model to take them from."
        raise TypeError(msg)
    return {str(name): from_tensors(tensors) for name, tensors in blocks.items()}


def _union(parts: Iterable[Parameters]) -> Parameters:
    """Return all parameters of several blocks, each once."""
    pairs = {id(t): (name, t) for part in parts for name, t in zip(part.names, part.tensors, strict=True)}
    names, tensors = zip(*pairs.values(), strict=True)
    return Parameters(names, tensors, named=True)
