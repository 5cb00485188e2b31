"""What `slq.eigsh` refuses, and what its messages say; how its result prints."""

import re

import numpy as np
import pytest

import slq

MATRIX = np.diag(np.arange(1.0, 21.0))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 21}, ValueError, "`k` must be at most the dimension 20, got 21."),
        ({"k": 0}, ValueError, "`k` must be at least 1, got 0."),
        ({"k": 2.0}, TypeError, "`k` must be an integer, got 2.0."),
        ({"k": True}, TypeError, "`k` must be an integer, got True."),
        ({"which": "SM"}, ValueError, "`which` must be one of 'LM', 'LA', 'SA', 'BE', got 'SM'. For those nearest to"),
        ({"which": "la"}, ValueError, "got 'la'."),
        ({"tol": -1.0}, ValueError, "`tol` must lie in [0, 1), got -1.0"),
        ({"tol": 1.0}, ValueError, "`tol` must lie in [0, 1), got 1.0"),
        ({"tol": np.nan}, ValueError, "`tol` must lie in [0, 1), got nan"),
        ({"confidence": 95}, ValueError, "`confidence` must lie in [0.5, 1), got 95."),
        ({"block": 0}, ValueError, "`block` must be at least 1"),
        ({"basis": 7}, ValueError, "`basis` must be at least 8 for k = 6 and block = 1, got 7."),
        ({"max_products": 0}, ValueError, "`max_products` must be at least 1"),
        ({"max_products": 2, "block": 3}, ValueError, "`max_products` must be at least `block` = 3, got 2."),
        ({"memory": 0}, ValueError, "`memory` must be a positive number of bytes"),
        ({"memory": 8 * 20 * 10}, ValueError, "`memory` (by default half of what is free) has room for 10 vectors"),
        ({"start": np.ones(19)}, ValueError, "`start` must have shape (20,) or (20, s), got (19,)."),
        ({"start": np.zeros(20)}, ValueError, "`start` must have finite columns different from zero."),
        ({"start": np.full(20, np.nan)}, ValueError, "`start` must have finite columns"),
        ({"start": [1.0] * 20}, TypeError, "`start` must be Eigenpairs or an array of the operator's library, numpy"),
        ({"deflate": np.ones((20, 21))}, ValueError, "`deflate` must have shape"),
        ({"deflate": np.eye(20)[:, :15]}, ValueError, "`k` must be at most the dimension 20 less the 15 of `deflate`"),
        ({"dtype": np.float16}, ValueError, "`dtype` must be float32 or float64"),
        ({"rng": -1}, ValueError, "`rng` must lie in"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused_by_name(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        slq.eigsh(MATRIX, **options)


@pytest.mark.parametrize("name", ["start", "deflate"])
def test_complex_vectors_of_a_real_matrix_are_refused(name):
    with pytest.raises(TypeError, match=f"`{name}` is complex and `A` real"):
        slq.eigsh(MATRIX, 2, **{name: np.ones(20) * 1j})


def test_a_complex_matrix_that_is_not_hermitian_is_told_of():
    with pytest.warns(slq.SlqWarning, match="not symmetric"):
        slq.eigsh(MATRIX + 0.5j * np.ones((20, 20)), 2, rng=0)


def test_arrays_of_another_library_are_refused():
    xp = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="library, numpy"):
        slq.eigsh(MATRIX, 2, start=xp.ones(20))


def test_a_product_of_the_wrong_shape_is_an_error_without_a_result():
    operator = slq.as_operator(lambda X: X[:3], n=20, block=True)
    with pytest.raises(slq.RunError, match="must have that shape") as caught:
        slq.eigsh(operator, 2)
    assert caught.value.partial is None


def test_the_table_names_each_value_its_residual_and_where_all_others_lie():
    text = repr(slq.eigsh(MATRIX, 2, which="LA", rng=0))

    assert text.startswith("2 eigenpairs (LA) of a 20 × 20 operator")
    assert re.search(r"\n +20(\.0+\d*)? +\d", text) or re.search(r"\n +19\.9{8,}\d* +\d", text)
    assert "others      all below 18" in text or "others      all below 17.99" in text
    assert "status" in text


def test_a_long_table_is_cut():
    text = repr(slq.eigsh(MATRIX, 16, which="BE", rng=0))

    assert "… and 4 more" in text
    assert "others      all between" in text
    large = np.diag(np.arange(200.0))
    assert "others      not verified" in repr(slq.eigsh(large, 2, verify=False, rng=0))
