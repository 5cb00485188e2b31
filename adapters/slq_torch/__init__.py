"""PyTorch for slq: curvature matrices of neural networks, and torch tensors as matrices."""

from slq_torch._adapter import as_operator
from slq_torch._classes import ClassDecomposition, class_decomposition
from slq_torch._covariance import gradient_covariance
from slq_torch._fisher import fisher
from slq_torch._gauss_newton import ggn
from slq_torch._hessian import hessian
from slq_torch._inputs import input_hessian
from slq_torch._layers import Layers, layers
from slq_torch._operator import CurvatureOperator
from slq_torch._residual import Split, residual, split
from slq_torch._tensors import MatrixOperator, matrix
from slq_torch._traces import TraceValue, logdet, trace

__all__ = [
    "ClassDecomposition",
    "CurvatureOperator",
    "Layers",
    "MatrixOperator",
    "Split",
    "TraceValue",
    "as_operator",
    "class_decomposition",
    "fisher",
    "ggn",
    "gradient_covariance",
    "hessian",
    "input_hessian",
    "layers",
    "logdet",
    "matrix",
    "residual",
    "split",
    "trace",
]
