"""A run in plain lines, in files and pipes."""

from __future__ import annotations

import io
import re
import sys
from typing import Any, Literal

import pytest

from fsmtrain import EarlyStopping, Options
from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State
from fsmtrain.core.stop_reasons import StopReason
from fsmtrain.machine import Machine
from fsmtrain.runtime.data.data_modules import Loaders
from fsmtrain.views.console.progress_callback import Progress
from fsmtrain.views.console.run_header import planned_work
from fsmtrain.views.console.run_position import closing_line
from tests.views.console.shown_runs import (
    FrozenRun,
    LateMetrics,
    ManualClock,
    Model,
    SizedBatches,
    drawing_threads,
    machine_with_progress,
)


def without_times(text: str) -> list[str]:
    """The lines of a text, with durations and rates replaced."""
    return [
        re.sub(r"[\d.,]+ (batches/s|s/batch)", "RATE", re.sub(r"[\d.]+ (s|ms|µs)\b", "TIME", line))
        for line in text.splitlines()
    ]


class TwoMetrics(Model):
    """A model with a metric that nothing shows or monitors, beside its val_loss, whose loss is the number of the batch."""

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return 0 * self.layer(batch).sum() + batch_nb

    def validation_end(self, outputs: Any) -> Any:
        step = self.global_step
        return {"other": 1.0, "val_loss": abs(step - 4.0), "progress_bar": {"shown": 2.0}}


def test_a_file_gets_a_line_for_each_epoch_and_each_validation_with_its_metrics_and_the_best_value_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags: dict[str, Any] = {"val_check_interval": 2, "early_stop_callback": EarlyStopping(patience=9)}
    with pytest.warns(UserWarning, match="patience"):
        machine = machine_with_progress(TwoMetrics(), val=SizedBatches(1), test=SizedBatches(3), **flags)
    machine.run()
    assert without_times(capsys.readouterr().err) == [
        "epoch 1/2, batch 2/4 after TIME, RATE, val_loss=2, loss=1, other=1, shown=2",
        "epoch 1/2 after TIME, RATE, val_loss=0, loss=3, other=1, shown=2",
        "epoch 2/2, batch 2/4 after TIME, RATE, val_loss=2, loss=1, other=1, shown=2",
        "epoch 2/2 after TIME, RATE, val_loss=4, loss=3, other=1, shown=2",
        "ended after 2 epochs, 8 batches, TIME, best val_loss=0: all epochs are done; raise max_nb_epochs to train longer",
    ]


@pytest.mark.parametrize(("epochs", "told"), [(27, [*range(1, 21), 24, 27]), (9, [*range(1, 10)]), (1, [1])])
def test_of_very_many_short_epochs_some_have_no_line_but_the_last_one_always_has(
    capsys: pytest.CaptureFixture[str], epochs: int, told: list[int]
) -> None:
    clock = ManualClock()

    def pass_time(step: str, batch_nb: int) -> None:
        clock.now += 0.25 if machine.current_epoch >= 20 else 0.0

    machine = machine_with_progress(Model(pass_time), SizedBatches(1), max_nb_epochs=epochs, progress=Progress(clock))
    machine.run()
    lines = capsys.readouterr().err.splitlines()
    assert [int(line.split()[1].split("/")[0]) for line in lines[:-1]] == told


def test_the_lines_of_the_training_come_before_those_of_the_test(capsys: pytest.CaptureFixture[str]) -> None:
    class Testing(Model):
        def test_step(self, batch: Any, batch_nb: int) -> Any:
            print("testing", file=sys.stderr)

    machine_with_progress(
        Testing(), SizedBatches(1), test=SizedBatches(1), max_nb_epochs=25, progress=Progress(ManualClock())
    ).run()
    told = [line.split(" after")[0] for line in capsys.readouterr().err.splitlines()]
    assert told[-4:] == ["epoch 20/25", "epoch 25/25", "testing", "ended"]


@pytest.mark.parametrize(("runs", "told"), [("test", "tested 3 batches in"), ("val", "validated 3 batches in")])
def test_a_run_that_does_not_train_says_what_it_has_done(
    capsys: pytest.CaptureFixture[str], runs: Literal["test", "val"], told: str
) -> None:
    alone = Options(quiet=True, runs_dir=None, device="cpu")
    loaders = Loaders(train=(), val=SizedBatches(3), test=SizedBatches(3))
    Machine(alone, Model(), loaders, runs=runs, callbacks=[Progress()]).run()
    [line] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"{told} [\d.]+ (m|µ|)s", line)


def test_the_time_of_a_resumed_run_is_that_since_it_was_resumed() -> None:
    run = FrozenRun(State.DONE)
    run.stop_reason, run.was_resumed = StopReason.MAX_EPOCHS, True
    assert ", 4.0 s since it was resumed: " in closing_line(run, 4.0, None)
    assert ", 4.0 s: " in closing_line(run, 4.0, None, is_of_all_parts=True)


