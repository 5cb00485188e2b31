"""The Gauss-Newton operator against J^T H_z J from torch's own Jacobians, and its contract."""

import dataclasses
import json
from collections import OrderedDict, UserDict, namedtuple

import pytest
import slq_torch
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel


class Residual(nn.Module):
    """Two branches added up, one of them batch-normalised."""

    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.outer(x + functional.gelu(self.norm(self.inner(x))))


class Tied(nn.Module):
    """A language model whose head is its embedding; token 0 never occurs."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.mix(self.embed(tokens)).cumsum(1)))


def pieces(model, vector):
    """Cut a vector into the parameters of a model."""
    named = dict(model.named_parameters())
    cuts = vector.split([p.numel() for p in named.values()])
    return {name: c.reshape(p.shape) for (name, p), c in zip(named.items(), cuts, strict=True)}


def dense_ggn(model, criterion, inputs):
    """Build J^T H_z J of criterion(model(inputs)) by torch.func and functional.hessian."""
    theta = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    buffers = {k: v.clone() for k, v in model.named_buffers()}

    def outputs(vector):
        return torch.func.functional_call(model, pieces(model, vector) | buffers, inputs).reshape(-1)

    shape = model(inputs).shape
    J = torch.autograd.functional.jacobian(outputs, theta)
    H = torch.autograd.functional.hessian(lambda z: criterion(z.reshape(shape)), outputs(theta).detach())
    return J.T @ H @ J


def test_products_agree_with_the_dense_matrix(any_net, kit):
    x, y = kit.samples(7)
    G = slq_torch.ggn(any_net, kit.mean_loss, (x, y))

    kit.assert_close(kit.matrix(G), dense_ggn(any_net, lambda z: functional.cross_entropy(z, y), x))


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_network_with_batch_norm(training, kit):
    model = kit.make(Residual).train(training)
    x, y = kit.samples(6)
    G = slq_torch.ggn(model, kit.mean_loss, (x, y))

    kit.assert_close(kit.matrix(G), dense_ggn(model, lambda z: functional.cross_entropy(z, y), x))


def test_tied_weights_and_rows_of_an_embedding_that_no_token_uses(kit):
    model = kit.make(Tied)
    tokens = torch.randint(1, 5, (3, 4), generator=torch.Generator().manual_seed(0))
    targets = tokens.roll(1, dims=1)

    def criterion(z):
        return functional.cross_entropy(z.flatten(0, 1), targets.flatten())

    G = slq_torch.ggn(model, lambda model, batch: criterion(model(batch)), tokens)

    assert G.shape[0] == 15 + 12
    kit.assert_close(kit.matrix(G), dense_ggn(model, criterion, tokens))


@pytest.mark.parametrize(
    "criterion",
    [
        lambda z, y: functional.cross_entropy(z, y, weight=torch.tensor([0.3, 2.0], dtype=z.dtype), ignore_index=0),
        lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.1),
        lambda z, y: functional.mse_loss(z, functional.one_hot(y, 2).to(z.dtype)),
        lambda z, y: functional.binary_cross_entropy_with_logits(z[:, 0], y.to(z.dtype)),
        lambda z, y: functional.smooth_l1_loss(z[:, 1], y.to(z.dtype)),
        lambda z, y: (z[:-1] - z[1:]).square().sum(1).exp().mean(),
        lambda z, y: z.sum(),
    ],
    ids=["weights and ignore_index", "smoothing", "mse", "bce", "huber", "between samples", "linear"],
)
def test_losses_of_any_shape(criterion, net, kit):
    x, y = kit.samples(7)
    G = slq_torch.ggn(net, lambda model, batch: criterion(model(batch[0]), batch[1]), (x, y))

    kit.assert_close(kit.matrix(G), dense_ggn(net, lambda z: criterion(z, y), x))


def test_it_is_the_hessian_of_a_linear_model(kit):
    model = kit.make(lambda: nn.Linear(4, 2))
    batch = kit.samples(7)

    G = slq_torch.ggn(model, kit.mean_loss, batch)

    kit.assert_close(kit.matrix(G), kit.dense(model, kit.mean_loss, batch))


def test_it_is_symmetric_and_positive_semi_definite_for_a_convex_loss(any_net, kit):
    G = kit.matrix(slq_torch.ggn(any_net, kit.mean_loss, kit.samples(7)))
    values = torch.linalg.eigvalsh(G)

    kit.assert_close(G, G.T.clone())
    assert values[0] > -1e-14 * values[-1]
    assert (values > 1e-10 * values[-1]).sum() <= 7  # rank: one per sample and class but one


def test_it_does_not_depend_on_how_the_data_are_batched(net, kit):
    x, y = kit.samples(7)
    expected = kit.matrix(slq_torch.ggn(net, kit.mean_loss, (x, y)))
    cuts = [(x[a:b], y[a:b]) for a, b in ((0, 3), (3, 4), (4, 7))]

    kit.assert_close(kit.matrix(slq_torch.ggn(net, kit.mean_loss, cuts)), expected)
    kit.assert_close(kit.matrix(slq_torch.ggn(net, kit.summed_loss, cuts)), expected)


def test_padding_of_tokens_does_not_count(kit):
    model = kit.make(Tied)
    tokens = torch.randint(1, 5, (4, 5), generator=torch.Generator().manual_seed(0))
    targets = tokens.roll(1, dims=1)
    targets[1, 2:] = targets[2, 4:] = -100

    def loss(model, batch):
        x, y = batch
        summed = functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum")
        return summed, int((y != -100).sum())

    whole = kit.matrix(slq_torch.ggn(model, loss, (tokens, targets)))
    cuts = [(tokens[a:b], targets[a:b]) for a, b in ((0, 1), (1, 4))]
    criterion = lambda z: functional.cross_entropy(z.flatten(0, 1), targets.flatten())  # noqa: E731

    kit.assert_close(kit.matrix(slq_torch.ggn(model, loss, cuts)), whole)
    kit.assert_close(whole, dense_ggn(model, criterion, tokens))


class Container(nn.Module):
    """Returns its logits wrapped in something."""

    def __init__(self, wrap):
        super().__init__()
        self.net, self.wrap = nn.Linear(4, 2), wrap

    def forward(self, x):
        return self.wrap(self.net(x))


Pair = namedtuple("Pair", "ids logits")


class ModelOutput(OrderedDict):
    """A mapping whose entries are attributes as well, in the manner of Hugging Face."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    note: str = "kept"


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        (lambda z: (torch.arange(3), z), lambda out: out[1]),
        (lambda z: [z, {"again": z}], lambda out: out[1]["again"]),
        (lambda z: Pair(None, z), lambda out: out.logits),
        (lambda z: {"logits": z, "hidden": z * 2}, lambda out: out["logits"]),
        (lambda z: UserDict(logits=z), lambda out: out["logits"]),
        (lambda z: Output(z), lambda out: out.logits),
        (lambda z: ModelOutput(logits=z, loss=None), lambda out: out.logits),
    ],
    ids=["tuple", "list", "named tuple", "dict", "UserDict", "dataclass", "model output"],
)
def test_outputs_may_be_any_nested_container(wrap, unwrap, kit):
    x, y = kit.samples(7)
    model = kit.make(lambda: Container(wrap))

    def loss(model, batch):
        out = model(batch[0])
        assert type(out) is type(wrap(batch[0]))
        return functional.cross_entropy(unwrap(out), batch[1])

    kit.assert_close(
        kit.matrix(slq_torch.ggn(model, loss, (x, y))), kit.matrix(slq_torch.ggn(model.net, kit.mean_loss, (x, y)))
    )


