"""The verdict on every cell, and the page of the docs made of them."""

import re
import warnings
from pathlib import Path

import slq
from tests.killers.functions import FUNCTIONS, Runs
from tests.killers.inputs import INPUTS

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "killers.md"
PEERS = ROOT / "benchmarks" / "killers_peers.md"
# Dimension in the tests, and in the long run.
SMALL, LARGE = 25, 150
RIGHT, WARNED, REFUSED = "·", "w", "e"
# Seeds with which a cell that missed in the long run is judged again: chance does not miss twice.
SEEDS = 1, 2, 3
# Functions that take no operator: what they take, and the test that gives them what hurts.
_VECTORS = "tests/slq/history/test_overlaps.py::"
_NUMBERS = "tests/slq/spectrum/test_measurements.py::"
ELSEWHERE = {
    "gradient_concentration": (
        "vectors of any size, type and field",
        f"{_VECTORS}test_the_share_of_a_gradient_does_not_depend_on_its_unit",
    ),
    "subspace_overlap": ("vectors", f"{_VECTORS}test_what_is_no_orthonormal_block_is_refused_by_name"),
    "outlier_ratio": ("numbers", f"{_NUMBERS}test_ratios_of_numbers_at_the_ends_of_what_numbers_can_do"),
    "sharpness": ("numbers", f"{_NUMBERS}test_sharpness_at_the_ends_of_what_numbers_can_do"),
    "shard": (
        "files",
        "tests/slq/files/test_sharding.py::test_a_file_that_is_no_symmetric_matrix_is_refused_and_leaves_nothing",
    ),
}
SPOKEN = (ValueError, TypeError, slq.RunError)


class WrongCell(AssertionError):
    """A number that is wrong without a word, or a word that does not name the cause."""


def verdict(function, input_, n=SMALL, runs=None, seed=0):
    """Return whether a cell is right, warned of or refused; raise `WrongCell` where it is none of them."""
    words = "|".join(filter(None, (input_.words, function.words)))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            for arguments in ((run,) for run in runs or Runs(input_, n, seed)) if function.of_spectrum else ((),):
                function.run(input_.make(n, seed), *arguments)
        except SPOKEN as error:
            found, message = REFUSED, str(error)
        except AssertionError as error:
            found, message = WARNED if told else None, str(error)
        else:
            found, message = WARNED if told else RIGHT, ""
    if found is None:
        raise WrongCell(message)
    if found is REFUSED:
        require_cause("error", message, words)
    for warning in told:
        if issubclass(warning.category, slq.SlqWarning):
            require_cause("warning", str(warning.message), words)
        elif found is not REFUSED:  # what NumPy says of a product that is refused is no matter
            msg = f"a {warning.category.__name__} from inside: {warning.message} ({warning.filename}:{warning.lineno})"
            raise WrongCell(msg)
    return found


def require_cause(kind, message, words):
    """Raise unless a message says one of the words."""
    if not (words and re.search(words, message)):
        msg = f"the {kind} does not name the cause ({words or 'there is none'}): {message}"
        raise WrongCell(msg)


def row(input_, n=SMALL):
    """Return the verdicts of all functions on one input, and what is wrong."""
    return _row(input_, n, Runs(input_, n), lambda *_: False)


def _row(input_, n, runs, by_chance):
    found, wrong = [], []
    for function in FUNCTIONS:
        try:
            found.append(verdict(function, input_, n, runs))
        except WrongCell as error:
            if by_chance(function, input_):
                found.append(RIGHT)
            else:
                found.append("X")
                wrong.append(f"{function.name} on {input_.name}: {error}")
    return "".join(found), wrong


def missed_by_chance(function, input_):
    """Return whether a cell of the long run that missed is right with all other seeds.

    It judges ten thousands of intervals, of which one in a thousand may miss.
    """
    try:
        for seed in SEEDS:
            verdict(function, input_, LARGE, Runs(input_, LARGE, seed, thorough=True), seed)
    except WrongCell:
        return False
    return True


def at_length():
    """Judge all cells at a larger size and on more runs; return rows of (input, cells, right, warned, refused, wrong).

    For the long run of the tests.
    """
    rows = []
    for input_ in INPUTS:
        found, wrong = _row(input_, LARGE, Runs(input_, LARGE, thorough=True), missed_by_chance)
        counts = [found.count(mark) for mark in (RIGHT, WARNED, REFUSED)]
        rows.append((input_.phrase, len(found), *counts, wrong))
    return rows


def page():
    """Return the page of the docs."""
    methods = [f for f in FUNCTIONS if f.of_spectrum]
    others = [f for f in FUNCTIONS if not f.of_spectrum]
    lines = [
        "# Inputs that hurt",
        "",
        "Written by `python -m tests.killers`; do not edit. Every function that takes an operator, on every input",
        "below, beside dense linear algebra. A number counts as right (`·`) where the truth lies in the interval",
        "that it states, at 99.9 %. Else there must be a warning (`w`) or an error (`e`) that names the cause. No",
        "cell is neither: the tests fail where a number is wrong without a word, and where a word names no cause.",
        "",
        f"Matrices have {SMALL} rows unless the row says otherwise; methods of `Spectrum` are asked of runs with and",
        "without re-orthogonalisation. The letters stand for the functions in the order in which they are listed",
        "below the table.",
        "",
        "| input | methods of `Spectrum` | functions |",
        "| --- | --- | --- |",
    ]
    for input_ in INPUTS:
        found, wrong = row(input_)
        if wrong:
            raise WrongCell("\n".join(wrong))
        lines.append(f"| {input_.phrase} | `{found[: len(methods)]}` | `{found[len(methods) :]}` |")
    places = "; ".join(f"`slq.{name}` ({what}): `{place}`" for name, (what, place) in ELSEWHERE.items())
    lines += ["", f"Methods: {', '.join(f.phrase for f in methods)}.", ""]
    lines += [f"Functions: {', '.join(f.phrase for f in others)}.", ""]
    lines += [f"Functions that take no operator are given what hurts elsewhere. {places}.", ""]
    lines += [PEERS.read_text(encoding="utf-8").rstrip()]
    return "\n".join(lines) + "\n"
