"""The run folder: its contents after a run, and that the run does not depend on it."""

from __future__ import annotations

import gc
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import EarlyStopping, Guards, Machine, Options, State, Trainer, build, every_n_batches
from fsmtrain.user_warnings import warn
from fsmtrain.views.recording.files.log_txt import LogFile
from tests.models import Adversaries, batches, stream
from tests.views.recording.recorded_runs import LoggingModel, NumberedBatches, read_csv, read_json, read_json_lines

WRITTEN = ["end.json", "log.txt", "metrics.csv", "metrics.jsonl", "run.json", "status.json", "table.json", "timeline.jsonl"]
FILES = [".lock", *WRITTEN]


def recorded(runs: Path, model: Any = None, train: int = 6, val: int = 2, test: int = 0, **flags: Any) -> Machine:
    """Return a machine that is recorded and prints nothing."""
    guards = flags.pop("guards", None)
    callbacks = flags.pop("callbacks", ())
    given = {"max_nb_epochs": 2, "quiet": True, "device": "cpu", "runs_dir": runs, "val_check_interval": 3}
    options = Options(**{**given, **flags})
    loaders: dict[str, Any] = {"train_dataloader": NumberedBatches(train), "val_dataloaders": NumberedBatches(val)}
    if test:
        loaders["test_dataloaders"] = NumberedBatches(test)
    return build(options, model or LoggingModel(), guards=guards, callbacks=callbacks, **loaders)


def writing() -> list[threading.Thread]:
    """Return the recorder threads."""
    return [thread for thread in threading.enumerate() if thread.name == "fsmtrain recorder"]


def logs() -> list[logging.Handler]:
    """Return the log files that still receive messages."""
    return [handler for handler in logging.getLogger("fsmtrain").handlers if isinstance(handler, LogFile)]


# ---- contents


def test_every_file_of_a_run_folder_can_be_read(tmp_path: Path) -> None:
    machine = recorded(tmp_path, test=3, accumulate_grad_batches=4, seed=3)
    machine.run()
    assert machine.run_dir == tmp_path / "0"
    assert sorted(path.name for path in machine.run_dir.iterdir()) == FILES
    for name in ("run.json", "table.json", "end.json", "status.json"):
        assert read_json(machine.run_dir / name)["format"] == 1
    assert not writing()


def test_the_metrics_of_each_batch_each_validation_and_the_test_are_in_order(tmp_path: Path) -> None:
    recorded(tmp_path, test=3).run()
    rows = read_json_lines(tmp_path / "0" / "metrics.jsonl")
    assert [row["kind"] for row in rows] == [*(2 * [*(3 * ["train"]), "validation", *(3 * ["train"]), "validation"]), "test"]
    train = [row for row in rows if row["kind"] == "train"]
    assert [(row["epoch"], row["batch"]) for row in train] == [(epoch, batch) for epoch in range(2) for batch in range(6)]
    assert [row["step"] for row in train] == list(range(12))
    assert [row["values"] for row in train[:2]] == [{"loss": 0.0, "twice": 0.0}, {"loss": 1.0, "twice": 2.0}]
    assert {row["batches"] for row in train} == {1}
    assert {tuple(row["lr"]) for row in train} == {(0.5,)}
    assert [(row["step"], row["values"]) for row in rows if row["kind"] == "validation"][:2] == [
        (3, {"val_loss": 0.5}),
        (6, {"val_loss": 0.5}),
    ]
    assert rows[-1]["values"] == {"test_loss": 1.0}
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


def test_the_csv_table_equals_the_json_lines(tmp_path: Path) -> None:
    recorded(tmp_path).run()
    rows, cells = read_json_lines(tmp_path / "0" / "metrics.jsonl"), read_csv(tmp_path / "0" / "metrics.csv")
    assert len(rows) == len(cells)
    for row, cell in zip(rows, cells, strict=True):
        assert (cell["kind"], int(cell["epoch"]), int(cell["batch"]), int(cell["step"])) == (
            row["kind"], row["epoch"], row["batch"], row["step"],
        )  # fmt: skip
        values = {name: float(cell[name]) for name in ("loss", "twice", "val_loss") if cell[name]}
        assert values == row["values"]


