"""The file of a history is complete at every moment, has one writer, and goes on where it ended."""

import errno
import subprocess
import sys

import pytest

import slq
from slq._files import _store


def test_every_record_is_on_disk_at_once_and_can_be_read_meanwhile(tmp_path):
    with slq.HistoryFile(tmp_path / "run.npz") as file:
        for step in range(3):
            assert file.append(step, loss=1.0 / (1 + step))
            assert slq.History.load(tmp_path / "run.npz") == file.history


def test_a_run_that_goes_on_gives_the_same_file(tmp_path):
    for name, parts in (("whole", [range(4)]), ("parts", [range(2), range(2, 4)])):
        for part in parts:
            with slq.HistoryFile(tmp_path / name) as file:
                for step in part:
                    file.append(step, loss=float(step))

    assert slq.History.load(tmp_path / "whole.npz") == slq.History.load(tmp_path / "parts.npz")
    assert len(slq.History.load(tmp_path / "parts.npz")) == 4


def test_a_second_writer_is_refused_until_the_first_closes(tmp_path):
    first = slq.HistoryFile(tmp_path / "run.npz")
    with pytest.raises(BlockingIOError, match="is being written by another recorder"):
        slq.HistoryFile(tmp_path / "run.npz")
    code = f"import slq; slq.HistoryFile({str(tmp_path / 'run.npz')!r})"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "BlockingIOError" in other.stderr
    first.close()

    slq.HistoryFile(tmp_path / "run.npz").close()


def test_a_process_that_is_killed_leaves_its_records_and_no_lock(tmp_path):
    path = str(tmp_path / "run.npz")
    code = f"import os, slq; f = slq.HistoryFile({path!r}); f.append(0, loss=1.0); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode != 0

    with slq.HistoryFile(path) as file:
        assert file.history.steps.tolist() == [0]
        file.append(1, loss=0.5)


def test_a_full_disk_warns_once_keeps_the_file_and_loses_nothing(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with slq.HistoryFile(tmp_path / "run.npz") as file:
        file.append(0)
        with monkeypatch.context() as patch:
            patch.setattr(_store.np, "savez", full)
            with pytest.warns(slq.SlqWarning, match="cannot be written") as caught:
                written = [file.append(1), file.append(2)]
            assert (written, len(caught)) == ([False, False], 1)
            assert slq.History.load(tmp_path / "run.npz").steps.tolist() == [0]
        assert file.append(3)

    assert slq.History.load(tmp_path / "run.npz").steps.tolist() == [0, 1, 2, 3]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".run.npz.lock", "run.npz"]


def test_a_file_that_is_no_history_is_refused_and_freed(tmp_path):
    path = slq.spectrum(slq.gallery.semicircle(20)[0], probes=1, steps=5, rng=0).save(tmp_path / "run.npz")
    for _ in range(2):
        with pytest.raises(ValueError, match="holds a Spectrum"):
            slq.HistoryFile(path)


def test_a_closed_file_takes_no_more(tmp_path):
    file = slq.HistoryFile(tmp_path / "run.npz")
    file.close()

    with pytest.raises(ValueError, match="was closed"):
        file.append(0)
