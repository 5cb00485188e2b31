"""What a checkpoint outlives, of spectra and of eigenpairs: failing products and disks, damaged files, signals."""

import errno
import os
import signal
import threading

import numpy as np
import pytest

import slq
from slq._run import _checkpoint
from tests.faults import FAULTS, OUTLIERS, RUNS, Counted, Signalling, Stop, failing


@pytest.fixture(params=RUNS)
def run(request):
    """How something is run that can be resumed."""
    return RUNS[request.param][0]


@pytest.fixture
def same(run):
    return next(same for known, same in RUNS.values() if known is run)


@pytest.fixture
def interrupted(run, tmp_path, monkeypatch):
    """The file of a run that was ended after some steps."""
    Stop(6 if run is RUNS["spectrum"][0] else 26).install(monkeypatch)
    assert run(OUTLIERS, checkpoint=tmp_path / "run.npz").status.startswith("interrupted")
    return tmp_path / "run.npz"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_product_that_fails_loses_nothing(fault, run, same, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint, "_SHARE", 0.0)  # written only where a product fails
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no disk fails here
    whole = run(complete := Counted(OUTLIERS))
    for at in range(2, complete.calls - 1, max(1, complete.calls // 5)):
        path = tmp_path / f"{at}.npz"
        with pytest.raises(slq.RunError):
            run(Counted(OUTLIERS, at, FAULTS[fault]), checkpoint=path)
        assert same(whole, run(resumed := Counted(OUTLIERS), checkpoint=path))
        # One product recognises the operator.
        assert resumed.calls == complete.calls - (at - 1) + 1


def test_a_finished_run_is_told_again_without_running(run, same, tmp_path):
    first = run(OUTLIERS, checkpoint=tmp_path / "run")
    assert same(first, run(counted := Counted(OUTLIERS), checkpoint=tmp_path / "run"))
    assert counted.calls == 1


def test_what_a_killed_writer_has_left_is_removed_and_nothing_else(run, tmp_path):
    left, other = tmp_path / ".run.npz.a1b2_c3d", tmp_path / ".run.npz.notes"
    left.touch()
    other.touch()
    run(OUTLIERS, checkpoint=tmp_path / "run.npz")
    assert not left.exists()
    assert other.exists()


def test_missing_and_damaged_vectors_are_refused(run, same, interrupted):
    (vectors,) = interrupted.parent.glob("run.npz.basis-*")
    content = bytearray(vectors.read_bytes())
    for damaged, reason in ((content[:-1], "is damaged"), (content[:99] + b"\0" + content[100:], "is damaged")):
        vectors.write_bytes(damaged)
        with pytest.raises(ValueError, match=reason):
            run(OUTLIERS, checkpoint=interrupted)
    vectors.unlink()
    with pytest.raises(ValueError, match="is missing"):
        run(OUTLIERS, checkpoint=interrupted)
    vectors.write_bytes(content + b"what a dying process wrote")
    assert same(run(OUTLIERS), run(OUTLIERS, checkpoint=interrupted))


def test_every_truncation_and_flipped_byte_is_refused_or_does_no_harm(run, same, interrupted):
    whole, content = run(OUTLIERS), interrupted.read_bytes()
    (vectors,) = interrupted.parent.glob("run.npz.basis-*")
    basis, refused = vectors.read_bytes(), 0
    generator = np.random.default_rng(0)
    for trial in range(120):
        where = int(generator.integers(len(content)))
        changed = content[:where] if trial % 3 == 0 else bytearray(content)
        if trial % 3:
            changed[where] ^= 1 << int(generator.integers(8))
        interrupted.write_bytes(changed)
        vectors.write_bytes(basis)
        try:
            found = run(OUTLIERS, checkpoint=interrupted)
        except ValueError:
            refused += 1
            assert interrupted.read_bytes() == bytes(changed)
        else:
            assert same(whole, found)
    assert refused > 80


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace", "write", "short"])
def test_a_disk_that_fails_is_told_of_once_and_the_run_goes_on(call, number, run, same, tmp_path, monkeypatch):
    whole = run(OUTLIERS)
    monkeypatch.setattr(_checkpoint, "_SHARE", np.inf)
    monkeypatch.setattr(*failing(call, number))
    with pytest.warns(slq.SlqWarning, match=r"cannot be written .* the run goes on") as told:
        assert same(whole, run(OUTLIERS, checkpoint=tmp_path / "run.npz"))
    assert len(told) == 1
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".run.npz.") and file.suffix != ".lock"]


