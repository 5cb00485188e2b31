"""Every question to a Spectrum against dense NumPy on the same matrix, in both precisions and for every law of probes.

Single runs are asked at 99.99 %, so that a miss is a mistake; how often 95 % intervals hold is tests/statistics' part.
"""

from dataclasses import fields

import numpy as np
import pytest

import slq

SURE = 0.9999
GRID = np.array([0.1, 0.5, 2.0])


def entropy(x):
    shares = x[x > 0] / x.sum()
    return -np.sum(shares * np.log(shares))


def log_partition(x, temperature):
    return np.log(np.sum(np.exp(-(x - x.min()) / temperature))) - x.min() / temperature


def heat_capacity(x, temperature):
    weights = np.exp(-(x - x.min()) / temperature)
    return (np.average(x**2, weights=weights) - np.average(x, weights=weights) ** 2) / temperature**2


# name: what is asked of the run, the same of the eigenvalues, whether it is certified where the run is (None: either;
# ALWAYS: the stored matrix tells it exactly).
ALWAYS = "always"
ANY = {
    "trace": (lambda s: s.trace(), np.sum, ALWAYS),
    "trace of a cube": (lambda s: s.trace("x**3"), lambda x: np.sum(x**3), True),
    "trace of a callable": (lambda s: s.trace(lambda x: np.cos(3 * x)), lambda x: np.sum(np.cos(3 * x)), False),
    "moment": (lambda s: s.moment(4), lambda x: np.mean(x**4), True),
    "central moment": (lambda s: s.moment(3, about=0.2), lambda x: np.mean((x - 0.2) ** 3), True),
    "frobenius norm": (lambda s: s.frobenius_norm(), lambda x: np.sqrt(np.sum(x**2)), ALWAYS),
    "schatten norm 4": (lambda s: s.schatten_norm(4), lambda x: np.sum(x**4) ** 0.25, True),
    "spectral norm": (lambda s: s.schatten_norm(np.inf), lambda x: np.abs(x).max(), True),
    "estrada index": (lambda s: s.estrada_index(), lambda x: np.sum(np.exp(x)), True),
    "log sum exp": (lambda s: s.log_sum_exp(), lambda x: np.log(np.sum(np.exp(x))), True),
    "heat trace": (lambda s: s.heat_trace(0.7), lambda x: np.sum(np.exp(-0.7 * x)), True),
    "free energy": (lambda s: s.free_energy(0.5), lambda x: -0.5 * log_partition(x, 0.5), True),
    "heat capacity": (lambda s: s.heat_capacity(0.5), lambda x: heat_capacity(x, 0.5), False),
    "negative count": (lambda s: s.negative_count(), lambda x: np.sum(x < -1e-6), True),
    "negative mass": (lambda s: s.negative_mass(), lambda x: -x[x < 0].sum() / np.abs(x).sum(), False),
    "rank": (lambda s: s.rank(), lambda x: np.sum(np.abs(x) > 1e-6), True),
    "rank beyond 0.3": (lambda s: s.rank(0.3), lambda x: np.sum(np.abs(x) > 0.3), True),
}
SEMIDEFINITE = {
    "nuclear norm": (lambda s: s.nuclear_norm(), lambda x: np.sum(np.abs(x)), None),
    "schatten norm 1/2": (lambda s: s.schatten_norm(0.5), lambda x: np.sum(np.abs(x) ** 0.5) ** 2, None),
    "nuclear norm of a factor": (lambda s: s.nuclear_norm(gram=True), lambda x: np.sum(np.sqrt(np.abs(x))), True),
    "frobenius norm of a factor": (lambda s: s.frobenius_norm(gram=True), lambda x: np.sqrt(np.sum(x)), ALWAYS),
    "spectral norm of a factor": (lambda s: s.schatten_norm(np.inf, gram=True), lambda x: np.sqrt(x.max()), True),
    "square root": (lambda s: s.trace("sqrt"), lambda x: np.sum(np.sqrt(np.abs(x))), True),
    "log-determinant": (lambda s: s.logdet(0.1), lambda x: np.sum(np.log(x + 0.1)), True),
    "trace of inverse": (lambda s: s.trace_inverse(0.1), lambda x: np.sum(1 / (x + 0.1)), True),
    "effective dimension": (lambda s: s.effective_dimension(0.5), lambda x: np.sum(x / (x + 0.5)), True),
    "entropy": (lambda s: s.von_neumann_entropy(), entropy, False),
}
INDEFINITE = {
    "nuclear norm": (lambda s: s.nuclear_norm(), lambda x: np.sum(np.abs(x)), False),
    "schatten norm 3": (lambda s: s.schatten_norm(3), lambda x: np.sum(np.abs(x) ** 3) ** (1 / 3), False),
    "condition number": (lambda s: s.condition_number(), lambda x: np.abs(x).max() / np.abs(x).min(), True),
}
RUNS = {
    "two sphere probes": {"probes": 2},
    "twelve sphere probes": {"probes": 12},
    "twelve signs": {"probes": 12, "kind": "rademacher"},
    "without orthogonality": {"probes": 3, "reorth": "none"},
}


