"""What counts as a batch, how batches weigh, and that the cut into batches does not matter."""

import dataclasses
from collections import UserDict, namedtuple

import pytest
import slq_torch
import torch
from slq_torch._model._data import as_batches, sample_count
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


@dataclasses.dataclass
class Pair:
    x: torch.Tensor
    y: torch.Tensor


class Keyed:
    """Like a batch of a graph library: `keys` is a list, and it can be iterated."""

    keys = ("x", "y")

    def __init__(self, **tensors):
        self.tensors = tensors

    def __getitem__(self, key):
        return self.tensors[key]

    def __iter__(self):
        return iter(self.tensors)


X, Y = torch.ones(5, 3), torch.zeros(5)
ONE_BATCH = [
    X,
    (X, Y),
    {"x": X, "y": Y},
    UserDict(x=X, y=Y),
    Pair(X, Y),
    Keyed(x=X, y=Y),
    namedtuple("Point", "x y")(X, Y),
    X.numpy(),
    "a text",
    object(),
]


@pytest.mark.parametrize("data", ONE_BATCH, ids=lambda d: type(d).__name__)
def test_one_batch_is_told_from_many(data):
    batches = list(as_batches(data))

    assert len(batches) == 1
    assert batches[0] is data


@pytest.mark.parametrize("data", ONE_BATCH[:7], ids=lambda d: type(d).__name__)
def test_samples_are_counted_in_every_kind_of_batch(data):
    assert sample_count(data) == 5
    assert sample_count({"nested": [data, {"scale": torch.tensor(2.0)}]}) == 5


def test_samples_are_not_guessed():
    assert sample_count("a text") is None
    assert sample_count(torch.tensor(1.0)) is None
    assert sample_count((torch.ones(5, 3), torch.ones(2, 8))) is None


def test_a_list_is_a_list_of_batches_and_a_loader_is_read_anew():
    loader = DataLoader(TensorDataset(X, Y), batch_size=2)

    assert len(list(as_batches([X, X, X]))) == 3
    assert len(list(as_batches(loader))) == len(list(as_batches(loader))) == 3


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (None, TypeError, "`data` is None"),
        ([], ValueError, "empty list"),
        ((b for b in [X]), TypeError, r"a generator, which can be read only once.*list\(data\)"),
        (zip([X], [Y], strict=True), TypeError, "a zip, which can be read only once"),
        (TensorDataset(X), TypeError, r"TensorDataset, which yields samples.*DataLoader\(dataset"),
        ([X, Y], ValueError, r"different dtypes or dimensions.*tuple\(batch\)"),
        ([X, X.long()], ValueError, "list of tensors of different dtypes"),
    ],
)
def test_data_that_would_go_wrong_are_refused(data, kind, message, net, kit):
    with pytest.raises(kind, match=message):
        slq_torch.hessian(net, kit.mean_loss, data)


def ragged(batch, *sizes):
    """Cut (x, y) into batches of the given sizes."""
    return list(zip(*(part.split(sizes) for part in batch), strict=True))


def test_the_cut_into_batches_does_not_matter(any_net, kit):
    any_net.eval()
    batch = kit.samples(9)
    whole = slq_torch.hessian(any_net, kit.mean_loss, batch)
    X = kit.block(whole.shape[0])
    expected = whole.matmat(X)
    loader = DataLoader(TensorDataset(*batch), batch_size=4)

    for data in (batch, ragged(batch, 4, 4, 1), ragged(batch, 1, 6, 2), loader):
        for loss in (kit.mean_loss, kit.summed_loss):
            kit.assert_close(slq_torch.hessian(any_net, loss, data).matmat(X), expected)


def test_samples_of_a_ragged_batch_do_not_weigh_more(net, kit):
    batch = kit.samples(5)
    parts = ragged(batch, 4, 1)
    unweighted = sum(kit.dense(net, kit.mean_loss, part) for part in parts) / 2
    A = kit.matrix(slq_torch.hessian(net, kit.mean_loss, parts))

    kit.assert_close(A, kit.dense(net, kit.mean_loss, batch))
    assert float((A - unweighted).abs().max()) > 1e-3


def test_one_batch_needs_no_count(net, kit):
    x, y = kit.samples(6)
    H = slq_torch.hessian(net, lambda m, b: kit.mean_loss(m, b["make"]()), {"make": lambda: (x, y)})

    kit.assert_close(kit.matrix(H), kit.dense(net, kit.mean_loss, (x, y)))
    assert H.metadata["samples"] is None


def test_batches_that_cannot_be_weighted_are_refused(net, kit):
    x, y = kit.samples(6)
    data = [((x[:4], torch.ones(3)), y[:4]), ((x[4:], torch.ones(3)), y[4:])]
    H = slq_torch.hessian(net, lambda m, b: kit.mean_loss(m, (b[0][0], b[1])), data)

    with pytest.raises(ValueError, match=r"samples of batch 0 is not clear.*Return \(sum, count\)"):
        H @ torch.ones(H.shape[0])


