"""A numba that cannot be imported is no reason to fail: the run goes on without it, and says so once."""

import json
import platform
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from slq import SlqWarning
from slq._kernels import _numba, _sweeps

RUN = """
import json, sys, warnings
sys.path.insert(0, sys.argv[1])
import slq
grid, _ = slq.gallery.laplacian_2d(600)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    edges = [slq.spectrum(grid, probes=8, steps=4, reorth=reorth, rng=0).edges for reorth in ("none", "full", "none")]
print(json.dumps([edges, [f"{w.category.__name__}: {w.message}" for w in caught if "numba" in str(w.message)]]))
"""


def run(folder):
    done = subprocess.run([sys.executable, "-c", RUN, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_numba_that_refuses_its_numpy_is_done_without(tmp_path):
    broken = tmp_path / "broken"
    (broken / "numba").mkdir(parents=True)
    (broken / "numba" / "__init__.py").write_text('raise ImportError("Numba needs NumPy 2.3 or less.")\n')

    told, warned = run(broken)
    usual, quiet = run(tmp_path)

    assert len(warned) == 1
    assert warned[0].startswith("SlqWarning: numba is installed but cannot be imported (ImportError: Numba needs NumPy")
    assert quiet == []
    np.testing.assert_allclose(told, usual, atol=1e-9)


@pytest.fixture
def looked():
    """Forget before and afterwards what was found."""
    _numba.usable.cache_clear()
    yield
    _numba.usable.cache_clear()


@pytest.mark.usefixtures("looked")
def test_where_there_is_no_numba_nothing_is_said(monkeypatch):
    monkeypatch.setattr(_numba, "find_spec", lambda _: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not _numba.usable()
    assert isinstance(_sweeps.sweeps_for(10**9), _sweeps.NumpySweeps)


@pytest.mark.usefixtures("looked")
def test_a_numba_that_fails_is_told_of_once(monkeypatch):
    monkeypatch.setattr(_numba, "find_spec", lambda _: object())
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.warns(SlqWarning, match="numba is installed but cannot be imported") as told:
        assert [_numba.usable(), _numba.usable()] == [False, False]
    assert len(told) == 1


@pytest.mark.parametrize(("machine", "converts", "compiled"), [("AMD64", True, True), ("AMD64", False, False)])
def test_passes_are_compiled_where_the_processor_converts_half_precision(machine, converts, compiled, monkeypatch):
    features = SimpleNamespace(get_host_cpu_features=lambda: {"f16c": converts})
    monkeypatch.setattr(_numba, "usable", lambda: True)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setitem(sys.modules, "llvmlite", SimpleNamespace(binding=features))
    assert _sweeps._compilable() is compiled


def test_on_other_processors_they_always_are(monkeypatch):
    monkeypatch.setattr(_numba, "usable", lambda: True)
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setitem(sys.modules, "llvmlite", None)  # not asked
    assert _sweeps._compilable()