def indefinite(rng):
    square = rng.standard_normal((150, 150))
    return (square + square.T) / np.sqrt(300)


def semidefinite(rng):
    factor = rng.standard_normal((90, 150)) / 10
    return factor.T @ factor


@pytest.fixture(scope="module", params=[np.float64, np.float32], ids=["float64", "float32"])
def matrices(request):
    """Give one indefinite and one singular semidefinite matrix with their exact eigenvalues."""
    rng, dtype = np.random.default_rng(0), request.param
    made = {"indefinite": indefinite(rng), "semidefinite": semidefinite(rng)}
    return {name: (A.astype(dtype), np.linalg.eigvalsh(A.astype(dtype).astype(np.float64))) for name, A in made.items()}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("which", "own"), [("indefinite", INDEFINITE), ("semidefinite", SEMIDEFINITE)])
def test_every_answer_holds_the_dense_one(matrices, which, own, run):
    A, exact = matrices[which]
    s = slq.spectrum(A, steps=30, rng=3, confidence=SURE, **RUNS[run])
    for name, (ask, truth, certified) in (ANY | own).items():
        found, value = ask(s), truth(exact)
        slack = 1e-12 * max(abs(value), 1.0)
        assert found.low - slack <= value <= found.high + slack, name
        assert found.low <= found.value <= found.high, name
        assert found.confidence == SURE
        sure = certified == ALWAYS or (certified and s.certified)
        assert certified is None or found.claim == ("certified" if sure else "estimate"), name


@pytest.mark.parametrize(("which", "own"), [("indefinite", INDEFINITE), ("semidefinite", SEMIDEFINITE)])
def test_all_eigenvalues_answer_exactly(matrices, which, own):
    A, exact = matrices[which]
    s = slq.spectrum(A, tol=1e-6, rng=0)
    rounding = 1e-3 if A.dtype == np.float32 else 1e-6
    assert s.kind == "exact"
    for name, (ask, truth, _) in (ANY | own).items():
        if name != "condition number":
            assert ask(s).value == pytest.approx(truth(exact), rel=rounding, abs=rounding), name
            assert ask(s).error.sampling == 0, name


