"""Operators of this package as those of others: SciPy's LinearOperator on the host.

The other way needs no code here: `slq.as_operator` takes whatever has a shape, a dtype and a product.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor


class Multiplies(Protocol):
    """What `to_scipy` needs of an operator."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def matmat(self, X: Tensor, /) -> Tensor:
        """Return A @ X."""
        ...


def to_scipy(operator: Multiplies) -> Any:
    """Return a symmetric operator as a scipy LinearOperator of the same dtype, float64 or float32, on the host.

    Every product copies its block to the operator's device and the result back: 2 n b numbers.
    """

    def matmat(X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        # A copy, since X may be reversed, read-only, or overwritten by its owner.
        block = torch.from_numpy(np.array(X, order="F")).to(operator.device, operator.dtype)
        return np.asarray(operator.matmat(block).cpu().numpy())

    def matvec(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return matmat(x.reshape(-1, 1))[:, 0]

    dtype = np.dtype(str(operator.dtype).removeprefix("torch."))
    return LinearOperator(operator.shape, matvec=matvec, rmatvec=matvec, matmat=matmat, rmatmat=matmat, dtype=dtype)
