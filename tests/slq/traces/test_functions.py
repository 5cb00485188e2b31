"""One call per quantity: the tolerance is met, the interval holds, mistakes are explained."""

import math

import numpy as np
import pytest

import slq


@pytest.mark.parametrize(
    ("name", "f"), [("log", np.log), ("inverse", np.reciprocal), ("exp", np.exp), ("sqrt", np.sqrt)]
)
@pytest.mark.parametrize("make", [lambda: slq.gallery.marchenko_pastur(500), lambda: slq.gallery.laplacian_2d(20)])
def test_the_tolerance_is_met_and_the_interval_holds(make, name, f):
    operator, law = make()
    e = slq.trace(operator, name, 0.05, rng=0, confidence=0.999)
    assert e.low <= law.trace(f) <= e.high
    assert max(e.high - e.value, e.value - e.low) <= 0.05 * abs(e.value) * 1.3
    assert e.claim == "certified"


def test_one_call_per_quantity_is_the_trace_of_its_function():
    operator, _ = slq.gallery.marchenko_pastur(300)
    assert slq.logdet(operator, 0.1, rng=1) == slq.trace(operator, np.log, 0.1, rng=1)
    assert slq.trace_inverse(operator, 0.1, rng=1) == slq.trace(operator, "inverse", 0.1, rng=1)


def test_an_absolute_tolerance_serves_where_the_value_is_near_zero():
    operator, law = slq.gallery.semicircle(400)
    e = slq.trace(operator, "identity", 0.0, atol=5.0, rng=0)
    assert e.high - e.low <= 2 * 5.0 * 1.01
    assert e.low <= law.trace(lambda x: x) <= e.high


def test_a_shift_makes_an_indefinite_matrix_fit():
    operator, law = slq.gallery.semicircle(400)
    with pytest.raises(ValueError, match="needs a positive definite A"):
        slq.logdet(operator, rng=0)
    e = slq.logdet(operator, 0.05, shift=2.0, rng=1)
    assert e.low <= law.trace(lambda x: np.log(x + 2)) <= e.high


def test_a_budget_ends_the_run_with_an_interval_that_holds():
    operator, law = slq.gallery.graded(2000)
    e = slq.logdet(operator, 1e-6, max_products=100, rng=0)
    assert e.low <= law.trace(np.log) <= e.high
    assert e.high - e.low > 2e-6 * abs(e.value)


def test_small_operators_are_resolved_where_that_is_cheaper():
    operator, law = slq.gallery.laplacian_1d(60)
    e = slq.trace_inverse(operator, 1e-6, rng=0)
    assert e.value == pytest.approx(law.trace(np.reciprocal), rel=1e-6)


def test_tolerances_must_be_positive():
    operator, _ = slq.gallery.semicircle(20)
    for rtol, atol in ((0.0, 0.0), (-1.0, 0.0), (0.1, -1.0)):
        with pytest.raises(ValueError, match="must be positive"):
            slq.trace(operator, "exp", rtol, atol=atol)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "make", [lambda: slq.gallery.marchenko_pastur(300), lambda: slq.gallery.graded(200, smallest=1e-3)]
)
def test_log_and_inverse_hold_for_several_seeds(make, seed):
    operator, law = make()
    for found, f in ((slq.logdet, np.log), (slq.trace_inverse, np.reciprocal)):
        e = found(operator, 0.05, rng=seed, confidence=0.999)
        slack = 1e-4 * abs(e.value)  # where every eigenvalue is resolved; see the next test
        assert e.low - slack <= law.trace(f) <= e.high + slack
        assert e.high - e.low <= 2 * 0.03 * abs(e.value) * 1.01


def test_the_interval_holds_where_all_eigenvalues_are_resolved():
    operator, law = slq.gallery.graded(200, smallest=1e-3)
    e = slq.trace_inverse(operator, 0.05, rng=1)
    assert e.error.sampling <= 1e-12 * e.value
    assert e.low <= law.trace(np.reciprocal) <= e.high


def test_a_name_and_the_numpy_function_of_the_same_meaning_are_one():
    operator, _ = slq.gallery.marchenko_pastur(200)
    for name, f in (("exp", np.exp), ("sqrt", np.sqrt), ("square", np.square)):
        assert slq.trace(operator, name, 0.1, rng=3) == slq.trace(operator, f, 0.1, rng=3)


def test_any_other_callable_is_an_estimate():
    operator, law = slq.gallery.marchenko_pastur(3000)
    e = slq.trace(operator, np.cos, 0.05, rng=0, confidence=0.999)
    assert e.claim == "estimate"
    assert e.low <= law.trace(np.cos) <= e.high


def test_the_same_seed_gives_the_same_estimate_and_another_seed_another():
    operator, _ = slq.gallery.marchenko_pastur(3000)
    one = slq.logdet(operator, 0.1, rng=5)
    assert one == slq.logdet(operator, 0.1, rng=5)
    assert one.value != slq.logdet(operator, 0.1, rng=6).value


