"""Sums, multiples and shifts of operators."""

import json

import numpy as np
import pytest
import slq_torch
import torch

import slq
from slq._operators._algebra import Combination, plus, times


@pytest.fixture
def H(net, kit):
    """Give a Hessian."""
    return slq_torch.hessian(net, kit.mean_loss, kit.samples(7))


@pytest.fixture
def G(net, kit):
    """Give a Gauss-Newton matrix of the same network."""
    return slq_torch.ggn(net, kit.mean_loss, kit.samples(7))


def test_combinations_are_those_of_the_matrices(H, G, kit):
    h, g, eye = kit.matrix(H), kit.matrix(G), torch.eye(H.shape[0], dtype=H.dtype)
    dense = slq_torch.matrix(torch.diag(torch.arange(H.shape[0], dtype=H.dtype)))
    cases = [
        (H + G, h + g),
        (H - G, h - g),
        (-H, -h),
        (2 * H, 2 * h),
        (H * 2, 2 * h),
        (H / 4, h / 4),
        (H + 0.1, h + 0.1 * eye),
        (0.1 + H, h + 0.1 * eye),
        (H - 0.1, h - 0.1 * eye),
        (0.1 - H, 0.1 * eye - h),
        (3 * (H - 2 * G + 1) - 1, 3 * h - 6 * g + 2 * eye),
        (-(H + 1) / 2 + (G - 1), g - h / 2 - 1.5 * eye),
        (dense + G, kit.matrix(dense) + g) if hasattr(dense, "__add__") else (G + dense, kit.matrix(dense) + g),
    ]
    for operator, expected in cases:
        kit.assert_close(kit.matrix(operator), expected)
        kit.assert_close(operator @ expected[:, 0], expected @ expected[:, 0])


def test_combinations_are_operators_for_slq(H, G, kit):
    R = H - G + 0.25
    spectrum = slq.spectrum(R, probes=2, steps=10, rng=0)
    facts = json.loads(json.dumps(R.metadata))

    assert (R.shape, R.dtype, R.device, R.xp, R.order) == (H.shape, H.dtype, H.device, H.xp, "F")
    assert spectrum.n == H.shape[0]
    assert spectrum.trace(lambda x: x).value == pytest.approx(float(kit.matrix(R).trace()), rel=1)
    assert facts["kind"] == "hessian - ggn + 0.25"
    assert [term["coefficient"] for term in facts["terms"]] == [1.0, -1.0]
    assert facts["terms"][1]["parameters"] == H.shape[0]
    assert facts["shift"] == 0.25


def test_the_result_is_new_and_the_block_untouched(H):
    X = torch.ones(H.shape[0], 2, dtype=H.dtype)
    Y = (0 * H + 1).matmat(X)

    assert torch.equal(Y, X)
    assert Y.data_ptr() != X.data_ptr()


def test_noise_is_the_largest_of_a_term(net, kit):
    x, y = kit.samples(7)
    half = net.bfloat16()
    rough = slq_torch.hessian(half, kit.mean_loss, (x.bfloat16(), y))
    smooth = slq_torch.matrix(torch.eye(rough.shape[0]))

    assert (rough + smooth).noise == rough.noise > 0
    assert (0 * rough + smooth).noise == 0


def test_cancellation_makes_noise_larger(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    rough = slq_torch.hessian(net, kit.mean_loss, kit.samples(7), strategy="finite-difference")
    almost, rest, plain = 1.001 * H - H, rough - 0.999 * H, H + H
    X = kit.block(H.shape[0])
    for A in (almost, rest, plain):
        A.matmat(X)

    assert almost.noise == pytest.approx(2001 * torch.finfo(torch.float64).eps, rel=0.02)
    assert rest.noise == pytest.approx(1999 * rough.noise, rel=0.02)
    error = float((rest @ X - 0.001 * (H @ X)).norm() / (0.001 * (H @ X)).norm())
    assert 0.01 * rest.noise < error < 3 * rest.noise
    assert plain.noise == 0


def test_numpy_matrices_combine_too():
    A, B = np.diag([1.0, 2.0]), np.ones((2, 2))
    combination = plus(times(A, 2.0), B, -1.0)

    assert isinstance(combination, Combination)
    assert np.array_equal(combination.matmat(np.eye(2)), 2 * A - B)
    assert np.array_equal((1 - combination).matmat(np.eye(2)), np.eye(2) - 2 * A + B)
    assert str(times(combination, -1.0) + 2) == "-2 dense matrix + dense matrix + 2"


def test_what_cannot_be_combined_is_refused(H):
    other = slq_torch.matrix(torch.eye(3, dtype=torch.float64))
    single = slq_torch.matrix(torch.eye(H.shape[0]))

    with pytest.raises(ValueError, match="one shape to be added"):
        H + other
    with pytest.raises(TypeError, match="share one dtype"):
        H + single
    with pytest.raises(TypeError, match="`factor` must be a real number, got CurvatureOperator"):
        H * H
    with pytest.raises(TypeError, match="must be a real number, got complex"):
        H * 2j
    with pytest.raises(ValueError, match="must be finite"):
        H + float("nan")
    with pytest.raises(ValueError, match="`divisor` must not be 0"):
        H / 0
