"""The way to an error: the last transitions of a trace, place by place."""

from __future__ import annotations

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.error_notes import MAX_NOTED_TRANSITIONS, add_recent_transitions, recent_transitions
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.trace import Trace
from fsmtrain.loop import Loop
from fsmtrain.options import Options

BEGINS = "the last transitions, epochs and batches counted from 0:"


def after(transitions: int) -> Trace:
    """The trace of a run that has made so many transitions."""
    loop = Loop(Options(max_nb_epochs=2, nb_sanity_val_steps=0, val_check_interval=1), Sizes(train=4, val=(3,)))
    run = Dispatcher(loop.table, loop.limits, Counters.begin(1), Signals(), {})
    for _ in range(transitions):
        run.advance()
    return run.trace


def states(way: str) -> int:
    """How many visits it tells of."""
    parts = [part for line in way.splitlines()[1:] for part in line.split(": ")[1].split(" -> ")]
    return sum(int(part.split(" x ")[1]) if " x " in part else 1 for part in parts)


def test_recent_transitions_are_listed_and_dots_mark_earlier_ones() -> None:
    """A transition more is a visit more, since each leaves one and the last comes to one."""
    for made in range(1, 40):
        way = recent_transitions(after(made))
        assert states(way) == min(made, MAX_NOTED_TRANSITIONS) + 1
        assert way.splitlines()[0] == (BEGINS if made <= MAX_NOTED_TRANSITIONS else f"{BEGINS} ...")
    assert recent_transitions(after(5), last=5) == recent_transitions(after(5))
    assert states(recent_transitions(after(9), last=4)) == 5


def test_each_place_has_a_line_and_visits_in_a_row_are_counted() -> None:
    assert recent_transitions(after(9), last=7).splitlines() == [
        f"{BEGINS} ...",
        "  epoch 0, batch 0, optimizer 0: train_batch -> backward -> step -> round_end -> val_check x 3 -> early_stop",
    ]


def test_before_the_first_visit_there_are_no_recent_transitions() -> None:
    error = ValueError("no")
    add_recent_transitions(error, after(0))
    assert recent_transitions(after(0)) == ""
    assert not hasattr(error, "__notes__")


def test_the_way_is_noted_once_beside_other_notes() -> None:
    """The first is of the inner run, where the error came up."""
    error = ValueError("no")
    error.add_note("something else")
    add_recent_transitions(error, after(3))
    add_recent_transitions(error, after(7))
    assert error.__notes__ == ["something else", recent_transitions(after(3))]