def test_a_known_lower_bound_sharpens_the_logarithm():
    operator, law = slq.gallery.graded(500)
    shifted = {"shift": 1e-3, "max_products": 60, "rng": 0}
    plain, sharper = slq.logdet(operator, 1e-6, **shifted), slq.logdet(operator, 1e-6, lower=1e-3, **shifted)
    truth = law.trace(lambda x: np.log(x + 1e-3))
    assert sharper.low <= truth <= sharper.high
    assert sharper.high - sharper.low <= plain.high - plain.low


def test_a_lower_bound_above_an_eigenvalue_is_refused():
    operator, _ = slq.gallery.marchenko_pastur(200)
    with pytest.raises(ValueError, match=r"`lower` = 0\.9 is no lower bound: an eigenvalue is at most"):
        slq.logdet(operator, 0.1, lower=0.9, rng=0)


def test_an_indefinite_matrix_is_told_its_smallest_eigenvalue_and_a_shift_that_works():
    operator, law = slq.gallery.semicircle(200)
    with pytest.raises(ValueError, match=r"smallest eigenvalue is at most (\S+) .* for example shift=") as caught:
        slq.logdet(operator, 0.1, rng=0)
    shift = float(str(caught.value).split("for example shift=")[1].split(",")[0])
    e = slq.logdet(operator, 0.1, shift=shift, rng=0, confidence=0.999)
    assert e.low <= law.trace(lambda x: np.log(x + shift)) <= e.high


@pytest.mark.parametrize("budget", [1, 5, 12, 40])
def test_any_budget_gives_an_interval_that_holds_and_is_kept(budget, counted):
    values = np.linspace(0.01, 1.0, 300)
    operator = counted(np.diag(values))
    e = slq.logdet(operator, 1e-6, max_products=budget, rng=0)
    assert e.low <= np.log(values).sum() <= e.high
    assert sum(operator.columns) <= budget + 2  # and the tests at the end


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_budget_of_few_steps_leaves_the_exponential_open():
    operator, law = slq.gallery.semicircle(400)
    e = slq.trace(operator, "exp", 1e-3, max_products=4, rng=0)
    assert e.low <= law.trace(np.exp) <= e.high


def test_small_matrices_are_exact_when_much_is_asked(with_eigenvalues):
    values = np.linspace(1.0, 2.0, 30)
    e = slq.logdet(with_eigenvalues(values), 1e-8, rng=0)
    assert e.value == pytest.approx(np.log(values).sum(), rel=1e-10)
    assert e.error.sampling == 0.0


def test_a_failing_product_keeps_what_was_done():
    calls = 0

    def product(v):
        nonlocal calls
        calls += 1
        if calls > 50:
            raise OSError("gone")  # noqa: EM101
        return np.linspace(1, 2, 100) * v

    with pytest.raises(slq.RunError, match="OSError: gone") as caught:
        slq.logdet(slq.as_operator(product, n=100), 1e-6, rng=0)
    assert caught.value.partial.probes == 4


def test_mistakes_in_the_arguments_are_explained():
    operator, _ = slq.gallery.marchenko_pastur(50)
    with pytest.raises(ValueError, match="one of identity, square, log"):
        slq.trace(operator, "logarithm")
    with pytest.raises(ValueError, match=r"Did you mean 0\.95"):
        slq.logdet(operator, confidence=95)
    with pytest.raises(ValueError, match="must be positive"):
        slq.logdet(operator, np.nan)


@pytest.mark.parametrize("option", [{"probes": 3}, {"steps": 5}, {"tolerance": 0.1}])
def test_options_that_do_not_exist_are_refused_with_those_that_do(option):
    with pytest.raises(TypeError, match=rf"`{next(iter(option))}` is no option here.*rng, reorth.*probes=, steps="):
        slq.trace(np.eye(3), **option)


@pytest.mark.parametrize("tolerance", [{"rtol": np.nan}, {"atol": np.nan}, {"rtol": -0.1}, {"rtol": 0.0}])
def test_tolerances_that_are_none_are_refused(tolerance):
    with pytest.raises(ValueError, match="`rtol` or `atol` must be positive"):
        slq.logdet(np.eye(3), **tolerance)


def test_a_callback_sees_the_run_and_can_stop_it():
    seen = []
    operator, law = slq.gallery.marchenko_pastur(500)
    e = slq.logdet(operator, 1e-4, rng=0, callback=lambda s: seen.append(s.steps) or len(seen) == 2)
    assert seen == [8, 12]
    assert e.low <= law.trace(np.log) <= e.high


def heat_capacity(x):
    weights = np.exp(-x / 0.5)
    return (np.average(x**2, weights=weights) - np.average(x, weights=weights) ** 2) / 0.25


