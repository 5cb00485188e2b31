"""A numba that cannot be imported is no reason to fail: the run goes on without it, and says so once."""

import json
import subprocess
import sys

import numpy as np
import pytest

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
