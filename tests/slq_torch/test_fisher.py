"""Fisher matrices against means of outer products, and the laws of drawn labels."""

import json

import pytest
import slq_torch
import torch
from slq_torch._curvature._likelihoods import Family, uniforms
from torch import nn
from torch.nn import functional

SAMPLEWISE = ["linear and tanh", "layer norm", "group norm", "batch norm in eval mode", "convolution", "attention"]


def gradients(model, loss, samples):
    """Return the gradient of each sample's loss as rows, by one call of autograd each."""
    rows = []
    for sample in samples:
        value = loss(model, sample)
        value = value[0] if isinstance(value, tuple) else value
        grads = torch.autograd.grad(value, list(model.parameters()))
        rows.append(torch.cat([g.reshape(-1) for g in grads]))
    return torch.stack(rows)


def single(x, y):
    """Cut a batch into its samples."""
    return [(x[i : i + 1], y[i : i + 1]) for i in range(len(x))]


def regression(model, batch):
    return functional.mse_loss(model(batch[0]), batch[0][:, :2])


def binary(model, batch):
    z = model(batch[0])
    return functional.binary_cross_entropy_with_logits(z, functional.one_hot(batch[1], 2).to(z.dtype))


def masked(model, batch):
    z, y = model(batch[0]), batch[1].clone()
    y[:2] = -100
    return functional.cross_entropy(z, y, weight=torch.tensor([0.3, 2.0], dtype=z.dtype))


LOSSES = {"categorical": masked, "bernoulli": binary, "gaussian": regression}


@pytest.mark.parametrize("name", SAMPLEWISE)
@pytest.mark.parametrize("summed", [False, True])
def test_the_empirical_fisher_is_the_mean_of_outer_products(summed, name, kit):
    model, (x, y) = kit.make(kit.networks[name]), kit.samples(7)
    loss = kit.summed_loss if summed else kit.mean_loss
    g = gradients(model, loss, single(x, y))
    F = slq_torch.fisher(model, loss, [(x[:4], y[:4]), (x[4:], y[4:])])

    kit.assert_close(kit.matrix(F), g.T @ g / 7)
    assert F.metadata["per_sample"] == "vmap"


def test_a_model_that_vmap_cannot_take_is_called_sample_by_sample(kit):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 2)

        def forward(self, x):
            z = self.net(x)
            return z * 2 if float(x.detach().sum()) > 1e9 else z

    model, (x, y) = kit.make(Branching), kit.samples(5)
    g = gradients(model, kit.mean_loss, single(x, y))
    F = slq_torch.fisher(model, kit.mean_loss, (x, y))

    kit.assert_close(kit.matrix(F), g.T @ g / 5)
    assert F.metadata["per_sample"] == "loop"


def test_sequences_with_padding_are_samples_with_counts(kit):
    model, (x, _) = kit.make(lambda: nn.Linear(4, 3)), kit.samples(12)
    x, targets = x.reshape(3, 4, 4), torch.tensor([[0, 1, 2, 0], [1, 1, -100, -100], [2, -100, -100, -100]])

    def loss(model, batch):
        z = model(batch["x"]).flatten(0, 1)
        summed = functional.cross_entropy(z, batch["y"].flatten(), reduction="sum")
        return summed, (batch["y"] != -100).sum()

    g = gradients(model, loss, [{"x": x[i : i + 1], "y": targets[i : i + 1]} for i in range(3)])
    F = slq_torch.fisher(model, loss, {"x": x, "y": targets})
    ragged = slq_torch.fisher(model, loss, [{"x": x[:1], "y": targets[:1]}, {"x": x[1:], "y": targets[1:]}])

    kit.assert_close(kit.matrix(F), g.T @ g / 7)
    kit.assert_close(kit.matrix(ragged), g.T @ g / 7)


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_exact_fisher_is_the_gauss_newton_matrix(name, net, kit):
    batch = kit.samples(7)
    F = slq_torch.fisher(net, LOSSES[name], batch, kind="exact")

    kit.assert_close(kit.matrix(F), kit.matrix(slq_torch.ggn(net, LOSSES[name], batch)))
    assert F.metadata["likelihood"] == name


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_mean_over_draws_is_the_exact_matrix(name, net, kit):
    batch, loss = kit.samples(7), LOSSES[name]
    exact = kit.matrix(slq_torch.fisher(net, loss, batch, kind="exact"))
    few = kit.matrix(slq_torch.fisher(net, loss, batch, kind="monte-carlo", mc_samples=30, rng=1))
    many = kit.matrix(slq_torch.fisher(net, loss, batch, kind="monte-carlo", mc_samples=30 * 64, rng=2))
    error = [float(torch.linalg.matrix_norm(m - exact) / torch.linalg.matrix_norm(exact)) for m in (few, many)]

    assert error[1] < 0.08
    assert error[1] < error[0]


