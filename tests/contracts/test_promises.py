"""Every test that the page of promises names exists, and every promise names one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE)))


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_a_promise_names_exists(name):
    file, _, function = name.partition("::")
    assert function in functions(ROOT / file)


def test_every_promise_names_a_test_or_a_command():
    promises = re.findall(r"^- (\*\*.*?)(?=^- |^\n|^#|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(promises) > 20
    assert [p for p in promises if not re.search(r"`(tests/|bash \.ci/)", p)] == []


def test_the_page_shows_the_table_of_the_long_run():
    assert "| what | tried | came out | problems |" in PAGE
    assert not [row for row in re.findall(r"^\|.*\|$", PAGE, flags=re.MULTILINE)[2:] if not row.endswith("| 0 |")]
