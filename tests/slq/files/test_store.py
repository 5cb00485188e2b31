"""Files: exact, atomic, without pickle, and clear about what is wrong with a bad one."""

import json

import numpy as np
import pytest

import slq
from slq._files import _store


@pytest.fixture
def run():
    return slq.spectrum(slq.gallery.spiked(300)[0], probes=3, steps=20, rng=2**127 + 5)


def test_a_saved_run_comes_back_exactly(run, tmp_path):
    path = run.save(tmp_path / "run.npz")
    back = slq.load(path)
    assert back == run
    assert (back.seed, back.status, back.noise, back.metadata) == (run.seed, run.status, run.noise, dict(run.metadata))
    np.testing.assert_array_equal(back.nodes, run.nodes)
    assert repr(back) == repr(run)


def test_the_suffix_is_added_and_the_path_returned(run, tmp_path):
    assert run.save(tmp_path / "run") == tmp_path / "run.npz"


def test_files_hold_no_pickle(run, tmp_path):
    path = run.save(tmp_path / "run.npz")
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(str(file["header"]))["kind"] == "slq.Spectrum"
        assert all(file[name].dtype != object for name in file.files)


def test_a_file_with_pickles_is_refused(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, header=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"evil\.npz"):
        slq.load(path)


def test_truncated_files_are_refused_with_a_reason(run, tmp_path):
    whole = run.save(tmp_path / "run.npz").read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "cut.npz"
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"truncated, damaged or no \.npz"):
            slq.load(path)


def test_flipped_bytes_never_pass_in_silence(run, tmp_path):
    whole = bytearray(run.save(tmp_path / "run.npz").read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.npz"
    for position in rng.integers(len(whole), size=60):
        damaged = whole.copy()
        damaged[position] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            back = slq.load(path)
        except ValueError:
            continue
        assert back == run  # a byte that carries nothing, such as a date


def test_foreign_and_newer_files_are_told_apart(run, tmp_path, monkeypatch):
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="no result of slq"):
        slq.load(tmp_path / "foreign.npz")
    monkeypatch.setattr(_store, "_FORMAT", 99)
    path = run.save(tmp_path / "newer.npz")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="newer slq"):
        slq.load(path)
    with pytest.raises(FileNotFoundError):
        slq.load(tmp_path / "nothing.npz")


def test_a_failing_write_leaves_the_old_file_and_no_litter(run, tmp_path, monkeypatch):
    path = run.save(tmp_path / "run.npz")
    before = path.read_bytes()

    def full(*_, **__):
        msg = "no space left on device"
        raise OSError(msg)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        run.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
