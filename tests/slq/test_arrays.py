"""The small functions that hide the differences between array libraries."""

import os
import sys
from types import SimpleNamespace

import array_api_compat
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from slq import _arrays


class TestNamespaces:
    def test_an_array_tells_its_namespace_and_device(self, backend):
        x = backend.asarray([1.0, 2.0])
        assert _arrays.is_array(x)
        assert _arrays.namespace_of(x) is backend.xp
        assert _arrays.device_of(x) == backend.device

    @pytest.mark.parametrize("obj", [[1.0, 2.0], "text", None, 3.0, object()], ids=lambda obj: type(obj).__name__)
    def test_other_objects_are_no_arrays(self, obj):
        assert not _arrays.is_array(obj)

    def test_only_numpy_is_numpy(self, backend):
        assert _arrays.is_numpy(backend.xp) == backend.name.endswith("numpy")

    def test_a_bare_namespace_comes_back_wrapped(self, backend):
        bare = getattr(backend.xp, "_bare", None) or backend.xp
        assert _arrays.wrapped(bare) is backend.xp
        assert hasattr(_arrays.wrapped(bare), "matrix_transpose")

    def test_plain_numpy_and_torch_are_wrapped(self, torch):
        assert _arrays.wrapped(np) is array_api_compat.array_namespace(np.ones(1))
        assert _arrays.wrapped(torch) is array_api_compat.array_namespace(torch.ones(1))
        assert hasattr(_arrays.wrapped(torch), "astype")

    def test_a_dtype_tells_its_namespace(self, torch):
        for dtype in (np.float64, np.dtype(np.float32), "float32", float):
            assert _arrays.is_numpy(_arrays.namespace_of_dtype(dtype))
        assert _arrays.namespace_of_dtype(torch.float32).__name__ == "array_api_compat.torch"


class TestDtypes:
    def test_names_are_bare(self, backend):
        assert _arrays.dtype_name(backend.dtype) == ("float64" if backend.is_double else "float32")

    @pytest.mark.parametrize("dtype", [np.float32, np.dtype("float32"), "float32", ">f4"], ids=str)
    def test_numpy_spells_one_dtype_in_many_ways(self, dtype):
        assert _arrays.dtype_name(dtype) == "float32"

    def test_float64_stays_and_halves_are_widened(self, backend):
        assert _arrays.working_dtype(backend.dtype, backend.xp) == backend.dtype
        assert _arrays.working_dtype(np.float16, backend.xp) == backend.xp.float32

    def test_extended_precision_becomes_float64_and_not_float32(self):
        assert _arrays.working_dtype(np.longdouble, np) == np.float64

    def test_torch_halves_are_widened(self, torch):
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            assert _arrays.working_dtype(dtype, torch) == torch.float32

    def test_sums_are_in_float64_where_the_device_has_it(self, backend):
        accumulator = _arrays.accumulator_dtype(backend.xp, backend.device)
        without = backend.name.endswith("without float64") or (backend.name == "jax" and not backend.is_double)
        assert _arrays.dtype_name(accumulator) == ("float32" if without else "float64")
        x = backend.asarray([1.0, 2.0])
        assert float(backend.xp.sum(x, dtype=accumulator)) == 3.0

    def test_epsilon_is_that_of_the_dtype(self, backend):
        assert _arrays.epsilon(backend.dtype) == backend.eps

    def test_epsilon_of_halves_and_of_integers(self, torch):
        assert _arrays.epsilon(np.float16) == 2.0**-10
        assert _arrays.epsilon(np.int64) == 0.0
        assert _arrays.epsilon(torch.bfloat16) == torch.finfo(torch.bfloat16).eps
        assert _arrays.epsilon(torch.int32) == 0.0

    def test_item_sizes(self, backend):
        assert _arrays.itemsize(backend.dtype) == (8 if backend.is_double else 4)

    def test_a_cast_to_the_same_dtype_is_the_array_itself(self, backend):
        x = backend.asarray([1.0, 2.0])
        assert _arrays.cast(x, backend.dtype, backend.xp) is x
        assert _arrays.cast(x, backend.xp.float32, backend.xp).dtype == backend.xp.float32

    @pytest.mark.parametrize(("dtype", "safe"), [("float64", 1e100), ("float32", 1e6)])
    def test_ordinary_sizes_are_not_scaled_and_extreme_ones_by_a_power_of_two(self, dtype, safe):
        for size in (0.0, 1.0, 0.4 * safe, 3 / safe, np.inf, np.nan):
            assert _arrays.extreme_scale(size, dtype) == 1.0
        for size in (3 * safe, 0.3 / safe):
            scale = _arrays.extreme_scale(size, dtype)
            assert np.frexp(scale)[0] == 0.5
            assert scale <= size < 2 * scale

    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_a_scale_and_its_reciprocal_are_numbers_of_the_dtype(self, dtype):
        info = np.finfo(dtype)
        for size in (float(info.max), float(info.smallest_subnormal)):
            scale = dtype(_arrays.extreme_scale(size, dtype))
            reciprocal = dtype(1.0 / float(scale))
            assert scale >= info.tiny
            assert np.isfinite(reciprocal)
            assert reciprocal >= info.tiny


