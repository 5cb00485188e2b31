"""What is asked of every input: each function compares what slq says with dense linear algebra, and raises if it lies.

Every number is judged by the error that it states itself, at 99.9 % so that a fair interval hardly fails by chance;
where many are judged, `table` judges a miss again. It judges messages, too.
"""

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.linalg

import slq
from tests.killers import inputs

CONFIDENCE = 0.999
PROBES, STEPS = 4, 12
# Runs that methods of Spectrum are asked of: the first two always, all of them where there is time.
OPTIONS = (
    {"probes": PROBES, "steps": STEPS, "reorth": "full"},
    {"probes": PROBES, "steps": STEPS, "reorth": "none"},
    {"tol": 0.05},
    {"probes": 1, "steps": STEPS},
    {"probes": PROBES, "steps": STEPS, "kind": "rademacher"},
)
# Rounding of the dense truth, as a share of the sum of magnitudes of what is summed.
ROUNDING = 1e-12
# Functions of A that are not defined, or not finite, on all of the spectrum say so in these words.
UNDEFINED = "overflows|positive|defined|above|negative|singular"
# Items of a diagnosis that name what is wrong.
NAMED = {
    inputs.ASYMMETRIC: {"symmetric"},
    inputs.DRIFTING: {"repeats"},
    inputs.NOT_LINEAR: {"linear"},
    inputs.NOT_FINITE: {"finite"},
    inputs.WRITING: {"input kept"},
}
FUNCTIONS: list["Function"] = []


@dataclass(frozen=True)
class Function:
    """One column of the table: a phrase, the function that raises, and whether it is one of a Spectrum."""

    phrase: str
    run: Callable
    of_spectrum: bool
    words: str = field(default="")

    @property
    def name(self):
        """The name of the function, for ids of tests."""
        return self.run.__name__


class Runs:
    """The runs of one input that methods of Spectrum are asked of; made once, with what they raised or warned of."""

    def __init__(self, input_, n, seed=0, *, thorough=False):
        self._input, self._n, self._seed, self._made = input_, n, seed, {}
        self._options = OPTIONS if thorough else OPTIONS[:2]

    def __iter__(self):
        return map(self._run, self._options)

    def _run(self, options):
        key = str(options)
        if key not in self._made:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                try:
                    case = self._input.make(self._n, self._seed)
                    found = slq.spectrum(case.A, rng=case.seed, confidence=CONFIDENCE, **options)
                except Exception as error:  # it is the verdict of every question to this run
                    found = error
            self._made[key] = found, told
        found, told = self._made[key]
        for warning in told:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if isinstance(found, Exception):
            raise found
        return found


def function(phrase, words=""):
    """Note the decorated function of a case as a column of the table."""

    def note(run):
        FUNCTIONS.append(Function(phrase, run, False, words))
        return run

    return note


def method(phrase, words=""):
    """Note the decorated function of a case and one run as a column: it is asked of all runs."""

    def note(run):
        FUNCTIONS.append(Function(phrase, run, True, words))
        return run

    return note


# -- judging ----------------------------------------------------------------------------------------------------------


def holds(estimate, truth, size=None):
    """Raise unless the truth lies in the interval, up to the rounding of the truth."""
    low, value, high, truth = np.broadcast_arrays(estimate.low, estimate.value, estimate.high, truth)
    slack = ROUNDING * (np.abs(truth) if size is None else size)
    with np.errstate(invalid="ignore"):
        slack = np.where(np.isfinite(slack), slack, 0.0)
        good = (low - slack <= truth) & (truth <= high + slack) & (low - slack <= value) & (value <= high + slack)
    assert np.all(good), f"{value[~good][0]} in [{low[~good][0]}, {high[~good][0]}], but it is {truth[~good][0]}"


def sums(estimate, f, values):
    """Raise unless the interval holds the sum of f over eigenvalues."""
    with np.errstate(all="ignore"):
        terms = f(values)
    with np.errstate(over="ignore"):
        holds(estimate, np.sum(terms), np.sum(np.abs(terms)))


