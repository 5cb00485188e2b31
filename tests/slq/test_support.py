"""Every feature works on every library that has what it needs, and the table in the docs says so and no more."""

import pytest

from tests import support
from tests.backends import NAMES


@pytest.mark.parametrize("row", support.FEATURES, ids=[row.run.__name__ for row in support.FEATURES])
def test_it_works_here(row, backend):
    if not row.applies_to(backend.name):
        pytest.skip("the library has nothing of the kind")
    row.run(backend)


def test_the_page_is_what_the_tests_say():
    assert support.PAGE.read_text(encoding="utf-8") == support.page(), "run `python -m tests.support`"


def test_every_backend_has_a_column():
    names = [name if isinstance(name, str) else name.values[0] for name in NAMES]
    assert sorted(names) == sorted(support.COLUMNS.values())
