"""JAX for slq: curvature matrices over pytrees of parameters, and JAX arrays as matrices."""

from slq_jax._adapter import as_operator
from slq_jax._gauss_newton import ggn
from slq_jax._hessian import hessian
from slq_jax._matrices import MatrixOperator, matrix
from slq_jax._operator import CurvatureOperator
from slq_jax._traces import TraceValue, logdet, trace

__all__ = [
    "CurvatureOperator",
    "MatrixOperator",
    "TraceValue",
    "as_operator",
    "ggn",
    "hessian",
    "logdet",
    "matrix",
    "trace",
]
