"""The driver: exact costs, tolerances kept, limits respected, nothing lost when something fails."""

import warnings

import numpy as np
import pytest

import slq


@pytest.fixture(scope="module")
def bulk():
    return slq.gallery.marchenko_pastur(400)


class Counted:
    """An operator that counts its products and can fail, drift or return NaN at one of them."""

    def __init__(self, values, *, at=None, what=None):
        self.values, self.at, self.what = np.asarray(values), at, what
        self.shape, self.dtype = (len(values), len(values)), self.values.dtype
        self.calls = self.columns = 0

    def matmat(self, X, /):
        self.calls += 1
        self.columns += X.shape[1]
        if self.what == "drift":
            return (1 + 0.01 * self.calls) * self.values[:, None] * X
        if self.calls == self.at:
            if self.what == "nan":
                return np.nan * X
            if self.what == "raise":
                msg = "the network is gone"
                raise OSError(msg)
        return self.values[:, None] * X


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"tol": 0}, "strictly between 0 and 1"),
        ({"tol": 1.5}, "strictly between 0 and 1"),
        ({"probes": 0}, "`probes` must be at least 1"),
        ({"steps": -1}, "`steps` must be at least 1"),
        ({"confidence": 95}, "Did you mean 0.95"),
        ({"reorth": "partial"}, "`reorth` must be one of"),
        ({"kind": "gauss"}, "`kind` must be one of"),
        ({"deflate": "yes"}, "`deflate` must be one of"),
        ({"memory": 0}, "`memory` must be a positive"),
        ({"max_products": 0}, "`max_products` must be at least 1"),
        ({"rng": -1}, "`rng` must lie in"),
    ],
)
def test_arguments_out_of_range_say_what_is_allowed(bulk, bad, message):
    with pytest.raises(ValueError, match=message):
        slq.spectrum(bulk[0], **bad)


def test_arguments_of_wrong_type_say_what_is_allowed(bulk):
    with pytest.raises(TypeError, match="`probes` must be an integer"):
        slq.spectrum(bulk[0], probes=2.5)
    with pytest.raises(TypeError, match="`rng` must be"):
        slq.spectrum(bulk[0], rng="seed")


def test_probes_and_steps_cost_exactly_their_products_and_one_test():
    operator = Counted(np.linspace(0, 1, 300))
    s = slq.spectrum(operator, probes=5, steps=24, rng=0)
    assert s.products == operator.columns == 5 * 24 + 1
    assert operator.calls == 24 + 1
    assert (s.probes, s.steps) == (5, 24)
    assert "as asked" in s.status


def test_one_probe_costs_a_second_vector_for_the_test_of_symmetry():
    operator = Counted(np.linspace(0, 1, 300))
    assert slq.spectrum(operator, probes=1, steps=24, rng=0).products == operator.columns == 24 + 2


def error_over_tolerance(s, values, tol):
    coordinate = s.coordinate()
    ends = coordinate.forward(values[[0, -1]])
    x = np.unique(np.concatenate([coordinate.inverse(np.linspace(*ends, 2000)), values]))
    truth = np.searchsorted(values, x, side="right") / len(values)
    y = coordinate.forward(x)
    return np.trapezoid(np.abs(s.cdf(x).value - truth), y) / (ends[1] - ends[0]) / tol


@pytest.mark.parametrize("tol", [0.05, 0.02])
@pytest.mark.parametrize(
    "make",
    [
        lambda: slq.gallery.semicircle(3000),
        lambda: slq.gallery.marchenko_pastur(1000),
        lambda: slq.gallery.laplacian_2d(40),
        lambda: slq.gallery.spiked(3000),
        lambda: slq.gallery.graded(3000),
        lambda: slq.gallery.clustered(2000, width=0.2),
    ],
)
def test_the_tolerance_is_met(make, tol):
    law = make()[1]
    values = law.eigenvalues()
    operator = slq.gallery.from_eigenvalues(values, rotate=False)[0]
    for seed in range(5):
        s = slq.spectrum(operator, tol=tol, rng=seed)
        assert s.status.startswith("tolerance met")
        assert s.error.total <= tol
        assert error_over_tolerance(s, values, tol) <= 1.2


def test_a_tighter_tolerance_costs_more(bulk):
    assert slq.spectrum(bulk[0], tol=0.05, rng=0).products < slq.spectrum(bulk[0], tol=0.01, rng=0).products


@pytest.mark.parametrize("budget", [3, 20, 50, 101])
def test_the_budget_of_products_is_never_exceeded_but_by_the_test(bulk, budget):
    s = slq.spectrum(bulk[0], tol=0.001, max_products=budget, rng=0)
    assert s.products <= budget + 2
    assert "budget" in s.status
    assert s.trace().low <= bulk[1].trace(lambda x: x) <= s.trace().high


