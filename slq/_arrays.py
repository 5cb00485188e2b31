"""The one door to array libraries: namespace, dtype, device, copies to and from the host.

Nothing else in slq imports array_api_compat. Device arrays come in as objects of their own library and leave as
NumPy float64 arrays; no mathematics happens here.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt

# Arrays of any library: their types have no common base, the Python array API standard is structural.
Array = Any
Floats = npt.NDArray[np.float64]

# Module of a dtype object -> the namespace that array_api_compat wraps it in.
_WRAPPED = {"numpy", "torch", "cupy"}
# Names of floating dtypes begin so; of those that are widened to float32 for Krylov vectors, so.
_FLOATING = ("float", "bfloat")
_HALF = ("float8", "float16", "bfloat16")
_SHORT = (*_HALF, "float32", "complex64")
# Entries of a half-precision matrix that are widened at a time: they should stay in the cache.
_WIDEN = 2**20
_OUT_OF_MEMORY = ("out of memory", "RESOURCE_EXHAUSTED", "ALLOC_FAILED", "can't allocate memory", "not enough memory")
# Squares of entries beyond 10**±these may leave the range of the dtype, with room for eigenvectors that stand out of
# n = 1e8 entries and for residuals down to a rounding; powers of two beyond ±these have no reciprocal in it.
_SAFE_EXPONENT = {"float64": 100, "float32": 6}
_LAST_POWER = {"float64": 1000, "float32": 120}


def is_array(obj: object) -> bool:
    """Tell whether `obj` is an array of a library that array_api_compat knows or that names its own namespace."""
    return bool(array_api_compat.is_array_api_obj(obj))


def namespace_of(x: Array) -> Any:
    """Return the array-API namespace of an array."""
    return array_api_compat.array_namespace(x)


def namespace_of_dtype(dtype: Any) -> Any:
    """Return the namespace that a dtype object belongs to; NumPy where the dtype names no library."""
    module = type(dtype).__module__.split(".")[0]
    if module not in _WRAPPED:
        module = "numpy"
    return importlib.import_module(f"array_api_compat.{module}")


def wrapped(xp: Any) -> Any:
    """Return a namespace as array_api_compat gives it, with the standard's names that the library itself lacks."""
    return namespace_of(xp.zeros(1))


def device_of(x: Array) -> Any:
    """Return the device that an array lives on."""
    return array_api_compat.device(x)


def is_numpy(xp: Any) -> bool:
    """Tell whether a namespace is NumPy's."""
    return bool(array_api_compat.is_numpy_namespace(xp))


def is_jax(xp: Any) -> bool:
    """Tell whether a namespace is JAX's, whose arrays cannot be changed and whose float64 must be asked for."""
    return bool(array_api_compat.is_jax_namespace(xp))


def dtype_name(dtype: Any) -> str:
    """Return the bare name of a dtype: 'float32' for numpy.float32, torch.float32 and their like."""
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        return str(dtype).rsplit(".", maxsplit=1)[-1]


def is_floating(dtype: Any) -> bool:
    """Tell whether a dtype is a real floating one, by its name."""
    return dtype_name(dtype).startswith(_FLOATING)


def is_complex(dtype: Any) -> bool:
    """Tell whether a dtype is a complex one, by its name."""
    return dtype_name(dtype).startswith("complex")


def is_half(dtype: Any) -> bool:
    """Tell whether a dtype is shorter than float32, by its name: long enough to store numbers, not to add them."""
    return dtype_name(dtype).startswith(_HALF)


def is_deferred(obj: object) -> bool:
    """Tell whether `obj` is an array of a library that only plans computations (dask)."""
    return bool(array_api_compat.is_dask_array(obj))


def home(x: Any) -> str:
    """Say in words what array `x` is and where it lives; two arrays can be combined where this is the same."""
    if not is_array(x):
        return f"a {type(x).__name__}"
    xp = namespace_of(x)
    place = "" if is_jax(xp) else f" on {device_of(x)}"  # JAX moves arrays by itself, and may spread one over devices
    return f"an array of {library(xp)}{place}"


def library(xp: Any) -> str:
    """Return the name of the library that a namespace belongs to: 'numpy', 'torch', 'jax'."""
    return str(xp.__name__).removeprefix("array_api_compat.").split(".")[0]


