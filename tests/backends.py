"""The array libraries, devices and dtypes that the core must run on, each as one `Backend`."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import array_api_compat
import numpy as np
import pytest

NAMES = [
    "numpy",
    "read-only numpy",
    "array_api_strict",
    "array_api_strict without float64",
    "torch",
    "torch float32",
    "jax",
    pytest.param("jax float64", marks=pytest.mark.slow),  # it compiles every operation anew for every shape
    pytest.param("cupy", marks=pytest.mark.gpu),
]


@dataclass(frozen=True)
class Backend:
    """One array library on one device, with the floating dtype that tests use there."""

    name: str
    xp: Any
    device: Any
    dtype: Any
    read_only: bool = False

    @property
    def is_double(self):
        """Whether the dtype is float64."""
        return "float64" in str(self.dtype)

    @property
    def eps(self):
        """Unit in the last place of the dtype."""
        return float(np.finfo(np.float64 if self.is_double else np.float32).eps)

    @property
    def tolerance(self):
        """Relative error that results on this backend may have against float64 NumPy."""
        return 1e-10 if self.is_double else 1e-4

    def asarray(self, values, dtype=None):
        """Make an array of this library on its device, read-only if the backend is."""
        copy = np.array(values)
        array = self.xp.asarray(copy, dtype=self.dtype if dtype is None else dtype, device=self.device)
        if self.read_only:
            array.flags.writeable = False
        return array

    def to_numpy(self, x):
        """Copy an array of this library to NumPy; wrong libraries and devices raise."""
        if array_api_compat.array_namespace(x) is not self.xp:
            message = f"expected an array of {self.xp.__name__}, got {type(x).__name__}"
            raise TypeError(message)
        if array_api_compat.device(x) != self.device:
            message = f"expected an array on {self.device}, got one on {array_api_compat.device(x)}"
            raise ValueError(message)
        if array_api_compat.is_cupy_array(x):
            return x.get()
        if self.name.startswith("array_api_strict"):
            x = x.to_device(self.xp.Device("CPU_DEVICE"))
        return np.asarray(x).copy()

    def double(self):
        """Return the same library and device with float64."""
        return replace(self, dtype=self.xp.float64)


def switched(name):
    """Return the context in which a backend works: JAX knows float64 only where that is enabled."""
    if name == "jax float64":
        return pytest.importorskip("jax").enable_x64(True)
    return nullcontext()


@cache
def make_backend(name):
    """Build one of the backends, inside `switched(name)`; skip the test where it is not installed."""
    if name.endswith("numpy"):
        return _of(name, np.ones(1), read_only=name.startswith("read-only"))
    if name.startswith("array_api_strict"):
        xp = pytest.importorskip("array_api_strict")
        if name == "array_api_strict":
            return _of(name, xp.ones(1))
        try:
            return _of(name, xp.ones(1, dtype=xp.float32, device=xp.Device("no_float64")))
        except ValueError:
            pytest.skip("this version of array_api_strict has no device without float64")
    if name.startswith("torch"):
        torch = pytest.importorskip("torch")
        return _of(name, torch.ones(1, dtype=torch.float32 if name.endswith("32") else torch.float64))
    if name.startswith("jax"):
        return _of(name, pytest.importorskip("jax.numpy").ones(1))
    cupy = pytest.importorskip("cupy")
    if cupy.cuda.runtime.getDeviceCount() == 0:
        pytest.skip("there is no GPU")
    return _of(name, cupy.ones(1))


def _of(name, array, read_only=False):
    """Describe the backend that an array belongs to."""
    xp, device = array_api_compat.array_namespace(array), array_api_compat.device(array)
    return Backend(name, xp, device, array.dtype, read_only)
