"""Dense and sparse CuPy matrices and cupyx LinearOperators as symmetric operators on one or several devices.

Symmetry is not checked here: that costs a pass over the matrix, and the products of a run tell.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, final

import cupy
import numpy as np
from array_api_compat import array_namespace
from cupyx import cusparse
from cupyx.scipy import sparse

from slq_cupy._devices import Devices
from slq_cupy._krylov import Krylov

Product = Callable[[Any], Any]


@final
class MatrixOperator:
    """A symmetric matrix on one or several CUDA devices; made by `slq_cupy.matrix`."""

    __slots__ = ("_facts", "_products", "device", "dtype", "order", "shape")

    def __init__(self, products: dict[int, Product], n: int, dtype: Any, facts: dict[str, Any]) -> None:
        self._products, self._facts = products, facts
        self.shape, self.dtype = (n, n), np.dtype(dtype)
        self.device = cupy.cuda.Device(next(iter(products)))
        self.order: Literal["C", "F"] = "F"

    @property
    def xp(self) -> Any:
        """Array namespace of the vectors."""
        return array_namespace(cupy.empty(0))

    @property
    def metadata(self) -> dict[str, Any]:
        """Facts about the matrix that can be written as JSON."""
        return {**self._facts, "dtype": self.dtype.name, "devices": list(self._products)}

    def matmat(self, X: Any, /) -> Any:
        """Return the product A @ X as a new (n, b) array, by the copy of A on the device of X.

        Parameters
        ----------
        X : cupy.ndarray
            The (n, b) block of columns, of the dtype of the matrix.

        Returns
        -------
        cupy.ndarray
            A @ X, shape (n, b), columns one after the other in memory.

        Raises
        ------
        ValueError
            If X is on a device that has no copy of the matrix.
        """
        product = self._products.get(X.device.id)
        if product is None:
            known = " and ".join(map(str, self._products))
            msg = (
                f"`X` is on CUDA device {X.device.id}, the matrix on {known}. Copy X there, or give the matrix to both "
                f"by slq_cupy.matrix(A, devices={[*self._products, X.device.id]})."
            )
            raise ValueError(msg)
        return product(X)

    def krylov(self, start: Any, **options: Any) -> Krylov | Devices:
        """Return the recurrence that `slq` runs from these unit start vectors, rows of shape (k, n)."""
        if len(self._products) == 1:
            return Krylov(start, **options)
        return Devices(start, list(self._products), **options)

    def __repr__(self) -> str:
        devices = ", ".join(map(str, self._products))
        return f"MatrixOperator(n={self.shape[0]}, {self._facts['layout']}, {self.dtype.name}, devices {devices})"


def matrix(A: Any, /, *, devices: Sequence[int] | None = None) -> MatrixOperator:
    """Wrap a symmetric CuPy matrix as an operator on its device, or on several.

    A product multiplies all probes at once: cuBLAS for a dense matrix, cuSPARSE SpMM for a sparse one, which is held as
    CSR. A step of Lanczos is a few fused kernels, and waits for no device.

    Parameters
    ----------
    A : cupy.ndarray, cupyx sparse matrix or cupyx LinearOperator
        Shape (n, n), float32 or float64, on the current device. Integers and booleans become float64, float16 becomes
        float32: each a copy. COO, CSC and matrices with repeated entries are converted to CSR, which is a copy too.
    devices : sequence of int, optional
        Numbers of the CUDA devices that share the probes; the first must be the current one. Each gets a copy of A. By
        default the current device alone. Memory is planned as if the first device held all probes, and eigenvectors are
        not projected out of later probes (`deflate` does nothing).

    Returns
    -------
    MatrixOperator
        With `shape`, `dtype`, `device`, `xp`, `order`, `metadata` and `matmat`.

    Raises
    ------
    TypeError
        If `A` is none of these, or complex, or a LinearOperator is to go to several devices.
    ValueError
        If `A` is not square or not on the current device, or `devices` does not begin with that or repeats one.

    Notes
    -----
    Only symmetric matrices have the spectra that slq computes; neither this function nor the products check it.
    A LinearOperator must be symmetric too; its `matmat` is given blocks whose columns lie one after the other.

    Examples
    --------
    >>> import cupy, slq, slq_cupy
    >>> A = slq_cupy.matrix(cupy.diag(cupy.arange(1.0, 101.0)))
    >>> slq.spectrum(A, probes=2, steps=20, rng=0).n
    100
    """
    if not is_matrix(A):
        msg = f"`A` must be a CuPy array, cupyx sparse matrix or cupyx LinearOperator, got {type(A).__name__}."
        raise TypeError(msg)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not A.shape[0]:
        msg = f"`A` must be a square matrix of shape (n, n), got shape {tuple(A.shape)}."
        raise ValueError(msg)
    _require_real(A.dtype)
    numbers = _numbers(devices, _device_of(A))
    if _is_linear_operator(A):
        if len(numbers) > 1:
            msg = f"a LinearOperator lives on one device, got devices={numbers}. Give a matrix, or leave `devices` out."
            raise TypeError(msg)
        return MatrixOperator({numbers[0]: A.matmat}, A.shape[0], A.dtype, {"layout": "LinearOperator"})
    if sparse.issparse(A):
        rows = _canonical(_floating(A))
        facts: dict[str, Any] = {"layout": f"sparse {A.format}", "nonzeros": int(rows.nnz)}
        return MatrixOperator(_copies(rows, numbers, _sparse), A.shape[0], rows.dtype, facts)
    dense = _floating(A)
    return MatrixOperator(_copies(dense, numbers, _dense), A.shape[0], dense.dtype, {"layout": "dense"})


def is_matrix(obj: Any) -> bool:
    """Tell whether an object is something that `matrix` takes."""
    return isinstance(obj, cupy.ndarray) or bool(sparse.issparse(obj)) or _is_linear_operator(obj)


def _is_linear_operator(obj: Any) -> bool:
    # By its module: importing cupyx.scipy.sparse.linalg loads cuSOLVER, which nothing here needs.
    own = any(base.__module__.startswith("cupyx.scipy.sparse.linalg") for base in type(obj).__mro__)
    return own and hasattr(obj, "matmat")


def _dense(A: Any) -> Product:
    return lambda X: (X.T @ A.T).T  # rows are columns of the result: each lies contiguous


def _sparse(A: Any) -> Product:
    def product(X: Any) -> Any:
        columns = cupy.asfortranarray(X)  # as they come, but for a caller's own
        out = cupy.empty(columns.shape, dtype=columns.dtype, order="F")
        return cusparse.spmm(A, columns, out)

    return product


def _canonical(A: Any) -> Any:
    """Return a matrix as CSR with sorted indices and no entry twice, as SpMM wants it; what is so already, uncopied."""
    rows = A.tocsr()
    if not rows.has_canonical_format:
        rows = rows.copy() if rows is A else rows
        rows.sum_duplicates()
    return rows


def _copies(A: Any, numbers: list[int], product: Callable[[Any], Product]) -> dict[int, Product]:
    """Return a product per device, by a copy of the matrix on each but the first."""
    products = {numbers[0]: product(A)}
    for number in numbers[1:]:
        with cupy.cuda.Device(number):
            products[number] = product(_here(A))
    return products


def _here(A: Any) -> Any:
    """Copy a matrix to the current device."""
    if not sparse.issparse(A):
        return A.copy()
    copy = sparse.csr_matrix((A.data.copy(), A.indices.copy(), A.indptr.copy()), shape=A.shape)
    return _canonical(copy)


def _floating(A: Any) -> Any:
    """Return a matrix of float32 or float64: integers and booleans in float64, halves in float32."""
    if A.dtype.kind in "iub":
        return A.astype(np.float64)
    return A.astype(np.float32) if A.dtype == np.float16 else A


def _require_real(dtype: Any) -> None:
    kind = np.dtype(dtype)
    if kind.kind not in "iubf":
        msg = (
            f"`A` has dtype {kind.name}; slq handles real symmetric operators. A Hermitian H = R + iS has the spectrum "
            "of the real [[R, -S], [S, R]], each eigenvalue twice: pass that."
        )
        raise TypeError(msg)


def _device_of(A: Any) -> int:
    data = A.data if sparse.issparse(A) else A
    return int(data.device.id) if hasattr(data, "device") else int(cupy.cuda.Device().id)


def _numbers(devices: Sequence[int] | None, own: int) -> list[int]:
    """Return the numbers of the devices to use; the matrix must be on the current one, which is the first."""
    current = int(cupy.cuda.Device().id)
    if own != current:
        msg = (
            f"`A` is on CUDA device {own}, and the current device is {current}. Run everything within "
            f"`with cupy.cuda.Device({own}):`."
        )
        raise ValueError(msg)
    if devices is None:
        return [current]
    numbers = [int(device) for device in devices]
    if not numbers or numbers[0] != current or len(set(numbers)) < len(numbers):
        msg = f"`devices` must name each device once and begin with that of `A`, {current}; got {list(devices)}."
        raise ValueError(msg)
    return numbers
