"""Vectors of the host's memory: the same recurrence as everywhere, whatever precision the past is kept in."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import slq
from slq import as_operator
from slq._kernels import _sweeps
from slq._kernels._sweeps import CompiledSweeps, NumpySweeps
from slq._lanczos import _host
from slq._lanczos._basis import Storage
from slq._lanczos._host import HostKrylov
from slq._lanczos._krylov import Krylov
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import probes

N, STEPS = 4000, 60
BULK = np.cos(np.pi * (np.arange(N) + 0.5) / N)


def with_outliers(*values):
    """Return a bulk in [-1, 1] with some eigenvalues replaced."""
    return np.append(BULK[: N - len(values)], values)


SPECTRA = {
    "outliers": with_outliers(20.0, 60.0, 100.0),
    "far outliers": with_outliers(*(1e4 * np.linspace(1.0, 0.3, 10))),
    "clusters": with_outliers(*np.repeat([5.0, 5.001, 5.002], 10)),
    "graded": np.logspace(-7, 0, N),
}


def study(values, precision, dtype, steps=STEPS):
    """Run Lanczos on a diagonal matrix; return the run, its Krylov vectors and the matrix as a function."""
    seen, diagonal = [], values.astype(dtype)[:, None]
    operator = as_operator(
        lambda X: (seen.append(np.array(X)), diagonal * X)[1], n=len(values), block=True, like=np.ones(1, dtype=dtype)
    )
    start = probes(len(values), range(2), seed=0).astype(dtype)
    run = LanczosRun(operator, start, reorth="full", storage=Storage(precision))
    run.advance(steps)
    return run, np.stack([block[:, 0] for block in seen], axis=1).astype(np.float64)


@pytest.mark.parametrize("name", list(SPECTRA))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("precision", ["float64", "float32", "float16"])
class TestPrecision:
    def test_orthogonality_stays_below_the_root_of_a_single_rounding(self, name, precision, dtype):
        _, Q = study(SPECTRA[name], precision, dtype)
        stored = max(np.finfo(precision).eps, np.finfo(dtype).eps) / 2
        assert np.abs(Q.T @ Q - np.eye(STEPS)).max() < max(0.8 * stored, 40 * np.finfo(dtype).eps)

    def test_neighbours_are_orthogonal_to_the_rounding_of_the_run(self, name, precision, dtype):
        _, Q = study(SPECTRA[name], precision, dtype)
        assert np.abs(np.sum(Q[:, 1:] * Q[:, :-1], axis=0)).max() < 30 * np.finfo(dtype).eps

    def test_drift_bounds_how_far_the_relation_is_from_exact(self, name, precision, dtype):
        values = SPECTRA[name]
        run, Q = study(values, precision, dtype)
        T, norm = run.tridiagonal(), np.abs(values).max()
        alpha, beta = T.alpha[0], T.beta[0, :-1]
        rest = values[:, None] * Q - Q @ (np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1))
        rest[:, -1] = 0.0
        off = np.linalg.norm(rest, 2)
        assert off <= run.drift + 30 * np.finfo(dtype).eps * norm
        coarse = np.finfo(precision).eps > np.finfo(dtype).eps
        assert (run.drift > 0) == coarse
        assert not coarse or run.drift < 100 * off

    def test_every_node_lies_within_its_residual_of_an_eigenvalue(self, name, precision, dtype):
        values = SPECTRA[name]
        run, _ = study(values, precision, dtype)
        rule, noise = slq.gauss(run.tridiagonal()), 8 * max(np.finfo(dtype).eps, run.coarseness**2)
        distance = np.abs(rule.nodes[0][:, None] - values).min(axis=1)
        assert np.all(distance <= rule.residuals[0] + noise * np.abs(values).max())


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("multiplicities", [[1] * 6, [1, 2, 1, 3, 1, 1]])
def test_outliers_are_counted_exactly_however_the_past_is_kept(precision, multiplicities):
    outliers = np.repeat(np.linspace(3.0, 12.0, 6), multiplicities)
    values = with_outliers(*outliers)
    operator = as_operator(lambda X: values[:, None] * X, n=N, block=True)
    s = slq.spectrum(operator, probes=6, steps=STEPS, rng=0, basis=precision, reorth="full")
    assert s.metadata["basis"] == precision
    assert s.drift > 0
    assert_allclose(np.sort(s.outliers.values), np.unique(outliers), atol=1e-5)
    order = np.argsort(s.outliers.values)
    assert s.outliers.exact.all()
    assert s.outliers.multiplicities[order].tolist() == multiplicities


def test_eigenvalues_closer_than_coarse_vectors_can_tell_are_counted_together():
    pair = with_outliers(3.0, 3.0003, 100.0)  # their distance is below what half precision of 100 can tell
    operator = as_operator(lambda X: pair[:, None] * X, n=N, block=True)
    s = slq.spectrum(operator, probes=4, steps=200, rng=0, basis="float16", reorth="full")
    within = np.abs(s.outliers.values[:, None] - pair) <= s.outliers.residuals[:, None]
    assert s.certified
    assert s.outliers.exact.all()
    assert s.outliers.multiplicities.tolist() == within.sum(axis=1).tolist() == [1, 2]


class TestSameEverywhere:
    @pytest.mark.parametrize("reorth", [True, False])
    def test_numbers_are_those_of_the_recurrence_for_any_library(self, reorth, symmetric):
        A, start = symmetric(80), probes(80, range(3), seed=0)
        host = HostKrylov(start, np, storage=Storage() if reorth else None, references=start[:2])
        other = Krylov(start, np, reorth=reorth, references=start[:2])
        for _ in range(30):
            rows = [k.step(k.images(lambda X: X @ A)) for k in (host, other)]
            assert_allclose(rows[0], rows[1], atol=1e-10)

    @pytest.mark.parametrize("precision", ["float64", "float32", "float16"])
    def test_numba_and_numpy_agree(self, precision, monkeypatch, symmetric):
        pytest.importorskip("numba")
        A, found = symmetric(70), []
        for sweeps in (CompiledSweeps, NumpySweeps):
            monkeypatch.setattr(_host, "sweeps_for", lambda _, sweeps=sweeps: sweeps())
            found.append(slq.lanczos(A, np.ones(70), 30, basis=precision))
        assert_allclose(found[0].alpha, found[1].alpha, atol=1e-11 if precision == "float64" else 1e-6)

    def test_torch_tensors_share_their_memory(self, torch, symmetric):
        A = symmetric(60)
        start = probes(60, range(2), seed=0)
        expected = slq.lanczos(A, start.T, 20, basis="float16")
        T = slq.lanczos(torch.as_tensor(A), torch.as_tensor(start.T.copy()), 20, basis="float16")
        assert_allclose(T.alpha, expected.alpha, atol=1e-12)
        krylov = HostKrylov(torch.as_tensor(start), torch)
        assert krylov.current.data_ptr() == krylov._rows[1].ctypes.data

    def test_any_library_keeps_the_past_coarsely(self, backend, symmetric):
        A = symmetric(60)
        T = slq.lanczos(backend.asarray(A), backend.asarray(np.ones(60)), 30, basis="float32")
        expected = slq.lanczos(A, np.ones(60), 30)
        assert_allclose(T.alpha, expected.alpha, atol=1e-12 if backend.is_double else 1e-4)

    def test_a_library_without_half_precision_says_so(self):
        strict = pytest.importorskip("array_api_strict")
        with pytest.raises(ValueError, match=r"`basis` cannot be 'float16': array_api_strict has no such dtype"):
            slq.lanczos(strict.eye(5), strict.ones(5), 2, basis="float16")

    def test_files_give_the_same_numbers_as_memory(self, symmetric, tmp_path):
        A = symmetric(60)
        T, expected = (slq.lanczos(A, np.ones(60), 40, scratch=place) for place in (tmp_path, None))
        assert_array_equal(T.alpha, expected.alpha)
        assert list(tmp_path.iterdir()) == []


def test_the_image_is_left_alone():
    images = np.ones((2, 6)) / 3
    krylov = HostKrylov(np.linalg.qr(np.random.default_rng(0).standard_normal((6, 2)))[0].T, np, storage=Storage())
    for _ in range(3):
        krylov.step(krylov.images(lambda _: images))
    assert_array_equal(images, 1 / 3)


def test_a_second_sweep_is_made_where_the_first_removed_much(monkeypatch, symmetric):
    calls = []

    class Counting(NumpySweeps):
        def dots(self, block, w):
            calls.append(len(w))
            return super().dots(block, w)

    monkeypatch.setattr(_host, "sweeps_for", lambda _: Counting())
    A, start = symmetric(50), probes(50, range(1), seed=0)
    krylov = HostKrylov(start, np, storage=Storage())
    for _ in range(6):
        calls.clear()
        krylov.step(krylov.images(lambda X: X @ A))
    assert len(calls) == 1
    calls.clear()
    krylov.step(start + 1e-3 * krylov.current)  # nearly all of it is in what is stored
    assert len(calls) == 2
    assert abs(np.sum(krylov.current * start)) < 1e-15


def test_compiled_passes_wait_for_work_that_pays(monkeypatch):
    pytest.importorskip("numba")
    assert isinstance(_sweeps.sweeps_for(100), NumpySweeps)
    assert isinstance(_sweeps.sweeps_for(10**9), CompiledSweeps)
    monkeypatch.setattr(_sweeps._numba, "usable", lambda: False)
    assert isinstance(_sweeps.sweeps_for(10**9), NumpySweeps)
