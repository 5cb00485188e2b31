"""Stand-ins for the modules `cupy` and `cupyx`: arrays of NumPy that behave like a GPU's where it matters.

An array knows its device, and an operation refuses arrays that are not on the current one. It becomes a number, a truth
value or a NumPy array only by ways that wait for a GPU, and each of these is counted. Of CuPy's functions there are as
many as array_api_compat asks for; what they compute is NumPy's.
"""

import sys
import threading
import types
from collections import Counter

import numpy as np
import scipy.sparse

WAITS = Counter()
_local = threading.local()
_BOTH = "add sub mul truediv floordiv mod pow matmul lt le gt ge eq ne and or xor"


def here():
    """Return the number of the current device."""
    return getattr(_local, "device", 0)


class Device:
    """A CUDA device, current within `with`."""

    def __init__(self, number=None):
        self.id = here() if number is None else int(getattr(number, "id", number))

    def __enter__(self):
        self._before, _local.device = here(), self.id
        return self

    def __exit__(self, *error):
        _local.device = self._before

    def synchronize(self):
        WAITS["synchronize"] += 1

    def __eq__(self, other):
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self):
        return hash(self.id)

    def __str__(self):
        return f"<CUDA Device {self.id}>"


class Stream:
    """A stream that has nothing to wait for; events are noted with the device that recorded them."""

    def record(self):
        return types.SimpleNamespace(device=here(), done=False)

    def wait_event(self, event):
        assert event.device in (0, 1)


class ndarray:
    """An array on a device."""

    __module__ = "cupy"
    __array_priority__ = 100
    __array_ufunc__ = None

    def __init__(self, data, device=None):
        self._data, self.device = data, Device(device)

    def on_host(self):
        """Return the NumPy array behind it, as a kernel launched on the current device sees it."""
        assert self.device.id == here(), f"an array of device {self.device.id} used on device {here()}"
        return self._data

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape}

    def get(self):
        WAITS["get"] += 1
        return self._data.copy()

    def item(self):
        WAITS["item"] += 1
        return self._data.item()

    def __float__(self):
        WAITS["float"] += 1
        return float(self._data)

    def __bool__(self):
        WAITS["bool"] += 1
        return bool(self._data)

    def __int__(self):
        WAITS["int"] += 1
        return int(self._data)

    def __array__(self, *args, **kwargs):
        msg = "Implicit conversion to a NumPy array is not allowed."
        raise TypeError(msg)

    def copy(self, order="C"):
        return ndarray(self._data.copy(order=order))  # on the current device, wherever it comes from

    def astype(self, dtype, copy=True, order="K"):
        changed = self._data.astype(dtype, copy=copy, order=order)
        return self if changed is self._data else ndarray(changed, self.device)

    def __getitem__(self, key):
        return wrap(self._data[unwrap(key)], self.device)

    def __setitem__(self, key, value):
        self.on_host()[unwrap(key)] = unwrap(value)

    def __len__(self):
        return len(self._data)

    def __neg__(self):
        return ndarray(-self.on_host())

    def __abs__(self):
        return ndarray(abs(self.on_host()))

    def __getattr__(self, name):
        value = getattr(self._data, name)
        if not callable(value):
            return ndarray(value, self.device) if isinstance(value, np.ndarray) else value
        return lambda *args, **kwargs: wrap(getattr(self.on_host(), name)(*unwrap(args), **unwrap(kwargs)))


def _operation(name):
    def method(self, other):
        if isinstance(other, (np.ndarray, np.generic)) and np.ndim(other):
            msg = f"Unsupported type {type(other)}"
            raise TypeError(msg)
        return wrap(getattr(self.on_host(), name)(unwrap(other)))

    return method


for _name in _BOTH.split():
    for _method in (f"__{_name}__", f"__r{_name}__", f"__i{_name}__"):
        if hasattr(np.ndarray, _method):
            setattr(ndarray, _method, _operation(_method))


def _in_place(name):
    def method(self, other):
        getattr(self.on_host(), name)(unwrap(other))
        return self

    return method


for _name in ["add", "sub", "mul", "truediv"]:
    setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))


def wrap(value, device=None):
    """Put what NumPy returned on a device."""
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, tuple) and type(value) is not tuple:
        return type(value)(*(wrap(v, device) for v in value))
    if isinstance(value, (list, tuple)):
        return type(value)(wrap(v, device) for v in value)
    return ndarray(value, device) if isinstance(value, np.ndarray) else value


def unwrap(value):
    """Give NumPy the data behind arrays."""
    if isinstance(value, ndarray):
        return value.on_host()
    if isinstance(value, tuple) and type(value) is not tuple:
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(v) for v in value)
    return {k: unwrap(v) for k, v in value.items()} if isinstance(value, dict) else value


def _function(function):
    def call(*args, **kwargs):
        return wrap(function(*unwrap(args), **unwrap(kwargs)))

    call.__name__ = getattr(function, "__name__", "function")
    return call


