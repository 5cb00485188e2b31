"""Probes on P A P: what was resolved stays exact however many probes follow."""

import array_api_compat.numpy as xp
import numpy as np
import pytest

import slq
from slq._deflation import orthonormal, project_out, projected

OUTLIERS = (-50.0, -5.0, -3.0, 20.0, 60.0, 100.0)


@pytest.fixture(scope="module")
def deflated():
    operator, law = slq.gallery.spiked(2000, outliers=OUTLIERS)
    s = slq.spectrum(operator, tol=0.003, rng=0)
    assert s.projected.any()
    return s, law


def test_the_projected_operator_is_p_a_p_and_a_filling():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((30, 30))
    matrix = matrix + matrix.T
    vectors = orthonormal(rng.standard_normal((4, 30)), xp)
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
