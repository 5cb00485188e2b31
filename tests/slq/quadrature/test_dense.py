"""Small operators: all columns and LAPACK where that costs fewer products, and then everything is exact."""

import contextlib

import numpy as np
import pytest
import scipy.sparse as sp

import slq
from slq._files import _store
from slq._quadrature._dense import diagonalise
from slq._run import _checkpoint
from tests.faults import FAULTS, Stop, same_spectra
from tests.faults import Counted as Faulty


class Counted:
    """A dense matrix that counts the columns it is multiplied by."""

    def __init__(self, matrix):
        self.matrix, self.shape, self.dtype, self.columns = matrix, matrix.shape, matrix.dtype, 0

    def matmat(self, X):
        self.columns += X.shape[1]
        return self.matrix @ X


def symmetric(n, seed=0):
    A = np.random.default_rng(seed).standard_normal((n, n))
    return A + A.T


@pytest.mark.parametrize("n", [1, 2, 7, 12])
def test_a_tiny_matrix_is_diagonalised_at_once(n):
    A = symmetric(n)
    operator = Counted(A)
    s = slq.spectrum(operator, rng=0)
    assert s.status == "exact: all eigenvalues, from all columns"
    assert s.products == operator.columns == n + 1
    assert s.kind == "exact"
    assert s.certified
    np.testing.assert_allclose(s.nodes[0], np.linalg.eigvalsh(A), atol=1e-13 * n)


def test_a_tolerance_that_takes_more_products_than_columns_ends_in_all_columns():
    A = symmetric(300)
    operator = Counted(A)
    s = slq.spectrum(operator, tol=1e-3, rng=0)
    exact = np.linalg.eigvalsh(A)
    assert s.kind == "exact"
    assert s.products == operator.columns < 2.6 * 300
    assert s.error.total < 1e-12
    assert s.count(-np.inf, 1.0).low == s.count(-np.inf, 1.0).high == np.sum(exact <= 1.0)
    np.testing.assert_allclose(s.cdf(exact[::7] + 1e-9).value, np.arange(1, 301)[::7] / 300)
    assert s.trace(np.cos).low <= np.cos(exact).sum() <= s.trace(np.cos).high
    assert s.trace(np.cos).value == pytest.approx(np.cos(exact).sum(), rel=1e-10)


def test_large_or_fixed_runs_and_tight_budgets_are_left_alone():
    A = symmetric(40)
    assert slq.spectrum(A, probes=2, steps=10, rng=0).kind == "sphere"
    assert slq.spectrum(A, probes=2, tol=0.1, rng=0).kind == "sphere"
    assert slq.spectrum(A, steps=10, tol=0.1, rng=0).kind == "sphere"
    assert slq.spectrum(A, tol=1e-3, max_products=40, rng=0).kind == "sphere"
    assert slq.spectrum(slq.gallery.semicircle(2500)[0], tol=0.05, rng=0).kind == "sphere"


def test_repeated_eigenvalues_are_counted_and_extreme_scales_kept():
    values = np.repeat([1.0, 2.0, 5.0], [3, 1, 2])
    for scale in (1e-200, 1.0, 1e200):
        s = slq.spectrum(np.diag(scale * values), rng=0)
        assert [s.count(a * scale, b * scale).value for a, b in ((0, 1.5), (1.5, 3), (3, 9))] == [3, 1, 2]
        np.testing.assert_allclose(s.outliers.multiplicities, [2, 1, 3])


def test_zero_is_diagonalised_too():
    s = slq.spectrum(np.zeros((5, 5)), rng=0)
    assert s.count(-1, 1).value == 5
    assert s.edges == (0.0, 0.0)


