"""tr f(A) with a gradient: against dense autodiff, differences, and the optimum of a Gaussian process."""

import numpy as np
import pytest
import slq_torch
import torch
from scipy.optimize import minimize

N = 100
X = torch.linspace(0, 5, N, dtype=torch.float64)


def kernel(theta):
    length, noise = theta
    return torch.exp(-((X[:, None] - X) ** 2) / (2 * length**2)) + noise * torch.eye(N, dtype=torch.float64)


def parameters():
    return torch.tensor([0.7, 0.2], dtype=torch.float64, requires_grad=True)


def gradient(value, theta):
    return torch.autograd.grad(value, theta)[0].numpy()


def dense(f):
    theta = parameters()
    value = f(torch.linalg.eigvalsh(kernel(theta))).sum()
    return float(value.detach()), gradient(value, theta)


@pytest.mark.parametrize(
    ("name", "f"),
    [("log", torch.log), ("inverse", torch.reciprocal), ("exp", torch.exp), ("x**3", lambda x: x**3)],
    ids=["log", "inverse", "exp", "cube"],
)
def test_the_gradient_is_that_of_dense_autodiff_but_for_sampling(name, f):
    value, expected = dense(f)
    theta = parameters()

    found = slq_torch.trace(kernel(theta), name, probes=200, rng=0)

    assert found.estimate.low <= value <= found.estimate.high
    np.testing.assert_allclose(gradient(found.value, theta), expected, rtol=0.1)


def test_the_gradient_is_unbiased():
    _, expected = dense(torch.log)

    def one(seed):
        theta = parameters()
        return gradient(slq_torch.logdet(kernel(theta), probes=2, rng=seed).value, theta)

    found = np.array([one(seed) for seed in range(60)])

    assert (np.abs(found.mean(axis=0) - expected) < 3 * found.std(axis=0) / np.sqrt(60)).all()


def test_it_is_the_difference_of_the_value_where_the_matrix_commutes_with_its_change():
    A = kernel(parameters()).detach()

    def value(scale):
        return float(slq_torch.trace(scale * A, "log", probes=4, rng=0))

    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    found = gradient(slq_torch.trace(scale * A, "log", probes=4, rng=0).value, scale)

    assert float(found) == pytest.approx((value(1.5 + 1e-4) - value(1.5 - 1e-4)) / 2e-4, rel=1e-3)
    assert float(found) == pytest.approx(N / 1.5, rel=1e-3)


@pytest.mark.parametrize("options", [{"batch": 3}, {"reorth": "none"}], ids=["batches", "two passes"])
def test_a_function_gives_what_the_matrix_gives_however_it_is_run(options):
    theta = parameters()
    expected = gradient(slq_torch.logdet(kernel(theta), probes=8, rng=0, rtol=1e-6).value, theta)

    found = slq_torch.logdet(lambda B: kernel(theta) @ B, n=N, like=X, probes=8, rng=0, rtol=1e-6, **options)

    np.testing.assert_allclose(gradient(found.value, theta), expected, rtol=1e-4)


def test_a_matrix_has_a_symmetric_gradient():
    A = kernel(parameters()).detach().requires_grad_()

    found = gradient(slq_torch.logdet(A, probes=4, rng=0).value, A)

    np.testing.assert_allclose(found, found.T, atol=1e-12)


def test_the_value_takes_part_in_a_larger_graph():
    theta = parameters()
    (3 * slq_torch.logdet(kernel(theta), probes=4, rng=0).value + theta.sum()).backward()
    tripled = theta.grad.numpy()

    again = parameters()
    slq_torch.logdet(kernel(again), probes=4, rng=0).backward()

    np.testing.assert_allclose(tripled, 3 * again.grad.numpy() + 1, rtol=1e-12)


def test_a_function_of_ones_own_comes_with_its_derivative():
    theta = parameters()
    found = slq_torch.trace(kernel(theta), np.sin, derivative=np.cos, probes=400, rng=0)

    expected = dense(torch.sin)[1]
    assert np.linalg.norm(gradient(found.value, theta) - expected) < 0.02 * np.linalg.norm(expected)
    with pytest.raises(ValueError, match="`derivative` is missing"):
        slq_torch.trace(kernel(theta), np.sin)


def test_second_derivatives_are_refused():
    theta = parameters()
    (first,) = torch.autograd.grad(
        slq_torch.logdet(kernel(theta), probes=2, rng=0).value, theta, create_graph=True, retain_graph=True
    )

    with pytest.raises(NotImplementedError, match=r"no second derivative here"):
        first.sum().backward(retain_graph=True)
    with pytest.raises(NotImplementedError, match=r"no second derivative here"):
        torch.autograd.grad(first[0], theta)


@pytest.mark.parametrize(
    ("A", "options", "kind", "message"),
    [
        ("K", {}, TypeError, "must be a tensor, or a function that multiplies a block, got str"),
        (lambda B: B, {"n": 3}, ValueError, "`n` and `like` are needed"),
        (-torch.eye(30, dtype=torch.float64), {}, ValueError, "needs a positive definite A|is not defined at"),
    ],
    ids=["text", "like", "domain"],
)
def test_what_cannot_be_right_is_told_how(A, options, kind, message):
    with pytest.raises(kind, match=message):
        slq_torch.logdet(A, **options)


@pytest.mark.slow
def test_a_gaussian_process_finds_the_optimum_of_the_dense_computation():
    n = 200
    rng = np.random.default_rng(0)
    x = torch.from_numpy(np.sort(rng.uniform(0, 10, n)))
    y = torch.from_numpy(np.sin(x.numpy()) + 0.3 * rng.standard_normal(n))

    def gram(theta):
        length, size, noise = theta.exp()
        distance = (x[:, None] - x) ** 2
        return size**2 * torch.exp(-distance / (2 * length**2)) + noise**2 * torch.eye(n, dtype=x.dtype)

    def optimum(logdet):
        def evaluate(point):
            theta = torch.tensor(point, requires_grad=True)
            K = gram(theta)
            value = (y @ torch.linalg.solve(K, y) + logdet(K)) / 2
            value.backward()
            return value.item(), theta.grad.numpy()

        return minimize(evaluate, np.zeros(3), jac=True, method="L-BFGS-B", options={"maxiter": 40})

    exact = optimum(lambda K: torch.linalg.slogdet(K)[1])
    found = optimum(lambda K: slq_torch.logdet(K, probes=32, rng=0).value)

    # Hyperparameters to 10 %, and the likelihood lost to a twentieth of a unit.
    np.testing.assert_allclose(np.exp(found.x), np.exp(exact.x), rtol=0.1)
    assert abs(found.fun - exact.fun) < 0.05
