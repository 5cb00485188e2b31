"""Gauss-Newton matrices: definite, the Hessian where the model is linear, J^T H_z J where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slq_jax


def test_it_is_the_jacobian_around_the_hessian_of_the_loss(x64, kit):
    params, batch = kit.params(), kit.samples(6)
    G = kit.matrix(slq_jax.ggn(kit.model, kit.outer, params, kit.cut(batch, 4, 2)))

    flat, unravel = jax.flatten_util.ravel_pytree(params)
    z = kit.model(params, batch)
    J = jax.jit(jax.jacobian(lambda x: kit.model(unravel(x), batch)))(flat).reshape(z.size, -1)
    bend = jax.jit(jax.hessian(lambda x: kit.outer(x, batch)))(z).reshape(z.size, z.size)

    kit.assert_close(G, J.T @ bend @ J)
    assert np.linalg.eigvalsh(G).min() > -1e-14
    kit.assert_close(G, G.T, rtol=4 * np.finfo(float).eps)


def test_it_is_the_hessian_of_a_linear_model_with_squared_loss(x64, kit):
    def model(params, batch):
        return {"z": batch[0] @ params}

    def outer(outputs, batch):
        return jnp.sum((outputs["z"] - batch[1]) ** 2), len(batch[1])

    W, batch = jnp.ones((4, 1)), (kit.samples(5)[0], jnp.ones((5, 1)))
    G = slq_jax.ggn(model, outer, W, kit.cut(batch, 3, 2))
    H = slq_jax.hessian(lambda p, b: outer(model(p, b), b), W, batch)

    kit.assert_close(kit.matrix(G), kit.matrix(H), rtol=1e-14)
    assert G.metadata["kind"] == "ggn"


def test_a_model_without_forward_mode_is_told_what_to_do(kit):
    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
    G = slq_jax.ggn(lambda p, b: double(p * b), lambda z, _: jnp.sum(z**2), jnp.ones(3), jnp.ones((1, 3)))

    with pytest.raises(NotImplementedError, match=r"jax.custom_vjp.*custom_jvp.*batch 0"):
        G.matmat(jnp.ones((3, 1)))


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match=r"`model` must be a function model\(params, batch\), got dict"):
        slq_jax.ggn({}, len, jnp.ones(2), jnp.ones(2))
    with pytest.raises(TypeError, match=r"`loss` must be a function loss\(outputs, batch\), got str"):
        slq_jax.ggn(len, "mse", jnp.ones(2), jnp.ones(2))
