"""The Hessian operator against dense Hessians, differences of gradients, and its contract."""

import json

import array_api_compat.torch as xp
import pytest
import slq_torch
import torch
from torch import nn
from torch.nn import functional


def test_products_agree_with_the_dense_hessian(any_net, kit):
    batch = kit.samples(7)
    H = slq_torch.hessian(any_net, kit.mean_loss, batch)

    kit.assert_close(kit.matrix(H), kit.dense(any_net, kit.mean_loss, batch))


def test_products_agree_with_central_differences_of_the_gradient(any_net, kit):
    batch, step = kit.samples(7), 1e-5
    H = slq_torch.hessian(any_net, kit.mean_loss, batch)
    params = list(any_net.parameters())
    v = torch.linspace(-1, 1, H.shape[0], dtype=torch.float64)

    gradients = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(params, H.to_params(v).values(), strict=True):
                p.add_(d, alpha=sign * step)
        gradients.append(H.to_vector(torch.autograd.grad(kit.mean_loss(any_net, batch), params)))
        with torch.no_grad():
            for p, d in zip(params, H.to_params(v).values(), strict=True):
                p.sub_(d, alpha=sign * step)

    kit.assert_close(H @ v, (gradients[0] - gradients[1]) / (2 * step), rtol=1e-7)


def test_the_hessian_is_symmetric(any_net, kit):
    H = slq_torch.hessian(any_net, kit.mean_loss, kit.samples(7))
    X = kit.block(H.shape[0])
    quadratic = X.T @ H.matmat(X)

    kit.assert_close(quadratic, quadratic.T.clone())


