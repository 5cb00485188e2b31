"""slq: the spectrum of any symmetric operator that one can only multiply by, with the error of every number."""

from importlib.metadata import version as _version

from slq import gallery, plot
from slq._apply import Applied, apply
from slq._budget import ErrorBudget
from slq._composition import block_diag, kron, kronsum
from slq._density import Density
from slq._diagonals import diagonal, xdiag
from slq._doctor import Diagnosis, Finding, check
from slq._driver import spectrum
from slq._eigen import eigsh
from slq._eigenpairs import Eigenpairs
from slq._errors import RunError, SlqWarning
from slq._estimates import Band, ErrorParts, Estimate
from slq._functions import estimate, logdet, trace, trace_inverse
from slq._gram import dilation, gram
from slq._hermitian import real_form
from slq._history import History
from slq._history_file import HistoryFile
from slq._krylov_aware import krylov_aware_trace
from slq._lockstep import spectra
from slq._matrix_function import matrix_function
from slq._measurements import negative_mass, outlier_ratio, sharpness, trace_ratio
from slq._operators import Operator, SymmetricOperator, as_operator
from slq._outliers import Outliers
from slq._overlaps import alignment, gradient_concentration, gradient_energy, subspace_overlap
from slq._pencil import pencil
from slq._plan import Plan, plan
from slq._quadrature import Rule, gauss
from slq._quantities import (
    effective_dimension,
    estrada_index,
    heat_trace,
    log_sum_exp,
    nuclear_norm,
    schatten_norm,
    von_neumann_entropy,
)
from slq._shard_folder import ShardFolder
from slq._sharding import shard
from slq._spectra import Spectra
from slq._spectrum import Spectrum, load
from slq._stage import lanczos
from slq._traces import hutchinson, hutchpp, xnystrace, xtrace
from slq._tridiagonal import Tridiagonal
from slq._views import local_density

__version__ = _version("slq")

__all__ = [
    "Applied",
    "Band",
    "Density",
    "Diagnosis",
    "Eigenpairs",
    "ErrorBudget",
    "ErrorParts",
    "Estimate",
    "Finding",
    "History",
    "HistoryFile",
    "Operator",
    "Outliers",
    "Plan",
    "Rule",
    "RunError",
    "ShardFolder",
    "SlqWarning",
    "Spectra",
    "Spectrum",
    "SymmetricOperator",
    "Tridiagonal",
    "alignment",
    "apply",
    "as_operator",
    "block_diag",
    "check",
    "diagonal",
    "dilation",
    "effective_dimension",
    "eigsh",
    "estimate",
    "estrada_index",
    "gallery",
    "gauss",
    "gradient_concentration",
    "gradient_energy",
    "gram",
    "heat_trace",
    "hutchinson",
    "hutchpp",
    "kron",
    "kronsum",
    "krylov_aware_trace",
    "lanczos",
    "load",
    "local_density",
    "log_sum_exp",
    "logdet",
    "matrix_function",
    "negative_mass",
    "nuclear_norm",
    "outlier_ratio",
    "pencil",
    "plan",
    "plot",
    "real_form",
    "schatten_norm",
    "shard",
    "sharpness",
    "spectra",
    "spectrum",
    "subspace_overlap",
    "trace",
    "trace_inverse",
    "trace_ratio",
    "von_neumann_entropy",
    "xdiag",
    "xnystrace",
    "xtrace",
]
