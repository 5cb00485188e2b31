"""The demo keeps what it promises, and notices when a promise is broken."""

import re

import numpy as np
import pytest

import slq
from slq import gallery
from slq._command import _cli, _demo
from slq._quadrature._coordinate import Coordinate

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("cyclopts")


@pytest.fixture
def demo(capsys, monkeypatch, tmp_path):
    """Run `slq demo` in this process: its exit status, what it printed, its folder."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            _cli.main(["demo", *arguments])
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return call


@pytest.mark.slow
def test_the_demo_passes_draws_saves_and_says_what_next(demo, tmp_path):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    code, out, err = demo()

    assert (code, err) == (0, ""), out
    assert re.search(r"^PASS: all 11 checks$", out, flags=re.MULTILINE)
    assert len(re.findall(r" PASS$", out, flags=re.MULTILINE)) == 11
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert (tmp_path / "slq-demo" / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert slq.load("slq-demo/demo.npz").n == 1810
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    for command in re.findall(r"\bslq ((?:show|plot) .*)$", out, flags=re.MULTILINE):
        with pytest.raises(SystemExit, match="0"):
            _cli.main(command.split())


@pytest.fixture
def small(monkeypatch):
    """Shrink the network to 610 parameters: quick, and enough to see an operator fail."""
    from slq._command import _digits

    monkeypatch.setattr(_digits, "_HIDDEN", 8)


def spoil(monkeypatch, change):
    """Let `slq_torch.hessian` return an operator whose products are changed."""
    import slq_torch

    made = slq_torch.hessian

    class Spoilt:
        def __init__(self, operator):
            self.operator, self.shape, self.dtype = operator, operator.shape, operator.dtype

        def matmat(self, X):
            return change(self.operator.matmat(X), X)

    monkeypatch.setattr(slq_torch, "hessian", lambda *args: Spoilt(made(*args)))


def failed(out):
    return [line.split("  ")[0].strip() for line in out.splitlines() if line.endswith("FAIL")]


def test_an_operator_that_is_off_by_a_hundredth_fails(demo, small, monkeypatch):
    spoil(monkeypatch, lambda product, X: 1.01 * product)
    code, out, _ = demo("--out", "there")

    assert code == 1
    assert {"H against torch.func", "largest eigenvalue"} <= set(failed(out))
    assert re.search(r"^FAIL: \d+ of 11 checks$", out, flags=re.MULTILINE)


def test_an_operator_with_an_eigenvalue_too_many_fails(demo, small, monkeypatch):
    spoil(monkeypatch, lambda product, X: product + 0.2 * X.mean(0))
    code, out, _ = demo()

    assert code == 1
    assert "H against torch.func" in failed(out)


@pytest.mark.parametrize("module", ["torch", "sklearn", "matplotlib"])
def test_what_is_missing_is_one_line_of_advice(demo, monkeypatch, module):
    monkeypatch.setattr(_demo, "find_spec", lambda name: None if name == module else object())
    code, out, err = demo()

    name = "scikit-learn" if module == "sklearn" else module
    assert (code, out) == (2, "")
    assert err == f"slq: `slq demo` needs {name}: python -m pip install 'slq[demo]'\n"


def test_an_output_folder_that_is_a_file_is_refused(demo, tmp_path):
    (tmp_path / "taken").write_text("")
    code, _, err = demo("--out", "taken")

    assert code == 2
    assert err == "slq: taken: file exists\n"


# -- the comparison itself ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    operator, law = gallery.spiked(500)
    return slq.spectrum(operator, rng=0), law.eigenvalues()


def test_a_true_spectrum_passes_every_comparison(pair):
    checks = _demo.compare(*pair)

    assert [c.name for c in checks if not c.passed] == []
    assert len(checks) == 9


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda e: np.append(e[:-1], 1.01 * e[-1]), "largest eigenvalue"),
        (lambda e: np.append(1.1 * e[0], e[1:]), "smallest eigenvalue"),
        (lambda e: np.append(e[0] - 9.0, e[1:]), "all eigenvalues in"),
        (lambda e: np.sort(np.append(e[300:], np.full(300, 2.0))), "number > 5% of largest"),
        (lambda e: np.append(e[:-200], e[-200:] + 2.0), "trace of H"),
        (lambda e: np.append(e[:-200], e[-200:] + 2.0), "trace of H²"),
        (lambda e: np.append(e[:-200], e[-200:] + 2.0), "distance, linear axis"),
        (lambda e: np.append(e[:-200], e[-200:] + 2.0), "CDF inside its band"),
    ],
)
def test_another_spectrum_fails_the_comparison_that_it_should(pair, change, name):
    result, exact = pair
    checks = {c.name: c.passed for c in _demo.compare(result, change(exact))}

    assert not checks[name]


def test_the_distance_of_a_shifted_spectrum_is_the_shift(pair):
    result, exact = pair
    here, span = _demo.distance(result, exact, Coordinate("linear")), exact[-1] - exact[0]

    shifted = _demo.distance(result, exact + 0.3, Coordinate("linear"))
    assert shifted == pytest.approx(0.3 / span, abs=2 * here + 0.3 / span * 0.05)
