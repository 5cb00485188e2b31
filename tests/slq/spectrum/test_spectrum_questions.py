"""What a Spectrum is: shapes, equality, merging, shifting, scaling, printing; easy matrices come out right."""

import dataclasses
import re

import numpy as np
import pytest

import slq

EASY = {
    "identity": np.eye(30),
    "minus identity": -np.eye(30),
    "zero": np.zeros((30, 30)),
    "rank one": np.outer(np.ones(30), np.ones(30)),
    "repeated": np.diag(np.repeat([1.0, 2.0, 5.0], 10)),
    "block diagonal": np.kron(np.eye(10), np.array([[2.0, 1.0], [1.0, 3.0]])),
    "one by one": np.array([[3.0]]),
    "one by one, zero": np.array([[0.0]]),
    "two by two": np.array([[2.0, 1.0], [1.0, 2.0]]),
    "twice two": 2 * np.eye(2),
    "simple": np.diag(np.linspace(-1, 2, 30)),
}


@pytest.fixture(scope="module")
def bulk():
    return slq.gallery.marchenko_pastur(500)


def run(values, **options):
    values = np.asarray(values)
    return slq.spectrum(slq.as_operator(lambda x: values * x, n=len(values)), **options)


class TestEasyMatrices:
    @pytest.mark.parametrize("options", [{"probes": 1, "steps": 3}, {"probes": 4, "steps": 50}, {"tol": 0.1}], ids=str)
    @pytest.mark.parametrize("name", EASY)
    def test_print_in_sane_lines(self, name, options):
        s = slq.spectrum(EASY[name], rng=0, **options)
        lines = repr(s).splitlines()
        assert lines[0].startswith(f"Spectrum of a {s.n} × {s.n} operator · dense matrix · float64")
        assert [line.split()[0] for line in lines if line[2:3].strip()][1:] == [
            "run",
            "status",
            "edges",
            "outliers",
            "trace",
            "error",
            "claims",
            "density",
        ]
        assert not re.search(r"nan|inf\b|None|-0\.00", repr(s))
        assert max(map(len, lines)) <= 90
        for found in (s.trace(), s.trace("exp"), s.count(-10, 100)):
            assert re.fullmatch(r"-?[\d.e+-]+ (exactly|± [\d.e+-]+|in \[.*\]) \(95 %\)", str(found))

    @pytest.mark.parametrize("name", EASY)
    def test_have_their_eigenvalues_traces_and_edges(self, name):
        exact = np.linalg.eigvalsh(EASY[name])
        slack = 1e-12 * max(np.abs(exact).max(), 1e-300)
        for seed in range(5):
            s = slq.spectrum(EASY[name], probes=4, steps=50, rng=seed, confidence=0.9999)
            assert s.edges[0] - slack <= exact[0]
            assert exact[-1] <= s.edges[1] + slack
            for f, value in (("identity", exact.sum()), ("square", np.sum(exact**2)), ("exp", np.sum(np.exp(exact)))):
                found = s.trace(f)
                assert found.low - 1e-12 * abs(value) <= value <= found.high + 1e-12 * abs(value)
            assert s.count(exact[0] - 1, exact[-1] + 1).value == pytest.approx(len(exact))

    @pytest.mark.parametrize("name", ["identity", "repeated", "two by two", "block diagonal", "one by one"])
    def test_have_their_log_determinants(self, name):
        exact = np.linalg.slogdet(EASY[name])[1]
        inverse = np.trace(np.linalg.inv(EASY[name]))
        for seed in range(5):
            s = slq.spectrum(EASY[name], probes=4, steps=50, rng=seed, confidence=0.9999)
            assert s.logdet().low - 1e-12 <= exact <= s.logdet().high + 1e-12
            assert s.trace_inverse().low - 1e-12 <= inverse <= s.trace_inverse().high + 1e-12

    @pytest.mark.parametrize("options", [{"kind": "rademacher"}, {"probes": 2, "steps": 10, "reorth": "none"}], ids=str)
    def test_a_multiple_of_the_identity_has_no_error_to_speak_of(self, options):
        s = slq.spectrum(np.eye(30), rng=0, **options)
        assert s.error.total < 0.01

    def test_a_few_probes_settle_a_small_matrix_of_few_distinct_eigenvalues(self):
        s = slq.spectrum(np.kron(np.eye(3), np.array([[2.0, 1.0], [1.0, 3.0]])), tol=0.01, rng=0)
        assert s.error.total <= 0.01
        assert s.products < 200

    def test_points_at_a_hair_from_a_node_do_not_overflow(self):
        s = slq.spectrum(EASY["rank one"], probes=2, steps=10, reorth="none", rng=0)
        band = s.quantile([0.1, 0.5, 0.9])
        exact = np.quantile(np.linalg.eigvalsh(EASY["rank one"]), [0.1, 0.5, 0.9], method="inverted_cdf")
        np.testing.assert_allclose(band.value, exact, atol=1e-12)
        assert np.all((band.low <= exact + 1e-12) & (exact - 1e-12 <= band.high))


