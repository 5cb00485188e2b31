"""Threads: as many as allowed, each piece once, errors and error states passed on, and safe from several callers."""

import os
import sys
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

import slq
from slq._kernels import _kernels, _threads


@pytest.fixture
def cores(monkeypatch):
    """Pretend to have eight cores and no limits."""
    monkeypatch.setattr(_threads, "_cores", lambda: 8)
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "threadpoolctl", raising=False)


@pytest.mark.usefixtures("cores")
class TestLimit:
    def test_is_the_number_of_cores(self):
        assert _threads.limit() == 8

    @pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
    @pytest.mark.parametrize(
        ("text", "count"), [("3", 3), ("2,4", 2), (" 5 ", 5), ("99", 8), ("0", 8), ("many", 8), ("", 8)]
    )
    def test_is_less_where_the_environment_says_so(self, name, text, count, monkeypatch):
        monkeypatch.setenv(name, text)
        assert _threads.limit() == count

    def test_is_less_where_threadpoolctl_has_limited_a_library(self, monkeypatch):
        info = [{"num_threads": 6}, {"num_threads": 2}]
        monkeypatch.setitem(sys.modules, "threadpoolctl", SimpleNamespace(threadpool_info=lambda: info))
        assert _threads.limit() == 2

    def test_threadpoolctl_itself_is_understood(self):
        control = pytest.importorskip("threadpoolctl")
        with control.threadpool_limits(1):
            assert _threads.limit() == 1

    def test_without_affinity_the_count_of_the_system_holds(self, monkeypatch):
        monkeypatch.undo()
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert _threads._cores() == 1


class TestRun:
    @pytest.mark.parametrize("threads", [1, 2, 3])
    @pytest.mark.parametrize("blocks", [1, 2, 7, 100])
    @pytest.mark.parametrize("least", [1, 30])
    def test_every_block_is_done_once(self, threads, blocks, least):
        seen = np.zeros(blocks, dtype=int)

        def task(first, last):
            assert last - first >= min(least, blocks)
            seen[first:last] += 1

        _threads.run(task, blocks, threads=threads, least=least)
        assert_array_equal(seen, 1)

    def test_a_single_thread_is_the_callers(self):
        names = set()
        _threads.run(lambda *_: names.add(threading.current_thread()), 10, threads=1)
        assert names == {threading.current_thread()}

    def test_errors_are_raised_in_the_caller(self):
        def task(first, _):
            if first:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            _threads.run(task, 10, threads=2)

    def test_numpys_error_state_goes_along(self):
        found = []
        with warnings.catch_warnings(), np.errstate(over="ignore"):
            warnings.simplefilter("error")
            _threads.run(lambda *_: found.append(np.geterr()["over"]), 10, threads=2)
        assert set(found) == {"ignore"}

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_gets_threads_of_its_own(self):
        _threads.run(lambda *_: None, 10, threads=2)
        _threads._forget_pool()
        done = []
        _threads.run(lambda *piece: done.append(piece), 10, threads=2)
        assert len(done) == 8


def test_calls_from_several_threads_give_what_one_gives(monkeypatch):
    monkeypatch.setattr(_threads, "limit", lambda: 2)
    monkeypatch.setattr(_kernels, "_WORTH_FUSING", 0)
    monkeypatch.setattr(_kernels, "_WORTH_NUMBA", 0)
    n = 40_000
    A = scipy.sparse.diags_array(
        [np.linspace(0, 4, n), np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1, -1], format="csr"
    )
    alone = [slq.spectrum(A, probes=2, steps=10, reorth="none", rng=seed).alpha for seed in range(4)]
    found = [None] * 4

    def work(seed):
        found[seed] = slq.spectrum(A, probes=2, steps=10, reorth="none", rng=seed).alpha

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for one, two in zip(alone, found, strict=True):
        assert_array_equal(one, two)