def _mirrored(name, source, skip=()):
    module = types.ModuleType(name)
    for key in dir(source):
        value = getattr(source, key)
        if key.startswith("_") or key in skip or isinstance(value, types.ModuleType):
            continue
        plain = isinstance(value, type) or not callable(value)
        setattr(module, key, value if plain else _function(value))
    return module


class csr_matrix:
    """A sparse matrix of cupyx, by SciPy's."""

    __module__ = "cupyx.scipy.sparse._csr"
    ndim = 2

    def __init__(self, source, shape=None):
        if isinstance(source, tuple):
            data, indices, indptr = (part.on_host() for part in source)
            source = scipy.sparse.csr_matrix((data, indices, indptr), shape=shape)
        self._matrix = source
        self.shape, self.dtype, self.format, self.nnz = source.shape, source.dtype, source.format, source.nnz
        if source.format == "csr":
            self.indices, self.indptr = ndarray(source.indices), ndarray(source.indptr)
        self.data = ndarray(source.data)

    @property
    def has_canonical_format(self):
        return self._matrix.has_canonical_format

    def sum_duplicates(self):
        self._matrix.sum_duplicates()
        self.__init__(self._matrix)

    def copy(self):
        return csr_matrix(self._matrix.copy())

    def tocsr(self):
        return self if self.format == "csr" else csr_matrix(scipy.sparse.csr_matrix(self._matrix.tocsr()))

    def astype(self, dtype):
        return csr_matrix(self._matrix.astype(dtype))


class LinearOperator:
    """A LinearOperator of cupyx."""

    __module__ = "cupyx.scipy.sparse.linalg._interface"
    ndim = 2

    def __init__(self, shape, matmat, dtype):
        self.shape, self.matmat, self.dtype = shape, matmat, np.dtype(dtype)


def spmm(a, b, c=None):
    """Multiply as cuSPARSE does: column-major blocks, a canonical CSR matrix."""
    assert isinstance(a, csr_matrix)
    assert a.format == "csr"
    assert b.flags.f_contiguous, "cuSPARSE would refuse this"
    assert c.flags.f_contiguous, "cuSPARSE would refuse this"
    assert a.has_canonical_format, "cuSPARSE would refuse this"
    assert a.data.device == b.device == c.device == Device(), "one device"
    assert a.dtype == b.dtype == c.dtype
    c.on_host()[...] = a._matrix @ b.on_host()
    return c


class OutOfMemoryError(MemoryError):
    """What CuPy raises; its name and module are all that slq looks at."""

    __module__ = "cupy.cuda.memory"


def install(monkeypatch, raw_module):
    """Put the stand-ins into sys.modules for the time of a test, and forget what was imported with them."""
    for name in [n for n in sys.modules if n.split(".")[0] in ("cupy", "cupyx", "slq_cupy")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.startswith("array_api_compat.cupy")]:
        monkeypatch.delitem(sys.modules, name)
    cupy = _mirrored("cupy", np, skip=("ndarray",))
    cupy.ndarray, cupy.RawModule, cupy.bool_ = ndarray, raw_module, np.bool_
    cupy.asarray = _asarray
    cupy.array = lambda a, dtype=None, copy=True, **kw: wrap(np.array(unwrap(a), dtype=dtype, **kw))
    cupy.linalg, cupy.fft = _mirrored("cupy.linalg", np.linalg), _mirrored("cupy.fft", np.fft)
    cupy.cuda = types.ModuleType("cupy.cuda")
    cupy.cuda.device = types.ModuleType("cupy.cuda.device")
    cupy.cuda.Device = cupy.cuda.device.Device = Device
    cupy.cuda.get_current_stream = Stream
    cupy.cuda.runtime = types.SimpleNamespace(
        memGetInfo=lambda: (2**34, 2**34),
        getDeviceCount=lambda: 2,
        getDeviceProperties=lambda number: {"name": b"a stand-in"},
    )
    cupy.__version__ = "0"
    cupy.RawKernel = lambda code, name: lambda grid, block, args: None
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(
        free_all_blocks=lambda: None, used_bytes=lambda: 0, total_bytes=lambda: 10**6
    )
    cupyx, scipy_like = types.ModuleType("cupyx"), types.ModuleType("cupyx.scipy")
    cupyx.cusparse, cupyx.scipy = types.ModuleType("cupyx.cusparse"), scipy_like
    cupyx.cusparse.spmm = spmm
    scipy_like.sparse = types.ModuleType("cupyx.scipy.sparse")
    scipy_like.sparse.csr_matrix = scipy_like.sparse.csc_matrix = scipy_like.sparse.coo_matrix = csr_matrix
    scipy_like.sparse.issparse = lambda x: isinstance(x, csr_matrix)
    ours = (cupy, cupy.linalg, cupy.fft, cupy.cuda, cupy.cuda.device)
    for module in (*ours, cupyx, cupyx.cusparse, scipy_like, scipy_like.sparse):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    WAITS.clear()
    return cupy


def _asarray(a, dtype=None, **kwargs):
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    return wrap(np.array(unwrap(a), dtype=dtype))
