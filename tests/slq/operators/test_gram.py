"""Gram operators tell singular values: of every kind of matrix, whichever side is smaller."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose
from scipy.sparse.linalg import LinearOperator, aslinearoperator

import slq


def rectangular(rows, columns, *, field="float64", seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((rows, columns))
    return A + 1j * rng.standard_normal((rows, columns)) if field == "complex128" else A.astype(field)


class Plain:
    """An object with a shape, `@` and, where asked for, a transpose."""

    def __init__(self, A):
        self.A, self.shape, self.dtype = A, A.shape, A.dtype

    def __matmul__(self, X):
        return self.A @ X


class Transposable(Plain):
    """The same with a transpose."""

    @property
    def T(self):
        """The transpose."""
        return Plain(self.A.T)


KINDS = {
    "dense": np.asarray,
    "sparse": sp.coo_array,
    "operator": aslinearoperator,
    "vectors": lambda A: LinearOperator(
        A.shape, matvec=lambda v: A @ v, rmatvec=lambda v: A.conj().T @ v, dtype=A.dtype
    ),
}


class TestProducts:
    @pytest.mark.parametrize("kind", list(KINDS))
    @pytest.mark.parametrize("field", ["float32", "float64", "complex128"])
    @pytest.mark.parametrize("shape", [(9, 5), (5, 9)], ids=["tall", "wide"])
    def test_the_smaller_side_is_taken(self, kind, field, shape):
        A = rectangular(*shape, field=field)
        dense = A.conj().T @ A if shape[0] > shape[1] else A @ A.conj().T
        operator = slq.gram(KINDS[kind](A))
        assert (operator.n, np.dtype(operator.dtype)) == (5, np.dtype(field))
        assert_allclose(operator.matmat(np.eye(5, dtype=field)), dense, rtol=1e-4 if field == "float32" else 1e-12)

    def test_arrays_stay_in_their_library(self, backend):
        A = rectangular(8, 5)
        operator = slq.gram(backend.asarray(A))
        product = operator.matmat(backend.asarray(np.eye(5)))
        assert operator.xp is backend.xp
        assert_allclose(backend.to_numpy(product), A.T @ A, atol=100 * backend.eps)

    def test_torch_sparse_half_and_complex_tensors(self, torch):
        A = rectangular(40, 25)
        A[np.abs(A) < 1] = 0
        for matrix, tolerance in (
            (torch.from_numpy(A).to_sparse(), 1e-12),
            (torch.from_numpy(A).to(torch.bfloat16), 3e-2),
            (torch.from_numpy(A.astype(np.complex128)), 1e-12),
        ):
            s = slq.spectrum(slq.gram(matrix), probes=2, steps=25, rng=0)
            assert s.nodes.max() == pytest.approx(np.linalg.norm(A, 2) ** 2, rel=tolerance)

    def test_integers_and_objects_with_a_transpose(self):
        A = np.arange(12).reshape(4, 3)
        assert_allclose(slq.gram(A).matmat(np.eye(3)), A.T @ A)
        assert_allclose(slq.gram(sp.csr_array(A)).matmat(np.eye(3)), A.T @ A)
        assert_allclose(slq.gram(Transposable(A.astype(float))).matmat(np.eye(3)), A.T @ A)


@pytest.fixture(scope="module")
def run():
    """Give the run of a wide matrix with two large singular values, and all singular values."""
    A = rectangular(300, 500) / np.sqrt(500)
    A[0] *= 6
    A[1] *= 9
    return slq.spectrum(slq.gram(A), probes=4, steps=60, rng=0), np.linalg.svd(A, compute_uv=False)


class TestSingularValues:
    def test_counts_and_quantiles_are_those_of_their_squares(self, run):
        s, exact = run
        count = s.count(0.5**2, 1.0**2)
        assert count.low <= np.sum((exact > 0.5) & (exact <= 1.0)) <= count.high
        band = s.quantile(0.5)
        assert np.sqrt(band.low[0]) <= np.median(exact) <= np.sqrt(band.high[0])
        assert_allclose(np.sqrt(s.outliers.values), exact[:2], rtol=1e-12)

    def test_norms_are_those_of_the_matrix(self, run):
        s, exact = run
        for found, true in (
            (s.nuclear_norm(gram=True), exact.sum()),
            (s.schatten_norm(4, gram=True), np.sum(exact**4) ** 0.25),
        ):
            assert found.low <= true <= found.high

    def test_a_complex_matrix_has_real_singular_values(self):
        A = rectangular(200, 120, field="complex128") / 20
        exact = np.linalg.svd(A, compute_uv=False)
        found = slq.spectrum(slq.gram(A), probes=3, steps=40, rng=0).nuclear_norm(gram=True)
        assert found.low <= exact.sum() <= found.high

    def test_a_wrong_adjoint_shows_as_asymmetry(self):
        A = rectangular(60, 40)
        wrong = LinearOperator(
            A.shape, matvec=lambda v: A @ v, rmatvec=lambda v: np.roll(A, 1, axis=0).T @ v, dtype=A.dtype
        )
        with pytest.warns(slq.SlqWarning, match="symmetric"):
            slq.spectrum(slq.gram(wrong), probes=2, steps=10, rng=0)


class TestDilation:
    @pytest.mark.parametrize("kind", list(KINDS))
    @pytest.mark.parametrize("field", ["float32", "float64", "complex128"])
    def test_both_sides_are_multiplied(self, kind, field):
        A = rectangular(9, 5, field=field)
        dense = np.block([[np.zeros((9, 9)), A], [A.conj().T, np.zeros((5, 5))]])
        operator = slq.dilation(KINDS[kind](A))
        assert (operator.n, np.dtype(operator.dtype)) == (14, np.dtype(field))
        assert_allclose(operator.matmat(np.eye(14, dtype=field)), dense, rtol=1e-6)

    def test_arrays_stay_in_their_library(self, backend):
        A, X = rectangular(8, 5), rectangular(13, 2)
        product = slq.dilation(backend.asarray(A)).matmat(backend.asarray(X))
        assert_allclose(backend.to_numpy(product), np.vstack([A @ X[8:], A.T @ X[:8]]), atol=100 * backend.eps)

    def test_singular_values_that_a_gram_matrix_loses_are_there(self):
        sizes = np.repeat([1.0, 1e-3, 1e-6, 1e-10], 40)
        U, V = (np.linalg.qr(rectangular(n, 160, seed=n))[0] for n in (300, 160))
        A = (U * sizes) @ V.T
        options = {"probes": 4, "steps": 40, "rng": 0, "confidence": 0.9999}
        s, squared = (slq.spectrum(operator, **options) for operator in (slq.dilation(A), slq.gram(A)))
        for size in sizes[::40]:
            assert np.min(np.abs(s.nodes[s.weights > 1e-3] / size - 1)) < 1e-5
            count = s.count(size / 10, size * 10)
            assert count.low <= 40 <= count.high
        assert np.min(np.abs(squared.nodes / 1e-20 - 1)) > 1

    def test_norms_are_twice_those_of_the_matrix(self):
        A = rectangular(300, 500) / np.sqrt(500)
        found = slq.spectrum(slq.dilation(A), probes=4, steps=60, rng=0).nuclear_norm()
        exact = 2 * np.linalg.svd(A, compute_uv=False).sum()
        assert found.low <= exact <= found.high

    def test_eigenvectors_hold_singular_vectors(self):
        A = rectangular(60, 40, field="complex128")
        pairs = slq.eigsh(slq.dilation(A), 3, which="LA", rng=0)
        left, right = np.sqrt(2) * pairs.vectors[:60], np.sqrt(2) * pairs.vectors[60:]
        assert_allclose(pairs.values, np.linalg.svd(A, compute_uv=False)[2::-1], rtol=1e-12)
        assert_allclose(A @ right, left * pairs.values, atol=1e-12)
        assert_allclose(left.conj().T @ left, np.eye(3), atol=1e-12)


class TestMessages:
    @pytest.mark.parametrize(
        ("A", "kind", "message"),
        [
            (np.ones(3), ValueError, r"got ndarray of shape \(3,\)"),
            (np.ones((0, 3)), ValueError, "not empty"),
            ([[1.0]], ValueError, "got list of shape"),
            (Plain(np.ones((2, 3))), TypeError, "has no product with its transpose"),
            (np.array([["a", "b"]]), TypeError, "products need a floating dtype"),
        ],
        ids=["vector", "empty", "list", "one-way", "text"],
    )
    def test_what_is_no_matrix_is_refused(self, A, kind, message):
        for operator in (slq.gram, slq.dilation):
            with pytest.raises(kind, match=message):
                operator(A)

    def test_a_vector_of_the_wrong_length_is_named(self):
        def short(v):
            return np.ones(2)

        vectors = type("Vectors", (), {"shape": (4, 3), "matvec": staticmethod(short), "rmatvec": staticmethod(short)})
        with pytest.raises(slq.RunError, match=r"must have shape \(4,\), got \(2,\)"):
            slq.gram(vectors()).matmat(np.ones((3, 1)))
