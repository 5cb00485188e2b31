"""Whole runs through the kernels, on the CPU: the same numbers as NumPy's, on one device and on several."""

from dataclasses import replace

import numpy as np
import pytest

import slq
from tests.faults import Stop

EXACT = {"float64": 1e-10, "float32": 1e-4}
SETTINGS = {"probes": 3, "steps": 18, "rng": 0}


def assert_same(found, expected, atol):
    np.testing.assert_allclose(found.nodes, expected.nodes, rtol=0, atol=atol)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=0, atol=atol)
    assert found.products == expected.products
    assert found.status == expected.status


@pytest.mark.parametrize("dtype", list(EXACT))
@pytest.mark.parametrize("reorth", ["full", "none"])
def test_nodes_and_weights_are_those_of_numpy(on_host, laplacian, reorth, dtype):
    A = laplacian.astype(dtype)
    found = slq.spectrum(on_host.csr(A), reorth=reorth, **SETTINGS)

    assert_same(found, slq.spectrum(A, reorth=reorth, **SETTINGS), EXACT[dtype])
    assert found.metadata["devices"] == [0]


def test_a_tolerance_takes_the_same_way(on_host):
    values = np.append(np.linspace(0.0, 1.0, 120), [3.0, 5.0])
    q, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((122, 122)))
    A = (q * values) @ q.T
    found = slq.spectrum(on_host.cupy.asarray(A), tol=0.08, rng=0)

    assert_same(found, slq.spectrum(A, tol=0.08, rng=0), 1e-8)


def test_eigenvectors_are_projected_out_of_later_probes(on_host):
    values = np.append(np.linspace(0.0, 1.0, 198), [30.0, 50.0])
    settings = {"probes": 6, "steps": 17, "rng": 0, "batch": 2}
    A = np.diag(values)
    found = slq.spectrum(on_host.cupy.asarray(A), **settings)
    expected = slq.spectrum(A, **settings)

    assert found.deflated.size == expected.deflated.size > 0
    assert_same(found, expected, 1e-8)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_extreme_scales_are_divided_out(on_host, laplacian, scale):
    found = slq.spectrum(on_host.csr(laplacian * scale), **SETTINGS)

    np.testing.assert_allclose(found.nodes / scale, slq.spectrum(laplacian, **SETTINGS).nodes, atol=1e-10)


@pytest.mark.parametrize("devices", [None, [0, 1]])
def test_a_probe_that_ends_early_leaves_the_others_alone(on_host, devices):
    A, v = np.diag(np.arange(1.0, 31.0)), np.ones((30, 3))
    v[:, 1] = np.eye(30)[4]
    operator = on_host.slq_cupy.matrix(on_host.cupy.asarray(A), devices=devices)
    found, expected = slq.lanczos(operator, on_host.cupy.asarray(v), 12), slq.lanczos(A, v, 12)

    assert found.lengths.tolist() == expected.lengths.tolist() == [12, 1, 12]
    np.testing.assert_allclose(found.alpha, expected.alpha, atol=1e-10)
    np.testing.assert_allclose(found.beta, expected.beta, atol=1e-10)


@pytest.mark.parametrize("reorth", ["full", "none"])
def test_two_devices_give_the_numbers_of_one_to_the_bit(on_host, laplacian, reorth):
    A = on_host.csr(laplacian)
    one = slq.spectrum(A, reorth=reorth, deflate="none", **SETTINGS)
    two = slq.spectrum(on_host.slq_cupy.matrix(A, devices=[0, 1]), reorth=reorth, deflate="none", **SETTINGS)

    np.testing.assert_array_equal(two.alpha, one.alpha)
    np.testing.assert_array_equal(two.beta, one.beta)
    assert two.metadata["devices"] == [0, 1]


def test_one_probe_on_two_devices_uses_the_first(on_host, laplacian):
    A = on_host.slq_cupy.matrix(on_host.csr(laplacian), devices=[0, 1])
    s = slq.spectrum(A, probes=1, steps=8, rng=0)

    np.testing.assert_allclose(s.nodes, slq.spectrum(laplacian, probes=1, steps=8, rng=0).nodes, atol=1e-10)


def test_asymmetry_is_seen_across_devices(on_host, laplacian):
    import scipy.sparse as sp

    A = on_host.slq_cupy.matrix(on_host.csr(sp.csr_matrix(sp.triu(laplacian) * 1.0)), devices=[0, 1])
    with pytest.warns(slq.SlqWarning, match="not symmetric"):
        slq.spectrum(A, probes=2, steps=8, rng=0)


