"""A curvature matrix of a model as a symmetric operator: products only, never the matrix.

What a batch contributes is the business of a `Curvature`; here it is averaged over the data, with
everything of the user's put back. Spectra, traces and eigenpairs are slq's.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, final, runtime_checkable

import array_api_compat.torch as torch_namespace
import torch
from torch import Tensor

from slq._operators._linear import Linear
from slq_torch._curvature._interop import to_scipy
from slq_torch._engine._live import Live
from slq_torch._engine._report import Engine
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call, Passes

Product = Callable[[Tensor], Tensor]


class Curvature(Protocol):
    """What one batch contributes to the matrix."""

    @property
    def kind(self) -> str:
        """The name of the matrix, e.g. "hessian"."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What the metadata tell about how it is computed; can be written as JSON."""
        ...

    def __call__(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Return the batch's matrix times each of the b rows, (b, n), without a graph.

        The matrix belongs to what ``call.value()`` returned: a mean over the batch, or a sum. The loss must have been
        evaluated through the call at least once when this returns.
        """
        ...


@runtime_checkable
class Prepared(Protocol):
    """A curvature that needs something of all the data before it can say what a batch contributes."""

    def prepare(self, passes: Passes, params: Parameters, accumulate: torch.dtype) -> Product | None:
        """Make it by a pass of its own if it is not there yet; called before each product, state preserved.

        Returns the product of rows where it is known now without another pass, else None.
        """
        ...


@final
class CurvatureOperator(Linear):
    """A curvature matrix of a loss; made by `slq_torch.hessian` and its like.

    Sums, differences and multiples (``H - G``, ``0.5 * H``) are operators again, and a number that is added stands for
    that multiple of the identity: ``G + 0.01`` is G with weight decay. Each term costs its own product.

    Attributes
    ----------
    shape : tuple of int
        (n, n) for n chosen scalar parameters.
    dtype : torch.dtype
        Of the vectors: the parameters' dtype, float32 if that is a half precision.
    device : torch.device
        Of the parameters and the vectors.
    order : "F"
        Columns of a block should be contiguous, so that X.T is a contiguous (b, n) tensor.
    noise : float
        Relative error of a product beyond the rounding of `dtype`: eps of half-precision
        parameters, or of half precision inside the loss once a product has shown it; what finite
        differences were measured to be off by; else 0.
    """

    __slots__ = ("_accumulate", "_curvature", "_params", "_passes", "_peaks", "device", "dtype", "shape")

    order: Literal["F"] = "F"

    def __init__(
        self, curvature: Curvature, params: Parameters, passes: Passes, accumulate: torch.dtype | None
    ) -> None:
        self._curvature, self._params, self._passes = curvature, params, passes
        self.shape: tuple[int, int] = (params.size, params.size)
        self.dtype: torch.dtype = params.vector_dtype
        self.device: torch.device = params.device
        self._accumulate = checked_accumulate(accumulate, self.dtype)
        self._peaks: dict[tuple[int, str], int | None] = {}  # by columns and strategy

    @property
    def noise(self) -> float:
        """Relative error of a product beyond the rounding of `dtype`."""
        half = self._params.dtype != self.dtype
        known: float = getattr(self._curvature, "noise", 0.0)
        return max(known, torch.finfo(self._params.dtype).eps if half else 0.0)

    @property
    def engine(self) -> Engine | None:
        """How products are computed and why so; None for matrices that have one way only."""
        engine: Engine | None = getattr(self._curvature, "engine", None)
        return engine

    def product_bytes(self, width: int, /) -> int | None:
        """Tell the peak memory of a product of b columns, as it was measured on one.

        The second product with so many columns is measured, by counting the tensors that it makes, on CUDA by the
        allocator's peak, which is reset. If there has been none, it is made now, with random columns.

        Parameters
        ----------
        width : int
            The number of columns b.

        Returns
        -------
        int or None
            Bytes of graphs, of those that are kept between products too, of what the passes through them take, and of
            the result. Not those of the parameters, the data and the columns. None for products that torch.compile
            made on the CPU, which nobody can look into. The first product with so many columns, which tries several
            ways, may take more.
        """
        generator = torch.Generator().manual_seed(0)
        while (key := self._settled(width)) is None or key not in self._peaks:
            columns = torch.randn(width, self.shape[0], generator=generator)
            self.matmat(columns.to(device=self.device, dtype=self.dtype).T)
        return self._peaks[key]

    def _settled(self, width: int) -> tuple[int, str] | None:
        """Return by what the peak of a product is known; None as long as it is open how it will be computed."""
        engine = self.engine
        if engine is None:
            return width, ""
        return (width, engine.strategies[width]) if width in engine.strategies else None

    @property
    def xp(self) -> Any:
        """Array namespace of the vectors."""
        return torch_namespace

    @property
    def metadata(self) -> dict[str, Any]:
        """Facts that can be written as JSON; samples and loss are None before the first product."""
        first = self._passes.first
        return {
            "kind": self._curvature.kind,
            "parameters": self.shape[0],
            "parameter_names": list(self._params.names),
            "parameter_dtype": str(self._params.dtype),
            "dtype": str(self.dtype),
            "accumulate": str(self._accumulate),
            "device": str(self.device),
            "mode": self._passes.mode,
            "batches": self._passes.length,
            "samples": None if first is None else first.samples,
            "loss": None if first is None else first.mean,
            **self._curvature.facts,
        }

    def matmat(self, X: Tensor, /) -> Tensor:
        """Multiply the matrix with b columns in one pass over the data.

        Parameters
        ----------
        X : Tensor
            Shape (n, b) on `device`; converted to `dtype` if it has another one.

        Returns
        -------
        Tensor
            A @ X, shape (n, b), `dtype`, without a graph; its transpose is contiguous.
        """
        check_block(X, self)
        key = self._settled(X.shape[1])
        if key is None or key in self._peaks:
            return self._product(X)
        if key[1] == "compile" and self.device.type == "cpu":
            self._peaks[key] = None
            return self._product(X)
        resident: int = getattr(self._curvature, "resident", 0)
        before = self.engine
        with Live(self.device) as live:
            result = self._product(X)
        if before is None or before.decided(self.engine):
            self._peaks[key] = resident + live.peak
        return result

    def _product(self, X: Tensor) -> Tensor:
        params, passes = self._params, self._passes
        with passes.prepared():
            rows = X.detach().to(self.dtype).T.contiguous()
            product: Product | None = None
            if isinstance(self._curvature, Prepared):
                product = self._curvature.prepare(passes, params, self._accumulate)
            if product is None:
                result = passes.mean(lambda call: self._curvature(call, params, rows), self._accumulate)
            else:
                result = product(rows)
        return result.to(self.dtype).T

    def __matmul__(self, X: Tensor, /) -> Tensor:
        """Multiply with a block (n, b) or a vector (n,)."""
        return self.matmat(X[:, None])[:, 0] if X.ndim == 1 else self.matmat(X)

    def to_vector(self, values: Iterable[Tensor] | Mapping[str, Tensor], /) -> Tensor:
        """Flatten tensors shaped like the parameters into (n,), `dtype`; a mapping goes by names."""
        return self._params.to_vector(values)

    def to_params(self, vector: Tensor, /) -> dict[str, Tensor] | list[Tensor]:
        """Cut a vector (n,) into views shaped like the parameters.

        A dict by names, or a list if the tensors of a closure were given without names.
        """
        return self._params.to_params(vector)

    def to_scipy(self) -> Any:
        """Return the operator as a symmetric scipy LinearOperator that copies to the device and back."""
        return to_scipy(self)

    def __repr__(self) -> str:
        return f"CurvatureOperator({self._curvature.kind}, n={self.shape[0]:,}, {self.dtype}, {self.device})"


def checked_accumulate(accumulate: torch.dtype | None, dtype: torch.dtype) -> torch.dtype:
    if accumulate is None:
        return dtype
    if accumulate not in (torch.float32, torch.float64):
        msg = f"`accumulate` must be torch.float32, torch.float64 or None, got {accumulate!r}."
        raise ValueError(msg)
    if torch.finfo(accumulate).eps > torch.finfo(dtype).eps:
        msg = f"`accumulate` must not be less precise than the vectors, got {accumulate} for {dtype}."
        raise ValueError(msg)
    return accumulate


def check_block(X: Any, operator: CurvatureOperator) -> None:
    check_rows(X, operator, operator.shape[0])


def check_rows(X: Any, operator: Any, n: int) -> None:
    if not isinstance(X, Tensor):
        msg = f"`X` must be a torch tensor, got {type(X).__name__}. Use torch.as_tensor(X)."
        raise TypeError(msg)
    if X.ndim != 2 or X.shape[0] != n:
        msg = f"`X` must have shape ({n}, b), got {tuple(X.shape)}. A single vector is v[:, None]."
        raise ValueError(msg)
    if X.device != operator.device or X.is_complex():
        msg = f"`X` must be real and on {operator.device}, got {X.dtype} on {X.device}."
        raise ValueError(msg)