def test_a_loss_may_call_the_model_several_times(net, kit):
    x, _ = kit.samples(8)

    def contrast(model, batch):
        return (model(batch[:4]) - model(batch[4:])).square().sum(1).exp().mean()

    def at_once(model, batch):
        z = model(batch)
        return (z[:4] - z[4:]).square().sum(1).exp().mean()

    kit.assert_close(
        kit.matrix(slq_torch.ggn(net, contrast, x)), kit.matrix(slq_torch.ggn(net, at_once, x)), rtol=1e-10
    )


def test_the_loss_sees_the_users_own_model(net, kit):
    seen = []

    def loss(model, batch):
        seen.append(model)
        return kit.mean_loss(model, batch)

    G = slq_torch.ggn(net, loss, kit.samples(4))
    G.matmat(kit.block(G.shape[0]))

    assert all(model is net for model in seen)
    assert not net._forward_hooks


def test_chosen_parameters_only(net, kit):
    x, y = kit.samples(7)
    whole = kit.matrix(slq_torch.ggn(net, kit.mean_loss, (x, y)))
    net[0].requires_grad_(False)
    part = kit.matrix(slq_torch.ggn(net, kit.mean_loss, (x, y)))

    kit.assert_close(part, whole[25:, 25:].clone())
    kit.assert_close(kit.matrix(slq_torch.ggn(net, kit.mean_loss, (x, y), params="0.weight")), whole[:20, :20].clone())
    assert not net[0].weight.requires_grad


