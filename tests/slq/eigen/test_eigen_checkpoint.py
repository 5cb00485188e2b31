"""A search for eigenpairs that is ended at any product and resumed gives the same bits, or is refused with reasons."""

import json
import os
import zlib

import numpy as np
import pytest

import slq
from tests.faults import OUTLIERS, ROUGH, Counted, Stop
from tests.faults import same_pairs as same

LAPLACIAN, _ = slq.gallery.laplacian_2d(12, 12)
GRID = LAPLACIAN.matmat(np.eye(144))
START = np.random.default_rng(1).standard_normal((150, 3))
KNOWN = np.linalg.eigh(ROUGH)[1][:, -2:]
CASES = {
    "copies that one vector does not see": (GRID, {"k": 5, "which": "LA", "basis": 16}),
    "both ends": (ROUGH, {"k": 4, "which": "BE", "basis": 14}),
    "small basis": (ROUGH, {"k": 2, "which": "SA", "basis": 6}),
    "block": (GRID, {"k": 4, "which": "LA", "block": 2, "basis": 18}),
    "started": (ROUGH, {"k": 3, "which": "LM", "start": START}),
    "deflated": (ROUGH, {"k": 3, "which": "LA", "deflate": KNOWN, "basis": 16}),
    "not verified": (ROUGH, {"k": 3, "which": "LA", "verify": False, "basis": 12}),
    "float32": (ROUGH.astype(np.float32), {"k": 3, "which": "LA", "basis": 16}),
    "extreme": (ROUGH * 1e200, {"k": 3, "which": "LA", "basis": 16}),
    "all": (np.diag(np.repeat([1.0, 2.0, 5.0], 4)), {"k": 12, "which": "LM"}),
    "few values": (np.diag(np.repeat([1.0, 2.0, 5.0], 30)), {"k": 4, "which": "LA"}),
    "budget": (ROUGH, {"k": 4, "which": "LA", "max_products": 50, "basis": 14}),
    "torch": (ROUGH, {"k": 3, "which": "LA", "basis": 16}),
    "torch, few values": (np.diag(np.repeat([1.0, 2.0, 5.0], 30)), {"k": 4, "which": "LA"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_search_ended_after_any_product_resumes_to_the_same_bits(case, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    A, options = CASES[case]
    if case.startswith("torch"):
        A = pytest.importorskip("torch").tensor(A)
    whole = slq.eigsh(A, rng=0, **options)
    steps = Stop(0).install(monkeypatch)
    assert same(whole, slq.eigsh(A, rng=0, checkpoint=tmp_path / "whole", **options))
    for after in {*range(1, steps.steps, max(1, steps.steps // 6)), steps.steps - 1}:
        Stop(after).install(monkeypatch)
        part = slq.eigsh(A, rng=0, checkpoint=tmp_path / f"{after}", **options)
        assert part.status.startswith("interrupted"), after
        assert part.products <= whole.products
        again = slq.eigsh(A, rng=0, checkpoint=tmp_path / f"{after}", **options)
        assert same(whole, again)


def test_a_search_interrupted_again_and_again_resumes_every_time(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    A, options = CASES["copies that one vector does not see"]
    whole, rounds = slq.eigsh(A, rng=0, **options), 0
    while True:
        Stop(3).install(monkeypatch)
        found = slq.eigsh(A, rng=0, checkpoint=tmp_path / "run", **options)
        if not found.status.startswith("interrupted"):
            break
        rounds += 1
    assert rounds > 10
    assert same(whole, found)


def test_a_search_that_its_callback_stopped_goes_on_with_another(tmp_path):
    A, options = CASES["both ends"]
    whole, seen = slq.eigsh(A, rng=0, **options), []
    stop = lambda pairs: pairs.products > 20  # noqa: E731
    part = slq.eigsh(A, rng=0, checkpoint=tmp_path / "run", callback=stop, **options)
    assert part.status == "stopped by callback"
    again = slq.eigsh(
        A, rng=0, checkpoint=tmp_path / "run", callback=lambda p: seen.append(p.products) and None, **options
    )
    assert same(whole, again)
    assert min(seen) > 20


def test_without_a_seed_the_first_one_is_taken_again(tmp_path, monkeypatch):
    Stop(8).install(monkeypatch)
    part = slq.eigsh(ROUGH, 2, checkpoint=tmp_path / "run")
    again = slq.eigsh(ROUGH, 2, checkpoint=tmp_path / "run")
    assert part.seed == again.seed


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """The file of a search that has ended after twenty steps."""
    Stop(20).install(monkeypatch)
    slq.eigsh(OUTLIERS, 3, which="LA", basis=12, rng=0, checkpoint=tmp_path / "run.npz")
    return tmp_path / "run.npz"


def resume(path, A=OUTLIERS, **options):
    return slq.eigsh(A, **{"k": 3, "which": "LA", "basis": 12, "rng": 0, "checkpoint": path, **options})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rng": 1}, "rng = 0, this one has 1"),
        ({"k": 4}, "k = 3, this one has 4"),
        ({"which": "SA"}, "which = 'LA', this one has 'SA'"),
        ({"tol": 0.1}, r"tol = 0\.0, this one has 0\.1"),
        ({"start": START}, "start = None, this one has '1 vectors of checksum"),
        ({"deflate": KNOWN}, "deflate = None, this one has '2 vectors of checksum"),
        ({"A": OUTLIERS[:-1, :-1]}, "n = 150, this one has 149"),
        ({"A": OUTLIERS.astype(np.float32)}, "this one has 'float32'"),
        ({"A": OUTLIERS + 1e-9 * np.eye(150)}, "is of another operator"),
        ({"A": -OUTLIERS}, "is of another operator"),
    ],
    ids=["rng", "k", "which", "tol", "start", "deflate", "n", "dtype", "nearby", "negative"],
)
def test_another_search_is_refused_with_the_reason_and_the_file_stays(options, reason, interrupted):
    before = interrupted.read_bytes()
    with pytest.raises(ValueError, match=reason):
        resume(interrupted, **options)
    assert interrupted.read_bytes() == before
    assert resume(interrupted).verified


def test_another_version_is_refused(interrupted, monkeypatch):
    monkeypatch.setattr("slq._eigen._eigen.version", lambda _: "99.0")
    with pytest.raises(ValueError, match=r"slq = .*, this one has '99.0'"):
        resume(interrupted)


def test_files_of_spectra_and_of_searches_are_told_apart(interrupted, tmp_path):
    with pytest.raises(ValueError, match=r"holds a Search, not a Checkpoint\. Go on from it by slq\.eigsh"):
        slq.spectrum(OUTLIERS, rng=0, checkpoint=interrupted)
    slq.spectrum(OUTLIERS, probes=1, steps=3, rng=0, checkpoint=tmp_path / "other.npz")
    with pytest.raises(ValueError, match=r"holds a Checkpoint, not a Search\. Go on from it by slq\.spectrum"):
        resume(tmp_path / "other.npz")


def test_a_product_that_fails_while_residuals_are_measured_loses_nothing(tmp_path):
    whole = resume(None, complete := Counted(OUTLIERS))
    with pytest.raises(slq.RunError) as caught:
        resume(tmp_path / "run", Counted(OUTLIERS, complete.calls))
    assert len(caught.value.partial) == 3
    assert same(whole, resume(tmp_path / "run", resumed := Counted(OUTLIERS)))
    assert resumed.calls == 2


def changed(path, change):
    """Let a function change what the header of a checkpoint says."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    change(header["facts"], arrays)
    np.savez(path, **arrays | {"header": np.array(json.dumps(header))})


def content(name, value, within=None):
    """Return what puts a value into the facts of a search, or of its space."""
    return lambda facts, _: (facts["content"][within] if within else facts["content"]).update({name: value})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (content("stage", "odd"), "stage: 'odd'"),
        (content("stage", "end"), "stage: end with 0 sets"),
        (content("sets", 10**12), "values0"),
        (content("scale", 0.0), r"scale: 0\.0"),
        (content("rest", [0.0, "x"]), "rest: "),
        (content("warnings", [1]), "warnings: "),
        (content("norm", float("nan")), "norm: nan"),
        (content("verified", 1), "verified: 1"),
        (content("locked", 10**12, "space"), "a basis of"),
        (content("size", 10**12, "space"), r"projected: .*shape \(12, 12\)"),
        (content("ahead", 10**12, "space"), "steps ahead"),
        (content("used", 11, "space"), "tail: "),
        (content("block", 10**12, "space"), "a basis of"),
        (lambda facts, _: facts["facts"].update(size=10**12), "is damaged: size = 1000000000000"),
        (lambda facts, _: facts["vectors"]["parts"][0].__setitem__(1, 10**12), "not what the archive says it is"),
        (lambda facts, _: facts["vectors"]["parts"][0].__setitem__(0, "object"), "not what the archive says it is"),
        (lambda facts, _: facts["vectors"].update(stock="\x1b[31mred"), r"vectors named '\\x1b\[31mred'"),
        (lambda facts, _: facts["vectors"].update(stock="../../x"), r"vectors named '\.\./\.\./x'"),
        (lambda _, arrays: arrays.update(weights=np.array([np.nan])), "weights: "),
        (lambda _, arrays: arrays.update(roots=np.array(["x"])), "roots: "),
    ],
)
def test_what_cannot_be_a_search_is_refused_before_anything_is_computed_with_it(change, reason, interrupted):
    changed(interrupted, change)
    with pytest.raises(ValueError, match=reason) as told:
        resume(interrupted, operator := Counted(OUTLIERS))
    assert "run.npz" in str(told.value)
    assert operator.calls <= 1  # by which the operator is known again


def test_vectors_that_are_not_finite_are_refused(interrupted):
    (basis,) = interrupted.parent.glob("*.basis-*")
    rows = np.fromfile(basis)
    rows[7] = np.nan
    rows.tofile(basis)
    changed(interrupted, lambda facts, _: facts["vectors"].update(crc=zlib.crc32(rows.tobytes())))
    with pytest.raises(ValueError, match="vectors that are not finite"):
        resume(interrupted)


def test_a_space_with_other_vectors_than_the_file_is_refused(interrupted):
    changed(interrupted, lambda facts, _: facts["content"]["space"].update(locked=1))
    with pytest.raises(ValueError, match=r"\d+ vectors where \d+ belong"):
        resume(interrupted)
