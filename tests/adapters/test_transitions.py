"""What users of the library `transitions` do with a run: read it, add callbacks and triggers, and get errors."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from transitions import EventData, MachineError
from transitions import Machine as AnyMachine
from transitions.core import Condition

from fsmtrain import Callback, Machine, State
from fsmtrain.adapters.transitions import RunMachine, as_transitions
from fsmtrain.core.transition_guards import stop_is_requested
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.errors import CopyError, GuardError, UsageError
from tests.adapters.bare_runs import dispatcher_of
from tests.adapters.sample_trainings import HookRecorder
from tests.models import Linear, Plain, Validated, batches, machine_of, same_bits, state_notes, twins, weights

# ---- exceptions


class Divides(Validated):
    """Fails in its third batch of validation."""

    def validation_step(self, batch: Any, batch_nb: int) -> Any:
        return {"val_loss": 1 / (2 - batch_nb)}


def test_an_exception_of_a_hook_is_raised_with_a_note_on_where_the_run_was() -> None:
    """As from the other engine: one note, modes restored, `on_fit_end` called."""
    left, right = twins(Divides)
    first, second = HookRecorder(), HookRecorder()
    ours = machine_of(left, batches(8), batches(6), nb_sanity_val_steps=0, callbacks=[first])
    theirs = machine_of(right, batches(8), batches(6), nb_sanity_val_steps=0, callbacks=[second])
    with pytest.raises(ZeroDivisionError) as expected:
        ours.run()
    with pytest.raises(ZeroDivisionError) as raised:
        theirs.as_transitions().model.run()
    assert state_notes(raised.value) == state_notes(expected.value) == ["in state val_check, epoch 0, batch 2, optimizer 0"]
    assert second.calls == first.calls
    assert [hook for hook, *_ in second.calls].count("on_run_end") == 1
    assert right.training
    assert list(theirs.trace) == list(ours.trace)


class FailsAtTheEnd(Callback):
    """A hook that fails after the run has failed."""

    def on_run_end(self, machine: Any) -> None:
        raise LookupError


def test_an_exception_of_the_hook_for_the_runs_end_does_not_hide_the_first_one() -> None:
    for run in (Machine.run, lambda machine: machine.as_transitions().model.run()):
        machine = machine_of(Divides(), batches(8), batches(6), nb_sanity_val_steps=0, callbacks=[FailsAtTheEnd()])
        with pytest.raises(LookupError) as raised:
            run(machine)
        first = raised.value.__context__
        assert isinstance(first, ZeroDivisionError)
        assert state_notes(first) == ["in state val_check, epoch 0, batch 2, optimizer 0"]


@pytest.mark.parametrize("moment", ["on_exit_backward", "on_enter_step", "after_advance", "before_state_change"])
def test_an_exception_of_a_callback_leaves_the_run_between_two_transitions(moment: str) -> None:
    """The state says whether the row was taken. The run can continue."""
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
    assert [note.split(",")[0] for note in state_notes(raised.value)] == [f"in state {stands_in}"]
    assert ended == [stands_in]
    machine.model.run()
    assert list(machine.model.trace) == list(straight.trace)
    assert machine.model.counters == straight.counters


def test_a_run_pauses_if_a_callback_handles_the_error() -> None:
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


@pytest.mark.parametrize("hook", ["on_run_start", "on_transition"])
def test_an_exception_in_on_run_end_is_raised_also_after_another_failure(hook: str) -> None:
    """As from the other engine: the first exception is its context."""
    fails_first = type("FailsFirst", (), {hook: lambda *_: 1 / 0})
    for run in (Machine.run, lambda machine: machine.as_transitions().model.run()):
        machine = machine_of(Linear(), batches(4), callbacks=[fails_first(), FailsAtTheEnd()])
        with pytest.raises(LookupError) as raised:
            run(machine)
        assert isinstance(raised.value.__context__, ZeroDivisionError)


def test_an_exception_in_on_run_end_is_noted_with_the_finished_state() -> None:
    def one_by_one(machine: Machine) -> None:
        for _ in machine:
            pass

    for run in (Machine.run, one_by_one, lambda machine: machine.as_transitions().model.run()):
        machine = machine_of(Linear(), batches(4), max_nb_epochs=1, callbacks=[FailsAtTheEnd()])
        with pytest.raises(LookupError) as raised:
            run(machine)
        assert state_notes(raised.value) == ["in state done, epoch 0, batch 1, optimizer 0"]
        assert machine.result.state is State.DONE


# ---- begin and end


def test_begin_is_called_before_the_first_visit_and_end_after_the_last_state_was_entered() -> None:
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
    """Return a machine of a run with windows of two batches, without a model."""
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
    assert names(closing.before) == ["close_window", "end_turn", "record_row"]


def names(callables: Iterable[Any]) -> list[str]:
    """Return the names of callables."""
    return [function.__name__ for function in callables]


def test_no_callback_is_looked_up_by_a_name_in_a_string(machine: RunMachine) -> None:
    callbacks: list[Any] = [*machine.prepare_event, *machine.finalize_event, *machine.on_final]
    for one in machine.get_transitions():
        callbacks += [*one.prepare, *one.before, *one.after, *(condition.func for condition in one.conditions)]
    for state in machine.states.values():
        callbacks += [*state.on_enter, *state.on_exit]
    assert len(callbacks) > 20
    assert all(map(callable, callbacks))


def test_callbacks_of_a_state_are_called_when_it_is_entered_and_left(machine: RunMachine) -> None:
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


def test_may_advance_does_no_work() -> None:
    done: list[State] = []
    dispatcher = dispatcher_of(actions={state: functools.partial(done.append, state) for state in State})
    run: Any = as_transitions(dispatcher).model
    assert run.may_advance()
    assert run.may_trigger("advance")
    assert not done
    run.trigger("advance")
    assert done == [State.START]


def test_may_advance_within_a_visit_does_not_fix_the_answers_of_guards() -> None:
    """Signals that the work sets afterwards count."""
    table = Table(
        (Row(State.START, when=stop_is_requested, to=State.STOPPED), Row(State.START, unless=stop_is_requested, to=State.DONE))
    )

    def ask_then_stop() -> None:
        assert run.may_advance()
        run.signals.stop_requested = True

    run = as_transitions(dispatcher_of(table, {State.START: ask_then_stop})).model
    run.run()
    assert run.state == "stopped"


def test_other_triggers_can_be_added_and_do_not_visit_the_state() -> None:
    done: list[State] = []
    dispatcher = dispatcher_of(actions={state: functools.partial(done.append, state) for state in State})
    machine = as_transitions(dispatcher)
    names: list[str] = []
    machine.add_transition("say", "*", None, before=lambda event: names.append(event.state.name))
    run: Any = machine.model
    run.advance()
    run.say()
    assert names == ["fetch"]
    assert done == [State.START]
    machine.remove_transition("say")
    assert not hasattr(run, "say")
    run.run()
    assert run.state == "done"


def test_the_state_cannot_be_set_by_hand() -> None:
    ended: list[bool] = []
    machine = as_transitions(dispatcher_of(), end=lambda: ended.append(True))
    machine.model.advance()
    with pytest.raises(UsageError, match="cannot set the state to 'step': the run is in the state fetch"):
        machine.set_state("step")
    machine.add_transition("jump", "fetch", "step")
    with pytest.raises(UsageError, match=r"Only advance\(\) changes them"):
        machine.model.trigger("jump")
    assert machine.model.state == "fetch"
    assert not ended
    machine.model.run()
    assert machine.model.state == "done"


def test_rows_cannot_be_changed_and_no_other_model_can_be_added(machine: RunMachine) -> None:
    with pytest.raises(UsageError, match="none can be added or removed"):
        machine.add_transition("advance", "backward", "fetch")
    with pytest.raises(UsageError, match=r"pass Guards\(...\) to build"):
        machine.remove_transition("advance", "backward")
    with pytest.raises(UsageError, match="no other can be added"):
        machine.add_model(Plain())
    with pytest.raises(UsageError, match="cannot be removed"):
        machine.remove_model(machine.model)
    assert len(machine.models) == 1


def test_a_condition_added_to_a_row_is_an_error_if_it_blocks_the_row() -> None:
    """Otherwise the next call would do the state's work a second time."""
    ended: list[str] = []
    machine = as_transitions(dispatcher_of(), end=lambda: ended.append(machine.model.state))
    [to_step] = machine.get_transitions(source="backward", dest="step")
    allows = [True, True, False]
    to_step.conditions.append(Condition(lambda event: allows.pop(0)))
    expected = "the transition from backward to step is due, but a condition that was added to it does not hold"
    with pytest.raises(GuardError, match=expected) as raised:
        machine.model.run()
    assert state_notes(raised.value) == ["in state backward, epoch 0, batch 2, optimizer 0"]
    assert ended == ["backward"]
    assert not allows


