"""Kronecker products, Kronecker sums and block diagonals multiply as the matrices that they stand for."""

from functools import reduce

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from numpy.testing import assert_allclose

import slq


def parts(*sizes, field="float64", seed=0):
    rng, made = np.random.default_rng(seed), []
    for n in sizes:
        X = rng.standard_normal((n, n))
        X = X + 1j * rng.standard_normal((n, n)) if field == "complex128" else X
        made.append((X + X.conj().T) / 2)
    return made


def dense_sum(*matrices):
    sizes = [len(A) for A in matrices]
    terms = []
    for i, A in enumerate(matrices):
        factors = [np.eye(n) for n in sizes]
        factors[i] = A
        terms.append(reduce(np.kron, factors))
    return sum(terms)


DENSE = {"kron": lambda *A: reduce(np.kron, A), "kronsum": dense_sum, "block_diag": scipy.linalg.block_diag}


@pytest.mark.parametrize("name", list(DENSE))
class TestEach:
    @pytest.mark.parametrize("sizes", [(4,), (3, 5), (2, 3, 4)], ids=["one", "two", "three"])
    @pytest.mark.parametrize("field", ["float64", "complex128"])
    def test_it_multiplies_as_the_dense_matrix(self, name, sizes, field):
        matrices = parts(*sizes, field=field)
        operator, dense = getattr(slq, name)(*matrices), DENSE[name](*matrices)
        X = np.random.default_rng(1).standard_normal((len(dense), 3)).astype(field)
        before = X.copy()
        assert operator.shape == dense.shape
        assert_allclose(operator.matmat(X), dense @ X, atol=1e-12)
        assert_allclose(operator.matmat(np.asfortranarray(X)), dense @ X, atol=1e-12)
        assert_allclose(X, before)

    def test_it_stays_in_its_library(self, name, backend):
        matrices = parts(3, 4)
        operator = getattr(slq, name)(*(backend.asarray(A) for A in matrices))
        dense = DENSE[name](*matrices)
        product = operator.matmat(backend.asarray(np.eye(len(dense))))
        assert operator.xp is backend.xp
        assert_allclose(backend.to_numpy(product), dense, atol=100 * backend.eps)

    @pytest.mark.parametrize("field", ["float64", "complex128"])
    def test_its_spectrum_is_that_of_the_dense_matrix(self, name, field):
        matrices = parts(20, 24, field=field)
        exact = np.linalg.eigvalsh(DENSE[name](*matrices))
        s = slq.spectrum(getattr(slq, name)(*matrices), probes=3, steps=30, rng=0, confidence=0.999)
        count, trace = s.count(0.0, np.inf), s.trace(np.square)
        assert s.n == len(exact)
        assert count.low <= np.sum(exact > 0) <= count.high
        assert trace.low <= np.sum(exact**2) <= trace.high
        assert s.edges[0] <= exact[0] < exact[-1] <= s.edges[1]

    def test_sparse_matrices_callables_and_compositions_go_in(self, name):
        A, B, C = parts(3, 4, 2)
        make = getattr(slq, name)
        callable_ = slq.as_operator(lambda v: B @ v, n=4)
        nested = make(make(sp.csr_array(A), callable_), C)
        dense = DENSE[name](A, B, C)
        assert_allclose(nested.matmat(np.eye(len(dense))), dense, atol=1e-12)
        assert name in nested.metadata["kind"]

    def test_operators_of_different_homes_are_refused(self, name, torch):
        A, B = parts(3, 4)
        make = getattr(slq, name)
        with pytest.raises(TypeError, match="share one dtype, got float64 and float32"):
            make(A, B.astype(np.float32))
        with pytest.raises(TypeError, match="share one array library, got numpy and torch"):
            make(A, torch.from_numpy(B))
        with pytest.raises(ValueError, match="no operator was given"):
            make()

    def test_a_part_of_the_wrong_shape_is_named(self, name):
        broken = slq.as_operator(lambda X: X[:2], n=4, block=True)
        operator = getattr(slq, name)(np.eye(3), broken)
        with pytest.raises(slq.RunError, match="must have that shape"):
            operator.matmat(np.ones((operator.n, 1)))


def test_a_laplacian_of_a_grid_is_the_sum_of_its_axes():
    axis = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(30, 30))
    one_axis = 2 - 2 * np.cos(np.pi * np.arange(1, 31) / 31)
    exact = np.sort((one_axis[:, None, None] + one_axis[None, :, None] + one_axis).ravel())
    s = slq.spectrum(slq.kronsum(axis, axis, axis), probes=1, steps=40, rng=0)
    found = s.logdet()
    assert s.n == 27_000
    assert found.low <= np.log(exact).sum() <= found.high


def test_noise_of_the_parts_adds_up():
    class Noisy:
        shape, dtype, noise = (2, 2), np.dtype("float64"), 1e-4

        def matmat(self, X):
            return X

    assert slq.kron(Noisy(), Noisy()).noise == pytest.approx(2e-4)
