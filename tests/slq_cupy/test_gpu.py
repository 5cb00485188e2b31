"""What only a GPU can show: kernels as NVRTC compiles them, cuBLAS and cuSPARSE, streams, memory, several devices."""

from dataclasses import replace

import numpy as np
import pytest

import slq

pytestmark = pytest.mark.gpu

SETTINGS = {"probes": 3, "steps": 24, "rng": 0, "deflate": "none"}
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}


@pytest.fixture
def cupy():
    module = pytest.importorskip("cupy")
    try:
        devices = module.cuda.runtime.getDeviceCount()
    except module.cuda.runtime.CUDARuntimeError:
        devices = 0
    if devices == 0:
        pytest.skip("there is no GPU")
    return module


def there(cupy, A, kind):
    """Copy a SciPy matrix to the device."""
    sparse = pytest.importorskip("cupyx.scipy.sparse")
    if kind == "dense":
        return cupy.asarray(A.toarray())
    return getattr(sparse, f"{kind}_matrix")(A.asformat(kind))


def assert_same(found, expected, dtype):
    np.testing.assert_allclose(found.nodes, expected.nodes, rtol=0, atol=TOLERANCES[dtype])
    np.testing.assert_allclose(found.weights, expected.weights, rtol=0, atol=TOLERANCES[dtype])


@pytest.mark.parametrize("kind", ["dense", "csr", "csc", "coo"])
@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("reorth", ["full", "none"])
def test_numbers_are_those_of_numpy(cupy, laplacian, kind, dtype, reorth):
    A = laplacian.astype(dtype)
    found = slq.spectrum(there(cupy, A, kind), reorth=reorth, **SETTINGS)

    assert_same(found, slq.spectrum(A, reorth=reorth, **SETTINGS), dtype)


def test_a_linear_operator_multiplies_on_the_device(cupy, laplacian):
    linalg = pytest.importorskip("cupyx.scipy.sparse.linalg")
    A = there(cupy, laplacian, "csr")
    L = linalg.LinearOperator(A.shape, matvec=lambda v: A @ v, matmat=lambda X: A @ X, dtype=A.dtype)

    assert_same(slq.spectrum(L, **SETTINGS), slq.spectrum(laplacian, **SETTINGS), "float64")


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_basis_of_a_shorter_dtype_keeps_ghosts_away(cupy, precision):
    A = slq.as_operator(cupy.diag(cupy.asarray(np.append(np.linspace(0.0, 1.0, 998), [30.0, 50.0]))))
    coarse = replace(A, krylov=lambda start, **options: A.krylov(start, **options | {"precision": precision}))
    s = slq.spectrum(coarse, probes=1, steps=60, rng=0, reorth="full")

    assert np.sum(s.nodes > 20) == 2


@pytest.mark.parametrize("reorth", ["full", "none"])
def test_steps_return_while_the_device_is_still_busy(cupy, laplacian, reorth):
    from slq._lanczos._lanczos import LanczosRun

    code = """extern "C" __global__ void spin(long long ticks)
    { const long long end = clock64() + ticks; while (clock64() < end) {} }"""
    spin = cupy.RawKernel(code, "spin")
    v = cupy.asarray(np.random.default_rng(0).standard_normal((2, 500)) / np.sqrt(500))
    run = LanczosRun(slq.as_operator(there(cupy, laplacian, "csr")), v, reorth=reorth)
    run.advance(20)  # kernels are compiled, blocks for further vectors are there
    spin((1,), (1,), (np.int64(0),))
    cupy.cuda.Device().synchronize()
    spin((1,), (1,), (np.int64(3_000_000_000),))
    busy = cupy.cuda.get_current_stream().record()
    for _ in range(4):
        run._step()

    assert not busy.done


def test_two_devices_give_the_numbers_of_one(cupy, laplacian):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one GPU")
    slq_cupy = pytest.importorskip("slq_cupy")
    A = there(cupy, laplacian, "csr")
    two = slq.spectrum(slq_cupy.matrix(A, devices=[0, 1]), **SETTINGS)

    assert_same(two, slq.spectrum(A, **SETTINGS), "float64")


def test_a_batch_that_does_not_fit_is_halved(cupy, laplacian):
    linalg = pytest.importorskip("cupyx.scipy.sparse.linalg")
    A = there(cupy, laplacian, "csr")

    def matmat(X):
        if X.shape[1] > 2:
            cupy.empty(2**50)
        return A @ X

    L = linalg.LinearOperator(A.shape, matvec=lambda v: A @ v, matmat=matmat, dtype=A.dtype)
    s = slq.spectrum(L, **SETTINGS | {"probes": 4})

    assert s.status == "as asked; memory ran out with 4 columns at once, 2 from then on"
