"""CUDA kernels compiled for the CPU: what `cupy.RawModule` is, with all arguments checked against the source."""

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
_SIGNATURE = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\)')
_DTYPES = {"double": "float64", "float": "float32", "__half": "float16", "int": "int32", "Long": "int64"}
_ONE_AT_A_TIME = threading.Lock()
_FOLDER = tempfile.TemporaryDirectory(prefix="slq_kernels_")


class RawModule:
    """The kernels of a source, compiled with some macros."""

    def __init__(self, *, code, options=()):
        self._library = _compiled(code, tuple(options))
        types = _DTYPES | dict(o.removeprefix("-D").split("=") for o in options)
        self._signatures = {
            name: [_argument(text, types) for text in arguments.split(",")]
            for name, arguments in _SIGNATURE.findall(code)
        }

    def get_function(self, name):
        """Return one kernel, to be called as kernel(grid, block, arguments)."""
        return RawKernel(getattr(self._library, f"launch_{name}"), self._signatures[name])


class RawKernel:
    """A kernel that refuses arguments of another kind than its source declares."""

    def __init__(self, launch, signature):
        self._launch, self._signature = launch, signature

    def __call__(self, grid, block, args):
        assert len(args) == len(self._signature), f"{len(args)} arguments for {self._signature}"
        held = [_held(value, dtype, array) for value, (dtype, array) in zip(args, self._signature, strict=True)]
        table = (ctypes.c_void_p * len(held))(*(value.ctypes.data for value in held))
        x, y = (*grid, 1)[:2]
        with _ONE_AT_A_TIME:
            assert self._launch(int(x), int(y), int(block[0]), table) == 0, "not all threads reached a barrier"


def _argument(text, types):
    """Read one declaration: the dtype, and whether it is an array."""
    words = text.replace("*", " * ").replace("const", "").split()
    dtype = types[words[0]]
    return _DTYPES.get(dtype, dtype), "*" in words


def _held(value, dtype, array):
    """Return a NumPy array whose data are the argument, as a kernel is given it."""
    if not array:
        assert isinstance(value, np.generic), f"a number must be a NumPy scalar, got {type(value).__name__}"
        assert value.dtype == dtype, f"expected {dtype}, got {value.dtype}"
        return np.array([value])
    data = value.on_host()
    assert data.dtype == dtype, f"expected an array of {dtype}, got {data.dtype}"
    assert data.flags.c_contiguous, "a kernel needs a C-contiguous array"
    return np.array([data.ctypes.data], dtype=np.uint64)


@cache
def _compiled(code, options):
    names = "".join(f"LAUNCHER({name})\n" for name, _ in _SIGNATURE.findall(code))
    source = f'#include "{HERE / "cuda.h"}"\n{code}\n{names}'
    stem = Path(_FOLDER.name) / hashlib.sha256((source + " ".join(options)).encode()).hexdigest()[:16]
    stem.with_suffix(".cpp").write_text(source)
    command = [COMPILER, "-std=c++17", "-O2", "-shared", "-fPIC", "-Wno-unknown-pragmas", *options]
    subprocess.run([*command, "-o", stem.with_suffix(".so"), stem.with_suffix(".cpp")], check=True)
    return ctypes.CDLL(str(stem.with_suffix(".so")))