def positive(estimate, f, values):
    """Raise unless the interval holds a sum that is defined for positive eigenvalues only."""
    if values[0] > 0:
        sums(estimate, f, values)
    elif values[0] > -1e-6 * np.abs(values).max():
        assert estimate.low == -np.inf or estimate.high == np.inf, "finite, of a matrix that may be singular"
    else:
        msg = f"{estimate} of a matrix with the eigenvalue {values[0]:.3g}"
        raise AssertionError(msg)


def close(found, truth, error, size):
    """Raise unless arrays agree to an error, up to the rounding of the truth."""
    off = float(np.abs(np.asarray(found, dtype=np.float64) / size - np.asarray(truth) / size).max())
    assert off <= error / size + ROUNDING, f"off by {off:.3g} of the size, stated {error / size:.3g}"


def between(values):
    """Return a number in the widest gap of some eigenvalues, to count below."""
    gap = int(np.argmax(np.diff(values))) if len(values) > 1 else 0
    return values[0] + abs(values[0]) / 2 if len(values) == 1 else (values[gap] + values[gap + 1]) / 2


def vector(case):
    """Return a vector for f(A) b in the dtype of the operator."""
    return np.random.default_rng(8).standard_normal(case.n).astype(case.dtype)


def as_matrix(operator):
    """Return all columns of an operator, in float64."""
    return np.asarray(operator.matmat(np.eye(operator.n, dtype=operator.dtype)), dtype=np.float64)


# -- methods of Spectrum ----------------------------------------------------------------------------------------------


@method("`Spectrum.cdf`")
def cdf(case, run):
    values = case.values
    x = np.linspace(values[0] - case.size, values[-1] + case.size, 23)
    x = x[np.abs(x[:, None] - values).min(axis=1) > 1e-4 * case.size]  # a step within rounding of x may count or not
    holds(run.cdf(x), np.searchsorted(values, x, side="right") / case.n, 1.0)


@method("`Spectrum.quantile`")
def quantile(case, run):
    values = case.values
    rank = (np.arange(case.n) + 0.5) / case.n
    holds(run.quantile(rank), values, case.size)


@method("`Spectrum.count`")
def count(case, run):
    values = case.values
    middle = between(values)
    holds(run.count(-np.inf, middle), np.sum(values <= middle))
    holds(run.count(middle, np.inf), np.sum(values > middle))


@method("`Spectrum.density`", "overflows")
def density(case, run):
    assert case.values is not None
    picture = run.density()
    y = np.arcsinh(picture.x / picture.unit) if picture.scale == "asinh" else picture.x
    mass = np.trapezoid(picture.value, y) + picture.stems[:, 1].sum()
    assert abs(mass - 1) < 0.02, f"mass {mass}"
    assert np.all(picture.low <= picture.high)
    assert picture.x[0] <= case.values[-1]
    assert picture.x[-1] >= case.values[0]


@method("`Spectrum.edges`")
def edges(case, run):
    values, (low, high) = case.values, run.edges
    assert low <= values[0] + 1e-14 * case.size, f"{low} is above {values[0]}"
    assert high >= values[-1] - 1e-14 * case.size, f"{high} is below {values[-1]}"


@method("`Spectrum.outliers`")
def outliers(case, run):
    values, found = case.values, run.outliers
    for value, residual, copies, exact in zip(
        found.values, found.residuals, found.multiplicities, found.exact, strict=True
    ):
        near = np.abs(values - value) <= residual + run.noise + 1e-14 * case.size
        assert near.any(), f"no eigenvalue within {residual:.3g} of {value}"
        if exact and found.verified:
            close_by = np.abs(values - value) <= residual + run.noise + 1e-6 * case.size
            assert near.sum() <= copies <= close_by.sum(), f"{copies} at {value}, there are {near.sum()}"


