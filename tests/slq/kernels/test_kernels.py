"""The two passes and the threaded product: against NumPy, on bad input, and independent of how rows are cut."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal

import slq
from slq import as_operator, gallery
from slq._kernels import _kernels, _threads
from slq._kernels._kernels import CompiledPasses, NumpyPasses, Product
from slq._kernels._kernels_numpy import Grid, Rows


@pytest.fixture(params=["numba", "numpy"])
def passes(request):
    """Give the two implementations of the passes."""
    if request.param == "numba":
        pytest.importorskip("numba")
        return CompiledPasses
    return NumpyPasses


def band(n, dtype=np.float64):
    """Build a matrix of five diagonals."""
    offsets = [-40, -1, 0, 1, 40]
    return scipy.sparse.diags_array(
        [np.full(n - abs(o), 1.0 + abs(o)) for o in offsets], offsets=offsets, format="csr"
    ).astype(dtype)


def blocks(n, k, dtype, count=2, seed=0):
    """Draw row-major blocks."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, k)).astype(dtype) for _ in range(count)]


class TestPasses:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize(("n", "k"), [(50, 1), (1024, 2), (3001, 5), (5000, 16)])
    def test_the_first_is_a_product_a_difference_and_a_dot_product(self, passes, n, k, dtype):
        A, (x, w), rng = band(n, dtype), blocks(n, k, dtype), np.random.default_rng(1)
        scale, back = rng.random(k) + 0.5, rng.random(k)
        expected = scale * (A.astype(float) @ x.astype(float)) - back * w
        sums = passes(Rows(A)).product(x, w, scale, back)
        eps = np.finfo(dtype).eps
        assert_allclose(w, expected, rtol=0, atol=20 * eps * np.abs(expected).max())
        assert_allclose(sums, np.sum(w.astype(float) * x, axis=0), rtol=0, atol=1e-8 * n * np.abs(expected).max())

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("r", [0, 1, 3])
    @pytest.mark.parametrize(("n", "k"), [(50, 1), (1024, 2), (3001, 5), (5000, 16)])
    def test_the_second_is_a_difference_a_norm_and_overlaps(self, passes, n, k, r, dtype):
        x, w = blocks(n, k, dtype)
        references = np.random.default_rng(2).standard_normal((n, r)).astype(dtype)
        factor = np.linspace(0.5, 1.5, k)
        expected = w - factor * x
        sums = passes(Rows(band(n, dtype))).orthogonalise(x, w, factor, references)
        eps = np.finfo(dtype).eps
        assert_allclose(w, expected, rtol=0, atol=20 * eps * np.abs(expected).max())
        assert_allclose(sums[0], np.sum(expected.astype(float) ** 2, axis=0), rtol=20 * eps)
        assert_allclose(sums[1:], references.T.astype(float) @ x, atol=eps * n)

    def test_nothing_depends_on_the_number_of_threads(self, passes):
        A, k = band(40_000), 3
        found = []
        for threads in (1, 2, 5):
            x, w = blocks(40_000, k, np.float64)
            run = passes(Rows(A))
            run._threads = threads
            alpha = run.product(x, w, np.ones(k), np.ones(k))
            found.append((alpha, run.orthogonalise(x, w, alpha, np.zeros((40_000, 0))), w))
        for other in found[1:]:
            for one, two in zip(found[0], other, strict=True):
                assert_array_equal(one, two)

    def test_a_probe_is_the_same_in_every_width_to_rounding(self, passes):
        A, (x, w) = band(3000), blocks(3000, 16, np.float64)
        alone = passes(Rows(A)).product(x[:, :1].copy(), w[:, :1].copy(), np.ones(1), np.ones(1))
        assert_allclose(passes(Rows(A)).product(x, w, np.ones(16), np.ones(16))[0], alone[0], rtol=1e-12)

    def test_sums_of_float32_are_taken_in_float64(self, passes):
        n = 300_000
        x, w = np.full((n, 1), 0.1, np.float32), np.zeros((n, 1), np.float32)
        A = scipy.sparse.eye_array(n, dtype=np.float32, format="csr")
        sums = passes(Rows(A)).product(x, w, np.ones(1), np.zeros(1))
        # NumPy multiplies in float32 before it sums: each term errs by half a rounding, all in the same direction.
        assert sums[0] == pytest.approx(n * float(np.float32(0.1)) ** 2, rel=6e-8)

    @pytest.mark.parametrize("scattered", [False, True])
    def test_fetching_ahead_changes_nothing(self, passes, scattered, monkeypatch):
        monkeypatch.setattr(_kernels, "_NEAR", 0 if scattered else np.inf)
        A, (x, w) = band(2000), blocks(2000, 4, np.float64)
        passes(Rows(A)).product(x, w, np.ones(4), np.zeros(4))
        assert_allclose(w, A @ x, rtol=1e-12, atol=1e-10)


