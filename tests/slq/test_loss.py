"""Vectors are made orthogonal only where they would lose it, and never lose more than allowed."""

import numpy as np
import pytest
from scipy.linalg import eigh_tridiagonal

import slq
from slq._basis import Storage
from slq._lanczos import LanczosRun
from slq._loss import LEAST_SHARE, Loss

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
def test_orthogonality_is_lost_to_a_tenth_of_sqrt_eps_at_most_and_rules_stay(name, dtype):
    eps = np.finfo(dtype).eps
    sparing, always = (run(SPECTRA[name], dtype, sparing=kind) for kind in (True, False))

    if not sparing.finished:  # the vectors of a probe that has ended are gone
        assert lost(sparing) < 0.1 * np.sqrt(eps)
    scale = np.abs(SPECTRA[name]).max()
    (nodes, weights), (others, their_weights) = rule(sparing), rule(always)
    # A node between clusters may wander: its weight is below rounding.
    told, theirs = weights > eps, their_weights > eps
    np.testing.assert_allclose(nodes[told], others[theirs], rtol=0, atol=20 * eps * scale)
    for f in (np.square, lambda x: np.exp(x / scale), lambda x: 1 / (1.1 * scale + x)):
        np.testing.assert_allclose(weights @ f(nodes), their_weights @ f(others), rtol=20 * eps)


@pytest.mark.parametrize(("name", "most"), [("bulk", 0.2), ("seven decades", 0.2), ("outliers", 0.6)])
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