@method("`Spectrum.resolution`")
def resolution(case, run):
    assert np.all(run.resolution(case.values) >= 0)


@method("`Spectrum.error`")
def error(case, run):
    values = case.values
    if run.coordinate().scale == "linear":
        found = run.quantile((np.arange(case.n) + 0.5) / case.n, claim="estimate").value
        distance = np.abs(found / case.size - values / case.size).mean() / (np.ptp(values / case.size) or 1.0)
        assert distance <= 3 * run.error.total + 1 / case.n, f"{distance:.3g} off, {run.error.total:.3g} stated"
    assert run.error.total >= 0


@method("`Spectrum.trace`", "overflows")
def trace_of_run(case, run):
    values = case.values
    holds(run.trace(), np.trace(case.matrix), np.abs(values).sum())
    sums(run.trace("square"), np.square, values)
    sums(run.trace(lambda x: np.tanh(x / case.size)), lambda x: np.tanh(x / case.size), values)


@method("`Spectrum.moment`", "overflows")
def moment(case, run):
    values = case.values
    with np.errstate(over="ignore", under="ignore"):
        holds(run.moment(2), np.mean(values**2))


@method("`Spectrum.logdet`", UNDEFINED)
def logdet_of_run(case, run):
    positive(run.logdet(), np.log, case.values)


@method("`Spectrum.trace_inverse`", UNDEFINED)
def trace_inverse_of_run(case, run):
    positive(run.trace_inverse(), np.reciprocal, case.values)


@method("`Spectrum.schatten_norm`, `Spectrum.nuclear_norm`, `Spectrum.frobenius_norm`")
def schatten_of_run(case, run):
    values = case.values
    with np.errstate(over="ignore", under="ignore"):
        truth = case.size * float(np.sum(np.abs(values / case.size) ** 3) ** (1 / 3))
        holds(run.schatten_norm(3), truth)
        holds(run.schatten_norm(np.inf), np.abs(values).max())
        holds(run.nuclear_norm(), np.abs(values).sum())
        holds(run.frobenius_norm(), case.size * np.sqrt(np.sum((values / case.size) ** 2)))


@method("`Spectrum.effective_dimension`", UNDEFINED)
def effective_dimension_of_run(case, run):
    values, ridge = case.values, case.size
    found = run.effective_dimension(ridge)
    assert values[0] > -ridge, f"{found} of a matrix with the eigenvalue {values[0]:.3g}"
    sums(found, lambda x: x / (x + ridge), values)


@method("`Spectrum.estrada_index`", "overflows")
def estrada_of_run(case, run):
    sums(run.estrada_index(), np.exp, case.values)


@method("`Spectrum.log_sum_exp`")
def log_sum_exp_of_run(case, run):
    values = case.values
    with np.errstate(under="ignore"):
        holds(run.log_sum_exp(), values[-1] + np.log(np.sum(np.exp(values - values[-1]))), case.size + np.log(case.n))


@method("`Spectrum.heat_trace`", "finite")
def heat_trace_of_run(case, run):
    sums(run.heat_trace(1 / case.size), lambda x: np.exp(-x / case.size), case.values)


@method("`Spectrum.free_energy`", "too small")
def free_energy(case, run):
    values, T = case.values, case.size
    lowest = values[0]
    truth = lowest - T * np.log(np.sum(np.exp(-(values - lowest) / T)))
    holds(run.free_energy(T), truth, case.size * (1 + np.log(case.n)))


@method("`Spectrum.heat_capacity`", "too small")
def heat_capacity(case, run):
    x = case.values / case.size
    weights = np.exp(-(x - x[0])) / np.sum(np.exp(-(x - x[0])))
    mean = np.sum(weights * x)
    holds(run.heat_capacity(case.size), np.sum(weights * (x - mean) ** 2), 1.0)


