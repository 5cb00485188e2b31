"""Arrays that do not belong together, that only plan, or that are too short: refused or handled, and said."""

import numpy as np
import pytest

import slq
from slq import RunError
from slq._operators._algebra import plus
from tests.backends import make_backend

N = 30
VALUES = np.linspace(1.0, 2.0, N)


def numpy_diagonal():
    return np.diag(VALUES)


class TestTwoLibraries:
    def test_a_product_that_comes_back_from_another_library_names_both(self, torch):
        A = torch.as_tensor(numpy_diagonal())
        operator = slq.as_operator(lambda v: A @ torch.as_tensor(v), n=N)
        with pytest.raises(RunError, match="product of an array of numpy on cpu came back as an array of torch on cpu"):
            slq.spectrum(operator, probes=1, steps=3)

    def test_a_block_that_comes_back_from_another_library_names_both(self, torch):
        operator = slq.as_operator(lambda X: numpy_diagonal() @ X.numpy(), n=N, like=torch.zeros(1), block=True)
        with pytest.raises(RunError, match="product of an array of torch on cpu came back as an array of numpy on cpu"):
            slq.spectrum(operator, probes=1, steps=3)

    def test_a_product_on_another_device_names_both(self):
        xp = pytest.importorskip("array_api_strict")
        elsewhere = xp.Device("device1")
        operator = slq.as_operator(lambda X: X.to_device(elsewhere), n=N, like=xp.zeros(1), block=True)
        with pytest.raises(RunError, match=r"strict on .*CPU_DEVICE.* came back as .*strict on .*device1"):
            slq.spectrum(operator, probes=1, steps=3)

    def test_what_is_no_array_is_named_by_its_type(self):
        class Disguised:
            shape, dtype = (N, 1), np.float64

        operator = slq.as_operator(lambda X: Disguised(), n=N, block=True)
        with pytest.raises(RunError, match="came back as a Disguised"):
            slq.spectrum(operator, probes=1, steps=3)

    def test_operators_of_two_libraries_cannot_be_added(self, torch):
        with pytest.raises(TypeError, match=r"torch.*numpy|numpy.*torch"):
            plus(torch.as_tensor(numpy_diagonal()), numpy_diagonal())


class TestLength:
    def test_float64_is_refused_where_the_device_has_none(self):
        A = make_backend("array_api_strict without float64").asarray(numpy_diagonal())
        with pytest.raises(ValueError, match=r"`dtype` is float64, but device .*no_float64.* longer than float32"):
            slq.spectrum(A, dtype="float64")

    def test_jax_without_float64_is_told_how_to_enable_it(self):
        jnp = pytest.importorskip("jax.numpy")
        with pytest.raises(ValueError, match=r"jax\.config\.update\('jax_enable_x64', True\)"):
            slq.spectrum(jnp.asarray(numpy_diagonal(), dtype=jnp.float32), dtype="float64")

    @pytest.mark.parametrize("dtype", ["float16", "int32", np.complex128])
    def test_vectors_are_float32_or_float64(self, dtype):
        with pytest.raises(ValueError, match="`dtype` must be float32 or float64, got"):
            slq.spectrum(numpy_diagonal(), dtype=dtype)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_halves_are_multiplied_in_float32_and_the_result_says_so(self, dtype, torch):
        stored = torch.as_tensor(numpy_diagonal()).to(getattr(torch, dtype))
        run = slq.spectrum(stored, probes=2, steps=10, rng=0)
        expected = slq.spectrum(stored.double(), probes=2, steps=10, rng=0)
        np.testing.assert_allclose(run.nodes, expected.nodes, atol=1e-5)
        assert f"{dtype} matrix, multiplied in float32" in str(run)

    def test_sparse_halves_are_converted(self, torch):
        stored = torch.as_tensor(numpy_diagonal()).half().to_sparse_coo()
        run = slq.spectrum(stored, probes=2, steps=10, rng=0)
        expected = slq.spectrum(stored.to_dense().double(), probes=2, steps=10, rng=0)
        np.testing.assert_allclose(run.nodes, expected.nodes, atol=1e-5)

    def test_rows_are_widened_some_at_a_time(self, monkeypatch):
        from slq import _arrays

        A = np.random.default_rng(0).standard_normal((N, N)).astype(np.float16)
        X = np.ones((N, 2), dtype=np.float32)
        monkeypatch.setattr(_arrays, "_WIDEN", 4 * N)
        np.testing.assert_allclose(_arrays.widened_product(A, np, X), A.astype(np.float32) @ X, rtol=1e-6)

    def test_a_matrix_of_bfloat16_in_jax(self):
        jnp = pytest.importorskip("jax.numpy")
        run = slq.spectrum(jnp.asarray(numpy_diagonal(), dtype=jnp.bfloat16), probes=1, steps=5, rng=0)
        assert "bfloat16 matrix, multiplied in float32" in str(run)


class TestArraysWithoutNumbers:
    def test_lazy_arrays_are_refused_with_the_reason(self):
        dask = pytest.importorskip("dask.array")
        with pytest.raises(TypeError, match=r"`A` is a dask array.*planned anew.*as_operator"):
            slq.as_operator(dask.from_array(numpy_diagonal()))

    def test_the_way_out_that_the_message_names_works(self):
        dask = pytest.importorskip("dask.array")
        A = dask.from_array(numpy_diagonal())
        operator = slq.as_operator(lambda X: (A @ X).compute(), n=A.shape[0], block=True)
        expected = slq.spectrum(numpy_diagonal(), probes=1, steps=5, rng=0).nodes
        np.testing.assert_allclose(slq.spectrum(operator, probes=1, steps=5, rng=0).nodes, expected, rtol=1e-12)

    def test_a_tensor_on_meta_is_refused(self, torch):
        with pytest.raises(ValueError, match="`tensor` is on device meta"):
            slq.as_operator(torch.zeros(3, 3, device="meta"))
