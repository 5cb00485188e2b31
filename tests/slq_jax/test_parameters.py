"""Which leaves of a tree make up the vector, and the way there and back."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slq_jax


@pytest.fixture
def tree():
    layer = {"weight": jnp.arange(4.0).reshape(2, 2), "bias": jnp.array([5.0, 6.0])}
    return {"layers": [layer, {"weight": jnp.full((2, 1), 7.0)}], "step": 3, "act": jnp.tanh, "ids": jnp.arange(2)}


def loss(params, batch=None):
    x = params["act"](params["layers"][0]["bias"] @ params["layers"][0]["weight"] / params["step"])
    return jnp.sum((x[params["ids"]] @ params["layers"][1]["weight"]) ** 2)


def operator(tree, **options):
    return slq_jax.hessian(loss, tree, **options)


def test_all_floating_leaves_are_taken_and_the_rest_is_handed_on(tree, kit):
    H = operator(tree)

    assert H.metadata["parameter_names"] == ["layers.0.bias", "layers.0.weight", "layers.1.weight"]
    assert H.shape == (8, 8)
    assert np.isfinite(kit.matrix(H)).all()


@pytest.mark.parametrize(
    ("select", "names"),
    [
        ("layers.0", ["layers.0.bias", "layers.0.weight"]),
        ("layers.1.weight", ["layers.1.weight"]),
        ("*.weight", ["layers.0.weight", "layers.1.weight"]),
        (re.compile("bias$"), ["layers.0.bias"]),
        (["layers.1", "*.bias"], ["layers.0.bias", "layers.1.weight"]),
        (lambda name, leaf: leaf.ndim == 1, ["layers.0.bias"]),
    ],
    ids=["branch", "name", "glob", "regular expression", "several", "predicate"],
)
def test_leaves_are_selected(select, names, tree):
    assert operator(tree, select=select).metadata["parameter_names"] == names


def test_a_selection_gives_a_block_of_the_whole(tree, kit):
    with kit.double():
        tree = jax.tree.map(lambda x: x.astype("float64") if getattr(x, "dtype", None) == "float32" else x, tree)
        whole = kit.matrix(operator(tree))

        kit.assert_close(kit.matrix(operator(tree, select="*.weight")), whole[2:, 2:], rtol=1e-14)


def test_trees_become_vectors_and_come_back(tree):
    H = operator(tree, select="layers.0")
    vector = H.to_vector(tree)
    back = H.to_params(vector)

    np.testing.assert_array_equal(vector, [5, 6, 0, 1, 2, 3])
    np.testing.assert_array_equal(back["layers"][0]["weight"], tree["layers"][0]["weight"])
    assert back["layers"][1]["weight"] is None
    np.testing.assert_array_equal(H.to_vector(back), vector)


def test_trees_and_vectors_of_another_shape_are_refused(tree):
    H = operator(tree)
    with pytest.raises(ValueError, match="a tree like the parameters"):
        H.to_vector({"layers": 1})
    with pytest.raises(ValueError, match=r"the shapes .* got"):
        H.to_vector(jax.tree.map(lambda x: jnp.ones(3), tree))
    with pytest.raises(ValueError, match=r"shape \(8,\), got \(7,\)"):
        H.to_params(jnp.ones(7))


@pytest.mark.parametrize(
    ("params", "options", "kind", "message"),
    [
        ({"step": 1}, {}, ValueError, r"no floating leaf.*\['step'\]"),
        ({"w": jnp.ones(2)}, {"select": "b*"}, ValueError, r"asks for 'b\*'.*It has \['w'\]"),
        ({"w": jnp.ones(2)}, {"select": lambda name, leaf: False}, ValueError, "selects no leaf"),
        ({"w": jnp.ones(2)}, {"select": [3]}, TypeError, "globs or regular expressions, got int"),
        ({"w": jnp.ones(0)}, {}, ValueError, "is empty"),
        (
            {"w": jnp.ones(2), "b": jnp.ones(2, "bfloat16")},
            {},
            ValueError,
            r"share one dtype, got bfloat16 \('b'\), float32",
        ),
        ({"w": np.ones(2)}, {}, ValueError, r"float64 NumPy array \(leaf 'w'\).*jax_enable_x64"),
        (jnp.ones(2), {"accumulate": "float64"}, ValueError, r"`accumulate` is float64.*jax_enable_x64"),
        (jnp.ones(2), {"accumulate": "bfloat16"}, ValueError, "must be float32, float64 or None"),
        (jnp.ones(2), {"chunk": 0}, ValueError, "`chunk` must be a positive integer"),
        (jnp.ones(2), {"memory": 0}, ValueError, "`memory` must be a positive number"),
    ],
    ids=["no leaf", "no match", "nothing", "kind", "empty", "dtypes", "numpy", "x64", "short", "chunk", "memory"],
)
def test_choices_that_cannot_be_right_are_told_how(params, options, kind, message):
    with pytest.raises(kind, match=message):
        slq_jax.hessian(lambda p: 0.0, params, **options)


def test_less_precise_sums_than_vectors_are_refused(x64):
    with pytest.raises(ValueError, match="must not be less precise"):
        slq_jax.hessian(jnp.sum, jnp.ones(2), accumulate="float32")


def test_an_operator_is_not_made_of_tracers():
    with pytest.raises(TypeError, match=r"`params` holds a tracer \(leaf 'params'\)"):
        jax.jit(lambda p: slq_jax.hessian(jnp.sum, p).matmat(jnp.ones((2, 1))))(jnp.ones(2))