def test_the_batch_whose_count_is_not_clear_is_named(net, kit):
    x, y = kit.samples(6)
    H = slq_torch.hessian(net, lambda m, b: kit.mean_loss(m, b[:2]), [(x, y), (x, y, torch.ones(2))])

    with pytest.raises(ValueError, match="samples of batch 1 is not clear"):
        H @ torch.ones(H.shape[0])


def test_tokens_weigh_the_same_whatever_the_padding(kit):
    model = kit.make(lambda: nn.Sequential(nn.Embedding(6, 3), nn.Tanh(), nn.Linear(3, 6)))
    lengths, ignore = [7, 2, 4, 1], -100
    tokens = torch.full((4, 7), 0)
    targets = torch.full((4, 7), ignore)
    for row, length in enumerate(lengths):
        tokens[row, :length] = torch.arange(length) % 5 + row % 2
        targets[row, :length] = (torch.arange(length) * 2 + row) % 6

    def loss(model, batch):
        logits, labels = model(batch["tokens"]).flatten(0, 1), batch["targets"].flatten()
        return functional.cross_entropy(logits, labels, reduction="sum"), (labels != ignore).sum()

    whole = {"tokens": tokens, "targets": targets}
    # Batches padded to their own longest sequence, in any company.
    parts = [{"tokens": tokens[i : i + 1, :n], "targets": targets[i : i + 1, :n]} for i, n in enumerate(lengths)]
    expected = kit.dense(model, loss, whole)
    H = slq_torch.hessian(model, loss, parts)

    kit.assert_close(kit.matrix(H), expected)
    kit.assert_close(kit.matrix(slq_torch.hessian(model, loss, whole)), expected)
    assert H.metadata["samples"] == sum(lengths)


def test_a_batch_of_padding_alone_counts_nothing(net, kit):
    batch = kit.samples(5)
    data = [(*batch, True), (*batch, False)]

    def loss(model, batch):
        total, count = kit.summed_loss(model, batch[:2])
        return total * batch[2], count * batch[2]

    H = slq_torch.hessian(net, loss, data)

    kit.assert_close(kit.matrix(H), kit.dense(net, kit.mean_loss, batch))


@pytest.mark.parametrize(
    ("loss", "kind", "message"),
    [
        (lambda v, i: v.expand(2, 2), ValueError, r"got shape \(2, 2\).*\.mean\(\)"),
        (lambda v, i: v.reshape(1), ValueError, r"got shape \(1,\)"),
        (lambda v, i: v * 1j, ValueError, "real scalar, got .*complex128"),
        (lambda v, i: float(v.detach()), TypeError, r"got float \(batch 0\)"),
        (lambda v, i: {"loss": v}, TypeError, "got dict.*return its .loss"),
        (lambda v, i: (v, 1, 2), ValueError, "a tuple of 3"),
        (lambda v, i: (v, torch.ones(4)), TypeError, r"read as \(sum, count\).*shape \(4,\)"),
        (lambda v, i: (v, "four"), TypeError, "second entry is str"),
        (lambda v, i: (v, v), TypeError, "detached"),
        (lambda v, i: (v, -1), ValueError, r"the count -1.0 for batch 0"),
        (lambda v, i: (v, 0), ValueError, "counts that are all zero"),
        (lambda v, i: (v, 1) if i else v, ValueError, r"a mean for others \(batch 1\)"),
        (lambda v, i: v.detach(), ValueError, r"does not require grad \(batch 0\).*\.detach\(\)"),
        (lambda v, i: v * float("nan"), ValueError, "`loss` is nan for batch 0"),
        (lambda v, i: v / (1 - i), ValueError, "`loss` is inf for batch 1"),
    ],
)
def test_a_loss_that_makes_no_sense_is_refused(loss, kind, message, net, kit):
    x, y = kit.samples(6)
    data = [(x[:3], y[:3], 0), (x[3:], y[3:], 1)]
    H = slq_torch.hessian(net, lambda m, b: loss(kit.mean_loss(m, b[:2]), b[2]), data)

    with pytest.raises(kind, match=message):
        H @ torch.ones(H.shape[0])


def test_a_loss_under_no_grad_is_refused_with_advice(net, kit):
    H = slq_torch.hessian(net, torch.no_grad()(kit.mean_loss), kit.samples(3))

    with pytest.raises(ValueError, match=r"does not require grad .*torch\.no_grad"):
        H @ torch.ones(H.shape[0])


def test_data_without_batches_and_batches_without_samples_are_refused(net, kit):
    x, y = kit.samples(4)
    nothing = slq_torch.hessian(net, kit.mean_loss, DataLoader(TensorDataset(x[:0], y[:0])))
    with pytest.raises(ValueError, match="`data` yielded no batch"):
        nothing @ torch.ones(nothing.shape[0])

    def loss(model, batch):
        return model(batch).square().sum()

    hollow = slq_torch.hessian(net, loss, [x, x[:0]])
    with pytest.raises(ValueError, match="Batch 1 of `data` has no samples"):
        hollow @ torch.ones(hollow.shape[0])
