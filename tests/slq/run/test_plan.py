"""Predicted costs against what happens."""

import dataclasses
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
        lambda: slq.gallery.marchenko_pastur(4000, ratio=0.1),
    ],
)
def test_products_are_predicted_within_a_factor_one_and_a_half_or_by_one_probe(make, tol):
    operator = make()[0]
    predicted, spent = slq.plan(operator, tol=tol), slq.spectrum(operator, tol=tol, rng=1)
    few, many = sorted((predicted.products, spent.products))
    assert many - few <= max(0.5 * few, spent.steps + 1)


@pytest.mark.parametrize(("probes", "steps"), [(2, 32), (4, 48)])
def test_bytes_are_predicted_within_a_tenth(probes, steps):
    operator, _ = slq.gallery.semicircle(100_000)
    predicted = slq.plan(operator, probes=probes, steps=steps).bytes
    slq.spectrum(operator, probes=probes, steps=2, rng=0)  # what is compiled once is not counted
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


def test_fixed_numbers_are_taken_over_one_by_one():
    operator, _ = slq.gallery.semicircle(1000)
    assert slq.plan(operator, probes=7).probes == 7
    assert slq.plan(operator, steps=33).steps == 33
    fixed = slq.plan(operator, probes=5, steps=21)
    assert fixed.products == slq.spectrum(operator, probes=5, steps=21, rng=0).products


def test_one_probe_costs_one_more_product_for_the_test_of_symmetry():
    operator, _ = slq.gallery.semicircle(1000)
    assert slq.plan(operator, probes=1, steps=9).products == slq.spectrum(operator, probes=1, steps=9, rng=0).products


def test_a_smaller_tolerance_is_planned_to_cost_more():
    operator, _ = slq.gallery.semicircle(5000)
    costs = [slq.plan(operator, tol=tol).products for tol in (0.05, 0.02, 0.01, 0.005)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_numbers_that_print_are_those_of_the_plan():
    p = slq.plan(slq.gallery.semicircle(2000)[0], probes=3, steps=16)
    assert "2 000 × 2 000" in repr(p)
    assert "49 (3 probes × 16 steps, and tests)" in repr(p)
    assert f"re-orthogonalisation: {p.reorth}" in repr(p)
    assert p.seconds > 0
    assert p.seconds_per_column > 0


@pytest.mark.parametrize("matrix", [np.eye(1), np.zeros((5, 5)), np.eye(40)])
def test_trivial_matrices_have_a_plan(matrix):
    assert slq.plan(matrix).products >= 2


def test_mistakes_are_those_of_spectrum():
    operator, _ = slq.gallery.semicircle(100)
    with pytest.raises(ValueError, match="`probes` must be at least 1"):
        slq.plan(operator, probes=0)
    with pytest.raises(ValueError, match="`reorth` must be one of"):
        slq.plan(operator, reorth="some")
    with pytest.raises(TypeError, match="`A` must be a square matrix or something to multiply by"):
        slq.plan(object())
    with pytest.raises(slq.RunError, match="NaN or Inf"):
        slq.plan(np.diag([1.0, np.nan, 2.0]))


def test_what_a_product_raises_passes_through():
    def product(v):
        raise OSError("no network")  # noqa: EM101

    with pytest.raises(OSError, match="no network"):
        slq.plan(slq.as_operator(product, n=10))


@pytest.mark.parametrize("tol", [0.0, -1.0, 2.0])
def test_a_tolerance_out_of_range_is_refused(tol):
    with pytest.raises(ValueError, match="`tol` must lie strictly between 0 and 1"):
        slq.plan(slq.gallery.semicircle(100)[0], tol=tol)


def test_no_more_steps_than_the_dimension_are_planned():
    matrix = np.diag(np.linspace(0, 1, 50))
    assert slq.plan(matrix, probes=2, steps=80).products == slq.spectrum(matrix, probes=2, steps=80, rng=0).products


def test_a_plan_tells_what_a_product_takes_in_units_that_fit():
    plan = slq.plan(np.diag(np.linspace(0.0, 1.0, 300)), tol=0.1)
    assert "for a product" not in str(plan)
    assert "3 TB for a product" in str(dataclasses.replace(plan, product_bytes=3e12))
    assert "20 KB for a product" in str(dataclasses.replace(plan, product_bytes=2e4))
