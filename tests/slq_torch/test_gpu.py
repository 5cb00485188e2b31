"""What only a GPU can show: its own random state, device errors, and the same numbers as on the CPU."""

import copy

import pytest
import slq_torch
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_products_agree_with_those_on_the_cpu(any_net, kit):
    x, y = kit.samples(7)
    moved = copy.deepcopy(any_net).cuda()
    H = slq_torch.hessian(moved, kit.mean_loss, (x.cuda(), y.cuda()))
    A = H.matmat(torch.eye(H.shape[0], dtype=H.dtype, device=H.device))

    assert A.device == H.device
    kit.assert_close(A.cpu(), kit.matrix(slq_torch.hessian(any_net, kit.mean_loss, (x, y))))


def test_the_random_state_of_the_device_is_put_back(net, kit):
    x, y = kit.samples(7)

    def loss(model, batch):
        torch.cuda.manual_seed(5)
        return kit.mean_loss(model, batch)

    H = slq_torch.hessian(net.cuda(), loss, (x.cuda(), y.cuda()))
    before = torch.cuda.get_rng_state()
    H.matmat(torch.ones(H.shape[0], 2, dtype=H.dtype, device="cuda"))

    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_random_numbers_drawn_on_the_device_show(net, kit):
    x, y = kit.samples(7)

    def loss(model, batch):
        return kit.mean_loss(model, batch) * torch.rand((), device="cuda")

    H = slq_torch.hessian(net.cuda(), loss, (x.cuda(), y.cuda()))
    v = torch.ones(H.shape[0], dtype=H.dtype, device="cuda")
    H @ v
    with pytest.raises(ValueError, match="not the same at each pass"):
        H @ v


def test_a_batch_left_on_the_cpu_is_named(net, kit):
    H = slq_torch.hessian(net.cuda(), kit.mean_loss, kit.samples(7))

    with pytest.raises(ValueError, match="different devices; the parameters are on cuda:0"):
        H @ torch.ones(H.shape[0], dtype=H.dtype, device="cuda")


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_csr])
def test_matrices_stay_on_their_device(layout, kit):
    dense = torch.diag(torch.arange(4.0)).cuda()
    A = slq_torch.matrix(dense if layout == torch.strided else dense.to_sparse())
    X = torch.ones(4, 3, device="cuda")

    assert A.device.type == "cuda"
    kit.assert_close(A.matmat(X), dense @ X, rtol=1e-6)
