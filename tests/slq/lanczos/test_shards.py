"""Vectors that are cut over several ranks, here threads of one process: the same numbers as in one piece."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import array_api_compat.numpy as array_namespace
import numpy as np
import pytest

import slq
from slq._files import _store
from slq._files._vectors_file import VectorsFile
from slq._lanczos import _probes
from slq._lanczos._rows import orthonormal
from slq._operators._algebra import plus
from slq._operators._operators import as_operator
from slq._shards import Shards


class Ranks:
    """Threads that add arrays up."""

    def __init__(self, count):
        self.count, self._barrier, self._boxes = count, threading.Barrier(count, timeout=20), [None] * count

    def reduce(self, rank):
        def added(x):
            self._boxes[rank] = np.array(x)
            self._barrier.wait()
            total = sum(self._boxes)
            self._barrier.wait()
            return total

        return added

    def run(self, function):
        with ThreadPoolExecutor(self.count) as pool:
            tasks = [pool.submit(self._guarded, function, rank) for rank in range(self.count)]
            errors = [task.exception() for task in tasks]
        if any(errors):
            raise next(e for e in errors if e and not isinstance(e, threading.BrokenBarrierError))
        return [task.result() for task in tasks]

    def _guarded(self, function, rank):
        try:
            return function(rank)
        except BaseException:
            self._barrier.abort()
            raise


class Sharded:
    """A matrix of which each rank multiplies its own rows by the whole block."""

    def __init__(self, matrix, rows, reduce):
        self.shape, self.dtype, self._matrix, self.rows, self.reduce = matrix.shape, matrix.dtype, matrix, rows, reduce
        self._here = Shards(len(matrix), rows, reduce).numbers()

    def matmat(self, X):
        block = np.zeros((self.shape[0], X.shape[1]), dtype=X.dtype)
        block[self._here] = X
        return (self._matrix @ self.reduce(block))[self._here]


def cut(n, count):
    """Uneven shards: of three and more one has two pieces, and one a single row or none."""
    if count == 1:
        return [(range(n),)]
    middle, edges = n // 3, np.linspace(n // 3, n, count - 1, dtype=int)
    inner = [(range(int(a), int(b)),) for a, b in pairwise(edges)]
    first = (range(middle // 2), range(middle // 2 + middle % 2, middle)) if count > 2 else (range(middle),)
    odd = (range(middle // 2, middle // 2 + middle % 2),) if count > 2 else (range(middle, n),)
    return [first, odd, *inner]


def run(matrix, count, function):
    ranks, rows = Ranks(count), cut(len(matrix), count)
    return ranks.run(lambda rank: function(Sharded(matrix, rows[rank], ranks.reduce(rank))))


def spread(n=60):
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    values = np.concatenate([rng.uniform(-1, 1, n - 3), [4.0, 5.0, 9.0]])
    A = (Q * values) @ Q.T
    return (A + A.T) / 2


@pytest.mark.parametrize("n", [1, 1000, 150_000])
@pytest.mark.parametrize(("kind", "dtype"), [("sphere", "float64"), ("sphere", "float32"), ("rademacher", "float64")])
def test_a_probe_is_the_same_to_the_last_bit_however_it_is_cut(kind, n, dtype):
    options = {"seed": 7, "kind": kind, "dtype": dtype}
    wanted = _probes.probes(n, range(3, 5), **options)
    for count in (2, 3, 4):
        ranks, rows = Ranks(count), cut(n, count)
        shards = [Shards(n, rows[rank], ranks.reduce(rank)) for rank in range(count)]
        found = ranks.run(lambda rank, s=shards: _probes.probes(n, range(3, 5), **options, shards=s[rank]))
        together = np.full((2, n), np.nan, dtype=dtype)
        for part, shard in zip(found, shards, strict=True):
            together[:, shard.numbers()] = part
        np.testing.assert_array_equal(together, wanted)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
class TestRuns:
    @pytest.mark.parametrize(
        ("options", "close"),
        [
            ({"reorth": "full", "steps": 20}, 1e-10),
            ({"reorth": "none", "steps": 8}, 1e-10),
            ({"reorth": "full", "steps": 20, "basis": "float16"}, 1e-5),
        ],
        ids=["full", "none", "float16"],
    )
    def test_give_the_numbers_of_a_whole_one(self, count, options, close):
        A, options = spread(), {"probes": 3, "rng": 1, **options}
        wanted = slq.spectrum(A, **options)
        for s in run(A, count, lambda op: slq.spectrum(op, **options)):
            for name in ("alpha", "beta"):
                np.testing.assert_allclose(getattr(s, name), getattr(wanted, name), atol=close)
            # Krylov vectors are orthogonal to sqrt(eps).
            np.testing.assert_allclose(s.overlaps, wanted.overlaps, atol=max(close, 1e-9))

    @pytest.mark.parametrize(("reorth", "most"), [("none", 1.0), ("full", 1.25)])
    def test_need_one_sum_a_step_and_two_where_vectors_are_made_orthogonal(self, count, reorth, most):
        rng = np.random.default_rng(2)
        A = rng.standard_normal((200, 200)) / 20
        A += A.T + 30.0 * np.eye(200)  # alpha is far from zero and beta small beside it
        sums = {}

        def counted(op, steps):
            plain, calls = op.reduce, []
            op.reduce = lambda x: (calls.append(x.nbytes), plain(x))[1]
            s = slq.spectrum(op, probes=2, steps=steps, rng=0, reorth=reorth)
            return len(calls), s

        wanted = slq.spectrum(A, probes=2, steps=40, rng=0, reorth=reorth)
        for steps in (20, 40):
            for calls, s in run(A, count, lambda op, m=steps: counted(op, m)):
                sums[steps] = calls
                np.testing.assert_allclose(s.beta[:, :15], wanted.beta[:, :15], atol=1e-11)
        # The matrix of these tests makes one of its own in a product, and a look at the callback one each.
        assert sums[40] - sums[20] <= 20 * (most + 1) + 4

    def test_by_the_standard_recurrence_too(self, count, monkeypatch):
        A, options = spread(), {"probes": 3, "rng": 1, "steps": 20, "reorth": "full"}
        wanted = slq.spectrum(A, **options)
        monkeypatch.setattr("slq._lanczos._lanczos._arrays.host_view", lambda x: None)
        for s in run(A, count, lambda op: slq.spectrum(op, **options)):
            for name in ("alpha", "beta", "overlaps"):
                np.testing.assert_allclose(getattr(s, name), getattr(wanted, name), atol=1e-10)

    def test_go_on_until_the_tolerance_is_met_and_deflate(self, count):
        A, options = spread(100), {"probes": 8, "steps": 30, "rng": 0, "batch": 3}
        wanted = slq.spectrum(slq.as_operator(A.__matmul__, n=100, block=True), **options)
        assert wanted.deflated.size
        for s in run(A, count, lambda op: slq.spectrum(op, **options)):
            np.testing.assert_allclose(s.deflated, wanted.deflated, rtol=1e-10)
            np.testing.assert_allclose(s.trace(np.square).value, wanted.trace(np.square).value, rtol=1e-10)
            np.testing.assert_allclose(s.trace(np.square).value, np.sum(A**2), rtol=1e-2)

    def test_multiply_all_columns_of_a_small_matrix(self, count):
        A = spread()
        for s in run(A, count, lambda op: slq.spectrum(op, rng=0)):
            assert s.kind == "exact"
            np.testing.assert_allclose(s.nodes[0], np.linalg.eigvalsh(A), atol=1e-12)

    def test_end_where_the_krylov_space_does(self, count):
        A = np.diag(np.repeat([1.0, 2.0, 4.0], 20))
        for s in run(A, count, lambda op: slq.spectrum(op, probes=2, steps=30, rng=0)):
            assert s.lengths.tolist() == [3, 3]
            np.testing.assert_allclose(s.nodes[:, :3], [[1, 2, 4]] * 2)

    def test_of_extreme_scale(self, count):
        A, options = spread() * 1e200, {"probes": 2, "steps": 10, "rng": 0}
        wanted = slq.spectrum(A, **options)
        for s in run(A, count, lambda op: slq.spectrum(op, **options)):
            np.testing.assert_allclose(s.alpha, wanted.alpha, rtol=1e-9, atol=1e190)

    def test_of_complex_matrices(self, count):
        A = spread(20) + 1j * np.triu(np.ones((20, 20)), 1) - 1j * np.tril(np.ones((20, 20)), -1)
        options = {"probes": 2, "steps": 10, "rng": 0}
        wanted = slq.spectrum(A, **options)
        for s in run(A, count, lambda op: slq.spectrum(op, **options)):
            np.testing.assert_allclose(s.alpha, wanted.alpha, atol=1e-10)
            np.testing.assert_allclose(s.overlaps, wanted.overlaps, atol=1e-10)

    def test_of_sums_and_shifts(self, count):
        A = spread()
        for T in run(A, count, lambda op: slq.spectrum(plus(op, 2.0), probes=1, steps=5, rng=0)):
            np.testing.assert_allclose(T.alpha, slq.spectrum(A, probes=1, steps=5, rng=0).alpha + 2.0, atol=1e-12)

    def test_are_refused_where_rows_are_missing(self, count):
        def short(op):
            op.rows = tuple(r for r in op.rows if r)[1:]
            return slq.spectrum(op, rng=0)

        with pytest.raises(ValueError, match=r"`rows` of an operator must be ascending ranges"):
            run(spread(), count, short)

    def test_agree_on_a_seed(self, count):
        seeds = [s.seed for s in run(spread(), count, lambda op: slq.spectrum(op, probes=1, steps=2))]
        assert len(set(seeds)) == 1
        assert len({run(spread(), count, lambda op: slq.spectrum(op, probes=1, steps=2))[0].seed, *seeds}) == 2

    def test_end_where_any_rank_asks_to(self, count):
        ends = iter([False] * (count - 1) + [True])

        def ended(op):
            end = next(ends)
            return slq.spectrum(op, probes=1, steps=40, rng=0, callback=lambda _: end)

        for s in run(spread(), count, ended):
            assert s.status == "stopped by callback"
            assert s.steps < 40

    def test_end_on_all_ranks_where_a_callback_raises_on_one(self, count):
        def attempt(op, function):
            fails = next(failing)

            def callback(_):
                if fails:
                    raise KeyError

            with pytest.raises(slq.RunError, match=r"KeyError|`callback` raised on another rank") as caught:
                function(op, callback)
            return str(caught.value)

        for function in (
            lambda A, callback: slq.spectrum(A, probes=1, steps=9, callback=callback),
            lambda A, callback: slq.eigsh(A, 2, callback=callback),
        ):
            failing = iter([True] + [False] * (count - 1))
            texts = run(spread(), count, lambda op, f=function: attempt(op, f))
            assert sum("KeyError" in text for text in texts) == 1

    def test_pass_the_check_of_a_good_operator_and_no_other(self, count):
        A = spread()
        assert all(run(A, count, slq.check))
        bad = run(A + np.triu(A), count, slq.check)
        assert [[f.name for f in d.findings if not f.passed] for d in bad] == [["symmetric"]] * count

    def test_not_a_number_on_one_rank_ends_all(self, count):
        A = spread()
        A[50, 50] = np.nan

        def attempt(op):
            with pytest.raises(slq.RunError, match="NaN or Inf"):
                slq.spectrum(op, probes=1, steps=5, rng=0)

        run(A, count, attempt)


def test_ranks_with_different_seeds_are_refused():
    seeds = iter([1, 2])
    with pytest.raises(ValueError, match="`rng` differs between ranks"):
        run(spread(), 2, lambda op: slq.spectrum(op, probes=1, steps=2, rng=next(seeds)))


def here(op):
    return Shards(op.shape[0], op.rows, op.reduce).numbers()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
class TestEigenpairs:
    @pytest.mark.parametrize("block", [1, 3])
    @pytest.mark.parametrize("which", ["LM", "BE"])
    def test_are_those_of_the_whole_matrix(self, count, which, block):
        A = spread(90)
        A[:4, :4] = 20.0 * np.eye(4)  # four copies of a value, which one start vector cannot see
        A[:4, 4:] = A[4:, :4] = 0.0
        options = {"which": which, "rng": 0, "block": block, "basis": 24}
        wanted = slq.eigsh(A, 6, **options)
        together = np.full((90, 6), np.nan)
        for pairs, rows in run(A, count, lambda op: (slq.eigsh(op, 6, **options), here(op))):
            np.testing.assert_allclose(pairs.values, wanted.values, atol=1e-10)
            assert (pairs.verified, pairs.converged.all(), pairs.n) == (True, True, 90)
            together[rows] = pairs.vectors
        np.testing.assert_allclose(A @ together, together * wanted.values, atol=1e-10)
        np.testing.assert_allclose(together.T @ together, np.eye(6), atol=1e-12)

    def test_begin_with_vectors_and_beside_others_that_are_cut_alike(self, count):
        A = spread(90)
        values, vectors = np.linalg.eigh(A)

        def found(op):
            known = slq.eigsh(op, 2, which="LA", rng=0)
            rest = slq.eigsh(op, 2, which="LA", deflate=known, start=vectors[here(op), -4:], rng=0)
            return known.values, rest.values

        for known, rest in run(A, count, found):
            np.testing.assert_allclose(known, values[-2:], atol=1e-10)
            np.testing.assert_allclose(rest, values[-4:-2], atol=1e-10)

    def test_end_where_any_rank_asks_to(self, count):
        first = iter([lambda _: True] + [None] * (count - 1))
        for pairs in run(spread(90), count, lambda op: slq.eigsh(op, 2, rng=0, callback=next(first))):
            assert "stopped by callback" in pairs.status

    def test_are_not_kept_in_a_checkpoint(self, count, tmp_path):
        with pytest.raises(ValueError, match=r"`checkpoint` of slq\.eigsh holds whole vectors"):
            run(spread(), count, lambda op: slq.eigsh(op, checkpoint=tmp_path / "e.npz"))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
class TestFunctions:
    @pytest.mark.parametrize("passes", [1, 2])
    def test_are_applied_to_vectors_that_are_cut_alike(self, count, passes):
        A = spread() + 3.0 * np.eye(60)
        b = np.random.default_rng(1).standard_normal((60, 2))
        together = np.full((60, 2), np.nan)
        for found, rows in run(A, count, lambda op: (slq.apply(op, b[here(op)], "inverse", passes=passes), here(op))):
            together[rows] = found.value
            np.testing.assert_allclose(found.norm, np.linalg.norm(np.linalg.solve(A, b), axis=0), rtol=1e-7)
        np.testing.assert_allclose(together, np.linalg.solve(A, b), atol=1e-7)

    @pytest.mark.parametrize(
        "estimator",
        [
            lambda A: slq.hutchinson(A, products=30, rng=0),
            lambda A: slq.hutchpp(A, products=30, rng=0),
            lambda A: slq.xtrace(A, products=30, rng=0),
            lambda A: slq.xnystrace(A, products=30, rng=0),
            lambda A: slq.xtrace(A, rng=0),
            lambda A: slq.krylov_aware_trace(A, "exp", rng=0, probes=4),
            lambda A: slq.xtrace(slq.matrix_function(A, "exp"), products=30, rng=0),
        ],
        ids=["hutchinson", "hutchpp", "xtrace", "xnystrace", "doubled", "krylov-aware", "function"],
    )
    def test_have_the_traces_of_the_whole_matrix(self, count, estimator):
        A = spread() + 1.5 * np.eye(60)
        A[:5] = A[:, :5] = 0.0  # a sketch has fewer directions than vectors
        wanted = estimator(slq.as_operator(A.__matmul__, n=60, block=True))
        for found in run(A, count, estimator):
            for name in ("value", "low", "high"):
                assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("function", [lambda A: slq.diagonal(A, "exp", rng=0), lambda A: slq.xdiag(A, products=8)])
def test_what_takes_whole_vectors_says_so(function):
    with pytest.raises(TypeError, match="cut into shards"):
        run(spread(), 2, function)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_become_orthonormal_over_ranks_also_where_they_depend_on_each_other(count, dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 30)) * 10.0 ** np.array([0, -3, 2, 0, -6, 0])[:, None]
    X[3], X[5] = X[0] * (1 + 1e-3) + 1e-5 * X[3], 0.0
    X, ranks = X.astype(dtype), Ranks(count)
    found = ranks.run(lambda rank: orthonormal(X[:, rank::count], array_namespace, ranks.reduce(rank)))
    Q, R, unit = np.empty_like(X), found[0][1], np.finfo(dtype).eps
    for rank, (rows, factor) in enumerate(found):
        Q[:, rank::count] = rows
        np.testing.assert_array_equal(factor, R)
    np.testing.assert_allclose(R.T @ Q, X, atol=100 * unit * np.abs(X).max())
    gram = (Q @ Q.T).astype(float)
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=50 * unit)
    np.testing.assert_allclose(np.sort(np.diag(gram))[1:], 1.0, atol=50 * unit)  # of five; the sixth is of rounding
    exact = np.linalg.svd(X.astype(float), compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(R, compute_uv=False), exact, atol=100 * unit * exact[0])


def test_reduce_needs_rows():
    operator = Sharded(spread(), (range(60),), lambda x: x)
    del operator.rows
    with pytest.raises(TypeError, match="needs `rows`"):
        as_operator(operator)


@pytest.mark.parametrize("more", [{"reorth": "full"}, {"reorth": "none"}, {"batch": 2}], ids=["full", "none", "batch"])
@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 3), (3, 3)])
class TestCheckpoints:
    def test_resume_with_as_many_ranks_or_others_to_the_same_numbers(self, tmp_path, more, before, after):
        A, options = spread(100), {"probes": 4, "steps": 16, "rng": 0, **more}
        wanted = slq.spectrum(slq.as_operator(A.__matmul__, n=100, block=True), **options)
        path, late = tmp_path / "run.npz", 20
        stopped = run(
            A, before, lambda op: slq.spectrum(op, checkpoint=path, callback=lambda s: s.products > late, **options)
        )
        assert stopped[0].status == "stopped by callback"
        assert stopped[0].products < wanted.products
        multiplied = []

        def resumed(op):
            plain = op.matmat
            op.matmat = lambda X: (multiplied.append(X.shape[1]), plain(X))[1]
            return slq.spectrum(op, checkpoint=path, **options)

        # Without a basis rounding grows as Ritz values converge, on shards as anywhere.
        close, m = (1e-6, 13) if options.get("reorth") == "none" else (1e-10, 16)
        uninterrupted = run(A, after, lambda op: slq.spectrum(op, **options))
        for s, whole in zip(run(A, after, resumed), uninterrupted, strict=True):
            np.testing.assert_allclose(s.alpha[:, :m], wanted.alpha[:, :m], atol=close)
            # Krylov vectors are orthogonal to sqrt(eps).
            np.testing.assert_allclose(s.overlaps[:, :m], wanted.overlaps[:, :m], atol=max(close, 2e-8))
            assert s.metadata["resumed"] == 1
            if before == after:  # to the last bit
                for name in ("alpha", "beta", "overlaps"):
                    np.testing.assert_array_equal(getattr(s, name), getattr(whole, name))
        assert 0 < sum(multiplied) <= after * (wanted.products - stopped[0].products + 4)
        multiplied.clear()
        for s in run(A, before, resumed):  # a run that has ended gives its result again, for one product
            np.testing.assert_allclose(s.alpha[:, :m], wanted.alpha[:, :m], atol=close)
        assert sum(multiplied) <= before


def test_a_checkpoint_whose_files_are_gone_is_refused(tmp_path):
    options = {"probes": 1, "steps": 8, "rng": 0, "checkpoint": tmp_path / "run.npz"}
    run(spread(), 2, lambda op: slq.spectrum(op, **options))
    next(tmp_path.glob("run.p2-*.rows-0-*")).unlink()
    with pytest.raises(ValueError, match="of which 40 are there"):
        run(spread(), 2, lambda op: slq.spectrum(op, **options))


def stopped_early(A, count, path):
    options = {"probes": 2, "steps": 16, "rng": 0, "reorth": "full"}
    run(A, count, lambda op: slq.spectrum(op, checkpoint=path, callback=lambda s: s.products > 10, **options))
    return options


@pytest.mark.parametrize("which", ["run.npz", "run.p2-*.rows-20-60.?.npz", "run.p2-*.rows-20-60.basis-*"])
@pytest.mark.parametrize("harm", ["cut short", "changed", "gone"])
def test_damage_is_told_on_all_ranks(tmp_path, which, harm):
    A, path = spread(), tmp_path / "run.npz"
    options = stopped_early(A, 2, path)
    (file,) = tmp_path.glob(which)
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(data if harm == "changed" else data[: len(data) // 2])

    def told(op):
        try:
            return str(slq.spectrum(op, checkpoint=path, **options).metadata["resumed"])
        except ValueError as error:
            return str(error)

    texts = run(A, 2, told)
    if (which, harm) == ("run.npz", "gone"):
        assert texts == ["0", "0"]  # a new run
    else:
        assert all(re.search("damaged|contradicts|are there|missing|another rank", text) for text in texts)
        assert not all("another rank" in text for text in texts)


@pytest.mark.parametrize("victim", ["run.npz", "rows-20-60.0.npz", "rows-20-60.basis-0-2"])
def test_a_disk_that_fails_on_one_rank_leaves_the_files_before(tmp_path, monkeypatch, victim):
    A, path = spread(), tmp_path / "run.npz"
    options = stopped_early(A, 2, path)
    manifest, plain = path.read_bytes(), {"write": _store.write, "append": VectorsFile.append}

    def write(file, *args, **more):
        if file.name.endswith(victim):
            raise OSError(28, "No space left on device")
        return plain["write"](file, *args, **more)

    def append(self, vectors):
        if vectors is not None and "rows-20-60" in self._archive.name and "basis" in victim:
            raise OSError(28, "No space left on device")
        return plain["append"](self, vectors)

    monkeypatch.setattr(_store, "write", write)
    monkeypatch.setattr(VectorsFile, "append", append)
    monkeypatch.setattr("slq._run._checkpoint.Checkpoint.due", lambda *_: True)
    with pytest.warns(slq.SlqWarning, match="cannot be written"):
        run(A, 2, lambda op: slq.spectrum(op, checkpoint=path, **options))
    assert (path.read_bytes() == manifest) != ("basis" in victim)  # at its end a run needs no vectors
    monkeypatch.undo()
    for count in (2, 3):
        for s in run(A, count, lambda op: slq.spectrum(op, checkpoint=path, **options)):
            np.testing.assert_allclose(s.alpha, slq.spectrum(A, **options).alpha, atol=1e-10)
            assert s.metadata["resumed"] == count - 1 + ("basis" in victim)


def test_ranks_without_rows_resume_too(tmp_path):
    A, path = spread(), tmp_path / "run.npz"
    options, rows = stopped_early(A, 2, path), [(range(30),), (), (range(30, 60),), ()]
    ranks = Ranks(4)
    found = ranks.run(lambda r: slq.spectrum(Sharded(A, rows[r], ranks.reduce(r)), checkpoint=path, **options))
    for s in found:
        np.testing.assert_allclose(s.alpha, slq.spectrum(A, **options).alpha, atol=1e-10)
        assert s.metadata["resumed"] == 1
    assert len(list(tmp_path.glob("run.p4-*.rows-*"))) == 2
    assert not list(tmp_path.glob("run.p2-*"))


def test_a_shard_is_no_checkpoint(tmp_path):
    options = stopped_early(spread(), 2, tmp_path / "run.npz")
    (file,) = tmp_path.glob("run.p2-*.rows-20-60.?.npz")
    with pytest.raises(ValueError, match="pass that one"):
        slq.spectrum(spread(), checkpoint=file, **options)


def test_one_run_at_a_time_has_the_files(tmp_path):
    def told(op):
        with pytest.raises(BlockingIOError) as caught:
            slq.spectrum(op, checkpoint=tmp_path / "run.npz", rng=0)
        return str(caught.value)

    with _store.locked(tmp_path / "run.npz", "run"):
        first, second = run(spread(), 2, told)
    assert "is being written by another run" in first
    assert "another rank failed" in second


def test_a_checkpoint_in_shards_is_not_taken_for_a_whole_one(tmp_path):
    options = {"probes": 1, "steps": 8, "rng": 0, "checkpoint": tmp_path / "run.npz"}
    run(spread(), 2, lambda op: slq.spectrum(op, **options))
    with pytest.raises(ValueError, match="vectors in shards = True"):
        slq.spectrum(spread(), **options)
