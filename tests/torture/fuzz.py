"""Every reader is given files that are almost right: `python -m tests.torture.fuzz mtx 100000` tells what it said.

The loop runs in a process of its own that may take only so much more memory. A file must be read or refused: in time,
by the error that the documentation names, with the name of the file, in a text that can be printed. Whatever else
happens is a finding, and its file is kept. A crash or a hang of the process is one too.
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

KINDS = ("result", "history", "checkpoint", "npz", "mtx", "npy")
# Bytes that one process may take beyond what it takes before it reads, and what the readers are told is free.
LIMIT, FREE = 512 * 2**20, 64 * 2**20
# Seconds that a file of a few kilobytes may take.
SLOW = 5.0
_LONGEST_MESSAGE = 1500
# What the contents of a file are told of as, where they came through: arguments of a run.
_ABOUT = ("`A`", "`memory`", "`checkpoint`")
# Findings kept of one process.
_MOST = 20


@dataclass(frozen=True)
class Fuzzed:
    """What became of the inputs of one reader."""

    kind: str
    inputs: int
    read: int
    refused: int
    findings: tuple[str, ...]

    def __add__(self, other):
        counts = (getattr(self, name) + getattr(other, name) for name in ("inputs", "read", "refused", "findings"))
        return Fuzzed(self.kind, *counts)


def use(kind, path):
    """Read a file and ask what it says."""
    import slq
    from slq._files._sources import operator_from
    from tests.torture.seeds import MATRIX, OPTIONS

    if kind == "result":
        found = slq.load(path)
        return repr(found)
    if kind == "history":
        return repr(slq.History.load(path))
    if kind == "checkpoint":
        return repr(slq.spectrum(MATRIX, checkpoint=path, **OPTIONS))
    operator = operator_from(str(path))
    if operator.shape[0] <= 10**6:
        operator.product(np.ones((operator.shape[0], 1), operator.dtype))
    return ""


def judged(kind, path):
    """Return "read", "refused", or what is wrong with how a file was taken."""
    from slq import RunError

    began = perf_counter()
    try:
        text = use(kind, path)
        verdict = "read"
    except (ValueError, RunError) as error:
        text, verdict = str(error), "refused"
        if path.name not in text and not text.startswith(_ABOUT) and not isinstance(error, RunError):
            return f"the message does not name the file: {type(error).__name__}: {text[:200]}"
        if "MemoryError" in text or "bad_alloc" in text:
            return f"memory ran out: {text[:200]}"
        if len(text) > _LONGEST_MESSAGE:
            return f"a message of {len(text)} characters: {text[:100]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if not all(c.isprintable() or c == "\n" for c in text):
        return f"unprintable: {text[:200]!r}"
    if perf_counter() - began > SLOW:
        return f"{perf_counter() - began:.1f} s"
    return verdict


def suffix(kind, data):
    """Return how the name of such a file ends."""
    return f".{kind}" if kind in ("npy", "mtx") and data[:2] != b"\x1f\x8b" else ".mtx.gz" if kind == "mtx" else ".npz"


def loop(kind, count, seed, folder):
    """Read so many inputs; return the counts and the findings."""
    from slq._files import _archive
    from tests.torture.mutations import mutate
    from tests.torture.seeds import seeds

    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    _archive.free_memory = lambda *_: FREE
    corpus = seeds(kind)
    for data in corpus:
        (path := folder / f"seed{suffix(kind, data)}").write_bytes(data)
        if kind != "mtx":
            assert judged(kind, path) == "read", judged(kind, path)
        path.unlink()
    limited()
    generator, counts, findings = np.random.default_rng([seed, KINDS.index(kind)]), Counter(), []
    for number in range(count):
        data = mutate(generator, corpus[int(generator.integers(len(corpus)))])
        path = folder / f"input{suffix(kind, data)}"
        path.write_bytes(data)
        verdict = judged(kind, path)
        if verdict in ("read", "refused"):
            counts[verdict] += 1
            continue
        findings.append(verdict)
        path.replace(folder / f"finding-{kind}-{seed}-{number}{suffix(kind, data)}")
        if len(findings) >= _MOST:
            count = number + 1
            break
    return Fuzzed(kind, count, counts["read"], counts["refused"], tuple(findings))


def limited():
    """Let this process take so much more memory and no more."""
    if sys.platform != "linux":
        return
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + LIMIT, taken + LIMIT))


def fuzz(kind, count, seed=0, keep=None, seconds=3600.0):
    """Read so many inputs in a process of its own; files of findings go to the folder `keep`."""
    room = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=room) as folder:
        call = [sys.executable, "-m", "tests.torture.fuzz", kind, str(count), str(seed), folder]
        try:
            done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=seconds)
            ending, said = done.returncode, done.stdout
        except subprocess.TimeoutExpired:
            ending, said = f"a hang of {seconds} s", ""
        last = next(Path(folder).glob("input*"), None)
        if ending:
            error = "" if isinstance(ending, str) else done.stderr[-300:]
            found = Fuzzed(kind, 0, 0, 0, (f"the process ended with {ending}: {error}",))
        else:
            fields = json.loads(said.splitlines()[-1])
            found = Fuzzed(**fields | {"findings": tuple(fields["findings"])})
        if found.findings and keep is not None:
            keep.mkdir(exist_ok=True, parents=True)
            for path in [*Path(folder).glob("finding*"), *[last] * bool(ending and last)]:
                (keep / path.name).write_bytes(path.read_bytes())
    return found


def main(kind, count, seed="0", folder=None):
    """Run the loop here, or, where no folder is given, in a process of its own."""
    if folder is None:
        found = fuzz(kind, int(count), int(seed), Path("fuzz-findings"))
        told = f"{found.inputs} inputs, {found.read} read, {found.refused} refused, {len(found.findings)} findings"
        sys.stdout.write("\n".join([told, *found.findings]) + "\n")
    else:
        sys.stdout.write(json.dumps(vars(loop(kind, int(count), int(seed), Path(folder)))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
