"""An error that ends a run has its recent transitions as a note: readable, and once."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from fsmtrain import Callback, Machine, State, Trainer
from tests.models import Validated, batches, machine_of


class Failing(Validated):
    """A model that fails at a batch."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        if batch_nb == 2:
            raise ValueError("no more")
        return super().training_step(batch, batch_nb)


def in_one_go(machine: Machine) -> None:
    """Run with our engine."""
    machine.run()


def in_steps(machine: Machine) -> None:
    """Run one transition at a time."""
    for _ in machine:
        pass


def by_the_library(machine: Machine) -> None:
    """Run with the second engine."""
    machine.as_transitions().model.run()


def told(go: Callable[[], object]) -> str:
    """Return the error as Python prints it."""
    with pytest.raises(ValueError, match="no more") as caught:
        go()
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("drive", [in_one_go, in_steps, by_the_library])
def test_an_error_ends_with_where_the_run_stood_and_how_it_came_there(drive: Callable[[Machine], None]) -> None:
    machine = machine_of(Failing(), batches(8), batches(6), max_nb_epochs=1, accumulate_grad_batches=2, nb_sanity_val_steps=2)
    text = told(lambda: drive(machine))
    assert text.endswith(
        "ValueError: no more\n"
        "in state train_batch, epoch 0, batch 2, optimizer 0\n"
        "the last transitions, epochs and batches counted from 0: ...\n"
        "  epoch 0, batch 0, optimizer 0: train_batch -> backward -> accumulate -> round_end\n"
        "  epoch 0, batch 1, optimizer 0: fetch -> train_batch -> backward -> step -> round_end\n"
        "  epoch 0, batch 2, optimizer 0: fetch -> train_batch\n"
    )
    assert text.count("the last transitions") == 1


def test_visits_to_the_same_state_are_noted_once() -> None:
    class FailingEnd(Validated):
        def validation_end(self, outputs: Any) -> Any:
            raise ValueError("no more")

    text = told(machine_of(FailingEnd(), batches(2), batches(12), max_nb_epochs=1, nb_sanity_val_steps=0).run)
    assert "round_end -> val_check x 6\n" in text


def test_an_error_in_a_nested_run_has_the_recent_transitions_of_the_inner_run_only() -> None:
    class FailingToo(Validated):
        def validation_step(self, batch: Any, batch_nb: int) -> Any:
            raise ValueError("no more")

    class Within(Callback):
        def on_epoch_end(self, machine: Machine) -> None:
            trainer.validate(machine.model, batches(2))

    flags: dict[str, Any] = {"max_nb_epochs": 1, "quiet": True, "device": "cpu", "runs_dir": None}
    trainer = Trainer(**flags, callbacks=[Within()])
    text = told(lambda: trainer.fit(FailingToo(), batches(4), []))
    assert text.count("the last transitions") == 1
    assert "in state test" in text
    assert "in state epoch_end" in text


def test_before_the_first_transition_there_is_no_way() -> None:
    class Early(Validated):
        def on_run_start(self) -> None:
            raise ValueError("no more")

    assert "the last transitions" not in told(machine_of(Early(), batches(2)).run)


@pytest.mark.parametrize("drive", [in_one_go, in_steps])
def test_the_times_sum_to_the_wall_time_less_what_lies_between_the_visits(drive: Callable[[Machine], None]) -> None:
    machine = machine_of(Failing(), batches(8), batches(6), max_nb_epochs=1)
    with pytest.raises(ValueError, match="no more"):
        drive(machine)
    inside = sum(spent.seconds for spent in machine.times.values())
    assert 0 < inside <= machine.wall_seconds
    assert machine.data_wait.count == 3 + 3  # of the sanity pass, and of the training
    assert machine.data_wait.seconds <= inside


@pytest.mark.parametrize("drive", [in_one_go, in_steps])
def test_a_visit_that_fails_counts_as_long_as_it_took(drive: Callable[[Machine], None]) -> None:
    class Slow(Validated):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            time.sleep(0.05)
            raise ValueError("no more")

    machine = machine_of(Slow(), batches(8), max_nb_epochs=1)
    with pytest.raises(ValueError, match="no more"):
        drive(machine)
    assert machine.times[State.TRAIN_BATCH].count == 0
    assert machine.times[State.TRAIN_BATCH].seconds >= 0.05
