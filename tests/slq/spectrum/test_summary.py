"""What print(spectrum) shows, and in which coordinate."""

import warnings

import numpy as np
import pytest

import slq
from slq._spectrum._summary import sparkline


def printed():
    yield "one", np.array([[2.0]]), {}
    yield "identity", np.eye(30), {}
    yield "zero", np.zeros((30, 30)), {}
    yield "asymmetric", np.triu(np.ones((50, 50))), {}
    yield "one probe", slq.gallery.spiked(2000)[0], {"probes": 1, "steps": 40}
    yield "tiny", np.diag(np.linspace(1e-200, 2e-200, 50)), {}
    yield "hessian-like", np.diag(np.append(np.linspace(-1e-4, 1e-4, 500), 10.0 ** np.linspace(-2, 2, 30))), {}


@pytest.mark.parametrize(("matrix", "options"), [p[1:] for p in printed()], ids=[p[0] for p in printed()])
def test_every_line_fits_into_eighty_columns(matrix, options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slq.SlqWarning)
        text = repr(slq.spectrum(matrix, rng=0, **options))
    assert max(map(len, text.splitlines())) <= 80
    for name in ("run", "status", "edges", "outliers", "trace", "error", "claims", "density"):
        assert f"\n  {name} " in text


def test_one_probe_says_that_outliers_are_taken_for_simple():
    s = slq.spectrum(slq.gallery.spiked(2000)[0], probes=1, steps=40, rng=0)
    assert "one probe cannot tell" in repr(s)


def test_the_coordinate_is_asinh_where_outliers_squeeze_the_bulk():
    bulk = np.linspace(-1, 1, 1000)
    assert slq.spectrum(np.diag(bulk), probes=2, steps=20, rng=0).coordinate().scale == "linear"
    s = slq.spectrum(np.diag(np.append(bulk, 1000.0)), probes=2, steps=20, rng=0)
    coordinate = s.coordinate()
    assert coordinate.scale == "asinh"
    assert coordinate.unit == pytest.approx(1.0, rel=0.2)
    assert s.coordinate("linear").scale == "linear"
    x = np.array([-5.0, 0.0, 0.1, 900.0])
    np.testing.assert_allclose(coordinate.inverse(coordinate.forward(x)), x, atol=1e-12)


def table(s):
    """Map the names of the rows to their text, continuation lines included."""
    rows, name = {}, ""
    for line in repr(s).splitlines()[1:]:
        name = line[2:11].strip() or name
        rows[name] = f"{rows[name]} {line[12:].strip()}" if name in rows else line[12:]
    return rows


def spectra():
    yield "semicircle", lambda: slq.gallery.semicircle(500)[0], {"probes": 2, "steps": 20}
    yield "float32", lambda: slq.gallery.marchenko_pastur(500, dtype=np.float32)[0], {"probes": 2, "steps": 20}
    yield "hypercube", lambda: slq.gallery.hypercube(8)[0], {}
    yield "clustered", lambda: slq.gallery.spiked(800, outliers=tuple(range(-90, -2, 8)))[0], {"steps": 60, "probes": 2}
    yield "graded", lambda: slq.gallery.graded(300)[0], {"probes": 2, "steps": 30}
    yield "huge", lambda: np.diag(np.linspace(-1e200, 1e200, 50)), {"probes": 2, "steps": 10}
    yield "scalar", lambda: -7.5 * np.eye(9), {}
    yield "one step", lambda: slq.gallery.semicircle(300)[0], {"probes": 2, "steps": 1}
    yield "without", lambda: slq.gallery.semicircle(300)[0], {"probes": 2, "steps": 20, "reorth": "none"}
    yield "budget", lambda: slq.gallery.semicircle(300)[0], {"max_products": 30}
    yield "rademacher", lambda: slq.gallery.laplacian_2d(15)[0], {"probes": 3, "steps": 20, "kind": "rademacher"}


@pytest.mark.parametrize(("make", "options"), [s[1:] for s in spectra()], ids=[s[0] for s in spectra()])
def test_every_spectrum_prints_within_eighty_columns(make, options):
    s = slq.spectrum(make(), rng=0, **options)
    assert max(map(len, repr(s).splitlines())) <= 80
    assert str(s) == repr(s)
    assert "nan" not in repr(s)
    rows = table(s)
    assert rows["status"] == s.status
    assert rows["run"].startswith(f"all {s.n} columns" if s.kind == "exact" else f"{s.probes} probe")


def test_the_first_line_names_the_size_and_where_it_ran():
    first = repr(slq.spectrum(np.eye(1200), probes=1, steps=2, rng=0)).splitlines()[0]
    assert first.startswith("Spectrum of a 1 200 × 1 200 operator · ")
    assert first.endswith("float64 · cpu")


def test_one_probe_is_not_called_probes():
    one, two = (slq.spectrum(np.diag(np.arange(9.0)), probes=k, steps=4, rng=0) for k in (1, 2))
    assert table(one)["run"].startswith("1 probe × 4 steps")
    assert table(two)["run"].startswith("2 probes × 4 steps")


def test_a_warning_is_shown_whole_and_takes_the_certificate_away():
    with pytest.warns(slq.SlqWarning, match="not symmetric"):
        s = slq.spectrum(np.triu(np.ones((50, 50))), probes=2, steps=10, rng=0)
    rows = table(s)
    assert rows["warning"].split() == s.warnings[0].split()
    assert rows["claims"].startswith("estimates (the operator is not exact")


def test_claims_say_when_orthogonality_was_not_enforced():
    operator, _ = slq.gallery.semicircle(300)
    assert table(slq.spectrum(operator, probes=2, steps=9, rng=0))["claims"].startswith("certified")
    loose = slq.spectrum(operator, probes=2, steps=9, rng=0, reorth="none")
    assert table(loose)["claims"] == "estimates (no re-orthogonalisation)"


def test_outliers_show_their_multiplicity_and_at_most_five_of_them():
    matrix = np.diag([*np.linspace(-1, 1, 300), 50.0, 50.0, 40.0])
    assert table(slq.spectrum(matrix, probes=4, steps=40, rng=0))["outliers"] == "2: 50 (×2), 40"
    many = slq.spectrum(np.diag([*np.linspace(-1, 1, 300), *np.arange(40.0, 120.0, 10.0)]), probes=3, steps=60, rng=0)
    assert table(many)["outliers"].startswith("8: 110, 100, 90, 80, 70, …")


def test_the_sparkline_is_as_wide_as_asked_and_shows_where_the_mass_is():
    s = slq.spectrum(np.diag(np.append(np.zeros(200), np.ones(100))), rng=0)
    line = sparkline(s, 20)
    assert len(line) == 20
    assert line[0] == "█"
    assert 0 < "▁▂▃▄▅▆▇█".index(line[-1]) + 1 <= 8
    assert line[1:-1].strip() == ""


def test_a_spectrum_of_one_point_is_one_block():
    assert sparkline(slq.spectrum(np.eye(5), rng=0)) == "█"