@pytest.mark.parametrize(
    ("call", "truth"),
    [
        (lambda A, **o: slq.schatten_norm(A, 3, **o), lambda x: np.sum(np.abs(x) ** 3) ** (1 / 3)),
        (lambda A, **o: slq.nuclear_norm(A, **o), lambda x: np.sum(np.abs(x))),
        (lambda A, **o: slq.estrada_index(A, **o), lambda x: np.sum(np.exp(x))),
        (lambda A, **o: slq.log_sum_exp(A, **o), lambda x: np.log(np.sum(np.exp(x)))),
        (lambda A, **o: slq.heat_trace(A, 0.5, **o), lambda x: np.sum(np.exp(-0.5 * x))),
        (lambda A, **o: slq.von_neumann_entropy(A, **o), lambda x: -np.sum(x / x.sum() * np.log(x / x.sum()))),
        (lambda A, **o: slq.effective_dimension(A, 0.5, **o), lambda x: np.sum(x / (x + 0.5))),
        (lambda A, **o: slq.free_energy(A, 0.5, **o), lambda x: -0.5 * np.log(np.sum(np.exp(-x / 0.5)))),
        (lambda A, **o: slq.heat_capacity(A, 0.5, **o), heat_capacity),
        (lambda A, **o: slq.moment(A, 3, about=0.2, **o), lambda x: np.mean((x - 0.2) ** 3)),
        (lambda A, **o: slq.frobenius_norm(A, **o), lambda x: np.sqrt(np.sum(x**2))),
        (lambda A, **o: slq.condition_number(A, **o), lambda x: x.max() / x.min()),
        (lambda A, **o: slq.rank(A, 0.5, **o), lambda x: np.sum(x > 0.5)),
        (lambda A, **o: slq.nuclear_norm(A, gram=True, **o), lambda x: np.sum(np.sqrt(x))),
        (lambda A, **o: slq.schatten_norm(A, 3, gram=True, **o), lambda x: np.sum(x**1.5) ** (1 / 3)),
        (lambda A, **o: slq.estimate(A, lambda s: s.moment(2), **o), lambda x: np.mean(x**2)),
    ],
    ids=["schatten", "nuclear", "estrada", "log sum exp", "heat", "entropy", "effective dimension", "free energy",
         "heat capacity", "moment", "frobenius", "condition number", "rank", "nuclear of a factor",
         "schatten of a factor", "any question"],
)  # fmt: skip
def test_every_quantity_is_reached_to_the_tolerance(call, truth):
    operator, law = slq.gallery.marchenko_pastur(800)
    e = call(operator, rtol=0.03, rng=0, confidence=0.999)
    value = truth(np.repeat(law.values, law.multiplicities))
    assert e.low <= value <= e.high
    assert e.high - e.low <= 2 * 0.03 * abs(e.value) * 1.01
    assert e.confidence == 0.999


def test_a_quantity_that_does_not_exist_there_is_refused_during_the_run():
    with pytest.raises(ValueError, match="needs a positive semidefinite A"):
        slq.von_neumann_entropy(slq.gallery.semicircle(200)[0], rng=0)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x[:-1], r"the shape of its argument: for eigenvalues of shape \(3,\) it gave \(2,\)"),
        (lambda x: 1.0, r"it gave \(\)"),
        (lambda x: x + 1j, "must return real numbers, got dtype complex128"),
    ],
    ids=["shape", "number", "complex"],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda A, f: slq.trace(A, f, rng=0),
        lambda A, f: slq.apply(A, np.ones(A.shape[0]), f),
        lambda A, f: slq.diagonal(A, f, rng=0),
        lambda A, f: slq.krylov_aware_trace(A, f, rng=0),
        lambda A, f: slq.matrix_function(A, f),
    ],
    ids=["trace", "apply", "diagonal", "krylov aware", "matrix function"],
)
def test_a_callable_that_gives_something_else_is_refused_before_the_first_product(counted, ask, f, message):
    operator = counted(np.diag(np.linspace(1.0, 2.0, 50)))
    with pytest.raises(ValueError, match=message):
        ask(operator, f)
    assert not operator.columns


@pytest.mark.parametrize(
    ("f", "kind"), [(math.exp, TypeError), (lambda x: x if x > 0 else -x, ValueError)], ids=["math", "branch"]
)
def test_a_callable_of_single_numbers_is_told_of_vectorize(f, kind):
    s = slq.spectrum(np.diag(np.linspace(1.0, 2.0, 50)), probes=2, steps=10, rng=0)
    with pytest.raises(kind, match=r"`f` failed on an array of \d+ eigenvalues: .*np\.vectorize"):
        s.trace(f)
    assert s.trace(np.vectorize(f)).value > 0


def test_a_callable_may_be_undefined_where_no_eigenvalue_is():
    def beyond_ten(x):
        if np.any(x < 10):
            message = "too small"
            raise ArithmeticError(message)
        return np.sqrt(x - 10)

    values = np.linspace(11.0, 12.0, 30)
    assert slq.trace(np.diag(values), beyond_ten, rng=0).value == pytest.approx(np.sum(np.sqrt(values - 10)), rel=0.02)