def test_the_metadata_has_options_sizes_versions_and_guards(tmp_path: Path) -> None:
    recorded(tmp_path, run_name="mine", seed=3, early_stop_callback=True, guards=Guards(step={0: every_n_batches(2)})).run()
    run = read_json(tmp_path / "mine" / "run.json")
    assert run["name"] == "mine"
    assert run["options"]["seed"] == 3
    assert run["options"]["early_stop_callback"] is True
    assert run["sizes"]["train"] == 6
    assert run["versions"]["torch"] == torch.__version__
    assert run["model"] == {"class": "LoggingModel", "parameters": 2, "trainable": 2}
    assert run["guards"] == {"step": {"0": "nth_batch_is_done"}}
    assert run["plan"] == {"global_step": 6, "optimizer_steps": [6], "validations": 4}
    rows_of_table = read_json(tmp_path / "mine" / "table.json")["rows"]
    assert [row["row"] for row in rows_of_table] == list(range(len(rows_of_table)))
    assert {"source": "backward", "to": "step"}.items() <= next(r for r in rows_of_table if r["to"] == "step").items()


def test_the_recorded_end_has_reason_counters_times_windows_and_last_metrics(tmp_path: Path) -> None:
    machine = recorded(tmp_path, accumulate_grad_batches=4, early_stop_callback=EarlyStopping(patience=1))
    result = machine.run()
    end = read_json(tmp_path / "0" / "end.json")
    assert end["reason"] == "early_stopping"
    assert end["sentence"] == str(result.stop_reason)
    assert end["error"] is None
    assert end["metrics"] == pytest.approx({"loss": 5.0, "twice": 10.0, "val_loss": 0.5})
    assert end["windows"] == [{"2": 1, "4": 1}]
    assert end["optimizer_steps"] == result.counters.optimizer_steps
    assert end["states"]["train_batch"][0] == result.times[State.TRAIN_BATCH].count
    assert sum(seconds for _, seconds in end["states"].values()) <= end["wall_seconds"]
    assert read_json_lines(tmp_path / "0" / "timeline.jsonl")[-1]["state"] == "done"


def test_each_optimizer_has_its_loss_its_rate_and_its_windows(tmp_path: Path) -> None:
    options = Options(max_nb_epochs=1, quiet=True, device="cpu", runs_dir=tmp_path, accumulate_grad_batches=2)
    build(options, Adversaries(), train_dataloader=batches(8), guards=Guards(step={1: every_n_batches(4)})).run()
    end = read_json_lines(tmp_path / "0" / "metrics.jsonl")
    assert len(end) == 4
    assert {tuple(row["values"]) for row in end} == {("loss/0", "loss/1")}
    assert {tuple(row["lr"]) for row in end} == {(0.02, 0.1)}
    assert read_json(tmp_path / "0" / "end.json")["windows"] == [{"2": 2}, {"4": 1}]


def test_nan_and_infinity_are_strings_in_strict_json(tmp_path: Path) -> None:
    class Diverging(LoggingModel):
        def training_step(self, batch: torch.Tensor, batch_nb: int) -> Any:
            return {"loss": self.loss_of(batch), "a": math.nan, "b": torch.tensor(-math.inf)}

    recorded(tmp_path, Diverging(), val=0).run()
    assert read_json_lines(tmp_path / "0" / "metrics.jsonl")[0]["values"] == {"loss": 0.0, "a": "NaN", "b": "-Infinity"}
    assert read_json(tmp_path / "0" / "end.json")["metrics"]["a"] == "NaN"
    assert math.isnan(float(read_csv(tmp_path / "0" / "metrics.csv")[0]["a"]))


