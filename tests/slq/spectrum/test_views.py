"""Densities of every form: mass, agreement with dense eigenvalues and published rules, local densities, mistakes."""

import numpy as np
import pytest

import slq
from slq._quadrature._smoothing import _orthonormal, _rule, jackson_degree, jackson_factors, named_width, polynomial

FORMS = {
    "gaussian": {"kind": "gaussian"},
    "gaussian, ghorbani": {"kind": "gaussian", "width": "ghorbani"},
    "gaussian, papyan": {"kind": "gaussian", "width": "papyan"},
    "gaussian, asinh": {"kind": "gaussian", "scale": "asinh", "width": 0.05},
    "kpm": {"kind": "kpm"},
    "kpm, semicircle": {"kind": "kpm", "reference": "semicircle"},
    "kpm, uniform": {"kind": "kpm", "reference": "uniform"},
    "delta-Gauss-Legendre": {"kind": "kpm", "reference": "uniform", "damping": "gaussian", "width": 0.08},
    "spectroscopic": {"kind": "kpm", "damping": "none"},
    "haydock": {"kind": "haydock", "width": 0.01},
    "haydock, terminated": {"kind": "haydock", "width": 0.01, "terminator": True},
    "lanczos-bins": {"kind": "lanczos-bins"},
    "lanczos-bins, asinh": {"kind": "lanczos-bins", "scale": "asinh"},
    "log": {"kind": "log"},
}


@pytest.fixture(scope="module")
def bulk():
    """Give a run of a semicircle, and its law."""
    operator, law = slq.gallery.semicircle(3000)
    return slq.spectrum(operator, probes=3, steps=40, rng=0), law


def coordinate_of(d):
    return {"linear": lambda x: x, "asinh": lambda x: np.arcsinh(x / d.unit), "log": np.log}[d.scale]


def gaussians(x, values, width):
    return np.mean(np.exp(-0.5 * ((x[:, None] - values) / width) ** 2), axis=1) / (width * np.sqrt(2 * np.pi))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [slq.gallery.semicircle, slq.gallery.spiked])
def test_every_form_has_mass_one_and_a_band_around_it(make, form):
    d = slq.spectrum(make(1000)[0], probes=3, steps=40, rng=0).density(**FORMS[form])
    mass = np.trapezoid(d.value, coordinate_of(d)(d.x))
    assert mass == pytest.approx(1.0, abs=0.03)
    assert np.all(d.low <= d.value)
    assert np.all(d.value <= d.high)
    assert d.claim == "estimate"
    assert np.isfinite(d.width).all()
    assert d.stems.shape == (0, 2)


@pytest.mark.parametrize("form", ["gaussian", "kpm", "haydock, terminated", "delta-Gauss-Legendre", "lanczos-bins"])
def test_every_form_draws_the_semicircle(bulk, form):
    s, law = bulk
    d = s.density(**FORMS[form])
    assert np.trapezoid(np.abs(d.value - law.density(d.x)), d.x) < 0.1


def test_the_bands_of_fixed_gaussians_hold_those_of_all_eigenvalues_as_often_as_they_say():
    operator, law = slq.gallery.semicircle(1000)
    x = np.linspace(-0.9, 0.9, 15)
    exact = gaussians(x, np.repeat(law.values, law.multiplicities), 0.1)
    bands = [
        slq.spectrum(operator, probes=3, steps=40, rng=seed).density(x, kind="gaussian", width=0.1)
        for seed in range(40)
    ]
    held = np.mean([(d.low <= exact) & (exact <= d.high) for d in bands])
    assert 0.92 < held < 0.985


def test_the_named_widths_are_those_of_their_publications():
    assert named_width("ghorbani", -1.0, 3.0, 90) == pytest.approx(np.sqrt(4e-5))
    assert named_width("ghorbani", 0.0, 0.1, 90) == pytest.approx(np.sqrt(1e-5))
    # In [-1, 1]: 2 / ((m - 1) sqrt(8 ln kappa)).
    assert named_width("lin-saad-yang", -1.0, 1.0, 101) == pytest.approx(2 / 100 / np.sqrt(8 * np.log(1.25)))
    assert named_width("papyan", -1.0, 1.0, 129) == pytest.approx(1.1 * 2 / 128 / np.sqrt(8 * np.log(3)))
    s = slq.spectrum(slq.gallery.semicircle(500)[0], probes=2, steps=20, rng=0)
    for rule in ("ghorbani", "papyan", "lin-saad-yang"):
        width = named_width(rule, s.nodes.min(), s.nodes.max(), 20)
        np.testing.assert_allclose(s.density(kind="gaussian", width=rule).width, width)


def test_raw_forms_use_the_weights_of_the_probes_and_no_multiplicities():
    s = slq.spectrum(slq.gallery.spiked(500)[0], probes=2, steps=60, rng=0)
    x = np.linspace(-3, 11, 400)
    expected = np.mean([gaussians_of(x, s.nodes[i], s.weights[i], 0.2) for i in range(2)], axis=0)
    np.testing.assert_allclose(s.density(x, kind="gaussian", width=0.2).value, expected, rtol=1e-6, atol=1e-12)