@pytest.mark.parametrize(
    ("ask", "truth"),
    [
        (lambda s, t: s.logdet(t), lambda x, t: np.sum(np.log(x + t))),
        (lambda s, t: s.trace_inverse(t), lambda x, t: np.sum(1 / (x + t))),
        (lambda s, t: s.trace("sqrt", shift=t), lambda x, t: np.sum(np.sqrt(x + t))),
        (lambda s, t: s.effective_dimension(t), lambda x, t: np.sum(x / (x + t))),
        (lambda s, t: s.heat_trace(t), lambda x, t: np.sum(np.exp(-t * x))),
        (lambda s, t: s.free_energy(t), lambda x, t: -t * log_partition(x, t)),
        (lambda s, t: s.heat_capacity(t), heat_capacity),
    ],
    ids=["logdet", "inverse", "sqrt", "effective dimension", "heat trace", "free energy", "heat capacity"],
)
def test_a_grid_gives_a_band_that_holds_at_all_points_and_is_wider_than_at_one(ask, truth):
    operator, law = slq.gallery.marchenko_pastur(400)
    s = slq.spectrum(operator, probes=4, steps=40, rng=1, confidence=SURE)
    band = ask(s, GRID)
    assert isinstance(band, slq.Band)
    np.testing.assert_array_equal(band.x, GRID)
    for i, t in enumerate(GRID):
        one = ask(s, t)
        assert isinstance(one, slq.Estimate)
        assert band.low[i] <= truth(np.repeat(law.values, law.multiplicities), t) <= band.high[i]
        assert band.value[i] == one.value
        assert band.low[i] < one.low < one.high < band.high[i]


def test_a_shift_grid_costs_no_product_and_agrees_with_shifted_spectra():
    operator, _ = slq.gallery.marchenko_pastur(300)
    s = slq.spectrum(operator, probes=3, steps=20, rng=0)
    for t in GRID:
        here, there = s.logdet(t), s.shifted(t).logdet()
        for item in ("value", "low", "high"):
            assert getattr(here, item) == pytest.approx(getattr(there, item), rel=1e-9)


def test_the_parts_of_an_error_add_up_for_norms_and_logarithms():
    operator, _ = slq.gallery.semicircle(300)
    s = slq.spectrum(operator, probes=3, steps=8, rng=0)
    for found in (s.schatten_norm(4), s.log_sum_exp(), s.free_energy(1.0), s.heat_capacity(0.3), s.nuclear_norm()):
        total = sum(getattr(found.error, part.name) for part in fields(found.error))
        assert total == pytest.approx((found.high - found.low) / 2, rel=1e-6)


def test_scaling_a_matrix_scales_its_norms_and_leaves_entropy_and_condition():
    A = semidefinite(np.random.default_rng(1)) + 0.1 * np.eye(150)
    one, big = (slq.spectrum(c * A, probes=3, steps=20, rng=0) for c in (1.0, 1e150))
    assert big.nuclear_norm().value == pytest.approx(1e150 * one.nuclear_norm().value)
    assert big.von_neumann_entropy().value == pytest.approx(one.von_neumann_entropy().value)
    assert big.condition_number().value == pytest.approx(one.condition_number().value)
    assert big.negative_mass().value == one.negative_mass().value == 0.0


def test_the_condition_number_is_bracketed_where_the_spectrum_has_one_sign(with_eigenvalues):
    values = np.linspace(1.0, 50.0, 120)
    for sign in (1, -1):
        s = slq.spectrum(with_eigenvalues(sign * values), probes=2, steps=60, rng=0)
        found = s.condition_number()
        assert found.low <= 50.0 <= found.high
        assert found.high < 52.0


def test_exponentials_of_large_eigenvalues_do_not_overflow(with_eigenvalues):
    values = np.linspace(-5000.0, 5000.0, 60)
    s = slq.spectrum(with_eigenvalues(values), tol=1e-4, rng=0)
    assert s.log_sum_exp().value == pytest.approx(5000 + np.log(np.sum(np.exp(values - 5000))))
    assert s.free_energy(0.5).value == pytest.approx(-5000 - 0.5 * np.log(np.sum(np.exp(-(values + 5000) / 0.5))))


@pytest.fixture(scope="module")
def semicircle():
    """Give a run of an indefinite operator."""
    return slq.spectrum(slq.gallery.semicircle(200)[0], probes=2, steps=20, rng=0)


