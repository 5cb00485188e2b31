"""f(A) as an operator: its products, traces, diagonals and eigenpairs against those of the dense function."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import slq


def dense(A, f):
    """Return f(A) by LAPACK."""
    values, vectors = np.linalg.eigh(A)
    return (vectors * f(values)) @ vectors.conj().T


@pytest.fixture
def matrix(with_eigenvalues):
    """Give a positive definite matrix whose exponential has few large eigenvalues."""
    return with_eigenvalues(np.append(np.linspace(0.1, 3.0, 190), np.linspace(4.0, 12.0, 10)))


@pytest.mark.parametrize(
    "f", [np.exp, np.log, np.sqrt, np.reciprocal, np.cos], ids=["exp", "log", "sqrt", "1/x", "cos"]
)
def test_products_are_those_of_the_dense_function(matrix, f):
    X = np.random.default_rng(0).standard_normal((200, 3))
    exact = dense(matrix, f) @ X

    product = slq.matrix_function(matrix, f).matmat(X)
    assert_allclose(product, exact, atol=1e-8 * np.linalg.norm(exact, axis=0).max())


@pytest.mark.parametrize("estimator", [slq.hutchinson, slq.hutchpp, slq.xtrace, slq.xnystrace])
@pytest.mark.parametrize("f", ["exp", "x**5", "inverse"])
def test_traces_are_those_of_the_dense_function(matrix, estimator, f):
    F = dense(matrix, {"exp": np.exp, "x**5": lambda x: x**5, "inverse": np.reciprocal}[f])
    found = estimator(slq.matrix_function(matrix, f), products=60, rng=0, confidence=0.999)
    same = estimator(F, products=60, rng=0, confidence=0.999)

    assert found.low <= np.trace(F) <= found.high
    assert found.value == pytest.approx(same.value, rel=1e-7)
    assert found.error.numeric >= same.error.numeric


def test_a_sketch_of_the_function_beats_quadrature_where_few_eigenvalues_rule(matrix):
    exact = np.trace(dense(matrix, np.exp))
    sketched = [slq.xtrace(slq.matrix_function(matrix, "exp"), products=40, rng=seed).value for seed in range(5)]
    sampled = [slq.hutchinson(dense(matrix, np.exp), products=40, rng=seed).value for seed in range(5)]

    assert np.abs(np.array(sketched) / exact - 1).max() < 1e-3
    assert np.abs(np.array(sampled) / exact - 1).mean() > 1e-2


def test_a_tolerance_is_reached_by_doubling(matrix):
    exact = np.trace(dense(matrix, np.exp))
    found = slq.xtrace(slq.matrix_function(matrix, "exp"), rtol=1e-3, rng=0)

    assert found.low <= exact <= found.high
    assert found.high - found.low <= 2e-3 * exact


def test_diagonals_and_eigenpairs_are_those_of_the_dense_function(matrix):
    F, operator = dense(matrix, np.exp), slq.matrix_function(matrix, "exp")
    band, same = (slq.xdiag(A, products=80, rng=0) for A in (operator, F))
    pairs = slq.eigsh(operator, 3, which="LA", rng=0)

    assert_allclose(band.value, same.value, rtol=1e-6)
    assert_allclose(band.value, np.diag(F), atol=1e-3 * np.diag(F).max())
    assert_allclose(pairs.values, np.linalg.eigvalsh(F)[-3:], rtol=1e-9)
    assert pairs.converged.all()


def test_products_with_the_matrix_are_counted(counted, matrix):
    operator = counted(matrix)
    function = slq.matrix_function(operator, "exp")
    slq.xtrace(function, products=20, rng=0)

    assert function.metadata["products of A"] == sum(operator.columns)
    assert function.metadata["kind"] == "exp of Counted"


def test_vectors_that_do_not_fit_are_made_twice_and_give_the_same(matrix):
    X = np.random.default_rng(0).standard_normal((200, 2))
    roomy, tight = (slq.matrix_function(matrix, "sqrt", memory=memory) for memory in (None, 200 * 8 * 40))

    assert_allclose(tight.matmat(X), roomy.matmat(X), rtol=1e-6)
    assert tight.metadata["products of A"] > 1.5 * roomy.metadata["products of A"]


def test_columns_of_zeros_stay(matrix):
    X = np.zeros((200, 3))
    assert_allclose(slq.matrix_function(matrix, "exp").matmat(X), 0.0)
    X[:, 1] = 1.0
    product = slq.matrix_function(matrix, "exp").matmat(X)
    assert_allclose(product[:, [0, 2]], 0.0)
    assert_allclose(product[:, 1], dense(matrix, np.exp) @ X[:, 1], rtol=1e-6)


def test_every_array_library_and_precision(backend):
    A, X = np.diag(np.repeat([0.0, 1.0, 2.0, 3.0], 5)) + 0.05, np.linspace(-1.0, 1.0, 40).reshape(20, 2)
    product = slq.matrix_function(backend.asarray(A), "exp").matmat(backend.asarray(X))
    assert product.dtype == backend.dtype
    assert_allclose(backend.to_numpy(product), dense(A, np.exp) @ X, atol=1e-8 if backend.is_double else 1e-3)


def test_a_complex_matrix_has_a_complex_function():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((40, 40)) + 1j * rng.standard_normal((40, 40))
    H = (Z + Z.conj().T) / 10
    product = slq.matrix_function(H, "exp").matmat(np.eye(40, dtype=complex))
    assert_allclose(product, dense(H, np.exp), atol=1e-8)


class TestMessages:
    @pytest.mark.parametrize("rtol", [0.0, 1.0, -1e-3, float("nan")])
    def test_a_tolerance_out_of_range(self, matrix, rtol):
        with pytest.raises(ValueError, match="`rtol` must lie strictly between 0 and 1"):
            slq.matrix_function(matrix, "exp", rtol)

    def test_what_is_no_function(self, matrix):
        with pytest.raises(TypeError, match="`f` must be a callable or a name such as 'log', got int"):
            slq.matrix_function(matrix, 3)

    def test_a_function_that_is_undefined_on_the_spectrum(self, matrix):
        operator = slq.matrix_function(matrix - 3 * np.eye(200), "log")
        with pytest.raises(ValueError, match="`log` is not defined at -"):
            slq.xtrace(operator, products=20, rng=0)
