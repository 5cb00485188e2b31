"""Where memory runs out: fewer columns at once, then no stored vectors, then an error that keeps what was done."""

import re

import numpy as np
import pytest

import slq
from slq._arrays import out_of_memory

N = 150


class OutOfMemoryError(RuntimeError):
    """What PyTorch and CuPy raise has this name."""


class Narrow:
    """Multiply by a matrix, blocks of up to `most` columns only; the first `free` products may have any width."""

    def __init__(self, matrix, most, free=3, error=OutOfMemoryError):
        self.matrix, self.most, self.free, self.error = matrix, most, free, error
        self.shape, self.dtype = matrix.shape, matrix.dtype
        self.calls = 0

    def matmat(self, X, /):
        self.calls += 1
        if X.shape[1] > self.most and self.calls > self.free:
            message = "a hundred gigabytes"
            raise self.error(message)
        return self.matrix @ X


@pytest.fixture
def matrix(symmetric):
    return symmetric(N)


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError])
def test_a_batch_is_halved_until_it_fits_and_the_numbers_are_the_same(matrix, error):
    settings = {"probes": 8, "steps": 12, "rng": 0, "deflate": "none"}
    found = slq.spectrum(Narrow(matrix, 2, error=error), **settings)
    expected = slq.spectrum(matrix, batch=2, **settings)

    np.testing.assert_allclose(found.nodes, expected.nodes, atol=1e-12)
    assert found.status == "as asked; memory ran out with 4 columns at once, 2 from then on"
    assert found.products > expected.products  # what was given up counts


def test_a_later_batch_is_halved_too(matrix):
    class Late(Narrow):
        def matmat(self, X, /):
            self.free = 10**9 if X.shape[1] < 5 else 0
            return super().matmat(X)

    settings = {"steps": 20, "tol": 0.02, "rng": 0, "deflate": "none"}
    found = slq.spectrum(Late(matrix, 4), batch=8, **settings)
    expected = slq.spectrum(matrix, batch=4, **settings)

    assert found.probes == expected.probes > 4
    np.testing.assert_allclose(found.nodes, expected.nodes, atol=1e-10)
    assert re.search("; memory ran out with [5678] columns at once, [234] from then on", found.status)


def test_all_columns_are_multiplied_in_smaller_blocks(matrix):
    found = slq.spectrum(Narrow(matrix, 4), tol=0.001, rng=0)

    assert found.kind == "exact"
    assert "memory ran out with 8 columns at once, 4 from then on" in found.status
    np.testing.assert_allclose(found.nodes[0], np.linalg.eigvalsh(matrix), atol=1e-12)


class Deep(Narrow):
    """Multiply by a matrix; product number `most` finds no memory."""

    def matmat(self, X, /):
        self.calls += 1
        if self.calls == self.most:
            raise MemoryError
        return self.matrix @ X


def test_one_probe_goes_on_without_stored_vectors(matrix):
    found = slq.spectrum(Deep(matrix, 10), probes=1, steps=20, rng=0)

    assert found.reorth == "none"
    assert found.steps == 20
    assert found.status == "as asked; memory ran out with stored vectors, none from then on"
    np.testing.assert_allclose(found.nodes, slq.spectrum(matrix, probes=1, steps=20, rng=0).nodes, atol=1e-8)


def test_a_policy_that_was_asked_for_ends_with_an_error_and_what_was_done(matrix):
    with pytest.raises(slq.RunError, match="memory ran out on cpu with one probe of 150 numbers of float64") as caught:
        slq.spectrum(Deep(matrix, 10), probes=1, steps=20, rng=0, reorth="full")

    assert "past vectors are kept since reorth='full'" in str(caught.value)
    assert caught.value.partial.steps == 9
    assert out_of_memory(caught.value)


def test_where_nothing_fits_the_error_keeps_the_steps_of_the_first_attempt(matrix):
    with pytest.raises(slq.RunError, match="Free memory there") as caught:
        slq.spectrum(Narrow(matrix, 0), probes=4, steps=12, rng=0)

    partial = caught.value.partial
    assert (partial.probes, partial.steps) == (4, 3)
    assert partial.projected.tolist() == [False] * 4
    np.testing.assert_allclose(partial.nodes, slq.spectrum(matrix, probes=4, steps=3, rng=0).nodes, atol=1e-12)


def test_the_budget_of_products_holds_all_the_same(matrix):
    found = slq.spectrum(Narrow(matrix, 2, free=0), probes=8, steps=12, rng=0, max_products=40)

    assert found.products <= 40
    assert "budget of 40 products reached; memory ran out" in found.status


def test_the_test_of_repeatability_makes_room_for_itself(matrix):
    class Full(Narrow):
        def matmat(self, X, /):
            self.calls += 1
            if self.calls == 13:  # the first one after the run
                raise MemoryError
            return self.matrix @ X

    found = slq.spectrum(Full(matrix, 0), probes=2, steps=12, rng=0)

    assert found.status == "as asked"
    assert found.products == 2 * 12 + 1


def test_another_error_is_none_of_memory(matrix):
    with pytest.raises(slq.RunError, match="ended by ZeroDivisionError") as caught:
        slq.spectrum(Narrow(matrix, 0, error=ZeroDivisionError), probes=4, steps=12, rng=0)

    assert caught.value.partial.steps == 3


def chained(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (chained(ValueError("a batch failed"), MemoryError()), True),
        (ValueError("a price is out of memory"), False),
        (RuntimeError("shapes differ"), False),
    ],
    ids=["memory", "device", "xla", "cublas", "torch", "cause", "value", "other"],
)
def test_libraries_say_it_in_their_own_ways(error, verdict):
    assert out_of_memory(error) is verdict


def test_runs_in_lockstep_back_off_together(matrix):
    blocks = {"a": matrix, "b": matrix[:100, :100]}
    calls = []

    def joint(columns):
        calls.append(sum(X.shape[1] for X in columns.values()))
        if calls[-1] > 4:
            raise MemoryError
        return {name: blocks[name] @ X for name, X in columns.items()}

    found = slq.spectra(blocks, joint=joint, probes=4, steps=10, rng=0)

    assert re.search("memory ran out with 4 columns at once, 2", found["a"].status)
    np.testing.assert_allclose(found["b"].nodes, slq.spectrum(blocks["b"], probes=4, steps=10, rng=0).nodes, atol=1e-10)


def test_runs_in_lockstep_end_together_where_nothing_fits(matrix):
    def joint(columns):
        raise MemoryError

    with pytest.raises(slq.RunError, match="memory ran out"):
        slq.spectra({"a": matrix, "b": matrix}, joint=joint, probes=2, steps=10, rng=0)
