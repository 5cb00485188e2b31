"""Probes on P A P: what was resolved stays exact however many probes follow."""

import array_api_compat.numpy as xp
import numpy as np
import pytest

import slq
from slq._lanczos._rows import orthonormal
from slq._operators._deflation import project_out, projected

OUTLIERS = (-50.0, -5.0, -3.0, 20.0, 60.0, 100.0)


@pytest.fixture(scope="module")
def deflated():
    operator, law = slq.gallery.spiked(2000, outliers=OUTLIERS)
    s = slq.spectrum(operator, tol=0.002, rng=0)
    assert s.projected.any()
    return s, law


def test_the_projected_operator_is_p_a_p_and_a_filling():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((30, 30))
    matrix = matrix + matrix.T
    vectors, _ = orthonormal(rng.standard_normal((4, 30)), xp)
    p = np.eye(30) - vectors.T @ vectors
    found = projected(slq.as_operator(matrix), vectors, 0.5).matmat(np.eye(30))
    np.testing.assert_allclose(found, p @ matrix @ p + 0.5 * (np.eye(30) - p), atol=1e-12)
    rows = project_out(rng.standard_normal((3, 30)), vectors, xp)
    np.testing.assert_allclose(rows @ vectors.T, 0.0, atol=1e-15)


def test_deflated_eigenvalues_count_exactly(deflated):
    s, law = deflated
    np.testing.assert_allclose(np.sort(s.deflated), np.sort(OUTLIERS), rtol=1e-9)
    assert s.count(10.0, 1000.0).value == pytest.approx(3.0, abs=1e-9)
    np.testing.assert_allclose(np.sort(s.outliers.values), np.sort(OUTLIERS), rtol=1e-9)
    e = s.trace()
    assert e.low <= law.trace(lambda x: x) <= e.high
    assert s.edges[1] == pytest.approx(100.0, rel=1e-6)


def test_a_deflated_run_is_saved_whole(deflated, tmp_path):
    s, _ = deflated
    back = slq.load(s.save(tmp_path / "run"))
    assert back == s
    np.testing.assert_array_equal(back.projected, s.projected)
    assert back.trace() == s.trace()


def test_a_deflated_run_is_neither_merged_nor_extended(deflated):
    s, _ = deflated
    operator, _ = slq.gallery.spiked(2000, outliers=OUTLIERS)
    with pytest.raises(ValueError, match="deflate="):
        s.merge(slq.spectrum(operator, probes=2, steps=10, rng=9))
    with pytest.raises(ValueError, match="deflate="):
        s.extend(operator, probes=100)


def test_deflation_can_be_left_out():
    operator, _ = slq.gallery.spiked(2000, outliers=OUTLIERS)
    assert not slq.spectrum(operator, tol=0.003, rng=0, deflate="none").projected.any()


def test_more_probes_come_with_less_scatter_of_the_small_eigenvalues_inverse():
    operator, law = slq.gallery.graded(600, smallest=1e-4)
    e = slq.trace_inverse(operator, 0.02, rng=0)
    assert e.low <= law.trace(np.reciprocal) <= e.high


def test_traces_of_a_deflated_run_hold(deflated):
    s, law = deflated
    for name, f in (("identity", lambda x: x), ("square", np.square)):
        e = s.trace(name)
        assert abs(e.value - law.trace(f)) <= 1.5 * (e.high - e.low) / 2


@pytest.mark.parametrize(("a", "b"), [(-np.inf, np.inf), (-10, -4), (-10, 10), (10, 1000), (-1000, -2.5), (0, 1)])
def test_counts_of_a_deflated_run_hold(deflated, a, b):
    s, law = deflated
    e = s.count(a, b)
    assert e.low <= law.count(a, b) <= e.high


@pytest.mark.parametrize("scale", ["linear", "asinh"])
def test_the_density_of_a_deflated_run_and_its_stems_have_mass_one(deflated, scale):
    s, _ = deflated
    density = s.density(scale=scale)
    y = s.coordinate(scale).forward(density.x)
    assert np.trapezoid(density.value, y) + density.stems[:, 1].sum() == pytest.approx(1.0, abs=1e-6)
    assert density.stems[:, 1].sum() == pytest.approx(len(OUTLIERS) / s.n)


def test_weights_of_projected_probes_sum_to_one(deflated):
    s, _ = deflated
    np.testing.assert_allclose(s.weights.sum(axis=1), 1.0, rtol=1e-12)
    inner = s.nodes[s.projected][s.weights[s.projected] > 1e-15]  # without the filling, which rounding lets in
    assert inner.min() > -1.1
    assert inner.max() < 1.1


def test_vectors_are_made_orthonormal_in_the_span_they_had():
    rows = np.random.default_rng(2).standard_normal((3, 20))
    q, _ = orthonormal(rows, xp)
    np.testing.assert_allclose(q @ q.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(rows @ q.T @ q, rows, atol=1e-13)


def large_outliers(deflate):
    operator, _ = slq.gallery.spiked(2000, outliers=(1e6, 2e6, -1e6), dtype=np.float32)
    return slq.spectrum(operator, probes=12, steps=40, rng=0, batch=2, deflate=deflate)


@pytest.mark.filterwarnings("ignore::slq.SlqWarning")
def test_large_outliers_in_single_precision_leave_the_bulk_edges_right():
    s = large_outliers("auto")
    assert s.projected.sum() == 10
    bulk = np.where((np.abs(s.nodes) < 100) & (s.weights > 1e-12), s.nodes, 0.0)[s.projected]
    np.testing.assert_allclose(bulk.min(axis=1), -1.0, atol=0.03)
    np.testing.assert_allclose(bulk.max(axis=1), 1.0, atol=0.03)


@pytest.mark.filterwarnings("ignore::slq.SlqWarning")
def test_rounding_of_large_outliers_is_not_taken_for_asymmetry_of_the_operator():
    plain, s = large_outliers("none"), large_outliers("auto")
    assert plain.warnings == ()
    assert s.warnings == ()
    assert s.noise < 10 * plain.noise
