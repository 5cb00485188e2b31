"""Every row of the table of questions runs, and its answer agrees with the exact eigenvalues where it is a number."""

import re
from pathlib import Path

import numpy as np
import pytest

import slq

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "questions.md"
ROWS = re.findall(r"^\| (.+?) \| `(.+?)` \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
# What the table asks, of the exact eigenvalues.
TRUTH = {
    "s.logdet()": lambda x: np.log(x).sum(),
    's.trace("x**2.5")': lambda x: np.sum(x**2.5),
    "s.frobenius_norm()": lambda x: np.sqrt(np.sum(x**2)),
    "s.nuclear_norm()": np.sum,
    "s.condition_number()": lambda x: x.max() / x.min(),
    "s.rank(1e-6)": np.size,
    "s.negative_count()": lambda x: 0,
    "s.estrada_index()": lambda x: np.exp(x).sum(),
    "s.log_sum_exp()": lambda x: np.log(np.exp(x).sum()),
    "s.von_neumann_entropy()": lambda x: -np.sum(x / x.sum() * np.log(x / x.sum())),
    "s.effective_dimension(0.1)": lambda x: np.sum(x / (x + 0.1)),
}


@pytest.fixture(scope="module")
def names():
    """Give what the page calls by name."""
    A, law = slq.gallery.marchenko_pastur(400)
    s, t = (
        slq.spectrum(slq.gallery.marchenko_pastur(400, ratio=ratio)[0], probes=8, steps=30, rng=seed, confidence=0.9999)
        for seed, ratio in ((0, 0.5), (1, 0.4))
    )
    return {"A": A, "law": law, "s": s, "t": t, "np": np, "slq": slq}


@pytest.mark.parametrize("row", range(len(ROWS)))
def test_a_row_runs_and_its_error_is_of_the_kind_that_it_says(names, row):
    _, call, cost, error = ROWS[row]
    found = eval(call, names)
    assert (cost == "nothing") == call.startswith("s.")  # a Spectrum holds no operator
    if isinstance(found, slq.Estimate | slq.Band | slq.Density):
        assert np.all(np.asarray(found.low) <= np.asarray(found.high))
    else:
        assert isinstance(found, slq.Applied | slq.Eigenpairs | slq.Spectrum | slq.Tridiagonal | slq.Rule)
        assert np.all(getattr(found, "converged", True))
    if error.startswith("certified") and not re.search(r"else|or estimated", error):
        assert found.claim == "certified"
    if error.startswith("estimated"):
        assert found.claim == "estimate"
    if call in TRUTH:
        truth = TRUTH[call](np.repeat(names["law"].values, names["law"].multiplicities))
        assert found.low <= truth <= found.high


def test_the_table_has_all_its_rows_and_asks_what_is_checked():
    assert len(ROWS) > 50
    assert set(TRUTH) <= {call for _, call, _, _ in ROWS}
