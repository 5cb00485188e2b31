"""What works with which array library: one small function per feature, and the table of docs/support.md made of them.

`tests/slq/test_support.py` runs every function on every library that is installed, so a cell of the table says yes
because its function passes there; the same file compares the page with what `python -m tests.support` writes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.sparse

import slq

PAGE = Path(__file__).parent.parent / "docs" / "support.md"
N, PROBES, STEPS = 120, 3, 8

# Columns of the table: what users call the library, and the backend of tests/backends.py.
COLUMNS = {
    "NumPy": "numpy",
    "NumPy, read-only": "read-only numpy",
    "PyTorch": "torch",
    "PyTorch, float32": "torch float32",
    "JAX": "jax float64",
    "JAX, float32": "jax",
    "strict": "array_api_strict",
    "strict, no float64": "array_api_strict without float64",
    "CuPy": "cupy",
}
NOT_RUN = {"cupy"}
FEATURES = []


@dataclass(frozen=True)
class Feature:
    """One row: a phrase, the function that raises where it does not hold, and the libraries that lack what it needs."""

    phrase: str
    run: Callable
    lacking: tuple[str, ...] = field(default=())

    def applies_to(self, name):
        """Whether the library of a backend has what the feature needs."""
        return not name.startswith(self.lacking) if self.lacking else True


def feature(phrase, lacking=()):
    """Note the decorated function as a row of the table."""

    def note(function):
        FEATURES.append(Feature(phrase, function, lacking))
        return function

    return note


@feature("dense matrix: nodes and weights are NumPy's")
def dense(backend):
    same_rules(backend, backend.asarray(matrix()), matrix())


@feature("sparse matrix of its own: the same as SciPy's", lacking=("array_api_strict",))
def sparse(backend):
    same_rules(backend, sparse_of(backend, path()), path())


@feature("callable with `like=`")
def function(backend):
    A = backend.asarray(matrix())
    same_rules(backend, slq.as_operator(lambda v: A @ v, n=N, like=A[0, :]), matrix())


@feature("object with `matmat`")
def object_of_the_protocol(backend):
    class Wrapped:
        shape, dtype, xp, device = (N, N), backend.dtype, backend.xp, backend.device
        array = backend.asarray(matrix())

        def matmat(self, X, /):
            return self.array @ X

    same_rules(backend, Wrapped(), matrix())


@feature("integer matrix")
def integers(backend):
    values = np.arange(float(N))
    A = backend.xp.asarray(np.diag(np.arange(N)), device=backend.device)
    same_rules(backend, A, np.diag(values), tolerance=max(backend.tolerance, 1e-4 if without_float64(backend) else 0.0))


@feature("float16 matrix, multiplied in float32", lacking=("array_api_strict",))
def halves(backend):
    values = np.arange(float(N))
    A = backend.asarray(np.diag(values), dtype=backend.xp.float16)
    same_rules(backend, A, np.diag(values), tolerance=1e-4)


@feature('recurrence of three terms (`reorth="none"`)')
def short_recurrence(backend):
    same_rules(backend, backend.asarray(matrix()), matrix(), reorth="none")


@feature('probes of signs (`kind="rademacher"`)')
def signs(backend):
    same_rules(backend, backend.asarray(matrix()), matrix(), kind="rademacher")


@feature("probes one by one are probes together")
def batches(backend):
    A = backend.asarray(matrix())
    for one, many in zip(rules(A, batch=1), rules(A, batch=PROBES), strict=True):
        close(one, many, backend.tolerance)


@feature("tolerance in, products out")
def tolerance(backend):
    run = slq.spectrum(backend.asarray(matrix()), tol=0.05, rng=0)
    found = run.quantile((np.arange(N) + 0.5) / N).value
    assert np.abs(found - eigenvalues()).mean() < 0.05 * np.ptp(eigenvalues())


@feature("intervals of traces and counts")
def questions(backend):
    run = slq.spectrum(backend.asarray(matrix()), probes=6, steps=12, rng=0)
    logdet, count = run.logdet(), run.count(3.0, 5.0)
    assert logdet.low <= np.log(eigenvalues()).sum() <= logdet.high
    assert count.low <= 1.0 <= count.high


@feature("more probes and steps later (`extend`)")
def extension(backend):
    A = backend.asarray(matrix())
    longer = slq.spectrum(A, probes=1, steps=4, rng=1).extend(A, probes=2, steps=6)
    whole = slq.spectrum(A, probes=2, steps=6, rng=1)
    close(longer.nodes, whole.nodes, backend.tolerance)


@feature('past vectors kept in float16 (`basis="float16"`)', lacking=("array_api_strict",))
def coarse_basis(backend):
    same_rules(backend, backend.asarray(matrix()), matrix(), tolerance=1e-4, reorth="full", basis="float16")


@feature("eigenpairs (`slq.eigsh`)")
def eigenpairs(backend):
    pairs = slq.eigsh(backend.asarray(matrix()), 2, which="LA", rng=0)
    close(pairs.values, eigenvalues()[-2:], backend.tolerance)


@feature("f(A) b (`slq.apply`)")
def application(backend):
    b = np.ones(N)
    applied = slq.apply(backend.asarray(matrix()), backend.asarray(b), "log", steps=30)
    values, vectors = np.linalg.eigh(matrix())
    close(backend.to_numpy(applied.value), vectors @ (np.log(values) * (vectors.T @ b)), max(backend.tolerance, 1e-8))


@feature("traces from sketches (`slq.xtrace`)")
def sketches(backend):
    estimate = slq.xtrace(backend.asarray(matrix()), products=60, rng=0)
    assert estimate.low <= np.trace(matrix()) <= estimate.high


@feature("the doctor (`slq.check`)")
def doctor(backend):
    assert slq.check(backend.asarray(matrix()))
    assert not slq.check(backend.asarray(np.triu(matrix())))


def eigenvalues():
    """Return the spectrum of the test matrix: a bulk in [1, 2] and one outlier."""
    return np.append(np.linspace(1.0, 2.0, N - 1), 4.0)


def matrix():
    """Return a dense symmetric matrix with those eigenvalues."""
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))
    return (q * eigenvalues()) @ q.T


def path():
    """Return the Laplacian of a path as a SciPy matrix."""
    return scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(N, N), format="csr")


def sparse_of(backend, A):
    """Return a SciPy matrix as a sparse matrix of the backend's library."""
    if backend.name.endswith("numpy"):
        return A
    if backend.name.startswith("torch"):
        return backend.asarray(A.toarray()).to_sparse_coo()
    if backend.name.startswith("jax"):
        from jax.experimental.sparse import BCOO

        return BCOO.fromdense(backend.asarray(A.toarray()))
    from cupyx.scipy.sparse import csr_matrix

    return csr_matrix(A)


