"""A sparse matrix over ranks: the same numbers as in one process, for one to four of them, and no more bytes than said.

One launch of four ranks serves all: smaller numbers are subgroups.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import slq
from slq._files._shard_folder import Part

pytest.importorskip("torch")
dist = pytest.importorskip("torch.distributed")
from slq_torch._ranks._sharded_csr import _owners  # noqa: E402
from slq_torch.distributed import sharded_csr  # noqa: E402

pytestmark = pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="no gloo")
N = 240


def chain():
    """A band: halos are small."""
    return sp.diags_array([1.0, -2.0, 5.0, -2.0, 1.0], offsets=[-3, -1, 0, 1, 3], shape=(N, N), format="csr")


def random():
    """Entries anywhere, one full row: halos are nearly everything."""
    half = sp.random_array((N, N), density=0.1, rng=np.random.default_rng(0), format="lil")
    half[3, :] = 0.1
    half = half.tocsr()
    return (half + half.T + 40.0 * sp.eye_array(N)).tocsr()


MATRICES = {"chain": chain(), "random": random()}
X = np.random.default_rng(0).standard_normal((N, 3))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of four ranks found; they are started once, also where several workers run these tests."""
    base = tmp_path_factory.getbasetemp()  # of this worker, in that of the session
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "slq-sharded"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "found" / "3.json").exists():
            start(folder, folder / "found")
    return [json.loads((folder / "found" / f"{rank}.json").read_text()) for rank in range(4)]


def start(folder, out):
    """Write the matrices into a folder, and have four ranks write what they found into another one."""
    out.mkdir(exist_ok=True)
    for name, matrix in MATRICES.items():
        sp.save_npz(folder / f"{name}.npz", matrix)
        slq.shard(folder / f"{name}.npz", folder / name, parts=7)
    slq.shard(folder / "chain.npz", folder / "few", parts=3)
    damaged = slq.shard(folder / "chain.npz", folder / "damaged", parts=4)
    (folder / "damaged" / damaged.parts[2].file).write_bytes(b"nothing")
    script = Path(__file__).parent / "ranks" / "sharded_csr.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(script), str(folder), str(out)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]


CASES = [
    (count, name, exchange) for count in (1, 2, 3, 4) for name in MATRICES for exchange in ("auto", "halo", "gather")
]


def of(ranks, count, name, exchange):
    return [rank[f"{count} {name} {exchange}"] for rank in ranks[:count]]


@pytest.mark.parametrize(("count", "name", "exchange"), CASES)
def test_a_product_is_that_of_one_process(count, name, exchange, ranks):
    found = of(ranks, count, name, exchange)

    product = np.concatenate([np.array(rank["product"]) for rank in found])
    np.testing.assert_allclose(product, MATRICES[name] @ X, rtol=0, atol=1e-12)
    assert [rank["rows"][0] for rank in found[1:]] == [rank["rows"][1] for rank in found[:-1]]
    assert sum(rank["nnz"] for rank in found) == MATRICES[name].nnz


@pytest.mark.parametrize(("count", "name", "exchange"), CASES)
def test_a_run_gives_the_numbers_of_one_process_on_every_rank(count, name, exchange, ranks):
    expected = slq.spectrum(MATRICES[name], probes=2, steps=30, rng=5, reorth="full")

    for rank in of(ranks, count, name, exchange):
        np.testing.assert_allclose(rank["alpha"], expected.alpha, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(rank["beta"], expected.beta, rtol=1e-10, atol=1e-10)
        assert rank["logdet"] == pytest.approx(expected.logdet(shift=1.0).value, rel=1e-10)


@pytest.mark.parametrize("name", MATRICES)
def test_traces_of_the_whole_matrix_are_known_on_every_rank(name, ranks):
    A = MATRICES[name]

    for rank in of(ranks, 3, name, "auto"):
        assert rank["traces"] == pytest.approx([A.trace(), (A.data**2).sum()], rel=1e-13)


@pytest.mark.parametrize(("count", "name"), [(count, name) for count in (2, 3, 4) for name in MATRICES])
def test_a_halo_moves_each_needed_number_once(count, name, ranks):
    A = MATRICES[name]
    for rank in of(ranks, count, name, "halo"):
        first, last = rank["rows"]
        columns = np.unique(A[first:last].indices)
        needed = int(((columns < first) | (columns >= last)).sum())
        assert rank["halo"] == needed
        assert rank["moved"][0] == needed * 3 * 8
        assert rank["moved"][1] <= count - 1


@pytest.mark.parametrize("count", [2, 3, 4])
def test_an_all_gather_moves_the_padded_rows_of_the_others(count, ranks):
    found = of(ranks, count, "random", "gather")

    most = max(last - first for first, last in (rank["rows"] for rank in found))
    assert {tuple(rank["moved"]) for rank in found} == {((count - 1) * most * 3 * 8, count - 1)}


@pytest.mark.parametrize(("name", "expected"), [("chain", "halo"), ("random", "gather")])
def test_the_exchange_is_chosen_by_what_the_halos_hold(name, expected, ranks):
    assert {rank["exchange"] for rank in of(ranks, 4, name, "auto")} == {expected}


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ("damaged", "rank 2 cannot load its rows: ValueError: .*checksum"),
        ("few", "has 3 parts for 4 ranks.*--parts 4"),
        ("different", "must be the same on all ranks; on rank 2"),
        ("absent", "absent is no folder of shards"),
    ],
)
def test_what_is_wrong_on_one_rank_is_told_on_all(problem, message, ranks):
    for rank in ranks:
        assert re.search(message, rank[problem] or "")


def test_a_process_alone_has_the_whole_matrix_and_fused_steps(tmp_path):
    sp.save_npz(tmp_path / "m.npz", MATRICES["random"])
    A = sharded_csr(slq.shard(tmp_path / "m.npz", tmp_path / "m", parts=3).folder)

    expected = slq.spectrum(MATRICES["random"], probes=2, steps=30, rng=5)
    found = slq.spectrum(A, probes=2, steps=30, rng=5)

    assert (A.rows, A.halo, A.traffic.received, A.reduce) == (range(N), 0, 0, None)
    np.testing.assert_allclose(A.matmat(X), MATRICES["random"] @ X, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.alpha, expected.alpha, rtol=1e-10)


def test_an_unknown_exchange_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`exchange` must be 'auto', 'halo' or 'gather', got 'all'"):
        sharded_csr(tmp_path, exchange="all")


@pytest.mark.parametrize("entries", [[1, 1, 1, 1, 1], [9, 0, 0, 0, 9], [0, 0, 0, 0, 0], [100, 1, 1, 1, 1]])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_rank_takes_at_least_one_part_and_all_are_taken(entries, count):
    cuts = _owners(_folder(entries), count)

    assert (cuts[0], cuts[-1], len(cuts)) == (0, len(entries), count + 1)
    assert min(np.diff(cuts)) >= 1


def _folder(entries):
    parts = tuple(Part(str(i), i, 1, nnz, 0, "") for i, nnz in enumerate(entries))
    return slq.ShardFolder(Path(), len(entries), sum(entries), "float64", parts)
