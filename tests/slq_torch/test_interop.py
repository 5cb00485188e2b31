"""Operators of other libraries go into slq as they are, and ours go into SciPy."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse.linalg
import slq_torch
import torch
from torch import nn

import slq


def symmetric(n, dtype=torch.float64):
    X = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return ((X + X.T) / 2).to(dtype)


class Product:
    """The least that any of them offers: shape, dtype, device and @ over torch tensors."""

    def __init__(self, matrix):
        self.matrix, self.shape, self.dtype, self.device = matrix, tuple(matrix.shape), matrix.dtype, matrix.device

    def __matmul__(self, X):
        assert isinstance(X, torch.Tensor)
        return self.matrix @ X


class SizedProduct(Product):
    """As GPyTorch's operators: the shape is a torch.Size, `matmul` beside @."""

    def __init__(self, matrix):
        super().__init__(matrix)
        self.shape = matrix.shape

    def matmul(self, X):
        return self @ X


class WithoutDtype:
    """As linear operators over lists of parameters that tell their dtype and device by methods only."""

    def __init__(self, matrix):
        self.matrix, self.shape = matrix, tuple(matrix.shape)

    def matmat(self, X):
        return self.matrix @ X


@pytest.mark.parametrize("kind", [Product, SizedProduct])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_anything_with_a_shape_and_a_product_of_torch_tensors_has_a_spectrum(kind, dtype):
    A = symmetric(60, dtype)
    s = slq.spectrum(kind(A), probes=2, steps=10, rng=0)

    assert s == slq.spectrum(A, probes=2, steps=10, rng=0) or s.nodes == pytest.approx(
        slq.spectrum(A, probes=2, steps=10, rng=0).nodes, abs=1e-4
    )


def test_an_operator_that_does_not_tell_its_dtype_is_shown_a_vector():
    A = symmetric(60)
    operator = slq.as_operator(WithoutDtype(A), like=torch.zeros(1, dtype=torch.float64))

    assert slq.spectrum(operator, probes=2, steps=10, rng=0).nodes == pytest.approx(
        slq.spectrum(A, probes=2, steps=10, rng=0).nodes, abs=1e-10
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised by its own imports
def test_curvlinops_operators_go_in_as_they_are(net, kit):
    curvlinops = pytest.importorskip("curvlinops")
    x, y = kit.samples(7)
    theirs = curvlinops.HessianLinearOperator(net, nn.CrossEntropyLoss(), list(net.parameters()), [(x, y)])
    ours = slq_torch.hessian(net, kit.mean_loss, (x, y))

    s, t = (slq.spectrum(A, probes=2, steps=10, rng=0) for A in (theirs, ours))
    assert s.nodes == pytest.approx(t.nodes, abs=1e-8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_linear_operators_of_gpytorch_go_in_as_they_are():
    operators = pytest.importorskip("linear_operator.operators")
    A = symmetric(60)
    theirs = operators.AddedDiagLinearOperator(
        operators.DenseLinearOperator(A), operators.DiagLinearOperator(torch.ones(60, dtype=torch.float64))
    )

    s = slq.spectrum(theirs, probes=2, steps=10, rng=0)
    t = slq.spectrum(A + torch.eye(60, dtype=torch.float64), probes=2, steps=10, rng=0)
    assert s.nodes == pytest.approx(t.nodes, abs=1e-8)


@pytest.mark.parametrize("k", [1, 3])
def test_scipy_finds_eigenpairs_of_a_hessian(k, net, kit):
    batch = kit.samples(7)
    H = slq_torch.hessian(net, kit.mean_loss, batch)
    values, vectors = scipy.sparse.linalg.eigsh(H.to_scipy(), k=k, which="LA", tol=1e-12)

    exact = torch.linalg.eigvalsh(kit.dense(net, kit.mean_loss, batch)).numpy()
    assert values == pytest.approx(exact[-k:], abs=1e-10)
    assert H.to_scipy() @ vectors == pytest.approx(vectors * values, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scipy_finds_eigenvalues_of_a_tensor(dtype):
    A = symmetric(50, dtype)
    host = slq_torch.matrix(A).to_scipy()

    assert host.dtype == np.dtype(str(dtype).removeprefix("torch."))
    values = scipy.sparse.linalg.eigsh(host, k=2, which="BE", return_eigenvectors=False)
    exact = torch.linalg.eigvalsh(A).numpy()
    assert np.sort(values) == pytest.approx(exact[[0, -1]], rel=1e-5 if dtype == torch.float32 else 1e-10)


def test_vectors_of_every_layout_and_dtype_are_taken(kit):
    A = symmetric(6)
    host = slq_torch.matrix(A).to_scipy()
    X = np.arange(12.0).reshape(2, 6).T
    X.flags.writeable = False

    assert host @ X == pytest.approx(A.numpy() @ X)
    assert host @ X[::-1] == pytest.approx(A.numpy() @ X[::-1])
    assert host @ np.ones(6, dtype=np.float32) == pytest.approx(A.numpy().sum(1))
    assert host.rmatmat(X) == pytest.approx(host @ X)
    assert (host + host) @ X == pytest.approx(2 * (host @ X))


def test_the_round_trip_through_scipy_keeps_the_spectrum(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))

    there, back = (slq.spectrum(A, probes=2, steps=10, rng=0) for A in (H, H.to_scipy()))
    assert there.nodes == pytest.approx(back.nodes, abs=1e-10)


def test_that_an_object_without_a_product_is_refused():
    with pytest.raises(TypeError, match="no `matmat`, `matvec` or `@`"):
        slq.as_operator(SimpleNamespace(shape=(3, 3), dtype=torch.float32, device=torch.device("cpu")))