def test_nothing_of_the_users_is_changed_and_a_product_repeats(kit):
    model = kit.make(kit.networks["batch norm in train mode"])
    G = slq_torch.ggn(model, kit.mean_loss, kit.samples(7))
    X = kit.block(G.shape[0])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags, state = [m.training for m in model.modules()], torch.get_rng_state()
    first, second = G.matmat(X), G.matmat(X)

    kit.assert_close(second, first, rtol=1e-14)
    assert torch.equal(G.matmat(X), second)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_blocks_of_no_column_and_float32(net, kit):
    x, y = kit.samples(7)
    G = slq_torch.ggn(net.float(), kit.mean_loss, (x.float(), y), accumulate=torch.float64)

    assert G.matmat(torch.zeros(G.shape[0], 0)).shape == (G.shape[0], 0)
    assert (G @ torch.ones(G.shape[0])).dtype == torch.float32


def test_the_metadata_tell_the_engine(net, kit):
    G = slq_torch.ggn(net, kit.mean_loss, kit.samples(7))
    G.matmat(kit.block(G.shape[0]))
    facts = json.loads(json.dumps(G.metadata))

    assert facts["kind"] == "ggn"
    assert facts["engine"]["strategies"] == {str(k): v for k, v in G.engine.strategies.items()}
    assert facts["engine"]["graph_bytes"] > 0


class OwnLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)

    def forward(self, x, y):
        return {"loss": functional.cross_entropy(self.net(x), y)}


MISTAKES = {
    "weight decay": (
        lambda m, b: functional.mse_loss(m(b), b[:, :2]) + m[0].weight.square().sum(),
        "'0.weight' in .*oth",
    ),
    "submodule": (lambda m, b: functional.mse_loss(m[2](m(b).repeat(1, 3)[:, :5]), b[:, :2]), "submodule"),
    "forward": (lambda m, b: m.forward(b).square().mean(), r"does not call model"),
    "no call": (lambda m, b: m[0].weight.square().sum(), r"does not call model"),
    "chained": (lambda m, b: m(m(b).repeat(1, 2)).square().mean(), "another call"),
}


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_a_loss_that_is_no_function_of_the_outputs_is_refused(mistake, net, kit):
    loss, message = MISTAKES[mistake]
    G = slq_torch.ggn(net, loss, kit.samples(7)[0])

    with pytest.raises(ValueError, match=message):
        G @ torch.ones(G.shape[0], dtype=G.dtype)
    assert not net._forward_hooks


def test_a_model_that_returns_its_own_loss_is_refused(kit):
    model = kit.make(OwnLoss)
    G = slq_torch.ggn(model, lambda m, b: m(*b)["loss"], kit.samples(7))

    with pytest.raises(ValueError, match="from the logits"):
        G @ torch.ones(G.shape[0], dtype=G.dtype)


def test_an_operation_without_a_second_derivative_is_passed_through_forwards(kit):
    class Once(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x * 2

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad * 2

        @staticmethod
        def jvp(ctx, tangent):
            return tangent * 2

    class Doubling(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 2)

        def forward(self, x):
            return Once.apply(self.net(x))

    model = kit.make(Doubling)
    batch = kit.samples(7)
    G = slq_torch.ggn(model, kit.mean_loss, batch)
    loss = lambda m, b: functional.cross_entropy(2 * m(b[0]), b[1])  # noqa: E731

    kit.assert_close(kit.matrix(G), kit.matrix(slq_torch.ggn(model.net, loss, batch)))
    assert G.engine.strategies == {G.shape[0]: "forward"}
    assert "once_differentiable" in G.engine.reasons["graph"]


class Fused(nn.Module):
    """Attention by whatever kernel torch takes by itself."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x):
        q, k, v = (t.reshape(*x.shape[:2], 2, 4).transpose(1, 2) for t in self.inner(x).split(8, -1))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.outer(y.transpose(1, 2).flatten(-2))


@pytest.mark.parametrize("make", [slq_torch.ggn, slq_torch.fisher, slq_torch.residual])
def test_fused_attention_is_exchanged_for_the_math_kernel(make, kit):
    model = kit.make(Fused)
    x = torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(model, batch):
        return model(batch).square().mean()

    def by_math(model, batch):
        with sdpa_kernel(SDPBackend.MATH):
            return loss(model, batch)

    A, B = make(model, loss, x), make(model, by_math, x)
    X = kit.block(A.shape[0])

    kit.assert_close(A.matmat(X), B.matmat(X))
    assert "math kernel" in A.engine.notes[0]
    assert B.engine.notes == ()
