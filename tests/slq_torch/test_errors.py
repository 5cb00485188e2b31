"""What torch says is passed on together with what to do."""

import pytest
import slq_torch
import torch
from torch import nn


def product(operator):
    """Multiply a block, so that both ways through the graph are tried."""
    return operator.matmat(torch.ones(operator.shape[0], 2, dtype=operator.dtype))


def raised_by(text, kit, net):
    """Let the loss raise what torch would say."""

    def loss(model, batch):
        raise RuntimeError(text)

    return slq_torch.hessian(net, loss, kit.samples(3))


class Once(torch.autograd.Function):
    """x^2 by a backward that cannot be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


@pytest.mark.parametrize(
    "function",
    [
        lambda w: Once.apply(w).square().sum(),
        lambda w: Once.apply(w).exp().sum() + (w**4).sum(),
        lambda w: (Once.apply(w**2) * w).sum(),
    ],
)
def test_a_function_that_is_differentiable_once_is_refused(function):
    w = torch.ones(2, requires_grad=True)

    with pytest.raises(NotImplementedError, match="marked @once_differentiable"):
        product(slq_torch.hessian(lambda: function(w), w))


@pytest.mark.parametrize(
    ("text", "kind", "advice"),
    [
        (
            "derivative for aten::_cudnn_rnn_backward is not implemented",
            NotImplementedError,
            r"for aten::_cudnn_rnn_backward,.*cudnn\.flags\(enabled=False\)",
        ),
        (
            "derivative for aten::strange_backward is not implemented",
            NotImplementedError,
            "aten::strange_backward.*elementary",
        ),
        (
            "torch.compile with aot_autograd does not currently support double backward",
            NotImplementedError,
            "as it was before torch.compile",
        ),
        (
            "Expected all tensors to be on the same device, but found at least two",
            ValueError,
            r"parameters are on cpu.*x\.to\(\"cpu\"\).*batch 0",
        ),
        (
            "Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the same",
            ValueError,
            "different devices",
        ),
        ("Input type (double) and bias type (float) should be the same", ValueError, "different dtypes"),
    ],
    ids=lambda text: str(text)[:30],
)
def test_what_torch_says_is_explained(text, kind, advice, net, kit):
    with pytest.raises(kind, match=advice) as caught:
        product(raised_by(text, kit, net))

    assert text in str(caught.value)


def test_what_we_do_not_know_passes_with_the_number_of_the_batch(net, kit):
    with pytest.raises(RuntimeError, match="something else") as caught:
        product(raised_by("something else", kit, net))

    assert "batch 0" in caught.value.__notes__[0]


def test_a_batch_on_another_device_is_named(net, kit):
    x, y = kit.samples(4)
    H = slq_torch.hessian(net, kit.mean_loss, [(x, y), (x.to("meta"), y)])

    with pytest.raises(ValueError, match=r"on different devices; the parameters are on cpu.*batch 1"):
        product(H)


@pytest.mark.parametrize("build", [lambda: nn.Linear(4, 2), lambda: nn.Conv1d(4, 2, 1)])
def test_a_batch_of_another_dtype_is_named(build, kit):
    x = kit.samples(4)[0].float()
    model = kit.make(build)
    x = x if isinstance(model, nn.Linear) else x[..., None]
    H = slq_torch.hessian(model, lambda m, b: m(b).square().sum(), x)

    with pytest.raises(ValueError, match=r"different dtypes; the parameters are torch.float64"):
        product(H)


def test_a_graph_from_outside_the_closure_is_named():
    w = torch.ones(2, requires_grad=True)
    z = w.exp()
    H = slq_torch.hessian(lambda: (z**3).sum(), w, strategy="graph", memory=0)
    H @ torch.ones(2)

    with pytest.raises(ValueError, match="reuses a graph from outside"):
        H @ torch.ones(2)