def without_float64(backend):
    """Whether the device of a backend has no float64 at all."""
    return backend.name in ("array_api_strict without float64", "jax")


def rules(A, **options):
    """Return nodes and weights of a run of fixed length."""
    run = slq.spectrum(A, probes=PROBES, steps=STEPS, rng=1, **options)
    return run.nodes, run.weights


def same_rules(backend, A, expected, tolerance=None, **options):
    """Compare nodes and weights with those of the same matrix in NumPy."""
    for found, reference in zip(rules(A, **options), rules(expected, **options), strict=True):
        close(found, reference, backend.tolerance if tolerance is None else tolerance)


def close(found, expected, tolerance):
    """Compare arrays, relative to the largest number."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def page():
    """Return the page of the docs."""
    lines = [
        "# What works with which array library",
        "",
        "Written by `python -m tests.support`; do not edit. A cell says *yes* because a test of that name passes there",
        "with every change of slq: nodes and weights agree with NumPy's to 1e-10 of the largest in float64, to 1e-4",
        "in float32. *strict* is array-api-strict, which has nothing but what the array API standard names; *no",
        "float64* is its device without float64, as on Apple's GPUs. A dash: the library has nothing of the kind.",
        "*Not run*: it needs a GPU, which the tests have not met yet; there `pytest -m gpu` runs them. `slq info`",
        "tells what works on your machine.",
        "",
        "|  | " + " | ".join(COLUMNS) + " |",
        "| --- |" + " --- |" * len(COLUMNS),
    ]
    for row in FEATURES:
        cells = ["–" if not row.applies_to(n) else "not run" if n in NOT_RUN else "yes" for n in COLUMNS.values()]
        lines.append(f"| {row.phrase} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
