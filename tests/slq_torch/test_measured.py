"""Trials choose by a clock that the tests wind: the fastest way that agrees, vmapped ones by a margin."""

import pytest
import torch
from slq_torch._engine import _measured
from slq_torch._engine._measured import Trials
from slq_torch._engine._strategies import Strategy


class Clock:
    """Ticks as told: zero when a way begins, and its seconds when it has run."""

    def __init__(self):
        self.seconds = 0.0

    def tick(self):
        """Return the seconds since the last tick."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def way(name, **facts):
    return Strategy(name, lambda *a: None, lambda *a: None, held=True, **facts)


GRAPH, VMAP = way("graph"), way("graph-vmap", vmapped=True)
FORWARD = way("forward-over-reverse", vmapped=True, functional=True)
LINEARIZE = way("linearize", functional=True)


def attempt(trials, candidate, *seconds, result=1.0, extra=0.0, width=4):
    """Try a way that takes so many seconds, one number for each run; return how often it ran."""
    clock, left = Clock(), list(seconds)

    def run():
        clock.seconds = left.pop(0)
        return torch.tensor([result], dtype=torch.float64)

    expected = torch.ones(1, dtype=torch.float64)
    trials.attempt(candidate, width, run, expected, clock=clock, extra=extra, allowed=1e-10)
    return len(seconds) - len(left)


def begun(seconds=1.0, width=4):
    trials = Trials()
    trials.begin("graph", width, seconds)
    return trials


@pytest.mark.parametrize(
    ("seconds", "extra", "runs", "chosen"),
    [
        ((0.8,), 0.0, 1, "graph-vmap"),
        ((0.98, 0.98), 0.0, 2, "graph"),  # vmap takes memory: a fiftieth is not enough
        ((1.8, 0.7), 0.0, 2, "graph-vmap"),  # the first run paid for a start
        ((6.0,), 0.0, 1, "graph"),  # too slow for that to be the reason
        ((0.7, 0.7), 0.5, 2, "graph"),  # what it takes besides counts
    ],
)
def test_the_faster_way_is_chosen(seconds, extra, runs, chosen):
    trials = begun()

    assert attempt(trials, VMAP, *seconds, extra=extra) == runs
    assert trials.choices == {4: chosen}
    assert trials.seconds["graph-vmap"][4] == min(seconds) + extra


def test_the_fastest_of_several_is_chosen_and_a_margin_is_asked_for_once():
    trials = begun()
    attempt(trials, VMAP, 0.8)
    attempt(trials, FORWARD, 0.79)

    assert trials.choices == {4: "forward-over-reverse"}


def test_a_way_that_disagrees_or_fails_is_not_chosen_however_fast():
    trials = begun()
    attempt(trials, VMAP, 0.1, result=1.001)
    attempt(trials, FORWARD, 0.1, result=float("nan"))
    attempt(trials, LINEARIZE)  # pops from an empty list: an error inside

    assert trials.choices == {4: "graph"}
    assert "disagrees with the graph by 1.0e-03" in trials.reasons["graph-vmap"]
    assert "disagrees with the graph by nan" in trials.reasons["forward-over-reverse"]
    assert trials.reasons["linearize"] == "torch refused: pop from empty list"


def test_ways_that_come_out_close_are_timed_in_turns_and_medians_decide():
    trials = begun(0.1)
    attempt(trials, VMAP, 0.09)
    attempt(trials, LINEARIZE, 0.12, 0.12)  # not close
    turns = []
    for seconds in (0.085, 0.095, 0.085, 0.095):
        turns.append(trials.turn(4))
        trials.note(turns[-1], 4, seconds)

    assert turns == ["graph", "graph-vmap", "graph", "graph-vmap"]
    assert trials.turn(4) is None
    assert trials.choices == {4: "graph"}
    assert trials.seconds == {"graph": {4: 0.085}, "graph-vmap": {4: 0.095}, "linearize": {4: 0.12}}


def test_a_single_column_that_ran_first_is_timed_again():
    trials = begun(0.9, width=1)
    attempt(trials, way("fused"), 0.1, width=1)

    assert trials.turn(1) == "graph"
    trials.note("graph", 1, 0.09)
    assert (trials.choices[1], trials.turn(1)) == ("graph", "fused")


def test_a_way_that_fails_later_has_no_more_turns():
    trials = begun(0.1)
    attempt(trials, VMAP, 0.095, 0.095)
    assert trials.turn(4) == "graph"
    trials.refuse("graph-vmap", RuntimeError("another path"))

    assert trials.turn(4) is None


@pytest.mark.parametrize(("seconds", "turn"), [((0.09,), "graph"), ((0.05,), None), ((0.14, 0.14), None)])
def test_ways_that_are_far_apart_are_decided_at_once(seconds, turn):
    trials = begun(0.1)
    attempt(trials, VMAP, *seconds)
    assert trials.turn(4) == turn


def test_long_products_are_timed_once():
    trials = begun(5.0)
    attempt(trials, VMAP, 4.9, 4.9)
    assert trials.turn(4) is None


def test_ways_without_hope_are_not_run_again():
    trials = begun(width=2)
    attempt(trials, VMAP, 1.9, 1.9, width=2)
    trials.begin("graph", 9, 4.0)
    ways = (GRAPH, VMAP, FORWARD, LINEARIZE)

    assert trials.candidates(ways, 9, functional=True) == [FORWARD]
    assert attempt(trials, FORWARD, 0.1, width=9) == 0
    assert trials.reasons["forward-over-reverse"] == "vmap is slow on this model"


def test_short_products_do_not_pay_for_the_first_use_of_forward_mode():
    trials = begun(0.01)
    assert attempt(trials, FORWARD, 0.001) == 0
    assert trials.reasons["forward-over-reverse"] == _measured._SHORT
    trials.begin("graph", 100, 1.0)  # longer ones do
    assert trials.candidates((GRAPH, FORWARD), 100, functional=True) == [FORWARD]


def test_one_column_gains_nothing_from_vmap():
    forward = way("forward", functional=True)
    trials = begun(width=1)

    assert trials.candidates((GRAPH, VMAP, forward, LINEARIZE), 1, functional=True) == [forward]
    assert trials.candidates((GRAPH, VMAP, forward, LINEARIZE), 3, functional=False) == [VMAP]
    assert trials.reasons["forward"] == "a closure is no function of its parameters"


def test_the_clock_measures_what_passes():
    clock = _measured.Clock(torch.device("cpu"))
    clock.tick()

    assert 0 <= clock.tick() < 60
