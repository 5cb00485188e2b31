"""Row shards of a matrix: the same matrix, balanced, in little memory, complete or not there at all."""

import gzip
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp

import slq
from slq._files import _market, _sharding
from slq._files._shard_folder import shards_in

pytestmark = pytest.mark.filterwarnings("error")


def random_matrix(n=300, density=0.03, seed=0):
    """Make a symmetric matrix with one row and column that hold a fifth of all entries."""
    half = sp.random_array((n, n), density=density, rng=np.random.default_rng(seed), format="lil")
    half[7, :] = np.linspace(1.0, 2.0, n)
    half = half.tocsr()
    return (half + half.T).tocsr()


MATRIX = random_matrix()


@pytest.fixture
def file(tmp_path):
    """Write the matrix in every form; return the path of one."""

    def write(form):
        if form == "npz":
            sp.save_npz(path := tmp_path / "m.npz", MATRIX)
        else:
            symmetry = "general" if form == "general" else "symmetric"
            scipy.io.mmwrite(path := tmp_path / "m.mtx", MATRIX, symmetry=symmetry, precision=17)
        if form == "gz":
            path = tmp_path / "m.mtx.gz"
            path.write_bytes(gzip.compress((tmp_path / "m.mtx").read_bytes()))
        return path

    return write


def text(path, body, header="%%MatrixMarket matrix coordinate real symmetric"):
    path.write_bytes(f"{header}\n{body}".encode())
    return path


@pytest.mark.parametrize("form", ["symmetric", "general", "gz", "npz"])
@pytest.mark.parametrize("piece", [1 << 23, 300])
def test_the_shards_of_every_kind_of_file_are_the_matrix(form, piece, file, tmp_path, monkeypatch):
    monkeypatch.setattr(_market, "_PIECE", piece)
    monkeypatch.setattr(_sharding, "_ENTRIES", piece)

    shards = slq.shard(file(form), tmp_path / "out", parts=5)

    whole = shards.matrix()
    assert abs(whole - MATRIX).max() == 0
    assert (shards.n, shards.nnz, shards.dtype) == (300, MATRIX.nnz, "float64")
    assert abs(sp.vstack([shards.matrix(range(k, k + 1)) for k in range(5)]) - MATRIX).max() == 0


def test_parts_have_about_equally_many_entries_however_rows_differ(file, tmp_path):
    shards = slq.shard(file("npz"), tmp_path / "out", parts=4)

    longest_row = int(np.diff(MATRIX.indptr).max())
    assert all(abs(part.nnz - MATRIX.nnz / 4) <= longest_row for part in shards.parts)
    assert len({part.rows for part in shards.parts}) > 1


@pytest.mark.parametrize("parts", [1, 2, 299, 300])
def test_every_part_has_a_row_for_any_number_of_parts(parts, file, tmp_path):
    shards = slq.shard(file("npz"), tmp_path / "out", parts=parts)

    assert len(shards.parts) == parts
    assert min(part.rows for part in shards.parts) >= 1
    assert abs(shards.matrix() - MATRIX).max() == 0


def test_an_empty_matrix_and_entries_given_twice_are_what_they_mean(tmp_path):
    empty = slq.shard(text(tmp_path / "e.mtx", "3 3 0\n"), tmp_path / "e", parts=2)
    twice = slq.shard(text(tmp_path / "t.mtx", "% note\n\n2 2 3\n1 1 1.5\n2 1 1\n1 1 2\n"), tmp_path / "t", parts=1)

    assert (empty.nnz, empty.matrix().shape) == (0, (3, 3))
    assert twice.matrix().toarray().tolist() == [[3.5, 1.0], [1.0, 0.0]]


def test_patterns_integers_blank_lines_and_other_line_ends_are_read(tmp_path):
    pattern = text(tmp_path / "p.mtx", "2 2 1\r\n2 1\r\n\r\n", "%%matrixmarket MATRIX coordinate pattern symmetric")
    integer = text(tmp_path / "i.mtx", "2 2 2\n2 1 3\n\n 2  2\t4", "%%MatrixMarket matrix coordinate integer symmetric")

    assert slq.shard(pattern, tmp_path / "p", parts=1).matrix().toarray().tolist() == [[0, 1], [1, 0]]
    assert slq.shard(integer, tmp_path / "i", parts=1).matrix().toarray().tolist() == [[0, 3], [3, 4]]


def test_float32_stays_and_integers_become_float64(tmp_path):
    sp.save_npz(tmp_path / "f.npz", MATRIX.astype(np.float32))
    sp.save_npz(tmp_path / "i.npz", sp.eye_array(9, dtype=np.int32, format="coo"))

    assert slq.shard(tmp_path / "f.npz", tmp_path / "f", parts=2).dtype == "float32"
    assert slq.shard(tmp_path / "i.npz", tmp_path / "i", parts=2).dtype == "float64"


