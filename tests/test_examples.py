"""The examples run as scripts, with small settings, and say what they found."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import scipy.io
import scipy.sparse as sp

EXAMPLES = Path(__file__).parents[1] / "examples"
NEEDS = {
    "gaussian_process.py": ("torch",),
    "imagenet_resnet.py": ("torch",),
    "plot_graph_laplacian.py": ("sklearn",),
    "plot_layers.py": ("torch", "sklearn"),
    "plot_mnist_hessian.py": ("torch", "mlxtend"),
    "tensorflow_hessian.py": ("tensorflow", "sklearn"),
    "plot_training_evolution.py": ("torch", "sklearn"),
}
SCRIPTS = sorted(EXAMPLES.glob("*.py"))

pytest.importorskip("matplotlib")


def run(name, *arguments, cwd):
    """Run an example in a process of its own; a failure shows its traceback."""
    for module in NEEDS[name]:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "MPLBACKEND": "Agg"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern, text):
    return float(re.search(pattern, text)[1])


def test_every_example_is_run_here():
    assert {script.name for script in SCRIPTS} == NEEDS.keys()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_an_example_has_a_title_and_cells_and_a_picture_if_the_documentation_runs_it(script):
    text = script.read_text(encoding="utf-8")

    assert re.match(r'"""\n(.+)\n(=+)\n\n', text)
    assert text.count("# %%\n") >= 3
    assert ("slq.plot." in text) == script.name.startswith("plot_")


def test_the_gaussian_process_finds_the_optimum_of_the_dense_computation(tmp_path):
    out = run("gaussian_process.py", cwd=tmp_path)

    for name in ("length", "size", "noise"):
        found, exact = (float(x) for x in re.search(rf"{name}: (\S+) by products, (\S+) dense", out).groups())
        assert found == pytest.approx(exact, rel=0.1)
    assert abs(number(r"lost: (\S+)", out)) < 0.05


def test_the_graph_of_digits_agrees_with_its_exact_spectrum(tmp_path):
    out = run("plot_graph_laplacian.py", cwd=tmp_path)

    assert "exact curve inside the band on 100.0% of the axis" in out
    assert number(r"off by ([\d.]+)% on average", out) < number(r"stated ([\d.]+)%", out)


def test_a_graph_is_read_from_a_file(tmp_path):
    path = sp.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(200, 200))
    scipy.io.mmwrite(tmp_path / "path.mtx", path)

    assert "200 nodes, 199 edges" in run("plot_graph_laplacian.py", "path.mtx", cwd=tmp_path)


@pytest.mark.slow
def test_the_hessian_of_the_digits_network_agrees_with_its_largest_eigenvalues(tmp_path):
    out = run("plot_mnist_hessian.py", "--samples", 300, "--epochs", 5, cwd=tmp_path)

    exact = number(r"exact ([\d.]+)", out)
    traces = [float(t) for t in re.findall(r"trace ([\d.]+) ", out)]
    assert traces == pytest.approx([exact, exact], rel=0.3)
    assert re.search(r"\d+ outliers, (8|9|10) of the ten largest among them, off by at most \de-0[4-9]", out)


def test_the_layers_of_the_digits_network_share_their_passes(tmp_path):
    out = run("plot_layers.py", "--samples", 300, "--epochs", 2, "--steps", 12, cwd=tmp_path)

    assert "Spectra of 7 operators · hessian" in out
    assert "in 13 passes" in out  # 12 steps, and the test of repeatability
    shares = [float(share) for share in re.findall(r"([\d.]+)% of the trace", out)]
    assert sum(shares) == pytest.approx(100, abs=1)


def test_a_residual_network_stays_within_the_plan(tmp_path):
    small = ("--width", 4, "--blocks", 1, 1, 1, 1, "--size", 32, "--batch", 2, "--steps", 4, "--threads", 1)
    out = run("imagenet_resnet.py", *small, cwd=tmp_path)

    assert "1 probe × 4 steps" in out
    assert re.search(r"planned at most [\d.]+ GB", out)


@pytest.mark.slow
def test_tensorflow_gives_the_spectrum_of_its_dense_hessian_and_of_pytorch(tmp_path):
    out = run("tensorflow_hessian.py", "--hidden", 8, cwd=tmp_path)

    found, dense = re.search(r"largest eigenvalue ([\d.]+), dense ([\d.]+)", out).groups()
    assert float(found) == pytest.approx(float(dense), abs=1e-7)
    assert "the band holds the trace: True" in out
    differences = re.search(r"PyTorch's by at most (\S+), (\S+)", out)
    assert differences is None or max(map(float, differences.groups())) < 1e-10


def test_the_spectrum_through_a_training_is_recorded_as_planned(tmp_path):
    out = run("plot_training_evolution.py", "--samples", 100, "--steps", 12, cwd=tmp_path)

    assert "History of 9 records, steps 0 to 10, n = 1810" in out
    assert re.search(r"records +9\n", out)
    assert re.search(r"\d+% of the gradient in 10 of 1810 directions", out)