def test_little_memory_means_narrow_batches_or_no_reorthogonalisation(bulk):
    vector = 400 * 8
    narrow = slq.spectrum(bulk[0], probes=4, steps=20, memory=60 * vector, rng=0)
    wide = slq.spectrum(bulk[0], probes=4, steps=20, rng=0)
    assert narrow.reorth == "full"
    np.testing.assert_allclose(narrow.nodes, wide.nodes, atol=1e-10)
    none = slq.spectrum(bulk[0], probes=2, steps=20, memory=10 * vector, rng=0)
    assert none.reorth == "none"
    assert not none.certified
    assert none.trace().claim == "estimate"


def test_results_do_not_depend_on_the_batch(bulk):
    runs = [slq.spectrum(bulk[0], probes=6, steps=20, batch=b, rng=3) for b in (1, 4, "auto")]
    for other in runs[1:]:
        np.testing.assert_allclose(other.alpha, runs[0].alpha, atol=1e-12)
        np.testing.assert_allclose(other.nodes, runs[0].nodes, atol=1e-10)


def test_a_callback_sees_valid_partial_results_and_can_stop(bulk):
    seen = []

    def callback(partial):
        seen.append((partial.steps, partial.trace().value))
        return partial.steps >= 16

    s = slq.spectrum(bulk[0], probes=2, steps=200, callback=callback, rng=0)
    assert s.status == "stopped by callback"
    assert s.steps == 16
    assert [steps for steps, _ in seen] == [8, 16]


def test_a_callback_that_raises_loses_nothing(bulk):
    def callback(partial):
        if partial.steps >= 16:
            msg = "disk full"
            raise OSError(msg)

    with pytest.raises(slq.RunError, match="disk full") as caught:
        slq.spectrum(bulk[0], probes=2, steps=200, callback=callback, rng=0)
    assert caught.value.partial.steps == 16
    np.testing.assert_array_equal(caught.value.partial.alpha, slq.spectrum(bulk[0], probes=2, steps=16, rng=0).alpha)


@pytest.mark.parametrize(
    ("what", "message"), [("nan", "NaN or Inf for probe 0 at step 12"), ("raise", "network is gone")]
)
def test_a_product_that_fails_loses_nothing(what, message):
    operator = Counted(np.linspace(0, 1, 300), at=12, what=what)
    with pytest.raises(slq.RunError, match=message) as caught:
        slq.spectrum(operator, probes=2, steps=40, rng=0)
    assert caught.value.partial.steps == 11
    assert caught.value.partial.trace().value == pytest.approx(150, rel=0.2)


def test_a_product_that_fails_at_once_has_nothing_to_keep():
    with pytest.raises(slq.RunError) as caught:
        slq.spectrum(Counted(np.ones(5), at=1, what="raise"), rng=0)
    assert caught.value.partial is None


@pytest.mark.parametrize("probes", [1, 4])
def test_an_asymmetric_operator_is_measured(probes):
    rng = np.random.default_rng(0)
    symmetric = rng.standard_normal((400, 400))
    symmetric = (symmetric + symmetric.T) / 2
    skew = rng.standard_normal((400, 400))
    matrix = symmetric + 0.05 * (skew - skew.T)
    true = np.linalg.norm(matrix - matrix.T) / np.linalg.norm(matrix)
    with pytest.warns(slq.SlqWarning, match="not symmetric") as told:
        s = slq.spectrum(matrix, probes=probes, steps=10, rng=1)
    measured = float(str(told[0].message).split("about ")[1].split(". ")[0])
    assert true / 10 < measured < 4 * true
    assert s.warnings
    assert not s.certified


def test_a_drifting_operator_is_noticed_and_nothing_finer_is_claimed():
    with pytest.warns(slq.SlqWarning, match="drifts"):
        s = slq.spectrum(Counted(np.linspace(0, 1, 300), what="drift"), probes=4, steps=20, rng=0)
    assert s.noise > 0.01


def test_an_ordinary_run_is_silent(bulk, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slq.spectrum(bulk[0], rng=0)
    assert capsys.readouterr() == ("", "")


def test_progress_is_shown_on_stderr_only(bulk, capsys):
    pytest.importorskip("tqdm")
    slq.spectrum(bulk[0], probes=2, steps=20, rng=0, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "products" in err


def test_float32_vectors_give_the_same_to_their_rounding(bulk):
    one, two = (slq.spectrum(bulk[0], probes=2, steps=20, rng=0, dtype=d) for d in (np.float64, np.float32))
    np.testing.assert_allclose(two.nodes, one.nodes, atol=1e-4)
    assert two.noise > one.noise


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_other_array_libraries_give_the_same_numbers(library):
    xp = pytest.importorskip(library)
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((200, 200))
    matrix = matrix + matrix.T
    one, two = (slq.spectrum(a, probes=3, steps=30, rng=5) for a in (matrix, xp.asarray(matrix)))
    np.testing.assert_allclose(two.nodes, one.nodes, atol=1e-10)
    np.testing.assert_allclose(two.weights, one.weights, atol=1e-10)


def test_small_operators_are_resolved_rather_than_sampled_for_ever():
    operator = Counted(np.linspace(0, 1, 100))
    s = slq.spectrum(operator, tol=0.002, rng=0)
    assert s.products <= 2.5 * 100
    assert s.count(-1.0, 0.5).value == pytest.approx(50, abs=1e-9)