class TestFields:
    def test_are_documented_one_by_one(self):
        for field in dataclasses.fields(slq.Spectrum):
            if not field.name.startswith("_"):
                assert re.search(rf"^\s+(\w+, )*{field.name}(, \w+)* : ", slq.Spectrum.__doc__, re.M), field.name

    def test_are_read_only_and_frozen(self, bulk):
        s = slq.spectrum(bulk[0], probes=2, steps=10, rng=0)
        for field in dataclasses.fields(slq.Spectrum):
            value = getattr(s, field.name)
            if isinstance(value, np.ndarray):
                assert not value.flags.writeable
        with pytest.raises(AttributeError):
            s.n = 3

    def test_have_shape_probes_by_steps_padded_to_the_longest(self):
        s = run(np.repeat([0.0, 1.0, 3.0], 40), probes=3, steps=20, rng=0)
        assert s.lengths.tolist() == [3, 3, 3]
        assert s.nodes.shape == s.weights.shape == s.alpha.shape == s.beta.shape == s.residuals.shape == (3, 3)
        assert np.all(np.diff(s.nodes, axis=1) >= 0)
        np.testing.assert_allclose(s.weights.sum(axis=1), 1.0)

    def test_compare_by_coefficients_not_by_time(self, bulk):
        one, two = (slq.spectrum(bulk[0], probes=2, steps=10, rng=0) for _ in range(2))
        assert one == two
        assert one != slq.spectrum(bulk[0], probes=2, steps=10, rng=1)
        assert one != slq.spectrum(bulk[0], probes=2, steps=11, rng=0)
        assert one != "a spectrum"
        with pytest.raises(TypeError):
            hash(one)


class TestScaling:
    @pytest.mark.parametrize("scale", [1e-200, 1e-50, 1e-3, 1e3, 1e50, 1e200])
    def test_only_renames_the_axis(self, scale):
        values = np.append(np.random.default_rng(0).uniform(0.1, 1, 200), [3.0, 5.0])
        one, two = (run(values * c, probes=3, steps=30, rng=1) for c in (1.0, scale))
        np.testing.assert_allclose(two.nodes / scale, one.nodes, rtol=1e-10)
        np.testing.assert_allclose(two.weights, one.weights, atol=1e-10)
        x = np.linspace(0.01, 6, 77)  # none at an outlier, where a rounding decides
        for name in ("value", "low", "high"):
            np.testing.assert_allclose(getattr(two.cdf(x * scale), name), getattr(one.cdf(x), name), atol=1e-8)
        np.testing.assert_allclose(two.quantile([0.2, 0.8]).value / scale, one.quantile([0.2, 0.8]).value, rtol=1e-3)
        assert len(two.outliers) == len(one.outliers) == 2
        assert two.count(scale, 4 * scale).value == pytest.approx(one.count(1, 4).value, abs=1e-6)
        assert two.trace().value / scale == pytest.approx(one.trace().value, rel=1e-10)
        assert two.logdet().value == pytest.approx(one.logdet().value + 202 * np.log(scale), rel=1e-9)
        assert two.error.total == pytest.approx(one.error.total, rel=1e-4)
        assert two.coordinate().scale == one.coordinate().scale
        assert repr(two).count("\n") >= 10

    def test_by_minus_one_mirrors_everything(self):
        values = np.append(np.random.default_rng(0).uniform(0.1, 1, 200), 5.0)
        one, two = run(values, probes=3, steps=30, rng=1), run(-values, probes=3, steps=30, rng=1)
        np.testing.assert_allclose(-two.nodes[:, ::-1], one.nodes, rtol=1e-10)
        np.testing.assert_allclose([-two.edges[1], -two.edges[0]], one.edges, rtol=1e-9)
        assert two.count(-np.inf, -2).value == pytest.approx(one.count(2, np.inf).value, abs=1e-6)


