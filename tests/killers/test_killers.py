"""No function gives a wrong number without a word, whatever it is given; the docs say so and no more."""

import re

import pytest

import slq
from tests.killers import functions, inputs, table

# Modules, and what `Spectrum.save` has in its column.
BESIDE = {"gallery", "plot", "load"}


@pytest.mark.parametrize("name", [row.name for row in inputs.INPUTS])
def test_nothing_is_wrong_without_a_word(name):
    (row,) = (row for row in inputs.INPUTS if row.name == name)
    assert table.row(row)[1] == []


def test_every_public_function_of_an_operator_has_a_column():
    named = set(re.findall(r"slq\.(\w+)", " ".join(f.phrase for f in functions.FUNCTIONS)))
    public = {name for name in slq.__all__ if name[0].islower()} - BESIDE - {"spectrum"}
    assert public - named - set(table.ELSEWHERE) == set()
    assert set(table.ELSEWHERE) <= public - named


@pytest.mark.parametrize("name", table.ELSEWHERE)
def test_what_takes_no_operator_is_given_what_hurts_where_the_page_says(name):
    _, place = table.ELSEWHERE[name]
    file, _, test = place.partition("::")
    code = (table.ROOT / file).read_text(encoding="utf-8")
    assert f"def {test}(" in code
    assert f"slq.{name}(" in code
    assert place in table.PAGE.read_text(encoding="utf-8")


def test_every_method_of_a_spectrum_has_a_column():
    named = set(re.findall(r"Spectrum\.(\w+)", " ".join(f.phrase for f in functions.FUNCTIONS)))
    public = {name for name in dir(slq.Spectrum) if not name.startswith("_")} - set(slq.Spectrum.__dataclass_fields__)
    shown = {"plot", "coordinate", "probes", "steps", "certified", "assumes_simple", "unresolved_outliers"}
    assert public - named - shown == set()


def test_a_wrong_number_is_seen():
    function = functions.Function("", lambda case: functions.holds(slq.trace(2 * case.A, rng=0), 40.0), False)
    with pytest.raises(table.WrongCell, match="but it is 40"):
        table.verdict(function, inputs.Input("", inputs.identity))


def test_a_false_alarm_is_seen():
    function = functions.Function("", lambda case: slq.spectrum(case.A + 0.1 * inputs.asymmetric(case.n)[0]), False)
    with pytest.raises(table.WrongCell, match="does not name the cause"):
        table.verdict(function, inputs.Input("", inputs.identity))


def test_the_page_has_all_rows_and_columns():
    page = table.PAGE.read_text(encoding="utf-8")
    marks = f"[{table.RIGHT}{table.WARNED}{table.REFUSED}]"
    methods = sum(f.of_spectrum for f in functions.FUNCTIONS)
    others = len(functions.FUNCTIONS) - methods
    for row in inputs.INPUTS:
        cells = re.escape(row.phrase) + rf" \| `{marks}{{{methods}}}` \| `{marks}{{{others}}}` \|"
        assert re.search(cells, page), f"run `python -m tests.killers`: {row.phrase}"
    for function in functions.FUNCTIONS:
        assert function.phrase in page, f"run `python -m tests.killers`: {function.phrase}"
