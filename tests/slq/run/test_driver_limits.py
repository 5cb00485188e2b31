"""The driver at its limits: every step can fail, every budget can end, every batch and library gives the same."""

import numpy as np
import pytest

import slq
from slq._lanczos._basis import factor_of

N = 200


class Fragile:
    """A diagonal operator that counts its products and does something else at one of them."""

    def __init__(self, values=None, *, at=None, what=None, factor=1.0):
        self.values = np.linspace(0, 1, N) if values is None else np.asarray(values)
        self.shape, self.dtype = (len(self.values), len(self.values)), self.values.dtype
        self.at, self.what, self.factor, self.calls, self.columns, self.widths = at, what, factor, 0, 0, []

    def matmat(self, X, /):
        self.calls += 1
        self.columns += X.shape[1]
        self.widths.append(X.shape[1])
        image = self.factor**self.calls * self.values[:, None] * X
        if self.calls == self.at:
            if self.what == "raise":
                msg = "the network is gone"
                raise ConnectionError(msg)
            if self.what == "shape":
                return image[:-1]
            if self.what == "last column":
                image[0, -1] = np.inf
            else:
                image[:] = np.nan
        return image


@pytest.mark.parametrize("what", ["nan", "last column", "raise", "shape"])
def test_a_product_may_fail_at_any_step_and_all_complete_steps_are_kept(what):
    whole = slq.spectrum(Fragile(), probes=3, steps=12, batch=2, rng=0)
    for at in range(1, 25):
        with pytest.raises(slq.RunError) as caught:
            slq.spectrum(Fragile(at=at, what=what), probes=3, steps=12, batch=2, rng=0)
        partial = caught.value.partial
        if at == 1:
            assert partial is None
            continue
        lengths = [at - 1, at - 1] if at <= 12 else [12, 12, at - 13] if at > 13 else [12, 12]
        assert partial.lengths.tolist() == lengths
        for i, length in enumerate(lengths):
            np.testing.assert_allclose(partial.alpha[i, :length], whole.alpha[i, :length], rtol=1e-12)
        if min(lengths) > 2:
            partial.trace(), partial.density(), partial.cdf(0.5), repr(partial)
            assert partial.edges[0] <= 0.0
            assert partial.edges[1] >= 1.0


def test_the_cause_of_a_failure_is_chained_and_named():
    with pytest.raises(
        slq.RunError, match=r"ended by ConnectionError: the network is gone \(2 probes × 4 steps"
    ) as caught:
        slq.spectrum(Fragile(at=5, what="raise"), probes=2, steps=12, rng=0)
    assert isinstance(caught.value.__cause__, ConnectionError)
    with pytest.raises(slq.RunError, match="NaN or Inf for probe 1 at step 5"):
        slq.spectrum(Fragile(at=5, what="last column"), probes=2, steps=12, rng=0)


def test_a_failure_of_the_final_test_keeps_everything():
    with pytest.raises(slq.RunError) as caught:
        slq.spectrum(Fragile(at=13, what="raise"), probes=2, steps=12, rng=0)
    assert caught.value.partial.lengths.tolist() == [12, 12]


def test_an_interrupt_is_not_swallowed():
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slq.spectrum(Fragile(), probes=2, steps=12, rng=0, callback=interrupt)


@pytest.mark.parametrize("options", [{}, {"probes": 3}, {"steps": 20}, {"probes": 3, "steps": 20}, {"tol": 0.001}])
@pytest.mark.parametrize("budget", [1, 2, 7, 33, 100, 10_000])
def test_products_are_counted_right_and_stay_within_the_budget_and_its_tests(options, budget):
    operator = Fragile()
    s = slq.spectrum(operator, max_products=budget, rng=0, **options)
    assert s.products == operator.columns
    assert s.products <= budget + 2
    assert (f"budget of {budget} products reached" in s.status) == (budget < 1000 and s.status.startswith("budget"))
    assert np.all(s.lengths >= 1)


@pytest.mark.parametrize("budget", [1, 2, 4, 50])
def test_never_more_columns_are_multiplied_than_max_products(budget):
    operator = Fragile()
    slq.spectrum(operator, max_products=budget, rng=0)
    assert operator.columns <= budget


@pytest.mark.parametrize(("probes", "steps"), [(1, 1), (1, 30), (2, 1), (5, 17), (17, 9)])
def test_probes_and_steps_cost_their_product_and_one_or_two_tests(probes, steps):
    operator = Fragile()
    s = slq.spectrum(operator, probes=probes, steps=steps, rng=0)
    assert operator.columns == s.products == probes * steps + (2 if probes == 1 else 1)
    assert (s.probes, s.steps) == (probes, steps)
    assert s.status == "as asked"


def test_steps_beyond_the_dimension_are_not_made():
    s = slq.spectrum(Fragile(np.linspace(0, 1, 15)), probes=2, steps=100, rng=0)
    assert s.steps == 15
    assert s.products == 2 * 15 + 1
    assert "invariant" in s.status