def test_a_metric_tensor_that_is_changed_later_keeps_its_recorded_value(tmp_path: Path) -> None:
    class Counting(LoggingModel):
        def __init__(self) -> None:
            super().__init__()
            self.seen = torch.zeros(())

        def training_step(self, batch: torch.Tensor, batch_nb: int) -> Any:
            self.seen += 1
            return {"loss": self.loss_of(batch), "seen": self.seen}

    recorded(tmp_path, Counting(), val=0, max_nb_epochs=1).run()
    assert [row["values"]["seen"] for row in read_json_lines(tmp_path / "0" / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_the_log_has_header_warnings_log_records_and_the_end(tmp_path: Path) -> None:
    class Warning(LoggingModel):
        def on_epoch_end(self) -> None:
            warn("careful")
            logging.getLogger("fsmtrain").warning("of note")

    with pytest.warns(UserWarning, match="careful|patience"):
        recorded(tmp_path, Warning(), early_stop_callback=EarlyStopping(patience=9)).run()
    lines = [line.split("  ", 1)[1] for line in (tmp_path / "0" / "log.txt").read_text().splitlines()]
    assert lines[0].startswith("Warning: 2 parameters; SGD on cpu")
    assert any(line.startswith("warning: early_stop_callback: patience=9: ") for line in lines), "one from before the run"
    assert lines.count("warning: careful") == 2
    assert lines.count("warning: of note") == 2
    assert lines[-1].startswith("ended after 2 epochs, 12 batches, ")
    assert logs() == []


def test_the_log_has_every_validation_of_a_short_run(tmp_path: Path) -> None:
    recorded(tmp_path, max_nb_epochs=4).run()
    log = (tmp_path / "0" / "log.txt").read_text()
    assert log.count("validation (epoch ") == 8


def test_an_error_is_once_in_the_log_and_in_end_json_with_its_last_transitions(tmp_path: Path) -> None:
    class Failing(LoggingModel):
        def training_step(self, batch: torch.Tensor, batch_nb: int) -> Any:
            if batch_nb == 4:
                raise ValueError("no more")
            return super().training_step(batch, batch_nb)

    with pytest.raises(ValueError, match="no more"):
        recorded(tmp_path, Failing()).run()
    end = read_json(tmp_path / "0" / "end.json")
    assert end["reason"] == "error"
    assert (end["error"]["type"], end["error"]["message"], end["state"]) == ("ValueError", "no more", "train_batch")
    log = (tmp_path / "0" / "log.txt").read_text()
    assert log.count("the last transitions") == end["error"]["traceback"].count("the last transitions") == 1
    assert read_json_lines(tmp_path / "0" / "metrics.jsonl")[-1]["batch"] == 3


# ---- whether there is a folder


def test_runs_dir_none_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    machine = recorded(Path("unused"), runs_dir=None)
    machine.run()
    assert machine.run_dir is None
    assert machine.metric_queue is None
    assert list(tmp_path.iterdir()) == []


def test_a_trainer_records_its_fit_by_default_and_adds_its_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer, model = Trainer(max_nb_epochs=1, quiet=True, device="cpu"), LoggingModel()
    trainer.test(model, NumberedBatches(2))  # of nothing that was fitted
    assert list(tmp_path.iterdir()) == []
    trainer.fit(model, NumberedBatches(3))
    end = read_json(tmp_path / "runs" / "0" / "end.json")
    trainer.test(test_dataloaders=NumberedBatches(3))
    trainer.validate(val_dataloaders=NumberedBatches(5))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["0"]
    rows = read_json_lines(tmp_path / "runs" / "0" / "metrics.jsonl")
    assert [(row["kind"], row["values"]) for row in rows[3:]] == [("test", {"test_loss": 1.0}), ("validate", {"val_loss": 2.0})]
    assert [(row["epoch"], row["batch"], row["step"]) for row in rows[3:]] == [(0, 2, 3)] * 2
    assert [row["kind"] for row in read_csv(tmp_path / "runs" / "0" / "metrics.csv")] == [row["kind"] for row in rows]
    assert read_json(tmp_path / "runs" / "0" / "end.json") == end


def test_if_nothing_can_be_written_the_run_goes_on_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").write_text("a file")
    machine = recorded(tmp_path / "runs")
    assert machine.run().counters.epochs_done == 2
    assert machine.run_dir is None
    assert "The run continues." in capsys.readouterr().err


def test_a_disk_error_in_mid_run_ends_the_recording_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes, **more: bool) -> None:
        if path.name == "status.json":
            raise OSError("no space left")
        path.write_bytes(content)

    monkeypatch.setattr("fsmtrain.views.recording.run_folder.replace_file", full)
    assert recorded(tmp_path).run().counters.epochs_done == 2
    assert capsys.readouterr().err.count("no space left") == 1
    assert not writing()


def test_a_stream_and_a_run_that_is_advanced_by_hand_are_recorded_too(tmp_path: Path) -> None:
    from tests.models import Linear

    options = Options(max_nb_epochs=1, quiet=True, device="cpu", runs_dir=tmp_path)
    for _ in build(options, Linear(), train_dataloader=stream(10)):
        pass
    assert len(read_json_lines(tmp_path / "0" / "metrics.jsonl")) == 5
    assert read_json(tmp_path / "0" / "run.json")["plan"] is None


def test_a_machine_that_is_dropped_in_mid_run_is_collected_and_its_thread_ends(tmp_path: Path) -> None:
    machine = recorded(tmp_path)
    machine.advance()
    [thread] = writing()
    left = weakref.ref(machine)
    del machine
    gc.collect()
    thread.join(10)
    gc.collect()
    assert left() is None
    assert not writing()
    assert logs() == []


def test_a_program_may_change_its_working_directory_while_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Moving(LoggingModel):
        def on_epoch_start(self) -> None:
            os.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    machine = recorded(Path("runs"), Moving())
    machine.run()
    assert machine.run_dir == tmp_path / "runs" / "0"
    assert sorted(path.name for path in machine.run_dir.iterdir()) == FILES
    assert list((tmp_path / "elsewhere").iterdir()) == []


# ---- processes that do not end normally

SCRIPT = """
import sys, time, torch
sys.path[:0] = [{root!r}]
from fsmtrain import Options, build
from tests.views.recording.recorded_runs import LoggingModel, NumberedBatches

class Slow(LoggingModel):
    def training_step(self, batch, batch_nb):
        time.sleep(0.01)
        print(time.time(), batch_nb, flush=True)
        return super().training_step(batch, batch_nb)

options = Options(max_nb_epochs=1, quiet=True, device="cpu", runs_dir={runs!r})
machine = build(options, Slow(), train_dataloader=NumberedBatches(100_000))
{drive}
"""
ROOT = str(Path(__file__).parents[3])


@pytest.mark.slow
def test_a_process_that_is_killed_loses_at_most_the_last_second(tmp_path: Path) -> None:
    """Everything trained up to a second before the kill is there, in intact files."""
    script = SCRIPT.format(root=ROOT, runs=str(tmp_path), drive="machine.run()")
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    trained = []
    for line in process.stdout:
        trained.append(line)
        if len(trained) == 250:
            break
    killed_at = time.time()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    folder = tmp_path / "0"
    before = [int(line.split()[1]) for line in trained if float(line.split()[0]) < killed_at - 1.0]
    end = [row["batch"] for row in read_json_lines(folder / "metrics.jsonl")]
    assert end == list(range(len(end)))
    assert len(before) > 20
    assert end[-1] >= before[-1]
    assert {"state", "step", "states"} <= read_json(folder / "status.json").keys()
    assert read_json_lines(folder / "timeline.jsonl")
    assert len(read_csv(folder / "metrics.csv")) >= len(before)
    assert not (folder / "end.json").exists()
    assert read_json(folder / "run.json")["sizes"]["train"] == 100_000


@pytest.mark.slow
def test_a_run_not_finished_at_process_exit_is_recorded_to_its_last_batch(tmp_path: Path) -> None:
    drive = "for _ in range(60): machine.advance()"
    script = SCRIPT.format(root=ROOT, runs=str(tmp_path), drive=drive)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True)
    last = int(done.stdout.splitlines()[-1].split()[1])
    assert read_json_lines(tmp_path / "0" / "metrics.jsonl")[-1]["batch"] == last
    assert done.stderr == ""


