"""Row blocks of an array, worked on by several threads: how many there may be, and the pool that they come from.

The caller works too, for its own thread is awake. All callers in a process share one pool of one thread less than there
are cores. What runs here must release the GIL: kernels, NumPy on large pieces, SciPy's sparse products.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

# Pieces per thread: the last to finish is then late by a fraction of its share only.
_PIECES = 4

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def limit() -> int:
    """Return how many threads may work: the cores, or fewer where the environment or threadpoolctl says so.

    Read are OMP_NUM_THREADS, NUMBA_NUM_THREADS, the cores that the process may use, and the limits that threadpoolctl
    has set, where it is loaded.
    """
    counts = [_cores()]
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        first = os.environ.get(name, "").split(",")[0].strip()  # OpenMP allows a list, one number per nesting
        if first.isdecimal() and int(first) > 0:
            counts.append(int(first))
    control = sys.modules.get("threadpoolctl")  # whoever has limited something has imported it
    if control is not None:
        counts += [library["num_threads"] for library in control.threadpool_info()]
    return max(1, min(counts))


def run(task: Callable[[int, int], object], blocks: int, *, threads: int, least: int = 1) -> None:
    """Call `task(first, last)` on pieces of range(blocks) that together cover it, each of at least `least` blocks.

    Which thread takes which piece is open, so a task must write to places of its own piece only.
    """
    count = min(threads * _PIECES if threads > 1 else 1, max(1, blocks // least))
    pieces = iter([(i * blocks // count, (i + 1) * blocks // count) for i in range(count)])
    helpers = min(threads, count)
    if helpers == 1:
        _work(task, pieces)
        return
    pool, turn = _shared_pool(), threading.Lock()
    # NumPy's error state belongs to the context; a context can be entered once at a time.
    jobs = [pool.submit(contextvars.copy_context().run, _work, task, pieces, turn) for _ in range(helpers - 1)]
    try:
        _work(task, pieces, turn)
    finally:
        started = [job for job in jobs if not job.cancel()]  # who comes too late has nothing left to do
        wait(started)
    for job in started:
        job.result()


def _work(
    task: Callable[[int, int], object], pieces: Iterator[tuple[int, int]], turn: threading.Lock | None = None
) -> None:
    """Take pieces until there are none."""
    while True:
        if turn is None:
            piece = next(pieces, None)
        else:
            with turn:
                piece = next(pieces, None)
        if piece is None:
            return
        task(*piece)


def _shared_pool() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, _cores() - 1), thread_name_prefix="slq")
        return _pool


def _forget_pool() -> None:
    """Start anew in a forked child, which has the parent's pool but none of its threads."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
