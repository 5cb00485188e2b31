"""Runs in lock-step: the same numbers as alone, one joint product per step, and nothing lost when something fails."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import slq
from slq._run._lockstep import Runner
from slq._spectrum import _spectra

NAMES = ("wide", "short", "far")


@pytest.fixture(scope="module")
def matrices():
    rng = np.random.default_rng(0)
    return {
        "wide": np.diag(rng.standard_normal(120)),
        "short": np.diag([1.0, 2.0, 3.0]),
        "far": np.diag(np.r_[rng.standard_normal(90) / 100, 7.0]),
    }


class Joint:
    """Multiplies all blocks at once and remembers what it was asked for, and by which thread."""

    def __init__(self, matrices, fail_at=None, error=None):
        self.matrices, self.fail_at, self.error = matrices, fail_at, error or ValueError("boom")
        self.asked, self.threads = [], set()

    def __call__(self, blocks):
        self.asked.append({name: block.shape for name, block in blocks.items()})
        self.threads.add(threading.current_thread())
        if len(self.asked) == self.fail_at:
            raise self.error
        return {name: self.matrices[name] @ block for name, block in blocks.items()}


@pytest.mark.parametrize(
    "options", [{}, {"probes": 3, "steps": 20}, {"tol": 0.05}, {"kind": "rademacher", "probes": 2}], ids=str
)
def test_every_spectrum_is_the_one_of_a_run_alone(options, matrices):
    together = slq.spectra(matrices, joint=Joint(matrices), rng=3, **options)

    for name, A in matrices.items():
        assert together[name] == slq.spectrum(A, rng=3, **options)


def test_without_a_joint_product_the_runs_follow_each_other_and_give_the_same(matrices):
    alone = slq.spectra(matrices, rng=3)

    assert list(alone) == list(NAMES)
    for name in matrices:
        assert alone[name] == slq.spectra(matrices, joint=Joint(matrices), rng=3)[name]
    assert alone.passes == sum(s.products for s in alone.values())


def test_joint_products_are_as_many_as_the_longest_run_needs_and_made_by_the_caller(matrices):
    joint = Joint(matrices)
    s = slq.spectra(matrices, joint=joint, probes=2, steps=20, rng=0)

    assert s.passes == len(joint.asked) == 20 + 1  # and the test of repeatability
    assert joint.threads == {threading.current_thread()}
    assert list(joint.asked[0]) == list(NAMES)
    assert [name for name, block in joint.asked[0].items() if block[1] != 2] == []
    assert "short" not in joint.asked[10]  # it has ended


def test_the_order_in_which_products_are_asked_for_is_the_same_every_time(matrices):
    first, second = Joint(matrices), Joint(matrices)
    slq.spectra(matrices, joint=first, rng=1)
    slq.spectra(matrices, joint=second, rng=1)

    assert first.asked == second.asked


def test_a_seed_or_a_generator_serves_all(matrices):
    s = slq.spectra(matrices, joint=Joint(matrices), rng=np.random.default_rng(5), probes=1, steps=3)
    fresh = slq.spectra(matrices, joint=Joint(matrices), probes=1, steps=3)

    assert len({one.seed for one in s.values()}) == 1
    assert len({one.seed for one in fresh.values()}) == 1


def test_a_failing_joint_product_ends_all_and_keeps_what_was_done(matrices):
    before = threading.active_count()
    with pytest.raises(slq.RunError, match=r"ValueError: boom") as caught:
        slq.spectra(matrices, joint=Joint(matrices, fail_at=7), rng=0, probes=2, steps=20)

    partial = caught.value.partial
    assert isinstance(caught.value.__cause__, ValueError)
    assert partial["wide"].steps == partial["far"].steps == 6
    assert partial["short"].steps == 3
    assert threading.active_count() == before


def test_a_failure_at_the_first_product_leaves_no_partial_result(matrices):
    with pytest.raises(slq.RunError, match="nothing was computed") as caught:
        slq.spectra(matrices, joint=Joint(matrices, fail_at=1), rng=0)

    assert caught.value.partial is None


def test_a_product_that_is_not_finite_names_its_operator_and_ends_the_others(matrices):
    def joint(blocks):
        products = {name: matrices[name] @ block for name, block in blocks.items()}
        products["far"] = products["far"] * np.nan if "short" not in blocks else products["far"]
        return products

    with pytest.raises(slq.RunError, match=r"far: the product gave NaN") as caught:
        slq.spectra(matrices, joint=joint, rng=0, probes=2, steps=20)

    assert caught.value.partial["wide"].steps >= 3


def test_a_joint_product_that_forgets_an_operator_is_told_so(matrices):
    def forgetful(blocks):
        return {name: matrices[name] @ block for name, block in blocks.items() if name != "far"}

    with pytest.raises(slq.RunError, match=r"no product for \['far'\]"):
        slq.spectra(matrices, joint=forgetful, rng=0)


def test_ctrl_c_reaches_the_caller_and_leaves_no_thread_behind(matrices):
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        slq.spectra(matrices, joint=Joint(matrices, fail_at=4, error=KeyboardInterrupt()), rng=0)

    assert threading.active_count() == before


def test_ctrl_c_is_heard_while_a_run_is_busy(matrices):
    class Busy:
        def __enter__(self):
            time.sleep(0.3)

        def __exit__(self, *error):
            pass

    before = threading.active_count()
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        slq.spectra(matrices, joint=Joint(matrices), context=Busy, rng=0)
    timer.join()

    assert threading.active_count() == before


def test_the_callback_runs_in_the_callers_thread_and_can_stop_one_operator(matrices):
    seen = []

    def callback(name, spectrum):
        seen.append((name, spectrum.steps, threading.current_thread()))
        return name == "wide"

    s = slq.spectra(matrices, joint=Joint(matrices), rng=0, callback=callback)

    assert {thread for _, _, thread in seen} == {threading.current_thread()}
    assert s["wide"].status == "stopped by callback"
    assert s["far"] == slq.spectrum(matrices["far"], rng=0)


@pytest.mark.parametrize("joint", [True, False])
def test_a_callback_that_raises_ends_all_with_partial_results(joint, matrices):
    def callback(name, spectrum):
        if name == "far":
            raise OSError("disk full")  # noqa: EM101

    with pytest.raises(slq.RunError, match=r"far: .*OSError: disk full") as caught:
        slq.spectra(matrices, joint=Joint(matrices) if joint else None, rng=0, callback=callback)

    assert caught.value.partial["far"].steps >= 1
    assert caught.value.partial["wide"].steps >= 1


@pytest.mark.parametrize("joint", [True, False])
def test_mistakes_in_the_arguments_are_told_as_by_spectrum(joint, matrices):
    with pytest.raises(ValueError, match="`tol` must lie strictly between 0 and 1"):
        slq.spectra(matrices, joint=Joint(matrices) if joint else None, tol=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'probs'"):
        slq.spectra(matrices, joint=Joint(matrices) if joint else None, probs=2)
    with pytest.raises(ValueError, match="`operators` is empty"):
        slq.spectra({}, joint=Joint(matrices) if joint else None)


def test_warnings_reach_the_caller():
    skew = np.triu(np.ones((60, 60)), 1) + np.eye(60)
    with pytest.warns(slq.SlqWarning, match="not symmetric"):
        s = slq.spectra({"skew": skew}, joint=Joint({"skew": skew}), probes=2, steps=10, rng=0)

    assert "bounds are estimates" in repr(s)


def test_the_memory_is_shared_by_size(matrices):
    scarce = slq.spectra(matrices, joint=Joint(matrices), memory=12_000, probes=1, steps=30, rng=0)
    ample = slq.spectra(matrices, joint=Joint(matrices), memory=1e9, probes=1, steps=30, rng=0)

    assert (scarce["wide"].reorth, ample["wide"].reorth) == ("none", "full")


def test_runs_are_within_the_context_asked_for(matrices):
    entered = []

    class Context:
        def __enter__(self):
            entered.append(threading.current_thread())

        def __exit__(self, *error):
            entered.remove(threading.current_thread())

    def joint(blocks):
        assert len(entered) >= len(blocks)
        assert threading.current_thread() not in entered
        return Joint(matrices)(blocks)

    slq.spectra(matrices, joint=joint, context=Context, probes=1, steps=3)
    assert entered == []


def test_a_runner_hands_over_requests_and_returns_answers():
    runner = Runner(lambda ask: ask("one") + ask("two"))
    runner.resume()
    assert runner.request == "one"
    runner.resume(1)
    assert runner.request == "two"
    runner.resume(2)
    assert (runner.finished, runner.result, runner.error) == (True, 3, None)


def test_a_runner_can_be_given_up_before_and_after_its_start():
    never, waiting = Runner(lambda ask: ask(1)), Runner(lambda ask: ask(1))
    waiting.resume()
    for runner in (never, waiting):
        runner.give_up()

    assert not never.finished
    assert waiting.finished
    assert type(waiting.error).__name__ == "_Ended"


class TestTable:
    def test_rows_hold_what_the_spectra_say(self, matrices):
        s = slq.spectra(matrices, rng=0)
        row = {row["name"]: row for row in s.rows}["short"]

        assert (row["size"], row["outliers"], row["negative"].value) == (3, 3, 0.0)
        assert row["smallest"].low <= 1.0 <= row["smallest"].high
        assert row["largest"].low <= 3.0 <= row["largest"].high
        assert row["trace"].value == pytest.approx(6.0)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_bounds_of_extreme_eigenvalues_and_shares_hold(self, name, matrices):
        exact = np.sort(np.diag(matrices[name]))
        row = next(row for row in slq.spectra(matrices, rng=0, tol=0.05).rows if row["name"] == name)

        assert row["smallest"].low <= exact[0] <= row["smallest"].high
        assert row["largest"].low <= exact[-1] <= row["largest"].high
        assert row["negative"].low <= np.mean(exact < 0) <= row["negative"].high

    def test_it_prints_one_aligned_line_per_operator(self, matrices):
        lines = repr(slq.spectra(matrices, joint=Joint(matrices), rng=0)).splitlines()

        assert lines[0].startswith("Spectra of 3 operators · dense matrix · float64 · cpu · ")
        assert [line.split()[0] for line in lines[2:5]] == list(NAMES)
        assert len({len(line) for line in lines[1:5]}) == 1
        assert all(len(line) <= 120 for line in lines)

    @pytest.mark.parametrize(
        ("value", "bound", "sign", "expected"),
        [
            (7.1990, 7.19901, "≤", ("7.199", "")),
            (3.5641, 3.5721, "≤", ("3.56", "(≤ 3.58)")),
            (9.6371, 9.6382, "≤", ("9.637", "(≤ 9.639)")),
            (-2.718, -3.311, "≥", ("-2.72", "(≥ -3.32)")),
            (-1e-12, -0.25, "≥", ("-1e-12", "(≥ -0.25)")),
            (1.0, np.inf, "≤", ("1", "(≤ inf)")),
            (0.0, 0.0, "≤", ("0", "")),
        ],
    )
    def test_bounds_are_rounded_away_from_the_value(self, value, bound, sign, expected):
        estimate = slq.Estimate(value, value, value, slq.ErrorParts(0.0, 0.0, 0.0), 0.95, "certified")

        assert _spectra._bounded(estimate, bound, sign) == expected

    def test_long_names_are_cut_in_the_middle(self):
        name = "transformer.encoder.layers.11.self_attention.output.dense"
        text = repr(slq.spectra({name: np.eye(3)}, rng=0))

        assert "transformer.enco…tion.output.dense" in text
        assert name not in text

    def test_it_is_a_frozen_mapping(self, matrices):
        s = slq.spectra(matrices, rng=0, probes=1, steps=2)

        assert list(s) == list(NAMES)
        assert len(s) == 3
        assert "wide" in s
        with pytest.raises(TypeError):
            s.spectra["new"] = None
        with pytest.raises(AttributeError):
            s.passes = 0
