"""The record is as safe as the checkpoints: each batch stands once in it, wherever a run was stopped, killed or rolled back."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from fsmtrain import Callback, Machine, ModelCheckpoint, State
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.metrics import metric_queue
from fsmtrain.views.recording import recorder, run_folder
from fsmtrain.views.recording.resume_trim import CheckpointTotals
from tests.models import Adversaries, batches, machine_of
from tests.resuming.kill_and_resume import is_recorded, record
from tests.resuming.resume_scenarios import SCENARIOS
from tests.resuming.test_resuming import StopAt
from tests.views.recording.recorded_runs import LoggingModel, read_json_lines
from tests.views.recording.test_recorder import Collecting, recorded


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def batches_with_a_row(folder: Path | None) -> list[tuple[int, int]]:
    """Return epoch and batch of each row of training."""
    assert folder is not None
    return [(row["epoch"], row["batch"]) for row in read_json_lines(folder / "metrics.jsonl") if row["kind"] == "train"]


# ---- stopped and killed runs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two optimizers", "truncated bptt", "plain"])
def test_a_run_stopped_after_any_transition_has_the_record_of_one_that_was_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between two optimizers or two splits: the batch is one row, with the same bits."""
    scenario = is_recorded(SCENARIOS[name])
    warnings.simplefilter("ignore")

    def in_folder(number: int) -> Machine:
        (tmp_path / str(number)).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / str(number))
        return scenario([StopAt(number)] if number else [])

    whole = in_folder(0)
    whole.run()
    reference = record(whole.run_dir)
    calls = set(reference.pop("calls of the logger"))
    for n in range(1, len(whole.trace), 2):
        in_folder(n).run()
        resumed = scenario([])
        resumed.resume()
        resumed.run()
        result = record(resumed.run_dir)
        assert calls <= set(result.pop("calls of the logger")), n
        assert result == reference, n


def test_a_batch_is_one_row_however_long_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records are looked at between any two of them, and no row waits for more batches."""
    monkeypatch.setattr(run_folder, "MAX_ROW_DELAY_SECONDS", 0.0)

    class Flushing(Callback):
        def on_transition(self, machine: Any, transition: Any) -> None:
            machine._recorder.flush()

        def on_batch_end(self, machine: Any) -> None:
            machine.log("at_its_end", 1.0)

    logger = Collecting()
    machine = machine_of(Adversaries(), batches(8), max_nb_epochs=2, runs_dir=tmp_path, logger=logger, callbacks=[Flushing()])
    machine.run()
    assert batches_with_a_row(machine.run_dir) == [(e, b) for e in range(2) for b in range(4)]
    assert machine.run_dir is not None
    rows = read_json_lines(machine.run_dir / "metrics.jsonl")
    assert {(row["batches"], *row["values"]) for row in rows} == {(1, "loss/0", "loss/1", "at_its_end")}
    assert [step for _, step in logger.calls] == [row["step"] for row in rows]


# ---- checkpoints wait for the record, training does not


class Blocking:
    """A logger that waits in each call, and says when it is called."""

    def __init__(self) -> None:
        self.free, self.is_called = threading.Event(), threading.Event()
        self.steps: list[int] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Wait."""
        self.is_called.set()
        self.free.wait(60)
        self.steps.append(step)


def test_a_checkpoint_is_valid_no_earlier_than_loggers_have_had_the_batches_before_it() -> None:
    """Training goes on meanwhile: it is in another epoch when the first checkpoint becomes valid."""
    logger, numbers = Blocking(), list[list[int]]()

    class Looking(Callback):
        def on_epoch_end(self, machine: Any) -> None:
            assert logger.is_called.wait(10)
            numbers.append(Store(machine.checkpoints).numbers())
            if machine.current_epoch == 2:
                logger.free.set()

    checkpoint = ModelCheckpoint(every_n_epochs=1)
    machine = recorded(Path("runs"), logger=logger, callbacks=[checkpoint, Looking()], max_nb_epochs=3)
    machine.run()
    assert numbers == [[], [], []]
    assert Store(machine.checkpoints).numbers()
    assert len(logger.steps) == 3 * 8


def test_a_logger_is_flushed_before_each_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    class Buffering(Collecting):
        def __init__(self) -> None:
            super().__init__()
            self.flushed: list[int] = []

        def flush(self) -> None:
            self.flushed.append(len(self.calls))

    logger, at_commit = Buffering(), list[int]()
    commit = Store._commit

    def look_and_commit(store: Store, temporary: str) -> int:
        at_commit.append(logger.flushed[-1])
        return commit(store, temporary)

    monkeypatch.setattr(Store, "_commit", look_and_commit)
    checkpoint = ModelCheckpoint(every_n_epochs=1, save_top_k=3)
    recorded(Path("runs"), logger=logger, callbacks=[checkpoint], max_nb_epochs=3).run()
    assert len(at_commit) == 3
    assert all(calls >= 8 * number for number, calls in enumerate(at_commit, start=1))


