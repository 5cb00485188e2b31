"""What counts as data, how batches weigh, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slq_jax


def line(params, batch):
    return jnp.mean((batch @ params) ** 2)


def product(loss, data, params=None):
    H = slq_jax.hessian(loss, jnp.ones(2) if params is None else params, data)
    return np.asarray(H.matmat(jnp.eye(H.shape[0])))


class Loader:
    """Gives batches anew at each pass, other ones after the first if it drifts."""

    def __init__(self, drifts=False):
        self.drifts, self.passes = drifts, 0

    def __iter__(self):
        self.passes += 1
        scale = 1.0 + (self.drifts and self.passes > 1)
        yield np.float32(scale) * np.ones((3, 2), dtype=np.float32)
        yield np.ones((1, 2), dtype=np.float32)


def test_a_loader_is_read_once_per_product():
    loader = Loader()
    H = slq_jax.hessian(line, jnp.ones(2), loader)
    X = jnp.ones((2, 1))

    np.testing.assert_array_equal(H.matmat(X), H.matmat(X))
    assert loader.passes == 2
    assert H.metadata["samples"] == 4


def test_a_loader_that_gives_other_batches_is_refused():
    H = slq_jax.hessian(line, jnp.ones(2), Loader(drifts=True))
    H.matmat(jnp.ones((2, 1)))

    with pytest.raises(ValueError, match=r"not the same at each pass.*batch 0 had the loss 4, now 16"):
        H.matmat(jnp.ones((2, 1)))


@pytest.mark.parametrize(
    "one",
    [np.ones((3, 2), np.float32), {"x": np.ones((3, 2), np.float32)}, (np.ones((3, 2), np.float32),)],
    ids=["array", "dict", "tuple"],
)
def test_one_batch_may_have_any_shape(one):
    H = slq_jax.hessian(lambda p, b: line(p, jax.tree.leaves(b)[0]), jnp.ones(2), one)

    np.testing.assert_allclose(H.matmat(jnp.eye(2)), np.full((2, 2), 2.0), rtol=1e-6)
    assert H.metadata["batches"] == 1


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (None, TypeError, "`data` is None"),
        ([], ValueError, "empty list"),
        (iter([1]), TypeError, "read only once"),
        ([np.ones((2, 2), np.float32), np.ones(2, np.float32)], ValueError, r"give tuple\(batch\)"),
    ],
    ids=["none", "empty", "generator", "collated"],
)
def test_data_that_cannot_be_right_are_refused(data, kind, message):
    with pytest.raises(kind, match=message):
        slq_jax.hessian(line, jnp.ones(2), data)


@pytest.mark.parametrize(
    ("loss", "data", "kind", "message"),
    [
        (lambda p, b: p * b, jnp.ones(2), ValueError, r"real scalar, got shape \(2,\)"),
        (lambda p, b: (jnp.sum(p), 1, 2), jnp.ones(2), ValueError, "a tuple of 3"),
        (lambda p, b: "one", jnp.ones(2), TypeError, "got str"),
        (lambda p, b: (jnp.sum(p), p), jnp.ones(2), TypeError, r"second entry has shape \(2,\)"),
        (lambda p, b: jnp.sum(p) * jnp.nan, jnp.ones(2), ValueError, "`loss` is nan for batch 0"),
        (lambda p, b: (jnp.sum(p), 0), jnp.ones(2), ValueError, "all zero"),
        (lambda p, b: (jnp.sum(p), -1), jnp.ones(2), ValueError, "count -1.0"),
        (lambda p, b: jnp.sum(p), [(jnp.ones(2), jnp.ones(3))] * 2, ValueError, r"Return \(sum, count\)"),
        (lambda p, b: jnp.sum(p), [jnp.ones(2), jnp.ones(0)], ValueError, "Batch 1 of `data` has no samples"),
        (lambda p, b: jnp.sum(p), ("a text",), TypeError, "must hold arrays"),
        (
            lambda p, b: jnp.sum(p) if len(b) == 2 else (jnp.sum(p), 1),
            [jnp.ones(2), jnp.ones(3)],
            ValueError,
            "for some batches",
        ),
    ],
    ids=[
        "vector",
        "triple",
        "text",
        "count",
        "nan",
        "nothing",
        "negative",
        "unweighted",
        "no samples",
        "batch",
        "mixed",
    ],
)
def test_a_loss_that_cannot_be_right_is_told_how(loss, data, kind, message):
    with pytest.raises(kind, match=message):
        product(loss, data)


def test_other_errors_pass_and_name_the_batch():
    def loss(params, batch):
        if params.sum() > 0:  # a branch on a traced value
            return params.sum()
        return batch.sum()

    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        product(loss, jnp.ones(2))

    assert "slq_jax: raised while differentiating the loss of batch 0." in caught.value.__notes__


@pytest.mark.parametrize(
    ("X", "kind", "message"),
    [
        (np.ones((2, 1)), TypeError, "must be a JAX array, got ndarray"),
        (jnp.ones(2), ValueError, r"shape \(2, b\), got \(2,\)"),
        (jnp.ones((2, 1)) * 1j, ValueError, "must be real"),
    ],
    ids=["numpy", "vector", "complex"],
)
def test_blocks_of_another_kind_are_refused(X, kind, message):
    with pytest.raises(kind, match=message):
        slq_jax.hessian(line, jnp.ones(2), jnp.ones((1, 2))).matmat(X)
