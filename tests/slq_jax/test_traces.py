"""tr f(A) with a gradient in JAX: against dense autodiff, torch's way, and the optimum of a Gaussian process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slq_jax
from scipy.optimize import minimize

N = 100
THETA = {"length": 0.7, "noise": 0.2}


def kernel(theta, n=N):
    x = jnp.linspace(0, 5, n)
    distance = (x[:, None] - x) ** 2
    return jnp.exp(-distance / (2 * theta["length"] ** 2)) + theta["noise"] * jnp.eye(n)


def multiply(theta, B):
    return kernel(theta) @ B


@pytest.mark.slow
def test_value_and_gradient_are_those_of_dense_autodiff_but_for_sampling(x64):
    value, slope = jax.value_and_grad(lambda t: jnp.linalg.slogdet(kernel(t))[1])(THETA)

    def both(theta):
        found = slq_jax.logdet(multiply, theta, n=N, probes=100, rng=0, batch=100)
        return found.value, (found.low, found.high)

    gradient, (low, high) = jax.grad(both, has_aux=True)(THETA)

    assert low <= value <= high
    for name in THETA:
        np.testing.assert_allclose(gradient[name], slope[name], rtol=0.1)


@pytest.mark.slow
def test_a_matrix_gives_what_its_function_gives_and_a_symmetric_gradient(x64):
    options = {"probes": 4, "rng": 0, "rtol": 1e-7}
    by_function = jax.grad(lambda t: slq_jax.trace(multiply, "sqrt", t, n=N, **options).value)(THETA)
    by_matrix = jax.grad(lambda t: slq_jax.trace(kernel(t), "sqrt", **options).value)(THETA)
    G = jax.grad(lambda K: slq_jax.trace(K, "sqrt", **options).value)(kernel(THETA))

    for name in THETA:
        np.testing.assert_allclose(by_matrix[name], by_function[name], rtol=1e-6)
    np.testing.assert_allclose(G, G.T, atol=1e-12)


@pytest.mark.slow
def test_torch_and_jax_give_the_same_numbers(x64):
    torch = pytest.importorskip("torch")
    slq_torch = pytest.importorskip("slq_torch")
    K = torch.from_numpy(np.array(kernel(THETA))).requires_grad_()

    theirs = slq_torch.logdet(K, probes=4, rng=0)
    theirs.backward()
    ours, G = jax.value_and_grad(lambda K: slq_jax.logdet(K, probes=4, rng=0).value)(kernel(THETA))

    assert float(ours) == pytest.approx(float(theirs), rel=1e-10)
    np.testing.assert_allclose(G, K.grad.numpy(), atol=1e-8 * float(K.grad.abs().max()))


@pytest.mark.slow
def test_float32_has_a_gradient_in_float32():
    value, slope = jax.value_and_grad(lambda s: slq_jax.trace(lambda s, B: s * B, "log", s, n=10, rng=0).value)(2.0)

    assert value.dtype == slope.dtype == jnp.float32
    assert float(slope) == pytest.approx(5.0, rel=1e-5)


@pytest.mark.parametrize("transform", [jax.jit, jax.hessian], ids=["jit", "second derivative"])
def test_other_transformations_are_refused(transform):
    with pytest.raises(TypeError, match=r"cannot be computed inside of jax\.jit.*second jax\.grad"):
        transform(lambda t: slq_jax.logdet(lambda t, B: t * B, t, n=10).value)(2.0)


@pytest.mark.parametrize(
    ("A", "params", "options", "kind", "message"),
    [
        ("K", 1.0, {}, TypeError, r"must be an array, or a function A\(params, X\)"),
        (multiply, THETA, {}, ValueError, "`n` and `params` are needed"),
        (multiply, 3, {"n": 4}, ValueError, "no floating leaf"),
    ],
    ids=["text", "n", "integers"],
)
def test_what_cannot_be_right_is_told_how(A, params, options, kind, message):
    with pytest.raises(kind, match=message):
        slq_jax.logdet(A, params, **options)


@pytest.mark.slow
def test_a_gaussian_process_finds_the_optimum_of_the_dense_computation(x64):
    n = 200
    rng = np.random.default_rng(0)
    x = jnp.asarray(np.sort(rng.uniform(0, 10, n)))
    y = jnp.sin(x) + jnp.asarray(0.3 * rng.standard_normal(n))

    @jax.jit
    def gram(theta):
        length, size, noise = jnp.exp(theta)
        return size**2 * jnp.exp(-((x[:, None] - x) ** 2) / (2 * length**2)) + noise**2 * jnp.eye(n)

    def optimum(logdet):
        def objective(theta):
            K = gram(theta)
            return (y @ jnp.linalg.solve(K, y) + logdet(K)) / 2

        def evaluate(point):
            value, slope = jax.value_and_grad(objective)(jnp.asarray(point))
            return float(value), np.asarray(slope)

        return minimize(evaluate, [0.0, 0.0, -1.0], jac=True, method="L-BFGS-B", options={"ftol": 1e-6})

    exact = optimum(lambda K: jnp.linalg.slogdet(K)[1])
    found = optimum(lambda K: slq_jax.logdet(K, probes=32, rng=0, batch=32).value)

    # Hyperparameters to 10 %, and the likelihood lost to a twentieth of a unit.
    np.testing.assert_allclose(np.exp(found.x), np.exp(exact.x), rtol=0.1)
    assert abs(found.fun - exact.fun) < 0.05
