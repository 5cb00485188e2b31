"""Files of every format there ever was are read, and say the same numbers."""

import json
import shutil

import numpy as np
import pytest

import slq
from slq._files import _store
from tests.golden.make import HERE, MATRIX, OPTIONS, numbers

VERSIONS = sorted(path.stem.removeprefix("says-") for path in HERE.glob("says-*.json"))


def says(version, kind):
    return json.loads((HERE / f"says-{version}.json").read_text(encoding="utf-8"))[kind]


def agree(found, expected):
    for name, value in expected.items():
        if isinstance(value, list):
            np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
        else:
            assert found[name] == value, name


def test_the_present_format_has_its_files():
    assert [*map(str, range(1, _store._FORMAT + 1))] == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_results_say_what_they_said(version):
    agree(numbers(slq.load(HERE / f"result-{version}.npz")), says(version, "result"))


@pytest.mark.parametrize("version", VERSIONS)
def test_histories_say_what_they_said(version):
    history, expected = slq.History.load(HERE / f"history-{version}.npz"), says(version, "history")
    assert history.steps.tolist() == expected["steps"]
    assert history.scalars["loss"].tolist() == expected["loss"]
    assert list(history.notes) == expected["notes"]
    assert history.spectra[1] is None
    agree(numbers(history.spectra[0]), says(version, "result"))


@pytest.mark.parametrize("version", VERSIONS)
def test_runs_go_on_from_checkpoints_of_the_same_slq(version, tmp_path):
    path = shutil.copy(HERE / f"checkpoint-{version}.npz", tmp_path)
    if says(version, "slq") == slq.__version__:
        agree(numbers(slq.spectrum(MATRIX, checkpoint=path, **OPTIONS)), says(version, "checkpoint"))
    else:
        with pytest.raises(ValueError, match="is of a run with slq = "):
            slq.spectrum(MATRIX, checkpoint=path, **OPTIONS)