class TestProduct:
    @pytest.mark.parametrize("threads", [1, 3])
    def test_of_a_large_sparse_matrix_is_scipys_to_the_bit(self, threads, monkeypatch):
        monkeypatch.setattr(_threads, "limit", lambda: threads)
        A, (X,) = band(30_000), blocks(30_000, 6, np.float64, 1)
        product = Product(Rows(A))
        assert_array_equal(product(X), A @ X)
        assert_array_equal(product(np.asfortranarray(X)), A @ X)

    def test_of_a_grid_does_not_depend_on_the_blocks(self, monkeypatch):
        monkeypatch.setattr(_threads, "limit", lambda: 3)
        for sides in ((40_000,), (300, 200), (40, 50, 30)):
            grid, n = Grid(sides), int(np.prod(sides))
            (X,) = blocks(n, 3, np.float64, 1)
            assert_array_equal(Product(grid)(X), grid.image(X, 0, n))

    def test_leaves_the_block_as_it_is(self):
        (X,) = blocks(100, 2, np.float64, 1)
        before = X.copy()
        X.flags.writeable = False
        Product(Rows(band(100)))(X)
        Product(Grid((100,)))(X)
        assert_array_equal(X, before)


class TestBadInput:
    def matrix(self):
        """Draw a small symmetric matrix, dense."""
        rng = np.random.default_rng(0)
        dense = rng.standard_normal((60, 60)) * (rng.random((60, 60)) < 0.2)
        return dense + dense.T

    def alpha(self, A):
        """Return the diagonal of a fused run."""
        return slq.lanczos(A, np.ones(60), 6, reorth="none").alpha

    @pytest.fixture(autouse=True)
    def always(self, monkeypatch):
        """Make small matrices worth a fused step."""
        monkeypatch.setattr(_kernels, "_WORTH_FUSING", 0)
        monkeypatch.setattr(_kernels, "_WORTH_NUMBA", 0)

    def test_unsorted_duplicate_and_zero_entries_count_as_they_should(self):
        dense = self.matrix()
        rows, columns = np.nonzero(dense)
        order = np.random.default_rng(1).permutation(3 * len(rows))
        values = np.concatenate([0.25 * dense[rows, columns], 0.75 * dense[rows, columns], np.zeros(len(rows))])
        triples = [np.tile(a, 3)[order] for a in (rows, columns)]
        by_row = np.argsort(triples[0], kind="stable")
        indptr = np.append(0, np.cumsum(np.bincount(triples[0], minlength=60)))
        A = scipy.sparse.csr_array((values[order][by_row], triples[1][by_row], indptr), shape=(60, 60))
        assert not A.has_canonical_format
        assert_allclose(self.alpha(A), slq.lanczos(dense, np.ones(60), 6).alpha, atol=1e-12)
        assert A.nnz == 3 * len(rows)

    def test_read_only_and_strided_arrays_do(self):
        A = scipy.sparse.csr_array(self.matrix())
        expected = self.alpha(A)
        read_only = A.copy()
        for name in ("data", "indices", "indptr"):
            getattr(read_only, name).flags.writeable = False
        strided = A.copy()
        strided.data, strided.indices = np.repeat(A.data, 2)[::2], np.repeat(A.indices, 2)[::2]
        assert_array_equal(self.alpha(read_only), expected)
        assert_array_equal(self.alpha(strided), expected)

    @pytest.mark.parametrize("take", [scipy.sparse.triu, scipy.sparse.tril])
    def test_one_triangle_is_refused_with_the_way_out(self, take):
        A = scipy.sparse.csr_array(self.matrix())
        name = take.__name__
        with pytest.raises(
            ValueError, match=f"{'upper' if name == 'triu' else 'lower'} triangular, .* pass the whole: A "
        ):
            as_operator(take(A, format="csr"))
        half = take(A, format="csr")
        as_operator(half + half.T - scipy.sparse.diags_array(half.diagonal()))

    def test_diagonals_and_zeros_on_one_side_are_no_triangles(self):
        for matrix in (
            scipy.sparse.diags_array(np.arange(5.0), format="csr"),
            scipy.sparse.csr_array((np.zeros(1), ([0], [3])), shape=(5, 5)),
            scipy.sparse.csr_array((5, 5)),
        ):
            np.testing.assert_array_equal(as_operator(matrix).matmat(np.eye(5)), matrix.toarray())

    def test_too_little_memory_for_anything_is_told_with_what_would_do(self):
        A = gallery.laplacian_1d(1000)[0]
        with pytest.raises(
            ValueError, match=r"room for 2 vectors of 1000 numbers; one probe needs 3: 2.4e-05 GB in float64"
        ):
            slq.spectrum(A, memory=8 * 2000)
        assert slq.spectrum(A, probes=1, steps=3, memory=8 * 3000).reorth == "none"


def test_numba_is_imported_only_for_work_that_is_worth_it():
    code = "import slq, sys; slq.spectrum(slq.gallery.laplacian_1d(500)[0], rng=0); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
