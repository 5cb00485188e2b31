"""Products with the Hessian are those of the dense one that JAX builds."""

import gc

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import slq_jax

import slq


def test_every_kind_of_network_has_the_hessian_that_jax_builds(network, kit):
    model, params = network
    batch = kit.samples(7)

    def loss(p, b):
        return kit.outer(model(p, b), b)

    H = kit.matrix(slq_jax.hessian(loss, params, batch))

    kit.assert_close(H, kit.dense(lambda p: loss(p, batch), params))
    kit.assert_close(H, H.T, rtol=4 * np.finfo(float).eps)


def test_the_cut_into_ragged_batches_does_not_matter(x64, kit):
    batch = kit.samples(11)
    X = jnp.eye(37)[:, ::9]
    whole = slq_jax.hessian(kit.loss, kit.params(), batch) @ X

    for loss in (kit.loss, kit.summed):
        H = slq_jax.hessian(loss, kit.params(), kit.cut(batch, 4, 4, 3))
        kit.assert_close(H @ X, whole, rtol=1e-13)
        assert H.metadata["samples"] == 11
        assert H.metadata["batches"] == 3
        assert H.metadata["loss"] == pytest.approx(float(kit.loss(kit.params(), batch)), rel=1e-12)


def test_a_count_that_is_computed_weighs_too(x64, kit):
    batch = kit.samples(9)
    mask = jnp.arange(9) % 3 > 0

    def loss(params, b):
        x, y, keep = b
        rows = -jnp.take_along_axis(jax.nn.log_softmax(kit.model(params, (x,))), y[:, None], axis=1)[:, 0]
        return jnp.sum(rows * keep), jnp.sum(keep)

    kept = tuple(v[np.asarray(mask)] for v in batch)
    H = slq_jax.hessian(loss, kit.params(), kit.cut((*batch, mask), 5, 4))

    kit.assert_close(kit.matrix(H), kit.dense(lambda p: kit.loss(p, kept), kit.params()))


def test_a_closure_needs_no_data(x64, kit):
    batch = kit.samples(6)

    H = slq_jax.hessian(lambda params: kit.loss(params, batch), kit.params())

    kit.assert_close(kit.matrix(H), kit.dense(lambda p: kit.loss(p, batch), kit.params()))
    assert H.metadata["samples"] is None


def test_the_loss_is_traced_once_for_all_products_of_a_shape(x64, kit):
    traces = []

    def loss(params, batch):
        traces.append(batch[0].shape)
        return kit.loss(params, batch)

    H = slq_jax.hessian(loss, kit.params(), kit.cut(kit.samples(11), 4, 4, 3))
    X = jnp.ones((H.shape[0], 2))
    H.matmat(X)
    first = list(traces)
    for i in range(3):
        H.matmat(X * i)

    assert traces == first
    assert set(first) == {(4, 4), (3, 4)}
    assert len(first) == 2


def test_one_column_goes_the_way_of_a_few_that_are_compiled_already(x64, kit):
    traces = []

    def loss(params, batch):
        traces.append(1)
        return kit.loss(params, batch)

    H = slq_jax.hessian(loss, kit.params(), kit.samples(5))
    four = H.matmat(jnp.eye(H.shape[0])[:, :4])
    count = len(traces)
    one = H.matmat(jnp.eye(H.shape[0])[:, :1])

    assert len(traces) == count
    np.testing.assert_array_equal(one, four[:, :1])


@pytest.mark.parametrize("options", [{"chunk": 3}, {"memory": 5000.0}], ids=["three columns", "little memory"])
def test_chunks_of_columns_change_nothing(options, x64, kit):
    batch = kit.samples(5)
    whole = kit.matrix(slq_jax.hessian(kit.loss, kit.params(), batch, chunk=37))

    kit.assert_close(kit.matrix(slq_jax.hessian(kit.loss, kit.params(), batch, **options)), whole, rtol=1e-14)


def test_products_repeat_to_the_bit(x64, kit):
    H = slq_jax.hessian(kit.loss, kit.params(), kit.samples(5))
    X = jnp.asarray(np.random.default_rng(0).standard_normal((37, 2)))

    np.testing.assert_array_equal(H.matmat(X), H.matmat(X))


