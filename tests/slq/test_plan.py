"""Predicted costs against what happens."""

import tracemalloc

import numpy as np
import pytest

import slq


@pytest.mark.parametrize("tol", [0.02, 0.01])
@pytest.mark.parametrize(
    "make",
    [
        lambda: slq.gallery.semicircle(20_000),
        lambda: slq.gallery.marchenko_pastur(2000),
        lambda: slq.gallery.laplacian_2d(100),
        lambda: slq.gallery.laplacian_3d(20),
        lambda: slq.gallery.spiked(20_000),
    ],
)
def test_products_are_predicted_within_a_factor_one_and_a_half(make, tol):
    operator = make()[0]
    predicted, spent = slq.plan(operator, tol=tol).products, slq.spectrum(operator, tol=tol, rng=1).products
    assert 1 / 1.5 <= predicted / spent <= 1.5


@pytest.mark.parametrize(("probes", "steps"), [(2, 32), (4, 48)])
def test_bytes_are_predicted_within_a_tenth(probes, steps):
    operator, _ = slq.gallery.semicircle(100_000)
    predicted = slq.plan(operator, probes=probes, steps=steps).bytes
    tracemalloc.start()
    slq.spectrum(operator, probes=probes, steps=steps, rng=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert predicted == pytest.approx(peak, rel=0.1)


def test_a_plan_spends_two_products_and_prints_a_table():
    columns = 0

    def product(X):
        nonlocal columns
        columns += X.shape[1]
        return np.linspace(0, 1, 500)[:, None] * X

    p = slq.plan(slq.as_operator(product, n=500, block=True), probes=3, steps=20)
    assert columns == 2
    assert (p.probes, p.steps, p.products) == (3, 20, 61)
    assert [line.split()[0] for line in repr(p).splitlines()] == ["operator", "tolerance", "products", "time", "memory"]


def test_little_memory_is_planned_without_reorthogonalisation():
    assert slq.plan(slq.gallery.semicircle(1000)[0], memory=20 * 8000.0).reorth == "none"
