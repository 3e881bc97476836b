"""The extended state: where it begins. What it counts on the way is in `test_loop`."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import asdict, fields
from hypothesis import given
from hypothesis import strategies as st

from fsmtrain.core.counters import SIGNALS, Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.decisions import decisions
from fsmtrain.core.dispatcher import Dispatcher
from fsmtrain.core.effects import CountedEffect
from fsmtrain.core.guard_ast.expressions import fields_in
from fsmtrain.core.sizes import Sizes
from fsmtrain.core.states import State
from fsmtrain.core.transition_table import full_table
from fsmtrain.errors import UsageError
from fsmtrain.loop import Loop
from fsmtrain.options import Options
from fsmtrain.prove.loop_model.effect_ast import Assign, Branch, fields_read, read_effect, read_guard


@given(st.integers(1, 4))
def test_a_run_begins_with_nothing_done(optimizers: int) -> None:
    """A guard of the user's may look at any counter, at the first visit too."""
    begun = asdict(Counters.begin(optimizers))
    assert begun.pop("window_length") == begun.pop("batch_splits") == begun.pop("steps_made") == 1
    assert begun.pop("stepped_in") == [-1] * optimizers
    assert begun.pop("gathered_by") == begun.pop("left_out") == begun.pop("optimizer_steps") == [0] * optimizers
    assert begun.pop("epoch_ended_early") is begun.pop("saved") is False
    assert set(begun.values()) == {0}


def test_without_a_number_of_optimizers_there_is_one() -> None:
    assert Counters() == Counters.begin(1)


def test_before_anything_has_come_from_outside_a_batch_has_one_split_and_nothing_is_raised() -> None:
    signals = asdict(Signals().copy())
    assert signals.pop("splits") == signals.pop("own_steps") == 1
    assert set(signals.values()) == {False}


@given(st.sampled_from([field.name for field in fields(Counters)]))
def test_the_values_of_counters_are_one_per_field_and_equal_in_a_copy(name: str) -> None:
    """Also a number that stands in a list; and what changes later is not the copy's."""
    before = Counters.begin(2)
    after = before.copy()
    assert after == before
    value = getattr(after, name)
    if isinstance(value, list):
        value[1] += 1
    else:
        setattr(after, name, not value if isinstance(value, bool) else value + 1)
    assert before == Counters.begin(2)
    assert after.values() != before.values()


def test_each_counted_signal_is_read_by_one_effect_and_by_no_guard_of_the_table() -> None:
    rows = full_table(decisions(Guards())).rows
    effects = {effect for row in rows for effect in row.then if isinstance(effect, CountedEffect)}
    counted = {name: info.counter for name, info in SIGNALS.items() if info.counter}
    assert sorted(effect.signal for effect in effects) == sorted(counted)
    for effect in effects:
        changes = read_effect(effect)
        assert {read.name for read in fields_read(changes) if read.record == "signals"} == {effect.signal}
        assigned = [c for change in changes for c in (change.then if isinstance(change, Branch) else (change,))]
        assert [change.target.name for change in assigned if isinstance(change, Assign)] == [counted[effect.signal]]
        assert effect.once_an_epoch == isinstance(changes[0], Branch)  # at later batches it may be left out
    guards = {guard for row in rows for guard in (row.when, *row.unless) if guard is not None}
    read = {read.name for guard in guards for read in fields_in(read_guard(guard)) if read.record == "signals"}
    assert not read & set(counted)


@pytest.mark.parametrize("value", [-1, True, 2.0, None])
def test_what_is_counted_must_be_an_int_and_not_negative(value: object) -> None:
    visits = iter(Loop(Options(truncated_bptt_steps=5), Sizes(train=2)))
    for state in (State.START, State.FETCH):
        visit = next(visits)
        assert visit.state is state
    setattr(visit.signals, "splits", value)  # noqa: B010 - of a wrong type
    with pytest.raises(UsageError, match=r"signals\.splits=.*int >= 0"):
        next(visits)


def test_the_trace_keeps_each_counted_value_while_the_signal_goes_on_changing() -> None:
    spec = Loop(Options(truncated_bptt_steps=5, max_nb_epochs=1), Sizes(train=4)).spec
    counters, signals, splits = Counters.begin(1), Signals(), iter([2, 1, 3, 2])

    def fetch() -> None:
        signals.splits = next(splits)

    run = Dispatcher(spec.table, spec.limits, counters, signals, {State.FETCH: fetch})
    run.run()
    assert run.trace.counted == [4, 0, 2, 1, 3, 2]  # first the length and interval of the epoch
    assert Counter(t.batch_nb for t in run.trace if t.source is State.TRAIN_BATCH) == {0: 2, 1: 1, 2: 3, 3: 2}
