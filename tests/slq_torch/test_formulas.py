"""Our own formulas for second derivatives, against torch.func.hessian in float64."""

import pytest
import slq_torch
import torch
from slq_torch._engine._formulas import Formulas
from torch import nn
from torch.nn import functional


class Viewed(nn.Module):
    """A convolution whose output is viewed flat, and functional calls around it."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Linear(12, 2)

    def forward(self, x):
        y = functional.silu(self.conv(x.view(-1, 2, 3, 3)))
        return self.out(y.view(y.size(0), -1))


def normed(dims, *, affine=True):
    """A convolution and batch norm with statistics that are not 0 and 1, in so many dimensions."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](2, 2, 1)
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](2, affine=affine)
    norm.running_mean.copy_(torch.tensor([0.3, -0.2]))
    norm.running_var.copy_(torch.tensor([0.5, 2.0]))
    return nn.Sequential(
        nn.Unflatten(1, (2, 9, *[1] * (dims - 1))), conv, norm, nn.Softplus(), nn.Flatten(), nn.Linear(18, 2)
    ).eval()


NETS = {
    "dense": lambda: nn.Sequential(nn.Linear(18, 3), nn.GELU(approximate="tanh"), nn.BatchNorm1d(3).eval(), nn.SiLU()),
    "viewed": Viewed,
    "grouped": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3, 3)),
        nn.Conv2d(2, 4, 2, padding=1, dilation=2, groups=2, bias=False),
        nn.GELU(),
        nn.Conv2d(4, 2, 3),
        nn.Flatten(),
    ),
    "transposed": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3, 3)), nn.ConvTranspose2d(2, 2, 2, stride=2), nn.SiLU(), nn.Flatten(), nn.Linear(72, 2)
    ),
    "same padding": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 9)), nn.Conv1d(2, 2, 3, padding="same"), nn.GELU(), nn.Flatten(), nn.Linear(18, 2)
    ),
    "train mode": lambda: normed(2).train(),
    "batch norm 1d": lambda: normed(1),
    "batch norm 2d": lambda: normed(2),
    "batch norm 3d": lambda: normed(3),
    "batch norm without parameters": lambda: normed(2, affine=False),
}


@pytest.fixture(params=list(NETS))
def case(request):
    torch.manual_seed(0)
    net = NETS[request.param]().double()
    return net, (torch.randn(5, 18, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1]))


def test_the_formulas_give_the_dense_hessian_and_it_is_symmetric(case, kit):
    net, batch = case
    before = {name: value.clone() for name, value in net.state_dict().items()}
    H = slq_torch.hessian(net, kit.mean_loss, batch, strategy="fused")
    dense = H.matmat(torch.eye(H.shape[0], dtype=torch.float64))
    exact = kit.dense(net, kit.mean_loss, batch)
    assert torch.linalg.norm(dense - exact) <= 1e-10 * torch.linalg.norm(exact)
    assert torch.linalg.norm(dense - dense.T) <= 1e-13 * torch.linalg.norm(exact)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("chosen", ["0.weight", "1.bias", "1.weight"])
def test_a_block_of_a_network_is_the_block_of_the_dense_hessian(chosen, kit):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Unflatten(1, (2, 3, 3)), nn.Conv2d(2, 2, 2), nn.BatchNorm2d(2), nn.GELU(), nn.Flatten(), nn.Linear(8, 2)
    )
    net = nn.Sequential(*list(net)[1:]).double().eval()
    batch = torch.randn(4, 2, 3, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    H = slq_torch.hessian(net, kit.mean_loss, batch, params=chosen, strategy="fused")
    exact = kit.dense(net, kit.mean_loss, batch, [chosen])
    dense = H.matmat(torch.eye(H.shape[0], dtype=torch.float64))
    assert torch.linalg.norm(dense - exact) <= 1e-10 * torch.linalg.norm(exact)


def test_every_formula_computes_what_torch_computes():
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2).eval(), nn.SiLU())
    with Formulas():
        found = net(x)
    assert "Pointwise" in type(found.grad_fn).__name__
    torch.testing.assert_close(found, net(x))
    assert "Pointwise" not in type(net(x).grad_fn).__name__
