"""Complex Hermitian operators: the run of the real form answers for the matrix itself."""

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose

import slq
from slq import _arrays
from slq._eigen._ends import order


def hofstadter(side, flux):
    """Return the hopping matrix of a periodic square lattice in a magnetic field, sparse and complex."""
    shift = sp.diags_array([np.ones(side - 1), [1.0]], offsets=[1, 1 - side], shape=(side, side))
    phases = sp.diags_array(np.exp(2j * np.pi * flux * np.arange(side)))
    forward = sp.kron(shift, sp.eye_array(side)) + sp.kron(phases, shift)
    return sp.csr_array(forward + forward.conj().T)


def hidden(values, seed=0):
    """Return a dense complex Hermitian matrix with these eigenvalues."""
    n, rng = len(values), np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)))
    H = (Q * values) @ Q.conj().T
    return (H + H.conj().T) / 2


@pytest.fixture(scope="module")
def lattice():
    """Give a lattice of 576 sites with a third of a flux quantum per cell, and its eigenvalues."""
    H = hofstadter(24, 1 / 3)
    return H, np.linalg.eigvalsh(H.toarray())


class TestRealForm:
    def test_it_multiplies_real_and_imaginary_parts_as_the_matrix_does(self, backend):
        rng = np.random.default_rng(0)
        H, z = hidden(np.arange(7.0)), rng.standard_normal((3, 7)) + 1j * rng.standard_normal((3, 7))
        xp = backend.xp
        if not (hasattr(xp, "complex128") and hasattr(xp, "complex64")) or "jax" in str(xp):
            pytest.skip("its adapter takes real matrices only")
        name = {"float64": "complex128", "float32": "complex64"}[_arrays.dtype_name(backend.dtype)]
        own = _arrays.as_complex(backend.asarray(z.view(np.float64)), getattr(xp, name), xp)
        assert_allclose(backend.to_numpy(_arrays.as_pairs(own, xp)), z.view(np.float64), rtol=8 * backend.eps)
        matrix = _arrays.as_complex(backend.asarray(H.view(np.float64)), getattr(xp, name), xp)
        form = slq.real_form(matrix)
        product = form.matmat(backend.asarray(z.view(np.float64)).T)
        assert (form.n, form.copies, form.dtype) == (14, 2, backend.dtype)
        assert_allclose(backend.to_numpy(product).T, (z @ H.T).view(np.float64), atol=100 * backend.eps)
        turned = _arrays.times_i(backend.asarray(z.view(np.float64)), xp)
        assert_allclose(backend.to_numpy(turned), (1j * z).view(np.float64), rtol=8 * backend.eps)

    def test_a_real_operator_stays_as_it_is(self):
        operator = slq.as_operator(np.eye(3))
        assert slq.real_form(operator) is operator

    def test_its_eigenvalues_are_those_of_the_matrix_twice(self, lattice):
        H, exact = lattice
        pairs = slq.eigsh(slq.real_form(H), 4, which="LA", rng=0)
        assert_allclose(pairs.values, np.repeat(exact, 2)[-4:], rtol=1e-12)

    def test_traces_of_it_are_twice_those_of_the_matrix(self):
        values = np.linspace(1.0, 2.0, 40)
        found = slq.xtrace(slq.real_form(hidden(values)), products=60, rng=0)
        assert found.low <= 2 * values.sum() <= found.high


