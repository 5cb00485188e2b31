"""The long version of what the tests do shortly: `python -m tests.torture` kills 200 times; a number makes it fewer."""

import sys
import tempfile
from pathlib import Path

from tests.slq.test_kills import kill, survives

# Jobs are killed so often before they are let end.
_EACH = 5


def main(kills: int) -> None:
    """Kill jobs with and without a basis, and print how many were resumed to the same bits."""
    for basis in ("full", "none"):
        with tempfile.TemporaryDirectory() as folder:
            whole, _ = kill(basis, Path(folder), 0, 0)
        jobs = -(-kills // (2 * _EACH))
        for seed in range(jobs):
            with tempfile.TemporaryDirectory() as folder:
                survives(basis, Path(folder), whole, _EACH, seed)
        sys.stdout.write(f"reorth={basis!r}: {jobs * _EACH} kills, {jobs} of {jobs} jobs ended with the same bits\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
