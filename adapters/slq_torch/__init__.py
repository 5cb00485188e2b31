"""PyTorch for slq: curvature matrices of neural networks, and torch tensors as matrices."""

from slq_torch import distributed
from slq_torch._adapter import as_operator
from slq_torch._callbacks import HuggingFaceCallback, KerasCallback, LightningCallback
from slq_torch._classes import ClassDecomposition, class_decomposition
from slq_torch._covariance import gradient_covariance
from slq_torch._fisher import fisher
from slq_torch._gauss_newton import ggn
from slq_torch._hessian import hessian
from slq_torch._inputs import input_hessian
from slq_torch._layers import Layers, layers
from slq_torch._operator import CurvatureOperator
from slq_torch._recorder import Recorder
from slq_torch._recorder_plan import RecorderPlan
from slq_torch._residual import Split, residual, split
from slq_torch._slices import Slice, loss_slice
from slq_torch._tensors import MatrixOperator, matrix
from slq_torch._traces import TraceValue, logdet, trace

__all__ = [
    "ClassDecomposition",
    "CurvatureOperator",
    "HuggingFaceCallback",
    "KerasCallback",
    "Layers",
    "LightningCallback",
    "MatrixOperator",
    "Recorder",
    "RecorderPlan",
    "Slice",
    "Split",
    "TraceValue",
    "as_operator",
    "class_decomposition",
    "distributed",
    "fisher",
    "ggn",
    "gradient_covariance",
    "hessian",
    "input_hessian",
    "layers",
    "logdet",
    "loss_slice",
    "matrix",
    "residual",
    "split",
    "trace",
]