def test_a_disk_that_fails_for_a_while_does_no_harm_to_what_was_written(run, same, tmp_path, monkeypatch):
    whole, calls, flush = run(Counted(OUTLIERS)), [], os.fsync

    def sometimes(descriptor):
        calls.append(descriptor)
        if len(calls) % 5 in {2, 3}:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    monkeypatch.setattr(_checkpoint, "_SHARE", np.inf)
    monkeypatch.setattr(os, "fsync", sometimes)
    for at in range(3, 11, 2):
        path = tmp_path / f"{at}.npz"
        with pytest.warns(slq.SlqWarning, match="cannot be written"), pytest.raises(slq.RunError):
            run(Counted(OUTLIERS, at), checkpoint=path)
        with pytest.warns(slq.SlqWarning, match="cannot be written"):
            assert same(whole, run(Counted(OUTLIERS), checkpoint=path))


def test_a_folder_that_is_not_there_is_told_before_the_first_product(run, tmp_path):
    with pytest.raises(FileNotFoundError):
        run(counted := Counted(OUTLIERS), checkpoint=tmp_path / "nowhere" / "run.npz")
    assert counted.calls == 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_told_before_the_first_product(run, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        run(counted := Counted(OUTLIERS), checkpoint=tmp_path / "run.npz")
    assert counted.calls == 0


def test_two_runs_cannot_have_one_file(run, tmp_path):
    def meddle(_):
        with pytest.raises(BlockingIOError, match="is being written by another run"):
            run(OUTLIERS, checkpoint=tmp_path / "run.npz")

    run(OUTLIERS, checkpoint=tmp_path / "run.npz", callback=meddle)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_product_writes_and_returns_what_there_is(number, run, same, tmp_path):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    whole = run(complete := Counted(OUTLIERS))
    part = run(stopped := Signalling(OUTLIERS, number, at=4), checkpoint=tmp_path / "run.npz")
    assert part.status.startswith("interrupted")
    assert stopped.calls == 4
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert same(whole, run(resumed := Counted(OUTLIERS), checkpoint=tmp_path / "run.npz"))
    assert resumed.calls == 1 + complete.calls - 4


def test_a_second_interrupt_stops_at_once_and_the_file_is_valid(run, same, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint, "_SHARE", np.inf)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(Signalling(OUTLIERS, signal.SIGINT, signal.SIGINT, at=4), checkpoint=tmp_path / "run.npz")
    assert signal.getsignal(signal.SIGINT) == handler
    assert same(run(Counted(OUTLIERS)), run(Counted(OUTLIERS), checkpoint=tmp_path / "run.npz"))


def test_an_interrupt_in_the_first_product_is_told(run, tmp_path):
    part = run(counted := Signalling(OUTLIERS, signal.SIGINT, at=1), checkpoint=tmp_path / "run.npz")
    assert part.status.startswith("interrupted")
    assert counted.calls == 1


def test_other_threads_leave_signals_alone(run, same, tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(run(OUTLIERS, checkpoint=tmp_path / "run.npz")))
    thread.start()
    thread.join()
    assert same(run(OUTLIERS), found[0])


def test_a_checkpoint_without_the_vectors_that_it_goes_on_from_is_refused(tmp_path, monkeypatch):
    spectrum, path = RUNS["spectrum"][0], tmp_path / "run.npz"
    Stop(6).install(monkeypatch)
    spectrum(OUTLIERS, checkpoint=path)
    with np.load(path) as file:
        parts = {name: x for name, x in file.items() if not name.startswith("state")}
    np.savez(path, **parts)
    with pytest.raises(slq.RunError, match="it ends before its run did"):
        spectrum(OUTLIERS, checkpoint=path)