class TestEigenpairs:
    VALUES = np.concatenate([np.linspace(-2.0, 2.0, 190), [3.0, 4.0, 4.0, 4.0, 5.0, -3.0, -5.5, -5.5, -6.0, 2.5]])

    @pytest.mark.parametrize("which", ["LM", "LA", "SA", "BE"])
    @pytest.mark.parametrize(("k", "block"), [(1, 1), (5, 1), (5, 3), (9, 1)])
    @pytest.mark.parametrize(("field", "tolerance"), [("complex128", 1e-13), ("complex64", 1e-5)])
    def test_each_comes_once_with_a_complex_vector(self, which, k, block, field, tolerance):
        H = hidden(self.VALUES).astype(field)
        pairs = slq.eigsh(H, k, which=which, block=block, rng=0)

        exact = np.sort(self.VALUES)
        wanted = np.sort(exact[order(exact, which)[:k]])
        assert_allclose(pairs.values, wanted, atol=10 * tolerance)
        assert pairs.vectors.dtype == field
        assert_allclose(pairs.vectors.conj().T @ pairs.vectors, np.eye(k), atol=tolerance)
        residuals = np.linalg.norm(H @ pairs.vectors - pairs.vectors * pairs.values, axis=0)
        assert_allclose(pairs.residuals, residuals, atol=tolerance)
        assert pairs.converged.all()

    def test_products_are_counted_as_they_are_made_and_not_twice(self, lattice):
        H, exact = lattice
        count = 0

        def product(v):
            nonlocal count
            count += 1
            return H @ v

        pairs = slq.eigsh(slq.as_operator(product, n=576, like=np.zeros(1, dtype=complex)), 6, which="SA", rng=0)
        assert pairs.products == count
        assert_allclose(pairs.values, exact[:6], atol=1e-12)
        assert all(pairs.rest[0] <= value for value in exact[6:])

    def test_a_diagonal_matrix_of_real_values_costs_what_its_real_self_does(self):
        values = np.sqrt(np.arange(1.0, 400.0))
        real, complex_ = (slq.eigsh(np.diag(values).astype(f), 4, which="LA", rng=0) for f in (float, complex))
        assert_allclose(complex_.values, real.values, rtol=1e-13)
        assert abs(complex_.products - real.products) < 0.15 * real.products

    def test_known_and_near_vectors_are_complex_too(self):
        H = hidden(self.VALUES)
        first = slq.eigsh(H, 2, which="LA", rng=0)
        second = slq.eigsh(H, 3, which="LA", deflate=first, rng=0)
        assert_allclose(second.values, [3.0, 4.0, 4.0], atol=1e-12)
        assert_allclose(first.vectors.conj().T @ second.vectors, 0.0, atol=1e-12)
        again = slq.eigsh(H, 2, which="LA", start=first, rng=1, verify=False)
        assert_allclose(again.values, first.values, atol=1e-12)
        assert again.products < 0.7 * first.products

    def test_tensors_give_tensors(self, torch):
        H = hidden(self.VALUES)
        pairs = slq.eigsh(torch.from_numpy(H), 4, which="BE", rng=0)
        assert pairs.vectors.dtype == torch.complex128
        vectors = pairs.vectors.numpy()
        assert_allclose(H @ vectors, vectors * pairs.values, atol=1e-12)

    def test_arrays_that_only_know_the_standard_are_enough(self):
        xp = pytest.importorskip("array_api_strict")
        for block in (1, 3):
            pairs = slq.eigsh(xp.asarray(hidden(self.VALUES)), 4, which="SA", block=block, rng=0)
            assert pairs.vectors.dtype == xp.complex128
            assert_allclose(pairs.values, [-6.0, -5.5, -5.5, -3.0], atol=1e-12)

    @pytest.mark.parametrize("power", [-300, 300])
    def test_units_do_not_matter(self, power):
        H = hidden(self.VALUES)
        pairs = slq.eigsh(H * 10.0**power, 3, which="SA", rng=0)
        assert_allclose(pairs.values / 10.0**power, [-6.0, -5.5, -5.5], rtol=1e-12)


