"""Files that are right, of every kind that slq reads: what the mutations begin with. All small, made by code."""

import gzip
import io
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse

import slq
from slq._files import _store
from tests.torture import folders

GOLDEN = Path(__file__).parents[1] / "golden"
# The run that checkpoints are of.
MATRIX = np.diag([9.0, -8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
OPTIONS = {"probes": 2, "steps": 3, "rng": 0, "batch": 1, "reorth": "none"}
TEXTS = [
    "%%MatrixMarket matrix coordinate real symmetric\n% made by hand\n3 3 4\n1 1 2.0\n2 2 3.0\n3 1 -1\n3 3 4e0\n",
    "%%MatrixMarket matrix coordinate pattern general\n2 2 2\n1 2\n2 1\n",
    "%%MatrixMarket matrix array integer general\n2 2\n1\n2\n2\n5\n",
    "%%MatrixMarket matrix coordinate complex hermitian\n2 2 2\n1 1 1 0\n2 1 0 1\n",
    "%%MatrixMarket matrix array real skew-symmetric\n3 3\n1\n2\n3\n",
]


@cache
def seeds(kind):
    """Return the files of one kind, as bytes; those that lie in several, as mappings of names to bytes."""
    return {
        "result": results,
        "history": histories,
        "checkpoint": checkpoints,
        "search": folders.searches,
        "shards": folders.shards,
        "npz": sparse,
        "mtx": texts,
        "npy": dense,
    }[kind]()


def _written(write, name="file.npz"):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


def _runs():
    few = slq.spectrum(MATRIX, probes=2, steps=3, rng=0)
    many = slq.spectrum(np.diag(np.r_[np.ones(40), 7.0, 8.0]), probes=3, steps=12, rng=1)
    return [few, many, slq.spectrum(MATRIX, rng=0), slq.spectrum(MATRIX + 0j, probes=1, steps=4, rng=2)]


def _golden(kind):
    return [path.read_bytes() for path in sorted(GOLDEN.glob(f"{kind}-*.npz"))]


def results():
    """Return results: short, with outliers, of all columns, of a complex matrix; and those of earlier formats."""
    return [*(_written(run.save) for run in _runs()), *_golden("result")]


def histories():
    """Return histories: with spectra, without, with arrays and notes; and those of earlier formats."""
    runs, whole, bare = _runs(), slq.History(metadata={"model": "a"}), slq.History()
    for step, run in enumerate([runs[0], None, runs[3]]):
        whole = whole.append(step, run, arrays={"top": np.arange(step + 1.0)}, note="odd" * step, loss=1.0 / (step + 1))
        bare = bare.append(10 * step, loss=float(step))
    return [_written(whole.save), _written(bare.save), *_golden("history")]


def checkpoints():
    """Return checkpoints of a run that has ended, of one that goes on, and with columns of the matrix."""

    def begun(path):
        slq.spectrum(MATRIX, checkpoint=path, callback=lambda _: True, **OPTIONS)

    def with_columns(path):
        slq.spectrum(MATRIX, checkpoint=path, **OPTIONS)
        with _store.opened(path, _store.CHECKPOINT) as (arrays, header):
            known, facts = dict(arrays), dict(header)
        _store.write(path, known | {"columns": MATRIX[:, :5]}, facts, kind=_store.CHECKPOINT)

    return [
        _written(lambda path: slq.spectrum(MATRIX, checkpoint=path, **OPTIONS)),
        *map(_written, (begun, with_columns)),
    ]


def sparse():
    """Return sparse matrices in each of SciPy's forms."""
    matrix = scipy.sparse.csr_array(np.array([[2.0, 0, -1], [0, 3, 0], [-1, 0, 4]]))
    forms = [matrix, matrix.tocsc(), matrix.tocoo(), matrix.todia(), matrix.tobsr((1, 1))]
    packed = [_written(lambda path, x=x: scipy.sparse.save_npz(path, x, compressed=False)) for x in forms]
    return [*packed, _written(lambda path: scipy.sparse.save_npz(path, matrix))]


def texts():
    """Return Matrix Market files, plain and packed."""
    plain = [text.encode() for text in TEXTS]
    return [*plain, *(gzip.compress(text, 1) for text in plain[:2])]


def dense():
    """Return arrays."""
    arrays = [
        np.diag([1.0, 2.0]),
        np.asfortranarray(np.eye(3, dtype=np.float32)),
        np.eye(2, dtype=np.int64),
        np.eye(2) + 0j,
    ]
    streams = [io.BytesIO() for _ in arrays]
    for stream, array in zip(streams, arrays, strict=True):
        np.save(stream, array)
    return [stream.getvalue() for stream in streams]
