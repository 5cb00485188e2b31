"""Sharded parameters, data and matrices: the numbers of a single device, and vectors that stay cut over the mesh.

The number of devices is fixed when JAX starts, so this runs in a process of its own.
"""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import jax
import jax.numpy as jnp
import numpy as np
import slq
import slq_jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

jax.config.update("jax_enable_x64", True)
assert len(jax.devices()) == 4
rng = np.random.default_rng(0)
params = {"w": jnp.asarray(rng.standard_normal((4, 8))), "v": jnp.asarray(rng.standard_normal((8, 1)))}
batch = (jnp.asarray(rng.standard_normal((8, 4))), jnp.asarray(rng.standard_normal((8, 1))))


def loss(p, b):
    return jnp.mean((jnp.tanh(b[0] @ p["w"]) @ p["v"] - b[1]) ** 2)


def put(mesh, tree, spec):
    return jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, spec)), tree)


def cut(x):
    return len(x.sharding.device_set) == 4 and x.addressable_shards[0].data.size * 4 == x.size


plain = slq_jax.hessian(loss, params, batch)
X = jnp.eye(40)[:, :3]
expected = plain.matmat(X)
options = dict(probes=2, steps=20, rng=0)
spectrum = slq.spectrum(plain, **options)
# On a mesh whose axes the compiler uses as it likes, on one where the user says how, and a matrix.
for axes in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(axes,))
    sharded = {"w": put(mesh, params["w"], P("d", None)), "v": put(mesh, params["v"], P("d", None))}
    H = slq_jax.hessian(loss, sharded, put(mesh, batch, P("d", None)))
    found = H.matmat(X)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    assert cut(found)
    again = slq.spectrum(H, **options)
    np.testing.assert_allclose(again.alpha, spectrum.alpha, atol=1e-10)
    np.testing.assert_allclose(again.beta, spectrum.beta, atol=1e-10)
    krylov = H.krylov(slq._lanczos._probes.probes(40, range(2), seed=0), reorth=True)
    krylov.step(krylov.images(lambda rows: H.matmat(rows.T).T))
    assert cut(krylov.current) and cut(krylov._blocks[0])

A = jnp.asarray(expected @ expected.T)
S = slq_jax.matrix(put(mesh, A, P("d", None)))
np.testing.assert_allclose(S.matmat(X), A @ X, atol=1e-14)
assert cut(S.matmat(X))

# 33 numbers cannot be cut into four equal parts: vectors are repeated then.
odd = slq_jax.hessian(lambda p: jnp.sum(p**3), put(mesh, jnp.ones(33), P()))
assert odd.matmat(jnp.ones((33, 1))).sharding.is_fully_replicated
np.testing.assert_allclose(odd.matmat(jnp.ones((33, 1))), 6.0)

try:
    slq_jax.hessian(loss, {"w": jax.device_put(params["w"], jax.devices()[1]), "v": params["v"]}, batch)
except ValueError as error:
    assert "must share one device or one mesh" in str(error), error
    assert "'v'" in str(error) and "'w'" in str(error)
else:
    raise AssertionError("two devices were accepted")
print("all the same")
"""


@pytest.mark.slow
def test_sharded_parameters_give_the_same_numbers_and_sharded_vectors(tmp_path):
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
        check=False,
    )

    assert done.stdout == "all the same\n", done.stderr
