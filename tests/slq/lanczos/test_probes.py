"""Probes are the same whoever asks for them, and follow the laws on which all intervals rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from slq._lanczos import _probes
from slq._lanczos._probes import probe, probes, seed_from

BLOCK = 65_536
KINDS = ["sphere", "rademacher"]
PINNED_SPHERE = [0.07172304151015045, -0.7988312543642347, 0.5972641227860557]
PINNED_SIGNS = "++---++----+"


class TestSameness:
    @pytest.mark.parametrize("kind", KINDS)
    @given(n=st.integers(1, 300), seed=st.integers(0, 2**128 - 1), first=st.integers(0, 2**40), count=st.integers(1, 5))
    @settings(deadline=None, max_examples=25)
    def test_a_probe_does_not_depend_on_the_batch_it_comes_in(self, kind, n, seed, first, count):
        together = probes(n, range(first, first + count), seed=seed, kind=kind)
        assert together.shape == (count, n)
        for row, index in zip(together, range(first, first + count), strict=True):
            assert_array_equal(row, probe(n, seed=seed, index=index, kind=kind))

    @pytest.mark.parametrize("kind", KINDS)
    def test_probes_need_not_be_consecutive(self, kind):
        some = probes(10, range(7, 0, -3), seed=1, kind=kind)
        assert_array_equal(some, [probe(10, seed=1, index=i, kind=kind) for i in (7, 4, 1)])

    def test_no_probes_at_all_are_an_empty_block(self):
        assert probes(10, range(0), seed=1).shape == (0, 10)

    def test_the_stream_is_pinned(self):
        # From NumPy 2.4 on x86-64; a change here changes every published number.
        assert_allclose(probe(3, seed=0, index=0), PINNED_SPHERE, rtol=1e-14)
        signs = probe(12, seed=0, index=0, kind="rademacher") > 0
        assert "".join("+" if s else "-" for s in signs) == PINNED_SIGNS

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shorter", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
    def test_a_longer_probe_begins_like_a_shorter_one_up_to_its_norm(self, kind, shorter):
        long = probe(2 * BLOCK + 5, seed=3, index=2, kind=kind)[:shorter]
        short = probe(shorter, seed=3, index=2, kind=kind)
        assert_allclose(long / np.linalg.norm(long), short, rtol=1e-10, atol=1e-15)


class TestStreams:
    @pytest.mark.parametrize("kind", KINDS)
    def test_neighbouring_seeds_indices_blocks_and_kinds_do_not_overlap(self, kind):
        n = 2 * BLOCK
        first = probe(n, seed=5, index=0, kind=kind)
        others = [probe(n, seed=6, index=0, kind=kind), probe(n, seed=5, index=1, kind=kind), np.roll(first, BLOCK)]
        for other in others:
            # An inner product of independent unit vectors is N(0, 1/n); shifts by a few draws are looked at too.
            correlations = [np.sqrt(n) * (first @ np.roll(other, shift)) for shift in range(-4, 5)]
            assert np.max(np.abs(correlations)) < 4.5
        other_kind = probe(n, seed=5, index=0, kind=next(k for k in KINDS if k != kind))
        assert abs(np.sqrt(n) * (first @ other_kind)) < 4.5

    @pytest.mark.parametrize("kind", KINDS)
    def test_inner_products_of_many_probes_are_standard_normal(self, kind):
        n, count = 400, 60
        rows = np.concatenate([probes(n, range(count // 2), seed=s, kind=kind) for s in (10, 11)])
        gram = rows @ rows.T
        products = np.sqrt(n) * gram[np.triu_indices(count, 1)]
        assert stats.kstest(products, "norm").pvalue > 1e-3
        assert products.var() == pytest.approx(1.0, abs=0.15)

    def test_all_128_bits_of_the_seed_and_64_of_the_index_count(self):
        base = probe(5, seed=0, index=0)
        for bit in (0, 31, 32, 63, 64, 127):
            assert not np.array_equal(probe(5, seed=1 << bit, index=0), base)
        for bit in (0, 31, 32, 63):
            assert not np.array_equal(probe(5, seed=0, index=1 << bit), base)


class TestLaws:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("n", [1, 2, 3, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
    def test_probes_have_unit_norm_and_every_entry_is_drawn(self, kind, n):
        v = probe(n, seed=1, index=0, kind=kind)
        assert v.shape == (n,)
        assert np.linalg.norm(v) == pytest.approx(1.0, rel=1e-13)
        assert np.all(v != 0)

    @pytest.mark.parametrize("n", [1, 9, 16, BLOCK + 3])
    def test_rademacher_entries_are_plus_or_minus_one_over_root_n(self, n):
        v = probe(n, seed=2, index=0, kind="rademacher")
        assert_array_equal(np.abs(v), np.full(n, 1 / np.sqrt(n)))

    def test_rademacher_signs_are_balanced_also_bit_by_bit_and_pair_by_pair(self):
        signs = np.sign(probe(8 * BLOCK, seed=2, index=0, kind="rademacher"))
        assert abs(signs.sum()) < 4 * np.sqrt(signs.size)
        by_bit = signs.reshape(-1, 8).sum(axis=0)  # eight come out of one byte
        assert np.max(np.abs(by_bit)) < 4 * np.sqrt(signs.size / 8)
        assert abs(signs[:-1] @ signs[1:]) < 4 * np.sqrt(signs.size)

    @pytest.mark.parametrize("n", [2, 3, 10])
    def test_squared_entries_of_sphere_probes_follow_the_beta_law(self, n):
        rows = probes(n, range(2000), seed=4)
        for column in rows.T:
            assert stats.kstest(column**2, stats.beta(0.5, (n - 1) / 2).cdf).pvalue > 1e-4

    def test_sphere_probes_have_the_moments_of_the_sphere(self):
        n, count = 8, 4000
        u = n * probes(n, range(count), seed=7) ** 2
        # E u_i = 1, E u_i^2 = 3 n / (n + 2), E u_i u_j = n / (n + 2).
        assert_allclose(u.mean(axis=0), 1.0, atol=5 * np.sqrt(2 / count))
        second = u.T @ u / count
        assert_allclose(np.diag(second), 3 * n / (n + 2), rtol=0.15)
        off = second[~np.eye(n, dtype=bool)]
        assert_allclose(off, n / (n + 2), rtol=0.12)
        assert off.mean() == pytest.approx(n / (n + 2), rel=0.02)

    def test_the_mean_of_many_probes_vanishes_in_every_direction(self):
        rows = probes(6, range(3000), seed=8)
        assert np.max(np.abs(rows.mean(axis=0))) < 4.5 / np.sqrt(6 * 3000)
        cross = rows.T @ rows / 3000
        assert_allclose(cross, np.eye(6) / 6, atol=0.02)


class TestSeeds:
    @pytest.mark.parametrize("seed", [0, 17, 2**64, 2**128 - 1])
    def test_an_integer_is_taken_as_it_is(self, seed):
        assert seed_from(seed) == seed
        assert type(seed_from(seed)) is int

    @pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint64])
    def test_numpy_integers_are_integers(self, kind):
        assert seed_from(kind(17)) == 17
        assert type(seed_from(kind(17))) is int

    def test_a_generator_gives_its_next_bits_and_moves_on(self):
        first, second = np.random.default_rng(1), np.random.default_rng(1)
        assert seed_from(first) == seed_from(second)
        assert seed_from(first) != seed_from(np.random.default_rng(1))
        assert 0 <= seed_from(first) < 2**63

    def test_none_is_fresh_every_time(self):
        assert len({seed_from(None) for _ in range(20)}) == 20

    @pytest.mark.parametrize("seed", [-1, 2**128, np.int64(-3)])
    def test_integers_out_of_range_are_refused(self, seed):
        with pytest.raises(ValueError, match=rf"`rng` must lie in \[0, 2\*\*128\), got {seed}\."):
            seed_from(seed)

    @pytest.mark.parametrize("seed", [1.0, "1", True, np.bool_(True), np.random.SeedSequence(1)], ids=repr)
    def test_other_objects_are_refused_by_name(self, seed):
        with pytest.raises(TypeError, match=rf"`rng` must be an integer, .* got {type(seed).__name__}\."):
            seed_from(seed)

    def test_no_global_state_is_read_or_changed(self):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        probes(10, range(2), seed=seed_from(None))
        assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_block_is_what_these_tests_assume():
    assert _probes._BLOCK == BLOCK
