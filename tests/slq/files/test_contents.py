"""Files that are whole and hold nonsense: whatever cannot be a run, a history or a checkpoint is refused by name."""

import json

import numpy as np
import pytest

import slq

MATRIX = np.diag([9.0, -8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
OPTIONS = {"probes": 2, "steps": 3, "rng": 0, "batch": 1, "reorth": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give a folder with one true file of each kind."""
    place = tmp_path_factory.mktemp("true")
    run = slq.spectrum(MATRIX, probes=2, steps=3, rng=0)
    run.save(place / "run.npz")
    slq.spectrum(MATRIX, rng=0).save(place / "exact.npz")
    history = slq.History(metadata={"a": 1}).append(0, run, arrays={"top": np.ones(2)}, loss=1.0)
    history.append(1, note="odd", loss=0.5).save(place / "history.npz")
    slq.spectrum(MATRIX, checkpoint=place / "checkpoint.npz", **OPTIONS)
    return place


@pytest.fixture
def forged(folder, tmp_path):
    """Give a function that writes a true file with arrays and facts changed; facts are named by their path."""

    def write(name, arrays=(), facts=()):
        with np.load(folder / f"{name}.npz") as file:
            parts = dict(file) | dict(arrays)
        header = json.loads(str(parts["header"]))
        for path, value in dict(facts).items():
            where, keys = header["facts"], path.split(".")
            for key in keys[:-1]:
                where = where[int(key) if isinstance(where, list) else key]
            where[keys[-1]] = value
        np.savez(tmp_path / "forged.npz", **parts | {"header": np.array(json.dumps(header))})
        return tmp_path / "forged.npz"

    return write


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 0),
        ("n", 2**70),
        ("n", True),
        ("kind", "cubic"),
        ("kind", []),
        ("seed", "-1"),
        ("reorth", "half"),
        ("noise", -1.0),
        ("noise", float("nan")),
        ("noise", 1e300),
        ("products", 1.5),
        ("seconds", "long"),
        ("status", 3),
        ("warnings", [1]),
        ("metadata", []),
        ("confidence", 1.0),
        ("drift", float("inf")),
        ("traces", [1.0]),
        ("traces", [1.0, float("nan")]),
        ("copies", 3),
    ],
)
def test_a_fact_that_cannot_be_is_named(forged, name, value):
    with pytest.raises(ValueError, match=rf"forged\.npz contradicts itself \(ValueError: {name}: "):
        slq.load(forged("run", facts={name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", np.zeros(3)),
        ("alpha", np.zeros((0, 3))),
        ("alpha", np.zeros((2, 3), dtype=np.int64)),
        ("alpha", np.full((2, 3), np.nan)),
        ("alpha", np.full((2, 3), 1e300)),
        ("beta", np.zeros((2, 4))),
        ("beta", np.full((2, 3), -1.0)),
        ("lengths", np.array([0, 3])),
        ("lengths", np.array([3, 4])),
        ("lengths", np.array([3.0, 3.0])),
        ("groups", np.zeros(3, dtype=np.int64)),
        ("overlaps", np.zeros((2, 4, 1))),
        ("deflated", np.zeros((1, 1))),
        ("projected", np.zeros(2)),
    ],
)
def test_an_array_that_cannot_be_is_named(forged, name, value):
    with pytest.raises(ValueError, match=rf"forged\.npz contradicts itself \(ValueError: {name}: "):
        slq.load(forged("run", arrays={name: value}))


def test_traces_of_squares_beyond_the_range_cannot_be_known(forged):
    arrays = {"alpha": np.full((2, 3), 1e200)}
    with pytest.raises(ValueError, match=r"traces: that of the square of 1e\+200"):
        slq.load(forged("run", arrays, {"traces": [1.0, 1.0]}))


def test_a_run_whose_metadata_say_little_prints_all_the_same(forged):
    assert "nobody knows how" in repr(slq.load(forged("run", facts={"reorth": "none", "metadata": {}, "drift": 1.0})))


def test_all_eigenvalues_are_as_many_as_the_dimension(forged):
    assert slq.load(forged("exact")).kind == "exact"
    with pytest.raises(ValueError, match=r"alpha: shape .* for all eigenvalues"):
        slq.load(forged("exact", facts={"n": 9}))


def test_steps_whose_rules_do_not_fit_into_memory_are_refused_at_once(forged):
    m = 400_000
    arrays = {"alpha": np.zeros((1, m)), "beta": np.zeros((1, m)), "lengths": np.array([m]), "groups": np.zeros(1, int)}
    arrays |= {"overlaps": np.zeros((1, m, 0)), "projected": np.zeros(1, dtype=bool)}
    with pytest.raises(ValueError, match=r"takes 5\.12e\+03 GB of memory"):
        slq.load(forged("run", arrays=arrays, facts={"n": m}))


@pytest.mark.parametrize(
    ("arrays", "facts", "name"),
    [
        ({"steps": np.zeros((2, 1), dtype=np.int64)}, {}, "steps"),
        ({"steps": np.array([0.0, 1.0])}, {}, "steps"),
        ({"steps": np.array([1, 0])}, {}, "`steps` must ascend"),
        ({"present": np.array([True, True])}, {}, "present"),
        ({"present": np.array([1, 0])}, {}, "present"),
        ({}, {"names.scalars": [1]}, "scalars"),
        ({}, {"names.arrays": [[]]}, "arrays"),
        ({}, {"notes": [1, 2]}, "notes"),
        ({"scalars": np.zeros(2)}, {}, "scalars"),
        ({"array_0": np.array(["a", "b"])}, {}, "scalars"),
        ({}, {"metadata": 1}, "metadata"),
        ({}, {"spectra.0.n": -1}, "n: -1"),
    ],
)
def test_a_history_that_cannot_be_is_refused(forged, arrays, facts, name):
    with pytest.raises(ValueError, match=rf"forged\.npz contradicts itself \(ValueError: {name}"):
        slq.History.load(forged("history", arrays, facts))


@pytest.mark.parametrize(
    ("arrays", "facts", "message"),
    [
        ({"rows0": np.zeros((3, 10), dtype=np.int64)}, {}, "rows0: type int64"),
        ({"rows0": np.zeros(3)}, {}, r"rows0: shape \(3,\)"),
        ({"rows0": np.zeros((3, 1))}, {}, r"rows0: shape \(3, 1\)"),
        ({"rows0": np.full((3, 10), np.nan)}, {}, "rows0: not a number"),
        ({"columns": np.zeros((2, 3))}, {}, r"columns: shape \(2, 3\)"),
        ({"widths0": np.ones(3)}, {}, "widths0: type float64"),
        ({}, {"content.tests": [[0.0, "a", 1]]}, "sizes that are none"),
        ({}, {"content.batches.0.scale": []}, "sizes that are none"),
        ({}, {"content.batches.0.probes": -1}, "counts that are none"),
        ({}, {"content.batches.0.reorth": "half"}, "counts that are none"),
        ({}, {"facts.room": "large"}, "is damaged: room = 'large'"),
        ({}, {"facts.room": float("nan")}, "is damaged: room = nan"),
    ],
)
def test_a_checkpoint_that_cannot_be_is_refused(forged, arrays, facts, message):
    with pytest.raises(ValueError, match=rf"forged\.npz .*{message}"):
        slq.spectrum(MATRIX, checkpoint=forged("checkpoint", arrays, facts), **OPTIONS)


def test_rows_of_a_checkpoint_are_as_wide_as_the_run_needs_them(forged):
    with pytest.raises(ValueError, match="contradicts itself: its rows are not of 10 numbers each"):
        slq.spectrum(MATRIX, checkpoint=forged("checkpoint", {"rows1": np.ones((3, 2))}), **OPTIONS)


@pytest.mark.parametrize("kind", [[], {}, 1])
def test_a_kind_that_is_no_name_is_no_result(folder, tmp_path, kind):
    with np.load(folder / "run.npz") as file:
        parts = dict(file)
    header = json.loads(str(parts["header"])) | {"kind": kind}
    np.savez(tmp_path / "odd.npz", **parts | {"header": np.array(json.dumps(header))})
    with pytest.raises(ValueError, match="no result of slq"):
        slq.load(tmp_path / "odd.npz")
