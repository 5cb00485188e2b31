"""What holds of every symmetric matrix, tried on random ones: equivariance, order, brackets, runs in parts.

Examples are the same at every run. `slq` promises these identities up to rounding of the largest eigenvalue; nothing
here is compared with a number of its own making.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import slq

# Few examples in the tests; the long run asks for more through `at_length`.
EXAMPLES, MANY = 25, 400
few = settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
PROPERTIES = []

eigenvalues = st.lists(
    st.one_of(st.floats(-4, 4, allow_subnormal=False), st.sampled_from([-1.0, 0.0, 1.0, 2.0, 1e-7, 3e3])),
    min_size=1,
    max_size=24,
).map(np.array)
seeds = st.integers(0, 2**31)
units = st.integers(-40, 40).map(lambda k: 2.0**k)
shifts = st.floats(-5, 5, allow_subnormal=False)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 10))


def law(*strategies):
    """Note the decorated function as a property, and test it on a few examples that are always the same."""

    def note(check):
        PROPERTIES.append((check, strategies))
        return few(given(*strategies)(check))

    return note


def at_length():
    """Try every property on many examples; return rows of (name, examples, what failed). For the long run."""
    rows = []
    for check, strategies in PROPERTIES:
        try:
            settings(few, max_examples=MANY)(given(*strategies)(check))()
        except AssertionError as error:
            rows.append((check.__name__, MANY, str(error)))
        else:
            rows.append((check.__name__, MANY, ""))
    return rows


def matrix(values, seed):
    """Return a symmetric matrix with these eigenvalues in a random basis."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((values.size, values.size)))
    A = (q * values) @ q.T
    return (A + A.T) / 2


def run(A, shape, seed, **options):
    """Return a run of a fixed number of probes and steps."""
    return slq.spectrum(A, probes=shape[0], steps=shape[1], rng=seed, **options)


def size(A):
    return float(np.abs(np.linalg.eigvalsh(A)).max()) or 1.0


def same_moments(one, two, unit, tolerance=1e-9):
    """Compare what rules integrate: nodes of no weight, and of copies, may differ, moments may not."""
    for degree in range(4):
        sums = [np.sum(s.weights * (s.nodes / unit) ** degree, axis=1) for s in (one, two)]
        np.testing.assert_allclose(*sums, rtol=0, atol=tolerance)


@law(eigenvalues, seeds, shifts)
def test_a_shift_of_the_matrix_shifts_the_nodes(values, seed, shift):
    A, shape = matrix(values, seed), (2, 6)
    moved = run(A + shift * np.eye(len(A)), shape, seed, deflate="none")
    same_moments(run(A, shape, seed, deflate="none").shifted(shift), moved, size(A) + abs(shift))


@law(eigenvalues, seeds, units)
def test_a_unit_of_the_matrix_is_a_unit_of_all_results(values, seed, unit):
    A = matrix(values, seed)
    one, two = run(A, (2, 6), seed, deflate="none"), run(unit * A, (2, 6), seed, deflate="none")
    np.testing.assert_array_equal(one.alpha * unit, two.alpha)
    np.testing.assert_array_equal(one.beta * unit, two.beta)
    assert one.trace().value * unit == pytest.approx(two.trace().value, rel=1e-9, abs=1e-9 * unit * size(A))


@law(eigenvalues, seeds, seeds)
def test_a_turn_of_matrix_and_vector_changes_nothing(values, seed, other):
    A, v = matrix(values, seed), np.random.default_rng(other).standard_normal(values.size)
    q, _ = np.linalg.qr(np.random.default_rng(other + 1).standard_normal(A.shape))
    turned = q @ A @ q.T
    rules = [slq.gauss(slq.lanczos(*pair, 6)) for pair in ((A, v), ((turned + turned.T) / 2, q @ v))]
    same_moments(*rules, size(A))


@law(eigenvalues, eigenvalues, seeds)
def test_sums_over_a_direct_sum_are_sums_of_sums(first, second, seed):
    A, B = matrix(first, seed), matrix(second, seed + 1)
    both = slq.spectrum(slq.block_diag(A, B), tol=0.05, rng=seed)
    parts = [slq.spectrum(X, tol=0.05, rng=seed) for X in (A, B)]
    unit = max(size(A), size(B))
    for question in (lambda s: s.trace(), lambda s: s.trace("square"), lambda s: s.heat_trace(1 / unit)):
        whole, answers = question(both), [question(s) for s in parts]
        low, high = sum(e.low for e in answers), sum(e.high for e in answers)
        slack = 1e-9 * (1 + abs(low) + abs(high))
        assert low - slack <= whole.high, "the whole is less than its parts"
        assert whole.low <= high + slack, "the whole is more than its parts"


