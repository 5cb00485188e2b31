"""Past vectors in memory and in files, in each precision: what is projected out, combined, dropped, left behind."""

import gc
import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from slq._kernels import _scratch
from slq._kernels._sweeps import CompiledSweeps, NumpySweeps
from slq._lanczos._basis import Storage
from slq._lanczos._host_basis import _BLOCK, HostBasis

ROUNDING = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11}


def orthonormal(probes, count, n, seed=0):
    """Draw `count` orthonormal vectors for each probe, shape (probes, count, n)."""
    rng = np.random.default_rng(seed)
    return np.stack([np.linalg.qr(rng.standard_normal((n, count)))[0].T for _ in range(probes)])


def filled(vectors, storage, sweeps=None):
    """Store vectors of shape (probes, count, n) one by one."""
    basis = HostBasis(storage, sweeps or NumpySweeps())
    for j in range(vectors.shape[1]):
        basis.append(np.ascontiguousarray(vectors[:, j]))
    return basis


@pytest.fixture(params=["memory", "files"])
def folder(request, tmp_path):
    """Give no folder, then one."""
    return tmp_path if request.param == "files" else None


@pytest.fixture(params=["numpy", "numba"])
def sweeps(request):
    """Give the passes of NumPy, then those of numba."""
    if request.param == "numpy":
        return NumpySweeps()
    pytest.importorskip("numba")
    return CompiledSweeps()


@pytest.mark.parametrize("precision", list(ROUNDING))
@pytest.mark.parametrize("count", [1, 3, _BLOCK, _BLOCK + 5])
def test_a_sweep_takes_out_what_is_stored_to_its_rounding(precision, count, folder, sweeps):
    vectors, rows = orthonormal(2, count, 5000), np.random.default_rng(1).standard_normal((2, 5000))
    basis = filled(vectors, Storage(precision, folder), sweeps)
    coefficients = np.einsum("pcn,pn->pc", vectors, rows)
    left = rows.copy()
    removed = basis.project_out(left)
    assert len(basis) == count
    assert_allclose(removed, np.sum(coefficients**2, axis=1), rtol=1e-12 + 4 * ROUNDING[precision])
    expected = rows - np.einsum("pcn,pc->pn", vectors, coefficients)
    assert np.linalg.norm(left - expected) <= 1e-12 + 4 * ROUNDING[precision] * np.linalg.norm(coefficients)
    assert basis.bytes_read == 2 * 2 * count * 5000 * np.dtype(precision).itemsize


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_float32_rows_are_projected_in_their_own_precision(precision, sweeps):
    vectors = orthonormal(2, 9, 300).astype(np.float32)
    rows = np.random.default_rng(1).standard_normal((2, 300)).astype(np.float32)
    basis = filled(vectors, Storage(precision), sweeps)
    for _ in range(2):
        basis.project_out(rows)
    assert rows.dtype == np.float32
    assert np.abs(np.einsum("pcn,pn->pc", vectors, rows)).max() < 4 * ROUNDING[precision] * np.linalg.norm(rows)


def test_a_longer_precision_than_the_vectors_own_is_not_taken():
    basis = filled(orthonormal(1, 3, 40).astype(np.float32), Storage("float64"))
    assert basis._blocks[0].dtype == np.float32


def test_nothing_stored_is_nothing_removed(sweeps):
    rows = np.ones((2, 5))
    assert HostBasis(Storage(), sweeps).project_out(rows) is None
    assert_array_equal(rows, 1.0)


@pytest.mark.parametrize("precision", list(ROUNDING))
@pytest.mark.parametrize("kept", [[0], [2, 0], [1, 2]])
def test_dropping_probes_keeps_the_others_and_lets_them_grow(precision, kept, folder):
    vectors, rows = orthonormal(3, 8, 50), np.random.default_rng(4).standard_normal((3, 50))
    basis, whole = (filled(v, Storage(precision, folder)) for v in (vectors[:, :-1], vectors))
    basis.keep(np.array(kept))
    basis.append(vectors[kept, -1])
    left, expected = rows[kept].copy(), rows.copy()
    basis.project_out(left)
    whole.project_out(expected)
    assert len(basis) == 8
    assert_array_equal(left, expected[kept])


@pytest.mark.parametrize("precision", list(ROUNDING))
def test_combinations_of_the_vectors_of_one_probe(precision, folder):
    vectors, coefficients = orthonormal(2, _BLOCK + 2, 90), np.random.default_rng(7).standard_normal((4, _BLOCK + 2))
    rows = filled(vectors, Storage(precision, folder)).combine(1, coefficients, np.float64)
    assert_allclose(rows, coefficients @ vectors[1], atol=1e-14 + 6 * ROUNDING[precision])


def test_no_room_is_taken_for_more_vectors_than_there_will_be():
    blocks = filled(orthonormal(1, _BLOCK + 3, 80), Storage(most=_BLOCK + 5))._blocks
    assert [block.shape[1] for block in blocks] == [_BLOCK, 5]


class TestFiles:
    def test_have_no_name_and_their_room_comes_back(self, tmp_path):
        before = _scratch.free(tmp_path)
        basis = filled(orthonormal(1, 3, 400), Storage(folder=tmp_path))
        assert isinstance(basis._blocks[0], np.memmap)
        assert os.listdir(tmp_path) == [] or os.name == "nt"
        del basis
        gc.collect()
        assert os.listdir(tmp_path) == []
        assert before - _scratch.free(tmp_path) < 50_000_000

    def test_too_little_room_is_refused_with_what_would_help(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_scratch, "free", lambda _: 1000)
        with pytest.raises(ValueError, match=r"`scratch`: .* has 1e-06 GB left, the Krylov vectors take .* basis="):
            filled(orthonormal(1, 3, 400), Storage(folder=tmp_path))

    @pytest.mark.parametrize("name", ["missing", "file"])
    def test_must_lie_in_a_folder(self, tmp_path, name):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match="`scratch` must be a folder that can be written to"):
            _scratch.mapped((1, 2, 3), np.float32, tmp_path / name)

    def test_are_made_where_the_system_cannot_take_their_room_at_once(self, tmp_path, monkeypatch):
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
        block = _scratch.mapped((1, 2, 3), np.float32, tmp_path)
        block[:] = 1.0
        assert block.sum() == 6.0
        assert os.listdir(tmp_path) == [] or os.name == "nt"
