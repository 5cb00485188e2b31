"""slq: the spectrum of any symmetric operator that one can only multiply by, with the error of every number."""

from importlib.metadata import version as _version

from slq import gallery, plot
from slq._apply import Applied, apply
from slq._budget import ErrorBudget
from slq._density import Density
from slq._doctor import Diagnosis, Finding, check
from slq._driver import spectrum
from slq._eigen import eigsh
from slq._eigenpairs import Eigenpairs
from slq._errors import RunError, SlqWarning
from slq._estimates import Band, ErrorParts, Estimate
from slq._functions import (
    effective_dimension,
    estimate,
    estrada_index,
    heat_trace,
    log_sum_exp,
    logdet,
    nuclear_norm,
    schatten_norm,
    trace,
    trace_inverse,
    von_neumann_entropy,
)
from slq._lanczos import Tridiagonal, lanczos
from slq._lockstep import spectra
from slq._operators import Operator, SymmetricOperator, as_operator
from slq._outliers import Outliers
from slq._plan import Plan, plan
from slq._quadrature import Rule, gauss
from slq._spectra import Spectra
from slq._spectrum import Spectrum, load
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
    "Operator",
    "Outliers",
    "Plan",
    "Rule",
    "RunError",
    "SlqWarning",
    "Spectra",
    "Spectrum",
    "SymmetricOperator",
    "Tridiagonal",
    "apply",
    "as_operator",
    "check",
    "effective_dimension",
    "eigsh",
    "estimate",
    "estrada_index",
    "gallery",
    "gauss",
    "heat_trace",
    "lanczos",
    "load",
    "local_density",
    "log_sum_exp",
    "logdet",
    "nuclear_norm",
    "plan",
    "plot",
    "schatten_norm",
    "spectra",
    "spectrum",
    "trace",
    "trace_inverse",
    "von_neumann_entropy",
]
