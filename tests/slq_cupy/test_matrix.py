"""CuPy's matrices as operators: what is taken, what it becomes, what is refused."""

import re

import numpy as np
import pytest

import slq

N = 40


@pytest.fixture
def dense():
    A = np.random.default_rng(1).standard_normal((N, N))
    return A + A.T


@pytest.fixture
def block():
    return np.random.default_rng(2).standard_normal((N, 3))


def product_of(A, X, cupy):
    operator = slq.as_operator(A)
    out = operator.matmat(cupy.asarray(np.asfortranarray(X)))
    assert out.flags.f_contiguous  # rows of the recurrence, without a copy
    return out.get()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_dense_matrix_multiplies_where_it_lives(on_host, dense, block, order):
    A = on_host.cupy.asarray(np.array(dense, order=order))

    np.testing.assert_allclose(product_of(A, block, on_host.cupy), dense @ block, atol=1e-12)
    assert slq.as_operator(A).metadata["layout"] == "dense"


@pytest.mark.parametrize("format", ["csr", "csc", "coo"])
def test_a_sparse_matrix_multiplies_all_columns_at_once(on_host, laplacian, format):
    X = np.random.default_rng(3).standard_normal((500, 4))
    A = on_host.csr(laplacian.asformat(format))
    operator = slq.as_operator(A)

    np.testing.assert_allclose(product_of(A, X, on_host.cupy), laplacian @ X, atol=1e-12)
    assert operator.metadata["layout"] == f"sparse {format}"
    assert operator.metadata["nonzeros"] == laplacian.nnz


def test_repeated_entries_are_added_up_in_a_copy(on_host):
    import scipy.sparse as sp

    twice = sp.csr_matrix((np.ones(4), np.array([0, 0, 1, 1]), np.array([0, 2, 4])), shape=(2, 2))
    A = on_host.csr(twice)
    found = product_of(A, np.eye(2), on_host.cupy)

    np.testing.assert_array_equal(found, 2 * np.eye(2))
    assert A.nnz == 4


def test_a_linear_operator_is_given_blocks(on_host, dense, block):
    seen = []
    A = on_host.cupy.asarray(dense)

    def matmat(X):
        seen.append(X.shape)
        return (X.T @ A.T).T

    L = on_host.LinearOperator((N, N), matmat, "float64")
    np.testing.assert_allclose(product_of(L, block, on_host.cupy), dense @ block, atol=1e-12)
    assert seen == [(N, 3)]


def test_a_class_of_ones_own_is_known_by_what_it_inherits_from(on_host, dense, block):
    class Mine(on_host.LinearOperator):
        __module__ = "somewhere.else"

    A = on_host.cupy.asarray(dense)
    found = product_of(Mine((N, N), lambda X: (X.T @ A.T).T, "float64"), block, on_host.cupy)
    np.testing.assert_allclose(found, dense @ block, atol=1e-12)


@pytest.mark.parametrize(("given", "becomes"), [("int64", "float64"), ("bool", "float64"), ("float16", "float32")])
def test_other_numbers_are_converted(on_host, given, becomes):
    operator = on_host.slq_cupy.matrix(on_host.cupy.asarray(np.eye(3, dtype=given)))

    assert operator.dtype == becomes
    assert repr(operator) == f"MatrixOperator(n=3, dense, {becomes}, devices 0)"


def test_an_operator_stays_itself_and_other_things_are_nothing_to_us(on_host, dense):
    operator = on_host.slq_cupy.matrix(on_host.cupy.asarray(dense))

    assert on_host.slq_cupy.as_operator(operator) is operator
    assert on_host.slq_cupy.as_operator("a text") is None
    assert slq.as_operator(operator).krylov == operator.krylov


def test_what_is_no_real_square_matrix_is_refused(on_host):
    matrix, cupy = on_host.slq_cupy.matrix, on_host.cupy
    with pytest.raises(TypeError, match="complex128; slq handles real symmetric"):
        matrix(cupy.asarray(np.eye(3) * 1j))
    with pytest.raises(ValueError, match=re.escape("(n, n), got shape (2, 3)")):
        matrix(cupy.asarray(np.ones((2, 3))))
    with pytest.raises(TypeError, match="cupyx LinearOperator, got ndarray"):
        matrix(np.eye(3))


def test_a_matrix_on_another_device_than_the_current_one_is_refused_with_both(on_host):
    A = on_host.cupy.asarray(np.eye(3))
    with on_host.cupy.cuda.Device(1), pytest.raises(ValueError, match="on CUDA device 0, and the current device is 1"):
        slq.as_operator(A)


def test_a_block_on_another_device_is_refused_with_both(on_host):
    operator = on_host.slq_cupy.matrix(on_host.cupy.asarray(np.eye(3)))
    with on_host.cupy.cuda.Device(1):
        X = on_host.cupy.asarray(np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"on CUDA device 1, the matrix on 0.*devices=\[0, 1\]"):
        operator.matmat(X)


@pytest.mark.parametrize("devices", [[1, 0], [0, 0], []])
def test_devices_that_make_no_sense_are_refused(on_host, devices):
    A = on_host.cupy.asarray(np.eye(3))
    with pytest.raises(ValueError, match="each device once and begin with that of `A`, 0; got"):
        on_host.slq_cupy.matrix(A, devices=devices)


def test_a_linear_operator_stays_on_one_device(on_host):
    L = on_host.LinearOperator((3, 3), lambda X: X, "float64")
    with pytest.raises(TypeError, match=re.escape("lives on one device, got devices=[0, 1]")):
        on_host.slq_cupy.matrix(L, devices=[0, 1])
