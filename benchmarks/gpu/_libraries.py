"""PyTorch and CuPy as the sections see them: how to move matrices to the device, wait for it, and ask for memory."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import scipy.sparse as sp


class Library(Protocol):
    """An array library on one device."""

    name: str
    device: str

    def about(self) -> str:
        """Name versions and device."""

    def array(self, values: Any) -> Any:
        """Copy a NumPy array to the device."""

    def sparse(self, matrix: Any, layout: str) -> Any:
        """Copy a SciPy matrix to the device as CSR, CSC or COO."""

    def layouts(self) -> list[str]:
        """Return the sparse layouts to try."""

    def wait(self) -> None:
        """Wait until the device has nothing left to do."""

    def peak(self, run: Callable[[], object]) -> float | None:
        """Return the bytes that a call took at its peak, None where nobody knows."""

    def unwaited(self, steps: Callable[[], object]) -> bool | None:
        """Tell whether a call returned without waiting for the device; None where that cannot be seen."""


class Torch:
    """PyTorch on a CUDA device, or on the CPU to try the script."""

    name = "torch"

    def __init__(self, device: str) -> None:
        import torch

        self.torch, self.device = torch, device

    def about(self) -> str:
        own = self.torch.cuda.get_device_name() if self.device == "cuda" else "CPU"
        return f"{self.torch.__version__} on {own}"

    def array(self, values: Any) -> Any:
        return self.torch.asarray(values.copy(), device=self.device)

    def sparse(self, matrix: Any, layout: str) -> Any:
        coo = sp.coo_array(matrix)
        indices = self.torch.stack([self.array(coo.row), self.array(coo.col)])
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        tensor = self.torch.sparse_coo_tensor(indices, self.array(coo.data), coo.shape, check_invariants=False)
        return tensor.coalesce() if layout == "coo" else tensor.to_sparse_csr()

    def layouts(self) -> list[str]:
        return ["csr", "coo"]

    def wait(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def peak(self, run: Callable[[], object]) -> float | None:
        if self.device != "cuda":
            return None
        self.torch.cuda.empty_cache()
        self.torch.cuda.reset_peak_memory_stats()
        before = self.torch.cuda.memory_allocated()
        run()
        return float(self.torch.cuda.max_memory_allocated() - before)

    def unwaited(self, steps: Callable[[], object]) -> bool | None:
        if self.device != "cuda":
            return None
        self.wait()
        self.torch.cuda.set_sync_debug_mode("error")
        try:
            steps()
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            return False
        finally:
            self.torch.cuda.set_sync_debug_mode("default")
        return True


class CuPy:
    """CuPy on the current CUDA device."""

    name, device = "cupy", "cuda"
    # Keeps a stream busy for a while: whatever waits for the stream returns after it.
    _SPIN = """extern "C" __global__ void spin(long long ticks)
    { const long long end = clock64() + ticks; while (clock64() < end) {} }"""
    _TICKS = 3_000_000_000  # more than a second on any card

    def __init__(self) -> None:
        import cupy
        import cupyx.scipy.sparse

        self.cupy, self._sparse = cupy, cupyx.scipy.sparse

    def about(self) -> str:
        properties = self.cupy.cuda.runtime.getDeviceProperties(self.cupy.cuda.Device().id)
        return f"{self.cupy.__version__} on {properties['name'].decode()}"

    def array(self, values: Any) -> Any:
        return self.cupy.asarray(values)

    def sparse(self, matrix: Any, layout: str) -> Any:
        makers = {"csr": self._sparse.csr_matrix, "csc": self._sparse.csc_matrix, "coo": self._sparse.coo_matrix}
        return makers[layout](matrix.asformat(layout))

    def layouts(self) -> list[str]:
        return ["csr", "csc", "coo"]

    def wait(self) -> None:
        self.cupy.cuda.Device().synchronize()

    def peak(self, run: Callable[[], object]) -> float | None:
        pool = self.cupy.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.used_bytes()
        run()
        return float(pool.total_bytes() - before)  # the pool keeps what it once held

    def unwaited(self, steps: Callable[[], object]) -> bool | None:
        spin = self.cupy.RawKernel(self._SPIN, "spin")
        spin((1,), (1,), (self.cupy.int64(0),))
        self.wait()
        spin((1,), (1,), (self.cupy.int64(self._TICKS),))
        busy = self.cupy.cuda.get_current_stream().record()
        steps()
        returned_first = not busy.done
        self.wait()
        return returned_first


def found(device: str) -> tuple[list[Library], list[str]]:
    """Return the libraries that can be used on a device, and why the others cannot."""
    libraries: list[Library] = []
    missing = []
    for name, make, count in (("torch", lambda: Torch(device), _torch_devices), ("cupy", CuPy, _cupy_devices)):
        if device == "cpu" and name == "cupy":
            missing.append("CuPy needs a CUDA device")
            continue
        try:
            if device == "cpu" or count() > 0:
                libraries.append(make())
            else:
                missing.append(f"{name} sees no CUDA device")
        except ImportError as error:
            missing.append(f"{name} cannot be imported ({error})")
        except Exception as error:
            missing.append(f"{name} cannot reach a CUDA device ({type(error).__name__})")
    return libraries, missing


def _torch_devices() -> int:
    import torch

    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def _cupy_devices() -> int:
    import cupy

    return int(cupy.cuda.runtime.getDeviceCount())


def seconds(library: Library, call: Callable[[], object], rounds: int) -> float:
    """Return the median seconds of a call, the device's work included, after one call that is not timed."""
    times = []
    for _ in range(rounds + 1):
        library.wait()
        began = perf_counter()
        call()
        library.wait()
        times.append(perf_counter() - began)
    return statistics.median(times[1:])