def widened_product(matrix: Array, xp: Any, X: Array) -> Array:
    """Return a half-precision matrix times a float32 block, exact to float32's rounding, some rows at a time."""
    rows = max(1, _WIDEN // matrix.shape[1])
    pieces = [xp.matmul(cast(matrix[i : i + rows, :], X.dtype, xp), X) for i in range(0, matrix.shape[0], rows)]
    return pieces[0] if len(pieces) == 1 else xp.concat(pieces, axis=0)


def working_dtype(dtype: Any, xp: Any) -> Any:
    """Return the real dtype of Krylov vectors for an operator of `dtype`: float32 for all up to that, else float64."""
    return xp.float32 if dtype_name(dtype).startswith(_SHORT) else xp.float64


def complex_dtype(dtype: Any, xp: Any) -> Any:
    """Return the complex dtype whose real and imaginary parts have the working precision of `dtype`."""
    return xp.complex64 if dtype_name(working_dtype(dtype, xp)) == "float32" else xp.complex128


def accumulator_dtype(xp: Any, device: Any) -> Any:
    """Return float64 where the device has it, else float32: the dtype in which dot products are summed."""
    info = xp.__array_namespace_info__()
    kinds = info.dtypes(device=device, kind="real floating")
    return kinds.get("float64", xp.float32)


def epsilon(dtype: Any) -> float:
    """Return the unit in the last place of 1 of a floating dtype, by its name; 0 for integers, which are exact."""
    name = dtype_name(dtype)
    if name == "bfloat16":  # unknown to NumPy
        return 2.0**-7
    return float(np.finfo(name).eps) if is_floating(dtype) or is_complex(dtype) else 0.0


def extreme_scale(size: float, dtype: Any) -> float:
    """Return a power of two near `size` where squares of entries would overflow or underflow, else 1."""
    if not np.isfinite(size) or size == 0:
        return 1.0
    name, exponent = dtype_name(np.finfo(dtype_name(dtype)).dtype), int(np.floor(np.log2(size)))
    if abs(exponent) <= _SAFE_EXPONENT[name] * np.log2(10):
        return 1.0
    return 2.0 ** int(np.clip(exponent, -_LAST_POWER[name], _LAST_POWER[name]))


def underflow(n: int, size: float, dtype: Any) -> float:
    """Return the relative error of a product of n terms of that size whose rounding stops at subnormal numbers."""
    quantum = float(np.finfo(dtype_name(dtype)).smallest_subnormal) if dtype_name(dtype) != "bfloat16" else 2.0**-133
    return float(2.0 * np.sqrt(n) * quantum / size) if 0 < size < np.inf else 0.0


def itemsize(dtype: Any) -> int:
    """Return the bytes of one number of a floating dtype, by its name."""
    return int(np.dtype(dtype_name(dtype)).itemsize)


def free_memory(xp: Any, device: Any) -> float:
    """Return the bytes free on a device; 4 GiB where that cannot be asked."""
    name = str(device)
    if name.startswith("cuda") and hasattr(xp, "cuda"):
        return float(xp.cuda.mem_get_info(device)[0])
    if hasattr(xp, "cuda") and hasattr(xp.cuda, "runtime"):  # cupy
        return float(xp.cuda.runtime.memGetInfo()[0])
    if hasattr(device, "memory_stats") and (stats := device.memory_stats()):  # jax; None on the CPU
        return float(stats["bytes_limit"] - stats["bytes_in_use"])
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 4.0 * 2**30


def out_of_memory(error: BaseException | None) -> bool:
    """Tell whether memory ran out, on the host or on a device, by an error of any library or by what caused it."""
    while error is not None:
        # CuPy's and PyTorch's classes have this name; XLA, cuBLAS and PyTorch's CPU allocator only say so.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def to_host(x: Array) -> Floats:
    """Copy an array of any library to a NumPy float64 array; to a complex128 array where it is complex."""
    longest: Any = np.complex128 if is_complex(x.dtype) else np.float64
    if hasattr(x, "detach"):  # torch: leave the graph and the device first
        x = x.detach().cpu().resolve_conj()
        return np.asarray(x.double() if x.dtype.itemsize < 8 else x, dtype=longest)
    if hasattr(x, "get") and hasattr(x, "__cuda_array_interface__"):  # cupy refuses implicit copies
        x = x.get()
    try:
        return np.asarray(x, dtype=longest)
    except RuntimeError:  # a device other than the CPU: ask for the copy
        return np.asarray(np.from_dlpack(x), dtype=longest)


def to_host_exactly(x: Array) -> npt.NDArray[Any]:
    """Copy an array of any library to a NumPy array of its own dtype, one that NumPy has."""
    return to_host(x).astype(np.dtype(dtype_name(x.dtype)), copy=False)


def from_host(x: npt.NDArray[Any], xp: Any, *, dtype: Any, device: Any) -> Array:
    """Copy a NumPy array to a library's device in the given dtype."""
    # torch takes neither negative strides nor, without a warning, arrays that cannot be written to.
    return xp.asarray(np.require(x, requirements=["C", "W"]), dtype=dtype, device=device)


def host_view(x: Array) -> Any:
    """Return the NumPy array that shares an array's memory; None where it lives elsewhere or shares none."""
    if isinstance(x, np.ndarray):
        return x
    if type(x).__module__.split(".")[0] == "torch" and x.device.type == "cpu":
        return x.detach().numpy()
    return None


def from_view(x: npt.NDArray[Any], xp: Any) -> Array:
    """Return a NumPy array as one of a library that `host_view` knows, sharing its memory."""
    return x if is_numpy(xp) else xp.from_numpy(x)


def waited(x: Any) -> Any:
    """Return what a product gave, when its device is done with it."""
    if hasattr(x, "block_until_ready"):  # jax
        return x.block_until_ready()
    if hasattr(x, "__cuda_array_interface__"):  # of torch and CuPy
        cuda: Any = importlib.import_module(type(x).__module__.split(".")[0]).cuda
        stream = cuda.current_stream(x.device) if hasattr(cuda, "current_stream") else cuda.get_current_stream()
        stream.synchronize()
    return x


def cast(x: Array, dtype: Any, xp: Any) -> Array:
    """Return `x` in `dtype`, itself where it already is."""
    return xp.astype(x, dtype, copy=False)


def rows_of(columns: Array, xp: Any) -> Array:
    """Turn an (n, b) block into (b, n) rows, contiguous where the library knows memory order, without a graph."""
    rows = columns.T
    if is_numpy(xp):
        return np.ascontiguousarray(rows)
    return rows.detach().contiguous() if hasattr(rows, "detach") else rows


def as_complex(rows: Array, dtype: Any, xp: Any) -> Array:
    """Return contiguous (b, 2 n) rows of alternating real and imaginary parts as (b, n) complex rows."""
    if is_numpy(xp):
        return rows.view(dtype)
    pairs = xp.reshape(rows, (rows.shape[0], -1, 2))
    if hasattr(xp, "view_as_complex"):  # torch: without a copy
        return xp.view_as_complex(pairs)
    return xp.astype(pairs[:, :, 0], dtype) + 1j * xp.astype(pairs[:, :, 1], dtype)


def as_pairs(rows: Array, xp: Any) -> Array:
    """Return (b, n) complex rows as contiguous (b, 2 n) rows of alternating real and imaginary parts."""
    if is_numpy(xp):
        return np.ascontiguousarray(rows).view(rows.real.dtype)
    return xp.reshape(xp.stack([xp.real(rows), xp.imag(rows)], axis=-1), (rows.shape[0], -1))


def times_i(rows: Array, xp: Any) -> Array:
    """Return rows of alternating real and imaginary parts multiplied by the imaginary unit."""
    pairs = xp.reshape(rows, (rows.shape[0], -1, 2))
    return xp.reshape(xp.stack([-pairs[:, :, 1], pairs[:, :, 0]], axis=-1), tuple(rows.shape))


def assign(target: Array, index: Any, value: Array) -> Array:
    """Write `value` into `target[index]` and return the result; a new array where arrays are immutable."""
    if hasattr(target, "at"):  # jax
        return target.at[index].set(value)
    target[index] = value
    return target