def test_no_tracer_is_left_behind(x64, kit):
    params = kit.params()
    with jax.checking_leaks():
        H = slq_jax.hessian(kit.loss, params, kit.samples(5))
        H.matmat(jnp.ones((37, 2)))
    gc.collect()

    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params))


def test_when_memory_runs_out_fewer_columns_go_at_once(x64, kit, monkeypatch):
    H = slq_jax.hessian(kit.loss, kit.params(), kit.samples(5))
    contribute, limits = H._contribute, []

    def short(*args, **options):
        limits.append(options["limits"][1])
        if limits[-1] > 8:
            msg = "RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes."
            raise jax.errors.JaxRuntimeError(msg)
        return contribute(*args, **options)

    monkeypatch.setattr(H, "_contribute", short)
    found = H.matmat(jnp.eye(37))

    assert limits == [64, 18, 9, 4]
    kit.assert_close(found, kit.dense(lambda p: kit.loss(p, kit.samples(5)), kit.params()))


def test_memory_that_runs_out_for_one_column_is_told(x64, kit, monkeypatch):
    H = slq_jax.hessian(kit.loss, kit.params(), kit.samples(5))

    def never(*_, **__):
        msg = "RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes."
        raise jax.errors.JaxRuntimeError(msg)

    monkeypatch.setattr(H, "_contribute", never)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        H.matmat(jnp.ones((37, 4)))


def test_float32_is_the_default_of_jax_and_stays(kit):
    H = slq_jax.hessian(kit.loss, kit.params(), kit.samples(5))

    found = kit.matrix(H)

    assert found.dtype == np.float32
    with kit.double():
        exact = kit.dense(lambda p: kit.loss(p, kit.samples(5)), kit.params())
    kit.assert_close(found, exact, rtol=1e-5)


def test_half_precision_has_vectors_and_sums_in_float32_and_says_what_it_is_worth(kit):
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), kit.params())
    H = slq_jax.hessian(kit.loss, params, kit.cut(kit.samples(6), 3, 3))

    found = kit.matrix(H)

    assert found.dtype == np.float32
    assert H.metadata["accumulate"] == "float32"
    assert H.metadata["parameter_dtype"] == "bfloat16"
    assert H.noise == 2.0**-7
    exact = kit.dense(lambda p: kit.loss(p, kit.samples(6)), jax.tree.map(lambda x: x.astype("float32"), params))
    kit.assert_close(found, exact, rtol=8 * H.noise)


def test_sums_over_batches_can_be_taken_in_float64(x64, kit):
    params = jax.tree.map(lambda x: x.astype("float32"), kit.params())

    H = slq_jax.hessian(kit.loss, params, kit.cut(kit.samples(6), 3, 3), accumulate=jnp.float64)

    assert kit.matrix(H).dtype == np.float32
    assert H.metadata["accumulate"] == "float64"
    assert (
        H._contribute(
            H._params.leaves, [], (kit.samples(3),), jnp.ones((37, 1)), jnp.zeros((37, 1)), 1.0, limits=(1e9, 1)
        )[0].dtype
        == np.float64
    )


def test_the_spectrum_is_that_of_the_dense_matrix(x64, kit):
    batch = kit.samples(20)
    H = slq_jax.hessian(kit.loss, kit.params(), batch)

    found = slq.spectrum(H, probes=2, steps=12, rng=0)
    by_numpy = slq.spectrum(kit.dense(lambda p: kit.loss(p, batch), kit.params()), probes=2, steps=12, rng=0)

    np.testing.assert_allclose(found.nodes, by_numpy.nodes, atol=1e-10)
    np.testing.assert_allclose(found.weights, by_numpy.weights, atol=1e-10)
    assert found.metadata["kind"] == "hessian"


def test_operators_add_up(x64, kit):
    batch = kit.samples(6)
    H, G = slq_jax.hessian(kit.loss, kit.params(), batch), slq_jax.ggn(kit.model, kit.outer, kit.params(), batch)

    rest = kit.matrix(H - G + 0.5)

    kit.assert_close(rest, kit.matrix(H) - kit.matrix(G) + 0.5 * np.eye(37))
