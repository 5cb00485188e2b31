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
    "distributed_hessian.py": ("torch", "sklearn"),
    "gaussian_process.py": ("torch",),
    "imagenet_resnet.py": ("torch",),
    "plot_batch_normalization.py": ("torch", "mlxtend"),
    "plot_class_structure.py": ("torch", "mlxtend"),
    "plot_edge_of_stability.py": ("torch", "sklearn"),
    "plot_graph_laplacian.py": ("sklearn",),
    "plot_language_model.py": ("torch",),
    "plot_layers.py": ("torch", "sklearn"),
    "plot_mnist_hessian.py": ("torch", "mlxtend"),
    "plot_residual_and_rate.py": ("torch", "mlxtend"),
    "plot_toy_spectra.py": (),
    "tensorflow_hessian.py": ("tensorflow", "sklearn"),
    "plot_training_evolution.py": ("torch", "sklearn"),
}
SCRIPTS = sorted(EXAMPLES.glob("*.py"))

pytest.importorskip("matplotlib")


def run(name, *arguments, cwd, launcher=()):
    """Run an example in a process of its own; a failure shows its traceback."""
    for module in NEEDS[name]:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    done = subprocess.run(
        [sys.executable, *map(str, launcher), EXAMPLES / name, *map(str, arguments)],
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


@pytest.mark.slow
def test_the_gaussian_process_finds_the_optimum_of_the_dense_computation(tmp_path):
    out = run("gaussian_process.py", cwd=tmp_path)

    for name in ("length", "size", "noise"):
        found, exact = (float(x) for x in re.search(rf"{name}: (\S+) by products, (\S+) dense", out).groups())
        assert found == pytest.approx(exact, rel=0.1)
    assert abs(number(r"lost: (\S+)", out)) < 0.05


@pytest.mark.slow
def test_the_graph_of_digits_agrees_with_its_exact_spectrum(tmp_path):
    out = run("plot_graph_laplacian.py", cwd=tmp_path)

    assert "exact curve inside the band on 100.0% of the axis" in out
    assert number(r"off by ([\d.]+)% on average", out) < number(r"stated ([\d.]+)%", out)


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_layers_of_the_digits_network_share_their_passes(tmp_path):
    out = run("plot_layers.py", "--samples", 300, "--epochs", 2, "--steps", 12, cwd=tmp_path)

    assert "Spectra of 7 operators · hessian" in out
    assert "in 13 passes" in out  # 12 steps, and the test of repeatability
    shares = [float(share) for share in re.findall(r"([\d.]+)% of the trace", out)]
    assert sum(shares) == pytest.approx(100, abs=1)


@pytest.mark.slow
def test_the_table_of_a_distributed_run_does_not_depend_on_the_number_of_ranks(tmp_path):
    small = ("--samples", 200, "--epochs", 2, "--probes", 1, "--steps", 8)
    out = run("distributed_hessian.py", *small, cwd=tmp_path)

    assert re.search(r"3818 parameters, 200 samples, loss [\d.]+", out)
    for ranks in (1, 2, 3, 4):
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks)
        assert run("distributed_hessian.py", *small, cwd=tmp_path, launcher=launcher) == out


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_spectrum_through_a_training_is_recorded_as_planned(tmp_path):
    out = run("plot_training_evolution.py", "--samples", 100, "--steps", 12, cwd=tmp_path)

    assert "History of 9 records, steps 0 to 10, n = 1810" in out
    assert re.search(r"records +9\n", out)
    assert re.search(r"\d+% of the gradient in 10 of 1810 directions", out)


@pytest.mark.slow
def test_batch_normalisation_takes_away_outliers_and_the_gradient_from_them(tmp_path):
    small = ("--seeds", 1, "--steps", 100, "--every", 50, "--held", 40)
    out = run("plot_batch_normalization.py", *small, "--save", "picture.png", cwd=tmp_path)

    ratios = [float(r) for r in re.findall(r"lambda_1 / lambda_10 = ([\d.]+)", out)]
    shares = [float(s) for s in re.findall(r"([\d.]+) ± \S+ in the second", out)]
    plain, batch, population = ratios
    assert min(plain, population) > 1.5 * batch
    assert min(shares[0], shares[2]) > shares[1] + 0.15
    assert (tmp_path / "picture.png").exists()


@pytest.mark.slow
def test_the_largest_eigenvalue_stays_at_the_edge_of_stability(tmp_path):
    small = ("--seeds", 1, "--samples", 100, "--width", 12, "--steps", 400, "--every", 100)
    out = run("plot_edge_of_stability.py", *small, cwd=tmp_path)

    shares = [float(share) for share in re.findall(r"\(([\d.]+) ± ", out)]
    assert shares == pytest.approx([1, 1], abs=0.25)


@pytest.mark.slow
def test_outliers_of_the_gauss_newton_matrix_are_about_as_many_as_classes(tmp_path):
    out = run("plot_class_structure.py", "--seeds", 1, "--samples", 200, "--width", 12, "--steps", 200, cwd=tmp_path)

    assert number(r"widest gap in G is after eigenvalue (\d+)", out) in (9, 10)
    assert number(r"without the class part over that of G: ([\d.]+)", out) < 0.9


@pytest.mark.slow
def test_toy_spectra_agree_with_all_their_eigenvalues(tmp_path):
    out = run("plot_toy_spectra.py", "--wishart", 600, "--pareto", 100, "--seeds", 2, cwd=tmp_path)

    assert re.search(r"^3 outliers, off by at most \d\.\de-1[2-9]$", out, re.MULTILINE)
    assert "interval holds 2 of 2" in out
    assert min(float(share) for share in re.findall(r"band at ([\d.]+)%", out)) > 95


@pytest.mark.slow
def test_the_language_model_weighs_characters_alike_and_learns(tmp_path):
    small = ("--width", 16, "--training", 40, "--sequences", 8, "--steps", 6)
    out = run("plot_language_model.py", *small, cwd=tmp_path)

    assert number(r"\(sum, count\): product off by (\S+)", out) < 1e-5
    assert number(r"means: product off by (\S+)", out) > 0.01
    assert number(r"loss ([\d.]+) per", out) < number(r", ([\d.]+) by chance", out)
    shares = [float(share) for share in re.findall(r"(-?[\d.]+)% \(.*\) of all blocks", out)]
    assert sum(shares) == pytest.approx(100, abs=1)


@pytest.mark.slow
def test_depth_makes_eigenvalues_larger_and_the_run_whose_rate_drops_is_compared_with_its_copy(tmp_path):
    small = ("--seeds", 1, "--blocks", 1, 4, "--steps", 12, "--held", 20)
    out = run("plot_residual_and_rate.py", *small, cwd=tmp_path)

    assert number(r"after one step, deep over shallow: .* norm ([\d.]+)", out) > 1
    assert "steps 4 to 12, without over with residual connections: largest " in out
    assert "at the same loss, without over with residual connections: largest " in out
    assert "1 to 4 steps after the drop, over no drop: largest " in out
