"""What only a GPU can show: its own random state, device errors, and the same numbers as on the CPU."""

import copy

import numpy as np
import pytest
import slq_torch
import torch

import slq
from slq._lanczos._lanczos import LanczosRun

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


@pytest.mark.parametrize("strategy", ["graph", "graph-vmap"])
def test_the_peak_of_a_product_is_that_of_the_allocator(strategy):
    with torch.random.fork_rng(["cuda"]):
        model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.Tanh(), torch.nn.Linear(512, 8)).cuda()
    x = torch.ones(4096, 64, device="cuda")
    H = slq_torch.hessian(model, lambda model, x: model(x).square().mean(), x, strategy=strategy)
    X = torch.randn(4, H.shape[0], device="cuda").T
    H.matmat(X)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(2):  # measuring begins at the peak's own reset, so the third product is what is left to see
        H.matmat(X)
    held = torch.cuda.memory_allocated() - before
    torch.cuda.reset_peak_memory_stats()
    now = torch.cuda.memory_allocated()
    H.matmat(X)

    assert H.product_bytes(4) == pytest.approx(held + torch.cuda.max_memory_allocated() - now, rel=0.15)


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_csr])
def test_matrices_stay_on_their_device(layout, kit):
    dense = torch.diag(torch.arange(4.0)).cuda()
    A = slq_torch.matrix(dense if layout == torch.strided else dense.to_sparse())
    X = torch.ones(4, 3, device="cuda")

    assert A.device.type == "cuda"
    kit.assert_close(A.matmat(X), dense @ X, rtol=1e-6)


@pytest.mark.parametrize("reorth", ["full", "none"])
def test_no_step_waits_for_the_device(reorth):
    A = torch.diag(torch.arange(1.0, 301.0, device="cuda"))
    v = torch.ones(2, 300, device="cuda") / 300**0.5
    run = LanczosRun(slq.as_operator(A), v, reorth=reorth)
    run.advance(8)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(4):
            run._step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nodes_and_weights_are_those_of_numpy(dtype):
    A = torch.diag(torch.linspace(0.0, 1.0, 300, dtype=dtype))
    settings = {"probes": 3, "steps": 20, "rng": 0}
    found, expected = slq.spectrum(A.cuda(), **settings), slq.spectrum(A.numpy(), **settings)
    atol = 1e-4 if dtype == torch.float32 else 1e-10

    np.testing.assert_allclose(found.nodes, expected.nodes, rtol=0, atol=atol)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=0, atol=atol)


def test_a_batch_that_does_not_fit_is_halved():
    A = torch.diag(torch.linspace(0.0, 1.0, 300, device="cuda"))

    def product(X):
        if X.shape[1] > 2:
            torch.empty(2**50, device="cuda")
        return A @ X

    s = slq.spectrum(slq.as_operator(product, n=300, like=A, block=True), probes=4, steps=6, rng=0)
    assert s.status == "as asked; memory ran out with 4 columns at once, 2 from then on"
