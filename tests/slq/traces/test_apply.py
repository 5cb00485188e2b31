"""f(A) b against the eigendecomposition, in one pass and in two."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import slq
from slq._errors import RunError
from slq._kernels import _numba
from slq._quadrature._integrands import KNOWN

N = 120
D = np.linspace(0.1, 3.0, N)
Q = np.linalg.qr(np.random.default_rng(0).standard_normal((N, N)))[0]
A = (Q * D) @ Q.T
B = np.random.default_rng(1).standard_normal((N, 3))


def exact(f, b):
    return (Q * f(D)) @ (Q.T @ b)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("name", KNOWN)
def test_every_named_function_is_that_of_the_eigendecomposition(name, passes):
    found = slq.apply(A, B, name, 1e-10, passes=passes)

    errors = np.linalg.norm(found.value - exact(KNOWN[name].f, B), axis=0)
    assert (errors <= 1e-10 * found.norm).all()
    assert (errors <= found.error).all()
    assert found.converged
    np.testing.assert_allclose(found.norm, np.linalg.norm(found.value, axis=0), rtol=1e-10)


def test_a_vector_comes_back_as_a_vector_and_two_passes_take_twice_the_products():
    one, two = (slq.apply(A, B[:, 0], np.sin, steps=12, passes=p) for p in (1, 2))

    assert one.value.shape == (N,)
    assert (one.products, two.products) == (12, 24)
    np.testing.assert_allclose(one.value, two.value, atol=1e-12)
    np.testing.assert_allclose(slq.apply(A, B, np.sin, steps=12).value[:, 0], one.value, atol=1e-13)


def test_columns_that_end_early_are_exact():
    b = np.stack([2 * Q[:, 3], Q[:, 3] - Q[:, 70], B[:, 0]], axis=1)

    for passes in (1, 2):
        found = slq.apply(A, b, "log", 1e-9, passes=passes)

        np.testing.assert_allclose(found.value, exact(np.log, b), atol=1e-8)
        np.testing.assert_allclose(found.value[:, :2], exact(np.log, b)[:, :2], atol=1e-12)


def test_where_all_columns_end_at_once_nothing_is_lost():
    found = slq.apply(np.diag([1.0, 2.0, 4.0]), np.eye(3), "inverse")

    np.testing.assert_allclose(found.value, np.diag([1.0, 0.5, 0.25]), atol=1e-15)
    assert found.steps == 1


def test_the_error_is_estimated_before_it_has_vanished():
    for steps in (10, 20, 30):
        found = slq.apply(A, B, "inverse", steps=steps)
        true = np.linalg.norm(found.value - exact(np.reciprocal, B), axis=0)

        assert (true <= found.error).all()
        assert (found.error <= 300 * true).all()
        assert not found.converged


def test_too_little_memory_for_the_vectors_means_two_passes():
    room = 30 * N * 8.0

    found = slq.apply(A, B[:, 0], "inverse", 1e-10, memory=room)

    assert found.converged
    assert found.products > 2 * found.steps  # what the first attempt took is told too
    np.testing.assert_allclose(found.value, exact(np.reciprocal, B[:, 0]), rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fused_steps_repeat_to_the_bit_in_the_second_pass(dtype):
    n = 40_000
    L = sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr().astype(dtype)
    b = np.random.default_rng(0).standard_normal((n, 2)).astype(dtype)

    found = slq.apply(L, b, "inverse", 1e-5, passes=2)

    assert found.value.dtype == dtype
    assert np.linalg.norm(L @ found.value - b) < 1e-4 * np.linalg.norm(b)


def test_scales_do_not_matter():
    for scale in (1e-200, 1e200):
        found = slq.apply(A * scale, B[:, 0], "sqrt", 1e-10)
        np.testing.assert_allclose(found.value / np.sqrt(scale), exact(np.sqrt, B[:, 0]), rtol=1e-7)


def test_torch_tensors_stay_tensors():
    torch = pytest.importorskip("torch")

    found = slq.apply(torch.from_numpy(A), torch.from_numpy(B), "exp")

    assert isinstance(found.value, torch.Tensor)
    np.testing.assert_allclose(found.value.numpy(), exact(np.exp, B), rtol=1e-7, atol=1e-7)


def test_products_that_do_not_repeat_cannot_be_made_twice():
    rng = np.random.default_rng(0)
    drifting = slq.as_operator(lambda x: D * x * (1 + 1e-9 * rng.standard_normal()), n=N)

    with pytest.raises(RunError, match=r"two passes .* Use passes=1"):
        slq.apply(drifting, B[:, 0], "exp", passes=2)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "message"),
    [
        ((A, B[:, 0].tolist(), "exp"), {}, TypeError, "an array of the operator's library, numpy, got list"),
        ((A, B[:5], "exp"), {}, ValueError, r"shape \(120,\) or \(120, k\), got \(5, 3\)"),
        ((A, B * 0, "exp"), {}, ValueError, "different from zero"),
        ((-A, B, "log"), {}, ValueError, "`log` is not defined at -"),
        ((A, B, lambda x: x[:1]), {}, ValueError, "of the shape of its argument"),
        ((A, B, lambda x: x * np.nan), {}, ValueError, "is not defined at|gives nan at"),
        ((A, B, "exp"), {"steps": 0}, ValueError, "`steps` must be a positive integer"),
        ((A, B, "exp", -1.0), {}, ValueError, "`rtol` must be a number >= 0"),
        ((A, B, "exp"), {"passes": 3}, ValueError, '`passes` must be "auto", 1 or 2, got 3'),
    ],
    ids=["list", "length", "zero", "domain", "shape", "nan", "steps", "rtol", "passes"],
)
def test_what_cannot_be_right_is_told_how(arguments, options, kind, message):
    with pytest.raises(kind, match=message):
        slq.apply(*arguments, **options)


def test_two_passes_take_four_vectors_beside_the_result():
    n = 2_000_000  # what is worked on piece by piece is small beside it
    d, b = np.linspace(1.0, 2.0, n), np.random.default_rng(0).standard_normal(n)
    sparse = sp.diags_array([d, np.full(n - 1, 1e-3), np.full(n - 1, 1e-3)], offsets=[0, 1, -1]).tocsr()
    product = slq.as_operator(lambda X: d[:, None] * X, n=n, block=True)
    for A, least in ((product, 4), (sparse, 3 if _numba.usable() else 4)):  # compiled passes need no product's vector
        slq.apply(A, b, "inverse", passes=2, steps=3)  # what is imported and compiled is not counted
        tracemalloc.start()
        found = slq.apply(A, b, "inverse", passes=2, steps=6)
        peak = tracemalloc.get_traced_memory()[1] / b.nbytes
        tracemalloc.stop()
        assert found.value.shape == b.shape
        assert peak - 1 <= least + 0.2


def test_steps_whose_vectors_memory_does_not_hold_take_two_passes():
    found = slq.apply(A, B[:, 0], "exp", steps=12, memory=N * 8 * 6)
    np.testing.assert_allclose(found.value, exact(np.exp, B[:, 0]), rtol=1e-6)
    assert found.products == 24
