"""What is declared in pyproject.toml is what is there."""

import re
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import slq

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
PACKAGES = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def plain(name: str) -> str:
    """Write a distribution's name as PyPI compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_there_and_says_that_it_is_typed(package):
    assert (ROOT / package / "__init__.py").is_file()
    assert (ROOT / package / "py.typed").is_file()


def test_every_package_in_the_tree_is_declared():
    found = {p.parent for p in (*ROOT.glob("slq/__init__.py"), *ROOT.glob("adapters/*/__init__.py"))}

    assert {str(p.relative_to(ROOT)) for p in found} == set(PACKAGES)


def test_the_version_is_said_once():
    assert slq.__version__ == metadata.version("slq") == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "extra", ["all", "cli", "cupy", "demo", "docs", "fast", "jax", "lint", "plot", "test", "torch"]
)
def test_an_extra_exists(extra):
    assert extra in EXTRAS
    assert extra in metadata.metadata("slq").get_all("Provides-Extra")


def test_an_extra_named_by_another_exists():
    named = {e for lines in EXTRAS.values() for line in lines for e in Requirement(line).extras}

    assert named <= EXTRAS.keys()


def test_everything_asked_for_is_pinned_to_one_release():
    lines = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
    asked = {plain(Requirement(line).name): Requirement(line) for line in lines}
    pinned = {plain(line.partition("==")[0]): line.partition("==")[2] for line in pins()}

    assert asked.keys() - pinned.keys() == {"slq"}
    assert {n for n, r in asked.items() if n != "slq" and pinned[n] not in r.specifier} == set()


def test_the_pins_name_releases_and_no_place():
    assert pins()[0] == "torch==2.13.0"
    assert [p for p in pins() if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", p)] == []


def test_the_entry_points_lead_to_functions():
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    pytest.importorskip("cyclopts")
    declared = {
        ("console_scripts", "slq"),
        *(("slq.adapters", name) for name in PROJECT["entry-points"]["slq.adapters"]),
    }

    found = metadata.distribution("slq").entry_points
    assert declared == {(e.group, e.name) for e in found}
    installed = [e for e in found if e.group == "console_scripts" or find_spec(e.name)]
    assert all(callable(e.load()) for e in installed)