class TestCopies:
    def test_there_and_back_is_the_same(self, backend):
        values = np.array([[1.0, -2.5], [0.0, 3e20]])
        there = _arrays.from_host(values, backend.xp, dtype=backend.dtype, device=backend.device)
        assert there.dtype == backend.dtype
        back = _arrays.to_host(there)
        assert back.dtype == np.float64
        assert_array_equal(back, values.astype(np.float64 if backend.is_double else np.float32))
        assert_array_equal(backend.to_numpy(there), back)

    def test_read_only_and_reversed_arrays_go_there(self, backend):
        values = np.arange(6.0).reshape(2, 3)
        values.flags.writeable = False
        for view in (values, values[::-1], values.T[::2]):
            there = _arrays.from_host(view, backend.xp, dtype=backend.dtype, device=backend.device)
            assert_array_equal(backend.to_numpy(there), view)

    def test_integers_arrive_as_float64(self, backend):
        x = backend.asarray([1, 2], dtype=backend.xp.int32)
        assert _arrays.to_host(x).dtype == np.float64

    def test_tensors_that_follow_gradients_and_halves_arrive(self, torch):
        x = torch.tensor([1.0, 2.0], requires_grad=True) * 2
        assert_array_equal(_arrays.to_host(x), [2.0, 4.0])
        assert_array_equal(_arrays.to_host(torch.ones(2, dtype=torch.bfloat16)), [1.0, 1.0])

    def test_columns_become_rows(self, backend):
        columns = np.arange(6.0).reshape(3, 2)
        rows = _arrays.rows_of(backend.asarray(columns), backend.xp)
        assert_array_equal(backend.to_numpy(rows), columns.T)

    def test_rows_are_contiguous_and_without_a_graph(self, torch):
        assert _arrays.rows_of(np.ones((3, 2)), np).flags.c_contiguous
        rows = _arrays.rows_of(torch.ones(3, 2, requires_grad=True) * 2, _arrays.wrapped(torch))
        assert rows.is_contiguous()
        assert rows.grad_fn is None

    def test_an_assignment_returns_the_array_with_the_new_values(self, backend):
        if backend.read_only:
            pytest.skip("only arrays of the run's own are written to")
        x = backend.asarray(np.zeros((2, 3, 2)))
        x = _arrays.assign(x, (slice(None), 1, slice(None)), backend.asarray(np.ones((2, 2))))
        expected = np.zeros((2, 3, 2))
        expected[:, 1] = 1.0
        assert_array_equal(backend.to_numpy(x), expected)

    def test_free_memory_is_a_plausible_number_of_bytes(self, backend):
        assert 2.0**20 < _arrays.free_memory(backend.xp, backend.device) < 2.0**50


class TestDevices:
    """What is asked of a device, told by stand-ins that answer as its library does."""

    def test_free_memory_is_what_torch_says_of_a_gpu(self):
        asked = []
        cuda = SimpleNamespace(mem_get_info=lambda device: asked.append(device) or (7, 9))
        assert _arrays.free_memory(SimpleNamespace(cuda=cuda), "cuda:1") == 7.0
        assert asked == ["cuda:1"]

    def test_free_memory_is_what_cupy_says(self):
        runtime = SimpleNamespace(memGetInfo=lambda: (5, 9))
        assert _arrays.free_memory(SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)), "<CUDA Device 0>") == 5.0

    def test_free_memory_is_what_jax_says_of_an_accelerator(self):
        device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 9, "bytes_in_use": 6})
        assert _arrays.free_memory(np, device) == 3.0
        assert _arrays.free_memory(np, SimpleNamespace(memory_stats=lambda: None)) > 2.0**20

    def test_free_memory_is_4_gib_where_the_system_cannot_be_asked(self, monkeypatch):
        monkeypatch.delattr(os, "sysconf")
        assert _arrays.free_memory(np, "cpu") == 2.0**32

    def test_arrays_that_refuse_implicit_copies_are_asked_for_one(self):
        class Remote:
            dtype, __cuda_array_interface__ = np.dtype(np.float32), {}

            def get(self):
                return np.array([1.0, 2.0], dtype=np.float32)

        assert_array_equal(_arrays.to_host(Remote()), [1.0, 2.0])

    def test_a_result_is_waited_for_where_its_library_can(self):
        done = object()
        assert _arrays.waited(SimpleNamespace(block_until_ready=lambda: done)) is done
        assert _arrays.waited(x := np.ones(2)) is x

    @pytest.mark.parametrize("library", ["torch", "cupy"])
    def test_a_result_on_a_gpu_is_waited_for_on_its_stream(self, library, monkeypatch):
        waits = []
        stream = SimpleNamespace(synchronize=lambda: waits.append("done"))
        asked = {"torch": {"current_stream": lambda device: stream}, "cupy": {"get_current_stream": lambda: stream}}
        monkeypatch.setitem(sys.modules, "somewhere", SimpleNamespace(cuda=SimpleNamespace(**asked[library])))
        kind = type("Remote", (), {"__cuda_array_interface__": {}, "__module__": "somewhere", "device": 0})
        assert _arrays.waited(x := kind()) is x
        assert waits == ["done"]

    @pytest.mark.parametrize(
        ("error", "ran_out"),
        [
            (MemoryError(), True),
            (type("OutOfMemoryError", (Exception,), {})(), True),
            (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), True),
            (RuntimeError("shapes do not match"), False),
            (ValueError("out of memory"), False),
            (None, False),
        ],
    )
    def test_memory_that_ran_out_is_told_from_other_errors_and_seen_behind_them(self, error, ran_out):
        outer = RuntimeError("a run was ended")
        outer.__cause__ = error
        assert _arrays.out_of_memory(error) is ran_out
        assert _arrays.out_of_memory(outer) is ran_out
