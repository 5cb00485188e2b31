"""The long version of what the tests do shortly: `python -m tests.torture` prints one table of all of it.

Jobs are killed, readers are given files that are almost right, killers and properties are tried at length, and runs are
watched for what they take and leave, two things at a time. `--quick` does a twentieth; `--coverage` also runs all
tests that reach the core under coverage.py, which takes longer than all the rest; words name parts: kills, fuzz,
killers, properties, resources. The exit status is 1 where anything came out wrong.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.torture import parts

PARTS = {
    "kills": parts.kills,
    "fuzz": parts.fuzzed,
    "killers": parts.killers,
    "properties": parts.properties,
    "resources": parts.resources,
}


def main(arguments):
    """Run the parts that are asked for and print the table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a twentieth of it")
    parser.add_argument("--coverage", action="store_true", help="branch coverage of slq/ by the tests, too")
    asked = parser.parse_args(arguments)
    chosen = [make for name, make in PARTS.items() if name in (asked.parts or PARTS)]
    jobs = [job for make in chosen for job in make(quick=asked.quick)] + [parts.coverage] * asked.coverage
    began = time.monotonic()
    rows = []
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(_alone, jobs):
            rows += found
            for row in found:  # so that a long run that is stopped has said what it saw
                sys.stderr.write(f"{row.what}: {row.tried:,} tried, {row.outcome}, {len(row.problems)} problems\n")
                sys.stderr.writelines(f"  {problem}\n" for problem in row.problems)
    rows = parts.summed(rows)
    sys.stdout.write(table(rows))
    sys.stdout.write(f"\n{(time.monotonic() - began) / 60:.0f} minutes\n")
    for row in rows:
        sys.stdout.writelines(f"\n{row.what}: {problem}\n" for problem in row.problems)
    return int(any(row.problems for row in rows))


def _alone(job):
    """Run one part; what it raises is its problem."""
    try:
        return job()
    except Exception as error:
        return [parts.Row(getattr(job, "__name__", "a part"), 0, "did not run", [f"{type(error).__name__}: {error}"])]


def table(rows):
    """Return the rows as a table of Markdown."""
    lines = ["| what | tried | came out | problems |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.what} | {row.tried:,} | {row.outcome} | {len(row.problems)} |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
