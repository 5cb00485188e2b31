"""Dense and sparse torch tensors as symmetric or Hermitian operators on their own device.

Symmetry is not checked here: that costs a pass over the matrix, and `slq.check` does it by products.
"""

from typing import Any, Literal, final

import array_api_compat.torch as torch_namespace
import torch
from torch import Tensor

from slq._kernels._entries import dense_traces, usable
from slq_torch._curvature._interop import to_scipy
from slq_torch._model._quiet import quiet

_DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
_HALVES = (torch.float16, torch.bfloat16)
# Entries of a half-precision matrix that are widened at a time: they should stay in the cache.
_WIDEN = 2**20
_INT32_MAX = torch.iinfo(torch.int32).max


@final
class MatrixOperator:
    """A 2-D tensor as a symmetric operator; made by `slq_torch.matrix`."""

    __slots__ = ("_tensor", "device", "dtype", "order", "shape")

    def __init__(self, tensor: Tensor, order: Literal["C", "F"]) -> None:
        self._tensor = tensor
        self.shape: tuple[int, int] = (int(tensor.shape[0]), int(tensor.shape[1]))
        self.dtype: torch.dtype = torch.float32 if tensor.dtype in _HALVES else tensor.dtype
        self.device: torch.device = tensor.device
        self.order: Literal["C", "F"] = order

    @property
    def xp(self) -> Any:
        """Array namespace of the vectors."""
        return torch_namespace

    @property
    def metadata(self) -> dict[str, Any]:
        """Facts about the matrix that can be written as JSON."""
        stored = self._tensor.dtype
        kind = (
            "matrix" if stored == self.dtype else f"{str(stored).removeprefix('torch.')} matrix, multiplied in float32"
        )
        facts: dict[str, Any] = {"kind": kind, "layout": str(self._tensor.layout)}
        if self._tensor.layout != torch.strided:
            facts["nonzeros"] = int(self._tensor.values().numel())
        return facts | {"dtype": str(self.dtype), "device": str(self.device)}

    @property
    def traces(self) -> tuple[float, float] | None:
        """The traces of the matrix and of its square, exact up to rounding; None where float64 is not enough."""
        if self.device.type == "mps":
            return None
        tensor = self._tensor
        if tensor.layout == torch.strided:
            return dense_traces(tensor, torch_namespace)
        with quiet("Sparse .*(in beta|invariant checks)"):
            entries = tensor.to_sparse(layout=torch.sparse_coo).coalesce()
        rows, columns = entries.indices()
        values = entries.values().double()
        return usable(float(values[rows == columns].sum()), float(values.square().sum()))

    def matmat(self, X: Tensor, /) -> Tensor:
        """Return the product A @ X as a new (n, b) tensor.

        Parameters
        ----------
        X : Tensor
            The (n, b) block of columns, of the dtype and on the device of the matrix.

        Returns
        -------
        Tensor
            A @ X, shape (n, b), without a graph; in the memory order of `order`.
        """
        with torch.no_grad():
            if self._tensor.dtype in _HALVES:
                rows = max(1, _WIDEN // self.shape[0])
                return torch.cat([piece.float() @ X for piece in torch.split(self._tensor, rows)])
            if self.order == "C":
                return self._tensor @ X
            return (X.T @ self._tensor.T).T  # rows are columns of the result: each lies contiguous

    def to_scipy(self) -> Any:
        """Return the operator as a symmetric scipy LinearOperator that copies to the device and back."""
        return to_scipy(self)

    def __repr__(self) -> str:
        layout = str(self._tensor.layout).removeprefix("torch.")
        return f"MatrixOperator(n={self.shape[0]}, {layout}, {self.dtype}, {self.device})"


def matrix(tensor: Tensor, /) -> MatrixOperator:
    """Wrap a symmetric or Hermitian 2-D torch tensor, dense or sparse, as an operator on its device.

    A product costs one matrix product of torch. A dense tensor is used in place, without a copy.
    A sparse one is held as CSR with 32-bit indices where they suffice: on the CPU a CSR product
    of one column took a twentieth of the time of a COO product, and 32-bit indices another fifth
    off (n = 200,000, ten entries per row, float64).

    Parameters
    ----------
    tensor : Tensor
        Shape (n, n), float32, float64, complex64 or complex128; strided or sparse (COO, CSR, CSC, BSR, BSC). Integers
        and booleans become float64. float16 and bfloat16 are multiplied in float32: dense ones stay as they
        are and are widened some rows at a time, sparse ones are converted. Repeated entries of a COO
        tensor are summed. Gradients are not followed.

    Returns
    -------
    MatrixOperator
        With `shape`, `dtype`, `device`, `xp`, `order` ("F" if dense, "C" if sparse), `metadata`
        and `matmat`.

    Raises
    ------
    TypeError
        If `tensor` is not a torch tensor.
    ValueError
        If it is not square and two-dimensional, or of another dtype.

    Notes
    -----
    Only symmetric and Hermitian matrices have the spectra that slq computes; neither this function nor the
    products check it. `slq.check` does.

    Examples
    --------
    >>> import torch, slq_torch
    >>> A = slq_torch.matrix(torch.diag(torch.tensor([1.0, 2.0, 3.0])))
    >>> A.matmat(torch.ones(3, 1)).T
    tensor([[1., 2., 3.]])
    """
    if not isinstance(tensor, Tensor):
        msg = f"`tensor` must be a torch tensor, got {type(tensor).__name__}. Use torch.as_tensor(...) first."
        raise TypeError(msg)
    if tensor.ndim != 2 or tensor.shape[0] != tensor.shape[1]:
        msg = f"`tensor` must be a square matrix of shape (n, n), got shape {tuple(tensor.shape)}."
        raise ValueError(msg)
    tensor = tensor.detach()
    if not (tensor.is_floating_point() or tensor.is_complex()):
        tensor = tensor.to(torch.float64)
    if tensor.dtype not in _DTYPES + _HALVES:
        msg = (
            f"`tensor` must be floating (float64, float32, float16, bfloat16) or complex (complex128, complex64), got "
            f"{tensor.dtype}. Convert it with tensor.to(torch.float64)."
        )
        raise ValueError(msg)
    if tensor.is_meta:
        msg = "`tensor` is on device meta: it has a shape, but no numbers. Materialise it first."
        raise ValueError(msg)
    if tensor.layout == torch.strided:
        return MatrixOperator(tensor, "F")
    if tensor.dense_dim():
        msg = "`tensor` must have scalar entries, got a hybrid sparse tensor. Use .to_dense() first."
        raise ValueError(msg)
    return MatrixOperator(_compressed(tensor.float() if tensor.dtype in _HALVES else tensor), "C")


def _compressed(tensor: Tensor) -> Tensor:
    """Convert a sparse matrix to CSR, with 32-bit indices if they can hold it."""
    mkl = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    if tensor.device.type == "cpu" and not mkl:  # without it torch cannot multiply CSR on the CPU
        return tensor.to_sparse(layout=torch.sparse_coo).coalesce()
    with quiet("Sparse .*(in beta|invariant checks)"):
        if tensor.layout in (torch.sparse_bsr, torch.sparse_bsc):  # no way leads straight to rows
            tensor = tensor.to_sparse(layout=torch.sparse_coo).coalesce()
        rows = tensor.to_sparse_csr()
        if max(rows.shape[0], rows.values().numel()) > _INT32_MAX:
            return rows
        pointers, columns = rows.crow_indices().int(), rows.col_indices().int()
        return torch.sparse_csr_tensor(pointers, columns, rows.values(), rows.shape, check_invariants=False)
