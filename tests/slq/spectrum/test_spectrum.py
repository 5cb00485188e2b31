"""The result of a run: what it holds, how it transforms, and that easy matrices come out right."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg

import slq


def easy_matrices():
    rng = np.random.default_rng(0)
    v = rng.standard_normal(60)
    blocks = [np.array([[2.0, 1.0], [1.0, 2.0]])] * 30
    return {
        "identity": np.eye(60),
        "zero": np.zeros((60, 60)),
        "rank one": np.outer(v, v),
        "repeated": np.diag(np.repeat([1.0, 2.0, 5.0], 20)),
        "block diagonal": scipy.linalg.block_diag(*blocks),
        "n = 1": np.array([[3.0]]),
        "n = 2": np.array([[1.0, 2.0], [2.0, -1.0]]),
        "simple": np.diag(np.linspace(-1.0, 2.0, 60)),
    }


@pytest.fixture(params=easy_matrices().items(), ids=lambda item: item[0])
def matrix(request):
    return request.param[1]


@pytest.fixture(scope="module")
def bulk():
    return slq.gallery.marchenko_pastur(500)


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e12, 1e200])
def test_easy_matrices_have_their_spectrum_at_any_scale(matrix, scale):
    exact = np.linalg.eigvalsh(matrix) * scale
    s = slq.spectrum(matrix * scale, probes=4, steps=100, rng=1)
    largest = np.abs(exact).max()
    assert np.all(s.weights >= 0)
    np.testing.assert_allclose(s.weights.sum(axis=1), 1.0, rtol=1e-12)
    inside = s.nodes[s.weights > 1e-20]
    assert np.all(np.abs(inside[:, None] - exact).min(axis=1) <= 1e-10 * max(largest, 1e-300))
    low, high = s.edges
    assert low <= exact[0]
    assert high >= exact[-1]
    total = s.trace()
    assert total.low - 1e-12 * largest <= exact.sum() <= total.high + 1e-12 * largest
    assert "Spectrum of a" in repr(s)


def test_a_run_of_n_steps_counts_simple_eigenvalues_exactly():
    values = np.linspace(-1.0, 2.0, 60)
    s = slq.spectrum(np.diag(values), probes=3, steps=60, rng=0)
    found = s.count(-0.5, 1.0)
    assert found.value == found.low == found.high == np.sum((values > -0.5) & (values <= 1.0))


def test_arrays_have_shape_probes_by_steps_and_are_read_only(bulk):
    s = slq.spectrum(bulk[0], probes=3, steps=20, rng=0)
    for name in ("alpha", "beta", "nodes", "weights", "residuals"):
        array = getattr(s, name)
        assert array.shape == (3, 20)
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0.0


def test_probes_that_end_early_repeat_their_last_node_with_weight_zero():
    matrix = np.diag([1.0, 2.0, 2.0, 2.0])
    start = np.array([[1.0, 0, 0, 0], [1.0, 1, 1, 1]]).T
    rule = slq.gauss(slq.lanczos(matrix, start, 4))
    assert rule.nodes.shape == (2, 2)
    np.testing.assert_allclose(rule.nodes[0], [1.0, 1.0])
    np.testing.assert_allclose(rule.weights[0], [1.0, 0.0])


def test_public_fields_are_documented():
    public = [f.name for f in dataclasses.fields(slq.Spectrum) if not f.name.startswith("_")]
    for name in public:
        assert name in slq.Spectrum.__doc__


def test_scaling_the_operator_scales_the_axis_only(bulk):
    operator, _ = bulk
    scaled = slq.as_operator(lambda X: 1e-9 * operator.matmat(X), n=500, block=True)
    one, two = (slq.spectrum(a, probes=3, steps=25, rng=4) for a in (operator, scaled))
    np.testing.assert_allclose(two.nodes, 1e-9 * one.nodes, rtol=1e-9)
    x = np.linspace(0.0, 3.0, 50)
    np.testing.assert_allclose(two.cdf(1e-9 * x).value, one.cdf(x).value, atol=1e-9)
    np.testing.assert_allclose(two.density(1e-9 * x).value, 1e9 * one.density(x).value, rtol=1e-6, atol=1e-6)
    assert two.error.total == pytest.approx(one.error.total, rel=1e-6)


def test_a_shift_costs_no_product_and_equals_a_run_of_the_shifted_operator(bulk):
    operator, law = bulk
    s = slq.spectrum(operator, probes=3, steps=25, rng=4)
    shifted = slq.as_operator(lambda X: operator.matmat(X) + 2.0 * X, n=500, block=True)
    np.testing.assert_allclose(s.shifted(2.0).nodes, slq.spectrum(shifted, probes=3, steps=25, rng=4).nodes, rtol=1e-9)
    e = s.logdet(shift=2.0)
    assert e.low <= law.trace(lambda x: np.log(x + 2.0)) <= e.high


def test_merged_runs_have_all_probes(bulk):
    one, two = (slq.spectrum(bulk[0], probes=2, steps=20, rng=seed) for seed in (1, 2))
    both = one.merge(two)
    assert both.probes == 4
    assert both.products == one.products + two.products
    assert both.trace().error.sampling < one.trace().error.sampling


def test_runs_that_share_probes_or_dimension_do_not_merge(bulk):
    s = slq.spectrum(bulk[0], probes=2, steps=20, rng=1)
    with pytest.raises(ValueError, match="same probes"):
        s.merge(s)
    with pytest.raises(ValueError, match="n = 3"):
        s.merge(slq.spectrum(np.eye(3), probes=2, steps=2, rng=5))


def test_distance_to_itself_is_zero_and_to_a_shifted_one_is_the_shift(bulk):
    s = slq.spectrum(bulk[0], probes=3, steps=40, rng=1)
    assert s.distance(s).value == 0.0
    assert s.distance(s.shifted(0.5)).value == pytest.approx(0.5, rel=1e-3)
    assert s.distance(s.shifted(10.0), "kolmogorov").value == pytest.approx(1.0)
    with pytest.raises(ValueError, match="kolmogorov"):
        s.distance(s, "euclid")


def test_bad_questions_say_what_is_allowed(bulk):
    s = slq.spectrum(bulk[0], probes=2, steps=20, rng=1)
    with pytest.raises(ValueError, match="smaller than `b`"):
        s.count(2.0, 1.0)
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        s.quantile(1.0)
    with pytest.raises(ValueError, match=r"must be a callable, a power .* or one of"):
        s.trace("sine")
    with pytest.raises(ValueError, match="ascend"):
        s.density([1.0, 0.0])
    with pytest.raises(ValueError, match="width"):
        s.density(width=0.0)
    with pytest.raises(ValueError, match="kind"):
        s.density(kind="kde")
