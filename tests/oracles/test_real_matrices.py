"""Real matrices with their exact eigenvalues, where they are at hand: stiffness matrices, graphs, a web of links.

Looked for in the folder that the environment variable SLQ_ORACLES names, or beside the repository.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io

import slq

FOLDER = Path(os.environ.get("SLQ_ORACLES", Path(__file__).parents[3] / "shared" / "oracles"))
SURE = 0.9999
pytestmark = pytest.mark.skipif(not (FOLDER / "Erdos992.mtx").exists(), reason="needs the matrices of SuiteSparse")


def matrix(name):
    return scipy.io.mmread(FOLDER / f"{name}.mtx", spmatrix=False).tocsr().astype(np.float64)


def holds(found, truth):
    slack = 1e-8 * abs(truth)
    return found.low - slack <= truth <= found.high + slack


@pytest.mark.parametrize("name", ["bcsstk03", "bcsstk13", "bcsstk14", "bcsstk27"])
def test_stiffness_matrices_of_condition_up_to_1e10(name):
    A, exact = matrix(name), np.load(FOLDER / f"{name}_eigs.npy")
    s = slq.spectrum(A, probes=4, steps=100, rng=0, confidence=SURE)
    for found, truth in (
        (s.logdet(), np.log(exact).sum()),
        (s.trace(), exact.sum()),
        (s.frobenius_norm(), np.linalg.norm(exact)),
        (s.trace("sqrt"), np.sqrt(exact).sum()),
        (s.effective_dimension(1e-3 * exact[-1]), np.sum(exact / (exact + 1e-3 * exact[-1]))),
        (s.schatten_norm(np.inf), exact[-1]),
        (s.rank(1e-3 * exact[-1]), np.sum(exact > 1e-3 * exact[-1])),
        (s.von_neumann_entropy(), np.log(exact.sum()) - np.sum(exact * np.log(exact)) / exact.sum()),
    ):
        assert holds(found, truth)
    assert s.condition_number().low <= exact[-1] / exact[0] * (1 + 1e-5) <= s.condition_number().high


def test_walks_and_triangles_of_a_collaboration_graph():
    A, exact = matrix("Erdos992"), np.load(FOLDER / "Erdos992_eigs.npy")
    s = slq.spectrum(A, probes=8, steps=60, rng=0, confidence=SURE)
    for found, truth in (
        (s.trace("square"), 15030.0),
        (s.trace("x**3"), 9660.0),
        (s.estrada_index(), np.exp(exact).sum()),
        (s.log_sum_exp(), np.log(np.exp(exact).sum())),
        (s.nuclear_norm(), np.abs(exact).sum()),
        (s.negative_count(), np.sum(exact < -1e-9)),
        (s.negative_mass(), -exact[exact < 0].sum() / np.abs(exact).sum()),
        (s.rank(), np.sum(np.abs(exact) > 1e-9)),
    ):
        assert holds(found, truth)


def test_norms_of_a_web_of_links():
    A, singular = matrix("California"), np.load(FOLDER / "California_singular_values.npy")
    s = slq.spectrum(slq.as_operator(lambda v: A.T @ (A @ v), n=A.shape[0]), probes=8, steps=60, rng=0, confidence=SURE)
    assert holds(s.trace(), 16150.0)
    for p in (1, 2, 3, np.inf):
        assert holds(s.schatten_norm(p, gram=True), np.linalg.norm(singular, p))
