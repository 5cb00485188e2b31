"""`python -m benchmarks.gpu` runs without a GPU too: with PyTorch on the CPU in tiny sizes, or it says why not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gpu(monkeypatch):
    """Give the modules of the benchmark."""
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.gpu.__main__ as main
    from benchmarks.gpu import _libraries, _sections

    main.libraries, main.sections = _libraries, _sections
    return main


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
        timeout=300,
    )


def test_without_a_gpu_it_says_so_in_one_sentence():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run()

    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("There is nothing to run on 'cuda' here: torch sees no CUDA device; cupy ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_all_sections_run_on_the_cpu_in_tiny_sizes(tmp_path):
    pytest.importorskip("torch")
    done = run("--device", "cpu", "--quick", "--out", tmp_path / "rows.json")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All that was checked agrees.\n")
    found = json.loads((tmp_path / "rows.json").read_text())
    assert found["machine"]["missing"] == ["CuPy needs a CUDA device"]
    assert len(found["sections"]) == 7
    for name, rows in found["sections"].items():
        assert f"## {name}\n\n| library | " in done.stdout
        assert rows
        assert [row for row in rows if "failed" in row and row.get("product") != "curvlinops"] == []


def test_a_wrong_number_a_failing_section_and_the_end_of_time_are_told(gpu, monkeypatch, capsys):
    def wrong(library, quick):
        return [{"error": 1.0, "agrees": False}]

    def failing(library, quick):
        message = "no such kernel"
        raise ValueError(message)

    monkeypatch.setattr(gpu, "SECTIONS", {"correctness": wrong, "waits": failing})
    monkeypatch.setattr(gpu.libraries, "found", lambda device: ([gpu.libraries.Torch("cpu")], []))
    pytest.importorskip("torch")

    assert gpu.main(["--only", "correctness", "waits"]) == 1
    out = capsys.readouterr().out
    assert "| torch | 1 | False |" in out
    assert "ValueError: no such kernel" in out
    assert "2 rows do not agree." in out
    assert gpu.main(["--only", "correctness", "--minutes", "-1"]) == 0
    assert "| -1 minutes were over |" in capsys.readouterr().out


def test_where_a_library_is_missing_the_other_one_runs(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(gpu.libraries, "_cupy_devices", lambda: 1)
    monkeypatch.setattr(gpu.libraries, "CuPy", lambda: "cupy")

    assert gpu.libraries.found("cuda")[0] == ["cupy"]
    assert gpu.libraries.found("cpu")[0] == []