class TestMistakes:
    """What cannot be answered is refused with what to do."""

    @pytest.mark.parametrize(
        ("ask", "message"),
        [
            (lambda s: s.logdet([0.5, 2.0]), r"`log` needs eigenvalues above -0\.5.*Take `shift` above 1\.\d+"),
            (lambda s: s.effective_dimension(0.5), r"`x / \(x \+ ridge\)` needs .*Take `ridge` above 1\.\d+"),
            (lambda s: s.von_neumann_entropy(), "needs a positive semidefinite A"),
            (lambda s: s.trace("sqrt"), "needs a positive semidefinite A"),
            (lambda s: s.nuclear_norm(gram=True), r"`gram` needs a spectrum of B\^T B, but an eigenvalue is at most -"),
            (lambda s: s.schatten_norm(0), "`p` must be positive, got 0. 1 is the nuclear norm"),
            (lambda s: s.schatten_norm(np.nan), "`p` must be positive"),
            (lambda s: s.moment(-1), "`order` must be an integer from 0 on, got -1"),
            (lambda s: s.moment(1.5), "`order` must be an integer from 0 on"),
            (lambda s: s.rank(-1.0), "`tol` must not be negative"),
            (lambda s: s.heat_capacity(0.0), r"`temperature` must be positive, got 0\.0"),
            (lambda s: s.free_energy([1.0, -1.0]), "`temperature` must be positive"),
            (lambda s: s.heat_trace([[1.0]]), "`time` must be a finite number or a one-dimensional array"),
            (lambda s: s.heat_trace([]), "`time` must be a finite number or a one-dimensional array"),
            (lambda s: s.logdet(np.inf), "`shift` must be a finite number"),
            (lambda s: s.trace(np.linalg.norm), r"the shape of its argument: for .* it gave \(\)"),
            (lambda s: s.trace(lambda x: np.log(x)), r"`f` gives nan at -\d.*between the smallest and the"),
            (lambda s: s.trace(lambda x: x + 1j), "`f` must return real numbers, got dtype complex128"),
        ],
        ids=range(18),
    )
    def test_are_explained(self, semicircle, ask, message):
        with pytest.raises(ValueError, match=message):
            ask(semicircle)

    def test_of_type_are_explained(self, semicircle):
        with pytest.raises(TypeError, match="`f` must be a callable or a name"):
            semicircle.trace(3.0)
        with pytest.raises(TypeError, match="`other` must be a Spectrum, got ndarray"):
            semicircle.distance(np.zeros(3))

    def test_edges_decide_and_not_the_smallest_node(self, with_eigenvalues):
        values = np.append(np.linspace(1.0, 2.0, 199), 1e-9)
        s = slq.spectrum(with_eigenvalues(values), probes=1, steps=4, rng=0)
        assert s.nodes.min() > 0.1
        assert s.logdet().low <= np.log(values).sum() <= s.logdet().high


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.rank(-1.0), "`tol` must not be negative, got -1"),
        (lambda s: s.schatten_norm(0.0), "`p` must be positive, got 0"),
        (lambda s: s.free_energy(0.0), "`temperature` must be positive, got 0"),
        (lambda s: s.cdf([0.0], claim="proof"), "`claim` must be 'certified' or 'estimate', got 'proof'"),
        (lambda s: s.density(kind="log", x=[-1.0, 1.0]), "`x` must be positive with kind='log'"),
    ],
    ids=["rank", "norm", "temperature", "claim", "magnitudes"],
)
def test_questions_that_have_no_answer_are_refused(ask, message):
    s = slq.spectrum(np.diag(np.linspace(0.5, 1.0, 30)), probes=2, steps=5, rng=0)
    with pytest.raises(ValueError, match=message):
        ask(s)


def test_nothing_lies_beyond_a_tolerance_above_all_eigenvalues():
    s = slq.spectrum(np.diag(np.linspace(0.5, 1.0, 30)), probes=2, steps=5, rng=0)
    found = s.rank(10.0)
    assert (found.value, found.low, found.high) == (0, 0, 0)