def test_callbacks_for_every_event_are_called_after_those_of_the_run() -> None:
    """The visit itself is such a callback; assigning another one does not replace it."""
    straight, log = dispatcher_of(), list[str]()
    straight.run()
    ended: list[str] = []
    machine = as_transitions(
        dispatcher_of(), end=lambda: ended.append(machine.model.state), prepare_event=lambda event: log.append("given")
    )
    machine.model.advance()
    assert log.pop() == "given"
    machine.prepare_event = lambda event: log.append("prepared")
    machine.finalize_event = [*machine.finalize_event, lambda event: log.append("finalized")]
    machine.finalize_event.append(lambda event: log.append("and again"))
    machine.on_final = lambda event: log.append("final")
    machine.model.run()
    assert log[:3] == ["prepared", "finalized", "and again"]
    assert log[-4:] == ["prepared", "final", "finalized", "and again"]
    assert list(machine.model.trace) == list(straight.trace)
    assert ended == ["done"]


def test_options_that_the_run_sets_itself_are_refused() -> None:
    for option in ("queued", "model", "initial", "send_event", "model_attribute"):
        with pytest.raises(UsageError, match=rf"as_transitions\({option}=True\): the run sets this option itself"):
            as_transitions(dispatcher_of(), **dict[str, Any]({option: True}))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_the_machine_is_not_copied_and_the_error_says_what_to_do(
    machine: RunMachine, copied: Callable[[object], object]
) -> None:
    """Two machines would share one run."""
    for value in (machine, machine.model):
        with pytest.raises(CopyError, match="Build another machine"):
            copied(value)