@method("`Spectrum.von_neumann_entropy`", UNDEFINED)
def entropy_of_run(case, run):
    entropy_holds(run.von_neumann_entropy(), case.values)


@method("`Spectrum.condition_number`")
def condition_number(case, run):
    magnitudes = np.abs(case.values)
    found = run.condition_number()
    if magnitudes.min() > 1e-13 * magnitudes.max():
        holds(found, magnitudes.max() / magnitudes.min())
    else:
        assert found.high == np.inf or magnitudes.max() == 0, f"{found} of a singular matrix"


@method("`Spectrum.rank`")
def rank(case, run):
    size = 0.1 * case.size
    middle = np.abs(np.abs(case.values) - size).min() > 1e-6 * case.size
    if middle:
        holds(run.rank(size), np.sum(np.abs(case.values) > size))


@method("`Spectrum.negative_count`")
def negative_count(case, run):
    below = np.sum(case.values < -4 * run.noise), np.sum(case.values < 4 * run.noise)
    found = run.negative_count()
    assert found.low <= below[1] and found.high >= below[0], f"{found}, there are {below}"  # noqa: PT018


@method("`slq.negative_mass`, `Spectrum.negative_mass`")
def negative_mass(case, run):
    x = case.values / case.size
    share = np.sum(np.maximum(-x, 0)) / (np.sum(np.abs(x)) or 1.0)
    holds(run.negative_mass(), share, 1.0)
    below = np.mean(case.values < -2 * run.noise), np.mean(case.values < 2 * run.noise)
    found = slq.negative_mass(run)
    assert found.low <= below[1] and found.high >= below[0], f"{found}, it is {below}"  # noqa: PT018


@method("`slq.trace_ratio`")
def trace_ratio(case, run):
    x = case.values / case.size
    if np.any(x):
        holds(slq.trace_ratio(run), x.sum() / np.linalg.norm(x), np.abs(x).sum() / np.linalg.norm(x))


@method("`Spectrum.shifted`")
def shifted(case, run):
    values = case.values
    moved = run.shifted(3 * case.size)
    sums(moved.trace(), lambda x: x + 3 * case.size, values)
    if values[0] + 2 * case.size > 0:
        sums(moved.logdet(), np.log, values + 3 * case.size)


@method("`Spectrum.merge`, `Spectrum.distance`")
def merged(case, run):
    values = case.values
    if run.kind == "exact":
        return
    same = {"kind": run.kind, "reorth": run.reorth, "confidence": CONFIDENCE}
    other = slq.spectrum(case.A, probes=2, steps=STEPS, rng=case.seed + 1, **same)
    both = run.merge(other)
    sums(both.trace(), np.array, values)
    holds(run.distance(other), 0.0, case.size)


@method("`Spectrum.extend`")
def extended(case, run):
    if run.kind == "exact" or run.projected.any() or case.truth is None:
        assert case.values is not None
        return
    longer = run.extend(case.A, probes=run.probes + 2, steps=max(run.steps, STEPS) + 2)
    sums(longer.trace(), np.array, case.values)


@method("`Spectrum.save`, `slq.load`")
def saved(case, run):
    assert case.values is not None
    with tempfile.TemporaryDirectory() as folder:
        assert slq.load(run.save(Path(folder) / "run.npz")) == run


# -- one call per quantity --------------------------------------------------------------------------------------------


def options(case):
    """Return what all calls to a tolerance are given."""
    return {"rng": case.seed, "confidence": CONFIDENCE}


@function("`slq.trace`")
def trace(case):
    found = slq.trace(case.A, rtol=0.05, **options(case))
    holds(found, np.trace(case.matrix), np.abs(case.values).sum())


@function("`slq.logdet`", UNDEFINED)
def logdet(case):
    positive(slq.logdet(case.A, **options(case)), np.log, case.values)


@function("`slq.trace_inverse`", UNDEFINED)
def trace_inverse(case):
    positive(slq.trace_inverse(case.A, **options(case)), np.reciprocal, case.values)


