"""CuPy for slq: dense and sparse matrices on one or several GPUs, and fused kernels for the Lanczos step."""

from slq_cupy._adapter import as_operator
from slq_cupy._matrix import MatrixOperator, matrix

__all__ = ["MatrixOperator", "as_operator", "matrix"]
