"""PyTorch for slq: curvature matrices of neural networks, and torch tensors as matrices."""

from slq_torch import distributed
from slq_torch._adapter import as_operator
from slq_torch._curvature._classes import ClassDecomposition, class_decomposition
from slq_torch._curvature._covariance import gradient_covariance
from slq_torch._curvature._fisher import fisher
from slq_torch._curvature._gauss_newton import ggn
from slq_torch._curvature._hessian import hessian
from slq_torch._curvature._inputs import input_hessian
from slq_torch._curvature._layers import Layers, layers
from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._curvature._residual import Split, residual, split
from slq_torch._curvature._slices import Slice, loss_slice
from slq_torch._recording._callbacks import HuggingFaceCallback, KerasCallback, LightningCallback
from slq_torch._recording._recorder import Recorder
from slq_torch._recording._recorder_plan import RecorderPlan
from slq_torch._tensors._tensors import MatrixOperator, matrix
from slq_torch._tensors._traces import TraceValue, logdet, trace

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
