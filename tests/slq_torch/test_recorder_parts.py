"""Schedules, budgets, plans, callbacks, loggers and slices of the loss."""

from types import SimpleNamespace

import numpy as np
import pytest
import slq_torch
import torch
from slq_torch._recording._recorder_plan import Cost, planned
from slq_torch._recording._schedule import Budget, due_by
from torch import nn
from torch.nn.functional import cross_entropy

QUICK = {"top": 2, "energy": 3, "probes": 1, "steps": 4}


def loss(model, batch):
    return cross_entropy(model(batch[0]), batch[1])


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 4, generator=generator), torch.randint(3, (20,), generator=generator)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(4, 3)


def shaken(model):
    """Move the parameters, as a step of training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        (4, [0, 4, 8]),
        ([1, 7], [1, 7]),
        (lambda step: step > 9, [10, 11]),
        ("demand", []),
        ("log", [0, 1, 2, 3, 4, 5, 6, 8, 10]),
    ],
    ids=["number", "list", "function", "demand", "log"],
)
def test_a_schedule_depends_on_the_step_alone(every, steps):
    assert [step for step in range(12) if due_by(every)(step)] == steps


def test_a_logarithmic_schedule_has_eight_records_per_factor_of_ten():
    due = due_by("log")

    assert sum(due(step) for step in range(101, 10_001)) == 16
    assert due(1000)
    assert due(10_000)


def test_a_budget_puts_records_off(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    budget = Budget(0.1)
    assert budget.allows  # the first is always made
    with budget.spending():
        now[0] += 1.0
    assert not budget.allows
    now[0] += 19.0
    assert not budget.allows
    now[0] += 1.1
    assert budget.allows
    with budget.spending():
        now[0] += 1.0
    assert budget.spent / budget.training < 0.1


def test_a_plan_counts_the_first_record_from_nothing_and_keeps_the_budget():
    costs = [Cost(100, 9.0), Cost(50, 1.0)]  # what only first calls take is not planned with
    plan = planned(11, costs, fresh=True, training=100.0, budget=None)
    limited = planned(1000, costs, fresh=True, training=100.0, budget=0.2)

    assert (plan.products, plan.seconds, plan.share) == (850, 17.0, 0.17)
    assert limited.share <= 0.2
    assert limited.records == 13
    assert "17% of the time" in repr(plan)


def test_a_plan_predicts_products_within_a_half_and_leaves_no_record(model, data):
    recorder = slq_torch.Recorder(model, loss, data, every=2, **QUICK)
    plan = recorder.plan(12)
    assert len(recorder.history) == 0
    for step in range(12):
        shaken(model)
        recorder.step(step)
    spent = recorder.history.scalars["products"].sum()

    assert plan.records == len(recorder.history) == 6
    assert 1 / 1.5 <= plan.products / spent <= 1.5
    assert recorder.plan(12).products == pytest.approx(spent, rel=0.5)
    with pytest.raises(ValueError, match="`records` is missing"):
        slq_torch.Recorder(model, loss, data, every="epoch").plan(12)


def test_a_plan_after_a_failed_record_counts_it_as_it_was(model, data):
    recorder = slq_torch.Recorder(model, loss, data, every=1, **QUICK)
    with torch.no_grad():
        good = model.weight.detach().clone()
        model.weight.fill_(float("nan"))
        recorder.step(0)
        assert recorder.plan(4).products == 0
        model.weight.copy_(good)
    recorder.step(1)

    plan = recorder.plan(4)
    assert plan.products == pytest.approx(4 * recorder.history.scalars["products"][1] / 2, abs=1)


def test_lightning_calls_by_name(model, data):
    recorder = slq_torch.Recorder(model, loss, data, every=2, **QUICK)
    callback = slq_torch.LightningCallback(recorder)
    trainer = SimpleNamespace(global_step=2, optimizers=[torch.optim.SGD(model.parameters(), lr=0.3)])
    callback.setup(trainer, model, stage="fit")
    callback.on_train_start(trainer, model)
    callback.on_train_batch_end(trainer, model, {"loss": torch.tensor(0.5)}, None, 0)
    callback.on_train_epoch_end(trainer, model)
    callback.teardown(trainer, model, "fit")

    assert recorder.history.steps.tolist() == [2]
    assert recorder.history.scalars["loss"][0] == 0.5
    assert recorder.history.scalars["lr"][0] == pytest.approx(0.3)
    assert callback.state_dict() == {}
    with pytest.raises(AttributeError):
        callback.unheard_of  # noqa: B018


def test_hugging_face_calls_by_name(model, data):
    recorder = slq_torch.Recorder(model, loss, data, every="epoch", **QUICK)
    callback = slq_torch.HuggingFaceCallback(recorder)
    state = SimpleNamespace(global_step=7, log_history=[{"loss": 0.25}])
    callback.on_init_end(None, state, None)
    callback.on_step_end(None, state, None, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.3))
    assert len(recorder.history) == 0
    callback.on_epoch_end(None, state, None, optimizer=torch.optim.SGD(model.parameters(), lr=0.3))

    assert recorder.history.steps.tolist() == [7]


def test_loops_of_keras_kind_call_by_name(model, data):
    recorder = slq_torch.Recorder(model, loss, data, every=2, **QUICK)
    callback = slq_torch.KerasCallback(recorder)
    callback.set_params({})
    callback.on_train_begin()
    for batch in range(4):
        shaken(model)
        callback.on_train_batch_end(batch, logs={"loss": 1.0 / (1 + batch)})
    callback.on_epoch_end(0, logs={"loss": 0.1})

    assert recorder.history.steps.tolist() == [2, 4]
    assert recorder.history.scalars["loss"].tolist() == [0.5, 0.25]


def test_numbers_and_pictures_go_to_loggers_of_both_kinds(model, data):
    pytest.importorskip("matplotlib")
    told, board = [], []
    run = SimpleNamespace(log=lambda values, step: told.append((step, values)))
    writer = SimpleNamespace(
        add_scalar=lambda name, value, step: board.append((step, name, value)),
        add_figure=lambda name, figure, step: board.append((step, name, figure)),
    )
    recorder = slq_torch.Recorder(model, loss, data, every=1, log_to=[run, writer], figures=True, **QUICK)
    recorder.step(0, loss=0.5)

    assert told[0][0] == 0
    assert told[0][1]["hessian/loss"] == 0.5
    assert {name for _, name, _ in board} == told[0][1].keys()
    assert "hessian/evolution" in told[0][1]


def test_a_logger_that_fails_costs_one_warning(model, data):
    def failing(values, step):
        msg = "gone"
        raise ConnectionError(msg)

    recorder = slq_torch.Recorder(model, loss, data, every=1, log_to=SimpleNamespace(log=failing), **QUICK)
    with pytest.warns(UserWarning, match="`log_to` raised ConnectionError: gone"):
        recorder.step(0)
    shaken(model)

    assert recorder.step(1)


def test_a_slice_along_an_eigenvector_curves_as_its_eigenvalue(data):
    model = nn.Linear(4, 3).double()
    batch = data[0].double(), data[1]
    before = [p.detach().clone() for p in model.parameters()]
    H = slq_torch.hessian(model, loss, batch)
    values, vectors = torch.linalg.eigh(H.matmat(torch.eye(15, dtype=torch.float64)))
    line = slq_torch.loss_slice(model, loss, batch, vectors[:, -1], radius=1e-3, points=3)
    plane = slq_torch.loss_slice(model, loss, batch, vectors[:, -2:], radius=0.5, points=5)

    curvature = (line.loss[0] - 2 * line.loss[1] + line.loss[2]) / line.at[2] ** 2
    assert curvature == pytest.approx(float(values[-1]), rel=1e-4)
    assert plane.loss.shape == (5, 5)
    assert plane.loss[2, 2] == line.loss[1]
    assert np.unravel_index(plane.loss.argmax(), (5, 5)) != (2, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert torch.allclose(H @ vectors[:, -1], values[-1] * vectors[:, -1])  # the graphs that H holds are still good


@pytest.mark.parametrize(
    ("directions", "options", "message"),
    [
        (torch.ones(3), {}, "`directions` must have length 15"),
        (torch.zeros(15), {}, "neither zero nor infinite"),
        (torch.ones(15, 3), {}, "must be one or two, got 3"),
        (torch.ones(15), {"points": 1}, "`points` at least 2"),
    ],
    ids=["length", "zero", "three", "points"],
)
def test_directions_that_cannot_be_are_named(model, data, directions, options, message):
    with pytest.raises(ValueError, match=message):
        slq_torch.loss_slice(model, loss, data, directions, **options)
