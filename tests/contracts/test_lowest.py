"""The command that tests the lowest versions knows all of them, and the classifiers name the versions of Python."""

import importlib.util
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]


def test_every_dependency_of_the_tests_has_a_lower_bound_that_is_tried():
    spec = importlib.util.spec_from_file_location("bounds", ROOT / ".ci" / "bounds.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.bounds(TEXT)

    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in module.EXTRAS for line in extras[extra])]
    asked = {Requirement(line).name: str(Requirement(line).specifier) for line in lines}
    del asked["slq"]
    assert asked == {name: f">={version}" for name, version in found.items()}


def test_python_is_named_from_the_lowest_on_without_a_gap():
    minors = [int(m) for m in re.findall(r"Python :: 3\.(\d+)", " ".join(PROJECT["classifiers"]))]
    assert PROJECT["requires-python"] == f">=3.{minors[0]}"
    assert minors == [*range(minors[0], minors[-1] + 1)]
