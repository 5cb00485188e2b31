"""A recorder sees the curvature during a training that does not notice it, whatever goes wrong."""

import errno
import os
import random

import numpy as np
import pytest
import slq_torch
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import slq
from slq._files import _store

QUICK = {"every": 2, "top": 2, "energy": 3, "probes": 1, "steps": 4}


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


def network():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(40, 4, generator=generator), torch.randint(3, (40,), generator=generator)


@pytest.fixture(autouse=True)
def own_random_numbers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def train(model, data, steps, recorder=None, first=0, optimizer=None):
    """Train with shuffled batches, momentum and random numbers of all three kinds; return all losses."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(first, steps):
        chosen = torch.randperm(40)[:16]
        noise = 1e-3 * (random.random() + np.random.random())  # noqa: NPY002 - the global state is what is tested
        optimizer.zero_grad()
        value = loss(model, (data[0][chosen] + noise * torch.randn(16, 4), data[1][chosen]))
        value.backward()
        optimizer.step()
        losses.append(value.item())
        if recorder is not None:
            recorder.step(step, loss=value, lr=0.1)
    return losses


def seeded():
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002


@pytest.mark.parametrize("frozen", [False, True], ids=["all trained", "a part frozen"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_training_is_bit_for_bit_the_same_with_and_without(data, mode, frozen):
    def made():
        model = network()
        if frozen:  # in one model flags of both kinds
            model[0].requires_grad_(False)
            model[1].eval()
        return model

    seeded()
    plain = made()
    own = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    expected = train(plain, data, 8, optimizer=own)
    drawn = random.random(), np.random.random(), torch.rand(1).item()  # noqa: NPY002
    seeded()
    model = made()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data), batch_size=20, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recorder = slq_torch.Recorder(model, loss, loader, mode=mode, **QUICK)
    found = train(model, data, 8, recorder, optimizer=optimizer)

    assert found == expected
    assert (random.random(), np.random.random(), torch.rand(1).item()) == drawn  # noqa: NPY002
    assert len(recorder.history) == 4
    for (name, a), (_, b) in zip(plain.state_dict().items(), model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name  # BatchNorm's statistics are in it
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        assert a.requires_grad == b.requires_grad
        assert (a.grad is b.grad is None) or torch.equal(a.grad, b.grad)
    assert [module.training for module in model.modules()] == [module.training for module in plain.modules()]
    for a, b in zip(own.state.values(), optimizer.state.values(), strict=True):
        assert torch.equal(a["momentum_buffer"], b["momentum_buffer"])


def test_a_record_agrees_with_the_dense_hessian(data, kit):
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    batch = data[0].double(), data[1]
    recorder = slq_torch.Recorder(model, loss, batch, every="demand", top=3, energy=50, accuracy=1e-7)
    assert not recorder.step(0)
    assert recorder.record(0)
    history = recorder.history
    H = kit.dense(model, loss, batch)
    values, vectors = np.linalg.eigh(H.numpy())
    gradient = torch.cat([g.ravel() for g in torch.autograd.grad(loss(model, batch), [*model.parameters()])]).numpy()
    share = (vectors.T @ gradient) ** 2 / (gradient @ gradient)

    assert history.arrays["eigenvalues"][0] == pytest.approx(values[:-4:-1], rel=1e-5)
    assert history.scalars["gradient_concentration"][0] == pytest.approx(share[-3:].sum(), rel=1e-4)
    assert history.scalars["gradient_norm"][0] == pytest.approx(np.linalg.norm(gradient))
    mean = history.arrays["gradient_nodes"][0] @ history.arrays["gradient_energy"][0]
    assert mean == pytest.approx(values @ share)
    assert history.scalars["largest"][0] == pytest.approx(values[-1])


def test_a_training_that_goes_on_gives_the_same_file(data, tmp_path):
    for name, stops in (("whole", [8]), ("parts", [5, 8])):
        seeded()
        model = network()
        optimizer, first = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), 0
        for stop in stops:
            with slq_torch.Recorder(model, loss, data, path=tmp_path / name, **QUICK) as recorder:
                train(model, data, stop, recorder, first, optimizer)
            first = stop

    whole, parts = (slq.History.load(tmp_path / f"{name}.npz") for name in ("whole", "parts"))
    assert whole.steps.tolist() == [0, 2, 4, 6]
    assert whole == parts
    assert {p.name for p in tmp_path.glob(".parts*")} == {".parts.npz.lock", ".parts.npz.vectors-6.npy"}


def test_steps_that_have_a_record_are_not_recorded_again(data, tmp_path):
    model = network()
    with slq_torch.Recorder(model, loss, data, path=tmp_path / "run", **QUICK) as recorder:
        train(model, data, 5, recorder)
    with slq_torch.Recorder(model, loss, data, path=tmp_path / "run", **QUICK) as recorder:
        assert not recorder.step(4)
        train(model, data, 7, recorder, 6)
        assert recorder.history.steps.tolist() == [0, 2, 4, 6]


def test_a_second_recorder_of_one_file_is_refused(data, tmp_path):
    with (
        slq_torch.Recorder(network(), loss, data, path=tmp_path / "run", **QUICK),
        pytest.raises(BlockingIOError, match="written by another recorder"),
    ):
        slq_torch.Recorder(network(), loss, data, path=tmp_path / "run", **QUICK)


def test_a_loss_that_is_nan_is_recorded_as_such(data):
    model = network()
    recorder = slq_torch.Recorder(model, loss, data, **QUICK)
    recorder.step(0)
    good = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    assert recorder.step(2)
    with torch.no_grad():
        model[0].weight.copy_(1.1 * good)
    recorder.step(4)

    history = recorder.history
    assert [s is None for s in history.spectra] == [False, True, False]
    assert history.notes[1] == "the loss is nan"
    assert np.isnan(history.scalars["evaluation_loss"][1])
    assert np.isfinite(history.scalars["subspace_overlap"][2])


def test_a_layer_that_is_rebuilt_in_another_size_is_noted(data):
    model = network()
    recorder = slq_torch.Recorder(model, loss, data, **QUICK)
    recorder.step(0)
    model[3] = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    recorder.step(2)

    assert [s.n for s in recorder.history.spectra] == [63, 125]
    assert recorder.history.notes[1] == "the model has 125 parameters, before it had 63"


def test_parameters_on_another_device_are_noted_and_training_goes_on(data):
    model = network()
    recorder = slq_torch.Recorder(model, loss, data, **QUICK)
    recorder.step(0)
    model.to("meta")
    with pytest.warns(slq.SlqWarning, match="No spectrum at step 2, training goes on"):
        assert recorder.step(2)
    assert recorder.step(4)  # one warning is enough

    assert recorder.history.spectra[1:] == (None, None)
    assert "meta" in recorder.history.notes[1]


def test_a_mistake_that_shows_in_the_first_record_is_raised(data):
    recorder = slq_torch.Recorder(network(), lambda model, batch: model(batch[0]), data, **QUICK)

    with pytest.raises((ValueError, RuntimeError)):
        recorder.step(0)


def test_a_full_disk_leaves_the_training_running_and_the_file_valid(data, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    model = network()
    with slq_torch.Recorder(model, loss, data, path=tmp_path / "run", **QUICK) as recorder:
        train(model, data, 1, recorder)
        with monkeypatch.context() as patch:
            patch.setattr(_store.np, "savez", full)
            with pytest.warns(slq.SlqWarning, match="No space left on device") as caught:
                train(model, data, 5, recorder, 1)
        assert len(caught) == 1
        assert len(slq.History.load(tmp_path / "run.npz")) == 1
        train(model, data, 7, recorder, 5)
    assert slq.History.load(tmp_path / "run.npz").steps.tolist() == [0, 2, 4, 6]


def test_an_interruption_passes_and_leaves_everything_in_order(data, tmp_path):
    model = network()
    calls = 0

    def interrupted(model, batch):
        nonlocal calls
        calls += 1
        if calls == limit:
            raise KeyboardInterrupt
        return loss(model, batch)

    limit = 0
    with slq_torch.Recorder(model, interrupted, data, path=tmp_path / "run", **QUICK) as recorder:
        recorder.step(0)
        limit = calls + 3
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(KeyboardInterrupt):
            recorder.step(2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert slq.History.load(tmp_path / "run.npz").steps.tolist() == [0]


def test_a_model_that_is_not_the_trained_one_is_noticed(data):
    recorder = slq_torch.Recorder(network(), loss, data, **QUICK)
    recorder.step(0)

    with pytest.warns(slq.SlqWarning, match="Give the recorder the model that is trained"):
        recorder.step(2)


def test_steps_of_an_epoch_are_noticed(data):
    recorder = slq_torch.Recorder(network(), loss, data, **QUICK)
    recorder.step(5)

    with pytest.warns(slq.SlqWarning, match="The step went back from 5 to 0"):
        recorder.step(0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "`every` must be at least 1 step"),
        ({"every": "daily"}, ValueError, "`every` must be a number of steps"),
        ({"budget": 0}, ValueError, "`budget` must be a positive share"),
        ({"top": -1}, ValueError, "`top` must be a number >= 0"),
        ({"batches": 0}, ValueError, "`batches` must be at least 1"),
        ({"log_to": 3}, TypeError, "`log_to` must have `add_scalar`"),
    ],
    ids=["zero", "daily", "budget", "top", "batches", "log"],
)
def test_mistakes_are_named(data, options, error, message):
    with pytest.raises(error, match=message):
        slq_torch.Recorder(network(), loss, data, **options)


def test_active_dropout_is_refused_with_what_to_do(data):
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    with pytest.raises(ValueError, match='Give mode="eval"'):
        slq_torch.Recorder(model, loss, data)
    slq_torch.Recorder(model, loss, data, mode="eval")


def test_a_scalar_may_not_take_a_name_of_the_recorders(data):
    recorder = slq_torch.Recorder(network(), loss, data, **QUICK)

    with pytest.raises(ValueError, match="`trace` is a number that the recorder keeps"):
        recorder.step(1, trace=1.0)


def test_nothing_is_left_open(data, tmp_path):
    recorder = slq_torch.Recorder(network(), loss, data, path=tmp_path / "run", **QUICK)
    recorder.close()
    recorder.close()

    assert os.listdir(tmp_path) == [".run.npz.lock"]
