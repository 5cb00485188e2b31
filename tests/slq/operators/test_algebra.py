"""Sums and multiples of operators: the same as of their matrices, in every library; what cannot be added is told."""

import numpy as np
import pytest
import scipy.sparse as sp

import slq


def symmetric_pair(n=30):
    rng = np.random.default_rng(0)
    A, B = (M + M.T for M in rng.standard_normal((2, n, n)))
    return A, B


FORMS = {
    "sum": lambda A, B: A + B,
    "difference": lambda A, B: A - B,
    "shift": lambda A, B: A + 2.5,
    "shift from the left": lambda A, B: 2.5 - A,
    "multiple": lambda A, B: np.float64(3.0) * A,
    "quotient": lambda A, B: A / 4.0,
    "negative": lambda A, B: -A,
    "all": lambda A, B: 2.0 * (A - B / 3.0) + 1.0,
}


@pytest.mark.parametrize("form", FORMS)
def test_arithmetic_is_that_of_the_matrices(form):
    A, B = symmetric_pair()
    made = FORMS[form](slq.as_operator(A), slq.as_operator(B))
    identity = np.eye(len(A))
    shifts = {"shift": A + 2.5 * identity, "shift from the left": 2.5 * identity - A}
    expected = 2.0 * (A - B / 3.0) + identity if form == "all" else shifts.get(form, FORMS[form](A, B))
    np.testing.assert_allclose(slq.as_operator(made).matmat(identity), expected, atol=1e-12)
    exact = np.linalg.eigvalsh(expected)
    np.testing.assert_allclose(slq.eigsh(made, 3, which="LA", rng=0).values, exact[-3:], rtol=1e-10)


@pytest.mark.parametrize("wrap", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_a_matrix_on_either_side_is_taken_as_an_operator(wrap):
    A, B = symmetric_pair()
    for made, expected in (
        (slq.as_operator(A) - wrap(B), A - B),
        (wrap(B) - slq.as_operator(A), B - A),
        (wrap(B) + slq.as_operator(A), A + B),
    ):
        np.testing.assert_allclose(slq.as_operator(made).matmat(np.eye(30)), expected, atol=1e-12)


def test_every_array_library(backend):
    A, B = symmetric_pair()
    made = slq.as_operator(backend.asarray(A)) + 0.5 * slq.as_operator(backend.asarray(B)) - 1.0
    exact = np.sum(np.diag(A + 0.5 * B) - 1.0)
    assert slq.xtrace(made, products=60, rng=0).value == pytest.approx(exact, rel=1e-4)


def test_sums_of_composed_operators_have_their_eigenvalues():
    a, b = np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0])
    made = slq.kron(np.diag(a), np.diag(b)) + slq.kronsum(np.diag(a), np.diag(b))
    exact = np.sort((np.multiply.outer(a, b) + np.add.outer(a, b)).ravel())
    np.testing.assert_allclose(slq.eigsh(made, 6, rng=0).values, exact)


def test_known_eigenvectors_are_taken_out_of_a_matrix():
    A, law = slq.gallery.spiked(300)
    pairs = slq.eigsh(A, 4, which="LA", rng=0)
    V, values = pairs.vectors, pairs.values[:, None]
    known = slq.as_operator(lambda X: V @ (values * (V.T @ X)), n=300, like=V, block=True)
    rest = slq.spectrum(slq.as_operator(A) - known, probes=4, steps=40, rng=0)
    exact = np.sort(np.repeat(law.values, law.multiplicities))[:-4]
    assert exact[-1] <= rest.edges[1] < pairs.values.min()
    assert rest.frobenius_norm().low <= np.linalg.norm(exact) <= rest.frobenius_norm().high


def test_a_shifted_pencil_is_that_of_a_plus_shift_b():
    rng = np.random.default_rng(1)
    A, b = symmetric_pair()[0], rng.uniform(1.0, 2.0, 30)
    C = slq.pencil(A, np.diag(b), solve_B=lambda X: X / b[:, None])
    exact = np.linalg.eigvalsh(A / np.sqrt(np.multiply.outer(b, b)))
    s = slq.spectrum(C + 100.0, probes=2, steps=12, rng=0)
    assert s.edges[0] <= exact[0] + 100 <= exact[-1] + 100 <= s.edges[1]
    assert s.edges[0] > 50


def test_a_real_form_keeps_counting_eigenvalues_once():
    rng = np.random.default_rng(2)
    H = rng.standard_normal((20, 20)) + 1j * rng.standard_normal((20, 20))
    H = (H + H.conj().T) / 2
    for made in (slq.as_operator(H) + 1.0, slq.real_form(H) + 1.0):
        assert slq.spectrum(made, rng=0, tol=1e-6).trace().value == pytest.approx(np.trace(H).real + 20)
    with pytest.raises(ValueError, match="pass the real form of both"):
        slq.real_form(H) + np.eye(40)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda A: A + np.eye(4), ValueError, r"one shape to be added, got \(5, 5\) and \(4, 4\)"),
        (lambda A: A * np.eye(5), TypeError, "`factor` must be a real number, got ndarray"),
        (lambda A: A * A, TypeError, "`factor` must be a real number"),
        (lambda A: A / 0.0, ValueError, "`divisor` must not be 0"),
        (lambda A: A + np.nan, ValueError, "`shift` must be finite, got nan"),
        (lambda A: A + 1j, TypeError, "has no shape|complex|`A`"),
    ],
    ids=range(6),
)
def test_mistakes_are_explained(make, kind, message):
    with pytest.raises(kind, match=message):
        make(slq.as_operator(np.eye(5)))
