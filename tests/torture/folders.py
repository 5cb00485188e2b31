"""What slq reads out of several files at once: right ones, and ones with a change in one of them.

A seed is a mapping of names to contents. The file that tells of another holds its checksum, which is made to match
after most changes, so that what is changed reaches the reader behind it.
"""

import hashlib
import io
import json
import tempfile
import zipfile
import zlib
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse

import slq
from slq._files._shard_folder import MANIFEST
from tests.torture.mutations import changed_json, changed_numbers, damaged, mutate, npy, pick

# The search that checkpoints are of: it restarts, and its proof finds copies.
MATRIX = np.diag(np.repeat([9.0, 8.0, 1.0, -1.0], [3, 2, 10, 9]) + np.linspace(0.0, 1e-3, 24) * (np.arange(24) > 4))
OPTIONS = {"k": 4, "which": "LA", "rng": 0, "basis": 8}
# Looks at the Ritz values after which it is left.
_LOOKS = (1, 7, 12)
SEARCH, BASIS = "search.npz", "search.npz.basis-"


def searches():
    """Return checkpoints of a search that has ended, and of one that was left while it converged or proved."""

    def left(path, looks):
        seen = []
        slq.eigsh(MATRIX, checkpoint=path, callback=lambda pairs: seen.append(pairs) or len(seen) == looks, **OPTIONS)

    ended = _written(lambda folder: slq.eigsh(MATRIX, checkpoint=folder / SEARCH, **OPTIONS))
    return [ended, *(_written(lambda folder, looks=looks: left(folder / SEARCH, looks)) for looks in _LOOKS)]


def shards():
    """Return folders of shards of a sparse matrix in double and in single precision."""
    matrix = scipy.sparse.csr_array(np.array([[2.0, 0, -1, 0], [0, 3, 0, 1], [-1, 0, 4, 0], [0, 1, 0, 5]]))

    def cut(folder, dtype):
        scipy.sparse.save_npz(folder / "matrix.npz", matrix.astype(dtype))
        slq.shard(folder / "matrix.npz", folder / "shards", parts=2)

    return [_written(partial(cut, dtype=dtype), "shards") for dtype in ("f8", "f4")]


def _written(write, within="."):
    """Return what a function writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        files = sorted((Path(folder) / within).iterdir())
        return {file.name: file.read_bytes() for file in files if not file.name.endswith(".lock")}


def changed(generator, files):
    """Return the files with one of them changed, missing or exchanged for another; mostly signed again."""
    files = dict(files)
    name = pick(generator, [*files])
    match int(generator.integers(12)):
        case 0:
            del files[name]
        case 1:
            files[name] = files[pick(generator, [*files])]
        case _:
            files[name] = _changed(generator, name, files[name])
    if generator.random() < 0.1:
        return files
    return _signed_search(files) if name.startswith(BASIS) else _signed_shards(files, name)


def _changed(generator, name, content):
    """Change one file by what it is."""
    if name == MANIFEST and generator.random() < 0.8:
        return changed_json(generator, json.loads(content)).encode("utf-8", "surrogatepass")
    if name == SEARCH and generator.random() < 0.7:
        return _with_header(content, lambda header: _contradicted(generator, header))
    if name.startswith(BASIS) and generator.random() < 0.9:
        return changed_numbers(generator, np.frombuffer(content)).tobytes()
    return damaged(generator, content) if name.startswith(BASIS) else mutate(generator, content)


def _contradicted(generator, header):
    """Change what a header says of the search, of its Krylov space, or of its vectors."""
    facts = header["facts"]
    places = [(facts, "content"), (facts, "vectors"), (facts, "facts"), *[(facts["content"], "space")] * 3]
    where, name = pick(generator, [place for place in places if isinstance(place[0].get(place[1]), dict)])
    with suppress(ValueError, RecursionError):  # what is no JSON any more stays as it was
        where[name] = json.loads(changed_json(generator, deepcopy(where[name])))


def _signed_search(files):
    """Let the archive know its vectors."""
    basis = next((content for name, content in files.items() if name.startswith(BASIS)), b"")

    def sign(header):
        header["facts"]["vectors"] |= {"bytes": len(basis), "crc": zlib.crc32(basis)}

    return files | {SEARCH: _with_header(files[SEARCH], sign)}


def _with_header(data, change):
    """Return an archive with a header that a function has changed in place."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(str(np.load(io.BytesIO(members["header.npy"]))))
    change(header)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in (members | {"header.npy": npy(np.array(json.dumps(header)))}).items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def _signed_shards(files, name):
    """Let the manifest know a part."""
    if name in (MANIFEST, SEARCH) or MANIFEST not in files:
        return files
    manifest, content = json.loads(files[MANIFEST]), files.get(name, b"")
    for part in manifest["parts"]:
        if part["file"] == name:
            part |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return files | {MANIFEST: json.dumps(manifest).encode()}