def test_the_operator_has_what_the_protocol_asks(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    n = sum(p.numel() for p in net.parameters())

    assert H.shape == (n, n)
    assert (H.dtype, H.device, H.xp, H.order) == (torch.float64, torch.device("cpu"), xp, "F")
    assert H.noise == 0
    assert f"n={n}" in repr(H)


def test_the_metadata_are_json_and_complete_after_a_product(net, kit):
    x, y = kit.samples(7)
    H = slq_torch.hessian(net, kit.mean_loss, [(x[:4], y[:4]), (x[4:], y[4:])])
    before = json.loads(json.dumps(H.metadata))
    H.matmat(torch.ones(H.shape[0], 2, dtype=H.dtype))
    after = json.loads(json.dumps(H.metadata))

    assert before["kind"] == "hessian"
    assert before["parameters"] == H.shape[0]
    assert (before["batches"], before["samples"], before["loss"]) == (2, None, None)
    assert (after["batches"], after["samples"]) == (2, 7)
    assert after["loss"] == pytest.approx(float(kit.mean_loss(net, (x, y)).detach()))
    assert list(after["engine"]["strategies"]) == ["2"]


def test_columns_of_the_result_are_contiguous_and_the_input_is_untouched(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    X = kit.block(H.shape[0])
    copy = X.clone()
    Y = H.matmat(X)

    assert Y.T.is_contiguous()
    assert torch.equal(X, copy)
    kit.assert_close(H.matmat(X.T.contiguous().T), Y)


def test_a_block_is_multiplied_as_its_columns_are(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    X = kit.block(H.shape[0])

    kit.assert_close(H.matmat(X), torch.stack([H @ X[:, j] for j in range(3)], dim=1))
    assert H.matmat(X[:, :0]).shape == (H.shape[0], 0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_products_work_in_every_grad_mode_and_carry_no_graph(mode, net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    expected = H @ torch.ones(H.shape[0], dtype=H.dtype)
    with mode():
        X = torch.ones(H.shape[0], 2, dtype=H.dtype)
        Y = H.matmat(X)

    assert not Y.requires_grad
    assert not Y.is_inference()
    kit.assert_close(Y[:, 1], expected)


def test_a_vector_that_requires_grad_gets_no_graph(net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    x = torch.ones(H.shape[0], 1, dtype=H.dtype, requires_grad=True)

    assert not H.matmat(x).requires_grad


def test_a_parameter_that_is_not_used_gives_zero_rows(net, kit):
    net.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    batch = kit.samples(7)
    A = kit.matrix(slq_torch.hessian(net, kit.mean_loss, batch))
    where = [name for name, _ in net.named_parameters()].index("unused")

    assert where == 0
    assert not A[:3].any()
    assert not A[:, :3].any()
    kit.assert_close(A[3:, 3:], kit.dense(net, kit.mean_loss, batch)[3:, 3:])


def test_a_linear_loss_has_a_zero_hessian():
    w = torch.ones(3, requires_grad=True)
    H = slq_torch.hessian(lambda: w.sum(), [w])

    assert torch.equal(H.matmat(torch.ones(3, 2)), torch.zeros(3, 2))
    assert torch.equal(H @ torch.ones(3), torch.zeros(3))


def test_a_loss_linear_in_some_parameters_only():
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    H = slq_torch.hessian(lambda: a**3 + 5 * b, [a, b])

    assert torch.equal(H.matmat(torch.eye(2)), torch.diag(torch.tensor([12.0, 0.0])))


def test_a_closure_over_a_mapping_of_tensors(kit):
    t = {"a": torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)}
    t["b"] = torch.tensor([[3.0]], dtype=torch.float64, requires_grad=True)
    H = slq_torch.hessian(lambda: (t["a"] ** 2).sum() * t["b"].sum(), t)
    expected = torch.tensor([[6.0, 0, 2], [0, 6, 4], [2, 4, 0]], dtype=torch.float64)

    kit.assert_close(kit.matrix(H), expected)
    assert set(H.to_params(torch.ones(3))) == {"a", "b"}


def test_a_closure_takes_its_tensors_by_keyword_one_or_many():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    expected = torch.tensor([6.0, 12.0])

    for params in (w, [w], (t for t in [w])):
        assert torch.equal(slq_torch.hessian(lambda: (w**3).sum(), params) @ torch.ones(2), expected)
    H = slq_torch.hessian(lambda: (w**3).sum(), params=[w])
    assert torch.equal(H @ torch.ones(2), expected)


def test_a_module_can_be_the_closure(kit):
    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([1.0, 2.0]))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self):
            self.calls += 1
            return (self.w**3).sum()

    model = Energy()
    H = slq_torch.hessian(model, model.parameters())

    assert torch.equal(H @ torch.ones(2), torch.tensor([6.0, 12.0]))
    assert model.calls == 0


def test_a_model_that_returns_its_own_loss_and_takes_keywords(net, kit):
    x, y = kit.samples(7)

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, inputs, labels):
            return {"loss": functional.cross_entropy(self.net(inputs), labels)}

    H = slq_torch.hessian(Own(), lambda m, b: m(**b)["loss"], {"inputs": x, "labels": y})

    kit.assert_close(kit.matrix(H), kit.dense(net, kit.mean_loss, (x, y)))


def test_half_precision_parameters_have_float32_vectors(net, kit):
    x, y = kit.samples(7)
    exact = kit.dense(net, kit.mean_loss, (x, y))
    H = slq_torch.hessian(net.bfloat16(), kit.mean_loss, (x.bfloat16(), y))
    A = kit.matrix(H)

    assert (H.dtype, A.dtype) == (torch.float32, torch.float32)
    assert H.metadata["parameter_dtype"] == "torch.bfloat16"
    assert H.noise == torch.finfo(torch.bfloat16).eps
    kit.assert_close(A.double(), exact, rtol=0.1)


def test_vectors_of_another_dtype_are_converted(net, kit):
    H = slq_torch.hessian(net.float(), lambda m, b: m(b.float()).square().mean(), kit.samples(3)[0])

    assert (H @ torch.ones(H.shape[0], dtype=torch.float64)).dtype == torch.float32


def test_accumulation_in_float64_keeps_what_float32_loses():
    # Each batch adds 0.1 (rounded to float32) to the Hessian of w^2 c / 2; the mean is 0.1 again.
    w = nn.ParameterDict({"w": nn.Parameter(torch.ones(1))})
    data = [torch.full((1,), 0.1)] * 3000

    def loss(model, c):
        return (model["w"] ** 2 * c).mean() / 2

    plain = slq_torch.hessian(w, loss, data) @ torch.ones(1)
    H = slq_torch.hessian(w, loss, data, accumulate=torch.float64)
    better = H @ torch.ones(1)

    assert better.dtype == H.dtype == torch.float32
    assert H.metadata["accumulate"] == "torch.float64"
    assert torch.equal(better, data[0])
    assert abs(float(plain - data[0])) > 1e-6


def test_autocast_is_followed(net, kit):
    x, y = kit.samples(7)
    H = slq_torch.hessian(net.float(), kit.mean_loss, (x.float(), y))
    v = torch.ones(H.shape[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        H16 = slq_torch.hessian(net, kit.mean_loss, (x.float(), y))
        y16 = H16 @ v

    assert y16.dtype == torch.float32
    kit.assert_close(y16, H @ v, rtol=0.1)
    assert not torch.equal(y16, H @ v)


@pytest.mark.parametrize(
    ("X", "kind", "message"),
    [
        ([[1.0]], TypeError, "`X` must be a torch tensor, got list"),
        (torch.ones(37), ValueError, r"shape \(37, b\), got \(37,\).*v\[:, None\]"),
        (torch.ones(36, 2), ValueError, r"shape \(37, b\), got \(36, 2\)"),
        (torch.ones(37, 1, device="meta"), ValueError, "on cpu, got torch.float32 on meta"),
        (torch.ones(37, 1, dtype=torch.complex64), ValueError, "must be real"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(X, kind, message, net, kit):
    H = slq_torch.hessian(net, kit.mean_loss, kit.samples(7))
    with pytest.raises(kind, match=message):
        H.matmat(X)


def test_arguments_of_the_wrong_kind_are_refused(net, kit):
    batch, w = kit.samples(7), torch.ones(1, requires_grad=True)
    hessian = slq_torch.hessian

    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module, got function.*closure"):
        hessian(lambda x: x, kit.mean_loss, batch)
    with pytest.raises(TypeError, match=r"`loss` must be a function loss\(model, batch\), got str"):
        hessian(net, "mse", batch)
    with pytest.raises(TypeError, match=r"CrossEntropyLoss takes \(output, target\). Wrap it"):
        hessian(net, nn.CrossEntropyLoss(), batch)
    with pytest.raises(TypeError, match=r"mse_loss takes \(output, target\)"):
        hessian(net, functional.mse_loss, batch)
    with pytest.raises(TypeError, match="`data` is missing"):
        hessian(net, kit.mean_loss)
    with pytest.raises(TypeError, match="give `data`, or give the tensors"):
        hessian(net)
    with pytest.raises(TypeError, match="depends on once"):
        hessian(lambda: w.sum(), [w], params=[w])
    with pytest.raises(TypeError, match="closure must be a function without arguments, got Tensor"):
        hessian(w, [w])


def test_accumulate_must_be_at_least_as_precise_as_the_vectors(net, kit):
    for wrong, message in [
        (torch.float32, "less precise"),
        (torch.bfloat16, "must be torch.float32, torch.float64 or None"),
        ("float64", "got 'float64'"),
    ]:
        with pytest.raises(ValueError, match=message):
            slq_torch.hessian(net, kit.mean_loss, kit.samples(7), accumulate=wrong)