@function("`slq.schatten_norm`")
def schatten_norm(case):
    found = slq.schatten_norm(case.A, 3, **options(case))
    holds(found, case.size * float(np.sum(np.abs(case.values / case.size) ** 3) ** (1 / 3)))


@function("`slq.nuclear_norm`")
def nuclear_norm(case):
    sums(slq.nuclear_norm(case.A, **options(case)), np.abs, case.values)


@function("`slq.estrada_index`", "overflows")
def estrada_index(case):
    sums(slq.estrada_index(case.A, **options(case)), np.exp, case.values)


@function("`slq.log_sum_exp`")
def log_sum_exp(case):
    log_sum_exp_of_run(case, _Answer("log_sum_exp", slq.log_sum_exp(case.A, **options(case))))


@function("`slq.heat_trace`", "finite")
def heat_trace(case):
    sums(slq.heat_trace(case.A, 1 / case.size, **options(case)), lambda x: np.exp(-x / case.size), case.values)


@function("`slq.von_neumann_entropy`", UNDEFINED)
def von_neumann_entropy(case):
    entropy_holds(slq.von_neumann_entropy(case.A, **options(case)), case.values)


@function("`slq.effective_dimension`", UNDEFINED)
def effective_dimension(case):
    found = slq.effective_dimension(case.A, case.size, **options(case))
    effective_dimension_of_run(case, _Answer("effective_dimension", found))


@function("`slq.frobenius_norm`")
def frobenius_norm(case):
    with np.errstate(over="ignore", under="ignore"):
        found = slq.frobenius_norm(case.A, **options(case))
        holds(found, case.size * np.sqrt(np.sum((case.values / case.size) ** 2)))


@function("`slq.condition_number`")
def condition_number_to_a_tolerance(case):
    found = slq.condition_number(case.A, **options(case))
    condition_number(case, _Answer("condition_number", found))


@function("`slq.rank`")
def rank_to_a_tolerance(case):
    rank(case, _Answer("rank", slq.rank(case.A, 0.1 * case.size, **options(case))))


@function("`slq.moment`", "overflows")
def moment_to_a_tolerance(case):
    moment(case, _Answer("moment", slq.moment(case.A, 2, **options(case))))


@function("`slq.free_energy`", "too small")
def free_energy_to_a_tolerance(case):
    free_energy(case, _Answer("free_energy", slq.free_energy(case.A, case.size, **options(case))))


@function("`slq.heat_capacity`", "too small")
def heat_capacity_to_a_tolerance(case):
    heat_capacity(case, _Answer("heat_capacity", slq.heat_capacity(case.A, case.size, **options(case))))


@function("`slq.estimate`", "overflows")
def estimate(case):
    found = slq.estimate(case.A, lambda s: s.trace("square"), 0.1, **options(case))
    sums(found, np.square, case.values)


class _Answer:
    """Answers one question with what was found elsewhere, so that it is judged as that of a run."""

    def __init__(self, name, answer):
        setattr(self, name, lambda *_: answer)


def entropy_holds(found, values):
    """Judge an entropy of A / tr A."""
    if values[0] < -1e-6 * np.abs(values).max() or not values.any():
        msg = f"{found} of a matrix that is not positive semidefinite, or zero"
        raise AssertionError(msg)
    shares = np.maximum(values / np.abs(values).max(), 0.0)
    shares = shares / shares.sum()
    holds(found, -np.sum(shares * np.log(np.where(shares > 0, shares, 1.0))), 1.0)


# -- f(A) b, eigenpairs, traces and diagonals -------------------------------------------------------------------------


