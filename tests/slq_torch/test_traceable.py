"""What torch's tracer dies of is exchanged while it traces, with the same values."""

from inspect import signature

import pytest
import slq_torch
import torch
from slq_torch._engine._traceable import Traceable
from torch import nn
from torch.nn import functional

LOSSES = {
    "module": lambda z, y: nn.MSELoss()(z, y),
    "sum": lambda z, y: functional.mse_loss(z, y, reduction="sum"),
    "none": lambda z, y: functional.mse_loss(z, y, reduction="none").mean(),
    "below the module": lambda z, y: torch._C._nn.mse_loss(z, y, 2),
    "weighted": lambda z, y: functional.mse_loss(z, y, weight=torch.ones_like(y)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_squared_error_is_linearized(name, kit):
    if name == "weighted" and "weight" not in signature(functional.mse_loss).parameters:
        pytest.skip("this version of torch has no weights here")
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)

    def loss(model, batch):
        return LOSSES[name](model(batch[0]), batch[1])

    H = slq_torch.hessian(model, loss, [(x, y)], strategy="linearize")
    exact = slq_torch.hessian(model, loss, [(x, y)], strategy="graph")
    kit.assert_close(kit.matrix(H), kit.matrix(exact))


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"reduction": "none"}, {"size_average": False}])
def test_values_are_those_of_torch(options, recwarn):
    z, y = torch.randn(5, 3), torch.randn(5, 3)
    expected = functional.mse_loss(z, y, **options)
    with Traceable():
        torch.testing.assert_close(functional.mse_loss(z, y, **options), expected)
