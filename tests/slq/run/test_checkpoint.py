"""A run that is ended at any step and resumed gives the same bits; what cannot be resumed is refused with reasons."""

import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp

import slq
from slq import _arrays
from slq._files import _store
from slq._files._vectors_file import Vectors
from slq._lanczos._lanczos import LanczosRun
from slq._run import _checkpoint
from slq._run._checkpoint import Checkpoint
from tests.faults import FAULTS, OUTLIERS, Counted, Signalling, Stop
from tests.faults import same_spectra as same

# Some probes reach an invariant space before others do: the last one sees half of the matrix's eigenvalues.
FEW = np.kron(np.diag(np.arange(1.0, 13.0)), np.eye(10))
GRID, _ = slq.gallery.laplacian_2d(30)
RANDOM = sp.random_array((400, 400), density=0.02, rng=3)
SPARSE = sp.csr_array(RANDOM + RANDOM.T)


CASES = {
    "adaptive, deflated": (OUTLIERS, {"reorth": "full"}),
    "fixed": (OUTLIERS, {"probes": 3, "steps": 12, "reorth": "full"}),
    "batches": (OUTLIERS, {"probes": 7, "steps": 14, "reorth": "full", "batch": 2}),
    "batches, not deflated": (OUTLIERS, {"probes": 7, "steps": 9, "deflate": "none", "reorth": "full", "batch": 3}),
    "without a basis": (OUTLIERS, {"probes": 5, "steps": 21, "reorth": "none", "batch": 3}),
    "adaptive without a basis": (OUTLIERS, {"reorth": "none", "tol": 0.03}),
    "coarse": (OUTLIERS.astype(np.float32), {"probes": 3, "steps": 36, "basis": "float16", "reorth": "full"}),
    "probes that end": (FEW, {"probes": 4, "steps": 30, "reorth": "full"}),
    "fused grid": (GRID, {"probes": 4, "steps": 22, "reorth": "none"}),
    "fused matrix": (SPARSE, {"probes": 2, "steps": 20, "reorth": "none"}),
    "extreme": (OUTLIERS * 1e200, {"probes": 2, "steps": 12, "reorth": "full"}),
    "signs": (OUTLIERS, {"probes": 4, "steps": 11, "kind": "rademacher", "reorth": "full"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_ended_after_any_step_resumes_to_the_same_bits(case, tmp_path, monkeypatch):
    A, options = CASES[case]
    whole = slq.spectrum(A, rng=0, **options)
    steps = Stop(0).install(monkeypatch)
    same(whole, slq.spectrum(A, rng=0, checkpoint=tmp_path / "whole", **options))
    for after in {*range(1, steps.steps, max(1, steps.steps // 8)), steps.steps}:
        Stop(after).install(monkeypatch)
        part = slq.spectrum(A, rng=0, checkpoint=tmp_path / f"{after}", **options)
        assert part.status == "interrupted", after
        again = slq.spectrum(A, rng=0, checkpoint=tmp_path / f"{after}", **options)
        assert same(whole, again)
        assert again.metadata["resumed"] == 1


def test_a_run_interrupted_again_and_again_resumes_every_time(tmp_path, monkeypatch):
    A, options = CASES["batches"]
    whole, found = slq.spectrum(A, rng=0, **options), None
    for _ in range(200):
        Stop(3).install(monkeypatch)
        found = slq.spectrum(A, rng=0, checkpoint=tmp_path / "run", **options)
        if found.status != "interrupted":
            break
    assert found.metadata["resumed"] > 10
    assert same(whole, found)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("case", ["batches", "adaptive, deflated", "without a basis", "probes that end"])
def test_a_product_that_fails_loses_nothing(case, fault, tmp_path, monkeypatch):
    A, options = CASES[case]
    monkeypatch.setattr(_checkpoint, "_SHARE", 0.0)  # written only where a product fails
    whole = slq.spectrum(complete := Counted(A), rng=0, **options)
    for at in range(2, complete.calls - 1, max(1, complete.calls // 6)):
        path = tmp_path / f"{at}.npz"
        with pytest.raises(slq.RunError):
            slq.spectrum(Counted(A, at, FAULTS[fault]), rng=0, checkpoint=path, **options)
        again = slq.spectrum(resumed := Counted(A), rng=0, checkpoint=path, **options)
        assert same(whole, again)
        # One product recognises the operator.
        assert resumed.calls <= complete.calls - (at - 1) + 1


def test_a_finished_run_is_told_again_without_running(tmp_path):
    A, options = CASES["batches"]
    first = slq.spectrum(A, rng=0, checkpoint=tmp_path / "run", **options)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".run.npz.lock", "run.npz"]
    assert same(first, slq.spectrum(counted := Counted(A), rng=0, checkpoint=tmp_path / "run", **options))
    assert counted.calls == 1


def test_a_run_that_its_callback_stopped_goes_on_with_another(tmp_path):
    A, options = CASES["adaptive, deflated"]
    whole, seen = slq.spectrum(A, rng=0, **options), []
    part = slq.spectrum(A, rng=0, checkpoint=tmp_path / "run", callback=lambda _: True, **options)
    assert part.status == "stopped by callback"
    again = slq.spectrum(A, rng=0, checkpoint=tmp_path / "run", callback=lambda s: seen.append(s.products), **options)
    np.testing.assert_array_equal(whole.alpha, again.alpha)
    assert seen
    assert min(seen) > part.steps


def test_without_a_seed_the_first_one_is_taken_again(tmp_path, monkeypatch):
    Stop(3).install(monkeypatch)
    part = slq.spectrum(OUTLIERS, probes=2, steps=8, checkpoint=tmp_path / "run")
    again = slq.spectrum(OUTLIERS, probes=2, steps=8, checkpoint=tmp_path / "run")
    assert part.seed == again.seed


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """The file of a run of three probes that has ended after six of ten steps."""
    Stop(6).install(monkeypatch)
    slq.spectrum(OUTLIERS, probes=3, steps=10, rng=0, reorth="full", checkpoint=tmp_path / "run.npz")
    return tmp_path / "run.npz"


def resume(path, A=OUTLIERS, **options):
    return slq.spectrum(A, **{"probes": 3, "steps": 10, "rng": 0, "reorth": "full", "checkpoint": path, **options})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rng": 1}, "rng = 0, this one has 1"),
        ({"probes": 4}, "probes = 3, this one has 4"),
        ({"tol": 0.1}, "tol = 0.01, this one has 0.1"),
        ({"reorth": "none"}, "reorth = 'full', this one has 'none'"),
        ({"A": OUTLIERS[:-1, :-1]}, "n = 150, this one has 149"),
        ({"A": OUTLIERS.astype(np.float32)}, "this one has 'float32'"),
        ({"A": OUTLIERS + 1e-9 * np.eye(150)}, "is of another operator"),
        ({"A": -OUTLIERS}, "is of another operator"),
    ],
    ids=["rng", "probes", "tol", "reorth", "n", "dtype", "nearby", "negative"],
)
def test_another_run_is_refused_with_the_reason_and_the_file_stays(options, reason, interrupted):
    before = interrupted.read_bytes()
    with pytest.raises(ValueError, match=reason):
        resume(interrupted, **options)
    assert interrupted.read_bytes() == before
    assert resume(interrupted).metadata["resumed"] == 1


def test_another_version_is_refused(interrupted, monkeypatch):
    monkeypatch.setattr("slq._run._opening.version", lambda _: "99.0")
    with pytest.raises(ValueError, match=r"slq = .*, this one has '99.0'"):
        resume(interrupted)


def test_a_file_that_is_no_checkpoint_is_refused_and_stays(tmp_path):
    slq.spectrum(OUTLIERS, probes=1, steps=3, rng=0).save(tmp_path / "run.npz")
    before = (tmp_path / "run.npz").read_bytes()
    with pytest.raises(ValueError, match=r"holds a Spectrum, not a Checkpoint\. Read it by slq\.load"):
        resume(tmp_path / "run.npz")
    assert (tmp_path / "run.npz").read_bytes() == before


def test_a_checkpoint_is_no_result(interrupted):
    with pytest.raises(ValueError, match=r"holds a Checkpoint, not a Spectrum\. Go on from it by slq\.spectrum"):
        slq.load(interrupted)


def test_a_signal_that_comes_too_late_is_passed_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "run.npz", Signalling(OUTLIERS, signal.SIGINT, at=11))
    assert same(resume(None), resume(tmp_path / "run.npz", counted := Counted(OUTLIERS)))
    assert counted.calls == 1


class OfALibrary(Counted):
    """A matrix of any library, multiplied by it."""

    def __init__(self, A, xp, device):
        super().__init__(A)
        self.xp, self.device = xp, device


DEVICE_OPTIONS = {
    "full": {"probes": 5, "steps": 21, "reorth": "full", "batch": 3, "deflate": "none"},
    "none": {"probes": 3, "steps": 13, "reorth": "none"},
    "half": {"probes": 2, "steps": 19, "reorth": "full", "basis": "float16"},
    "end": {"probes": 4, "steps": 30, "reorth": "full"},
}


@pytest.mark.parametrize("options", DEVICE_OPTIONS)
def test_vectors_of_any_library_and_device_come_back_to_the_same_bits(options, backend, tmp_path, monkeypatch):
    if options == "half" and not hasattr(backend.xp, "float16"):
        pytest.skip("it has no float16")
    monkeypatch.setattr(_arrays, "host_view", lambda x: x if isinstance(x, np.ndarray) else None)  # as on a GPU
    A = backend.asarray(FEW if options == "end" else OUTLIERS[:90, :90])
    run = partial(slq.spectrum, rng=0, **DEVICE_OPTIONS[options])
    complete = OfALibrary(A, backend.xp, backend.device)
    whole = run(complete)
    instants = {3, 9, 17, complete.calls // 2, complete.calls - 2} & set(range(complete.calls - 1))
    for after in {complete.calls // 2} if backend.name.startswith("jax") else instants:
        Stop(after).install(monkeypatch)
        path = tmp_path / f"{after}.npz"
        assert run(OfALibrary(A, backend.xp, backend.device), checkpoint=path).status == "interrupted"
        again = run(resumed := OfALibrary(A, backend.xp, backend.device), checkpoint=path)
        assert same(whole, again)
        assert resumed.calls == complete.calls - after + 1


def test_a_recurrence_whose_vectors_cannot_be_written_begins_its_batch_again(tmp_path, monkeypatch):
    A, options = CASES["batches"]
    whole = slq.spectrum(Counted(A), rng=0, **options)
    record = LanczosRun.record.fget
    monkeypatch.setattr(LanczosRun, "record", property(lambda run: replace(record(run), state={})))
    monkeypatch.setattr(_checkpoint, "_SHARE", np.inf)
    path = tmp_path / "run.npz"
    with pytest.raises(slq.RunError):
        slq.spectrum(Counted(A, 50), rng=0, checkpoint=path, **options)
    again = slq.spectrum(resumed := Counted(A), rng=0, checkpoint=path, **options)
    assert same(whole, again)
    assert resumed.calls <= 1 + 7 * 20 - 42 + 1


def test_what_memory_did_not_hold_is_not_tried_again(tmp_path, monkeypatch):
    class Narrow(Counted):
        def matmat(self, X):
            if X.shape[1] > 2:
                raise MemoryError
            return super().matmat(X)

    options = {"probes": 5, "steps": 9, "rng": 0, "reorth": "full"}
    whole = slq.spectrum(Narrow(OUTLIERS), **options)
    Stop(12).install(monkeypatch)
    part = slq.spectrum(Narrow(OUTLIERS), checkpoint=tmp_path / "run", **options)
    assert part.status.startswith("interrupted; memory ran out with 5 columns")
    again = slq.spectrum(Narrow(OUTLIERS), checkpoint=tmp_path / "run", **options)
    assert same(whole, again)


def test_writing_is_done_only_where_it_is_cheap_beside_the_run(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_checkpoint, "perf_counter", lambda: now[0])
    file = Checkpoint(tmp_path / "run.npz", {"n": 10}, _store.CHECKPOINT, lambda *_: None)
    assert not file.due(160)
    now[0] = 2.0
    assert file.due(160)
    assert not file.due(64 * 10**9)
    many = Vectors("0-1", 10, 8 * 10**6, lambda _: (np.zeros(1, dtype=int), ()))
    assert not file.due(160, many)
    now[0] = 61.0  # a minute without a write may cost more
    assert file.due(160, many)
    file.close()


VALUES = np.linspace(0.5, 9.0, 2500)
POSITIVE = slq.as_operator(lambda v: VALUES * v, n=2500)
CALLS = {
    "logdet": lambda **options: slq.logdet(POSITIVE, 5e-3, rng=0, deflate="none", **options),
    "trace": lambda **options: slq.trace(POSITIVE, np.sqrt, 3e-3, rng=0, **options),
    "schatten_norm": lambda **options: slq.schatten_norm(POSITIVE, 3, 3e-3, rng=0, **options),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_for_one_quantity_resumes_to_the_same_estimate(call, tmp_path, monkeypatch):
    steps, whole = Stop(0).install(monkeypatch), CALLS[call]()
    assert CALLS[call](checkpoint=tmp_path / "whole") == whole
    for after in {3, steps.steps // 2, steps.steps}:
        Stop(after).install(monkeypatch)
        with pytest.warns(slq.SlqWarning, match=r"interrupted after \d+ products; the same call goes on from"):
            part = CALLS[call](checkpoint=tmp_path / f"{after}")
        assert part.high - part.low >= whole.high - whole.low
        assert CALLS[call](checkpoint=tmp_path / f"{after}") == whole


def test_the_file_of_another_quantity_is_refused(tmp_path, monkeypatch):
    Stop(14).install(monkeypatch)
    with pytest.warns(slq.SlqWarning, match="interrupted"):
        slq.trace(POSITIVE, np.sqrt, 1e-3, rng=0, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=r"is of a run with first look = .*, this one has"):
        slq.trace(POSITIVE, "log", 1e-3, rng=0, checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match=r"is of a run with rtol = 0\.001, this one has 0\.01"):
        slq.trace(POSITIVE, np.sqrt, 1e-2, rng=0, checkpoint=tmp_path / "run")


def test_nothing_is_pickled(interrupted):
    with np.load(interrupted, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    assert _store.kind_of(interrupted) == "slq.Checkpoint"
