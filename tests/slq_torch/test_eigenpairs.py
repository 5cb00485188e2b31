"""Eigenpairs of Hessians of networks: against the dense matrix, and from one training step to the next."""

import numpy as np
import pytest

import slq

torch = pytest.importorskip("torch")
slq_torch = pytest.importorskip("slq_torch")


@pytest.fixture
def hessian():
    """Give a function that makes a small network, and one that makes its Hessian as it then is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def make(dtype=torch.float64):
        generator = torch.Generator().manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).to(dtype)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=dtype) / 2)
        x = torch.randn(40, 6, generator=generator, dtype=dtype)
        y = torch.randint(0, 3, (40,), generator=generator)
        data = [(x[:20], y[:20]), (x[20:], y[20:])]
        loss = lambda m, batch: torch.nn.functional.cross_entropy(m(batch[0]), batch[1])  # noqa: E731
        return net, lambda: slq_torch.hessian(net, loss, data)

    yield make
    torch.set_num_threads(threads)


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)], ids=["64", "32"])
def test_pairs_are_those_of_the_dense_hessian(hessian, which, dtype, tolerance):
    _, make = hessian(dtype)
    H = make()
    dense = H.matmat(torch.eye(H.shape[0], dtype=dtype)).double().numpy()
    values = np.linalg.eigvalsh((dense + dense.T) / 2)
    pairs = slq.eigsh(H, 5, which=which, rng=0)

    order = {"LA": values[-5:], "SA": values[:5], "LM": np.sort(values[np.argsort(-np.abs(values))[:5]])}
    np.testing.assert_allclose(pairs.values, order[which], atol=tolerance)
    assert isinstance(pairs.vectors, torch.Tensor)
    assert not pairs.vectors.requires_grad
    vectors = pairs.vectors.double().numpy()
    np.testing.assert_allclose(dense @ vectors, vectors * pairs.values, atol=10 * tolerance)
    assert pairs.converged.all()


def test_pairs_of_the_step_before_are_a_start_for_the_next(hessian):
    net, make = hessian()
    before = slq.eigsh(make(), 4, which="LA", tol=1e-3, rng=0)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.001)
    cold = slq.eigsh(make(), 4, which="LA", tol=1e-3, rng=0)
    warm = slq.eigsh(make(), 4, which="LA", tol=1e-3, rng=0, start=before)

    np.testing.assert_allclose(warm.values, cold.values, rtol=1e-5)
    assert warm.products < cold.products