@pytest.mark.parametrize(
    ("error", "name"), [(RuntimeError("no more"), "RuntimeError"), (KeyboardInterrupt(), "KeyboardInterrupt")]
)
def test_plain_lines_name_what_ended_the_run_and_where(
    capsys: pytest.CaptureFixture[str], error: BaseException, name: str
) -> None:
    def fail(step: str, batch_nb: int) -> None:
        if batch_nb == 2:
            raise error

    with pytest.raises(type(error)):
        machine_with_progress(Model(fail), progress=Progress(ManualClock())).run()
    last = without_times(capsys.readouterr().err)[-1]
    assert last == f"ended by {name} in the state train_batch, epoch 1/2, batch 3/4 (counted from 1), after TIME"


def test_lines_go_to_what_is_standard_error_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [io.StringIO() for _ in range(2)]

    def replace(step: str, batch_nb: int) -> None:
        monkeypatch.setattr(sys, "stderr", files[1] if sys.stderr is files[0] else files[0])

    machine_with_progress(Model(replace), SizedBatches(1), progress=Progress(ManualClock())).run()
    assert [file.getvalue().split()[0] for file in files] == ["epoch", "epoch"]
    assert not any(character in file.getvalue() for file in files for character in "\r\b")


def closed() -> io.StringIO:
    """A stream that nobody can write to."""
    file = io.StringIO()
    file.close()
    return file


class Broken(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stderr", [None, closed(), Broken()])
def test_a_run_goes_on_after_its_output_pipe_was_closed(monkeypatch: pytest.MonkeyPatch, stderr: Any) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert machine_with_progress(Model()).run().stop_reason is StopReason.MAX_EPOCHS


def test_a_line_waits_for_its_metrics_and_the_run_does_not_wait_for_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The epochs' lines come in their order, each with the metrics of its own end, and the last sentence after all of them."""
    run, clock, printed = FrozenRun(State.EPOCH_END), ManualClock(), ""
    progress = Progress(clock)
    progress.on_run_start(run)
    ends = [LateMetrics({"loss": float(epoch)}, here=epoch == 1) for epoch in range(3)]
    for epoch, end in enumerate(ends):
        run.counters.current_epoch, run.metrics = epoch, end
        progress.on_epoch_end(run)
        run.wall_seconds += 5
    assert capsys.readouterr().err.splitlines() == []
    ends[2].here = ends[0].here = True
    run.state, run.stop_reason = State.DONE, StopReason.REQUESTED
    progress.on_run_end(run)
    printed = capsys.readouterr().err
    assert [line.split(",")[0].split(":")[0] for line in printed.splitlines()] == [
        "epoch 1/20 after 0.0 s",
        "epoch 2/20 after 5.0 s",
        "epoch 3/20 after 10.0 s",
        "ended after 0 epochs",
    ]
    assert [line.split("loss=")[1] for line in printed.splitlines()[:3]] == ["0", "1", "2"]
    assert not drawing_threads()


def test_runs_that_are_shown_at_the_same_time_keep_their_lines_apart(capsys: pytest.CaptureFixture[str]) -> None:
    progress, first, second, never = (
        Progress(ManualClock()),
        FrozenRun(State.EPOCH_END),
        FrozenRun(State.EPOCH_END),
        FrozenRun(State.EPOCH_END),
    )
    progress.on_run_start(first)
    progress.on_run_start(second)
    for epoch in range(2):
        first.counters.current_epoch = epoch
        progress.on_epoch_end(first)
    for run in (first, never, second):
        progress.on_run_end(run)
    told = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == [
        "epoch 1/20 after 0.0 s",
        "epoch 2/20 after 0.0 s",
        "ended in the state epoch_end",
        "ended in the state epoch_end",
    ]


def test_a_line_shows_the_rate_since_the_line_before(capsys: pytest.CaptureFixture[str]) -> None:
    run, clock = FrozenRun(State.EPOCH_END), ManualClock()
    progress = Progress(clock)
    progress.on_run_start(run)
    for batches, seconds in ((10, 1.0), (20, 1.5)):
        run.times = {State.FETCH: Timing(batches, seconds)}
        progress.on_epoch_end(run)
        clock.now += 5
    progress.on_run_end(run)
    assert [line.split(", ")[1] for line in capsys.readouterr().err.splitlines()[:2]] == ["10 batches/s", "20 batches/s"]


@pytest.mark.parametrize("failure", [None, RuntimeError("no such device")])
def test_a_line_whose_metrics_never_come_is_written_without_them(
    capsys: pytest.CaptureFixture[str], failure: Exception | None
) -> None:
    run = FrozenRun(State.EPOCH_END)
    run.metrics = LateMetrics({"loss": 1.0}, failure=failure)
    progress = Progress(ManualClock())
    progress.on_run_start(run)
    progress.on_epoch_end(run)
    progress.on_run_end(run)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "epoch 1/20 after 0.0 s",
        "ended in the state epoch_end",
    ]
    assert not drawing_threads()


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({}, "training: 20 epochs of 45 batches, validations of 12 batches, then a test of 7 batches"),
        ({"train": 1, "val": [], "test": []}, "training: 20 epochs of 1 batch"),
        ({"fits": False, "train": 0, "val": []}, "an evaluation of 7 batches"),
    ],
)
def test_the_first_line_describes_the_planned_run(sizes: dict[str, Any], text: str) -> None:
    assert planned_work(FrozenRun(**sizes).spec.limits) == text
