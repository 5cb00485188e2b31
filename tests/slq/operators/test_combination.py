"""Sums and multiples of operators: what they multiply by, what is known of their traces, and what is refused."""

import numpy as np
import pytest
import scipy.sparse as sp

import slq
from slq._operators._algebra import over, plus, times
from slq._shards import Shards

A = np.array([[2.0, 1.0, 0.0], [1.0, -3.0, 0.5], [0.0, 0.5, 1.0]])
B = np.diag([1.0, 4.0, 9.0])
X = np.random.default_rng(0).standard_normal((3, 2))


class Cut:
    """Some rows of the identity; others are elsewhere."""

    shape, dtype = (4, 4), np.dtype(np.float64)

    def __init__(self, *rows):
        self.rows, self.reduce = rows, lambda x: x

    def matmat(self, block):
        return block


def test_sums_and_multiples_multiply_as_those_of_matrices():
    made = plus(over(times(A, 3.0), 2.0), times(B, -1.0))
    np.testing.assert_allclose(made.matmat(X), (1.5 * A - B) @ X)
    np.testing.assert_allclose(plus(plus(A, 2.0), B, -2.0).matmat(X), (A + 2 * np.eye(3) - 2 * B) @ X)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_traces_follow_for_one_matrix_with_a_factor_and_a_shift(form):
    dense = -2.0 * A + 0.25 * np.eye(3)
    assert plus(times(form(A), -2.0), 0.25).traces == pytest.approx((np.trace(dense), np.trace(dense @ dense)))


def test_traces_of_sums_and_of_callables_are_not_known():
    assert plus(A, B).traces is None
    assert times(slq.as_operator(lambda v: A @ v, n=3), 2.0).traces is None


def test_traces_add_up_entries_that_are_given_twice():
    twice = sp.csr_array((np.array([1.0, 2.0, 5.0]), np.array([0, 0, 1]), np.array([0, 2, 3])), shape=(2, 2))
    assert slq.as_operator(twice).traces() == pytest.approx((8.0, 9.0 + 25.0))


def test_traces_whose_squares_leave_the_range_are_not_known():
    assert slq.as_operator(1e200 * A).traces() is None
    assert slq.as_operator(1e-200 * A).traces() is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: over(A, 0), ValueError, "`divisor` must not be 0"),
        (lambda: times(A, A), TypeError, "`factor` must be a real number, got ndarray"),
        (lambda: times(A, True), TypeError, "`factor` must be a real number, got bool"),
        (lambda: times(A, 1j), TypeError, "`factor` must be a real number, got complex"),
        (lambda: plus(A, np.inf), ValueError, "`shift` must be finite, got inf"),
        (lambda: over(A, np.nan), ValueError, "`divisor` must be finite, got nan"),
        (lambda: plus(A, np.eye(4)), ValueError, r"must have one shape to be added, got \(3, 3\) and \(4, 4\)"),
        (lambda: plus(Cut(range(2)), Cut(range(2, 4))), ValueError, "must have the same rows here to be added"),
    ],
)
def test_what_gives_no_symmetric_operator_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_operators_with_the_same_rows_here_are_added():
    both = plus(Cut(range(2)), Cut(range(2)))
    assert both.rows == (range(2),)
    np.testing.assert_array_equal(both.matmat(np.ones((2, 1))), [[2.0], [2.0]])
    assert Shards(4, both.rows).local == 2