def test_a_checkpoint_is_valid_no_earlier_than_the_rows_before_it_are_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No flush comes but those that the checkpoint asks for."""
    monkeypatch.setattr(recorder, "MIN_FLUSH_SECONDS", 60.0)
    seen: list[tuple[int, int]] = []
    commit = Store._commit

    def look_and_commit(store: Store, temporary: str) -> int:
        rows = read_json_lines(Path("runs/0/metrics.jsonl"))
        seen.append((sum(row["kind"] == "train" for row in rows), sum(row["kind"] == "validation" for row in rows)))
        return commit(store, temporary)

    monkeypatch.setattr(Store, "_commit", look_and_commit)

    class Slow(LoggingModel):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            if batch_nb == 0 and (writer := machine._checkpoints._writer) is not None:
                writer.wait()
            return super().training_step(batch, batch_nb)

    machine = recorded(Path("runs"), Slow(), callbacks=[ModelCheckpoint(every_n_epochs=1)], max_nb_epochs=3)
    machine.run()
    assert seen == [(6, 2), (12, 4), (18, 6)]


def test_a_record_that_has_failed_holds_up_no_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    class Moving(Callback):
        def on_epoch_start(self, machine: Any) -> None:
            if machine.current_epoch == 1:
                machine._recorder._folder._metrics._lines._file.close()

    machine = recorded(Path("runs"), callbacks=[ModelCheckpoint(every_n_epochs=1), Moving()], max_nb_epochs=3)
    machine.run()
    assert Store(machine.checkpoints).numbers()
    assert capsys.readouterr().err.count("stopped, since it cannot be written") == 1


def test_a_full_queue_makes_training_wait_and_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_queue, "MAX_PENDING_RECORDS", 10)
    monkeypatch.setattr(recorder, "MIN_FLUSH_SECONDS", 60.0)
    machine = recorded(Path("runs"), train=200, val=0)
    with pytest.warns(UserWarning, match="10 records of metrics wait to be written: the run waits") as reported:
        machine.run()
    assert len([warning for warning in reported if "wait to be written" in str(warning.message)]) == 1
    assert batches_with_a_row(machine.run_dir) == [(e, b) for e in range(2) for b in range(200)]


# ---- rollbacks


def test_after_a_rollback_each_batch_stands_once_and_the_excluded_one_not_at_all() -> None:
    class Bad(LoggingModel):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.loss_of(batch) * (float("inf") if (batch_nb, self.current_epoch) == (4, 1) else 1)

    logger = Collecting()
    machine = recorded(
        Path("runs"), Bad(), logger=logger, on_nonfinite="rollback", callbacks=[ModelCheckpoint(every_n_batches=3)]
    )
    with pytest.warns(UserWarning, match="goes back"):
        machine.run()
    assert machine.state is State.DONE
    assert batches_with_a_row(machine.run_dir) == [(e, b) for e in range(2) for b in range(6) if (e, b) != (1, 4)]
    assert machine.run_dir is not None
    rows = read_json_lines(machine.run_dir / "metrics.jsonl")
    assert [row["kind"] for row in rows].count("validation") == 4
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert [step for _, step in logger.calls if step >= 9] != sorted({step for _, step in logger.calls if step >= 9})


@pytest.mark.parametrize("own_folder", [True, False])
def test_a_resumed_run_that_goes_back_to_its_checkpoint_keeps_the_rows_before_it(own_folder: bool) -> None:
    class Bad(LoggingModel):
        def training_step(self, batch: Any, batch_nb: int) -> Any:
            return self.loss_of(batch) * (float("inf") if (batch_nb, self.current_epoch) == (4, 1) else 1)

    def machine(*callbacks: Any) -> Machine:
        saving = ModelCheckpoint(every_n_batches=100)
        return recorded(Path("runs"), Bad(), on_nonfinite="rollback", callbacks=[saving, *callbacks], max_nb_epochs=3)

    first = machine(StopAt(45))
    first.run()
    assert first.run_dir is not None
    before = batches_with_a_row(first.run_dir)
    assert 4 < len(before) < 10
    resumed = machine()
    resumed.resume(first.run_dir if own_folder else first.checkpoints)
    with pytest.warns(UserWarning, match="goes back"):
        resumed.run()
    everything = [(e, b) for e in range(3) for b in range(6) if (e, b) != (1, 4)]
    assert batches_with_a_row(resumed.run_dir) == [at for at in everything if own_folder or at not in before]


DAMAGED: list[Any] = [
    *(None, 3, "records", [3], [[]], [["train"]], [{}]),
    *([["train", "0.1", 0, 1, 1, {"loss": 1.0}, 0, 0.1]], [["train", 0.1, 0, 1, 1, {"loss": "x"}, 0, 0.1]]),
    *([["train", 0.1, 0, 1, 1, [], 0, 0.1]], [["eval", 0.1, 0, 1, 1, {}, 0, 0.1]], [["train", 0.1, 0, 1, 1, {}, "0", 0.1]]),
]


@pytest.mark.parametrize("records", DAMAGED, ids=repr)
def test_damaged_records_in_a_checkpoint_are_not_taken_over(records: Any) -> None:
    stored = {"metric_seconds": 1.0, "totals": {"time": 2.0}, "unfinished": records}
    totals = CheckpointTotals.parse(Path("checkpoints/000001"), stored)
    assert (totals.seconds, totals.unfinished) == (0.0, ())
