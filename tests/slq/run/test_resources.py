"""What a run takes and leaves: memory as asked, nothing behind; threads, processes and pickles make no difference."""

import multiprocessing
import pickle
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse

import slq
from slq._kernels import _threads
from tests.torture import resources

linux = pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc")
LAPLACIAN = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(3000, 3000), format="csr")
NAMES = ("alpha", "beta", "lengths", "overlaps", "nodes", "weights", "residuals")


def compute(seed):
    """Run a matrix large enough for threads."""
    return slq.spectrum(LAPLACIAN, probes=3, steps=25, rng=seed)


def same_bits(one, two):
    return all(getattr(one, name).tobytes() == getattr(two, name).tobytes() for name in NAMES)


@linux
def test_many_short_runs_leave_nothing_behind():
    assert resources.flat(found := resources.left(40, resources.short_run)), found


@linux
def test_many_short_hessians_leave_no_graph_behind():
    pytest.importorskip("torch")
    before = resources.graphs()
    assert resources.flat(found := resources.left(10, resources.short_hessian)), found
    assert resources.graphs() <= before


@linux
def test_that_what_is_left_would_be_noticed():
    kept = []
    found = resources.left(20, lambda _: kept.append(open("/dev/null")))  # noqa: SIM115
    assert found[0] == 20
    assert not resources.flat(found)
    for file in kept:
        file.close()
    assert not resources.flat(resources.left(20, lambda _: kept.extend([] for _ in range(50))))


@pytest.mark.gpu
def test_many_short_runs_leave_no_memory_on_a_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for seed in range(resources.WARM):
        resources.short_hessian(seed, "cuda")
    before = torch.cuda.memory_allocated()
    for seed in range(1000):
        resources.short_hessian(seed, "cuda")
    assert torch.cuda.memory_allocated() <= before
    assert resources.graphs() == 0


@linux
@pytest.mark.slow
@pytest.mark.parametrize("basis", ["auto", "none"])
def test_memory_is_kept_to_as_another_process_sees_it(basis):
    n, limit = 400_000, 48 * 2**20  # fifteen vectors; one probe of 40 steps takes 128 MB with a basis
    taken, made = resources.watched(n, limit, basis)
    assert made == [4, 40]
    assert taken < 1.25 * limit + resources.BYTES


def test_a_warning_is_told_once_per_run():
    skewed = np.diag([1.0, 2.0, 5.0]) + np.eye(3, k=1)
    for _ in range(3):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            run = slq.spectrum(np.kron(np.eye(30), skewed), probes=4, steps=20, rng=0)
        messages = [str(one.message) for one in told]
        assert len(messages) == len(set(messages)) == len(run.warnings) > 0


def test_runs_in_threads_are_those_of_one_thread_bit_by_bit():
    seeds = range(6)
    serial = [compute(seed) for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(compute, seeds))
    assert all(same_bits(one, two) for one, two in zip(serial, both, strict=True))


@pytest.mark.parametrize("method", [pytest.param("fork", marks=linux), pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning")  # JAX, where other tests have loaded it
def test_runs_in_processes_are_those_of_this_one(method, monkeypatch):
    if method == "fork":  # a spawned process would start BLAS with other threads than this one
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
    done = []
    _threads.run(lambda first, last: done.append(last - first), 8, threads=2)  # the pool has threads when it forks
    assert sum(done) == 8
    context = multiprocessing.get_context(method)
    here = [compute(seed) for seed in range(2)]
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        there = list(pool.map(compute, range(2), timeout=150))
    for one, two in zip(here, there, strict=True):
        if method == "fork":
            assert same_bits(one, two)
        else:  # small runs go through numba only where it is imported already, which a new process need not share
            np.testing.assert_allclose(two.alpha, one.alpha, rtol=1e-9)
            np.testing.assert_allclose(two.beta, one.beta, rtol=1e-9, atol=1e-12)


def results():
    """Return one result of every kind."""
    A, run = np.diag(np.arange(1.0, 41.0)), slq.spectrum(np.diag(np.arange(1.0, 41.0)), probes=3, steps=12, rng=0)
    yield from (run, run.trace("log"), run.cdf([3.0]), run.density(), run.error, run.outliers)
    yield slq.History(metadata={"a": 1}).append(0, run, arrays={"top": np.ones(2)}, loss=1.0)
    yield from (slq.eigsh(A, 2, rng=0), slq.check(A), slq.plan(A), slq.apply(A, np.ones(40), "exp", steps=8))
    yield slq.lanczos(A, np.ones(40), 5)
    yield slq.gauss(slq.lanczos(A, np.ones(40), 5))


def test_results_can_be_pickled_and_come_back_the_same():
    for result in results():
        back = pickle.loads(pickle.dumps(result))
        assert type(back) is type(result)
        assert repr(back) == repr(result)
    history = next(x for x in results() if isinstance(x, slq.History))
    run = slq.spectrum(LAPLACIAN, probes=2, steps=5, rng=0)
    back = pickle.loads(pickle.dumps(run))
    assert back == run
    assert same_bits(run, back)
    assert not back.alpha.flags.writeable
    assert pickle.loads(pickle.dumps(history)) == history
