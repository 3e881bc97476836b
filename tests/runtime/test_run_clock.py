"""The time of a run: summed over its parts, and what ``max_time`` makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import Callback, Guards, Machine, State, every_n_batches
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.runtime import run_clock
from tests.models import Perceptron, batches, machine_of


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Passing(Callback):
    """Lets so many seconds pass in each batch, and stops the run after so many batches."""

    def __init__(self, clock: Clock, seconds: float, stop_after: int | None = None) -> None:
        self.clock, self.seconds, self.left = clock, seconds, stop_after

    def on_batch_end(self, machine: Machine) -> None:
        """A batch has taken its time."""
        self.clock.now += self.seconds
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                machine.stop()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_clock, "monotonic", clock)
    return clock


def run_of(clock: Clock, *, stop_after: int | None = None, seconds: float = 10, **flags: Any) -> Machine:
    torch.manual_seed(0)
    given = {"max_nb_epochs": 9, "guards": Guards(save=every_n_batches(2)), **flags}
    return machine_of(Perceptron(), batches(8), callbacks=[Passing(clock, seconds, stop_after)], **given)


def test_a_run_ends_at_the_end_of_the_batch_in_which_max_time_has_passed(clock: Clock) -> None:
    machine = run_of(clock, max_time="0:00:35", min_nb_epochs=3)
    machine.run()
    assert machine.counters.batches_begun == 4
    assert machine.stop_reason is StopReason.MAX_TIME


def test_an_open_window_is_closed_before(clock: Clock) -> None:
    machine = run_of(clock, max_time="0:00:35", accumulate_grad_batches=3)
    machine.run()
    assert (machine.counters.batches_begun, machine.global_step) == (4, 2)  # 3 and the last one of the epoch
    machine = run_of(clock, max_time="0:00:15", accumulate_grad_batches=3)
    machine.run()
    assert (machine.counters.batches_begun, machine.global_step) == (3, 1)


def test_the_time_of_a_resumed_run_counts_from_its_first_part_on(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = run_of(clock, stop_after=3, max_time="0:01:05")
    first.run()
    assert first.state is State.STOPPED
    clock.now += 5_000  # between the two
    second = run_of(clock, max_time="0:01:05")
    second.resume("checkpoints")
    second.run()
    assert second.counters.batches_begun == 7
    whole = run_of(clock, max_time="0:01:05")
    whole.run()
    assert whole.counters.batches_begun == 7


def test_a_run_without_max_time_does_not_look_at_the_clock(clock: Clock) -> None:
    machine = run_of(clock)
    machine.run()
    assert machine.counters.epochs_done == 9
