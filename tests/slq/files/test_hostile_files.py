"""Files that were made to hurt: bombs, absurd headers, paths, pickles, escapes; and a few thousand at random."""

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import slq
from slq._command._page import page
from slq._files import _archive
from slq._files._matrix_files import SourceError, read_matrix
from slq._text import printable
from tests.torture.fuzz import KINDS, fuzz, judged
from tests.torture.mutations import npy, with_header
from tests.torture.seeds import TEXTS, seeds

MANY = 2000
# Runs that go on from their file take longer than reading.
FEWER = {"checkpoint": 4, "search": 20}
RED, SCRIPT = "\x1b[31mred\x1b[0m", "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def run():
    return slq.spectrum(np.diag([1.0, 2.0, 5.0]), probes=2, steps=2, rng=0)


def archive(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(zipfile.ZipInfo(name), content, method)
    return path


def members(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_almost_right_are_read_or_refused(kind, tmp_path):
    found = fuzz(kind, MANY // FEWER.get(kind, 1), seed=1, keep=tmp_path, seconds=300)
    assert found.findings == ()
    assert min(found.read, found.refused) > 0
    assert found.read + found.refused == found.inputs


def test_that_a_finding_would_be_noticed(tmp_path, monkeypatch):
    (tmp_path / "x.npz").write_bytes(seeds("result")[0])
    for error, told in (
        (KeyError("x"), "KeyError"),
        (ValueError("x"), "does not name"),
        (MemoryError(), "MemoryError"),
    ):
        monkeypatch.setattr(slq, "load", lambda _, error=error: (_ for _ in ()).throw(error))
        assert told in judged("result", tmp_path / "x.npz")
    monkeypatch.setattr(slq, "load", lambda _: "\x1b")
    assert judged("result", tmp_path / "x.npz") == "read"  # its repr is printable


@pytest.mark.parametrize("name", ["../escape.npy", "/etc/passwd.npy", "a/b.npy", "C:\\x.npy", ".npy", "x\x1b[0m.npy"])
def test_members_are_names_and_never_paths(run, tmp_path, name):
    whole = members(run.save(tmp_path / "run.npz"))
    path = archive(tmp_path / "path.npz", [*whole.items(), (name, npy(np.zeros(2)))])
    with pytest.raises(ValueError, match=r"path\.npz .* is no array") as told:
        slq.load(path)
    assert "\x1b" not in str(told.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["path.npz", "run.npz"]


def test_two_arrays_of_one_name_are_refused(run, tmp_path):
    whole = members(run.save(tmp_path / "run.npz"))
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path / "two.npz", [*whole.items(), ("alpha.npy", whole["alpha.npy"])])
    with pytest.raises(ValueError, match="two arrays of one name"):
        slq.load(path)


def test_a_result_that_was_packed_is_read(run, tmp_path):
    with np.load(run.save(tmp_path / "run.npz")) as file:
        np.savez_compressed(tmp_path / "packed.npz", **file)
    assert slq.load(tmp_path / "packed.npz") == run


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_without_a_limit_is_refused(run, tmp_path, method):
    path = archive(tmp_path / "bomb.npz", members(run.save(tmp_path / "run.npz")).items(), method)
    with pytest.raises(ValueError, match="packed in another way"):
        slq.load(path)


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(_archive, "free_memory", lambda *_: 2**20)
    path = archive(tmp_path / "bomb.npz", [("alpha.npy", npy(np.zeros(2**20)))], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 20_000
    with pytest.raises(ValueError, match=r"bomb\.npz takes 0\.00839 GB of memory to read, 0\.00105 GB are free"):
        slq.load(path)


def test_an_archive_cannot_announce_more_than_it_can_hold(run, tmp_path):
    data = bytearray(run.save(tmp_path / "run.npz").read_bytes())
    at = data.find(b"PK\x01\x02")
    data[at + 24 : at + 28] = (2**31).to_bytes(4, "little")
    (tmp_path / "liar.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"announces 21\d+ bytes"):
        slq.load(tmp_path / "liar.npz")


def test_an_array_that_ends_before_its_own_announcement_is_refused(tmp_path):
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (5,)}"
    path = archive(tmp_path / "short.npz", [("alpha.npy", with_header(text, bytes(32), 1))])
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02") + 24
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + 8).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"short\.npz .*it ends too early"):
        slq.load(path)


def test_what_is_no_number_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 2), dtype="datetime64[s]"))
    with pytest.raises(SourceError, match=r"x\.npy .*numbers of type datetime64"):
        read_matrix(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "shape", ["(10**18,)", "(1000000000000000000,)", "(2, -2)", "(0, 1000000000000)", "(3.0,)", "((1,),)"]
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_absurd_headers_of_arrays_are_refused(tmp_path, shape, version):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"
    (tmp_path / "x.npy").write_bytes(with_header(text, bytes(32), version))
    with pytest.raises(SourceError, match=r"x\.npy is truncated, damaged or no \.npy file"):
        read_matrix(tmp_path / "x.npy")


def test_no_pickle_is_ever_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(SourceError, match="Python objects, which slq never opens"):
        read_matrix(tmp_path / "x.npy")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "", "\ud800"])