def test_exact_spectra_are_saved_shifted_plotted_and_compared(tmp_path):
    s = slq.spectrum(np.diag([1.0, 2.0, 5.0]), rng=0)
    assert slq.load(s.save(tmp_path / "exact.npz")) == s
    assert s.shifted(1.0).logdet().value == pytest.approx(np.log([2, 3, 6]).sum())
    assert s.density().stems[:, 1].sum() == pytest.approx(1)
    other = slq.spectrum(np.diag([1.0, 2.0, 6.0]), rng=0)
    assert s.distance(other).value == pytest.approx(1 / 3, rel=0.05)
    with pytest.raises(ValueError, match="nothing to extend"):
        s.extend(np.diag([1.0, 2.0, 5.0]), probes=4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_noise_floor_is_that_of_the_products(dtype):
    A = symmetric(20).astype(dtype)
    s = slq.spectrum(sp.csr_array(A), rng=0)
    eps = np.finfo(dtype).eps
    assert 8 * eps <= s.noise / np.abs(s.nodes).max() <= 100 * eps


def test_asymmetry_and_drift_are_told():
    A = np.triu(symmetric(10))
    with pytest.warns(slq.SlqWarning, match="not symmetric"):
        s = slq.spectrum(A, rng=0)
    assert not s.certified
    rng = np.random.default_rng(0)
    with pytest.warns(slq.SlqWarning, match="drifts"):
        slq.spectrum(slq.as_operator(lambda v: v + 0.01 * rng.standard_normal(10), n=10), rng=0)


def test_what_is_not_finite_or_has_another_shape_is_refused():
    with pytest.raises(slq.RunError, match="NaN or Inf for unit vector 0"):
        slq.spectrum(slq.as_operator(lambda v: v * np.nan, n=4), rng=0)
    with pytest.raises(slq.RunError, match="must have that shape"):
        slq.spectrum(slq.as_operator(lambda v: v[:2], n=4), rng=0)


def test_batches_do_not_matter(backend):
    A = symmetric(9).astype(np.float32)
    operator = slq.as_operator(backend.asarray(A))
    found = [diagonalise(operator, batch, 0).tridiagonal.alpha for batch in (1, 4, 9, 16)]
    for values in found:
        np.testing.assert_allclose(values, found[0], atol=1e-5)


def test_traces_are_exact_where_all_columns_are_cheaper():
    operator, law = slq.gallery.graded(400)
    e = slq.logdet(operator, 1e-5, rng=0)
    assert e.value == pytest.approx(law.trace(np.log), rel=1e-6)
    assert e.error.sampling == e.error.quadrature == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128])
def test_columns_that_were_multiplied_are_not_multiplied_again(dtype, tmp_path, monkeypatch):
    A = symmetric(40).astype(dtype)
    if dtype is np.complex128:
        A = A + 1j * (np.triu(symmetric(40), 1) - np.triu(symmetric(40), 1).T)
    options = {"tol": 1e-3, "rng": 0, "batch": 7}
    whole = slq.spectrum(complete := Counted(A), **options)
    assert whole.kind == "exact"
    steps = Stop(0).install(monkeypatch)
    slq.spectrum(A, checkpoint=tmp_path / "whole", **options)
    for after in range(1, steps.steps + 1, 2):
        Stop(after).install(monkeypatch)
        path = tmp_path / f"{after}.npz"
        first = Counted(A)
        with contextlib.suppress(slq.RunError):  # nothing to tell of columns alone
            assert slq.spectrum(first, checkpoint=path, **options).status == "interrupted"
        again = slq.spectrum(second := Counted(A), checkpoint=path, **options)
        assert same_spectra(whole, again)
        assert second.columns == complete.columns - first.columns + 1  # by which the operator is recognised
    slq.spectrum(third := Counted(A), checkpoint=path, **options)
    assert third.columns == 2  # and one tells whether products repeat


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("n", "batch"), [(12, 3), (40, 7)], ids=["columns alone", "after probes"])
def test_a_column_that_fails_loses_none(n, batch, fault, tmp_path, monkeypatch):
    monkeypatch.setattr(_checkpoint, "_SHARE", 0.0)  # written only where a product fails
    A, options = symmetric(n), {"tol": 1e-3, "rng": 0, "batch": batch}
    whole = slq.spectrum(complete := Faulty(A), **options)
    assert whole.kind == "exact"
    for at in range(2, complete.calls, 3):
        path = tmp_path / f"{at}.npz"
        with pytest.raises(slq.RunError, match="The same call goes on from"):
            slq.spectrum(Faulty(A, at, FAULTS[fault]), checkpoint=path, **options)
        assert same_spectra(whole, slq.spectrum(again := Faulty(A), checkpoint=path, **options))
        # One product recognises the operator.
        assert again.calls == complete.calls - (at - 1) + 1


@pytest.fixture
def begun(tmp_path):
    """The file of a run of which two products of columns are done."""
    path = tmp_path / "run.npz"
    with pytest.raises(slq.RunError):
        slq.spectrum(Faulty(symmetric(12), 3), rng=0, batch=3, checkpoint=path)
    return path


def test_columns_of_another_matrix_are_refused(begun):
    with pytest.raises(ValueError, match="is of another operator"):
        slq.spectrum(symmetric(12, seed=1), rng=0, batch=3, checkpoint=begun)


@pytest.mark.parametrize("change", [lambda x: x[:-1], lambda x: x[:, :0], lambda x: x.astype(int), lambda x: x + 0j])
def test_what_are_no_columns_of_the_matrix_is_damage(change, begun):
    with _store.opened(begun, _store.CHECKPOINT) as (arrays, header):
        changed = {name: change(x) if name == "columns" else x for name, x in arrays.items()}
    _store.write(begun, changed, header, kind=_store.CHECKPOINT)
    with pytest.raises(ValueError, match=r"damaged|contradicts itself"):
        slq.spectrum(symmetric(12), rng=0, batch=3, checkpoint=begun)