# ---- loggers


class Collecting:
    """A logger that keeps its calls, and raises at a given one."""

    def __init__(self, fails_at: int = -1) -> None:
        self.calls: list[tuple[dict[str, float], int]] = []
        self.fails_at, self.closed = fails_at, 0

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if len(self.calls) == self.fails_at:
            raise RuntimeError("the server is gone")
        self.calls.append((metrics, step))

    def close(self) -> None:
        self.closed += 1


def test_loggers_get_floats_and_steps_in_order_before_the_run_returns(tmp_path: Path) -> None:
    first, second = Collecting(), Collecting()
    recorded(tmp_path, runs_dir=None, logger=[first, second], test=3).run()
    assert first.calls == second.calls
    assert first.calls[0] == ({"loss": 0.0, "twice": 0.0, "lr": 0.5}, 0)
    assert ({"val_loss": 0.5}, 3) in first.calls
    assert first.calls[-1] == ({"test_loss": 1.0}, 12)
    assert [step for _, step in first.calls] == sorted(step for _, step in first.calls)
    assert all(type(value) is float for metrics, _ in first.calls for value in metrics.values())
    assert (first.closed, second.closed) == (1, 1)


def test_a_logger_that_raises_is_reported_once_and_disturbs_neither_the_run_nor_other_loggers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = Collecting(fails_at=2), Collecting()
    recorded(tmp_path, logger=(bad, good)).run()
    assert len(bad.calls) == 2
    assert len(good.calls) == 16
    assert capsys.readouterr().err.count("the server is gone") == 1
    assert "warning: the logger Collecting raised in log_metrics and is disabled" in (tmp_path / "0" / "log.txt").read_text()
    assert (bad.closed, good.closed) == (0, 1)


def test_loggers_get_the_metrics_of_a_test_without_fit(tmp_path: Path) -> None:
    logger = Collecting()
    Trainer(quiet=True, device="cpu", runs_dir=tmp_path, logger=logger).test(LoggingModel(), NumberedBatches(3))
    assert logger.calls == [({"test_loss": 1.0}, 0)]
    assert list(tmp_path.iterdir()) == []
