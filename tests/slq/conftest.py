"""What the tests of the core share: each array library in turn, and matrices."""

import numpy as np
import pytest

from tests.backends import NAMES, make_backend, switched


@pytest.fixture
def torch():
    """Give torch on one thread: on busy cores its threads wait for each other longer than they compute."""
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


@pytest.fixture(params=NAMES)
def backend(request):
    """Give each array library in turn."""
    if request.param.startswith("torch"):
        request.getfixturevalue("torch")
    with switched(request.param):
        yield make_backend(request.param)


@pytest.fixture
def symmetric():
    """Give a function that draws a dense symmetric matrix of norm about 2."""

    def draw(n, seed=0):
        square = np.random.default_rng(seed).standard_normal((n, n))
        return (square + square.T) / np.sqrt(2 * n)

    return draw


@pytest.fixture
def with_eigenvalues():
    """Give a function that hides eigenvalues in a dense symmetric matrix."""

    def build(values, seed=0):
        n = len(values)
        q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
        return (q * np.asarray(values, dtype=np.float64)) @ q.T

    return build


class Counted:
    """Multiply by a matrix and count: `calls`, and the `columns` of each call."""

    def __init__(self, matrix):
        self.matrix, self.columns = matrix, []
        self.shape, self.dtype = matrix.shape, matrix.dtype

    @property
    def calls(self):
        """Number of products of a block."""
        return len(self.columns)

    def matmat(self, X, /):
        """Return the product and count it."""
        self.columns.append(X.shape[1])
        return self.matrix @ X


@pytest.fixture
def counted():
    """Give the class that counts the products of a matrix."""
    return Counted