PEAK = """
import sys, tracemalloc
import slq
from slq._files import _market
_market._PIECE = 1 << 14
tracemalloc.start()
slq.shard(sys.argv[1], sys.argv[2], parts=16)
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_is_bounded_by_one_part_rather_than_the_matrix(tmp_path):
    chain = sp.diags_array([1.0] * 41, offsets=range(-20, 21), shape=(20_000, 20_000), format="coo")
    scipy.io.mmwrite(tmp_path / "chain.mtx", chain, symmetry="symmetric")

    # In a process of its own: what other threads of this one do would count.
    call = [sys.executable, "-c", PEAK, str(tmp_path / "chain.mtx"), str(tmp_path / "out")]
    peak = int(subprocess.run(call, capture_output=True, text=True, check=True).stdout)

    largest = max(part.nnz for part in shards_in(tmp_path / "out").parts)
    assert peak < 24 * 20_000 + 60 * largest + 1_500_000 < 16 * chain.nnz


def test_the_manifest_has_the_checksums_that_other_tools_compute(file, tmp_path):
    slq.shard(file("npz"), tmp_path / "out", parts=3)

    manifest = json.loads((tmp_path / "out" / "shards.json").read_text())
    for part in manifest["parts"]:
        content = (tmp_path / "out" / part["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (part["bytes"], part["sha256"])


SYMMETRIC, GENERAL = (f"%%MatrixMarket matrix coordinate real {word}" for word in ("symmetric", "general"))
BAD = {
    "no matrix": ("hello\n", "is no Matrix Market file"),
    "dense": ("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n4\n", "a dense one fits"),
    "complex": ("%%MatrixMarket matrix coordinate complex hermitian\n1 1 0\n", "its entries are complex"),
    "skew": ("%%MatrixMarket matrix coordinate real skew-symmetric\n1 1 0\n", "it is skew-symmetric"),
    "not square": (f"{GENERAL}\n2 3 0\n", "it is 2 × 3"),
    "no rows": (f"{GENERAL}\n0 0 0\n", "it is 0 × 0"),
    "no sizes": (f"{GENERAL}\n% only\n", "it ends before the line with its sizes"),
    "endless": (f"{GENERAL}\n%{'x' * 2**16}\n2 2 0\n", "a line of its header has no end"),
    "odd sizes": (f"{GENERAL}\n2 -2 1\n", "line 2 must name rows"),
    "two sizes": (f"{GENERAL}\n2 2\n", "must name rows, columns and entries"),
    "huge": (f"{SYMMETRIC}\n{10**15} {10**15} 0\n", "bytes, and"),
    "row 0": (f"{SYMMETRIC}\n2 2 2\n1 1 1\n0 1 1\n", "line 4: row index out of bounds"),
    "row 3": (f"{SYMMETRIC}\n2 2 1\n3 1 1\n", "line 3: row index"),
    "no number": (f"{SYMMETRIC}\n2 2 1\n1 1 x\n", "line 3: invalid"),
    "long number": (f"{SYMMETRIC}\n2 2 1\n{10**30} 1 1\n", "line 3: integer out"),
    "truncated": (f"{SYMMETRIC}\n2 2 2\n1 1 1\n", "announces 2 entries, and it holds 1"),
    "too long": (f"{SYMMETRIC}\n2 2 1\n1 1 1\n1 1 1\n", "and it holds more"),
    "nan": (f"{SYMMETRIC}\n2 2 1\n2 1 nan\n", r"entry \(2, 1\) is nan"),
    "inf": (f"{SYMMETRIC}\n2 2 1\n2 1 1e999\n", r"entry \(2, 1\) is inf"),
    "asymmetric": (f"{GENERAL}\n2 2 2\n1 2 1\n2 1 3\n", r"\(A \+ A\^T\) / 2"),
    "triangle": (f"{GENERAL}\n2 2 2\n1 1 1\n2 1 3\n", "one triangle only.*first line"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_symmetric_matrix_is_refused_and_leaves_nothing(case, tmp_path):
    content, message = BAD[case]
    (tmp_path / "bad.mtx").write_text(content)

    with pytest.raises(ValueError, match=message) as error:
        slq.shard(tmp_path / "bad.mtx", tmp_path / "out", parts=1)

    assert "bad.mtx" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.mtx"]


@pytest.mark.parametrize("cut", [3, 30, -8])
def test_a_truncated_archive_is_refused(cut, file, tmp_path):
    packed = file("gz")
    packed.write_bytes(packed.read_bytes()[:cut])

    with pytest.raises(ValueError, match=r"m\.mtx\.gz: .*(damaged|no Matrix Market)"):
        slq.shard(packed, tmp_path / "out")


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(_market, "_PIECE", 1 << 10)
    path = text(tmp_path / "long.mtx", "2 2 1\n" + "1" * 5000)

    with pytest.raises(ValueError, match="a line is longer than 1,024 bytes"):
        slq.shard(path, tmp_path / "out", parts=1)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (sp.csr_array(np.triu(np.ones((4, 4)))), "one triangle only"),
        (sp.csr_array(np.array([[1.0, 2.0], [0.0, 1.0], [1.0, 1.0]])), "is 3 × 2"),
        (sp.csr_array(np.array([[1.0j]])), "complex128"),
        (sp.csr_array(np.array([[np.inf]])), "not finite"),
    ],
    ids=["triangle", "rectangle", "complex", "inf"],
)
def test_an_npz_matrix_that_is_not_symmetric_is_refused(matrix, message, tmp_path):
    sp.save_npz(tmp_path / "a.npz", matrix)

    with pytest.raises(ValueError, match=message):
        slq.shard(tmp_path / "a.npz", tmp_path / "out", parts=1)


def test_an_npz_matrix_whose_columns_lie_outside_is_refused(tmp_path):
    arrays = {"format": b"csr", "shape": [2, 2], "data": [1.0], "indices": [5], "indptr": [0, 1, 1]}
    np.savez(tmp_path / "a.npz", **arrays)

    with pytest.raises(ValueError, match=r"a\.npz (is damaged|cannot be read)"):
        slq.shard(tmp_path / "a.npz", tmp_path / "out", parts=1)


@pytest.mark.parametrize("parts", [0, 301, 2.0, True])
def test_an_impossible_number_of_parts_is_refused(parts, file, tmp_path):
    with pytest.raises(ValueError, match="`parts` must be"):
        slq.shard(file("npz"), tmp_path / "out", parts=parts)


def test_a_folder_that_exists_stays_as_it_is(file, tmp_path):
    (tmp_path / "out").mkdir()

    with pytest.raises(FileExistsError, match="out exists"):
        slq.shard(file("npz"), tmp_path / "out")


def test_an_interruption_leaves_nothing_behind(file, tmp_path, monkeypatch):
    path = file("npz")
    monkeypatch.setattr(_sharding.scipy.sparse, "save_npz", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))

    with pytest.raises(KeyboardInterrupt):
        slq.shard(path, tmp_path / "out")

    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def shards(file, tmp_path):
    return slq.shard(file("npz"), tmp_path / "out", parts=3)


def test_a_damaged_part_is_refused_and_the_others_are_read(shards):
    path = shards.folder / shards.parts[1].file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    assert shards.matrix(range(1)).shape == (shards.parts[0].rows, 300)
    with pytest.raises(ValueError, match="its checksum is not that of"):
        shards.matrix(range(1, 2))


def test_a_part_with_a_right_checksum_that_is_no_such_matrix_is_refused(shards):
    def exchange(matrix):
        path = shards.folder / shards.parts[0].file
        sp.save_npz(path, matrix)
        manifest = json.loads((shards.folder / "shards.json").read_text())
        manifest["parts"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (shards.folder / "shards.json").write_text(json.dumps(manifest))
        return shards_in(shards.folder)

    outside = shards.matrix(range(1))
    with pytest.raises(ValueError, match=r"not what shards\.json says"):
        exchange(sp.eye_array(5, format="csr")).matrix(range(1))
    with pytest.raises(ValueError, match="it is no CSR matrix but coo"):
        exchange(outside.tocoo()).matrix(range(1))
    outside.indices[0] = 10**6
    with pytest.raises(ValueError, match="it is no sparse matrix"):
        exchange(outside).matrix(range(1))


def test_a_missing_part_is_named(shards):
    (shards.folder / shards.parts[2].file).unlink()

    with pytest.raises(ValueError, match=r"part-00002\.npz: shards\.json names it"):
        shards.matrix()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=99), "Install a newer slq"),
        (lambda m: m.update(kind="other"), "no manifest of shards"),
        (lambda m: m.pop("n"), "damaged"),
        (lambda m: m.update(n=301), "do not add up"),
        (lambda m: m.update(dtype="object"), "dtype 'object'"),
        (lambda m: m["parts"][1].update(first=0), "does not begin where"),
        (lambda m: m["parts"][1].update(rows=100.0), "part 1 has numbers that are none"),
        (lambda m: m["parts"][1].update(file="../secret.npz"), "outside of the folder"),
    ],
    ids=["newer", "foreign", "incomplete", "rows", "dtype", "overlap", "float", "outside"],
)
def test_a_manifest_that_contradicts_itself_is_refused(change, message, shards):
    path = shards.folder / "shards.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))

    with pytest.raises(ValueError, match=message):
        shards_in(shards.folder)


def test_none_of_the_parts_are_no_rows_of_the_same_numbers(shards):
    nothing = shards.matrix(range(1, 1))

    assert (nothing.shape, nothing.nnz, nothing.dtype) == ((0, 300), 0, shards.matrix(range(1)).dtype)


def test_what_is_no_folder_of_shards_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"it has no shards\.json"):
        shards_in(tmp_path)


def test_progress_is_shown_on_stderr_only_if_asked_for(file, tmp_path, capsys):
    pytest.importorskip("tqdm")
    slq.shard(file("symmetric"), tmp_path / "out", parts=2)
    assert capsys.readouterr() == ("", "")

    slq.shard(file("symmetric"), tmp_path / "again", parts=2, progress=True)
    assert "B/s" in capsys.readouterr().err


def test_the_name_of_what_is_cut_ends_as_a_sparse_matrix_does(tmp_path):
    path = tmp_path / "matrix.txt"
    path.write_text("1 1 1\n")
    with pytest.raises(ValueError, match=r"matrix\.txt: the name of a sparse matrix ends in"):
        _sharding._opened(path)