@pytest.mark.parametrize("name", list(LOSSES))
def test_drawn_matrices_are_semi_definite_and_repeat(name, net, kit):
    F = slq_torch.fisher(net, LOSSES[name], kit.samples(7), kind="monte-carlo", rng=5)
    A = kit.matrix(F)
    values = torch.linalg.eigvalsh(A)

    assert torch.equal(kit.matrix(F), kit.matrix(F))
    kit.assert_close(A, A.T.clone())
    assert values[0] > -1e-13 * values[-1]
    assert (values > 1e-10 * values[-1]).sum() <= 7


def test_drawn_labels_do_not_depend_on_how_the_data_are_batched(net, kit):
    x, y = kit.samples(7)
    cuts = [(x[a:b], y[a:b]) for a, b in ((0, 3), (3, 4), (4, 7))]
    whole = kit.matrix(slq_torch.fisher(net, kit.mean_loss, (x, y), kind="monte-carlo", rng=3, mc_samples=2))

    for loss in (kit.mean_loss, kit.summed_loss):
        F = slq_torch.fisher(net, loss, cuts, kind="monte-carlo", rng=3, mc_samples=2)
        kit.assert_close(kit.matrix(F), whole)
    other = slq_torch.fisher(net, kit.mean_loss, (x, y), kind="monte-carlo", rng=4, mc_samples=2)
    assert (kit.matrix(other) - whole).abs().max() > 1e-3 * whole.abs().max()


def test_a_drawn_matrix_is_made_of_gradients_at_other_labels(net, kit):
    x, y = kit.samples(5)
    F = kit.matrix(slq_torch.fisher(net, kit.mean_loss, (x, y), kind="monte-carlo", rng=3))
    at = [gradients(net, kit.mean_loss, single(x, torch.full_like(y, c))) for c in (0, 1)]
    possible = [
        torch.stack([at[(bits >> i) & 1][i] for i in range(5)]) for bits in range(2**5)
    ]  # all ways to label five samples

    distance = min(float((g.T @ g / 5 - F).abs().max()) for g in possible)
    assert distance < 1e-12 * float(F.abs().max())


@pytest.mark.slow
def test_a_language_model_with_classes_last_and_an_image_model_with_classes_second(kit):
    tokens = torch.randint(5, (3, 4), generator=torch.Generator().manual_seed(0))
    language = kit.make(lambda: nn.Sequential(nn.Embedding(5, 3), nn.Tanh(), nn.Linear(3, 5)))
    image = kit.make(lambda: nn.Conv2d(1, 3, 2))
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def language_loss(model, batch):
        return functional.cross_entropy(model(batch).flatten(0, 1), batch.flatten())

    def image_loss(model, batch):
        return functional.cross_entropy(model(batch), torch.ones(2, 2, 2, dtype=torch.int64))

    for model, loss, batch in ((language, language_loss, tokens), (image, image_loss, x)):
        exact = kit.matrix(slq_torch.fisher(model, loss, batch, kind="exact", likelihood="categorical"))
        drawn = kit.matrix(slq_torch.fisher(model, loss, batch, kind="monte-carlo", mc_samples=3000, rng=0))
        assert torch.linalg.matrix_norm(drawn - exact) < 0.1 * torch.linalg.matrix_norm(exact)


@pytest.mark.parametrize("family", [Family("categorical", -1), Family("bernoulli"), Family("gaussian")])
def test_scores_have_mean_zero_and_the_covariance_of_the_family(family):
    row = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    z = row.expand(20_000, 3)
    score = family.score(z, uniforms(family.terms(z), seed=7, start=0, draw=0, output=0))
    expected = torch.stack([family.covariance(row, e) for e in torch.eye(3, dtype=torch.float64)])

    torch.testing.assert_close(score.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=0.03)
    torch.testing.assert_close(score.T @ score / len(z), expected, rtol=0, atol=0.04)


def test_uniform_numbers_belong_to_samples():
    whole = uniforms((6, 5), seed=1, start=0, draw=0, output=0)

    assert torch.equal(uniforms((2, 5), seed=1, start=3, draw=0, output=0), whole[3:5])
    assert not torch.equal(uniforms((6, 5), seed=1, start=0, draw=1, output=0), whole)
    assert not torch.equal(uniforms((6, 5), seed=1, start=0, draw=0, output=1), whole)
    assert (whole > 0).all()
    assert (whole < 1).all()
    assert uniforms((), seed=1, start=0, draw=0, output=0).shape == ()


