"""A history is a value that grows by records, and comes back from its file as it was."""

import sys
from types import ModuleType

import numpy as np
import pytest

import slq


def spectrum(outlier, n=60, **options):
    operator, _ = slq.gallery.spiked(n, outliers=(outlier,))
    return slq.spectrum(operator, probes=2, steps=15, rng=0, **options)


@pytest.fixture(scope="module")
def history():
    found = slq.History(metadata={"classes": 3})
    found = found.append(0, spectrum(3.0), arrays={"eigenvalues": [3.0, 1.0]}, loss=2.0)
    found = found.append(10, note="the loss is nan", loss=np.nan)
    return found.append(25, spectrum(9.0, n=70), arrays={"eigenvalues": [9.0, 1.0, 0.5]}, loss=1.0, lr=0.1)


def test_what_a_record_lacks_is_nan(history):
    assert np.array_equal(history.scalars["lr"], [np.nan, np.nan, 0.1], equal_nan=True)
    assert history.arrays["eigenvalues"].shape == (3, 3)
    assert np.isnan(history.arrays["eigenvalues"][0, 2])
    assert np.isnan(history.edges[1]).all()


def test_appending_leaves_the_history_as_it_was(history):
    longer = history.append(26)

    assert (len(history), len(longer)) == (3, 4)
    with pytest.raises(ValueError, match="read-only"):
        history.scalars["loss"][0] = 1.0


def test_a_file_brings_back_every_record(history, tmp_path):
    again = slq.History.load(history.save(tmp_path / "run.npz"))

    assert again == history
    assert again.spectra[2].metadata == history.spectra[2].metadata
    assert again.notes[1] == "the loss is nan"
    assert again.metadata == {"classes": 3}
    assert again != history.append(30)


def test_an_empty_history_has_a_file_too(tmp_path):
    assert slq.History.load(slq.History().save(tmp_path / "run")) == slq.History()


def test_densities_lie_on_one_grid_and_keep_their_mass(history):
    x, density = history.density(scale="linear")

    assert np.isnan(density[1]).all()
    mass = np.trapezoid(density[[0, 2]], x, axis=1)
    assert mass == pytest.approx([59 / 60, 69 / 70], abs=2e-3)  # the outlier is a stem


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: h.append(25), "`step` must be beyond the last recorded one, 25, got 25"),
        (lambda h: h.append(30, loss=[1.0, 2.0]), "`loss` must be a number, got shape"),
        (lambda h: h.append(30, arrays={"eigenvalues": 1.0}), "`eigenvalues` had 1 dimensions"),
        (lambda h: slq.History().append(0).density(), "no record of this history has a spectrum"),
        (lambda h: slq.History(steps=np.array([1, 2])), "have one entry per step"),
    ],
    ids=["step", "scalar", "array", "nothing", "lengths"],
)
def test_what_cannot_be_is_refused(history, call, message):
    with pytest.raises(ValueError, match=message):
        call(history)


def test_a_spectrum_and_a_history_are_not_mistaken_for_each_other(history, tmp_path):
    with pytest.raises(ValueError, match=r"holds a History, not a Spectrum. Read it by slq.History.load"):
        slq.load(history.save(tmp_path / "a.npz"))
    with pytest.raises(ValueError, match=r"holds a Spectrum, not a History. Read it by slq.load"):
        slq.History.load(history.spectra[0].save(tmp_path / "b.npz"))


def test_a_truncated_file_is_named(history, tmp_path):
    path = history.save(tmp_path / "run.npz")
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(ValueError, match=r"run.npz is truncated, damaged"):
        slq.History.load(path)


def test_xarray_gets_everything_along_the_steps(history, monkeypatch):
    fake = ModuleType("xarray")
    fake.Dataset = lambda variables, coordinates, facts: (variables, coordinates, facts)
    monkeypatch.setitem(sys.modules, "xarray", fake)
    variables, coordinates, _ = history.to_xarray()

    assert variables.keys() == {"loss", "lr", "eigenvalues", "density", "edges"}
    sizes = {"eigenvalues_1": 3} | {name: len(values) for name, values in coordinates.items()}
    for dimensions, values, *_ in variables.values():
        names = (dimensions,) if isinstance(dimensions, str) else dimensions
        assert np.shape(values) == tuple(sizes[name] for name in names)


def test_the_real_xarray_takes_it(history):
    pytest.importorskip("xarray")
    data = history.to_xarray()

    assert data.sizes["step"] == 3
    assert data["loss"].sel(step=25).item() == history.scalars["loss"][-1]
    assert data["edges"].sel(step=25, end="largest").item() == history.edges[-1, 1]
    area = np.trapezoid(data["density"].sel(step=25), np.arange(data.sizes["eigenvalue"]))
    assert area > 0
    assert "per unit of" in data["density"].attrs


def test_a_missing_xarray_is_said(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)

    with pytest.raises(ImportError, match="needs xarray"):
        history.to_xarray()


def test_it_prints_its_numbers_and_notes(history):
    assert repr(history).startswith("History of 3 records, steps 0 to 25, n = 60, 70")
    assert "step 10: the loss is nan" in repr(history)


def test_what_is_no_history_equals_none_and_an_empty_one_says_so(history):
    assert history != "a history"
    assert repr(slq.History()) == "History of no records"


def test_a_history_without_spectra_has_no_common_grid():
    with pytest.raises(ValueError, match="no record of this history has a spectrum"):
        slq.History().append(0, loss=1.0).coordinate()


def test_a_scalar_that_is_an_array_is_told_where_to_go(history):
    with pytest.raises(ValueError, match=r"`loss` must be a number, got shape .*`arrays`"):
        history.append(30, loss=[1.0, 2.0])
