"""slq: the spectrum of any symmetric operator that one can only multiply by, with the error of every number."""

from importlib.metadata import version as _version

from slq import gallery, plot
from slq._eigen._eigen import eigsh
from slq._eigen._eigenpairs import Eigenpairs
from slq._errors import RunError, SlqWarning
from slq._estimates import Band, ErrorParts, Estimate
from slq._files._shard_folder import ShardFolder
from slq._files._sharding import shard
from slq._history._history import History
from slq._history._history_file import HistoryFile
from slq._history._overlaps import alignment, gradient_concentration, gradient_energy, subspace_overlap
from slq._lanczos._stage import lanczos
from slq._lanczos._tridiagonal import Tridiagonal
from slq._operators._composition import block_diag, kron, kronsum
from slq._operators._gram import dilation, gram
from slq._operators._hermitian import real_form
from slq._operators._operators import Operator, SymmetricOperator, as_operator
from slq._quadrature._budget import ErrorBudget
from slq._quadrature._density import Density
from slq._quadrature._outliers import Outliers
from slq._quadrature._quadrature import Rule, gauss
from slq._run._doctor import Diagnosis, Finding, check
from slq._run._driver import spectrum
from slq._run._lockstep import spectra
from slq._run._plan import Plan, plan
from slq._spectrum._measurements import negative_mass, outlier_ratio, sharpness, trace_ratio
from slq._spectrum._spectra import Spectra
from slq._spectrum._spectrum import Spectrum, load
from slq._spectrum._views import local_density
from slq._traces._apply import Applied, apply
from slq._traces._diagonals import diagonal, xdiag
from slq._traces._functions import estimate, logdet, trace, trace_inverse
from slq._traces._krylov_aware import krylov_aware_trace
from slq._traces._matrix_function import matrix_function
from slq._traces._norms import condition_number, frobenius_norm, nuclear_norm, rank, schatten_norm
from slq._traces._pencil import pencil
from slq._traces._quantities import (
    effective_dimension,
    estrada_index,
    free_energy,
    heat_capacity,
    heat_trace,
    log_sum_exp,
    moment,
    von_neumann_entropy,
)
from slq._traces._traces import hutchinson, hutchpp, xnystrace, xtrace

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
    "condition_number",
    "diagonal",
    "dilation",
    "effective_dimension",
    "eigsh",
    "estimate",
    "estrada_index",
    "free_energy",
    "frobenius_norm",
    "gallery",
    "gauss",
    "gradient_concentration",
    "gradient_energy",
    "gram",
    "heat_capacity",
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
    "moment",
    "negative_mass",
    "nuclear_norm",
    "outlier_ratio",
    "pencil",
    "plan",
    "plot",
    "rank",
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