def gaussians_of(x, nodes, weights, width):
    return np.exp(-0.5 * ((x[:, None] - nodes) / width) ** 2) @ weights / (width * np.sqrt(2 * np.pi))


@pytest.mark.parametrize("reference", ["chebyshev", "semicircle", "uniform"])
def test_the_polynomials_are_orthonormal(reference):
    points, weights = _rule(60, reference)
    table = np.array(list(_orthonormal(points, 25, reference)))
    np.testing.assert_allclose((table * weights) @ table.T, np.eye(26), atol=1e-12)


def test_the_jackson_kernel_is_positive_and_as_wide_as_told():
    x = np.linspace(-1, 1, 20_001)[1:-1]
    degree = jackson_degree(-1.0, 1.0, 0.05)
    kernel = polynomial(-1.0, 1.0, degree, reference="chebyshev", damping="jackson", width=None)
    curve = kernel(x, np.zeros(1))[:, 0]
    assert curve.min() > -1e-9
    assert np.sqrt(np.trapezoid(x**2 * curve, x)) == pytest.approx(0.05, rel=0.05)
    assert jackson_factors(10)[0] == pytest.approx(1.0)


def test_the_moments_of_the_run_are_exact_to_twice_the_steps(symmetric):
    A = symmetric(60)
    v = np.random.default_rng(0).standard_normal(60)
    v /= np.linalg.norm(v)
    values, vectors = np.linalg.eigh(A)
    low, high = values[0] - 0.5, values[-1] + 0.5
    rule = slq.gauss(slq.lanczos(A, v, 12))
    for nodes, weights in ((values, (vectors.T @ v) ** 2), (rule.nodes[0], rule.weights[0])):
        t = (2 * nodes - low - high) / (high - low)
        moments = [p @ weights for p in _orthonormal(t, 23, "chebyshev")]
        if nodes is values:
            exact = moments
    np.testing.assert_allclose(moments, exact, atol=1e-10)


def test_delta_gauss_legendre_is_the_sum_of_gaussians():
    s = slq.spectrum(slq.gallery.semicircle(800)[0], probes=2, steps=60, rng=0)
    x = np.linspace(-0.8, 0.8, 200)
    dgl = s.density(x, kind="kpm", reference="uniform", damping="gaussian", width=0.08)
    np.testing.assert_allclose(dgl.value, s.density(x, kind="gaussian", width=0.08).value, atol=1e-3)


def test_undamped_polynomials_are_the_cosine_series_of_the_chebyshev_moments(symmetric):
    A, steps = symmetric(80), 12
    v = np.random.default_rng(1).standard_normal(80)
    d = slq.local_density(slq.lanczos(A, v, steps), damping="none")
    spacing = d.x[1] - d.x[0]
    low, high = d.x[0] - spacing, d.x[-1] + spacing  # where the polynomials live
    shifted, u = (2 * A - (low + high) * np.eye(80)) / (high - low), v / np.linalg.norm(v)
    before, now = u, shifted @ u
    moments = [1.0, u @ now]
    for _ in range(2 * steps - 2):
        before, now = now, 2 * shifted @ now - before
        moments.append(u @ now)
    angle = np.arccos((2 * d.x - low - high) / (high - low))
    cosines = 1 + 2 * sum(moments[k] * np.cos(k * angle) for k in range(1, 2 * steps))
    np.testing.assert_allclose(d.value, cosines / np.pi / np.sin(angle) * 2 / (high - low), atol=1e-8)


def test_haydock_is_the_resolvent(symmetric):
    A, eta = symmetric(80), 0.2
    v = np.random.default_rng(1).standard_normal(80)
    x = np.linspace(-2, 2, 50)
    d = slq.local_density(slq.lanczos(A, v, 80), x, kind="haydock", width=eta)
    resolvent = [v @ np.linalg.solve((z + 1j * eta) * np.eye(80) - A, v) / (v @ v) for z in x]
    np.testing.assert_allclose(d.value, -np.imag(resolvent) / np.pi, rtol=1e-8)


def test_the_terminator_makes_the_density_of_one_band_smooth_without_width():
    chain = slq.as_operator(lambda v: (np.append(v[1:], 0) + np.append(0, v[:-1])) / 2, n=4000)
    T = slq.lanczos(chain, np.eye(1, 4000)[0], 30)
    x = np.linspace(-0.95, 0.95, 100)
    exact = 2 / np.pi * np.sqrt(1 - x**2)
    d = slq.local_density(T, x, kind="haydock", width=1e-6, terminator=True)
    np.testing.assert_allclose(d.value, exact, rtol=1e-3)


def test_bars_hold_exactly_the_mass_of_the_distribution_function(bulk):
    s, _ = bulk
    d = s.density(kind="lanczos-bins", width=0.1)
    first = s.nodes.min()
    for i in range(3, 9):
        a, b = first + 0.1 * i, first + 0.1 * (i + 1)
        bar = s.density([(a + b) / 2], kind="lanczos-bins", width=0.1)
        assert bar.value[0] * 0.1 == pytest.approx(float(s.cdf(b).value[0] - s.cdf(a).value[0]), abs=1e-9)
    assert len(np.unique(d.value)) <= np.ceil((s.nodes.max() - first) / 0.1) + 1


