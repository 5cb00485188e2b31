"""What hurts: matrices at the ends of what numbers can do, and operators that are not what they claim to be.

Each input is made anew for every function, since some count their calls. `truth` is the matrix as it is in float64,
or None where there is none; `words` is what the error or the warning about it must say, and a message about an input
without words is a false alarm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

import slq

# Messages about operators that are not what they claim to be.
ASYMMETRIC = "not symmetric"
DRIFTING = "drifts|do not repeat|not symmetric"
NOT_LINEAR = "not linear"
NOT_FINITE = "NaN or Inf|not finite"
WRITING = "writes into"
INPUTS: list["Input"] = []


@dataclass(frozen=True)
class Case:
    """One input, made: what is passed to slq, the true matrix, what a message must say, and the seed to use."""

    A: Any
    truth: Any
    n: int
    dtype: Any = np.float64
    words: str = ""
    seed: int = 0

    @property
    def matrix(self):
        """The true matrix, in float64."""
        assert self.truth is not None, "not a word about what the input is"
        return self.truth

    @property
    def values(self):
        """The true eigenvalues, ascending."""
        assert self.words != ASYMMETRIC, "not a word about what the input is"
        return eigenvalues(self.matrix)

    @property
    def size(self):
        """The largest magnitude in the matrix, as the unit of what is asked; 1 for zero."""
        return 1.0 if self.truth is None else float(np.abs(self.truth).max()) or 1.0


@dataclass(frozen=True)
class Input:
    """One row of the table: a phrase, a function that makes the case for a size, and what a message must say."""

    phrase: str
    build: Callable
    words: str = ""

    @property
    def name(self):
        """The name of the function, for ids of tests."""
        return self.build.__name__

    def make(self, n, seed=0):
        """Return a fresh case of dimension n, or of its own; the seed is that of what is asked of it."""
        A, truth = self.build(n)
        operator = slq.as_operator(A)
        return Case(A, truth, operator.n, operator.dtype, self.words, seed)


def eigenvalues(matrix):
    """Return the eigenvalues of a matrix of any unit; what is symmetric to rounding counts as symmetric."""
    size = float(np.abs(matrix).max()) or 1.0
    return np.linalg.eigvalsh(matrix / size) * size


def row(phrase, words=""):
    """Note the decorated function as a row of the table."""

    def note(function):
        INPUTS.append(Input(phrase, function, words))
        return function

    return note


def turned(values, dtype=np.float64):
    """Return a symmetric matrix with these eigenvalues in a random basis, and the same in float64."""
    values = np.asarray(values, dtype=np.float64)
    q, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((values.size, values.size)))
    size = float(np.abs(values).max()) or 1.0
    matrix = (q * (values / size)) @ q.T
    matrix = (((matrix + matrix.T) / 2) * size).astype(dtype)
    return matrix, matrix.astype(np.float64)


def bulk(n):
    """Return eigenvalues of a positive definite matrix without anything special."""
    return np.linspace(0.5, 2.0, n)


def stored(values, dtype=np.float64):
    """Return a dense matrix twice: as it is given, and as the truth."""
    return turned(values, dtype)


@row("identity")
def identity(n):
    return np.eye(n), np.eye(n)


@row("zero")
def zero(n):
    return np.zeros((n, n)), np.zeros((n, n))


@row("rank 1")
def rank_one(n):
    v = np.random.default_rng(1).standard_normal(n)
    return np.outer(v, v), np.outer(v, v)


@row("two eigenvalues")
def two_point(n):
    return stored(np.where(np.arange(n) < n // 3, -1.0, 2.0))


@row("equal blocks on the diagonal: every eigenvalue repeated")
def repeated_blocks(n):
    block = turned(bulk(n // 5))[0]
    A = np.kron(np.eye(5), block)
    return scipy.sparse.csr_array(A), A


@row("n = 1")
def one(n):
    return np.array([[3.0]]), np.array([[3.0]])


@row("n = 2")
def two(n):
    A = np.array([[2.0, 1.0], [1.0, 3.0]])
    return A, A


@row("n = 3: more probes than rows")
def more_probes_than_rows(n):
    return stored([1.0, 2.0, 4.0])


@row("n = 6: more steps than rows")
def more_steps_than_rows(n):
    return stored([0.5, 1.0, 2.0, 3.0, 5.0, 7.0])


@row("scaled by 1e200")
def huge(n):
    return stored(1e200 * bulk(n))


@row("scaled by 1e-200")
def tiny(n):
    return stored(1e-200 * bulk(n))


@row("float32, scaled by 1e30")
def huge_float32(n):
    return stored(1e30 * bulk(n), np.float32)


@row("float32, scaled by 1e-30")
def tiny_float32(n):
    return stored(1e-30 * bulk(n), np.float32)


@row("denormal entries (1e-310)", words="subnormal")
def denormal(n):
    return stored(1e-310 * bulk(n))


@row("float32, denormal entries (1e-41)", words="subnormal")
def denormal_float32(n):
    return stored(1e-41 * bulk(n), np.float32)


@row("float32, eigenvalues over a range of 1e7")
def wide_float32(n):
    return stored(np.geomspace(1e-7, 1.0, n), np.float32)


@row("one huge outlier (1e8 above a bulk of 1)")
def outlier(n):
    return stored(np.append(bulk(n - 1), 1e8))


@row("clusters of width 1e-8")
def clusters(n):
    rng = np.random.default_rng(3)
    return stored(np.array([1.0, 2.0, 3.0, 4.0])[np.arange(n) % 4] + 1e-8 * rng.standard_normal(n))


@row("all eigenvalues negative")
def negative(n):
    return stored(-bulk(n))


@row("indefinite, trace zero")
def traceless(n):
    values = np.linspace(-1.0, 1.0, n)
    return stored(values - values.mean())


@row("log-determinant below zero")
def small_determinant(n):
    return stored(np.linspace(0.01, 0.3, n))


@row("integers")
def integers(n):
    A = np.diag(np.arange(1, n + 1)) + np.ones((n, n), dtype=np.int64)
    return A, A.astype(np.float64)


@row("booleans")
def booleans(n):
    A = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) == 1
    return A, A.astype(np.float64)


@row("not symmetric by 1e-3", words=ASYMMETRIC)
def slightly_asymmetric(n):
    A = turned(bulk(n))[0]
    skew = np.triu(np.random.default_rng(4).standard_normal((n, n)), 1)
    A = A + 1e-3 * np.linalg.norm(A) / np.linalg.norm(skew - skew.T) * (skew - skew.T)
    return A, A


@row("not symmetric by 1", words=ASYMMETRIC)
def asymmetric(n):
    A = np.random.default_rng(4).standard_normal((n, n))
    return A, A


@row("another matrix at every product", words=DRIFTING)
def drifting(n):
    A, rng = turned(bulk(n))[0], np.random.default_rng(6)

    def product(v):
        return A @ v * (1 + 1e-3 * rng.standard_normal())

    return slq.as_operator(product, n=n), None


@row("noise in every product", words=DRIFTING)
def noisy(n):
    A, rng = turned(bulk(n))[0], np.random.default_rng(6)

    def product(v):
        return A @ v + 1e-3 * np.linalg.norm(v) / np.sqrt(n) * rng.standard_normal(n)

    return slq.as_operator(product, n=n), None


@row("not linear: a constant added", words=NOT_LINEAR)
def affine(n):
    A = turned(bulk(n))[0]
    return slq.as_operator(lambda v: A @ v + 0.1, n=n), None


@row("not linear: a cube added", words=NOT_LINEAR)
def cubic(n):
    A = turned(bulk(n))[0]
    return slq.as_operator(lambda v: A @ v + 0.1 * n * v**3, n=n), None


@row("not linear: the result clipped", words=NOT_LINEAR)
def clipped(n):
    A = turned(bulk(n))[0]
    return slq.as_operator(lambda v: np.clip(A @ v, -1 / np.sqrt(n), 1 / np.sqrt(n)), n=n), None


@row("writes into its argument", words=WRITING)
def writing(n):
    A = turned(bulk(n))[0]

    def product(X):
        X[...] = A @ X
        return X.copy()

    return slq.as_operator(product, n=n, block=True), A


@row("computes in its argument and returns it", words=WRITING)
def in_place(n):
    values = bulk(n)

    def product(X):
        X *= values[:, None]
        return X

    return slq.as_operator(product, n=n, block=True), np.diag(values)


@row("returns its argument itself")
def returning_argument(n):
    return slq.as_operator(lambda X: X, n=n, block=True), np.eye(n)


@row("returns a view of its argument")
def returning_view(n):
    flip = np.fliplr(np.eye(n))
    return slq.as_operator(lambda X: X[::-1], n=n, block=True), flip


@row("returns one array of its own every time")
def reusing(n):
    A, kept = turned(bulk(n))[0], {}

    def product(X):
        out = kept.setdefault(X.shape[1], np.empty(X.shape))
        return np.matmul(A, X, out=out)

    return slq.as_operator(product, n=n, block=True), A


@row("NaN at the first product", words=NOT_FINITE)
def nan_first(n):
    return failing(n, 1), None


@row("NaN at the 5th product", words=NOT_FINITE)
def nan_fifth(n):
    return failing(n, 5), turned(bulk(n))[0]  # whoever asks for fewer products is right


@row("NaN in the matrix", words=NOT_FINITE)
def nan_stored(n):
    A = turned(bulk(n))[0]
    A[2, 3] = A[3, 2] = np.nan
    return A, None


@row("Inf in the matrix", words=NOT_FINITE)
def inf_stored(n):
    A = turned(bulk(n))[0]
    A[2, 3] = A[3, 2] = np.inf
    return A, None


@row("products that underflow to subnormal numbers", words="subnormal")
def subnormal_output(n):
    A = turned(bulk(n))[0]
    return slq.as_operator(lambda v: 1e-310 * (A @ v), n=n), 1e-310 * A


def failing(n, k):
    """Return an operator whose k-th column comes out as NaN."""
    A, calls = turned(bulk(n))[0], []

    def product(v):
        calls.append(1)
        return A @ v if len(calls) != k else np.full(n, np.nan)

    return slq.as_operator(product, n=n)