class TestSpectrum:
    def test_every_library_and_format_makes_the_same_run(self, torch):
        H = hidden(np.linspace(-1.0, 2.0, 60))
        first = slq.spectrum(H, probes=2, steps=12, rng=0)
        others = (
            sp.csr_array(H),
            torch.from_numpy(H),
            torch.from_numpy(H).to_sparse(),
            slq.as_operator(lambda v: H @ v, n=60, like=H[0]),
            slq.as_operator(lambda X: H @ X, n=60, like=H[0], block=True),
        )
        for other in others:
            assert_allclose(slq.spectrum(other, probes=2, steps=12, rng=0).alpha, first.alpha, atol=1e-13)
        short = slq.spectrum(H.astype(np.complex64), probes=2, steps=12, rng=0)
        assert_allclose(short.alpha, first.alpha, atol=1e-5)
        assert short.metadata["dtype"] == "float32"

    def test_it_is_told_of_the_matrix_and_not_of_its_real_form(self, lattice):
        H, exact = lattice
        s = slq.spectrum(H, probes=3, steps=40, rng=2, confidence=0.999)
        assert (s.n, s.copies, s.products, s.certified) == (576, 2, 3 * 40 + 1, True)
        assert "576 × 576" in repr(s)
        assert s.edges[0] <= exact[0] < exact[-1] <= s.edges[1]
        for claim in ("certified", "estimate"):
            count = s.count(-0.5, 0.5, claim=claim)
            assert count.low <= np.sum(np.abs(exact) < 0.5) <= count.high
        for f in (np.exp, np.cos, np.square):
            trace = s.trace(f)
            assert trace.low <= f(exact).sum() <= trace.high
        band = s.cdf(exact)
        assert np.all(band.low <= np.arange(1, 577) / 576)
        assert np.all(np.arange(576) / 576 <= band.high)

    def test_log_determinant_and_inverse(self, lattice):
        H, exact = lattice
        shifted = H + 5 * sp.eye_array(576)
        assert slq.logdet(shifted, rtol=1e-2, rng=0).low <= np.log(exact + 5).sum()
        s = slq.spectrum(H, probes=4, steps=30, rng=1)
        for found, true in (
            (s.logdet(shift=5.0), np.log(exact + 5).sum()),
            (s.shifted(5.0).trace_inverse(), np.sum(1 / (exact + 5))),
        ):
            assert found.claim == "certified"
            assert found.low <= true <= found.high

    def test_small_ones_are_diagonalised_in_n_products(self):
        values = np.array([-3.0, -1.0, 0.0, 0.0, 2.0])
        s = slq.spectrum(hidden(values), rng=0)
        assert (s.kind, s.products) == ("exact", 6)
        assert_allclose(s.nodes[0], values, atol=1e-14)
        assert s.count(-0.5, 0.5).value == 2

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_the_smallest_are_exact(self, n):
        values = np.arange(1.0, n + 1)
        s = slq.spectrum(hidden(values), probes=2, steps=5, rng=0)
        assert s.trace().low <= values.sum() <= s.trace().high
        assert s.trace().value == pytest.approx(values.sum())
        assert s.steps == n

    def test_multiplicities_are_those_of_complex_eigenspaces(self):
        values = np.concatenate([np.linspace(0.0, 1.0, 194), [5.0, 5.0, 7.0, 9.0, 9.0, 9.0]])
        H = hidden(values)
        for probes, exact in ((4, [True, True, True]), (3, [False, True, True]), (2, [False, True, False])):
            found = slq.spectrum(H, probes=probes, steps=50, rng=0).outliers
            assert_allclose(found.values, [9.0, 7.0, 5.0])
            assert found.exact.tolist() == exact
            assert_allclose(found.multiplicities[found.exact], np.array([3, 1, 2])[found.exact])

    def test_rounding_brings_no_second_copies_in_after_many_steps(self):
        values = np.concatenate([np.linspace(0.0, 1.0, 150), [3.0, 4.0, 8.0]])
        s = slq.spectrum(hidden(values), probes=2, steps=120, rng=0)
        assert_allclose(np.sort(s.outliers.values), [3.0, 4.0, 8.0])
        assert_allclose(s.outliers.multiplicities, 1.0)
        assert s.count(2.0, 9.0).value == 3

    def test_without_reorthogonalisation_and_with_signs(self, lattice):
        H, exact = lattice
        for options in ({"reorth": "none"}, {"kind": "rademacher"}):
            s = slq.spectrum(H, probes=8, steps=40, rng=1, confidence=0.999, **options)
            trace = s.trace(np.exp)
            assert trace.low <= np.exp(exact).sum() <= trace.high

    def test_a_run_is_saved_extended_merged_and_summed(self, lattice, tmp_path):
        H, _ = lattice
        s = slq.spectrum(H, probes=2, steps=15, rng=0)
        loaded = slq.load(s.save(tmp_path / "run"))
        assert loaded == s
        assert loaded.copies == 2
        longer = loaded.extend(H, probes=3)
        assert (longer.probes, longer.copies) == (3, 2)
        assert_allclose(longer.alpha, slq.spectrum(H, probes=3, steps=15, rng=0).alpha, atol=1e-12)
        assert s.merge(slq.spectrum(H, probes=1, steps=15, rng=1)).probes == 3
        with pytest.raises(ValueError, match="576 and is real, the spectrum has 576 and is complex"):
            s.extend(sp.eye_array(576, format="csr"), probes=3)

    def test_a_matrix_that_is_not_hermitian_is_told_of(self):
        H = hidden(np.linspace(0.0, 1.0, 50))
        with pytest.warns(slq.SlqWarning, match="symmetric"):
            slq.spectrum(H + 0.3j * np.eye(50)[:, ::-1] * np.arange(50), probes=2, steps=10, rng=0)

    def test_a_product_that_loses_the_imaginary_part_is_refused(self):
        H = hidden(np.arange(5.0))
        operator = slq.as_operator(lambda X: (H @ X).real, n=5, like=H[0], block=True)
        with pytest.raises(slq.RunError, match="complex vectors came out real"):
            slq.spectrum(operator, probes=2, steps=3, rng=0)


