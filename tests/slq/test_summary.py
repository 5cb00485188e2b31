"""What print(spectrum) shows, and in which coordinate."""

import warnings

import numpy as np
import pytest

import slq


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
