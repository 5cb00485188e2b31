"""Does slq work with your array library? Copy this file, change its first part, and run it with pytest.

It is run here for array_api_strict, which stands for any library that follows the array API standard.
"""

import numpy as np
import pytest

import slq

# -- change this part: your library -------------------------------------------------------------------------------

xp = pytest.importorskip("array_api_strict")

# Nodes and weights may differ from NumPy's by this: about 1e-10 in float64, 1e-4 in float32.
TOLERANCE = 1e-10


def operator_of(matrix):
    """Return what you would pass to slq for a symmetric NumPy matrix: an array, or an object with a product."""
    return xp.asarray(matrix)


def block_of(columns):
    """Copy a NumPy array (n, b) into the library whose arrays your operator multiplies."""
    return xp.asarray(columns)


def on_host(block):
    """Copy such an array back to NumPy."""
    return np.asarray(block)


# -- leave the rest as it is --------------------------------------------------------------------------------------

N = 60


@pytest.fixture
def matrix():
    """Give a symmetric matrix with outliers."""
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))
    return (q * np.append(np.linspace(-1.0, 1.0, N - 2), [5.0, 9.0])) @ q.T


@pytest.fixture
def operator(matrix):
    """Give the operator as slq sees it."""
    return slq.as_operator(operator_of(matrix))


def test_the_operator_knows_its_library_and_its_dtype(operator):
    block = block_of(np.ones((N, 1)))

    assert operator.shape == (N, N)
    assert operator.dtype == block.dtype
    assert type(operator.xp.zeros(1)) is type(block)


def test_a_product_is_right_stays_in_the_library_and_leaves_its_input_alone(operator, matrix):
    columns = np.random.default_rng(1).standard_normal((N, 3))
    X = block_of(columns)
    product = operator.matmat(X)

    assert type(product) is type(X)
    assert product.dtype == X.dtype
    np.testing.assert_allclose(on_host(product), matrix @ columns, rtol=0, atol=100 * TOLERANCE)
    np.testing.assert_allclose(on_host(X), columns, rtol=1e-6)


def test_the_diagnosis_finds_nothing_wrong(operator):
    assert slq.check(operator)


@pytest.mark.parametrize("reorth", ["full", "none"])
def test_nodes_and_weights_are_those_of_numpy(operator, matrix, reorth):
    settings = {"probes": 3, "steps": 12, "rng": 0, "reorth": reorth}
    found, expected = slq.spectrum(operator, **settings), slq.spectrum(matrix, **settings)

    np.testing.assert_allclose(found.nodes, expected.nodes, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=0, atol=TOLERANCE)


def test_a_probe_has_the_same_numbers_alone_and_in_a_batch(operator):
    settings = {"probes": 4, "steps": 12, "rng": 0, "deflate": "none"}
    one, four = (slq.spectrum(operator, batch=batch, **settings) for batch in (1, 4))

    np.testing.assert_allclose(one.nodes, four.nodes, rtol=0, atol=TOLERANCE)


def test_eigenvectors_are_projected_out_of_later_probes(operator):
    s = slq.spectrum(operator, probes=8, steps=20, batch=2, rng=0)

    np.testing.assert_allclose(sorted(s.deflated), [5.0, 9.0], atol=100 * TOLERANCE)


def test_a_tolerance_is_met(operator, matrix):
    s = slq.spectrum(operator, tol=0.05, rng=0)
    grid = np.linspace(-1.2, 10.0, 40)
    exact = np.searchsorted(np.linalg.eigvalsh(matrix), grid, side="right") / N
    band = s.cdf(grid)

    assert ((band.low <= exact + 1e-9) & (exact <= band.high + 1e-9)).all()


def test_a_product_that_is_not_finite_is_told(matrix):
    matrix[3, 5] = matrix[5, 3] = np.nan
    with pytest.raises(slq.RunError, match="NaN or Inf"):
        slq.spectrum(operator_of(matrix), probes=1, steps=4, rng=0)
