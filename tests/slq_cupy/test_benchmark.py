"""The sections of `python -m benchmarks.gpu` that use CuPy, on its stand-in: they run, and their numbers agree."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sections(on_host, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.gpu import _libraries, _sections

    return _sections, _libraries.CuPy()


def test_numbers_agree(sections, monkeypatch):
    module, library = sections
    monkeypatch.setattr(module, "TOLERANCES", {"float32": 1e-4})
    rows = module.correctness(library, True)

    assert {row["matrix"] for row in rows} >= {"dense", "csr", "csc", "coo", "csr, float16 basis", "csr on two devices"}
    assert [row for row in rows if not row["agrees"]] == []


def test_waits_are_told(sections):
    module, library = sections

    assert [row["host waits"] for row in module.waits(library, True)] == [False, False]
    assert library.about() == "0 on a stand-in"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["products", "projection", "sparse_batches", "memory"])
def test_the_timed_sections_run(sections, name, monkeypatch):
    module, library = sections
    monkeypatch.setattr(module, "TOLERANCES", {"float32": 1e-4})
    monkeypatch.setattr(module, "seconds", lambda library, call, rounds: call() is None or 1.0)

    assert getattr(module, name)(library, True)
