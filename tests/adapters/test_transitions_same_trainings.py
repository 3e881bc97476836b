"""Law 7 on real trainings: both engines train the same bits, also if interrupted anywhere."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsmtrain import Machine, State
from fsmtrain.errors import UsageError
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from tests.adapters.sample_trainings import (
    TRAININGS,
    HookRecorder,
    StopAfterTransitions,
    Training,
    outcome,
    run_with_both_engines,
)
from tests.models import Plain, batches, machine_of, same_bits, twins

Engine = Callable[[Machine], object]

trainings = pytest.mark.parametrize("training", TRAININGS.values(), ids=list(TRAININGS))
names = st.sampled_from(list(TRAININGS))
any_turns = st.lists(st.booleans(), min_size=1, max_size=6)


@pytest.fixture(autouse=True, scope="module")
def _in_a_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Checkpoints are written into the working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trainings"))
        yield


def run_by_library(machine: Machine) -> None:
    """Run a machine by the engine of the library."""
    machine.as_transitions().model.run()


def by_turns(turns: list[bool]) -> Engine:
    """Run a machine by both engines, which take turns."""
    return lambda machine: run_with_both_engines(machine, itertools.cycle(turns))


def both(
    training: Training, engine: Engine, *callbacks: Callable[[], object], fails_at: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a run leaves behind with our engine and with another one, and the error that ended it, if any.

    The model's forward fails at the call `fails_at`, counted from 1.
    """
    left, right = twins(training.model)
    if fails_at is not None:
        fail_at(left, fails_at)
        fail_at(right, fails_at)
    return _outcome(training, left, Machine.run, callbacks), _outcome(training, right, engine, callbacks)


def _outcome(training: Training, model: Any, engine: Engine, callbacks: tuple[Callable[[], object], ...]) -> dict[str, Any]:
    machine = training.make(model, callbacks=[make() for make in callbacks])
    torch.manual_seed(5)
    error: tuple[object, ...] = ()
    try:
        engine(machine)
    except ZeroDivisionError as raised:
        error = (str(raised), tuple(raised.__notes__))
        with pytest.raises(UsageError, match="has ended"):  # with an error, or in its final state
            engine(machine) if not machine.state.is_final else machine.advance()
    return {**outcome(machine), "error": error}


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """Return the names of what differs."""
    return [name for name in left if not same_bits(left[name], right[name])]


# ---- to the end


@trainings
@pytest.mark.parametrize("has_callback", [False, True])
def test_both_engines_train_the_same_bits(training: Training, has_callback: bool) -> None:
    """They make the same transitions, call the same hooks at the same moments, and leave the same behind."""
    recorders: list[HookRecorder] = []

    def recorder() -> HookRecorder:
        recorders.append(HookRecorder())
        return recorders[-1]

    ours, other = both(training, run_by_library, *[recorder] * has_callback)
    assert differences(ours, other) == []
    assert ours["reason"] is training.ends
    if has_callback:
        first, second = recorders
        assert first.calls == second.calls
        assert len(first.calls) > 3


def test_the_trainings_visit_every_state_and_change_what_they_train() -> None:
    """Otherwise the comparisons above would prove little."""
    visited: set[State] = set()
    for name, training in TRAININGS.items():
        left, right = twins(training.model)
        machine = training.make(left)
        machine.run()
        visited |= set(machine.times) | {machine.state} | {transition.to for transition in machine.trace}
        trains = name not in ("no epoch", "a test alone")
        assert same_bits(list(left.parameters()), list(right.parameters())) is not trains, name
    assert visited == set(State)


def test_the_checkpoints_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, written = TRAININGS["checkpoints"], list[dict[str, Any]]()
    for engine, model in zip((Machine.run, run_by_library), twins(training.model), strict=True):
        folder = tmp_path / str(len(written))
        folder.mkdir()
        monkeypatch.chdir(folder)
        engine(training.make(model))
        store = Store(folder / "checkpoints")
        written.append({str(number): dict(store.load(number).tree["model"]) for number in store.numbers()})
    assert same_bits(written[0], written[1])
    assert len(written[0]) == 2


def test_the_users_module_gets_no_attribute() -> None:
    model = Plain()
    names, functions = set(dir(model)), dict(vars(Plain))
    run = machine_of(model, batches(4), batches(2), batches(2), max_nb_epochs=1).as_transitions().model
    run.run()
    assert set(dir(model)) == names
    assert dict(vars(Plain)) == functions
    assert {"advance", "trigger", "is_step"} <= set(vars(run))


def test_each_visit_is_timed() -> None:
    machine = TRAININGS["plain"].make(TRAININGS["plain"].model())
    run_by_library(machine)
    assert machine.times[State.BACKWARD].seconds > 0


# ---- from one engine to the other, and interrupted

often = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(names, any_turns)
@often
def test_a_training_may_change_its_engine_at_any_transition(name: str, turns: list[bool]) -> None:
    ours, other = both(TRAININGS[name], by_turns(turns))
    assert differences(ours, other) == []


@given(names, any_turns, st.integers(1, 60))
@often
def test_a_stop_request_is_taken_at_the_same_visit(name: str, turns: list[bool], after: int) -> None:
    ours, other = both(TRAININGS[name], by_turns(turns), functools.partial(StopAfterTransitions, after))
    assert differences(ours, other) == []


@given(names, any_turns, st.integers(1, 80))
@often
def test_an_exception_of_a_hook_leaves_the_same_behind(name: str, turns: list[bool], call: int) -> None:
    """Any hook at any call: the note on the error, modes, ``requires_grad``, random states; and the run has ended."""
    ours, other = both(TRAININGS[name], by_turns(turns), functools.partial(HookRecorder, raises_at=call))
    assert differences(ours, other) == []


@given(names, any_turns, st.integers(1, 40))
@often
def test_an_exception_of_the_model_leaves_the_same_behind(name: str, turns: list[bool], call: int) -> None:
    """In any forward: of a train step, a closure, a validation, the sanity pass or the test."""
    ours, other = both(TRAININGS[name], by_turns(turns), fails_at=call)
    assert differences(ours, other) == []
    if ours["error"]:
        assert all(ours["modes"])
        assert ours["grad mode"]


def fail_at(model: Any, call: int) -> None:
    """Make a part of the model fail at this call of its forward, counted from 1."""
    part = next(module for module in model.modules() if not list(module.children()))
    calls = itertools.count(1)

    def fail(*_: object) -> None:
        if next(calls) == call:
            raise ZeroDivisionError("in the forward")

    part.register_forward_pre_hook(fail)