@pytest.mark.parametrize(("precision", "atol"), [("float64", 1e-10), ("float32", 1e-10), ("float16", 1e-6)])
def test_past_vectors_of_a_shorter_dtype_keep_ghosts_away(on_host, precision, atol):
    A = np.diag(np.append(np.linspace(0.0, 1.0, 198), [30.0, 50.0]))
    operator = slq.as_operator(on_host.cupy.asarray(A))
    own = operator.krylov
    coarse = replace(operator, krylov=lambda start, **options: own(start, **options | {"precision": precision}))
    settings = {"probes": 1, "steps": 36, "rng": 0}
    found = slq.spectrum(coarse, reorth="full", **settings).nodes
    without = slq.spectrum(A, reorth="none", **settings).nodes

    assert np.sum(found[0] > 20) == 2 < np.sum(without[0] > 20)
    np.testing.assert_allclose(found, slq.spectrum(A, reorth="full", **settings).nodes, atol=atol)


@pytest.mark.parametrize("devices", [[0], [0, 1]])
def test_what_coarse_vectors_let_in_is_measured(on_host, laplacian, devices):
    v = np.random.default_rng(0).standard_normal((2, 500))
    start = on_host.cupy.asarray(v / np.linalg.norm(v, axis=1, keepdims=True))
    operator = slq.as_operator(on_host.slq_cupy.matrix(on_host.csr(laplacian), devices=devices))
    drifts = {}
    for precision in (None, "float32", "float16"):
        krylov = operator.krylov(start, reorth=True, precision=precision)
        for _ in range(6):
            krylov.step(krylov.images(lambda rows: operator.product(rows.T).T))
        drifts[precision] = krylov.drift

    assert drifts[None] == 0.0
    assert 1e-9 < drifts["float32"] < 1e-6 < 1e-5 < drifts["float16"] < 1e-2


@pytest.mark.parametrize("reorth", ["full", "none"])
@pytest.mark.parametrize("devices", [[0], [0, 1]])
def test_the_host_waits_once_in_eight_steps(on_host, laplacian, reorth, devices):
    from slq._lanczos._lanczos import LanczosRun

    operator = slq.as_operator(on_host.slq_cupy.matrix(on_host.csr(laplacian), devices=devices))
    v = np.random.default_rng(0).standard_normal((2, 500))
    start = on_host.cupy.asarray(v / np.linalg.norm(v, axis=1, keepdims=True))
    run = LanczosRun(operator, start, reorth=reorth)
    run.advance(8)
    before = on_host.waits.total()
    run.advance(16)

    assert on_host.waits.total() - before == 2
    assert on_host.waits["get"] >= 2


def test_a_batch_that_does_not_fit_into_the_device_is_halved(on_host):
    A = np.diag(np.arange(1.0, 31.0))

    def matmat(X):
        if X.shape[1] > 2:
            raise on_host.OutOfMemoryError
        return A_there @ X

    A_there = on_host.cupy.asarray(A)
    found = slq.spectrum(on_host.LinearOperator(A.shape, matmat, "float64"), probes=4, steps=6, rng=0)

    assert found.status == "as asked; memory ran out with 4 columns at once, 2 from then on"
    np.testing.assert_allclose(found.nodes, slq.spectrum(A, probes=4, steps=6, rng=0).nodes, atol=1e-10)


@pytest.mark.parametrize("options", [{"reorth": "none"}, {"reorth": "full"}, {"reorth": "full", "basis": "float16"}])
def test_a_run_that_is_interrupted_goes_on_to_the_same_bits(on_host, laplacian, options, tmp_path, monkeypatch):
    A = on_host.csr(laplacian)
    whole = slq.spectrum(A, **SETTINGS, **options)
    for after in (1, 7, 12):
        path = tmp_path / f"{after}.npz"
        Stop(after).install(monkeypatch)
        assert slq.spectrum(A, **SETTINGS, **options, checkpoint=path).status == "interrupted"
        seen = []
        again = slq.spectrum(A, **SETTINGS, **options, checkpoint=path, callback=lambda s, seen=seen: seen.append(s))
        np.testing.assert_array_equal(again.alpha, whole.alpha)
        np.testing.assert_array_equal(again.beta, whole.beta)
        assert (again.products, again.metadata["resumed"]) == (whole.products, 1)
