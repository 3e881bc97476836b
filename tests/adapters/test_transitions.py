"""Law 7 and law 1 for the second engine: a run as a machine of the package `transitions`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transitions import EventData, MachineError
from transitions import Machine as AnyMachine

from fsmtrain import Callback, EarlyStopping, Guards, Loop, Machine, Options, Sizes, State, every_n_batches
from fsmtrain.adapters.transitions import RunMachine, as_transitions
from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.dispatch import Action, Dispatcher, Spent
from fsmtrain.core.guards import Guard, stop_is_requested
from fsmtrain.core.limits import Limits
from fsmtrain.core.reasons import StopReason
from fsmtrain.core.table import Table, row
from fsmtrain.core.trace import Transition
from fsmtrain.errors import GuardError, UsageError
from fsmtrain.runtime.callbacks import HOOKS
from tests.models import (
    Adversaries,
    Linear,
    Perceptron,
    Plain,
    Recurrent,
    Validated,
    batches,
    machine_of,
    places,
    same_bits,
    sequences,
    stream,
    twins,
    weights,
)
from tests.strategies import Case, cases


def dispatcher_of(table: Table | None = None, actions: dict[State, Action] | None = None, **flags: Any) -> Dispatcher:
    """A run without a model: one epoch of five batches, or that of another table."""
    loop = Loop(Options(**{"max_nb_epochs": 1, **flags}), Sizes(train=5))
    return Dispatcher(table or loop.table, loop.limits, Counters.begin(1), Signals(), actions or {})


# ---- law 7, without a model


@given(cases(skips_steps=True), st.booleans())
@settings(max_examples=150, deadline=None)
def test_both_engines_make_the_same_transitions(case: Case, fold: bool) -> None:
    """Whatever the flags, guards, stream ends, metrics, skipped steps and requests."""
    table = case.folded_table if fold else case.full_table
    ours, other = case.dispatcher(table), case.dispatcher(table)
    ours.run()
    theirs = as_transitions(other).model
    for _ in range(ours.trace.total):
        theirs.advance()
    assert theirs.is_finished
    assert list(theirs.trace) == list(ours.trace)
    assert (theirs.counters, theirs.signals) == (ours.counters, ours.signals)
    assert State(theirs.state) is ours.state
    assert {s: spent.visits for s, spent in other.times.items()} == {s: spent.visits for s, spent in ours.times.items()}


@given(cases(), st.lists(st.booleans(), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_either_engine_goes_on_where_the_other_one_stands(case: Case, turns: list[bool]) -> None:
    straight, mixed = case.dispatcher(case.folded_table), case.dispatcher(case.folded_table)
    expected, seen = observed(straight), observed(mixed)
    straight.run()
    run = as_transitions(mixed).model
    for theirs in itertools.cycle(turns):
        if mixed.is_finished:
            break
        before = mixed.state
        assert run.state == before.value
        if theirs:
            assert run.advance()
        else:
            mixed.advance()
        assert seen[-1].source is before
    assert seen == expected
    assert run.is_finished


def observed(dispatcher: Dispatcher) -> list[Transition]:
    """The transitions of a run as its observer will be told them."""
    seen: list[Transition] = []
    dispatcher.observer = seen.append
    return seen


class Watch:
    """Writes down which of a table's guards are asked at which visit."""

    def __init__(self) -> None:
        self.visits = 0
        self.asked: list[tuple[int, int]] = []
        self._watched: dict[int, Guard] = {}

    def table(self, table: Table) -> Table:
        """The same table with its guards watched."""
        return Table(
            tuple(
                evolve(r, when=None if r.when is None else self.guard(r.when), unless=tuple(map(self.guard, r.unless)))
                for r in table
            )
        )

    def guard(self, guard: Guard) -> Guard:
        """The guard, watched; the same one for the same guard."""
        number = len(self._watched)

        def watched(limits: Limits, counters: Counters, signals: Signals) -> bool:
            self.asked.append((self.visits, number))
            return guard(limits, counters, signals)

        return self._watched.setdefault(id(guard), watched)

    def look(self, *_: object) -> None:
        """A visit has begun."""
        self.visits += 1


