"""CuPy's stand-ins for machines without a GPU, and the matrices that tests share."""

import importlib.util
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

HERE = Path(__file__).parent / "on_host"


def load(name):
    """Import a helper by its file: test modules cannot import each other."""
    spec = importlib.util.spec_from_file_location(f"slq_cupy_on_host_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KERNELS, STAND_IN = load("kernels"), load("stand_in")


@pytest.fixture
def on_host(monkeypatch):
    """Stand in for `cupy`, `cupyx` and their kernels; gives the stand-ins, and slq_cupy imported on top of them."""
    if KERNELS.COMPILER is None:
        pytest.skip("there is no g++ to compile the kernels with")
    cupy = STAND_IN.install(monkeypatch, KERNELS.RawModule)
    slq_cupy = importlib.import_module("slq_cupy")
    return types.SimpleNamespace(
        cupy=cupy,
        slq_cupy=slq_cupy,
        waits=STAND_IN.WAITS,
        csr=lambda A: STAND_IN.csr_matrix(A),
        LinearOperator=STAND_IN.LinearOperator,
        OutOfMemoryError=STAND_IN.OutOfMemoryError,
    )


@pytest.fixture
def laplacian():
    """Give a sparse symmetric matrix without repeated eigenvalues: a path with random masses, n = 500."""
    n = 500
    weights = np.random.default_rng(0).uniform(1.0, 2.0, n)
    return sp.csr_matrix(sp.diags_array([-1.0, weights, -1.0], offsets=[-1, 0, 1], shape=(n, n)))