@pytest.mark.slow
def test_intervals_hold_as_often_as_they_say(lattice):
    H, exact = lattice
    true = np.exp(exact).sum()
    runs = [slq.spectrum(H, probes=1, steps=14, rng=seed).trace(np.exp) for seed in range(200)]
    held = np.mean([t.low <= true <= t.high for t in runs])
    scatter = np.std([t.value for t in runs], ddof=1)
    law = np.sqrt(576**2 * np.var(np.exp(exact)) / 577)
    assert 0.92 <= held <= 0.98
    assert scatter == pytest.approx(law, rel=0.15)


class TestChosenVectors:
    @pytest.mark.parametrize("passes", [1, 2])
    def test_a_function_of_the_matrix_is_applied_to_complex_vectors(self, passes):
        H, rng = hidden(np.linspace(0.5, 2.0, 50)), np.random.default_rng(1)
        w, Q = np.linalg.eigh(H)
        b = rng.standard_normal((50, 2)) + 1j * rng.standard_normal((50, 2))
        exact = (Q / np.sqrt(w)) @ (Q.conj().T @ b)
        found = slq.apply(H, b, lambda x: x**-0.5, 1e-9, passes=passes)
        assert_allclose(found.value, exact, atol=1e-8)
        assert_allclose(slq.apply(H, b[:, 0], lambda x: x**-0.5, 1e-9, passes=passes).value, exact[:, 0], atol=1e-8)
        assert_allclose(slq.apply(H, np.ones(50), "exp", 1e-9).value, (Q * np.exp(w)) @ Q.conj().T @ np.ones(50))

    def test_too_little_memory_means_two_passes(self):
        H = hidden(np.linspace(0.01, 1.0, 200))
        found = slq.apply(H, np.ones(200) + 0j, "inverse", 1e-6, memory=200 * 16 * 30)
        assert found.converged
        assert_allclose(H @ found.value, 1.0, atol=1e-4)

    def test_tensors_come_back_as_complex_tensors(self, torch):
        H = hidden(np.linspace(0.5, 2.0, 30)).astype(np.complex64)
        found = slq.apply(torch.from_numpy(H), torch.ones(30, dtype=torch.complex64), "inverse", 1e-4).value
        assert found.dtype == torch.complex64
        assert_allclose((torch.from_numpy(H) @ found).numpy(), 1.0, atol=1e-3)

    def test_local_densities_of_sites(self, lattice):
        H, _ = lattice
        T = slq.lanczos(H, np.eye(576)[:, 0] + 0j, 12)
        moments = [(H.toarray().astype(complex) ** 0)[0, 0]]
        vector = np.eye(576)[:, 0].astype(complex)
        for _ in range(6):
            vector = H @ vector
            moments.append(vector[0])
        rule = slq.gauss(T)
        assert_allclose([np.sum(rule.weights[0] * rule.nodes[0] ** k) for k in range(7)], np.real(moments), atol=1e-10)

    def test_vectors_that_do_not_fit_are_refused(self, lattice):
        H, _ = lattice
        with pytest.raises(ValueError, match=r"`b` must have shape \(576,\) or \(576, k\), got \(5,\)"):
            slq.apply(H, np.ones(5), "exp")
        with pytest.raises(TypeError, match="`v` is complex and `A` real"):
            slq.lanczos(np.eye(3), np.ones(3) + 0j, 2)
