"""The gallery is what everything else is measured with, so it is checked against dense matrices."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from slq import gallery

CASES = {
    "semicircle": lambda **kw: gallery.semicircle(60, **kw),
    "semicircle, odd": lambda **kw: gallery.semicircle(41, radius=3.0, **kw),
    "semicircle, n = 1": lambda **kw: gallery.semicircle(1, **kw),
    "marchenko_pastur": lambda **kw: gallery.marchenko_pastur(50, **kw),
    "marchenko_pastur, c = 1": lambda **kw: gallery.marchenko_pastur(33, ratio=1.0, **kw),
    "marchenko_pastur, c = 2": lambda **kw: gallery.marchenko_pastur(51, ratio=2.0, **kw),
    "marchenko_pastur, spikes": lambda **kw: gallery.marchenko_pastur(40, ratio=0.1, spikes=[3.0, 8.0, 8.0], **kw),
    "marchenko_pastur, spikes over an atom": lambda **kw: gallery.marchenko_pastur(40, ratio=4.0, spikes=[5.0], **kw),
    "marchenko_pastur, only spikes": lambda **kw: gallery.marchenko_pastur(2, ratio=0.5, spikes=[3.0, 4.0], **kw),
    "laplacian_1d": lambda **kw: gallery.laplacian_1d(31, **kw),
    "laplacian_1d, even": lambda **kw: gallery.laplacian_1d(30, **kw),
    "laplacian_1d, n = 1": lambda **kw: gallery.laplacian_1d(1, **kw),
    "laplacian_2d": lambda **kw: gallery.laplacian_2d(9, **kw),
    "laplacian_2d, oblong": lambda **kw: gallery.laplacian_2d(7, 10, **kw),
    "laplacian_2d, a line": lambda **kw: gallery.laplacian_2d(1, 10, **kw),
    "laplacian_3d": lambda **kw: gallery.laplacian_3d(4, **kw),
    "laplacian_3d, oblong": lambda **kw: gallery.laplacian_3d(3, 4, 5, **kw),
    "laplacian_3d, two sides": lambda **kw: gallery.laplacian_3d(5, 3, **kw),
    "hypercube": lambda **kw: gallery.hypercube(6, **kw),
    "hypercube, an edge": lambda **kw: gallery.hypercube(1, **kw),
    "kneser, Petersen": lambda **kw: gallery.kneser(5, 2, **kw),
    "kneser": lambda **kw: gallery.kneser(8, 3, **kw),
    "kneser, complete graph": lambda **kw: gallery.kneser(7, 1, **kw),
    "kneser, perfect matching": lambda **kw: gallery.kneser(6, 3, **kw),
    "strakos": lambda **kw: gallery.strakos(48, rho=0.8, **kw),
    "graded": lambda **kw: gallery.graded(35, **kw),
    "clustered": lambda **kw: gallery.clustered(42, **kw),
    "clustered, width 0": lambda **kw: gallery.clustered(9, centres=[2.0, -1.0], width=0.0, **kw),
    "spiked": lambda **kw: gallery.spiked(55, **kw),
    "spiked, arcsine": lambda **kw: gallery.spiked(54, bulk="arcsine", outliers=[4.0], **kw),
    "spiked, no outliers": lambda **kw: gallery.spiked(20, outliers=[], **kw),
    "from_eigenvalues": lambda **kw: gallery.from_eigenvalues([3.0, -1.0, 3.0, 0.5], multiplicities=[2, 7, 1, 1], **kw),
    "from_eigenvalues, diagonal": lambda **kw: gallery.from_eigenvalues([3.0, -1.0, 0.0], rotate=False, **kw),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def build(request):
    return request.param


def block(n, b, dtype=np.float64, order="C"):
    return np.asarray(np.random.default_rng(5).standard_normal((n, b)), dtype=dtype, order=order)


class TestOperators:
    def test_the_dense_matrix_is_symmetric_and_has_exactly_the_eigenvalues_of_the_law(self, build):
        A, law = build()
        dense = A.matmat(np.eye(law.n))
        scale = max(1.0, *map(abs, law.edges))
        assert A.shape == (law.n, law.n) == dense.shape
        assert A.dtype == dense.dtype == np.float64
        assert_allclose(dense, dense.T, atol=1e-13 * scale, rtol=0)
        assert_allclose(np.linalg.eigvalsh(dense), law.eigenvalues(), atol=1e-12 * scale, rtol=0)

    def test_multiplicities_count_the_eigenvalues_of_the_dense_matrix(self, build):
        A, law = build()
        found = np.linalg.eigvalsh(A.matmat(np.eye(law.n)))
        gaps = np.diff(law.values)
        resolved = gaps > 1e-9  # a cluster or a graded tail lies below what eigvalsh resolves
        cuts = (law.values[:-1] + gaps / 2)[resolved]
        counts = [law.count(-np.inf, cut) for cut in cuts]
        assert counts == np.searchsorted(found, cuts).tolist()

    def test_float32_stays_float32_and_keeps_its_law(self, build):
        A, law = build(dtype=np.float32)
        X = block(law.n, 3, np.float32)
        product = A.matmat(X)
        assert A.dtype == product.dtype == np.float32
        exact = build()[0].matmat(X.astype(np.float64))
        assert_allclose(product, exact, atol=2e-5 * max(1.0, *map(abs, law.edges)), rtol=0)
        assert law.values.dtype == np.float64
        assert_array_equal(law.values, build()[1].values)

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_the_input_is_not_modified_and_its_memory_order_does_not_matter(self, build, order):
        A, law = build()
        X = block(law.n, 4, order=order)
        before = X.copy()
        X.setflags(write=False)
        product = A.matmat(X)
        assert_array_equal(X, before)
        assert not np.shares_memory(product, X)
        assert_allclose(product, A.matmat(np.ascontiguousarray(X)), rtol=1e-13, atol=1e-13)

    def test_strided_views_give_the_product_of_their_copy(self, build):
        A, law = build()
        X = block(law.n, 6)[::-1, ::2]
        assert_allclose(A.matmat(X), A.matmat(X.copy()), rtol=1e-13, atol=1e-13)

    @pytest.mark.parametrize("b", [0, 1])
    def test_blocks_of_no_or_one_column_keep_their_shape(self, build, b):
        A, law = build()
        X = block(law.n, b)
        product = A.matmat(X)
        assert product.shape == (law.n, b)
        assert product.dtype == np.float64
        assert not np.shares_memory(product, X)

    def test_columns_are_multiplied_independently(self, build):
        A, law = build()
        X = block(law.n, 3)
        one_by_one = np.hstack([A.matmat(X[:, [j]]) for j in range(3)])
        assert_allclose(A.matmat(X), one_by_one, rtol=1e-13, atol=1e-13)

    def test_operator_and_law_survive_pickling(self, build):
        A, law = build()
        again, law_again = pickle.loads(pickle.dumps((A, law)))
        X = block(law.n, 2)
        assert_array_equal(again.matmat(X), A.matmat(X))
        assert_array_equal(law_again.values, law.values)

    def test_operators_are_frozen_and_print_their_name_shape_and_dtype(self):
        A, _ = gallery.hypercube(3)
        assert repr(A) == "<hypercube: 8 x 8, float64>"
        with pytest.raises(dataclasses.FrozenInstanceError):
            A.shape = (1, 1)
        assert not hasattr(A, "__dict__")

    def test_integers_are_taken_as_reals_and_complex_numbers_are_refused(self):
        A, _ = gallery.laplacian_1d(4)
        assert A.matmat(np.eye(4, dtype=int)).dtype == np.float64
        with pytest.raises(TypeError, match="same_kind"):
            A.matmat(np.eye(4) * 1j)

    @pytest.mark.parametrize("shape", [(4,), (5, 2), (4, 2, 1)])
    def test_a_block_of_another_shape_is_refused_with_the_shape_it_should_have(self, shape):
        A, _ = gallery.laplacian_1d(4)
        with pytest.raises(ValueError, match=r"`X` must have shape \(4, b\).*v\[:, None\]"):
            A.matmat(np.ones(shape))

    def test_a_rotated_operator_looks_dense(self):
        A, _ = gallery.graded(200, smallest=0.5, largest=2.0)
        dense = A.matmat(np.eye(200))
        far = np.abs(np.subtract.outer(range(200), range(200))) > 20
        assert np.sum(dense[far] ** 2) > 0.5 * np.sum((dense - np.diag(np.diag(dense))) ** 2)

    def test_the_laplacian_is_the_stencil_of_a_kronecker_sum(self):
        A, _ = gallery.laplacian_3d(2, 3, 4)
        line = [2 * np.eye(m) - np.eye(m, k=1) - np.eye(m, k=-1) for m in (2, 3, 4)]
        expected = (
            np.kron(np.kron(line[0], np.eye(3)), np.eye(4))
            + np.kron(np.kron(np.eye(2), line[1]), np.eye(4))
            + np.kron(np.kron(np.eye(2), np.eye(3)), line[2])
        )
        assert_array_equal(A.matmat(np.eye(24)), expected)

    def test_hypercube_corners_are_joined_where_one_bit_differs(self):
        A, _ = gallery.hypercube(4)
        bits = np.array([[(i ^ j).bit_count() for i in range(16)] for j in range(16)])
        assert_array_equal(A.matmat(np.eye(16)), (bits == 1).astype(float))

    def test_kneser_is_a_regular_graph_without_loops(self):
        A, _ = gallery.kneser(9, 3)
        dense = A.matmat(np.eye(84))
        assert set(np.unique(dense)) == {0.0, 1.0}
        assert_array_equal(dense.sum(axis=0), np.full(84, math.comb(6, 3)))
        assert not np.diag(dense).any()


class TestLaws:
    def test_values_ascend_and_multiplicities_sum_to_n(self, build):
        _, law = build()
        assert np.all(np.diff(law.values) > 0)
        assert law.multiplicities.min() >= 1
        assert law.multiplicities.sum() == law.n == law.eigenvalues().size
        assert isinstance(law.n, int)
        assert law.values.dtype == np.float64
        assert law.multiplicities.dtype == np.int64

    def test_the_quantile_undoes_the_cdf_without_tolerance(self, build):
        _, law = build()
        assert_array_equal(law.quantile(law.cdf(law.values)), law.values)

    def test_traces_and_moments_are_sums_over_all_eigenvalues(self, build):
        _, law = build()
        values = law.eigenvalues()
        assert_allclose(law.trace(np.cos), math.fsum(np.cos(values)), rtol=1e-12, atol=1e-12)
        for p in range(5):
            assert_allclose(law.moment(p), np.mean(values**p), rtol=1e-12, atol=1e-13)

    def test_moments_are_the_traces_of_powers_of_the_dense_matrix(self, build):
        A, law = build()
        dense = A.matmat(np.eye(law.n))
        assert_allclose(law.moment(1), np.trace(dense) / law.n, atol=1e-11)
        assert_allclose(law.moment(2), np.sum(dense**2) / law.n, rtol=1e-11)


class TestArguments:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: gallery.semicircle(0), "`n` must be at least 1, got 0"),
            (lambda: gallery.semicircle(5, radius=-1.0), "`radius` must be positive and finite"),
            (lambda: gallery.semicircle(5, radius=math.nan), "`radius` must be positive"),
            (lambda: gallery.semicircle(5, dtype=np.int64), "`dtype` must be float32 or float64"),
            (lambda: gallery.hypercube(2, dtype=np.float16), "got float16"),
            (lambda: gallery.marchenko_pastur(0), "`n` must be at least 1"),
            (lambda: gallery.marchenko_pastur(5, ratio=0.0), "`ratio` must be positive"),
            (lambda: gallery.marchenko_pastur(5, ratio=math.inf), "`ratio` must be positive"),
            (
                lambda: gallery.marchenko_pastur(50, ratio=1.0, spikes=[5.0, 2.0]),
                r"must exceed 1 \+ sqrt\(ratio\) = 2, got 2: it would not separate",
            ),
            (lambda: gallery.marchenko_pastur(2, spikes=[3.0] * 3), "`spikes` holds 3 values"),
            (lambda: gallery.marchenko_pastur(10, ratio=10.0, spikes=[9.0, 9.0]), "only 1 nonzero"),
            (lambda: gallery.marchenko_pastur(5, spikes=[math.nan]), "`spikes` must be one-dim"),
            (lambda: gallery.laplacian_1d(0), "`n` must be at least 1"),
            (lambda: gallery.laplacian_2d(3, 0), "`ny` must be at least 1"),
            (lambda: gallery.laplacian_3d(3, 3, -1), "`nz` must be at least 1, got -1"),
            (lambda: gallery.hypercube(0), "`d` must be at least 1"),
            (lambda: gallery.hypercube(63), "`d` must be at most 62, got 63"),
            (lambda: gallery.kneser(5, 0), "`k` must be at least 1"),
            (lambda: gallery.kneser(5, 3), "`n_items` must be at least 6, got 5"),
            (lambda: gallery.kneser(30, 10), r"at most 5e\+07 are built. Try \(23, 11\)"),
            (lambda: gallery.strakos(1), "`n` must be at least 2"),
            (lambda: gallery.strakos(9, rho=1.5), r"`rho` must lie in \(0, 1\], got 1.5"),
            (lambda: gallery.strakos(9, smallest=2.0, largest=1.0), "`smallest` must lie below"),
            (lambda: gallery.graded(1), "`n` must be at least 2"),
            (lambda: gallery.graded(9, smallest=0.0), "`smallest` must be positive"),
            (lambda: gallery.graded(9, largest=1e-9), "`smallest` must lie below `largest`"),
            (lambda: gallery.clustered(9, centres=[]), "`centres` must hold at least one"),
            (lambda: gallery.clustered(3), "`n` must be at least 4"),
            (lambda: gallery.clustered(9, width=-1.0), "`width` must be finite and at least 0"),
            (lambda: gallery.spiked(10), "`n` must be at least 11"),
            (lambda: gallery.spiked(20, outliers=[2.0, 2.0]), "`outliers` must be distinct"),
            (lambda: gallery.spiked(20, outliers=[0.5]), r"lie outside \[-1, 1\], got \[0.5\]"),
            (lambda: gallery.spiked(20, bulk="gaussian"), '`bulk` must be "semicircle" or'),
            (lambda: gallery.from_eigenvalues([]), "`values` must not be empty"),
            (lambda: gallery.from_eigenvalues([[1.0]]), "`values` must be one-dimensional"),
            (lambda: gallery.from_eigenvalues([math.inf]), "one-dimensional and finite"),
            (
                lambda: gallery.from_eigenvalues([1.0, 2.0], multiplicities=[1]),
                "`multiplicities` must match it, got 2 and 1",
            ),
            (
                lambda: gallery.from_eigenvalues([1.0], multiplicities=[0]),
                "`multiplicities` must be whole numbers of at least 1",
            ),
            (lambda: gallery.from_eigenvalues([1.0], multiplicities=[1.5]), "whole numbers"),
            (lambda: gallery.from_eigenvalues([1e200], dtype=np.float32), r"overflows at the eigenvalue \+-1e\+200"),
        ],
    )
    def test_a_wrong_argument_is_named_with_what_is_allowed(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()

    @pytest.mark.parametrize("call", [gallery.semicircle, gallery.laplacian_2d, gallery.hypercube])
    def test_a_size_that_is_not_an_integer_is_a_type_error(self, call):
        with pytest.raises(TypeError, match=r"must be an integer, got 4\.0"):
            call(4.0)

    def test_numpy_integers_are_sizes_too(self):
        assert gallery.laplacian_2d(np.int64(3))[0].shape == (9, 9)
