"""Vectors are made orthogonal only where they would lose it, and never lose more than allowed."""

import numpy as np
import pytest
from scipy.linalg import eigh_tridiagonal

import slq
from slq._lanczos._basis import Storage
from slq._lanczos._host import HostKrylov
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._loss import LEAST_SHARE, Loss

N, STEPS = 3000, 80
SPECTRA = {
    "bulk": np.linspace(0, 1, N),
    "outliers": np.r_[np.linspace(0, 1, N - 4), 20, 50, 60, 100],
    "far outliers": np.r_[np.linspace(0, 1, N - 3), 1e3, 2e3, 1e4],
    "seven decades": np.logspace(-7, 0, N),
    "two clusters": np.r_[1 + 1e-8 * np.linspace(0, 1, N // 2), np.linspace(2, 3, N - N // 2)],
    "few": np.linspace(-1, 1, 60),
}


def run(values, dtype, *, sparing, probes=2, steps=STEPS):
    values = values.astype(dtype)
    operator = slq.as_operator(lambda X: (values * X.T).T, n=len(values), like=np.zeros(1, dtype))
    start = np.random.default_rng(1).standard_normal((probes, len(values))).astype(dtype)
    start /= np.linalg.norm(start, axis=1)[:, None]
    result = LanczosRun(operator, start, reorth="full", storage=Storage(sparing=sparing))
    result.advance(min(steps, len(values)))
    return result


def lost(result):
    """Return the largest inner product of two Krylov vectors of a probe."""
    kept = np.stack(list(result.stored(0)[1]), axis=1).astype(np.float64)
    return max(np.abs(Q @ Q.T - np.diag(np.sum(Q * Q, axis=1))).max() for Q in kept)


def rule(result):
    T = result.tridiagonal()
    nodes, vectors = eigh_tridiagonal(T.alpha[0, : T.lengths[0]], T.beta[0, : T.lengths[0] - 1])
    return nodes, vectors[0] ** 2


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SPECTRA)
def test_orthogonality_is_lost_to_a_fifth_of_sqrt_eps_at_most_and_rules_stay(name, dtype):
    eps = np.finfo(dtype).eps
    sparing, always = (run(SPECTRA[name], dtype, sparing=kind) for kind in (True, False))

    if not sparing.finished:  # the vectors of a probe that has ended are gone
        assert lost(sparing) < 0.2 * np.sqrt(eps)
    scale = np.abs(SPECTRA[name]).max()
    (nodes, weights), (others, their_weights) = rule(sparing), rule(always)
    # A node between clusters may wander: its weight is below rounding.
    told, theirs = weights > 1e3 * eps, their_weights > 1e3 * eps
    if name != "two clusters":  # how many nodes share the weight of a cluster that is narrower than rounding is open
        np.testing.assert_allclose(nodes[told], others[theirs], rtol=0, atol=20 * eps * scale)
    for f in (np.square, lambda x: np.exp(x / scale), lambda x: 1 / (1.1 * scale + x)):
        np.testing.assert_allclose(weights @ f(nodes), their_weights @ f(others), rtol=20 * eps)


@pytest.mark.parametrize(("name", "most"), [("bulk", 0.2), ("seven decades", 0.2), ("outliers", 0.8)])
def test_it_costs_few_projections_where_few_ritz_values_converge(name, most):
    share = run(SPECTRA[name], "float64", sparing=True).projected[2]
    assert LEAST_SHARE <= share < most
    assert run(SPECTRA[name], "float64", sparing=False).projected[2] == 1.0


def test_a_prediction_that_was_too_low_is_raised_by_what_was_found():
    loss = Loss(1, 1e-16)
    ones = np.ones(1)
    for _ in range(16):
        due = loss.grows(ones, ones, np.zeros((2, 1)))
    assert not due
    assert loss.grows(ones, ones, np.zeros((2, 1)))  # it is looked at
    loss.cleared(np.array([1e-6]))
    assert loss.grows(ones, ones, np.zeros((2, 1)))  # the vector after it too
    loss.cleared(np.array([1e-15]))
    steps = 1
    while not loss.grows(ones, ones, np.zeros((2, 1))):
        steps += 1
    assert steps < 16


def test_predictions_go_on_where_they_were_saved():
    rng = np.random.default_rng(0)
    one, other = Loss(2, 1e-16), Loss(2, 1e-16)
    for j in range(60):
        if j == 30:
            other.restore({name: x.copy() for name, x in one.state().items()})
        numbers = 1 + rng.random(2), 0.1 + rng.random(2), 1e-16 * rng.random((2, 2))
        due = one.grows(*numbers)
        if due:
            one.cleared(np.full(2, 1e-15))
        if j >= 30:
            assert other.grows(*numbers) == due
            if due:
                other.cleared(np.full(2, 1e-15))
    np.testing.assert_array_equal(one.state()["loss"], other.state()["loss"])


def contradiction(A, dtype, *, resume_at=None, steps=120, **options):
    """Return the largest inner product that should have been zero or known, as a share of |A|."""
    A, probes = A.astype(dtype), 3
    start = np.random.default_rng(0).standard_normal((probes, len(A))).astype(dtype)
    start /= np.linalg.norm(start, axis=1)[:, None]
    krylov, size = HostKrylov(start, np, **options), 0.0
    for step in range(steps):
        if step == resume_at:
            state, stored = {name: x.copy() for name, x in krylov.state().items()}, list(krylov.stored(0))
            krylov = HostKrylov(start, np, **options)
            krylov.restore(state, stored)
        alpha, beta = krylov.step(krylov.images(lambda X: (A @ X.T).T)).T
        size = max(size, float(np.max(np.abs(alpha) + 2 * beta)))
    return krylov.strangers / size


@pytest.mark.parametrize("options", [{}, {"storage": Storage()}, {"storage": Storage(sparing=True)}], ids=range(3))
@pytest.mark.parametrize("name", ["bulk", "outliers", "seven decades"])
def test_what_is_lost_is_not_taken_for_asymmetry_and_asymmetry_is_seen_all_the_same(name, options):
    n, rng, limit = 300, np.random.default_rng(2), np.sqrt(np.finfo(np.float64).eps)
    Q, E = np.linalg.qr(rng.standard_normal((n, n)))[0], rng.standard_normal((n, n))
    values = SPECTRA[name][np.linspace(0, N - 1, n).astype(int)]
    A, E = (Q * values) @ Q.T, E * np.abs(values).max() / np.linalg.norm(E, 2)
    A = (A + A.T) / 2

    assert contradiction(A, np.float64, **options) < 0.01 * limit
    for share in (1e-3, 1.0):
        assert 0.05 < contradiction(A + share * E, np.float64, **options) / share < 5


def test_contradictions_are_the_same_of_a_recurrence_that_was_left_and_taken_up():
    A = np.random.default_rng(3).standard_normal((200, 200))
    options = {"storage": Storage(sparing=True)}
    assert contradiction(A, np.float64, resume_at=47, **options) == contradiction(A, np.float64, **options)
