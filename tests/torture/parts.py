"""The parts of the torture: each returns jobs, a job returns rows of the table. Jobs work in processes of their own."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tests.torture.fuzz import KINDS, fuzz
from tests.torture.kills import JOBS, result, survives

ROOT = Path(__file__).parents[2]
# Kills in all, and of one job before it is let end; inputs per reader, and of one process; short runs.
KILLS, EACH, INPUTS, PIECE, RUNS = 200, 5, 100_000, 12_500, 1000
QUICK = 20
# A search that goes on from its file takes as long as ten others take to be read.
FEWER = {"search": 10}
# Seconds of the run beside which the writing of its checkpoint is timed, and the share that it may take.
SECONDS, DEAR = 40, 0.02
# Percent of the branches of the core that tests must take, and seconds that these tests may run under coverage.py.
ENOUGH, LONGEST = 95, 5400
COVERED = "branches of slq/"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    tried: int
    outcome: str
    problems: list[str]
    counts: dict[str, int] = field(default_factory=dict)


def summed(rows):
    """Add up rows of one name."""
    found: dict[str, Row] = {}
    for row in rows:
        before = found.get(row.what)
        if before is None:
            found[row.what] = row
            continue
        counts = {name: before.counts.get(name, 0) + count for name, count in row.counts.items()}
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items()) or row.outcome
        found[row.what] = replace(
            before, tried=before.tried + row.tried, outcome=told, problems=before.problems + row.problems, counts=counts
        )
    return list(found.values())


def _counted(what, tried, problems, **counts):
    return Row(what, tried, ", ".join(f"{count:,} {name}" for name, count in counts.items()), problems, counts)


def elsewhere(name, *arguments):
    """Run a function of this module in a process of its own and return its rows."""
    call = [sys.executable, "-m", "tests.torture.parts", name, *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        return [Row(name, 0, "did not end", [done.stderr[-600:]])]
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


# -- kills --------------------------------------------------------------------------------------------------------


def kills(*, quick: bool) -> list[Callable]:
    """Kill jobs of all kinds at random instants."""
    jobs = max(1, KILLS // (EACH * len(JOBS)) // (QUICK if quick else 1))
    return [partial(_killed, name, jobs) for name in JOBS]


def _killed(name, jobs):
    with tempfile.TemporaryDirectory() as folder:
        whole = result(JOBS[name], Path(folder))
    problems = []
    for seed in range(jobs):
        with tempfile.TemporaryDirectory() as folder:
            try:
                survives(JOBS[name], Path(folder), whole, EACH, seed)
            except AssertionError as error:
                problems.append(f"{name}, seed {seed}: {error}")
    good = (jobs - len(problems)) * EACH
    return [_counted(f"kills: {name}", jobs * EACH, problems, **{"recovered to the same bits": good})]


# -- files --------------------------------------------------------------------------------------------------------


def fuzzed(*, quick: bool) -> list[Callable]:
    """Give every reader files that are almost right."""
    jobs = []
    for kind in KINDS:
        fewer = FEWER.get(kind, 1)
        inputs, piece = INPUTS // fewer // (QUICK if quick else 1), PIECE // fewer
        jobs += [partial(_fuzzed, kind, min(piece, inputs - i * piece), i) for i in range(-(-inputs // piece))]
    return jobs


def _fuzzed(kind, count, seed):
    found = fuzz(kind, count, seed, keep=ROOT / "fuzz-findings")
    counts = {"read": found.read, "refused": found.refused}
    return [_counted(f"files: {kind}", found.inputs, list(found.findings), **counts)]


# -- numbers ------------------------------------------------------------------------------------------------------


def killers(*, quick: bool) -> list[Callable]:
    """Judge every function on every input that hurts."""
    return [partial(elsewhere, "_killers")] * (not quick)


def properties(*, quick: bool) -> list[Callable]:
    """Try every property on many random matrices."""
    return [partial(elsewhere, "_properties")] * (not quick)


def _there(module, what):
    """Return a module, or a row that says that it is not there."""
    if find_spec(module.rpartition(".")[0]) is None or find_spec(module) is None:
        return None, [Row(what, 0, "not there", [])]
    return __import__(module, fromlist=["at_length"]), []


def _killers():
    module, rows = _there("tests.killers.table", "cells of killers")
    if module is None:
        return rows
    found = module.at_length()
    cells, right, warned, refused = (sum(row[i] for row in found) for i in range(1, 5))
    wrong = [problem for row in found for problem in row[5]]
    return [_counted("cells of killers", cells, wrong, right=right, warned=warned, refused=refused)]


def _properties():
    module, rows = _there("tests.properties.test_properties", "examples of properties")
    if module is None:
        return rows
    found = module.at_length()
    wrong = [f"{name}: {problem}" for name, _, problem in found if problem]
    return [_counted("examples of properties", sum(row[1] for row in found), wrong, properties=len(found))]


# -- resources ----------------------------------------------------------------------------------------------------


def resources(*, quick: bool) -> list[Callable]:
    """Count what short runs leave, and watch the memory of long ones."""
    runs = RUNS // (QUICK if quick else 1)
    parts = [("_left", runs), ("_graphs", runs), ("_memory",), ("_writing", SECONDS // (4 if quick else 1))]
    return [partial(elsewhere, *part) for part in parts]


def _left(runs):
    from tests.torture.resources import flat, left, short_run

    return [_leak("short runs", int(runs), found := left(int(runs), short_run), flat(found))]


def _graphs(runs):
    from tests.torture.resources import flat, graphs, left, short_hessian

    if find_spec("torch") is None:
        return [Row("short runs of a Hessian", 0, "torch is not there", [])]
    before = graphs()
    found = left(int(runs), short_hessian)
    return [_leak("short runs of a Hessian", int(runs), found, flat(found) and graphs() <= before)]


def _leak(what, runs, found, good):
    told = "{} descriptors, {} threads, {} objects, {:.1f} MB left".format(*found[:3], found[3] / 1e6)
    return Row(what, runs, told, [] if good else [told])


def _writing(seconds):
    from tests.torture.resources import writing

    share, often = writing(float(seconds))
    told = f"{100 * share:.2g} % of a run of {seconds} s"
    return [Row("writing of checkpoints", often, told, [] if share < DEAR else [told])]


def _memory():
    from tests.torture.resources import BYTES, watched

    rows, limit = [], 48 * 2**20
    for basis in ("auto", "none"):
        taken, _ = watched(400_000, limit, basis)
        told = f"{taken / 1e6:.0f} MB taken of memory={limit / 1e6:.0f} MB"
        good = taken < 1.25 * limit + BYTES
        rows.append(Row(f'memory watched, reorth="{basis}"', 1, told, [] if good else [told]))
    return rows


# -- coverage -----------------------------------------------------------------------------------------------------


def coverage():
    """Run all tests that reach the core under coverage.py and judge the share of its branches that they take."""
    report = ROOT / ".coverage.json"
    report.unlink(missing_ok=True)
    call = [sys.executable, "-m", "pytest", "-n2", "-q", "--cov", f"--cov-report=json:{report}", "tests", "slq"]
    try:
        done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=ROOT, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return [Row(COVERED, 0, "did not end", [f"longer than {LONGEST / 60:.0f} minutes"])]
    if not report.exists():
        return [Row(COVERED, 0, "did not run", [done.stdout[-600:] + done.stderr[-600:]])]
    totals = json.loads(report.read_text(encoding="utf-8"))["totals"]
    return [_covered(totals, done.stdout if done.returncode else "")]


def _covered(totals, failed):
    """Return the row of what was covered; failing tests are its problem too."""
    share = 100 * totals["covered_branches"] / totals["num_branches"]
    told = f"{share:.1f} % taken, {totals['percent_covered']:.1f} % of lines and branches"
    problems = [f"below {ENOUGH} %"] * (share < ENOUGH) + [failed[-600:]] * bool(failed)
    return Row(COVERED, totals["num_branches"], told, problems)


if __name__ == "__main__":
    rows = globals()[sys.argv[1]](*sys.argv[2:])
    sys.stdout.write(json.dumps([asdict(row) for row in rows]) + "\n")