@pytest.mark.parametrize("kind", ["empirical", "monte-carlo", "exact"])
def test_nothing_of_the_users_is_changed(kind, kit):
    model = kit.make(kit.networks["batch norm in eval mode"])
    F = slq_torch.fisher(model, kit.mean_loss, kit.samples(7), kind=kind)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    F.matmat(kit.block(F.shape[0]))

    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert json.loads(json.dumps(F.metadata))["kind"] == f"{kind} fisher"


def test_a_fresh_seed_is_kept_in_the_metadata(net, kit):
    batch = kit.samples(7)
    F = slq_torch.fisher(net, kit.mean_loss, batch, kind="monte-carlo")
    again = slq_torch.fisher(net, kit.mean_loss, batch, kind="monte-carlo", rng=F.metadata["seed"])

    assert torch.equal(kit.matrix(F), kit.matrix(again))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "type-2"}, "`kind` must be one of 'empirical'"),
        ({"likelihood": "poisson", "kind": "exact"}, "`likelihood` must be one of"),
        ({"likelihood": "gaussian"}, "`likelihood` has no meaning"),
        ({"mc_samples": 2}, "`mc_samples` has no meaning"),
        ({"rng": 0, "kind": "exact"}, "`rng` has no meaning"),
        ({"mc_samples": 0, "kind": "monte-carlo"}, "integer >= 1, got 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message, net, kit):
    with pytest.raises(ValueError, match=message):
        slq_torch.fisher(net, kit.mean_loss, kit.samples(7), **arguments)


def test_batch_norm_in_train_mode_has_no_per_sample_gradients(kit):
    model = kit.make(kit.networks["batch norm in train mode"])

    with pytest.raises(ValueError, match=r'BatchNorm in train mode.*Give mode="eval"'):
        slq_torch.fisher(model, kit.mean_loss, kit.samples(7))
    assert slq_torch.fisher(model, kit.mean_loss, kit.samples(7), mode="eval").shape[0] > 0


def test_losses_that_do_not_add_up_over_samples_are_refused(net, kit):
    x, y = kit.samples(7)
    for loss in (masked, lambda m, b: m(b[0]).var(0).sum() if len(b[0]) > 1 else m(b[0]).square().sum()):
        F = slq_torch.fisher(net, loss, (x, y))
        with pytest.raises(ValueError, match="no mean over the samples"):
            F @ torch.ones(F.shape[0], dtype=F.dtype)


def test_losses_of_another_likelihood_are_refused(net, kit):
    v = torch.ones(sum(p.numel() for p in net.parameters()), dtype=torch.float64)
    wrong = slq_torch.fisher(net, kit.mean_loss, kit.samples(7), kind="exact", likelihood="gaussian")
    unknown = slq_torch.fisher(net, lambda m, b: m(b[0]).exp().mean(), kit.samples(7), kind="monte-carlo", rng=0)

    with pytest.raises(ValueError, match="not of the likelihood 'gaussian'"):
        wrong @ v
    with pytest.raises(ValueError, match="not of a likelihood that is known here"):
        unknown @ v


@pytest.mark.parametrize("delta", [0.05, 1.0, 10.0])
def test_losses_that_are_quadratic_only_near_their_minimum_are_no_gaussian(delta, net, kit):
    def huber(model, batch):
        return functional.huber_loss(model(batch[0]), batch[0][:, :2], delta=delta)

    F = slq_torch.fisher(net, huber, kit.samples(7), kind="exact")
    with pytest.raises(ValueError, match="not of a likelihood that is known here"):
        F @ torch.ones(F.shape[0], dtype=F.dtype)


def test_masked_squares_are_a_gaussian(net, kit):
    mask = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0, 0.0, 1.0], dtype=torch.float64)[:, None]

    def loss(model, batch):
        return ((model(batch[0]) - batch[0][:, :2]).square() * mask).mean()

    F = slq_torch.fisher(net, loss, kit.samples(7), kind="exact")
    kit.assert_close(kit.matrix(F), kit.matrix(slq_torch.ggn(net, loss, kit.samples(7))))
    assert F.metadata["likelihood"] == "gaussian"


@pytest.mark.parametrize(
    ("rng", "error"), [(-1, ValueError), (2**128, ValueError), (0.5, TypeError), (True, TypeError)]
)
def test_seeds_are_integers(rng, error, net, kit):
    with pytest.raises(error, match="`rng` must"):
        slq_torch.fisher(net, kit.mean_loss, kit.samples(7), kind="monte-carlo", rng=rng)


def test_a_batch_without_a_common_first_dimension_is_refused(net, kit):
    x, y = kit.samples(7)
    F = slq_torch.fisher(net, lambda m, b: kit.mean_loss(m, b[:2]), (x, y, torch.ones(3)))

    with pytest.raises(ValueError, match="cannot be cut into samples"):
        F @ torch.ones(F.shape[0], dtype=F.dtype)
