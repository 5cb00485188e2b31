"""PyTorch for slq: Hessians of neural networks, and torch tensors as matrices."""

from slq_torch._adapter import as_operator
from slq_torch._hessian import hessian
from slq_torch._operator import CurvatureOperator
from slq_torch._tensors import MatrixOperator, matrix

__all__ = ["CurvatureOperator", "MatrixOperator", "as_operator", "hessian", "matrix"]