@given(cases(skips_steps=True), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_guard_is_asked_at_most_once_a_visit_and_when_the_dispatcher_asks_it(case: Case, fold: bool) -> None:
    table = case.folded_table if fold else case.full_table
    ours, theirs = Watch(), Watch()
    case.dispatcher(ours.table(table), ours.look).run()
    as_transitions(case.dispatcher(theirs.table(table), theirs.look)).model.run()
    assert theirs.asked == ours.asked
    assert len(set(theirs.asked)) == len(theirs.asked) > 0


def test_the_trace_keeps_as_much_as_the_dispatchers() -> None:
    ours, theirs = dispatcher_of(max_nb_epochs=50), dispatcher_of(max_nb_epochs=50)
    ours.run()
    as_transitions(theirs).model.run()
    assert len(theirs.trace) == len(ours.trace) < ours.trace.total == theirs.trace.total
    assert list(theirs.trace) == list(ours.trace)


# ---- law 7, on trainings


class Told(Callback):
    """Writes down which hooks are called, and where the run stands."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        for name in HOOKS:
            setattr(self, name, functools.partial(self._tell, name))

    def _tell(self, hook: str, machine: Machine, *_: object) -> None:
        self.calls.append((hook, machine.state, machine.counters.copy()))


class StopAtFifthBatch(Callback):
    """Asks the run to stop."""

    def on_batch_start(self, machine: Any, batch: Any) -> None:
        if machine.counters.batches_begun == 4:
            machine.stop()


Make = Callable[..., Machine]

TRAININGS: dict[str, tuple[Callable[[], nn.Module], Make]] = {
    "a plain one": (
        Linear,
        lambda model, **more: machine_of(model, batches(14, shuffle=True), max_nb_epochs=3, **more),
    ),
    "windows of four": (
        Validated,
        lambda model, **more: machine_of(model, batches(18), batches(4), accumulate_grad_batches=4, max_nb_epochs=2, **more),
    ),
    "several checks an epoch and early stopping": (
        Perceptron,
        lambda model, **more: machine_of(
            model,
            batches(20, shuffle=True),
            [batches(6), batches(4)],
            val_check_interval=0.25,
            early_stop_callback=EarlyStopping(min_delta=100.0, patience=6),
            max_nb_epochs=5,
            **more,
        ),
    ),
    "two optimizers, one with a guard of its own": (
        Adversaries,
        lambda model, **more: machine_of(
            model, batches(14), guards=Guards(step={1: every_n_batches(3)}), max_nb_epochs=2, **more
        ),
    ),
    "truncated BPTT": (
        Recurrent,
        lambda model, **more: machine_of(
            model, sequences(6, 2, 7), truncated_bptt_steps=3, accumulate_grad_batches=2, max_nb_epochs=2, **more
        ),
    ),
    "a stream": (
        Linear,
        lambda model, **more: machine_of(model, stream(9), accumulate_grad_batches=2, max_nb_epochs=2, **more),
    ),
    "a stop request": (
        Linear,
        lambda model, callbacks=(), **more: machine_of(
            model, batches(14), callbacks=[*callbacks, StopAtFifthBatch()], max_nb_epochs=3, **more
        ),
    ),
    "a test at the end": (
        Validated,
        lambda model, **more: machine_of(model, batches(8), batches(6), [batches(5), batches(2)], max_nb_epochs=2, **more),
    ),
}  # fmt: skip

trainings = pytest.mark.parametrize(("make_model", "make"), TRAININGS.values(), ids=list(TRAININGS))


@trainings
@pytest.mark.parametrize("told", [False, True])
def test_both_engines_train_the_same_bits(make_model: Callable[[], nn.Module], make: Make, told: bool) -> None:
    """And make the same transitions, call the same hooks at the same moments, and end with the same result."""
    left, right = twins(make_model)
    first, second = Told(), Told()
    ours, theirs = make(left, callbacks=[first] if told else []), make(right, callbacks=[second] if told else [])
    torch.manual_seed(5)
    ours.run()
    torch.manual_seed(5)
    theirs.as_transitions().model.run()

    assert ours.trace.total > 20
    assert list(theirs.trace) == list(ours.trace)
    assert same_bits(weights(right), weights(left))
    assert second.calls == first.calls
    assert theirs.counters == ours.counters
    assert same_outcome(theirs, ours)
    assert theirs.times[State.BACKWARD].seconds > 0


@trainings
def test_a_training_may_change_its_engine_at_any_transition(make_model: Callable[[], nn.Module], make: Make) -> None:
    left, right = twins(make_model)
    first, second = Told(), Told()
    straight, mixed = make(left, callbacks=[first]), make(right, callbacks=[second])
    torch.manual_seed(5)
    straight.run()
    torch.manual_seed(5)
    mixed.advance()
    run = mixed.as_transitions().model
    for _ in range(5):
        run.advance()
        mixed.advance()
    run.run()
    assert same_bits(weights(right), weights(left))
    assert second.calls == first.calls
    assert mixed.run() == mixed.result
    assert same_outcome(mixed, straight)


def same_outcome(one: Machine, other: Machine) -> bool:
    """Whether two runs ended alike. The times that they took are left out."""
    timeless = [evolve(machine.result, times={}, loading=Spent(0, 0.0), wall_seconds=0.0) for machine in (one, other)]
    return timeless[0] == timeless[1]


def test_the_trainings_end_for_the_reasons_that_they_are_meant_to() -> None:
    reasons = {name: make(make_model()).run().stop_reason for name, (make_model, make) in TRAININGS.items()}
    assert reasons.pop("several checks an epoch and early stopping") is StopReason.EARLY_STOPPING
    assert reasons.pop("a stop request") is StopReason.REQUESTED
    assert set(reasons.values()) == {StopReason.MAX_EPOCHS}


def test_the_users_module_gains_no_attribute() -> None:
    model = Plain()
    names, functions = set(dir(model)), dict(vars(Plain))
    run = machine_of(model, batches(4), batches(2), batches(2), max_nb_epochs=1).as_transitions().model
    run.run()
    assert set(dir(model)) == names
    assert dict(vars(Plain)) == functions
    assert {"advance", "trigger", "is_step"} <= set(vars(run))


# ---- law 1


def yes(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Always."""
    return True


def at_first(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """While no batch has begun."""
    return counters.batches_begun == 0


def later(limits: Limits, counters: Counters, signals: Signals) -> bool:
    """Not at the beginning."""
    return counters.batches_begun > 0


def test_two_rows_that_hold_at_once_are_an_error_that_lists_the_guards() -> None:
    table = Table(
        (
            row(State.START, when=yes, to=State.FETCH),
            row(State.START, when=later, to=State.TEST),
            row(State.START, when=at_first, unless=later, to=State.DONE),
        )
    )
    run = as_transitions(dispatcher_of(table)).model
    with pytest.raises(GuardError, match="2 transitions leave the state start at once, to fetch, done") as raised:
        run.advance()
    assert "yes: True, later: False, at_first: True" in str(raised.value)
    assert places(raised.value) == ["in state start, epoch 0, batch 0, optimizer 0"]
    assert (run.state, len(run.trace), run.counters) == ("start", 0, Counters.begin(1))


def test_no_row_that_holds_is_an_error_that_lists_the_guards() -> None:
    """A guard that needed no question before is asked for the list."""
    table = Table((row(State.START, unless=yes, to=State.DONE), row(State.START, when=later, unless=yes, to=State.FETCH)))
    run = as_transitions(dispatcher_of(table)).model
    with pytest.raises(GuardError, match=r"no transition leaves the state start: .* none holds \(yes: True, later: False\)"):
        run.advance()
    assert run.state == "start"


def test_a_guard_that_answers_differently_when_asked_again_is_asked_once() -> None:
    answers = iter([True])

    def once(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return next(answers)

    table = Table((row(State.START, unless=once, to=State.FETCH), row(State.START, when=once, to=State.DONE)))
    machine = as_transitions(dispatcher_of(table, {State.START: lambda: again()}))
    machine.add_transition("enter_again", "start", "=")  # in the midst of the visit

    def again() -> None:
        machine.model.trigger("enter_again")

    machine.model.run()
    assert machine.model.state == "done"


# ---- exceptions


class Divides(Validated):
    """Fails in its third batch of validation."""

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return {"val_loss": 1 / (2 - batch_nb)}


def test_an_exception_of_a_hook_comes_through_with_the_place_where_the_run_stood() -> None:
    """As from the other engine: noted once, the modes put back, the hook for the run's end called."""
    left, right = twins(Divides)
    first, second = Told(), Told()
    ours = machine_of(left, batches(8), batches(6), nb_sanity_val_steps=0, callbacks=[first])
    theirs = machine_of(right, batches(8), batches(6), nb_sanity_val_steps=0, callbacks=[second])
    with pytest.raises(ZeroDivisionError) as expected:
        ours.run()
    with pytest.raises(ZeroDivisionError) as raised:
        theirs.as_transitions().model.run()
    assert places(raised.value) == places(expected.value) == ["in state val_check, epoch 0, batch 2, optimizer 0"]
    assert second.calls == first.calls
    assert [hook for hook, *_ in second.calls].count("on_run_end") == 1
    assert right.training
    assert list(theirs.trace) == list(ours.trace)


class FailsAtTheEnd(Callback):
    """A hook that fails where the run has failed."""

    def on_run_end(self, machine: Any) -> None:
        raise LookupError


def test_an_exception_of_the_hook_for_the_runs_end_does_not_hide_the_first_one() -> None:
    for run in (Machine.run, lambda machine: machine.as_transitions().model.run()):
        machine = machine_of(Divides(), batches(8), batches(6), nb_sanity_val_steps=0, callbacks=[FailsAtTheEnd()])
        with pytest.raises(LookupError) as raised:
            run(machine)
        first = raised.value.__context__
        assert isinstance(first, ZeroDivisionError)
        assert places(first) == ["in state val_check, epoch 0, batch 2, optimizer 0"]


@pytest.mark.parametrize("moment", ["on_exit_backward", "on_enter_step", "after_advance", "before_state_change"])
def test_an_exception_of_a_callback_leaves_the_run_between_two_transitions(moment: str) -> None:
    """The row with its effects has been taken or not; which one, the state tells. The run can go on."""
    straight, stumbling = dispatcher_of(accumulate_grad_batches=2), dispatcher_of(accumulate_grad_batches=2)
    straight.run()
    ended: list[str] = []
    machine = as_transitions(stumbling, end=lambda: ended.append(machine.model.state))
    errors = iter([KeyError("once")])

    def stumble(event: EventData) -> None:
        if event.transition is not None and event.transition.dest == "step":
            for error in errors:
                raise error

    if moment == "before_state_change":
        machine.before_state_change = stumble
    else:
        getattr(machine, moment)(stumble)
    with pytest.raises(KeyError) as raised:
        machine.model.run()
    stands_in = "backward" if moment == "before_state_change" else "step"
    assert machine.model.state == stumbling.state.value == stands_in
    assert [note.split(",")[0] for note in places(raised.value)] == [f"in state {stands_in}"]
    assert ended == [stands_in]
    machine.model.run()
    assert list(machine.model.trace) == list(straight.trace)
    assert machine.model.counters == straight.counters


def test_where_a_callback_deals_with_an_error_the_run_pauses() -> None:
    handled: list[object] = []
    failing = iter([True])

    def fail() -> None:
        for _ in failing:
            raise OSError

    machine = as_transitions(dispatcher_of(actions={State.STEP: fail}), on_exception=lambda event: handled.append(event.error))
    machine.model.run()
    assert len(handled) == 1
    assert machine.model.state == "step"
    machine.model.run()
    assert machine.model.state == "done"


# ---- begin and end


def test_begin_comes_before_the_first_visit_and_end_after_the_last_state_has_been_entered() -> None:
    log: list[str] = []
    machine = as_transitions(
        dispatcher_of(actions={State.START: lambda: log.append("work")}),
        begin=lambda: log.append("begin"),
        end=lambda: log.append("end"),
    )
    machine.on_enter_done(lambda event: log.append("done"))
    machine.model.advance()
    assert log == ["begin", "work"]
    machine.model.run()
    assert log.count("end") == 1
    assert log[-2:] == ["done", "end"]


def test_a_run_that_has_ended_cannot_be_advanced() -> None:
    machine = machine_of(Linear(), batches(4), max_nb_epochs=1)
    run = machine.as_transitions().model
    machine.run()
    assert (run.is_finished, run.may_advance()) == (True, False)
    with pytest.raises(MachineError, match="Can't trigger event advance from state done!"):
        run.advance()
    run.run()
    assert list(run.trace) == list(machine.trace)


# ---- what users of the library do with it


@pytest.fixture(name="machine")
def windows_of_two() -> RunMachine:
    """A machine of a run in windows of two, without a model."""
    return as_transitions(dispatcher_of(accumulate_grad_batches=2))


def test_it_is_a_machine_of_the_library_with_the_rows_of_the_table(machine: RunMachine) -> None:
    assert isinstance(machine, AnyMachine)
    table = dispatcher_of(accumulate_grad_batches=2).table
    assert list(machine.states) == [state.value for state in table.states]
    assert len(machine.get_transitions("advance")) == len(table)
    [to_step] = machine.get_transitions(source="backward", dest="step")
    [to_wait] = machine.get_transitions(source="backward", dest="accumulate")
    assert names(condition.func for condition in to_step.conditions) == ["step_is_due"]
    assert [condition.target for condition in (*to_step.conditions, *to_wait.conditions)] == [True, False]
    assert to_wait.conditions[0].func is to_step.conditions[0].func
    [closing] = machine.get_transitions(source="step")
    assert names(closing.before) == ["close_window", "end_turn", "take"]


def names(callables: Iterable[Any]) -> list[str]:
    """What they are called."""
    return [function.__name__ for function in callables]


def test_nothing_in_it_is_looked_up_by_a_name_in_a_string(machine: RunMachine) -> None:
    callbacks: list[Any] = [*machine.prepare_event, *machine.finalize_event, *machine.on_final]
    for one in machine.get_transitions():
        callbacks += [*one.prepare, *one.before, *one.after, *(condition.func for condition in one.conditions)]
    for state in machine.states.values():
        callbacks += [*state.on_enter, *state.on_exit]
    assert len(callbacks) > 20
    assert all(map(callable, callbacks))


def test_callbacks_of_a_state_are_called_where_the_state_is_entered_and_left(machine: RunMachine) -> None:
    met: list[tuple[str, str, int]] = []

    def note(moment: str) -> Callable[[EventData], None]:
        return lambda event: met.append((moment, machine.model.state, machine.model.counters.gathered))

    machine.on_exit_train_batch(note("exit"))
    machine.on_enter_backward(note("enter"))
    machine.before_state_change = note("before")
    machine.after_state_change = note("after")
    for _ in range(3):
        machine.model.advance()
    assert met[-4:] == [
        ("before", "train_batch", 0),
        ("exit", "train_batch", 1),
        ("enter", "backward", 1),
        ("after", "backward", 1),
    ]


def test_its_diagram_has_the_names_of_states_and_guards(machine: RunMachine) -> None:
    for _ in range(4):
        machine.model.advance()
    drawn = str(machine.model.get_graph().draw(None))
    assert "backward --> accumulate: advance [!step_is_due]" in drawn
    assert "[*] --> start" in drawn
    assert "Class accumulate s_active" in drawn
    assert drawn == str(machine.get_graph().draw(None))


def test_a_machine_that_is_drawn_in_mid_run_still_begins_at_the_start() -> None:
    dispatcher = dispatcher_of()
    for _ in range(4):
        dispatcher.advance()
    machine = as_transitions(dispatcher, title="a run under way")
    assert machine.model.state == dispatcher.state.value == "step"
    drawn = str(machine.model.get_graph().draw(None))
    assert "[*] --> start" in drawn
    assert "Class step s_active" in drawn
    assert "a run under way" in drawn


def test_to_ask_whether_it_may_advance_does_no_work() -> None:
    done: list[State] = []
    dispatcher = dispatcher_of(actions={state: functools.partial(done.append, state) for state in State})
    run: Any = as_transitions(dispatcher).model
    assert run.may_advance()
    assert run.may_trigger("advance")
    assert not done
    run.trigger("advance")
    assert done == [State.START]


def test_a_question_from_within_a_visit_settles_nothing() -> None:
    """What the work finds out after it counts."""
    table = Table(
        (
            row(State.START, when=stop_is_requested, to=State.STOPPED),
            row(State.START, unless=stop_is_requested, to=State.DONE),
        )
    )

    def ask_then_stop() -> None:
        assert run.may_advance()
        run.signals.stop_requested = True

    run = as_transitions(dispatcher_of(table, {State.START: ask_then_stop})).model
    run.run()
    assert run.state == "stopped"


def test_other_triggers_may_be_added_and_do_not_visit_the_state() -> None:
    done: list[State] = []
    dispatcher = dispatcher_of(actions={state: functools.partial(done.append, state) for state in State})
    machine = as_transitions(dispatcher)
    said: list[str] = []
    machine.add_transition("say", "*", None, before=lambda event: said.append(event.state.name))
    run: Any = machine.model
    run.advance()
    run.say()
    assert said == ["fetch"]
    assert done == [State.START]
    machine.remove_transition("say")
    assert not hasattr(run, "say")
    run.run()
    assert run.state == "done"


def test_the_state_cannot_be_set_past_the_table() -> None:
    ended: list[bool] = []
    machine = as_transitions(dispatcher_of(), end=lambda: ended.append(True))
    machine.model.advance()
    with pytest.raises(UsageError, match="stands in the state fetch and cannot be put into 'step'"):
        machine.set_state("step")
    machine.add_transition("jump", "fetch", "step")
    with pytest.raises(UsageError, match="changed by advance"):
        machine.model.trigger("jump")
    assert machine.model.state == "fetch"
    assert not ended
    machine.model.run()
    assert machine.model.state == "done"


def test_the_rows_cannot_be_changed_and_no_other_model_added(machine: RunMachine) -> None:
    with pytest.raises(UsageError, match="none can be added or removed"):
        machine.add_transition("advance", "backward", "fetch")
    with pytest.raises(UsageError, match=r"pass Guards\(...\) to build"):
        machine.remove_transition("advance", "backward")
    with pytest.raises(UsageError, match="its own run only"):
        machine.add_model(Plain())
    assert len(machine.models) == 1


def test_to_advance_from_within_the_work_of_a_state_is_refused() -> None:
    def impatient() -> None:
        run.advance()

    run = as_transitions(dispatcher_of(actions={State.BACKWARD: impatient})).model
    with pytest.raises(UsageError, match=r"advance\(\) was called while the state backward was being visited"):
        run.run()
    assert run.state == "backward"


def test_a_refused_call_that_the_work_gets_over_changes_nothing() -> None:
    ended: list[str] = []

    def careless() -> None:
        with pytest.raises(UsageError):
            run.advance()

    straight = dispatcher_of()
    straight.run()
    run = as_transitions(dispatcher_of(actions={State.STEP: careless}), end=lambda: ended.append(run.state)).model
    run.run()
    assert list(run.trace) == list(straight.trace)
    assert ended == ["done"]


def test_a_callback_may_advance_once_the_next_state_has_been_entered(machine: RunMachine) -> None:
    straight = dispatcher_of(accumulate_grad_batches=2)
    straight.run()
    machine.on_enter_backward(lambda event: machine.model.advance())
    machine.model.run()
    assert list(machine.model.trace) == list(straight.trace)