@function("`slq.apply`")
def apply(case):
    b = vector(case)
    for passes in (1, 2):
        found = slq.apply(case.A, b, lambda x: np.exp(-x / case.size), rtol=1e-6, passes=passes)
        values, vectors = np.linalg.eigh(case.matrix / case.size)
        assert case.values is not None
        truth = vectors @ (np.exp(-values) * (vectors.T @ b.astype(np.float64)))
        off = np.linalg.norm(found.value - truth)
        assert off <= found.error[0] + 1e-11 * found.norm[0], f"off by {off:.3g}, stated {found.error[0]:.3g}"


@function("`slq.matrix_function`")
def matrix_function(case):
    f = lambda x: np.exp(-x / case.size)  # noqa: E731
    found = slq.hutchinson(slq.matrix_function(case.A, f), products=12, rng=case.seed, confidence=CONFIDENCE)
    sums(found, f, case.values)


@function("`slq.eigsh`")
def eigsh(case):
    for which in ("LA", "SA", "LM"):
        k = min(3, case.n)
        pairs = slq.eigsh(case.A, k, which=which, rng=case.seed, confidence=CONFIDENCE)
        eigenpairs_hold(pairs, case)


def eigenpairs_hold(pairs, case):
    """Judge residuals by products in float64, the proof by the eigenvalues that were left out."""
    values, X = case.values / case.size, np.asarray(pairs.vectors, dtype=np.float64)
    unit = 50 * np.finfo(case.dtype).eps * float(np.abs(values).max()) * np.sqrt(case.n)
    residuals = np.linalg.norm(case.matrix / case.size @ X - X * (pairs.values / case.size), axis=0)
    assert np.all(residuals <= 1.01 * pairs.residuals / case.size + unit), "residuals larger than stated"
    assert np.abs(X.T @ X - np.eye(len(pairs))).max() < 1e-4, "vectors are not orthonormal"
    left = list(values)
    for value, residual in zip(pairs.values / case.size, pairs.residuals / case.size, strict=True):
        place = int(np.argmin(np.abs(np.array(left) - value)))
        assert abs(left.pop(place) - value) <= residual + unit, f"{value * case.size} is no eigenvalue"
    if left and pairs.verified:
        low, high = np.array(pairs.rest) / case.size
        assert low - unit <= min(left), "an eigenvalue lies below the rest"
        assert max(left) <= high + unit, "an eigenvalue lies above the rest"


def trace_holds(found, case):
    """Judge a trace of the matrix itself, symmetric or not."""
    holds(found, np.trace(case.matrix), np.abs(case.matrix).sum())


@function("`slq.hutchinson`")
def hutchinson(case):
    for products in (12, None):
        trace_holds(slq.hutchinson(case.A, products=products, rng=case.seed, confidence=CONFIDENCE), case)


@function("`slq.hutchpp`")
def hutchpp(case):
    for products in (15, None):
        trace_holds(slq.hutchpp(case.A, products=products, rng=case.seed, confidence=CONFIDENCE), case)


@function("`slq.xtrace`")
def xtrace(case):
    for products in (16, None):
        trace_holds(slq.xtrace(case.A, products=products, rng=case.seed, confidence=CONFIDENCE), case)


@function("`slq.xnystrace`", "semidefinite")
def xnystrace(case):
    for products in (12, None):
        trace_holds(slq.xnystrace(case.A, products=products, rng=case.seed, confidence=CONFIDENCE), case)


@function("`slq.krylov_aware_trace`")
def krylov_aware_trace(case):
    f = lambda x: np.tanh(x / case.size)  # noqa: E731
    found = slq.krylov_aware_trace(case.A, f, block=3, depth=3, steps=8, probes=8, rng=case.seed, confidence=CONFIDENCE)
    sums(found, f, case.values)


@function("`slq.diagonal`")
def diagonal(case):
    found = slq.diagonal(case.A, probes=24, steps=6, rng=case.seed, confidence=1 - (1 - CONFIDENCE) / case.n)
    holds(found, np.diag(case.matrix), np.abs(case.matrix).sum(axis=1))


