"""Hold the operator class of the gallery, and turn a spectrum alone into an operator.

It looks dense and costs n log n per product,

    A = S C^T P D P^T C S,

with D the eigenvalues, P a fixed shuffle, C the orthonormal cosine transform (DCT-II) and S a fixed flip of signs.
Without P, a smooth spectrum would give a nearly banded matrix. P and S come from the raw Philox stream and are the
same everywhere.

The products of lattices and graphs are in their own files. All are module-level, so that an operator can be pickled,
and are given a block of the right dtype.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from slq.gallery._law import Law

_STREAM = 0x516  # Philox key of the shuffle and the signs; any fixed number serves


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Operator:
    """Multiply by a symmetric matrix; satisfies `slq.SymmetricOperator`."""

    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    product: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

    def __repr__(self) -> str:
        return f"<{self.name}: {self.shape[0]} x {self.shape[1]}, {self.dtype}>"

    @property
    def metadata(self) -> dict[str, str]:
        """What results tell of the operator."""
        return {"kind": self.name}

    def matmat(self, X: npt.ArrayLike, /) -> npt.NDArray[Any]:
        """Return A @ X, shape (n, b), a new array of the operator's dtype; `X` stays as it is."""
        block = np.asarray(X)
        if block.ndim != 2 or block.shape[0] != self.shape[0]:
            msg = f"`X` must have shape ({self.shape[0]}, b), got {block.shape}. Pass a vector v as v[:, None]."
            raise ValueError(msg)
        block = block.astype(self.dtype, casting="same_kind", copy=False)  # complex is refused here
        return self.product(block) if block.shape[1] else block.copy()


Built = tuple[_Operator, Law]


def build(name: str, law: Law, dtype: npt.DTypeLike, product: Any) -> Built:
    """Pair a product with its law."""
    return _Operator(name, (law.n, law.n), real_dtype(dtype), product), law


def rotated(name: str, law: Law, dtype: npt.DTypeLike) -> Built:
    """Hide a spectrum behind a shuffle, a cosine transform and a flip of signs."""
    eigenvalues = _column(law, dtype)
    # Generators may change their streams between NumPy versions, raw bits may not.
    bits = np.random.Philox(key=_STREAM).random_raw(law.n)
    signs = np.where(bits & 1, 1, -1).astype(eigenvalues.dtype)[:, None]
    shuffle = np.argsort(bits, kind="stable")
    return build(name, law, dtype, partial(_rotate, eigenvalues[shuffle], signs))


def diagonal(name: str, law: Law, dtype: npt.DTypeLike) -> Built:
    """Show a spectrum as a diagonal matrix, ascending."""
    return build(name, law, dtype, partial(np.multiply, _column(law, dtype)))


def real_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return float32 or float64, and refuse the rest."""
    real = np.dtype(dtype)
    if real not in (np.dtype(np.float32), np.dtype(np.float64)):
        msg = f"`dtype` must be float32 or float64, got {real}."
        raise ValueError(msg)
    return real


def _column(law: Law, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return all eigenvalues as a column of the operator's dtype; refuse those it cannot hold."""
    real, largest = real_dtype(dtype), max(map(abs, law.edges))
    if largest > float(np.finfo(real).max):
        msg = f"`dtype` = {real} overflows at the eigenvalue +-{largest:.3g}. Use float64, or scale."
        raise ValueError(msg)
    return law.eigenvalues().astype(real)[:, None]


def _rotate(eigenvalues: npt.NDArray[Any], signs: npt.NDArray[Any], X: npt.NDArray[Any]) -> npt.NDArray[Any]:
    spectrum = fft.dct(signs * X, axis=0, norm="ortho", overwrite_x=True)
    spectrum *= eigenvalues
    product: npt.NDArray[Any] = fft.idct(spectrum, axis=0, norm="ortho", overwrite_x=True)
    product *= signs
    return product