def test_a_header_that_is_no_json_is_damage(run, tmp_path, text):
    whole = members(run.save(tmp_path / "run.npz"))
    path = archive(tmp_path / "odd.npz", (whole | {"header.npy": npy(np.array(text))}).items())
    with pytest.raises(ValueError, match=r"odd\.npz"):
        slq.load(path)


def test_text_beyond_unicode_is_damage(tmp_path):
    path = archive(tmp_path / "odd.npz", [("header.npy", npy(np.array([2**31], dtype="<u4").view("<U1")))])
    with pytest.raises(ValueError, match="text that is none"):
        slq.load(path)


# -- matrices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*TEXTS, "%%MatrixMarket matrix coordinate real general\n2 2 0\n"])
def test_matrix_market_is_read_as_scipy_reads_it(tmp_path, text):
    (tmp_path / "a.mtx").write_text(text)
    (tmp_path / "a.mtx.gz").write_bytes(gzip.compress(text.encode()))
    dense = lambda x: x.toarray() if scipy.sparse.issparse(x) else x  # noqa: E731
    expected = dense(scipy.io.mmread(tmp_path / "a.mtx"))
    for name in ("a.mtx", "a.mtx.gz"):
        np.testing.assert_array_equal(dense(read_matrix(tmp_path / name)), expected)


@pytest.mark.parametrize(
    ("head", "body", "message"),
    [
        ("array real skew-symmetric", "3 3\n1\n2\n", "2 lines of 1 numbers, its header says 3 of 1"),
        ("array real general", "2 2\n1\n2\x00\n3\n4\n", "could not convert string"),
        ("array integer general", "2 2\n1\n2\x1d\n", "2 lines of 1 numbers"),
        ("coordinate real general", "2 2 1\n1 1 1 1\n", "1 lines of 4 numbers, its header says 1 of 3"),
        ("coordinate real general", "2 2 1\n1 1.5 1\n", "rows and columns are not numbers from 1"),
        ("coordinate real general", "2 2 1\n1 3 1\n", "rows and columns are not numbers from 1"),
        ("coordinate real general", "2 2 1\n0 1 1\n", "rows and columns are not numbers from 1"),
        ("coordinate real symmetric", "2 2 2\n1 2 1\n2 1 1\n", "both sides of the diagonal"),
        ("coordinate real skew-symmetric", "2 2 1\n1 1 1\n", "entries on the diagonal"),
        ("coordinate real symmetric", "2 3 1\n1 2 1\n", "2 × 3 is not symmetric"),
        ("coordinate real general", "2 2 1000000000000\n1 1 1\n", "do not fit into"),
        ("coordinate real general", "9000000000000 9000000000000 1\n1 1 1\n", "takes 2.88e.05 GB of memory"),
        ("array real general", "1000000 1000000\n1\n", "do not fit into"),
        ("coordinate real general", "2 -2 1\n", "sizes"),
        ("coordinate real general", "", "sizes"),
        ("array pattern general", "1 1\n", "a pattern has no array"),
        ("array quaternion general", "1 1\n", "a matrix that is array quaternion general"),
    ],
)
def test_matrix_market_that_contradicts_its_header_is_refused(tmp_path, head, body, message):
    (tmp_path / "a.mtx").write_text(f"%%MatrixMarket matrix {head}\n{body}")
    with pytest.raises(SourceError, match=rf"a\.mtx .*{message}"):
        read_matrix(tmp_path / "a.mtx")


@pytest.mark.parametrize("bomb", [b"%" * 2**23, b"2 2 1\n" + b"1" * 2**23, b"2 2 1\n" + b"\n" * 2**23])
def test_a_packed_text_that_is_longer_than_its_entries_is_left_unread(tmp_path, bomb):
    text = b"%%MatrixMarket matrix coordinate real general\n" + bomb
    (tmp_path / "a.mtx.gz").write_bytes(gzip.compress(text))
    with pytest.raises(SourceError, match="longer than its entries take"):
        read_matrix(tmp_path / "a.mtx.gz")