def test_the_log_density_folds_both_signs(with_eigenvalues):
    values = np.concatenate([-np.geomspace(1e-3, 1.0, 100), np.geomspace(1e-5, 10.0, 300)])
    s = slq.spectrum(with_eigenvalues(values), tol=1e-6, rng=0)
    d = s.density(kind="log")
    for a, b in ((1e-4, 1e-2), (1e-2, 1.0)):
        inside = (d.x >= a) & (d.x <= b)
        share = np.mean((np.abs(values) >= a) & (np.abs(values) <= b))
        assert np.trapezoid(d.value[inside], np.log(d.x[inside])) == pytest.approx(share, abs=0.02)


def test_deflated_probes_keep_the_whole_mass():
    operator, _ = slq.gallery.spiked(2000, outliers=(-50.0, -5.0, -3.0, 20.0, 60.0, 100.0))
    s = slq.spectrum(operator, tol=0.002, rng=0)
    assert s.projected.any()
    for form in ("gaussian", "kpm", "log"):
        d = s.density(**FORMS[form])
        assert np.trapezoid(d.value, coordinate_of(d)(d.x)) == pytest.approx(1.0, abs=0.03)


def test_all_eigenvalues_have_no_sampling_error():
    s = slq.spectrum(np.diag(np.linspace(-1, 1, 50)), tol=1e-4, rng=0)
    d = s.density(kind="gaussian", width=0.1)
    assert s.kind == "exact"
    np.testing.assert_array_equal(d.low, d.value)


class TestLocalDensity:
    """Chosen start vectors: nothing is sampled."""

    def test_is_that_of_the_eigenvectors_components(self, symmetric):
        A = symmetric(100)
        values, vectors = np.linalg.eigh(A)
        x = np.linspace(-2, 2, 60)
        for site in (0, 7):
            d = slq.local_density(slq.lanczos(A, np.eye(100)[:, site], 100), x, kind="gaussian", width=0.1)
            np.testing.assert_allclose(d.value, gaussians_of(x, values, vectors[site] ** 2, 0.1), rtol=1e-6, atol=1e-9)

    def test_of_all_sites_is_the_density_and_of_weighted_ones_their_mean(self, symmetric):
        A = symmetric(40)
        values = np.linalg.eigvalsh(A)
        T = slq.lanczos(A, np.eye(40), 40)
        x = np.linspace(-2, 2, 30)
        d = slq.local_density(T, x, kind="gaussian", width=0.2)
        np.testing.assert_allclose(d.value, gaussians(x, values, 0.2), rtol=1e-6, atol=1e-9)
        weights = np.arange(1.0, 41.0)
        parts = [slq.local_density(slq.lanczos(A, e, 40), x, kind="gaussian", width=0.2).value for e in np.eye(40)]
        mixed = slq.local_density(T, x, weights=weights, kind="gaussian", width=0.2)
        np.testing.assert_allclose(mixed.value, weights @ np.array(parts) / weights.sum(), rtol=1e-6, atol=1e-9)

    def test_has_a_band_of_what_the_steps_leave_open(self):
        chain, _ = slq.gallery.laplacian_1d(500)
        x, end = np.linspace(0.1, 3.9, 50), np.eye(500)[:, 0]
        few, many = (
            slq.local_density(slq.lanczos(chain, end, steps), x, kind="haydock", width=0.2) for steps in (8, 80)
        )
        assert np.mean(few.high - few.low) > 3 * np.mean(many.high - many.low)

    @pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [np.nan, 1.0]], ids=range(4))
    def test_refuses_weights_that_are_none(self, weights):
        with pytest.raises(ValueError, match="`weights` must hold 2 numbers, one per start vector"):
            slq.local_density(slq.lanczos(np.eye(4), np.eye(4)[:, :2], 2), weights=weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "kernel"}, "`kind` must be one of 'adaptive', 'gaussian', 'kpm'"),
        ({"kind": "gaussian", "width": "scott"}, "one of 'ghorbani', 'papyan', 'lin-saad-yang'; got 'scott'"),
        ({"kind": "kpm", "width": "papyan"}, "`width` must be a positive number"),
        ({"kind": "haydock", "width": -1.0}, "`width` must be positive"),
        ({"kind": "kpm", "reference": "hermite"}, "`reference` must be one of 'chebyshev'"),
        ({"kind": "kpm", "damping": "lorentz"}, "`damping` must be one of 'jackson'"),
        ({"kind": "log", "x": [-1.0, 1.0]}, "`x` must be positive with kind='log'"),
        ({"kind": "kpm", "x": [1.0, -1.0]}, "`x` must ascend"),
    ],
    ids=range(8),
)
def test_mistakes_are_explained(bulk, options, message):
    with pytest.raises(ValueError, match=message):
        bulk[0].density(**options)
