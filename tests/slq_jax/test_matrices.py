"""JAX arrays, dense and sparse, are operators with the products of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
import slq_jax
from jax.experimental.sparse import BCOO, BCSR

import slq


def arrow(n=30):
    """A sparse matrix with one full row and column besides its diagonal and a neighbour."""
    A = np.diag(np.arange(n, dtype=float)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)
    A[0], A[:, 0] = 0.5, 0.5
    return A


def laplacian(n=20):
    return sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).toarray()


@pytest.mark.parametrize("layout", [jnp.asarray, BCOO.fromdense, BCSR.fromdense], ids=["dense", "BCOO", "BCSR"])
@pytest.mark.parametrize(
    "A", [arrow(), laplacian(), np.zeros((3, 3)), np.ones((1, 1))], ids=["arrow", "laplacian", "0", "1"]
)
def test_products_are_those_of_numpy(layout, A, x64, kit):
    operator = slq.as_operator(layout(A))

    X = np.random.default_rng(0).standard_normal((len(A), 3))
    kit.assert_close(operator.matmat(jnp.asarray(X)), A @ X, rtol=1e-15)
    assert isinstance(operator.source, slq_jax.MatrixOperator)


def test_repeated_entries_are_summed(x64):
    entries = BCOO((jnp.array([1.0, 2.0, 5.0]), jnp.array([[0, 0], [0, 0], [1, 1]])), shape=(2, 2))

    np.testing.assert_array_equal(slq_jax.matrix(entries) @ jnp.ones(2), [3.0, 5.0])


@pytest.mark.parametrize("reorth", ["full", "none"])
@pytest.mark.parametrize("layout", [jnp.asarray, BCOO.fromdense], ids=["dense", "BCOO"])
def test_nodes_and_weights_are_those_of_numpy(layout, reorth, x64):
    A = arrow(60)
    options = {"probes": 3, "steps": 20, "rng": 0, "reorth": reorth}

    found, expected = slq.spectrum(layout(A), **options), slq.spectrum(A, **options)

    np.testing.assert_allclose(found.nodes, expected.nodes, atol=1e-10 * 60)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-10)


def test_float32_agrees_to_its_rounding(kit):
    A = laplacian(60).astype(np.float32)
    options = {"probes": 2, "steps": 16, "rng": 0}

    found = slq.spectrum(jnp.asarray(A), **options)

    expected = slq.spectrum(laplacian(60), **options)
    np.testing.assert_allclose(found.nodes, expected.nodes, atol=1e-4)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-4)


def test_half_precision_entries_are_multiplied_exactly(kit):
    A = jnp.asarray(laplacian(), dtype=jnp.bfloat16)
    operator = slq_jax.matrix(A)

    x = np.random.default_rng(0).standard_normal(20).astype(np.float32)
    assert operator.dtype == np.float32
    kit.assert_close(operator @ jnp.asarray(x), laplacian() @ x, rtol=1e-6)


def test_integers_become_floating(x64):
    assert slq_jax.matrix(jnp.eye(3, dtype=jnp.int32)).dtype == np.float64


def test_integers_become_float32_without_x64():
    assert slq_jax.matrix(jnp.eye(3, dtype=jnp.int32)).dtype == np.float32


@pytest.mark.parametrize(
    ("array", "kind", "message"),
    [
        (np.eye(2), TypeError, "must be a JAX array, BCOO or BCSR, got ndarray"),
        (jnp.ones((2, 3)), ValueError, r"square and two-dimensional.* got shape \(2, 3\)"),
        (jnp.ones(2), ValueError, r"got shape \(2,\)"),
        (jnp.ones((0, 0)), ValueError, "n > 0"),
        (jnp.eye(2) * 1j, ValueError, "must be real, got complex64"),
        (BCOO.fromdense(jnp.ones((2, 2)), n_dense=1), ValueError, "scalar entries"),
    ],
    ids=["numpy", "rectangular", "vector", "empty", "complex", "blocks"],
)
def test_what_is_no_symmetric_matrix_is_refused(array, kind, message):
    with pytest.raises(kind, match=message):
        slq_jax.matrix(array)


def test_a_tracer_is_no_matrix():
    with pytest.raises(TypeError, match=r"outside of jax\.jit"):
        jax.jit(lambda A: slq_jax.matrix(A).matmat(A))(jnp.eye(2))