@pytest.mark.parametrize("inner", [Machine.advance, Machine.run, lambda machine: machine.as_transitions().model.advance()])
@pytest.mark.parametrize("outer", [Machine.run, Machine.advance, lambda machine: machine.as_transitions().model.run()])
def test_no_visit_within_a_visit_with_either_engine(
    inner: Callable[[Machine], object], outer: Callable[[Machine], object]
) -> None:
    """A hook that catches the error has changed nothing."""
    refused: list[UsageError] = []

    class Impatient(Callback):
        def on_run_start(self, machine: Any) -> None:
            assert not machine.trace.total

        def on_batch_start(self, machine: Any, batch: Any) -> None:
            with pytest.raises(UsageError, match="was being visited") as raised:
                inner(machine)
            refused.append(raised.value)

    left, right = twins(Linear)
    machine, straight = (
        machine_of(left, batches(6), max_nb_epochs=1, callbacks=[Impatient()]),
        machine_of(right, batches(6), max_nb_epochs=1),
    )
    straight.run()
    while not machine.state.is_final:
        outer(machine)
    assert len(refused) == 3
    assert list(machine.trace) == list(straight.trace)
    assert same_bits(weights(left), weights(right))


def test_advancing_within_the_work_of_a_state_is_refused() -> None:
    def impatient() -> None:
        run.advance()

    run = as_transitions(dispatcher_of(actions={State.BACKWARD: impatient})).model
    with pytest.raises(UsageError, match=r"advance\(\) was called while the state backward was being visited"):
        run.run()
    assert run.state == "backward"


def test_a_refused_call_whose_error_is_caught_changes_nothing() -> None:
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


def test_a_chain_of_callbacks_that_advance_needs_no_recursion() -> None:
    straight = dispatcher_of(accumulate_grad_batches=2, max_nb_epochs=300)
    straight.run()
    chain = as_transitions(
        dispatcher_of(accumulate_grad_batches=2, max_nb_epochs=300),
        after_state_change=[lambda event: event.model.is_finished or event.model.advance()],
    ).model
    assert chain.advance()  # this call alone makes the whole run
    assert chain.is_finished
    assert chain.trace.total == straight.trace.total > 5000


def test_a_callback_may_advance_once_the_next_state_was_entered(machine: RunMachine) -> None:
    straight = dispatcher_of(accumulate_grad_batches=2)
    straight.run()
    machine.on_enter_backward(lambda event: machine.model.advance())
    machine.model.run()
    assert list(machine.model.trace) == list(straight.trace)
