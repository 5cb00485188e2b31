"""Krylov vectors stay orthonormal to rounding, wherever they live and whichever probes are dropped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from slq._lanczos._basis import _BLOCK, Basis


class Frozen:
    """A NumPy array that cannot be written to but has `.at[index].set(value)`, as arrays of JAX do."""

    def __init__(self, values):
        self.values = np.array(values)
        self.values.flags.writeable = False
        self.shape, self.dtype = self.values.shape, self.values.dtype

    @property
    def at(self):
        return _At(self.values)

    def __array_namespace__(self, api_version=None):
        return FrozenNamespace

    device = "cpu"

    def __getitem__(self, index):
        return Frozen(self.values[index])

    def __sub__(self, other):
        return Frozen(self.values - other.values)

    def __add__(self, other):
        return Frozen(self.values + other.values)

    def __mul__(self, other):
        return Frozen(self.values * other.values)

    def __setitem__(self, index, value):
        message = "these arrays are immutable"
        raise TypeError(message)


class _At:
    def __init__(self, values):
        self.values = values

    def __getitem__(self, index):
        self.index = index
        return self

    def set(self, value):
        new = self.values.copy()
        new[self.index] = value.values
        return Frozen(new)


class FrozenNamespace:
    """As much of the standard as `Basis` uses."""

    @staticmethod
    def empty(shape, *, dtype, device):
        return Frozen(np.empty(shape, dtype=dtype))

    @staticmethod
    def astype(a, dtype, copy):
        return Frozen(a.values.astype(dtype, copy=copy))

    @staticmethod
    def sum(a, axis):
        return Frozen(a.values.sum(axis=axis))

    @staticmethod
    def matmul(a, b):
        return Frozen(a.values @ b.values)

    @staticmethod
    def matrix_transpose(a):
        return Frozen(a.values.mT)

    @staticmethod
    def stack(arrays):
        return Frozen(np.stack([a.values for a in arrays]))


def orthonormal(probes, count, n, seed=0):
    """Draw `count` orthonormal vectors for each probe, shape (probes, count, n)."""
    rng = np.random.default_rng(seed)
    return np.stack([np.linalg.qr(rng.standard_normal((n, count)))[0].T for _ in range(probes)])


def filled(backend, vectors):
    """Store vectors of shape (probes, count, n) one by one."""
    basis = Basis(backend.xp)
    for j in range(vectors.shape[1]):
        basis.append(backend.asarray(vectors[:, j]))
    return basis


class TestProjection:
    @pytest.mark.parametrize("count", [1, 2, _BLOCK - 1, _BLOCK, _BLOCK + 1, 3 * _BLOCK])
    def test_twice_is_enough_across_blocks(self, backend, count):
        vectors, rows = orthonormal(2, count, 60), np.random.default_rng(1).standard_normal((2, 60))
        basis = filled(backend, vectors)
        once, removed = basis.project_out(backend.asarray(rows))
        twice, _ = basis.project_out(once)
        exact = rows - np.einsum("pcn,pcm,pm->pn", vectors, vectors, rows)
        assert len(basis) == count
        assert_allclose(backend.to_numpy(twice), exact, atol=100 * backend.eps)
        left = np.einsum("pcn,pn->pc", vectors, backend.to_numpy(twice).astype(np.float64))
        assert np.max(np.abs(left)) < 4 * backend.eps * np.linalg.norm(rows)
        coefficients = np.einsum("pcn,pn->pc", vectors, rows)
        assert_allclose(backend.to_numpy(removed), np.sum(coefficients**2, axis=1), atol=300 * backend.eps)

    def test_a_row_inside_the_span_is_left_with_rounding(self, backend):
        vectors = orthonormal(1, 20, 50)
        rows = np.random.default_rng(2).standard_normal((1, 20)) @ vectors[0]
        basis = filled(backend, vectors)
        left, _ = basis.project_out(backend.asarray(rows))
        assert np.linalg.norm(backend.to_numpy(left)) < 30 * backend.eps * np.linalg.norm(rows)

    def test_a_nearly_dependent_row_needs_the_second_sweep(self):
        vectors, rng = orthonormal(1, 40, 200), np.random.default_rng(3)
        basis = Basis(np)
        for j in range(40):
            basis.append(vectors[:, j])
        rows = rng.standard_normal((1, 40)) @ vectors[0] + 1e-9 * rng.standard_normal((1, 200))
        once, _ = basis.project_out(rows)
        twice, _ = basis.project_out(once)
        cosines = [np.max(np.abs(vectors[0] @ w[0])) / np.linalg.norm(w) for w in (once, twice)]
        assert cosines[0] > 1e-10
        assert cosines[1] < 1e-15

    def test_an_empty_basis_removes_nothing(self, backend):
        rows = backend.asarray(np.ones((2, 5)))
        left, removed = Basis(backend.xp).project_out(rows)
        assert left is rows
        assert removed is None

    @given(probes=st.integers(1, 3), count=st.integers(1, 20), extra=st.integers(1, 10), seed=st.integers(0, 99))
    @settings(deadline=None, max_examples=25)
    def test_it_is_the_orthogonal_projection_of_each_probe_alone(self, probes, count, extra, seed):
        vectors = orthonormal(probes, count, count + extra, seed)
        rows = np.random.default_rng(seed).standard_normal((probes, count + extra))
        basis = Basis(np)
        for j in range(count):
            basis.append(vectors[:, j])
        left, _ = basis.project_out(rows)
        for q, row, found in zip(vectors, rows, left, strict=True):
            assert_allclose(found, row - q.T @ (q @ row), atol=1e-13)


class TestGrowthAndLoss:
    def test_the_length_counts_vectors_per_probe(self, backend):
        basis = Basis(backend.xp)
        rows = backend.asarray(np.ones((3, 2)))
        for count in range(2 * _BLOCK + 2):
            assert len(basis) == count
            basis.append(rows)

    def test_vectors_once_stored_are_never_copied(self):
        basis = Basis(np)
        for _ in range(_BLOCK + 1):
            basis.append(np.ones((1, 3)))
        first = basis._blocks[0]
        for _ in range(_BLOCK):
            basis.append(np.ones((1, 3)))
        assert basis._blocks[0] is first

    def test_what_is_stored_does_not_change_with_the_array_that_was_given(self, backend):
        if backend.read_only or backend.name.startswith("jax"):
            pytest.skip("its arrays cannot be changed")
        rows, vectors = backend.asarray(np.ones((1, 4)) / 2), np.ones((1, 1, 4)) / 2
        basis = Basis(backend.xp)
        basis.append(rows)
        rows[0, 0] = 7.0
        left, _ = basis.project_out(backend.asarray(vectors[:, 0]))
        assert_allclose(backend.to_numpy(left), 0.0, atol=1e-7)

    @pytest.mark.parametrize("kept", [[0], [2], [0, 3], [1, 2, 3], [3, 1]])
    @pytest.mark.parametrize("count", [3, _BLOCK, _BLOCK + 2])
    def test_dropping_probes_keeps_the_others_and_lets_them_grow(self, backend, kept, count):
        vectors, rows = orthonormal(4, count + 1, 40), np.random.default_rng(4).standard_normal((4, 40))
        basis = filled(backend, vectors[:, :-1])
        basis.keep(np.array(kept))
        basis.append(backend.asarray(vectors[kept, -1]))
        assert len(basis) == count + 1
        left, removed = basis.project_out(backend.asarray(rows[kept]))
        whole, whole_removed = filled(backend, vectors).project_out(backend.asarray(rows))
        assert_allclose(backend.to_numpy(left), backend.to_numpy(whole)[kept], atol=10 * backend.eps)
        assert_allclose(backend.to_numpy(removed), backend.to_numpy(whole_removed)[kept], atol=300 * backend.eps)

    @pytest.mark.parametrize("count", [1, _BLOCK, 2 * _BLOCK + 3])
    def test_combinations_of_the_vectors_of_one_probe(self, backend, count):
        vectors, coefficients = orthonormal(3, count, 50), np.random.default_rng(7).standard_normal((4, count))
        rows = filled(backend, vectors).combine(1, backend.asarray(coefficients))
        assert_allclose(backend.to_numpy(rows), coefficients @ vectors[1], atol=100 * backend.eps)

    def test_immutable_arrays_give_the_same_as_mutable_ones(self):
        vectors, rows = orthonormal(2, _BLOCK + 3, 30), np.random.default_rng(5).standard_normal((2, 30))
        mutable, immutable = Basis(np), Basis(FrozenNamespace)
        for j in range(_BLOCK + 3):
            mutable.append(vectors[:, j])
            immutable.append(Frozen(vectors[:, j]))
        for basis in (mutable, immutable):
            basis.keep(np.array([1]))
        (left, removed), (frozen, frozen_removed) = (
            mutable.project_out(rows[1:]),
            immutable.project_out(Frozen(rows[1:])),
        )
        assert_array_equal(frozen.values, left)
        assert_array_equal(frozen_removed.values, removed)