@law(eigenvalues, seeds, shapes)
def test_the_distribution_is_monotone_within_its_band_and_ends_at_one(values, seed, shape):
    s = run(matrix(values, seed), shape, seed)
    low, high = s.edges
    band = s.cdf(np.linspace(low - 1, high + 1, 41))
    for curve in (band.value, band.low, band.high):
        assert np.all(np.diff(curve) >= -1e-12)
    assert np.all(band.low <= band.value + 1e-12)
    assert np.all(band.value <= band.high + 1e-12)
    assert band.value[0] == pytest.approx(0, abs=1e-12)
    assert band.value[-1] == pytest.approx(1, abs=1e-12)


@law(eigenvalues, seeds, shapes)
def test_weights_are_shares_of_one(values, seed, shape):
    s = run(matrix(values, seed), shape, seed)
    assert np.all(s.weights >= 0)
    np.testing.assert_allclose(s.weights.sum(axis=1), 1, rtol=1e-12)


@law(eigenvalues, seeds, shapes, st.lists(st.floats(-5, 5), min_size=2, max_size=6).map(sorted))
def test_wider_intervals_count_no_less(values, seed, shape, ends):
    s = run(matrix(values, seed), shape, seed)
    for part in ("value", "low", "high"):
        counts = [getattr(s.count(-np.inf, end), part) for end in ends]
        assert np.all(np.diff(counts) >= -1e-9), part
    assert s.count(-np.inf, ends[0]).low >= 0
    assert s.count(-np.inf, ends[-1]).high <= values.size


@law(eigenvalues, seeds, shapes)
def test_edges_hold_all_ritz_values_and_certified_bands_all_eigenvalues(values, seed, shape):
    A = matrix(values, seed)
    s = run(A, shape, seed, confidence=0.9999)
    low, high = s.edges
    assert low <= s.nodes.min() + 1e-12 * size(A)
    assert s.nodes.max() <= high + 1e-12 * size(A)
    truth = np.linalg.eigvalsh(A)
    x = np.linspace(truth[0] - 1, truth[-1] + 1, 17)
    x = x[np.abs(x[:, None] - truth).min(axis=1) > 1e-6 * size(A)]
    band, share = s.cdf(x), np.searchsorted(truth, x) / len(truth)
    assert np.all(band.low <= share + 1e-12)
    assert np.all(share <= band.high + 1e-12)


@law(eigenvalues, seeds)
def test_merging_does_not_ask_for_an_order(values, seed):
    A = matrix(values, seed)
    a, b, c = (run(A, (2, 5), seed + i, deflate="none") for i in range(3))
    left, right = a.merge(b).merge(c), a.merge(b.merge(c))
    np.testing.assert_array_equal(left.alpha, right.alpha)
    np.testing.assert_array_equal(left.lengths, right.lengths)
    for question in (lambda s: s.trace(), lambda s: s.count(-np.inf, 0.5)):
        assert question(left).low == pytest.approx(question(right).low, rel=1e-12, abs=1e-12 * size(A))


@law(eigenvalues, seeds, shapes)
def test_what_is_saved_is_loaded(values, seed, shape):
    s = run(matrix(values, seed), shape, seed)
    with tempfile.TemporaryDirectory() as folder:
        assert slq.load(s.save(Path(folder) / "run.npz")) == s


@law(eigenvalues, seeds, st.integers(1, 3), st.integers(0, 2), st.integers(1, 5), st.integers(0, 4))
def test_a_run_in_parts_is_one_long_run(values, seed, probes, more, steps, longer):
    A, options = matrix(values, seed), {"deflate": "none", "reorth": "full"}
    short = run(A, (probes, steps), seed, **options)
    whole = run(A, (probes + more, steps + longer), seed, **options)
    parts = short.extend(A, probes=probes + more, steps=steps + longer)
    np.testing.assert_array_equal(parts.lengths, whole.lengths)
    same_moments(parts, whole, size(A))


@law(eigenvalues, seeds, st.integers(1, 5), st.integers(1, 5))
def test_batches_change_nothing(values, seed, probes, batch):
    A = matrix(values, seed)
    one = run(A, (probes, 6), seed, batch=batch, deflate="none")
    same_moments(one, run(A, (probes, 6), seed, deflate="none"), size(A))


@law(eigenvalues, seeds, st.integers(1, 9))
def test_looking_on_the_way_changes_nothing(values, seed, every):
    A, seen = matrix(values, seed), []
    looked = run(A, (2, 10), seed, callback=lambda s: seen.append(s.steps if len(seen) % every == 0 else None))
    assert seen
    plain = run(A, (2, 10), seed)
    assert dataclasses.replace(looked, seconds=0.0) == dataclasses.replace(plain, seconds=0.0)