@pytest.mark.parametrize("name", ["csr", "csc", "coo", "dia", "bsr"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<i4", "<c16"])
def test_sparse_matrices_are_read_as_scipy_reads_them(tmp_path, name, dtype):
    matrix = scipy.sparse.csr_array(np.array([[2, 0, -1], [0, 3, 0], [-1, 0, 4]])).asformat(name)
    expected, matrix.data = matrix.astype(np.dtype(dtype).newbyteorder("=")), matrix.data.astype(dtype)
    scipy.sparse.save_npz(tmp_path / "a.npz", matrix)
    found = read_matrix(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.toarray(), expected.toarray())
    assert (found.format, found.dtype) == (name, expected.dtype)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indices": np.array([0, 7, 1, 0, 2])}, "indices"),
        ({"indices": np.array([0, -1, 1, 0, 2])}, "indices"),
        ({"indptr": np.array([0, 1, 2**31 - 1, 0], dtype=np.int32)}, "indptr that does not ascend"),
        ({"indptr": np.array([0, 2, 3, 50])}, "indptr|index"),
        ({"indptr": np.array([0.0, 2.0, 3.0, 5.0])}, "indptr of type float64"),
        ({"shape": np.array([3, 10**15])}, "GB of memory"),
        ({"shape": np.array([3])}, "shape"),
        ({"data": np.ones(5, dtype=np.float16)}, "numbers of type float16"),
        ({"format": np.array("lil")}, "format 'lil'"),
    ],
    ids=["beyond", "negative", "overflow", "too long", "float", "wide", "vector", "half", "format"],
)
def test_sparse_matrices_whose_parts_do_not_fit_are_refused(tmp_path, changes, message):
    matrix = scipy.sparse.csr_array(np.array([[2.0, 0, -1], [0, 3, 0], [-1, 0, 4]]))
    scipy.sparse.save_npz(tmp_path / "a.npz", matrix)
    with np.load(tmp_path / "a.npz") as file:
        np.savez(tmp_path / "b.npz", **(dict(file) | changes))
    with pytest.raises(SourceError, match=message):
        read_matrix(tmp_path / "b.npz")


# -- labels -------------------------------------------------------------------------------------------------------


def test_labels_out_of_files_are_shown_and_not_obeyed(tmp_path, capsys):
    pytest.importorskip("cyclopts")
    from slq._command import _cli

    with pytest.warns(slq.SlqWarning, match="not symmetric"):
        run = slq.spectrum(np.diag([1.0, 2.0, 5.0]) + np.eye(3, k=1), probes=2, steps=2, rng=0)
    odd = run._with(status=RED, warnings=(RED,), metadata={"kind": RED, "vectors": "in files " + RED})
    assert "\x1b" not in repr(odd)
    assert "\\x1b[31mred" in repr(odd)
    history = slq.History(metadata={RED: RED}).append(0, odd, note=RED, **{RED: 1.0})
    for path in (odd.save(tmp_path / "odd.npz"), history.save(tmp_path / "history.npz")):
        for more in ([], ["--json"]):
            with pytest.raises(SystemExit):
                _cli.main(["show", str(path), *more])
            told = capsys.readouterr()
            assert "red" in told.out
            assert "\x1b" not in told.out + told.err
    with pytest.raises(SystemExit):
        _cli.main(["show", str(tmp_path / RED)])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("character", ["\uffff", "\U00040061", "\u00a0", "\u202e"])
def test_what_has_no_glyph_is_written_out(character):
    told = printable(f"σ² = 1\na{character}b")
    assert told.startswith("σ² = 1\na\\")
    assert told.replace("\n", "").isprintable()


def test_names_of_files_are_no_formulas_in_a_picture(run, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("cyclopts")
    from slq._command import _cli

    monkeypatch.chdir(tmp_path)
    names = [str(run.save(tmp_path / name)) for name in (r"a$\frac$.npz", f"{RED}.npz")]
    with pytest.raises(SystemExit) as ended:
        _cli.main(["plot", *names, "--out", "both.png"])
    assert ended.value.code == 0
    assert (tmp_path / "both.png").stat().st_size > 0


def test_labels_out_of_files_are_text_in_a_page():
    pytest.importorskip("matplotlib")
    run = slq.spectrum(np.diag([1.0, 2.0, 5.0]), probes=2, steps=2, rng=0)
    label = f'{SCRIPT}"&{RED}'
    history = slq.History(metadata={label: label})
    for step in range(2):
        history = history.append(step, run, note=label, **{label: 1.0, "loss": 1.0})
    made = page(history, label)
    assert "<script" not in made
    assert "\x1b" not in made
    assert "&lt;script&gt;" in made
    assert io.StringIO(made).read().encode("utf-8")
