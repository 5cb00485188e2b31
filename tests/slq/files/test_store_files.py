"""Files that were cut, forged or half written: nothing is executed, nothing is lost, messages name the file."""

import dataclasses
import io
import json
import os
import pickle
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

import slq
from slq._files import _store

HUGE = 2**128 - 1


@pytest.fixture(scope="module")
def run():
    return slq.spectrum(slq.gallery.spiked(300)[0], probes=3, steps=20, rng=HUGE)


@pytest.fixture
def forge(run, tmp_path):
    """Give a function that writes the file of the run with arrays, facts or header entries changed; None drops them."""
    with np.load(run.save(tmp_path / "true.npz")) as file:
        true = dict(file)

    def write(arrays=(), facts=(), header=()):
        parts, head = dict(true), json.loads(str(true["header"]))
        for target, changes in ((parts, arrays), (head["facts"], facts), (head, header)):
            target.update(changes)
            for name in [name for name, value in target.items() if value is None and name in dict(changes)]:
                del target[name]
        path = tmp_path / "forged.npz"
        np.savez(path, **{**parts, "header": np.array(json.dumps(head))})
        return path

    return write


def test_every_field_comes_back_bit_by_bit(run, tmp_path):
    back = slq.load(run.save(tmp_path / "run.npz"))
    assert back.seed == HUGE
    for field in dataclasses.fields(slq.Spectrum):
        if field.name.startswith("_"):
            continue
        one, two = getattr(run, field.name), getattr(back, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == two.dtype
            assert one.tobytes() == two.tobytes()
        else:
            assert two == one
            assert type(two) is type(one) or field.name == "metadata"


def test_answers_of_a_loaded_run_are_the_same(run, tmp_path):
    back = slq.load(run.save(tmp_path / "run.npz"))
    assert back.trace("exp") == run.trace("exp")
    assert back.count(-0.5, 0.5) == run.count(-0.5, 0.5)
    np.testing.assert_array_equal(back.cdf([0.0, 0.5]).low, run.cdf([0.0, 0.5]).low)
    assert back.error == run.error


def test_warnings_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    with pytest.warns(slq.SlqWarning, match="not symmetric"):
        s = slq.spectrum(rng.standard_normal((50, 50)), probes=2, steps=5, rng=0)
    back = slq.load(s.save(tmp_path / "warned"))
    assert back.warnings == s.warnings != ()
    assert not back.certified


def test_metadata_of_any_kind_is_kept_or_becomes_text(run, tmp_path):
    odd = {"number": np.float32(1.5), "array": np.arange(3), "deep": {"a": (1, 2)}, "class": object, "text": "π · λ"}
    back = slq.load(dataclasses.replace(run, metadata=odd).save(tmp_path / "odd"))
    assert back.metadata == {
        "number": 1.5,
        "array": [0, 1, 2],
        "deep": {"a": [1, 2]},
        "class": "<class 'object'>",
        "text": "π · λ",
    }


@pytest.mark.parametrize("name", ["run", "run.v1", "run.npz", ".hidden", "with space", "Ünïcode"])
def test_the_path_that_was_written_is_returned_and_ends_in_npz(run, tmp_path, name):
    path = run.save(tmp_path / name)
    assert path == tmp_path / (name if name.endswith(".npz") else name + ".npz")
    assert path.exists()
    assert slq.load(path) == run
    assert slq.load(str(path)) == run


def test_a_path_may_be_text_and_relative(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = run.save("run")
    assert slq.load("run.npz") == run
    assert str(path) == "run.npz"


def test_a_file_is_small_and_readable_by_numpy_alone(run, tmp_path):
    path = run.save(tmp_path / "run")
    assert path.stat().st_size < 40_000
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["alpha"], run.alpha)
        assert json.loads(str(file["header"]))["facts"]["seed"] == str(HUGE)


class Bomb:
    """Something that would run code when unpickled."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize("member", ["alpha", "header", "extra"])
def test_pickles_are_never_opened(run, tmp_path, monkeypatch, member):
    monkeypatch.chdir(tmp_path)
    whole = run.save(tmp_path / "run.npz")
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    poison = buffer.getvalue() + pickle.dumps(Bomb())
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / "evil.npz", "w") as new:
        for name in old.namelist():
            if name != f"{member}.npy":
                new.writestr(name, old.read(name))
        new.writestr(f"{member}.npy", poison)
    with pytest.raises(ValueError, match=r"evil\.npz"):
        slq.load(tmp_path / "evil.npz")
    assert not (tmp_path / "exploded").exists()


def test_a_file_cut_at_any_length_is_refused(run, tmp_path):
    whole = run.save(tmp_path / "run.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for length in sorted({*range(0, 64), *np.linspace(64, len(whole) - 1, 60).astype(int).tolist(), len(whole) - 1}):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.npz is truncated"):
            slq.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04K\x01.", bytes(5000)])
def test_files_of_another_kind_are_refused_by_name(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.npz"):
        slq.load(path)


def test_foreign_archives_newer_formats_and_missing_parts_are_told_apart(forge, tmp_path):
    np.savez(tmp_path / "foreign.npz", matrix=np.eye(3))
    with pytest.raises(ValueError, match="no result of slq"):
        slq.load(tmp_path / "foreign.npz")
    for changes, message in (
        ({"header": {"kind": "another.Thing"}}, "no result of slq"),
        ({"header": {"format": 2}}, "has format 2, this slq reads up to 1.*newer slq"),
        ({"arrays": {"beta": None}}, "lacks beta"),
    ):
        with pytest.raises(ValueError, match=message):
            slq.load(forge(**changes))


def test_unknown_arrays_of_a_later_minor_version_do_no_harm(forge, run):
    assert slq.load(forge(arrays={"extra": np.arange(3)})) == run


@pytest.mark.parametrize(
    "change",
    [
        {"facts": {"n": None}},
        {"facts": {"seed": None}},
        {"facts": {"warnings": None}},
        {"facts": {"unknown": 1}},
        {"header": {"format": None}},
        {"header": {"facts": None}},
        {"header": {"format": "two"}},
        {"facts": {"seed": "abc"}},
        {"arrays": {"alpha": np.zeros((3, 2))}},
        {"arrays": {"lengths": np.array([20, 20, 400])}},
    ],
    ids=lambda change: "-".join(f"{part}-{'-'.join(values)}" for part, values in change.items()),
)
def test_contents_that_contradict_each_other_are_damage_of_that_file(forge, change):
    with pytest.raises(ValueError, match=r"forged\.npz"):
        slq.load(forge(**change))


def test_missing_files_and_folders_say_so(run, tmp_path):
    with pytest.raises(FileNotFoundError):
        slq.load(tmp_path / "nothing.npz")
    with pytest.raises(IsADirectoryError):
        slq.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        run.save(tmp_path / "no folder" / "run.npz")


@pytest.mark.parametrize("error", [OSError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("at", ["savez", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(run, tmp_path, monkeypatch, error, at):
    path = run.save(tmp_path / "run.npz")
    before = path.read_bytes()

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(*{"savez": (np, "savez"), "fsync": (os, "fsync")}[at], fail)
    other = slq.spectrum(slq.gallery.semicircle(100)[0], probes=1, steps=3, rng=0)
    with pytest.raises(error):
        other.save(path)
    with pytest.raises(error):
        other.save(tmp_path / "new.npz")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_a_file_is_replaced_whole_and_keeps_the_usual_permissions(run, tmp_path):
    path = run.save(tmp_path / "run.npz")
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    other = slq.spectrum(slq.gallery.semicircle(100)[0], probes=1, steps=3, rng=0)
    other.save(path)
    assert slq.load(path) == other != run


def test_where_windows_locks_files_it_is_asked_not_to_wait(run, tmp_path, monkeypatch):
    asked = []
    stand_in = SimpleNamespace(LK_NBLCK=2, locking=lambda *call: asked.append(call[1:]))
    monkeypatch.setitem(sys.modules, "msvcrt", stand_in)
    with (tmp_path / "x").open("wb") as file:
        monkeypatch.setattr(os, "name", "nt")
        _store._lock(file.fileno())
        monkeypatch.undo()
    assert asked == [(2, 1)]


@pytest.mark.parametrize(("system", "times"), [("posix", 1), ("nt", 0)])
def test_folders_are_flushed_where_that_can_be(system, times, tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    monkeypatch.setattr(os, "name", system)
    _store.flush(tmp_path)
    monkeypatch.undo()
    assert len(flushed) == times


def test_a_header_that_is_no_json_is_told(run, tmp_path):
    np.savez(tmp_path / "odd.npz", header=np.array("{"), alpha=np.ones(1))
    with pytest.raises(ValueError, match=r"odd\.npz is damaged: its header is no JSON"):
        slq.load(tmp_path / "odd.npz")
