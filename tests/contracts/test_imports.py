"""`import slq` stays light: no framework, no plotting, no command line, and little time of its own.

import-linter sees who imports whom, but not when. What is loaded is seen only in a fresh
interpreter, so each check runs one.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "cupy",
    "cyclopts",
    "jax",
    "matplotlib",
    "numba",
    "pandas",
    "rich",
    "scipy.stats",
    "sklearn",
    "slq_cupy",
    "slq_jax",
    "slq_torch",
    "torch",
    "tqdm",
)
BASE = "numpy, scipy.linalg, scipy.sparse, scipy.special, scipy.interpolate, scipy.optimize, array_api_compat"


def python(code: str, *options: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter; a failure shows its traceback."""
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done


def assert_loads_nothing_heavy(statement: str, cwd: Path | None = None) -> None:
    """Run one import statement and compare the modules it leaves behind with the heavy ones."""
    loaded = set(python(f"{statement}; import sys; print(*sys.modules)", cwd=cwd).stdout.split())
    assert not loaded & set(HEAVY), f"`{statement}` loads {sorted(loaded & set(HEAVY))}"


@pytest.mark.parametrize("statement", ["import slq", "import slq.gallery", "import slq.plot", "from slq import *"])
def test_importing_the_core_loads_no_framework_and_no_plotting(statement):
    assert_loads_nothing_heavy(statement)


def test_that_check_notices_a_heavy_import(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "greedy.py").write_text("import matplotlib\n")

    with pytest.raises(AssertionError, match="matplotlib"):
        assert_loads_nothing_heavy("import greedy", cwd=tmp_path)


def test_importing_slq_loads_little_beyond_numpy_and_scipy():
    # Modules are counted, not seconds: those depend on the machine and on what else it does.
    code = f"import {BASE}; import sys; before = set(sys.modules); import slq; print(*sys.modules.keys() - before)"
    others = {name for name in python(code).stdout.split() if name.partition(".")[0] != "slq"}

    assert {name.partition(".")[0] for name in others} <= sys.stdlib_module_names
    assert len(others) < 60, sorted(others)  # how many NumPy and SciPy leave to load depends on their versions