class TestBatches:
    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls):
        return slq.spectrum(Fragile(), probes=7, steps=20, rng=3, batch=7)

    @pytest.mark.parametrize("batch", [1, 2, 3, 4, 6, "auto"])
    def test_of_any_size_give_the_same_nodes(self, whole, batch):
        operator = Fragile()
        s = slq.spectrum(operator, probes=7, steps=20, rng=3, batch=batch)
        np.testing.assert_allclose(s.nodes, whole.nodes, atol=1e-10)
        np.testing.assert_allclose(s.weights, whole.weights, atol=1e-10)
        assert s.products == whole.products
        assert max(operator.widths) <= (7 if batch == "auto" else batch)

    def test_shrink_with_the_memory_and_give_the_same(self, whole):
        vector = 8 * N
        for room in (400, 120, 60, 50):
            operator = Fragile()
            s = slq.spectrum(operator, probes=7, steps=20, rng=3, memory=room * vector)
            np.testing.assert_allclose(s.nodes, whole.nodes, atol=1e-8)
            assert s.reorth == "full"
            assert max(operator.widths) <= max(room // 26, 1)

    def test_end_without_orthogonality_where_nothing_else_fits(self):
        s = slq.spectrum(Fragile(), probes=3, steps=20, rng=3, memory=10 * 8 * N)
        assert s.reorth == "none"
        assert "even in float16" in s.metadata["vectors"]
        assert not s.certified
        assert "no re-orthogonalisation" in repr(s)
        forced = slq.spectrum(Fragile(), probes=3, steps=20, rng=3, memory=10 * 8 * N, reorth="full")
        assert forced.reorth == "full"
        assert "in files" not in s.metadata["vectors"]
        assert " files in " in forced.metadata["vectors"]

    @pytest.mark.parametrize(("vectors", "basis"), [(60, "float64"), (30, "float32"), (12, "float16")])
    def test_keep_vectors_in_the_longest_precision_that_fits(self, vectors, basis):
        s = slq.spectrum(Fragile(), probes=2, steps=20, rng=3, memory=vectors * 8 * N)
        assert (s.reorth, s.metadata["basis"]) == ("full", basis)
        assert (s.drift > 0) == (basis != "float64")
        assert basis in s.metadata["vectors"]


def test_the_first_probes_of_a_longer_run_are_those_of_a_shorter_one():
    few, many = (slq.spectrum(Fragile(), probes=k, steps=10, rng=5) for k in (2, 6))
    np.testing.assert_allclose(many.alpha[:2], few.alpha, atol=1e-13)
    other = slq.spectrum(Fragile(), probes=2, steps=10, rng=6)
    assert np.abs(other.alpha - few.alpha).max() > 1e-3


def test_the_same_seed_gives_the_same_run_and_a_generator_moves_on():
    assert slq.spectrum(Fragile(), tol=0.05, rng=4) == slq.spectrum(Fragile(), tol=0.05, rng=4)
    generator = np.random.default_rng(0)
    one, two = (slq.spectrum(Fragile(), probes=1, steps=5, rng=generator) for _ in range(2))
    assert one.seed != two.seed
    assert slq.spectrum(Fragile(), probes=1, steps=5).seed != slq.spectrum(Fragile(), probes=1, steps=5).seed


@pytest.mark.parametrize(
    ("name", "tol"),
    [
        (name, tol)
        for name in ("semicircle", "marchenko_pastur", "spiked", "laplacian_1d", "graded")
        for tol in (0.05, 0.02)
    ],
)
def test_the_tolerance_is_kept_for_ten_seeds(name, tol):
    law = getattr(slq.gallery, name)(1000)[1]
    operator, values = slq.gallery.from_eigenvalues(law.eigenvalues(), rotate=False)[0], law.eigenvalues()
    worst = 0.0
    for seed in range(10):
        s = slq.spectrum(operator, tol=tol, rng=seed)
        y = s.coordinate().forward(values)
        grid = np.unique(np.concatenate([np.linspace(y[0], y[-1], 3000), y]))
        x = s.coordinate().inverse(grid)
        error = np.abs(s.cdf(x).value - np.searchsorted(values, x * (1 + 1e-14), side="right") / len(values))
        worst = max(worst, np.trapezoid(error, grid) / (y[-1] - y[0]))
    assert worst <= 1.2 * tol


class TestStatuses:
    def test_say_in_words_why_the_run_ended(self):
        operator = slq.gallery.semicircle(500)[0]
        assert slq.spectrum(operator, probes=2, steps=5, rng=0).status == "as asked"
        assert slq.spectrum(operator, tol=0.05, rng=0).status == "tolerance met"
        assert "probes as asked" in slq.spectrum(operator, tol=0.05, probes=2, rng=0).status
        assert "left by the steps" in slq.spectrum(operator, tol=0.01, steps=4, rng=0).status
        assert slq.spectrum(operator, max_products=20, rng=0).status == "budget of 20 products reached"
        assert slq.spectrum(operator, rng=0, callback=lambda _: True).status == "stopped by callback"
        assert "memory" in slq.spectrum(operator, tol=0.001, rng=0, reorth="full", memory=40 * 8 * 500).status
        assert "invariant" in slq.spectrum(np.eye(20), rng=0).status

    def test_name_the_noise_floor(self):
        class Noisy(Fragile):
            noise = 0.2

        assert slq.spectrum(Noisy(), tol=0.01, rng=0).status == "noise floor reached"


class TestCallbacks:
    def test_see_growing_valid_spectra_and_go_on_unless_they_return_true(self):
        seen = []
        s = slq.spectrum(Fragile(), probes=2, steps=30, rng=0, callback=lambda p: seen.append(p) or "yes")
        assert [p.steps for p in seen] == sorted(p.steps for p in seen)
        assert seen[-1].steps == s.steps == 30
        assert all(p.status == "running" for p in seen)
        np.testing.assert_array_equal(seen[0].alpha, s.alpha[:, : seen[0].steps])

    def test_stop_while_probes_are_added_too(self):
        s = slq.spectrum(Fragile(), probes=6, steps=10, batch=2, rng=0, callback=lambda p: p.probes >= 4)
        assert s.status == "stopped by callback"
        assert s.probes == 4


def test_a_single_probe_is_tested_for_symmetry_too():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((N, N))
    for seed in range(10):
        with pytest.warns(slq.SlqWarning, match="not symmetric"):
            s = slq.spectrum(matrix, probes=1, steps=5, rng=seed)
        assert not s.certified


@pytest.mark.parametrize("skewness", [1e-6, 1e-3, 0.3])
def test_asymmetry_is_measured_within_a_factor_of_two(skewness):
    rng = np.random.default_rng(1)
    square = rng.standard_normal((N, N))
    matrix = square + square.T + skewness * (square - square.T)
    true = np.linalg.norm(matrix - matrix.T) / np.linalg.norm(matrix)
    with pytest.warns(slq.SlqWarning, match="not symmetric") as told:
        slq.spectrum(matrix, probes=8, steps=5, rng=0)
    measured = float(str(told[0].message).split("about ")[1].split(". ")[0])
    assert true / 2 <= measured <= 2 * true


def test_rounding_is_no_asymmetry():
    rng = np.random.default_rng(2)
    square = rng.standard_normal((N, N))
    for dtype in (np.float64, np.float32):
        s = slq.spectrum((square + square.T).astype(dtype), probes=4, steps=20, rng=0)
        assert s.warnings == ()
        assert s.certified


@pytest.mark.parametrize("factor", [1.0001, 1.01, 0.5])
def test_an_operator_that_changes_between_products_is_noticed(factor):
    with pytest.warns(slq.SlqWarning, match="drifts"):
        s = slq.spectrum(Fragile(factor=factor), probes=2, steps=10, rng=0)
    assert s.warnings
    assert not s.certified
    assert "drifts" in repr(s)


def test_single_precision_widens_the_noise_and_keeps_the_numbers():
    values = np.linspace(0, 1, N)
    double, single = (
        slq.spectrum(Fragile(values.astype(d)), probes=3, steps=15, rng=0) for d in (np.float64, np.float32)
    )
    assert single.metadata["dtype"] == "float32"
    assert single.noise == pytest.approx(double.noise * 2**29, rel=0.1)
    np.testing.assert_allclose(single.nodes, double.nodes, atol=1e-4)
    assert single.alpha.dtype == single.nodes.dtype == np.float64


@pytest.mark.parametrize(
    "options", [{"probes": 3, "steps": 25}, {"tol": 0.05}, {"probes": 2, "steps": 25, "reorth": "none"}]
)
def test_torch_and_strict_arrays_give_the_nodes_of_numpy(options):
    torch, strict = pytest.importorskip("torch"), pytest.importorskip("array_api_strict")
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((N, N)) / np.sqrt(N)
    matrix = matrix + matrix.T
    plain = slq.spectrum(matrix, rng=7, **options)
    for other in (torch.from_numpy(matrix), strict.asarray(matrix)):
        s = slq.spectrum(other, rng=7, **options)
        assert (s.probes, s.steps) == (plain.probes, plain.steps)
        np.testing.assert_allclose(s.nodes, plain.nodes, atol=1e-10)
        np.testing.assert_allclose(s.weights, plain.weights, atol=1e-9)


def test_vectors_too_long_for_half_precision_are_told():
    with pytest.raises(ValueError, match=r"`basis` cannot be 'float16' for vectors of more than .* Take 'float32'"):
        factor_of("float16", 10**10)
