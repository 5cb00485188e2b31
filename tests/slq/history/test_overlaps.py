"""Shares of gradients and overlaps of subspaces on inputs that hurt: right, or refused by name."""

import numpy as np
import pytest

import slq

N, RNG = 12, np.random.default_rng(0)
V, W = (np.linalg.qr(RNG.standard_normal((N, 3)))[0] for _ in range(2))
U = np.linalg.qr(RNG.standard_normal((N, 3)) + 1j * RNG.standard_normal((N, 3)))[0]
G = RNG.standard_normal(N)
SHARE = float(np.sum((V.T @ G) ** 2) / np.sum(G**2))


@pytest.mark.parametrize("scale", [1e300, 1e200, 1e-200, 1e-300])
def test_the_share_of_a_gradient_does_not_depend_on_its_unit(scale):
    assert slq.gradient_concentration(scale * G, V) == pytest.approx(SHARE, rel=1e-12)


@pytest.mark.parametrize(("scale", "dtype", "rel"), [(1e30, "f4", 1e-5), (1e-30, "f4", 1e-5), (1e3, "f2", 1e-2)])
def test_neither_in_short_precisions(scale, dtype, rel):
    short = (scale * G).astype(dtype), V.astype(dtype)
    assert slq.gradient_concentration(*short) == pytest.approx(SHARE, rel=rel)


def test_a_gradient_of_subnormal_numbers_has_a_share_to_their_precision():
    assert slq.gradient_concentration(1e-310 * G, V) == pytest.approx(SHARE, rel=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_has_no_share(value):
    assert np.isnan(slq.gradient_concentration(np.append(G[1:], value), V))


def test_integers_and_no_columns():
    assert slq.gradient_concentration(np.arange(N), np.eye(N, dtype=int)[:, -1:]) == pytest.approx(121 / 506)
    assert slq.gradient_concentration(G, V[:, :0]) == 0.0


@pytest.mark.parametrize("gradient", [G, 1j * G, G + 1j * G[::-1]], ids=["real", "imaginary", "complex"])
def test_complex_vectors_span_a_space_by_their_conjugates(gradient):
    expected = np.linalg.norm(U.conj().T @ gradient) ** 2 / np.linalg.norm(gradient) ** 2
    assert slq.gradient_concentration(gradient, U) == pytest.approx(expected, rel=1e-12)
    assert slq.gradient_concentration(U[:, 0], U) == pytest.approx(1.0)


def test_subspaces_of_complex_vectors_overlap_with_themselves():
    assert slq.subspace_overlap(U, U * np.exp(1j * np.arange(3))) == pytest.approx(1.0)
    assert slq.subspace_overlap(U, V) == pytest.approx(np.linalg.norm(U.conj().T @ V) ** 2 / 3)


def test_vectors_of_torch_and_float32_overlap_as_those_of_numpy(torch):
    found = slq.subspace_overlap(*(torch.tensor(x, dtype=torch.float32) for x in (V, W)))
    assert found == pytest.approx(slq.subspace_overlap(V, W), rel=1e-5)
    assert slq.gradient_concentration(torch.tensor(G), torch.tensor(V)) == pytest.approx(SHARE, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slq.gradient_concentration(G, np.nan * V), r"`vectors` must be orthonormal; .* by nan"),
        (lambda: slq.gradient_concentration(G, V * 1e200), "`vectors` must be orthonormal"),
        (lambda: slq.gradient_concentration(G, V * 1e-200), "`vectors` must be orthonormal"),
        (lambda: slq.gradient_concentration(G, np.ones((N, 2))), "`vectors` must be orthonormal"),
        (lambda: slq.gradient_concentration(G[:, None], V), r"`gradient` must have shape \(12,\)"),
        (lambda: slq.gradient_concentration(G, G), r"`vectors` must be a block \(n, k\) of columns"),
        (lambda: slq.subspace_overlap(V, np.inf * W), "`second` must be orthonormal"),
        (lambda: slq.subspace_overlap([[1.0]], V), r"`first` must be a block \(n, k\) of columns"),
        (lambda: slq.subspace_overlap(V[:, :0], W), "must have a column at least, got 0 and 3"),
        (lambda: slq.subspace_overlap(V, W[:-1]), "`second` must be orthonormal"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of numbers that are refused
def test_what_is_no_orthonormal_block_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_the_confidence_of_an_alignment_is_a_probability(confidence):
    with pytest.raises(ValueError, match=f"`confidence` must lie strictly between 0 and 1, got {confidence}"):
        slq.alignment(np.eye(3), np.eye(3), confidence=confidence)


def test_the_alignment_with_zero_is_not_a_number():
    found = slq.alignment(np.eye(3), np.zeros((3, 3)), rng=0)
    assert np.isnan(found.value)
