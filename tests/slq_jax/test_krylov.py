"""The compiled recurrence: the numbers of the core's own, compiled once, and never waiting for the device."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from slq_jax._krylov import JaxKrylov
from slq_jax._placement import Placement

import slq
from slq._lanczos._krylov import Krylov
from tests.faults import Stop, same_spectra

N = 50


@pytest.fixture
def start(x64):
    rows = np.random.default_rng(0).standard_normal((3, N))
    return jnp.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture
def A(x64):
    A = np.random.default_rng(1).standard_normal((N, N))
    return jnp.asarray(A + A.T)


def run(krylov, A, steps):
    return np.stack([np.asarray(krylov.step(krylov.images(lambda rows: rows @ A))) for _ in range(steps)])


@pytest.mark.parametrize("reorth", [True, False], ids=["full", "none"])
def test_it_computes_what_the_core_computes(reorth, A, start):
    here = Placement(next(iter(start.devices())))
    ours = JaxKrylov(here, start, reorth=reorth, references=start[:2])
    rows = np.array(start)
    theirs = Krylov(rows, np, reorth=reorth, references=rows[:2])

    np.testing.assert_allclose(run(ours, A, 20), run(theirs, np.asarray(A), 20), atol=1e-10)
    assert ours.orthogonal == theirs.orthogonal == reorth
    if reorth:
        coefficients = np.random.default_rng(2).standard_normal((2, 20))
        np.testing.assert_allclose(ours.combine(1, coefficients), theirs.combine(1, coefficients), atol=1e-10)
        ours.drop_basis()
    assert ours.combine(0, np.ones((1, 20))) is None


def test_probes_that_ended_are_told_of_no_more(A, start):
    krylov = JaxKrylov(Placement(next(iter(start.devices()))), start, reorth=True)
    whole = run(JaxKrylov(Placement(next(iter(start.devices()))), start, reorth=True), A, 5)

    first = run(krylov, A, 2)
    krylov.keep(np.array([0, 2]))
    krylov.keep(np.array([1]))
    second = run(krylov, A, 3)

    np.testing.assert_array_equal(np.concatenate([first[:, 2], second[:, 0]]), whole[:, 2])
    assert second.shape == (3, 1, 2)


def test_vectors_stay_orthogonal(A):
    T = slq.lanczos(A, jnp.ones(N), N)

    np.testing.assert_allclose(slq.gauss(T).nodes[0], np.linalg.eigvalsh(np.asarray(A)), atol=1e-12)


def test_invariant_spaces_end_one_by_one(x64):
    T = slq.lanczos(jnp.diag(jnp.arange(1.0, 7.0)), jnp.eye(6)[:, :3].at[1, 1].set(2.0).at[3, 2].set(1.0), 6)

    np.testing.assert_array_equal(T.lengths, [1, 1, 2])
    np.testing.assert_allclose(T.alpha[:, 0], [1.0, 2.0, 3.5])


def test_scales_near_the_ends_of_the_range_are_no_trouble(x64):
    for scale in (1e200, 1e-200):
        s = slq.spectrum(scale * jnp.diag(jnp.arange(1.0, 31.0)), probes=1, steps=30, rng=0)
        np.testing.assert_allclose(s.nodes[0] / scale, np.arange(1, 31), rtol=1e-12)


def test_more_steps_compile_nothing_new(A, caplog):
    v = jnp.ones((N, 2))
    slq.lanczos(A, v, 33)  # three blocks of vectors, and fetches of each length
    jax.config.update("jax_log_compiles", True)
    try:
        with caplog.at_level(logging.WARNING, logger="jax"):
            slq.lanczos(A, v, 49)
    finally:
        jax.config.update("jax_log_compiles", False)

    assert [r for r in caplog.records if "ompil" in r.getMessage()] == []


def test_a_step_does_not_wait_for_the_device(A, start):
    def steps(rows):  # traced: whatever asked for a value would raise
        krylov = JaxKrylov(Placement(next(iter(start.devices()))), start, reorth=True)
        krylov.current = rows
        return jnp.stack([krylov.step(krylov.images(lambda rows: rows @ A)) for _ in range(18)])

    assert jax.eval_shape(steps, start).shape == (18, 3, 2)


def test_combinations_of_operators_take_it_too(A):
    shifted = slq.as_operator(slq.as_operator(A).source + 2.0)

    assert shifted.krylov is not None


@pytest.mark.parametrize("reorth", ["full", "none"])
@pytest.mark.parametrize("ends", [False, True])
def test_a_run_that_is_interrupted_goes_on_to_the_same_bits(A, reorth, ends, tmp_path, monkeypatch):
    if ends:  # probes reach an invariant space one after the other
        A = jnp.asarray(np.kron(np.diag(np.arange(1.0, 13.0)), np.eye(5)))
    options = {"probes": 3, "steps": 20, "rng": 0, "reorth": reorth}
    whole = slq.spectrum(A, **options)
    for after in (1, 9, 11, int(whole.lengths.max()) - 1):
        Stop(after).install(monkeypatch)
        path = tmp_path / f"{after}.npz"
        assert slq.spectrum(A, checkpoint=path, **options).status == "interrupted"
        again = slq.spectrum(A, checkpoint=path, **options)
        assert same_spectra(whole, again)
        assert again.metadata["resumed"] == 1