@function("`slq.diagonal` with `indices`")
def entries(case):
    some = np.arange(min(3, case.n))
    found = slq.diagonal(case.A, lambda x: np.exp(-x / case.size), indices=some, rng=case.seed)
    assert case.values is not None
    values, vectors = np.linalg.eigh(case.matrix / case.size)
    holds(found, np.sum(vectors**2 * np.exp(-values), axis=1)[some], 1.0)


@function("`slq.xdiag`")
def xdiag(case):
    found = slq.xdiag(case.A, products=16, rng=case.seed, confidence=1 - (1 - CONFIDENCE) / case.n)
    holds(found, np.diag(case.matrix), np.abs(case.matrix).sum(axis=1))


# -- before, beside and between ---------------------------------------------------------------------------------------


@function("`slq.plan`")
def plan(case):
    found = slq.plan(case.A, tol=0.05)
    assert found.products > 0
    assert np.isfinite(found.seconds)
    assert repr(found)


@function("`slq.lanczos`, `slq.gauss`")
def lanczos(case):
    b = vector(case)
    for reorth in ("full", "none"):
        rule = slq.gauss(slq.lanczos(case.A, b, STEPS, reorth=reorth))
        measure_holds(rule, b, case)


@function("`slq.gradient_energy`")
def gradient_energy(case):
    b = vector(case)
    measure_holds(slq.gradient_energy(case.A, b, STEPS), b, case)


def measure_holds(rule, b, case):
    """Compare moments of the rule of a vector with those of the matrix."""
    A, b, size = case.matrix / case.size, b.astype(np.float64), case.size
    assert case.values is not None
    nodes, weights, v = rule.nodes[0] / size, rule.weights[0], b / np.linalg.norm(b)
    unit = 1e3 * np.finfo(case.dtype).eps * max(1.0, float(np.abs(A).max())) * case.n
    for degree in range(4):
        truth = float(v @ np.linalg.matrix_power(A, degree) @ v)
        found = float(weights @ nodes**degree)
        assert abs(found - truth) <= unit * max(1.0, float(np.linalg.norm(A, 2)) ** degree), f"moment {degree}: {found}"


@function("`slq.local_density`", "overflows")
def local_density(case):
    found = slq.local_density(slq.lanczos(case.A, vector(case), STEPS))
    assert case.values is not None
    y = np.arcsinh(found.x / found.unit) if found.scale == "asinh" else found.x
    mass = np.trapezoid(found.value, y) + found.stems[:, 1].sum()
    assert abs(mass - 1) < 0.2, f"mass {mass}"  # the ends of a Chebyshev series are steep


@function("`slq.spectra`")
def spectra(case):
    several = slq.spectra({"A": case.A}, probes=2, steps=STEPS, rng=case.seed, confidence=CONFIDENCE)
    sums(several["A"].trace(), np.array, case.values)


@function("`slq.spectra` with `joint`")
def spectra_joint(case):
    operator = slq.as_operator(case.A)
    several = slq.spectra(
        {"A": operator},
        joint=lambda blocks: {name: operator.matmat(X) for name, X in blocks.items()},
        probes=2, steps=STEPS, rng=case.seed, confidence=CONFIDENCE,
    )  # fmt: skip
    sums(several["A"].trace(), np.array, case.values)


@function("`slq.alignment`")
def alignment(case):
    operator = slq.as_operator(case.A)
    B = np.diag(np.linspace(1.0, 2.0, case.n)).astype(case.dtype)
    found = slq.alignment(operator, B, probes=64, rng=case.seed, confidence=CONFIDENCE)
    A = case.matrix / case.size
    if A.any():
        holds(found, np.sum(A * B) / np.linalg.norm(A) / np.linalg.norm(B), 1.0)
    else:
        assert np.isnan(found.value), "the cosine of zero"


