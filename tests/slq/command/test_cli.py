"""The command `slq`: every verb, every source, and every way in which a command can fail, in one line each."""

import builtins
import gzip
import itertools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

import slq
from slq._command import _cli, _environment

pytest.importorskip("cyclopts")

VERBS = ["demo", "run", "trace", "eigs", "shard", "show", "compare", "plot", "report", "info"]
GRID = sp.kronsum(*[sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(12, 12))] * 2, format="csr")

FACTORIES = """
import numpy as np
import slq

matrix = np.diag(np.arange(1.0, 61.0))
count = 0

def dense():
    return matrix

def operator():
    return slq.as_operator(lambda v: np.arange(1.0, 61.0) * v, n=60)

def broken():
    return 1 / 0

def nothing():
    pass

def text():
    return "a text"

def needs(x):
    return x

def not_finite():
    return slq.as_operator(lambda v: v * np.nan, n=60)

def drifting():
    rng = np.random.default_rng(0)
    return slq.as_operator(lambda v: np.arange(1.0, 61.0) * v * (1 + 0.1 * rng.standard_normal()), n=60)

def ending(error):
    def product(v):
        global count
        count += 1
        if count > 40:
            raise error
        return np.arange(1.0, 61.0) * v
    return slq.as_operator(product, n=60)

def failing():
    return ending(RuntimeError("the network is gone"))

def interrupted():
    return ending(KeyboardInterrupt())

def signalled():
    import pathlib
    import signal
    first = not pathlib.Path("c.npz").exists()
    def product(v):
        global count
        count += 1
        if first and count == 3:
            signal.raise_signal(signal.SIGTERM)
        return np.arange(1.0, 61.0) * v
    return slq.as_operator(product, n=60)

def interrupted_at_once():
    global count
    count = 40
    return ending(KeyboardInterrupt())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder with a few sources; leave what can be imported as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("factories", "slq_source_factories"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    scipy.io.mmwrite("grid.mtx", GRID, symmetry="symmetric")
    sp.save_npz("grid.npz", GRID)
    np.save("grid.npy", GRID.toarray())
    (tmp_path / "grid.mtx.gz").write_bytes(gzip.compress((tmp_path / "grid.mtx").read_bytes()))
    (tmp_path / "factories.py").write_text(FACTORIES)
    yield tmp_path
    for name in ("factories", "slq_source_factories"):
        sys.modules.pop(name, None)


@pytest.fixture
def cli(capsys):
    """Call the command in this process: its exit status, what it printed, what it noted."""

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            _cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return call


@pytest.fixture
def refused(cli):
    """Call a command that must fail with one line and print nothing: that line."""

    def call(*arguments, status=2):
        code, out, err = cli(*arguments)
        assert (code, out) == (status, ""), err
        assert err.startswith("slq: "), err
        assert err.count("\n") == 1, err
        return err

    return call


@pytest.fixture
def result(cli):
    """Make a result file by a short run."""
    assert cli("run", "grid.mtx", "--probes", 2, "--steps", 20, "--seed", 0)[0] == 0
    return "grid.spectrum.npz"


def mtx(text, name="a.mtx"):
    with open(name, "w", encoding="utf-8") as file:
        file.write("%%MatrixMarket matrix " + text)
    return name


def process(*arguments, **options):
    """Run `python -m slq` as a process of its own."""
    command = [sys.executable, "-m", "slq", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


# -- asking ---------------------------------------------------------------------------------------------------


def test_slq_alone_says_what_one_can_do(cli):
    code, out, err = cli()

    assert (code, err) == (0, "")
    assert all(f"slq {verb}" in out for verb in VERBS)
    assert max(map(len, out.splitlines())) <= 80


def test_help_lists_the_verbs_and_the_exit_statuses(cli):
    code, out, _ = cli("--help")

    assert code == 0
    assert all(re.search(rf"│ {verb}\b", out) for verb in VERBS)
    assert "Exit status: 0 success, 1 a check or run failed, 2" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_within_80_columns(cli, verb):
    code, out, _ = cli(verb, "--help")

    assert code == 0
    assert f"Usage: slq {verb}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_help_of_run_shows_every_option_that_decides_about_a_run(cli):
    _, out, _ = cli("run", "--help")

    for option in ("tol", "probes", "steps", "seed", "kind", "reorth", "confidence", "max-products", "gram", "json"):
        assert f"--{option}" in out
    assert "[default: 0.01]" in out
    assert "[choices: auto, full, none]" in out


def test_the_version_is_that_of_the_package(cli):
    assert cli("--version") == (0, f"{slq.__version__}\n", "")


def test_info_names_versions_threads_adapters_and_devices(cli):
    code, out, _ = cli("info")

    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0
    assert facts["slq"] == slq.__version__
    assert facts["numpy"] == f"{np.__version__}: cpu works"
    assert "cpu works" in facts["torch"]
    assert "CPU core" in facts["threads"]
    assert "torch" in facts["adapters"]
    assert facts.keys() >= {"python", "scipy", "torch", "jax", "cupy"}


class TestInfo:
    def lines(self):
        return dict(line.split(maxsplit=1) for line in _environment.environment().splitlines())

    def test_says_of_a_missing_package_that_it_is_not_installed(self, monkeypatch):
        monkeypatch.setattr(_environment, "find_spec", lambda name: None)
        monkeypatch.setattr(_environment, "_PACKAGES", ("slq", "no-such-package"))

        lines = self.lines()
        assert lines["no-such-package"] == lines["jax"] == lines["cupy"] == "not installed"
        assert "torch (not installed)" in lines["adapters"]

    def test_says_which_device_fails_and_how(self, monkeypatch):
        def devices():
            yield "good:0", np.diag(np.arange(1.0, 9.0))
            yield "other:1", np.diag(np.arange(2.0, 10.0))
            yield "bad:2", "no matrix"
            message = "driver too old"
            raise RuntimeError(message)

        monkeypatch.setattr(_environment, "_LIBRARIES", {"numpy": devices})
        assert self.lines()["numpy"].endswith("RuntimeError: driver too old")

        monkeypatch.setattr(_environment, "_LIBRARIES", {"numpy": lambda: itertools.islice(devices(), 3)})
        good, other, bad = self.lines()["numpy"].split(": ", 1)[1].split(", ", 2)
        assert good == "good:0 works"
        assert other == "other:1 gives other numbers than NumPy"
        assert bad.startswith("bad:2 fails (TypeError: `A` must be a square matrix")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu", "x"], f"there is no verb `rnu`; there are {', '.join(VERBS)}. Did you mean `run`?"),
        (["grid.mtx"], "To compute a spectrum: slq run SOURCE."),
        (["run"], "SOURCE requires an argument. See `slq run --help`."),
        (["run", "grid.mtx", "--prbes", "3"], "--prbes. Did you mean --probes? See `slq run --help`."),
        (["run", "grid.mtx", "--tol", "small"], 'Invalid value for --tol: unable to convert "small" into float.'),
        (["run", "grid.mtx", "--kind", "cube"], 'Invalid value "cube" for --kind. Choose from: "sphere", "rademacher"'),
        (["run", "grid.mtx", "--confidence", "95"], "Did you mean 0.95?"),
        (["run", "grid.mtx", "--probes", "0"], "`probes` must be at least 1, got 0."),
        (["run", "grid.mtx", "--tol", "2"], "`tol` must lie strictly between 0 and 1, got 2.0"),
        (["run", "grid.mtx", "--out", "x.txt"], "--out x.txt: the name of a result ends in .npz."),
        (["run", "grid.npz", "--out", "grid.npz"], "--out grid.npz would overwrite SOURCE."),
        (["run", "grid.mtx", "--out", "none/x.npz"], "is no folder that can be written to."),
        (["run", "grid.mtx", "--gram", "--symmetric-part"], "--gram and --symmetric-part exclude each other"),
        (["show", "none.npz"], "none.npz: no such file or directory"),
        (["show", "grid.npz"], "no result of slq"),
        (["plot"], "plot needs at least one FILE. See `slq plot --help`."),
        (["plot", "none.npz"], "none.npz: no such file or directory"),
        (["plot", "x.npz", "--kind", "pie"], 'Choose from: "density", "cdf", "outliers", "gaussian"'),
        (["plot", "x.npz", "-o", "x.gif"], "x.gif: the name of a picture ends in .png, .pdf, .svg."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_makes_no_sense_is_refused_in_one_line(refused, arguments, message):
    assert message in refused(*arguments)


# -- run: matrices in files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["grid.mtx", "grid.mtx.gz", "grid.npz", "grid.npy"])
def test_a_matrix_is_read_from_a_file(cli, source):
    code, out, err = cli("run", source, "--probes", 2, "--steps", 20, "--seed", 0)

    found, expected = slq.load("grid.spectrum.npz"), slq.spectrum(GRID, probes=2, steps=20, rng=0)
    assert code == 0
    assert out.startswith("Spectrum of a 144 × 144 operator")
    assert err == "slq: written: grid.spectrum.npz. Draw it: slq plot grid.spectrum.npz\n"
    np.testing.assert_allclose(found.alpha, expected.alpha)


def test_the_result_goes_into_the_current_folder_or_where_it_is_asked_to(cli, folder):
    (folder / "sub").mkdir()
    os.rename("grid.mtx", "sub/matrix.mtx")

    assert cli("run", "sub/matrix.mtx")[0] == 0
    assert cli("run", "sub/matrix.mtx", "-o", "sub/other.npz")[0] == 0
    assert (folder / "matrix.spectrum.npz").is_file()
    assert (folder / "sub" / "other.npz").is_file()


def test_options_reach_the_run(cli):
    cli("run", "grid.mtx", "--probes", 3, "--steps", 7, "--seed", 5, "--kind", "rademacher", "--confidence", 0.9)
    found = slq.load("grid.spectrum.npz")
    cli("run", "grid.mtx", "--max-products", 20, "--reorth", "none", "--out", "short.npz")
    short = slq.load("short.npz")

    expected = slq.spectrum(GRID, probes=3, steps=7, rng=5, kind="rademacher", confidence=0.9)
    assert found == expected
    assert found.confidence == 0.9
    assert (short.products <= 21, short.reorth) == (True, "none")


def test_a_looser_tolerance_needs_fewer_products(cli):
    cli("run", "grid.mtx", "--tol", 0.2, "--seed", 0, "-o", "loose.npz")
    cli("run", "grid.mtx", "--tol", 0.02, "--seed", 0, "-o", "tight.npz")

    assert slq.load("loose.npz").products < slq.load("tight.npz").products


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        ("coordinate pattern symmetric\n3 3 3\n1 1\n2 1\n3 3\n", 2.0),
        ("coordinate integer symmetric\n3 3 3\n1 1 4\n2 1 -1\n3 3 3\n", 7.0),
        ("coordinate real general\n3 3 4\n1 1 1.5\n1 2 2\n2 1 2\n2 2 1\n", 2.5),
        ("array real general\n2 2\n1\n2\n2\n5\n", 6.0),
        ("array integer symmetric\n2 2\n1\n2\n5\n", 6.0),
    ],
    ids=["pattern", "integer", "symmetric in fact", "dense", "dense symmetric"],
)
def test_every_kind_of_matrix_market_file_becomes_float64(cli, text, trace):
    assert cli("run", mtx(text), "--seed", 0)[0] == 0

    found = slq.load("a.spectrum.npz")
    assert found.metadata["dtype"] == "float64"
    assert found.trace().value == pytest.approx(trace)


def test_an_asymmetric_matrix_is_refused_with_its_asymmetry_and_two_ways_out(refused, cli):
    scipy.io.mmwrite("b.mtx", sp.csr_array([[1.0, 2.0], [0.0, 1.0]]))
    np.save("b.npy", np.array([[1.0, 2.0], [0.0, 1.0]]))

    for source in ("b.mtx", "b.npy"):  # |A - A^T| = sqrt 8, |A| = sqrt 6
        message = refused("run", source)
        assert f"{source} is not symmetric: |A - A^T| / |A| = 1.2." in message
        assert "--symmetric-part takes (A + A^T) / 2" in message
        assert "--gram takes A^T A" in message
        assert cli("run", source, "--symmetric-part", "--seed", 0)[0] == 0
        np.testing.assert_allclose(slq.load("b.spectrum.npz").edges, [0.0, 2.0], atol=1e-12)


def test_an_antisymmetric_matrix_is_refused(refused):
    assert "|A - A^T| / |A| = 2." in refused("run", mtx("coordinate real skew-symmetric\n2 2 1\n2 1 3.0\n"))


def test_rounding_in_a_symmetric_matrix_is_no_asymmetry(cli):
    B = np.random.default_rng(0).standard_normal((40, 40))
    np.save("b.npy", B @ np.diag(np.arange(40.0)) @ B.T * (1 + 1e-12 * B))

    assert cli("run", "b.npy")[0] == 0


def test_large_dense_matrices_are_compared_block_by_block(refused, monkeypatch):
    from slq._files import _sources

    monkeypatch.setattr(_sources, "_BLOCK", 50)
    A = GRID.toarray()
    A[0, 143] = np.sqrt(np.sum(A**2))
    np.save("b.npy", A)

    assert "|A - A^T| / |A| = 1" in refused("run", "b.npy")  # sqrt 2 / sqrt 2


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_a_rectangular_matrix_gives_its_squared_singular_values(cli, refused, shape):
    B = sp.random_array(shape, density=0.5, rng=np.random.default_rng(0))
    scipy.io.mmwrite("b.mtx", B)
    exact = np.linalg.svd(B.toarray(), compute_uv=False) ** 2

    message = refused("run", "b.mtx")
    assert cli("run", "b.mtx", "--gram", "--seed", 0)[0] == 0

    found = slq.load("b.spectrum.npz")
    assert f"b.mtx is {shape[0]} × {shape[1]}; eigenvalues need a square matrix. --gram takes A^T A" in message
    assert found.n == 8
    assert found.nodes.max() == pytest.approx(exact[0])
    assert "Gram matrix" in found.metadata["kind"]


def test_a_complex_hermitian_matrix_is_run(cli):
    text = "coordinate complex hermitian\n2 2 2\n1 1 2 0\n2 1 3 1\n"

    assert cli("run", mtx(text), "--out", "complex.npz", "--seed", 0)[0] == 0
    assert np.sort(slq.load("complex.npz").nodes[0]) == pytest.approx(1 + np.array([-1, 1]) * np.sqrt(11))


def test_what_is_no_readable_matrix_is_named(refused, folder):
    mtx("hello", "bad.mtx")
    np.savez("other.npz", x=np.eye(3))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    (folder / "cut.npz").write_bytes((folder / "grid.npz").read_bytes()[:200])
    (folder / "notes.txt").write_text("")
    np.save("three.npy", np.zeros((2, 2, 2)))

    assert "none.mtx: no such file. SOURCE is a matrix file" in refused("run", "none.mtx")
    assert "this is a folder" in refused("run", ".")
    assert "cannot tell what this is from its name" in refused("run", "notes.txt")
    assert "bad.mtx cannot be read (ValueError" in refused("run", "bad.mtx")
    assert "cut.npz is truncated, damaged or no .npz file (BadZipFile" in refused("run", "cut.npz")
    assert "(ValueError: Python objects, which slq never opens)" in refused("run", "objects.npy")
    assert "other.npz holds the arrays x, not a sparse matrix" in refused("run", "other.npz")
    assert "three.npy is 2 × 2 × 2; eigenvalues need a square matrix" in refused("run", "three.npy")


def test_a_result_in_place_of_a_matrix_is_recognised(refused, result):
    assert f"Look at it with `slq show {result}`" in refused("run", result, "-o", "x.npz")


# -- run: Python ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", ["factories.py:dense", "factories.py:operator", "factories.py:matrix", "factories:dense"]
)
def test_a_source_can_be_a_function_or_a_matrix_of_a_python_module(cli, source):
    assert cli("run", source, "--seed", 0)[0] == 0

    name = source.rpartition(":")[2]
    assert slq.load(f"{name}.spectrum.npz").nodes.max() == pytest.approx(60.0)


def test_a_file_may_import_its_neighbours(cli, folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "main.py").write_text("from neighbour import make\n")
    (folder / "sub" / "neighbour.py").write_text("import numpy\ndef make(): return numpy.eye(3)\n")

    assert cli("run", "sub/main.py:make")[0] == 0
    sys.modules.pop("neighbour")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("factories.py:broken", "broken failed: ZeroDivisionError: division by zero (factories.py, line 15)"),
        ("factories.py:nothing", "factories.py:nothing returned nothing. It must return a matrix or an operator."),
        ("factories.py:text", "got str"),
        ("factories.py:needs", "failed: TypeError: needs() missing 1 required positional argument: 'x'"),
        ("factories.py:absent", "factories.py has no `absent`. It has: dense, operator, broken"),
        ("factories.py", "name a function in it that returns a matrix or an operator, as factories.py:factory."),
        ("none.py:make", "none.py: no such file."),
        ("none.module:make", "failed: ModuleNotFoundError: No module named 'none'"),
        (":make", "a Python source is written module:factory or file.py:factory."),
    ],
)
def test_a_function_that_gives_no_operator_is_named_with_what_is_wrong(refused, source, message):
    assert message in refused("run", source)


def test_what_is_no_matrix_cannot_be_symmetrised_or_transposed(refused):
    assert "--symmetric-part needs a matrix" in refused("run", "factories.py:operator", "--symmetric-part")
    assert "has no product with its transpose" in refused("run", "factories.py:operator", "--gram")


# -- run: what comes out --------------------------------------------------------------------------------------


def test_json_is_one_object_with_every_number_and_its_interval(cli):
    code, out, _ = cli("run", "grid.mtx", "--seed", 0, "--json")

    said, found = json.loads(out), slq.load("grid.spectrum.npz")
    assert code == 0
    assert (said["n"], said["probes"], said["steps"], said["products"]) == (
        found.n,
        found.probes,
        found.steps,
        found.products,
    )
    assert said["trace"]["low"] <= said["trace"]["value"] <= said["trace"]["high"]
    assert said["edges"]["low"] < 0.2 < 7.8 < said["edges"]["high"]
    assert said["error"]["total"] == pytest.approx(found.error.total)
    assert said["claims"] == "certified"
    assert said["status"] == found.status
    assert said["warnings"] == []


def test_json_names_each_outlier_with_its_interval_and_multiplicity(cli):
    np.save("spiked.npy", np.diag(np.append(np.linspace(-1, 1, 200), 9.0)))
    _, out, _ = cli("run", "spiked.npy", "--probes", 2, "--steps", 30, "--json")

    (outlier,) = json.loads(out)["outliers"]
    assert outlier["low"] <= outlier["value"] <= outlier["high"]
    assert (outlier["value"], outlier["multiplicity"], outlier["exact"]) == (pytest.approx(9.0), 1.0, True)


def test_json_writes_infinities_as_null():
    from slq._command import _report

    assert _report._finite({"a": [np.inf, 1.0], "b": float("nan")}) == {"a": [None, 1.0], "b": None}


def test_a_warning_of_the_run_is_told_on_stderr_too_when_the_table_goes_elsewhere(cli):
    code, out, err = cli("run", "factories.py:drifting", "--steps", 10)

    warned = [line for line in err.splitlines() if line.startswith("slq: warning: the operator drifts")]
    assert code == 0
    assert len(warned) == 1
    assert "warning   the operator drifts" in out


def test_a_run_that_fails_has_status_1_and_one_line(refused):
    assert "NaN" in refused("run", "factories.py:not_finite", status=1)


def test_what_was_computed_before_a_failure_is_kept(refused):
    message = refused("run", "factories.py:failing", "--probes", 2, status=1)

    assert "the network is gone" in message
    assert "are kept in failing.spectrum.npz" in message
    assert slq.load("failing.spectrum.npz").probes == 2


def test_an_interruption_has_status_130_and_keeps_what_was_computed(refused):
    message = refused("run", "factories.py:interrupted", "--probes", 2, status=130)

    found = slq.load("interrupted.spectrum.npz")
    assert message == f"slq: interrupted: 2 probes × {found.steps} steps are kept in interrupted.spectrum.npz\n"


def test_an_interruption_before_the_first_step_keeps_nothing(refused, folder):
    assert refused("run", "factories.py:interrupted_at_once", status=130) == "slq: interrupted\n"
    assert list(folder.glob("*.spectrum.npz")) == []


def test_a_run_that_is_asked_to_end_resumes_from_its_checkpoint(cli):
    command = ("run", "factories.py:signalled", "--probes", 1, "--steps", 8, "--seed", 0, "--checkpoint", "c.npz")
    code, _, err = cli(*command)
    assert code == 130
    assert "slq: interrupted: what there is lies in signalled.spectrum.npz; the same command goes on from c.npz" in err
    assert slq.load("signalled.spectrum.npz").steps == 3

    assert cli(*command, "--resume")[0] == 0
    assert slq.load("signalled.spectrum.npz").steps == 8


def test_a_search_that_is_asked_to_end_resumes_from_its_checkpoint(cli):
    command = ("eigs", "factories.py:signalled", "-k", 2, "--seed", 0, "--checkpoint", "c.npz")
    code, out, err = cli(*command)
    assert code == 130
    assert "slq: interrupted: the same command goes on from c.npz" in err
    assert "status      interrupted; residuals are those of the recurrence" in out

    code, out, _ = cli(*command, "--resume")
    assert code == 0
    assert "converged, verified" in out


@pytest.mark.parametrize("more", [[], ["--checkpoint", "none.npz"]], ids=["unnamed", "missing"])
@pytest.mark.parametrize("verb", ["run", "eigs"])
def test_resuming_from_nothing_is_refused(verb, more, refused):
    assert "--resume needs --checkpoint FILE" in refused(verb, "grid.mtx", "--resume", *more)


# -- show and plot --------------------------------------------------------------------------------------------


def test_show_prints_what_run_printed(cli):
    _, first, _ = cli("run", "grid.mtx", "--seed", 0)
    code, second, err = cli("show", "grid.spectrum.npz")

    assert (code, second, err) == (0, first, "")


def test_show_prints_json_too(cli, result):
    code, out, _ = cli("show", result, "--json")

    assert code == 0
    assert json.loads(out)["steps"] == 20


@pytest.mark.parametrize(("kind", "name"), [("density", ""), ("cdf", ".cdf"), ("outliers", ".outliers")])
def test_plot_writes_a_picture_and_prints_its_name(cli, result, folder, kind, name):
    pytest.importorskip("matplotlib")

    assert cli("plot", result, "--kind", kind) == (0, f"grid.spectrum{name}.png\n", "")
    assert (folder / f"grid.spectrum{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "magic"), [("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_plot_writes_the_kind_of_picture_that_its_name_says(cli, result, folder, name, magic):
    pytest.importorskip("matplotlib")

    assert cli("plot", result, "-o", name) == (0, f"{name}\n", "")
    assert (folder / name).read_bytes().startswith(magic)


def test_plot_draws_several_results_over_each_other_by_their_names(cli, result, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **options: drawn.append(self.axes))
    os.rename(result, "before.spectrum.npz")
    cli("run", "grid.mtx", "--out", "after.npz")
    cli("plot", "before.spectrum.npz", "after.npz")

    ((axes,),) = drawn
    labels = axes.get_legend_handles_labels()[1]
    assert [label for label in labels if "band" not in label and "outlier" not in label] == ["before", "after"]


@pytest.fixture
def history(folder):
    operator, _ = slq.gallery.spiked(100)
    found = slq.History()
    for step in range(3):
        s = slq.spectrum(operator, probes=1, steps=15, rng=step)
        found = found.append(step, s, gradient_concentration=0.5)
    return found.save("history.npz").name


@pytest.mark.parametrize(
    ("kind", "name"),
    [((), ""), (("--kind", "evolution"), ""), (("--kind", "ridge"), ".ridge"), (("--kind", "overlap"), ".overlap")],
    ids=["default", "evolution", "ridge", "overlap"],
)
def test_a_history_is_drawn_as_its_evolution(cli, history, folder, kind, name):
    pytest.importorskip("matplotlib")

    assert cli("plot", history, *kind) == (0, f"history{name}.png\n", "")
    assert (folder / f"history{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_history_is_shown_and_reported(cli, history, folder):
    pytest.importorskip("matplotlib")

    assert "History of 3 records" in cli("show", history)[1]
    assert json.loads(cli("show", history, "--json")[1])["steps"] == [0, 1, 2]
    assert cli("report", history) == (0, "history.html\n", "")
    assert "</html>" in (folder / "history.html").read_text()


def test_kinds_of_pictures_and_results_that_do_not_go_together_are_refused(refused, history, result):
    pytest.importorskip("matplotlib")

    assert "holds a history: evolution, ridge, outliers, overlap" in refused("plot", history, "--kind", "cdf")
    assert "holds a spectrum: density, cdf, outliers" in refused("plot", result, "--kind", "ridge")
    assert "Draw it alone" in refused("plot", history, result)
    assert "holds a Spectrum, not a History" in refused("report", result)


def test_a_missing_matplotlib_is_one_line_of_advice(refused, monkeypatch):
    from slq._command import _drawing

    monkeypatch.setattr(_drawing, "find_spec", lambda name: None)

    assert refused("plot", "x.npz") == "slq: `slq plot` needs matplotlib: python -m pip install 'slq[plot]'\n"


def test_a_missing_cyclopts_is_one_line_of_advice(refused, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "cyclopts":
            raise ModuleNotFoundError(name=name)
        return original(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "slq._command._verbs", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)

    assert refused("info") == "slq: the command line needs cyclopts: python -m pip install 'slq[cli]'\n"


def test_a_mistake_in_slq_is_shown_with_its_traceback(result, monkeypatch):
    from slq._command import _report

    monkeypatch.setattr(_report, "as_json", lambda spectrum: int("no number"))

    with pytest.raises(ValueError, match="invalid literal") as caught:
        _cli.main(["show", result, "--json"])
    assert caught.value.__notes__ == [
        "This is a mistake in slq, not in the input. Please report it with the output of `slq info`."
    ]


# -- eigs -----------------------------------------------------------------------------------------------------


def test_eigs_prints_a_table_and_writes_what_numpy_reads(cli, folder):
    code, out, err = cli("eigs", "grid.mtx", "-k", 3, "--which", "SA", "--seed", 0, "--out", "low.npz")

    exact = np.linalg.eigvalsh(GRID.toarray())[:3]
    assert code == 0
    assert out.startswith("3 eigenpairs (SA) of a 144")
    assert "converged, verified" in out
    assert err == "slq: written: low.npz: values, residuals, vectors.\n"
    with np.load("low.npz") as found:
        np.testing.assert_allclose(found["values"], exact, atol=1e-12)
        np.testing.assert_allclose(GRID @ found["vectors"], found["vectors"] * found["values"], atol=1e-12)


def test_eigs_as_json_says_where_all_others_lie(cli):
    code, out, _ = cli("eigs", "grid.npy", "-k", 3, "--which", "LA", "--seed", 0, "--json")

    found, exact = json.loads(out), np.linalg.eigvalsh(GRID.toarray())
    assert code == 0
    np.testing.assert_allclose(found["values"], exact[-3:], atol=1e-12)
    assert found["verified"]
    assert found["rest"]["low"] is None
    assert exact[-4] <= found["rest"]["high"] <= exact[-3]


def test_eigs_that_do_not_converge_are_shown_and_fail(cli):
    code, out, _ = cli("eigs", "grid.mtx", "--max-products", 20, "--seed", 0)

    assert code == 1
    assert "budget of 20 products reached" in out
    assert out.count("not converged") == 6


def test_eigs_show_what_they_had_when_a_product_fails(cli):
    code, out, err = cli("eigs", "factories.py:failing", "-k", 2, "--seed", 0)

    assert code == 1
    assert "ended by RuntimeError" in out
    assert "the network is gone" in err


def test_more_eigs_than_there_are_cannot_be_asked_for(refused):
    assert "`k` must be at most the dimension 144, got 145" in refused("eigs", "grid.mtx", "-k", 145)


# -- as a process ---------------------------------------------------------------------------------------------


def test_the_module_is_the_same_program_and_silent_when_piped(folder):
    done = process("run", "grid.mtx", "--seed", 0, cwd=folder)

    assert done.returncode == 0
    assert done.stderr == "slq: written: grid.spectrum.npz. Draw it: slq plot grid.spectrum.npz\n"
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("Spectrum of a 144")


def test_a_terminal_without_unicode_shows_the_rest(folder):
    done = process("run", "grid.mtx", cwd=folder, env={**os.environ, "PYTHONIOENCODING": "ascii"})

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Spectrum of a 144 ? 144 operator")


def test_a_reader_that_has_seen_enough_is_no_error(folder):
    command = [sys.executable, "-m", "slq", "info"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder) as running:
        running.stdout.close()
        said = running.stderr.read()
        assert (running.wait(timeout=120), said) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_a_terminal_gets_a_progress_bar_that_goes_away_and_no_colour_if_unwanted(folder):
    pytest.importorskip("tqdm")
    import pty
    import termios

    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    command = [sys.executable, "-m", "slq", "run", "factories.py:operator"]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=terminal, timeout=120, check=False
    )
    os.close(terminal)
    seen = os.read(main, 100_000).decode()
    os.close(main)

    assert done.returncode == 0
    assert "products" in seen.partition("slq: written")[0]
    assert re.search(r"\r +\r", seen)  # the bar was wiped
    assert "\x1b[3" not in seen
    assert done.stdout.decode().startswith("Spectrum of a 60")


def test_importing_the_command_line_loads_no_parser_no_plots_and_no_torch():
    code = "import slq._command._cli, sys; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)

    assert not {"cyclopts", "rich", "matplotlib", "torch", "tqdm"} & set(done.stdout.split())


# -- one question -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "truth"), [("log", np.log), ("inverse", np.reciprocal), ("x**2", np.square), ("sqrt", np.sqrt)]
)
def test_trace_reaches_a_tolerance(cli, function, truth):
    exact = truth(np.linalg.eigvalsh(GRID.toarray())).sum()
    code, out, _ = cli("trace", "grid.mtx", "--function", function, "--rtol", 5e-2, "--seed", 0, "--json")
    found = json.loads(out)

    assert code == 0
    assert found["low"] <= exact <= found["high"]
    assert found["high"] - found["low"] <= 0.1 * abs(found["value"]) * 1.01
    assert set(found["error"]) == {"sampling", "quadrature", "numeric"}


def test_trace_tells_the_number_its_parts_and_its_claim(cli):
    _, out, _ = cli("trace", "grid.mtx", "-f", "log", "--seed", 0, "--shift", 0.5)
    number, parts = out.splitlines()

    assert re.fullmatch(r".* (±|in|exactly).*\(95 %\)", number)
    assert re.fullmatch(r"sampling \S+, quadrature \S+, numeric \S+ · (certified|estimate)", parts)


def test_trace_of_a_result_costs_no_product_and_is_that_of_the_run(cli, result):
    _, out, _ = cli("trace", result, "-f", "log", "--json")
    here = slq.load(result).logdet()

    assert (json.loads(out)["low"], json.loads(out)["high"]) == (here.low, here.high)
    assert cli("trace", "grid.npz", "--seed", 0)[0] == 0  # a matrix in a file of the same ending


def test_trace_refuses_what_cannot_be(refused, cli):
    np.save("indefinite.npy", np.diag([-1.0, 1.0, 2.0]))
    assert "positive definite" in refused("trace", "indefinite.npy", "-f", "log")
    assert "one of identity" in refused("trace", "grid.mtx", "-f", "logarithm")
    assert "no such file" in refused("trace", "nowhere.npz")
    assert "`rtol` or `atol` must be positive" in refused("trace", "grid.mtx", "--rtol", 0)


def test_compare_tells_whether_two_results_differ_by_more_than_their_errors(cli, result):
    cli("run", "grid.mtx", "--probes", 2, "--steps", 20, "--seed", 1, "--out", "again.npz")
    slq.load(result).shifted(5.0).save("far.npz")

    assert cli("compare", result, "again.npz")[1].endswith("They agree within their errors.\n")
    assert cli("compare", result, "far.npz")[1].endswith("They differ by more than their errors.\n")
    found = json.loads(cli("compare", result, "far.npz", "--json")[1])
    assert found["distance (Wasserstein)"]["low"] <= 5.0 <= found["distance (Wasserstein)"]["high"]
    assert found["mean, first"]["value"] == pytest.approx(4.0, abs=0.5)


def test_compare_refuses_what_is_no_result(refused, result):
    assert "no result of slq" in refused("compare", result, "grid.npz")
    assert "nowhere.npz: no such file" in refused("compare", "nowhere.npz", result)


@pytest.mark.parametrize("kind", ["gaussian", "kpm", "haydock", "lanczos-bins", "log"])
def test_plot_draws_every_form_of_the_density(cli, result, kind):
    pytest.importorskip("matplotlib")
    assert cli("plot", result, result, "--kind", kind)[:2] == (0, f"grid.spectrum.{kind}.png\n")


def test_a_matrix_is_cut_into_shards(cli, folder):
    code, out, err = cli("shard", "grid.mtx.gz", "--parts", 3, "--out", "parts")

    assert code == 0
    assert re.search(r"parts: n = 144, 672 entries, float64, 3 parts", out)
    assert err == "slq: written: parts\n"
    assert len(list((folder / "parts").glob("part-*.npz"))) == 3


def test_shards_are_not_written_over(refused):
    assert "exists" in refused("shard", "grid.npz", "--out", ".")
