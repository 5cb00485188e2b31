"""The fused step gives the numbers of the plain one, whatever reads the matrix, and ends where it ends."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

import slq
from slq import as_operator, gallery
from slq._errors import RunError
from slq._kernels import _kernels
from slq._lanczos._fused import Fused
from slq._lanczos._host import HostKrylov
from slq._lanczos._lanczos import LanczosRun
from slq._lanczos._probes import probes


@pytest.fixture(params=["numba", "numpy"])
def fused(request, monkeypatch):
    """Make every matrix worth a fused step, by numba or without it."""
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setattr(_kernels, "_WORTH_FUSING", 0)
    monkeypatch.setattr(_kernels, "_WORTH_NUMBA", 0 if request.param == "numba" else np.inf)


def sparse(n=203, per_row=7, seed=0, dtype=np.float64):
    """Draw a sparse symmetric matrix with an empty row and one nearly full."""
    rng = np.random.default_rng(seed)
    rows, columns = np.repeat(np.arange(n), per_row), rng.integers(0, n, n * per_row)
    half = scipy.sparse.coo_array((rng.standard_normal(n * per_row), (rows, columns)), shape=(n, n)).tolil()
    half[5] = rng.standard_normal(n) * (rng.random(n) < 0.9)
    half[9], half[:, [9]] = 0, 0
    half = half.tocsr()
    return ((half + half.T) / per_row).astype(dtype)


def run_of(A, k=3, steps=8, *, seed=0, **options):
    """Make a run without a basis."""
    operator = as_operator(A)
    start = probes(operator.n, range(k), seed=seed).astype(operator.dtype)
    run = LanczosRun(operator, start, reorth="none", **options)
    run.advance(steps)
    return run


def plain(A, k=3, steps=8, **options):
    """Make the same run with products that no fused step can read."""
    operator = as_operator(A)
    hidden = as_operator(lambda X: operator.product(X), n=operator.n, like=np.zeros(1, operator.dtype), block=True)
    run = run_of(hidden, k, steps, **options)
    assert isinstance(run._krylov, HostKrylov)
    return run


def assert_same_run(run, other, eps=2.0**-52):
    """Compare all that two runs found; rounding grows with the steps."""
    T, U = run.tridiagonal(), other.tridiagonal()
    scale = np.max(np.abs(U.alpha) + U.beta)
    assert_array_equal(T.lengths, U.lengths)
    assert_allclose(T.alpha / scale, U.alpha / scale, rtol=0, atol=4000 * eps)
    assert_allclose(T.beta / scale, U.beta / scale, rtol=0, atol=4000 * eps)
    assert_allclose(T.overlaps, U.overlaps, rtol=0, atol=40_000 * eps)
    assert run.products == other.products


@pytest.mark.usefixtures("fused")
class TestTheSameNumbers:
    @pytest.mark.parametrize("k", [1, 2, 3, 8, 13, 16, 33, 65])
    def test_for_every_number_of_probes(self, k):
        A = sparse()
        run = run_of(A, k)
        assert isinstance(run._krylov, Fused)
        assert_same_run(run, plain(A, k))

    @pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 1023, 1024, 1025, 2049])
    def test_for_every_size(self, n):
        A = scipy.sparse.diags_array([np.linspace(1, 2, n), np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1, -1])
        assert_same_run(run_of(A.tocsr(), 2, 6), plain(A.tocsr(), 2, 6))

    @pytest.mark.parametrize("index", [np.int32, np.int64])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("make", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
    def test_for_every_dtype_of_entries_and_indices(self, dtype, index, make):
        A = make(sparse(dtype=dtype))
        A.indices, A.indptr = A.indices.astype(index), A.indptr.astype(index)
        assert_same_run(run_of(A, 3, 5), plain(sparse(), 3, 5), np.finfo(dtype).eps)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("k", [1, 2, 5])
    @pytest.mark.parametrize(
        "sides", [(1,), (40,), (7, 5), (1, 33), (33, 1), (4, 5, 6), (1, 1, 50), (3, 40, 2)], ids=str
    )
    def test_for_grids(self, sides, k, dtype):
        A = [gallery.laplacian_1d, gallery.laplacian_2d, gallery.laplacian_3d][len(sides) - 1](*sides, dtype=dtype)[0]
        assert_same_run(run_of(A, k, 5), plain(A, k, 5), np.finfo(dtype).eps)

    def test_with_references(self):
        A, vectors = sparse(), probes(203, range(4), seed=3)
        assert_same_run(run_of(A, references=vectors), plain(A, references=vectors))

    @pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
    def test_at_extreme_scales(self, scale):
        A = sparse()
        T, U = run_of(scale * A).tridiagonal(), run_of(A).tridiagonal()
        assert_allclose(T.alpha / scale, U.alpha, atol=1e-13)
        assert_allclose(T.beta / scale, U.beta, atol=1e-13)

    def test_of_asymmetry(self):
        A = sparse()
        A.data[:50] *= 1.5
        run, other = run_of(A, 4, 1), plain(A, 4, 1)
        assert run.asymmetry == pytest.approx(other.asymmetry, rel=1e-8)
        assert run.asymmetry > 1e-3

    def test_of_a_spectrum(self):
        A = sparse()
        T = slq.spectrum(A, probes=3, steps=12, reorth="none", rng=1)
        wrapped = replace(as_operator(lambda X: A @ X, n=203, block=True), traces=as_operator(A).traces)
        hidden = slq.spectrum(wrapped, probes=3, steps=12, reorth="none", rng=1)
        assert_allclose(T.alpha, hidden.alpha, atol=1e-12)
        assert_allclose(float(T.trace(np.exp)), float(hidden.trace(np.exp)), rtol=1e-10)


@pytest.mark.usefixtures("fused")
class TestTheSameEnds:
    def test_a_probe_that_ends_leaves_the_others_as_they_are(self):
        A = scipy.sparse.diags_array(np.arange(1.0, 31.0), format="csr")
        start = np.stack([np.eye(30)[4], np.ones(30) / np.sqrt(30), (np.eye(30)[0] + np.eye(30)[9]) / np.sqrt(2)])
        run = LanczosRun(as_operator(A), start, reorth="none")
        run.advance(12)
        assert run.tridiagonal().lengths.tolist() == [1, 12, 2]
        assert_allclose(run.tridiagonal().alpha[1], slq.lanczos(A.toarray(), np.ones(30), 12).alpha[0], atol=1e-9)

    @pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
    def test_of_a_multiple_of_the_identity(self, value):
        T = run_of(value * scipy.sparse.eye_array(50, format="csr")).tridiagonal()
        assert T.lengths.tolist() == [1] * 3
        assert_allclose(T.alpha, value, atol=1e-14)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_not_finite_is_told_of(self, bad):
        A = sparse()
        A.data[100] = bad
        with pytest.raises(RunError, match="NaN or Inf for probe 0 at step 1"):
            run_of(A)

    def test_start_vectors_are_not_written_over_unless_they_are_given_away(self):
        A, start = sparse(), probes(203, range(3), seed=0)
        before = start.copy()
        run = LanczosRun(as_operator(A), start, reorth="none")
        run.advance(4)
        assert_array_equal(start, before)
        given = LanczosRun(as_operator(A), start, reorth="none", owned=True)
        given.advance(4)
        assert_array_equal(given.tridiagonal().alpha, run.tridiagonal().alpha)

    @pytest.mark.parametrize("size", [1.0, 1e200])
    def test_a_run_that_drops_its_basis_goes_on_fused(self, size):
        A = size * sparse()
        run = LanczosRun(as_operator(A), probes(203, range(3), seed=0), reorth="full")
        run.advance(4)
        run.drop_basis()
        assert isinstance(run._krylov, Fused)
        run.advance(4)
        assert run.combine(0, np.eye(4)) is None
        assert_allclose(run.tridiagonal().alpha / size, plain(sparse()).tridiagonal().alpha, atol=1e-12)

    def test_the_newest_vectors_are_unit_rows(self):
        run = run_of(sparse())
        assert_allclose(np.linalg.norm(run._krylov.current, axis=1), 1.0, rtol=1e-14)


class TestWhatIsNotFused:
    def test_small_matrices_are_not_worth_it(self):
        assert isinstance(run_of(sparse())._krylov, HostKrylov)

    @pytest.mark.usefixtures("fused")
    def test_stored_vectors_another_precision_or_another_product_are_left_to_the_plain_step(self):
        A = as_operator(sparse())
        start = probes(203, range(2), seed=0)
        wrapped = as_operator(lambda X: A.product(X), n=203, block=True)
        for operator, rows, reorth in (
            (A, start, "full"),
            (A, start.astype(np.float32), "none"),
            (wrapped, start, "none"),
        ):
            assert isinstance(LanczosRun(operator, rows, reorth=reorth)._krylov, HostKrylov)