def composed(operator, truth, case):
    """Judge the traces of an operator made of others."""
    found = slq.spectrum(operator, probes=PROBES, steps=STEPS, rng=case.seed, confidence=CONFIDENCE)
    assert case.values is not None
    truth = truth(case.matrix)
    holds(found.trace(), np.trace(truth), np.abs(truth).sum())
    values = found.quantile([0.5]).value
    assert np.isfinite(values).all()


@function("`slq.kron`")
def kron(case):
    other = np.array([[2.0, 1.0], [1.0, 2.0]]).astype(case.dtype)
    composed(slq.kron(case.A, other), lambda A: np.kron(A, other.astype(np.float64)), case)


@function("`slq.kronsum`")
def kronsum(case):
    other = (case.size * np.array([[2.0, 1.0], [1.0, 2.0]])).astype(case.dtype)
    one, two = np.eye(case.n), np.eye(2)
    composed(slq.kronsum(case.A, other), lambda A: np.kron(A, two) + np.kron(one, other.astype(np.float64)), case)


@function("`slq.block_diag`")
def block_diag(case):
    other = (case.size * np.eye(2)).astype(case.dtype)
    composed(slq.block_diag(case.A, other), lambda A: scipy.linalg.block_diag(A, other), case)


@function("`slq.gram`", "transpose|squares leave")
def gram(case):
    assert case.truth is not None or case.words
    found = slq.spectrum(slq.gram(case.A), probes=PROBES, steps=STEPS, rng=case.seed, confidence=CONFIDENCE)
    singular = np.linalg.svd(case.matrix / case.size, compute_uv=False) * case.size
    sums(found.trace(), np.square, singular)
    holds(found.schatten_norm(4, gram=True), case.size * np.sum((singular / case.size) ** 4) ** 0.25)


@function("`slq.dilation`", "transpose|squares leave")
def dilation(case):
    assert case.truth is not None or case.words
    found = slq.spectrum(slq.dilation(case.A), probes=PROBES, steps=STEPS, rng=case.seed, confidence=CONFIDENCE)
    singular = np.linalg.svd(case.matrix / case.size, compute_uv=False) * case.size
    holds(found.schatten_norm(4), case.size * (2 * np.sum((singular / case.size) ** 4)) ** 0.25)


@function("`slq.pencil` by a factor")
def pencil_by_factor(case):
    d = np.linspace(1.0, 2.0, case.n).astype(case.dtype)[:, None]
    operator = slq.pencil(case.A, factor=(lambda X: X / d, lambda X: X / d))
    composed(operator, lambda A: A / d.astype(np.float64) / d.T.astype(np.float64), case)


@function("`slq.pencil` by solves")
def pencil_by_solves(case):
    d = np.linspace(1.0, 4.0, case.n).astype(case.dtype)
    operator = slq.pencil(case.A, np.diag(d), solve_B=lambda X: X / d[:, None])
    root = np.sqrt(d.astype(np.float64))[:, None]
    composed(operator, lambda A: A / root / root.T, case)


@function("`slq.as_operator`, `slq.real_form`")
def as_operator(case):
    for make in (slq.as_operator, slq.real_form):
        operator = make(case.A)
        assert operator.n == case.n
        if case.words in ("", "subnormal"):  # a product by hand is the caller's: nothing judges it
            close(as_matrix(operator), case.matrix, 4 * np.finfo(case.dtype).eps * case.size, case.size)


@function("`slq.check`")
def check(case):
    found = slq.check(case.A)
    if case.words == "subnormal" and not found:
        assert "subnormal" in repr(found), "a false alarm"
        warnings.warn("subnormal", slq.SlqWarning, stacklevel=2)
    elif case.words in ("", "subnormal"):
        assert found, f"a false alarm:\n{found}"
    elif case.truth is None or case.words != inputs.NOT_FINITE:
        assert not found, "nothing found"
        failed = [item.name for item in found.findings if not item.passed]
        assert set(failed) & NAMED[case.words], f"{failed} for {case.words!r}"
        warnings.warn(case.words, slq.SlqWarning, stacklevel=2)
