"""Every reader is given files that are almost right: `python -m tests.torture.fuzz mtx 100000` tells what it said.

The loop runs in a process of its own that may take only so much more memory. A file must be read or refused: in time,
by the error that the documentation names, with the name of the file, in a text that can be printed. Whatever else
happens is a finding, and its file is kept. A crash or a hang of the process is one too.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np

KINDS = ("result", "history", "checkpoint", "search", "shards", "npz", "mtx", "npy")
# Bytes that one process may take beyond what it takes before it reads, and what the readers are told is free.
LIMIT, FREE = 512 * 2**20, 64 * 2**20
# Seconds of the processor that a file of a few kilobytes may take.
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
    from slq._files._shard_folder import shards_in
    from slq._files._sources import operator_from
    from tests.torture import folders
    from tests.torture.seeds import MATRIX, OPTIONS

    if kind == "result":
        found = slq.load(path)
        return repr(found)
    if kind == "history":
        return repr(slq.History.load(path))
    if kind == "checkpoint":
        return repr(slq.spectrum(MATRIX, checkpoint=path, **OPTIONS))
    if kind == "search":
        return repr(slq.eigsh(folders.MATRIX, checkpoint=path / folders.SEARCH, **folders.OPTIONS))
    if kind == "shards":
        matrix = (found := shards_in(path)).matrix()
        matrix @ np.ones(matrix.shape[1], matrix.dtype)
        return repr(found)
    operator = operator_from(str(path))
    if operator.shape[0] <= 10**6:
        operator.product(np.ones((operator.shape[0], 1), operator.dtype))
    return ""


def judged(kind, path):
    """Return "read", "refused", or what is wrong with how a file was taken."""
    from slq import RunError

    began = process_time()
    try:
        text = use(kind, path)
        verdict = "read"
    except (ValueError, RunError) as error:
        text, verdict = str(error), "refused"
        if path.name not in text and not text.startswith(_ABOUT) and not isinstance(error, RunError):
            return f"the message does not name the file: {type(error).__name__}: {text[:200]}"
        if isinstance(error, RunError) and "was ended by" in text:
            return f"a run that could not be: {text[:200]}"
        if "MemoryError" in text or "bad_alloc" in text:
            return f"memory ran out: {text[:200]}"
        if len(text) > _LONGEST_MESSAGE:
            return f"a message of {len(text)} characters: {text[:100]}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    if not all(c.isprintable() or c == "\n" for c in text):
        return f"unprintable: {text[:200]!r}"
    if process_time() - began > SLOW:
        return f"{process_time() - began:.1f} s"
    return verdict


def put(kind, data, folder, name):
    """Write an input, a file or a folder of several, and return its path."""
    path = folder / f"{name}{suffix(kind, data)}"
    if isinstance(data, bytes):
        path.write_bytes(data)
        return path
    path.mkdir()
    for file, content in data.items():
        (path / file).write_bytes(content)
    return path


def removed(path):
    """Remove an input."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def suffix(kind, data):
    """Return how the name of such a file ends."""
    if isinstance(data, dict):
        return ""
    return f".{kind}" if kind in ("npy", "mtx") and data[:2] != b"\x1f\x8b" else ".mtx.gz" if kind == "mtx" else ".npz"


def loop(kind, count, seed, folder):
    """Read so many inputs; return the counts and the findings."""
    from slq._files import _archive
    from tests.torture import folders
    from tests.torture.mutations import mutate
    from tests.torture.seeds import seeds

    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    _archive.free_memory = lambda *_: FREE
    corpus = seeds(kind)
    for data in corpus:
        path = put(kind, data, folder, "seed")
        if kind != "mtx":
            assert (verdict := judged(kind, path)) == "read", verdict
        removed(path)
    limited()
    generator, counts, findings = np.random.default_rng([seed, KINDS.index(kind)]), Counter(), []
    for number in range(count):
        seed_of_it = corpus[int(generator.integers(len(corpus)))]
        data = (mutate if isinstance(seed_of_it, bytes) else folders.changed)(generator, seed_of_it)
        path = put(kind, data, folder, "input")
        verdict = judged(kind, path)
        if verdict in ("read", "refused"):
            counts[verdict] += 1
            removed(path)
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
                (shutil.copytree if path.is_dir() else shutil.copyfile)(path, keep / path.name)
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
