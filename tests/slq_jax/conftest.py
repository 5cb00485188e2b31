"""Small networks as pytrees, and the dense Hessian that products are held against."""

import os
from importlib.util import find_spec
from itertools import pairwise

import pytest

# Compiling takes most of the time of small tests. Set before JAX loads.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

if find_spec("jax") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import jax
    import jax.flatten_util
    import jax.numpy as jnp
    import numpy as np

    def double():
        """Return a context in which JAX has float64; the setting outside of it is left alone."""
        return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()

    def draw(seed, *shape):
        return jnp.asarray(0.5 * np.random.default_rng(seed).standard_normal(shape))

    def mlp(params, batch):
        hidden = jnp.tanh(batch[0] @ params["layers"][0]["weight"] + params["layers"][0]["bias"])
        return hidden @ params["layers"][1]["weight"] + params["layers"][1]["bias"]

    def mlp_params():
        first = {"weight": draw(0, 4, 5), "bias": draw(1, 5)}
        return {"layers": [first, {"weight": draw(2, 5, 2), "bias": draw(3, 2)}]}

    def convolution(params, batch):
        images = batch[0].reshape(-1, 1, 2, 2)
        maps = jax.lax.conv_general_dilated(images, params["kernel"], (1, 1), "SAME")
        return jax.nn.gelu(maps).reshape(len(images), -1) @ params["head"]

    def attention(params, batch):
        x = batch[0][..., None] @ params["embed"]  # (samples, 4 tokens, width 3)
        query, key, value = (x @ params[name] for name in ("query", "key", "value"))
        weights = jax.nn.softmax(query @ key.swapaxes(1, 2) / 3**0.5, axis=-1)
        return (weights @ value).mean(axis=1) @ params["head"]

    def tied(params, batch):
        return jnp.tanh(batch[0] @ params["square"]) @ params["square"] @ params["head"]

    def unused(params, batch):
        return batch[0] @ params["used"]

    def square(names, side):
        return {name: draw(i, side, side) for i, name in enumerate(names)}

    NETWORKS = {
        "perceptron": (mlp, mlp_params),
        "convolution": (convolution, lambda: {"kernel": draw(0, 2, 1, 2, 2), "head": draw(1, 8, 2)}),
        "attention": (
            attention,
            lambda: square(("query", "key", "value"), 3) | {"embed": draw(7, 1, 3), "head": draw(8, 3, 2)},
        ),
        "tied weights": (tied, lambda: square(("square",), 4) | {"head": draw(9, 4, 2)}),
        "an unused parameter": (unused, lambda: {"used": draw(0, 4, 2), "idle": draw(1, 3)}),
    }

    def cross_entropy(outputs, batch):
        """Average over the samples."""
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), batch[1][:, None], axis=1))

    class Kit:
        """The helpers above under one name, since test modules cannot import each other."""

        networks = NETWORKS
        model = staticmethod(mlp)
        params = staticmethod(mlp_params)
        outer = staticmethod(cross_entropy)
        double = staticmethod(double)

        @staticmethod
        def loss(params, batch):
            """Mean cross entropy of the perceptron."""
            return cross_entropy(mlp(params, batch), batch)

        @staticmethod
        def summed(params, batch):
            """The same as (sum, count)."""
            count = len(batch[1])
            return cross_entropy(mlp(params, batch), batch) * count, count

        @staticmethod
        def samples(count, seed=1):
            """Draw (x, y): `count` samples of width 4 in two classes."""
            rng = np.random.default_rng(seed)
            return jnp.asarray(rng.standard_normal((count, 4))), jnp.asarray(rng.integers(0, 2, count))

        @staticmethod
        def cut(batch, *sizes):
            """Cut a batch into pieces of so many samples."""
            ends = np.cumsum((0, *sizes))
            return [tuple(x[i:j] for x in batch) for i, j in pairwise(ends)]

        @staticmethod
        def matrix(operator):
            """Multiply an operator by the identity."""
            return np.asarray(operator.matmat(jnp.eye(operator.shape[0], dtype=operator.dtype)))

        @staticmethod
        def dense(loss, params):
            """Build the Hessian of a function of a tree by JAX's own, (n, n)."""
            flat, unravel = jax.flatten_util.ravel_pytree(params)
            return np.asarray(jax.jit(jax.hessian(lambda x: loss(unravel(x))))(flat))

        @staticmethod
        def assert_close(actual, expected, rtol=1e-10):
            """Assert that two arrays agree, relative to the largest entry."""
            scale = float(np.abs(expected).max()) or 1.0
            np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=0, atol=rtol * scale)

    @pytest.fixture
    def kit():
        """Give the helpers."""
        return Kit

    @pytest.fixture
    def x64():
        """Give JAX float64 for the length of a test."""
        with double():
            yield

    @pytest.fixture(params=list(NETWORKS))
    def network(request, x64):
        """Give each of the networks in turn: model and parameters."""
        model, build = NETWORKS[request.param]
        return model, build()
