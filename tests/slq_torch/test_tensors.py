"""Tensors as matrices, and the door for `slq.as_operator`."""

import json
import warnings

import array_api_compat.torch as xp
import pytest
import slq_torch
import torch
from slq_torch._tensors import _tensors


@pytest.fixture
def dense():
    """Give a symmetric 6 x 6 matrix with zeros in it."""
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    A = A * (torch.rand(6, 6, generator=generator) < 0.5)
    return A + A.T


def sparse(A, layout):
    """Convert, without torch's notice that sparse tensors are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return A.to_sparse(layout=layout)


LAYOUTS = [torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_agree_with_the_dense_product(layout, dtype, dense, kit):
    dense = dense.to(dtype)
    A = slq_torch.matrix(dense if layout == torch.strided else sparse(dense, layout))
    X = torch.arange(12, dtype=dtype).reshape(6, 2)

    assert (A.shape, A.dtype, A.device, A.xp) == ((6, 6), dtype, torch.device("cpu"), xp)
    for block in (X, X.T.contiguous().T, X[:, :1], X[:, :0]):
        copy = block.clone()
        kit.assert_close(A.matmat(block), dense @ block, rtol=1e-6 if dtype == torch.float32 else 1e-14)
        assert torch.equal(block, copy)


def test_the_product_is_not_that_of_the_transpose(kit):
    A = torch.arange(9.0).reshape(3, 3)

    kit.assert_close(kit.matrix(slq_torch.matrix(A)), A)
    kit.assert_close(kit.matrix(slq_torch.matrix(sparse(A, torch.sparse_coo))), A)


def test_blocks_have_the_order_that_the_operator_names(dense):
    X = torch.ones(6, 3, dtype=torch.float64)
    A, S = slq_torch.matrix(dense), slq_torch.matrix(sparse(dense, torch.sparse_csr))

    assert (A.order, S.order) == ("F", "C")
    assert A.matmat(X).T.is_contiguous()
    assert S.matmat(X).is_contiguous()


def test_a_dense_tensor_is_not_copied(dense):
    A = slq_torch.matrix(dense)
    dense.zero_()

    assert not A.matmat(torch.ones(6, 1, dtype=torch.float64)).any()


def test_sparse_tensors_are_held_as_csr_with_32_bit_indices(dense, monkeypatch):
    coo = sparse(dense, torch.sparse_coo)
    doubled = torch.cat([coo.indices(), coo.indices()], dim=1)
    repeated = torch.sparse_coo_tensor(doubled, coo.values().repeat(2), (6, 6), check_invariants=True)
    A = slq_torch.matrix(repeated)

    assert A._tensor.layout == torch.sparse_csr
    assert A._tensor.col_indices().dtype == torch.int32
    assert A.metadata["nonzeros"] == len(coo.values())
    assert torch.equal(A.matmat(torch.eye(6, dtype=torch.float64)), 2 * dense)

    monkeypatch.setattr(_tensors, "_INT32_MAX", 5)
    assert slq_torch.matrix(coo)._tensor.col_indices().dtype == torch.int64
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert slq_torch.matrix(coo)._tensor.layout == torch.sparse_coo
    assert slq_torch.matrix(coo).metadata["nonzeros"] == len(coo.values())


def test_gradients_are_not_followed(dense):
    A = slq_torch.matrix(dense.requires_grad_())
    X = torch.ones(6, 1, dtype=torch.float64, requires_grad=True)

    assert not A.matmat(X).requires_grad


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool])
def test_integers_become_float64(dtype):
    A = slq_torch.matrix(torch.eye(3).to(dtype))

    assert A.dtype == torch.float64
    assert slq_torch.matrix(sparse(torch.eye(3).to(dtype), torch.sparse_coo)).dtype == torch.float64


def test_the_facts_are_json(dense):
    facts = json.loads(json.dumps(slq_torch.matrix(dense).metadata))

    assert facts["kind"] == "matrix"
    assert facts["layout"] == "torch.strided"
    assert "n=6, strided" in repr(slq_torch.matrix(dense))


@pytest.mark.parametrize(
    ("tensor", "kind", "message"),
    [
        ([[1.0]], TypeError, "torch tensor, got list"),
        (torch.ones(3), ValueError, r"shape \(n, n\), got shape \(3,\)"),
        (torch.ones(3, 2), ValueError, r"got shape \(3, 2\)"),
        (torch.eye(3).to_sparse(1), ValueError, "hybrid sparse tensor"),
    ],
)
def test_what_is_no_matrix_is_refused(tensor, kind, message):
    with pytest.raises(kind, match=message):
        slq_torch.matrix(tensor)


def test_the_door_knows_tensors_and_operators_and_nothing_else(dense, net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(3))
    A = slq_torch.as_operator(dense)

    assert isinstance(A, slq_torch.MatrixOperator)
    assert isinstance(slq_torch.as_operator(torch.nn.Parameter(dense)), slq_torch.MatrixOperator)
    assert slq_torch.as_operator(A) is A
    assert slq_torch.as_operator(H) is H
    for other in (net, dense.numpy(), 3, None):
        assert slq_torch.as_operator(other) is None
    with pytest.raises(ValueError, match="square matrix"):
        slq_torch.as_operator(torch.ones(3))