class TestShifting:
    @pytest.mark.parametrize("shift", [-3.0, 1e-3, 2.0, 1e4])
    def test_equals_running_the_shifted_matrix(self, bulk, shift):
        law = bulk[1]
        other = slq.gallery.from_eigenvalues(law.eigenvalues() + shift)[0]
        one = slq.spectrum(slq.gallery.from_eigenvalues(law.eigenvalues())[0], probes=3, steps=25, rng=4).shifted(shift)
        two = slq.spectrum(other, probes=3, steps=25, rng=4)
        np.testing.assert_allclose(one.nodes, two.nodes, atol=1e-9 * max(1, abs(shift)))
        np.testing.assert_allclose(one.weights, two.weights, atol=1e-6)
        assert one.products == 3 * 25 + 1

    def test_back_and_forth_is_where_it_was(self, bulk):
        s = slq.spectrum(bulk[0], probes=2, steps=20, rng=0)
        np.testing.assert_allclose(s.shifted(3.0).shifted(-3.0).nodes, s.nodes, atol=1e-12)


class TestMerging:
    def test_equals_asking_the_same_probes_one_by_one(self, bulk):
        one, two = (slq.spectrum(bulk[0], probes=2, steps=20, rng=seed) for seed in (1, 2))
        both = one.merge(two)
        assert (both.probes, both.products) == (4, one.products + two.products)
        assert both.groups.tolist() == [0, 0, 1, 1]
        np.testing.assert_array_equal(both.nodes, np.concatenate([one.nodes, two.nodes]))
        assert both.trace().value == pytest.approx((one.trace().value + two.trace().value) / 2, rel=1e-3)

    def test_pads_runs_of_different_length(self, bulk):
        both = slq.spectrum(bulk[0], probes=1, steps=10, rng=1).merge(slq.spectrum(bulk[0], probes=2, steps=25, rng=2))
        assert both.lengths.tolist() == [10, 25, 25]
        assert both.alpha.shape == (3, 25)
        both.trace(), both.density(), both.cdf(1.0), repr(both)

    @pytest.mark.slow
    def test_halves_the_variance(self, bulk):
        law = bulk[1]
        truth, separate, merged = law.trace(np.exp), [], []
        for seed in range(60):
            one, two = (slq.spectrum(bulk[0], probes=1, steps=12, rng=seed + 1000 * i) for i in (1, 2))
            separate += [one.trace("exp").value - truth, two.trace("exp").value - truth]
            merged.append(one.merge(two).trace("exp").value - truth)
        assert np.var(merged) == pytest.approx(np.var(separate) / 2, rel=0.4)

    def test_still_tells_simple_outliers(self):
        values = np.append(np.linspace(-1, 1, 300), [4.0, 6.0])
        both = run(values, probes=2, steps=30, rng=1).merge(run(values, probes=2, steps=30, rng=2))
        np.testing.assert_array_equal(both.outliers.multiplicities.round(9), [1, 1])
        assert both.outliers.verified

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"rng": 1}, "both runs have seed 1, hence the same probes"),
            ({"rng": 2, "kind": "rademacher"}, "`other` has kind = rademacher"),
        ],
    )
    def test_is_refused_where_it_would_mean_nothing(self, bulk, other, message):
        s = slq.spectrum(bulk[0], probes=2, steps=5, rng=1)
        with pytest.raises(ValueError, match=message):
            s.merge(slq.spectrum(bulk[0], probes=2, steps=5, **other))

    def test_is_refused_for_another_dimension(self, bulk):
        with pytest.raises(ValueError, match="`other` has n = 3, this spectrum 500"):
            slq.spectrum(bulk[0], probes=2, steps=5, rng=1).merge(slq.spectrum(np.eye(3), probes=1, steps=1, rng=2))

    def test_keeps_the_weaker_claim(self, bulk):
        one = slq.spectrum(bulk[0], probes=2, steps=5, rng=1)
        two = slq.spectrum(bulk[0], probes=2, steps=5, rng=2, reorth="none")
        assert one.certified
        assert not one.merge(two).certified
        assert one.merge(two).reorth == "none"
