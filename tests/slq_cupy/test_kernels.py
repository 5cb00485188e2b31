"""The CUDA kernels give NumPy's numbers: compiled for the CPU, every thread and barrier played through."""

import numpy as np
import pytest

DTYPES = [("float64", "float64"), ("float32", "float32"), ("float32", "float16"), ("float64", "float32")]
# Shorter than a warp, no multiple of a block of threads, more than one tile per block of threads.
LENGTHS = [1, 31, 257, 5000]
K, COUNT, SLOT = 2, 5, 3


@pytest.fixture(params=DTYPES, ids="-".join)
def case(request, on_host):
    number, stored = request.param
    module = __import__("slq_cupy._kernels", fromlist=["kernels"])
    return on_host.cupy, module.kernels(number, stored), number, stored


def draw(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_close(found, expected, dtype, size=1.0):
    np.testing.assert_allclose(found.get(), expected, rtol=0, atol=64 * np.finfo(dtype).eps * size)


@pytest.mark.parametrize("n", LENGTHS)
def test_the_recurrence_and_its_inner_product(case, n):
    cupy, kernels, number, _ = case
    images, previous, current = (draw((K, n), number, seed) for seed in range(3))
    beta = draw(K, "float64", 3)
    expected = images - beta.astype(number)[:, None] * previous
    w = cupy.asarray(previous)  # may be overwritten
    alpha = kernels.recur(cupy.asarray(images), w, *map(cupy.asarray, (current, beta)), w)

    assert_close(w, expected, number, 10)
    assert_close(alpha, (expected.astype(float) * current).sum(axis=1), number, n)


@pytest.mark.parametrize("n", LENGTHS)
def test_the_subtraction_of_the_current_vector_and_the_norm(case, n):
    cupy, kernels, number, _ = case
    w, current, alpha = draw((K, n), number), draw((K, n), number, 1), draw(K, "float64", 2)
    expected = w - alpha.astype(number)[:, None] * current
    on_device = cupy.asarray(w)
    squares = kernels.orthogonalise(on_device, cupy.asarray(current), cupy.asarray(alpha))

    assert_close(on_device, expected, number, 10)
    assert_close(squares, (expected.astype(float) ** 2).sum(axis=1), number, n)


@pytest.mark.parametrize("n", LENGTHS)
def test_the_newest_two_vectors_are_taken_out(case, n):
    cupy, kernels, number, _ = case
    w, older, current = (draw((K, n), number, seed) for seed in range(3))
    factors = draw((K, 2), "float64", 3)
    on_device, *pair = map(cupy.asarray, (w, older, current))
    found = kernels.overlaps(on_device, *pair)
    expected = np.stack([np.einsum("kn,kn->k", w, x, dtype=float) for x in (older, current)], axis=1)

    assert_close(found, expected, number, n)

    squares = kernels.take_out(on_device, *pair, cupy.asarray(factors))
    expected = w - factors[:, :1] * older - factors[:, 1:] * current
    assert_close(on_device, expected, number, 20)
    assert_close(squares, (expected**2).sum(axis=1), number, 20 * n)


def test_a_vector_of_norm_zero_is_left_as_it_is(case):
    cupy, kernels, number, _ = case
    w = draw((2, 257), number)
    out = kernels.normalise(cupy.asarray(w), cupy.asarray(np.array([4.0, 0.0])))

    assert_close(out, w / np.array([[4], [1]], dtype=number), number)


@pytest.mark.parametrize("n", LENGTHS)
def test_past_vectors_are_stored_scaled_in_their_own_dtype(case, n):
    cupy, kernels, number, stored = case
    block, current = np.zeros((K, 16, n), dtype=stored), draw((K, n), number)
    on_device = cupy.asarray(block)
    kernels.store(cupy.asarray(current), on_device, 4.0, SLOT)
    block[:, SLOT] = (4 * current).astype(stored)

    np.testing.assert_array_equal(on_device.get(), block)


@pytest.mark.parametrize("n", LENGTHS)
def test_the_projection(case, n):
    cupy, kernels, number, stored = case
    w, block = draw((K, n), number), draw((K, 16, n), stored, 1)
    block[:, COUNT:] = np.nan  # room that no vector was written to
    factors = draw((K, 16), "float64", 2)
    past = block[:, :COUNT].astype(number)
    on_device = cupy.asarray(w)
    coefficients = kernels.coefficients(on_device, cupy.asarray(block), COUNT)

    assert_close(coefficients[:, :COUNT], np.einsum("kjn,kn->kj", past, w, dtype=float), number, n)
    assert (coefficients.get()[:, COUNT:] == 0).all()

    kernels.subtract(on_device, cupy.asarray(block), cupy.asarray(factors), COUNT)
    expected = w - np.einsum("kj,kjn->kn", factors[:, :COUNT], past)
    assert_close(on_device, expected, number, 20)


def test_a_probe_has_the_same_bits_in_every_batch(case):
    cupy, kernels, number, stored = case
    w, block = draw((3, 5000), number), draw((3, 16, 5000), stored, 1)
    together = kernels.coefficients(cupy.asarray(w), cupy.asarray(block), 16).get()
    alone = kernels.coefficients(cupy.asarray(w[2:]), cupy.asarray(block[2:]), 16).get()

    np.testing.assert_array_equal(together[2:], alone)


BAD = """extern "C" __global__ void bad(double *x, int n)
{ if (threadIdx.x < n) __syncthreads(); x[threadIdx.x] = n; }"""


def test_that_a_barrier_which_some_threads_miss_would_be_noticed(on_host):
    bad = on_host.cupy.RawModule(code=BAD).get_function("bad")
    x = on_host.cupy.asarray(np.zeros(64))
    bad((1, 1), (64,), (x, np.int32(64)))

    assert (x.get() == 64).all()
    with pytest.raises(AssertionError, match="not all threads reached a barrier"):
        bad((1, 1), (64,), (x, np.int32(40)))


@pytest.mark.parametrize("wrong", ["float32 array", "strided array", "int64 number", "Python number", "too few"])
def test_that_an_argument_of_another_kind_would_be_noticed(on_host, wrong):
    bad = on_host.cupy.RawModule(code=BAD).get_function("bad")
    x, n = np.zeros(64), np.int32(64)
    arguments = {
        "float32 array": (x.astype("float32"), n),
        "strided array": (np.zeros((64, 2))[:, 0], n),
        "int64 number": (x, np.int64(64)),
        "Python number": (x, 64),
        "too few": (x,),
    }[wrong]
    first = on_host.cupy.asarray(x)
    first._data = arguments[0]
    with pytest.raises(AssertionError):
        bad((1, 1), (64,), (first, *arguments[1:]))
