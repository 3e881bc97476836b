"""The folder of a resumed run equals that of an uninterrupted one; and which run ``"auto"`` means."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from fsmtrain import Guards, Machine, ModelCheckpoint, Options, State, Trainer, build, every_n_batches
from fsmtrain.errors import CheckpointError, ResumeError, UsageError
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.views.recording.files.log_txt import LogFile
from fsmtrain.views.recording.folder_lock import lock_folder
from fsmtrain.views.recording.read_run_folder import find_run_folder
from tests.models import Linear, batches
from tests.resuming.test_kill_matrix import ROOT
from tests.resuming.test_resuming import StopAt
from tests.views.recording.recorded_runs import LoggingModel, NumberedBatches, read_csv, read_json, read_json_lines
from tests.views.recording.report.reported_runs import read_page


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def machine(model: Any = None, callbacks: Any = (), *, save: Any = None, **flags: Any) -> Machine:
    """A run of 3 epochs of 10 batches with 2 checks each that is recorded, and saved after every fourth batch."""
    torch.manual_seed(0)
    given = {"max_nb_epochs": 3, "quiet": True, "device": "cpu", "val_check_interval": 5, **flags}
    saving = {"guards": Guards(save=every_n_batches(4))} if save is None else {"callbacks": [save, *callbacks]}
    loaders: dict[str, Any] = {"train_dataloader": NumberedBatches(10), "val_dataloaders": NumberedBatches(2)}
    return build(Options(**given), model or LoggingModel(), **{"callbacks": callbacks, **saving}, **loaders)


def stopped(n: int = 60, model: Any = None, **more: Any) -> Machine:
    """The same, stopped after so many transitions."""
    one = machine(model, [StopAt(n)], **more)
    one.run()
    assert one.state is State.STOPPED
    return one


def comparable_contents(folder: Path) -> dict[str, Any]:
    """Return the contents of a run folder without times, which differ between equal runs."""
    ended = read_json(folder / "end.json")
    return {
        "rows": [{k: v for k, v in row.items() if k != "time"} for row in read_json_lines(folder / "metrics.jsonl")],
        "table": [{k: v for k, v in row.items() if k != "time"} for row in read_csv(folder / "metrics.csv")],
        "visits": {state: visits for state, (visits, _) in ended["states"].items()},
        "row_counts": ended["row_counts"],
        **{name: ended[name] for name in ("reason", "metrics", "step", "batches", "validations", "optimizer_steps", "windows")},
    }


# ---- the folder of a resumed run


KILLED = """
import os, signal, time
from fsmtrain import Callback
from tests.resuming.test_run_folder import machine

class Bomb(Callback):
    batches = 0
    def on_batch_end(self, machine):
        self.batches += 1
        if self.batches == int(os.environ["KILLED_AFTER"]):
            machine._checkpoints._writer.wait()
            machine._recorder.flush()
            time.sleep(0.5)  # until rows that are newer than the checkpoint are written
            machine._recorder.flush()
            os.kill(os.getpid(), signal.SIGKILL)

one = machine(callbacks=[Bomb()])
came = one.resume_from("auto")
print(came and came.name, flush=True)
one.run()
"""


def killed_after(batches: int, folder: Path) -> str:
    """Resume or start the run in a process that kills itself after this many batches; return the checkpoint it resumed from."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KILLED_AFTER": str(batches)}
    command = [sys.executable, "-W", "ignore", "-c", KILLED]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == (-signal.SIGKILL if batches < 1000 else 0), done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_the_folder_of_a_run_killed_twice_equals_that_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """Rows after the checkpoint are removed and recorded again; totals continue; each process writes to the same folder."""
    (tmp_path / "killed").mkdir()
    assert [killed_after(n, tmp_path / "killed") for n in (7, 12, 1000)] == ["None", "000000", "000002"]
    assert os.listdir(tmp_path / "killed" / "runs") == ["0"]
    folder = tmp_path / "killed" / "runs" / "0"
    machine().run()
    whole = comparable_contents(Path("runs/0"))
    assert comparable_contents(folder) == whole
    assert len(whole["rows"]) == 36  # 30 batches and 6 checks

    lines = read_json_lines(folder / "timeline.jsonl")
    for values in ([x["time"] for x in lines], [x["batches"] for x in lines], [x["states"]["fetch"][0] for x in lines]):
        assert values == sorted(values)
    times = [row["time"] for row in read_json_lines(folder / "metrics.jsonl")]
    assert times == sorted(times)
    end, run = read_json(folder / "end.json"), read_json(folder / "run.json")
    assert lines[-1]["time"] == end["wall_seconds"] >= sum(seconds for _, seconds in end["states"].values())
    assert [(came["checkpoint"], came["step"]) for came in run["resumed"]] == [
        ("checkpoints/000000", 4),
        ("checkpoints/000002", 14),
    ]
    entered, left = [0] * 20, [0] * 20
    table_ = read_json(folder / "table.json")
    states = table_["states"]
    for row, count in zip(table_["rows"], end["row_counts"], strict=True):
        entered[states.index(row["to"])] += count
        left[states.index(row["source"])] += count
    for index, state in enumerate(states):  # each state was left as often as it was entered, and visited so often
        assert state in ("start", "done") or entered[index] == left[index] == end["states"].get(state, [0])[0], state

    shown = read_page(folder)
    assert shown.wrong == []
    assert "from checkpoints/000002, epoch 1, batch 3, step 14" in shown.text
    assert "As planned: 30 steps, 6 validations" in shown.text
    log = (folder / "log.txt").read_text()
    assert "resumed from checkpoints/000000 (epoch 0, batch 3, step 4)" in log
    assert "removed 3 rows of metrics newer than that checkpoint" in log or "removed 4 rows of metrics" in log


@pytest.mark.parametrize("n", [3, 21, 34, 55, 89])
def test_the_folder_of_a_run_stopped_anywhere_equals_that_of_an_uninterrupted_run(n: int) -> None:
    folder = stopped(n, run_name="stopped").run_dir
    assert folder is not None
    before = read_json(folder / "run.json")
    one = machine(run_name="stopped")
    one.resume(folder)
    assert one.run_dir == folder
    one.run()
    machine(run_name="whole").run()
    assert comparable_contents(folder) == comparable_contents(Path("runs/whole"))
    after = read_json(folder / "run.json")
    assert after.pop("sequence") > before.pop("sequence")
    assert {**after, "plan": 0, "resumed": 0} == {**before, "plan": 0, "resumed": 0}


def test_a_line_cut_by_the_kill_is_left_out() -> None:
    folder = stopped().run_dir
    assert folder is not None
    (folder / "end.json").unlink()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind":"train","time":0.0')
    one = machine()
    one.resume()
    one.run()
    assert len(read_json_lines(folder / "metrics.jsonl")) == 36


def test_a_checkpoint_without_record_position_trims_nothing() -> None:
    folder = stopped().run_dir
    assert folder is not None
    tree = Store(folder / "checkpoints").load_newest().tree  # type: ignore[union-attr]
    Store(folder / "checkpoints").save(tree, {"batches_begun": 1})
    before = (folder / "metrics.jsonl").read_bytes()
    one = machine()
    one.resume()
    one.run()
    assert one.run_dir not in (None, folder)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_reopened_ends_the_recording_and_not_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    folder = stopped().run_dir
    assert folder is not None
    (folder / "timeline.jsonl").unlink()
    (folder / "timeline.jsonl").mkdir()
    one = machine()
    one.resume()
    assert one.run().counters.epochs_done == 3
    assert "timeline.jsonl" in capsys.readouterr().err
    assert one.checkpoints == folder / "checkpoints"
    assert not any(isinstance(handler, LogFile) for handler in logging.getLogger("fsmtrain").handlers)


def test_resuming_in_an_unwritable_folder_is_an_error() -> None:
    folder = stopped().run_dir
    assert folder is not None
    (folder / ".lock").unlink()
    (folder / ".lock").mkdir()
    for where in (None, folder):
        with pytest.raises(UsageError, match="cannot continue this run, since its folder is not writable: Is a directory"):
            machine().resume(where)


@pytest.mark.filterwarnings("ignore::fsmtrain.FsmtrainWarning")
@pytest.mark.parametrize("by", ["resume", "resume_from", "auto", "trainer"])
def test_what_is_warned_while_resuming_is_in_the_log_once(by: str) -> None:
    folder = stopped(run_name="named").run_dir
    assert folder is not None
    if by == "trainer":
        guards = Guards(save=every_n_batches(4))
        flags: dict[str, Any] = {"max_nb_epochs": 4, "val_check_interval": 5, "run_name": "named", "device": "cpu"}
        trainer = Trainer(resume=folder, quiet=True, guards=guards, **flags)
        trainer.fit(LoggingModel(), NumberedBatches(10), NumberedBatches(2))
    else:
        one = machine(max_nb_epochs=4, run_name="named")
        if by == "resume":
            one.resume(folder)
        else:
            one.resume_from("auto" if by == "auto" else folder)
        one.run()
    log = (folder / "log.txt").read_text()
    assert log.count("warning: the run is resumed with differences: max_nb_epochs=4, checkpoint has 3.") == 1


def test_until_it_ends_again_a_resumed_run_has_not_ended() -> None:
    folder = stopped().run_dir
    assert folder is not None
    assert read_json(folder / "end.json")["reason"] == "requested"
    one = machine()
    one.resume()
    one.advance()
    assert not (folder / "end.json").exists()
    one.run()
    assert read_json(folder / "end.json")["reason"] == "max_epochs"


# ---- where checkpoints are


def test_checkpoints_are_in_the_runs_folder_and_those_of_each_run_are_its_own() -> None:
    for number in ("0", "1"):
        one = machine(save=ModelCheckpoint())
        one.run()
        assert one.run_dir is not None
        assert one.checkpoints == one.run_dir / "checkpoints" == Path("runs", number, "checkpoints").absolute()
        assert len(Store(one.checkpoints).numbers()) == 1
    assert os.listdir() == ["runs"]


def test_with_dirpath_the_run_folder_is_continued_too() -> None:
    rule = ModelCheckpoint(every_n_steps=4, dirpath="elsewhere")
    folder = stopped(save=rule).run_dir
    assert folder is not None
    assert not (folder / "checkpoints").exists()
    one = machine(save=rule)
    assert one.resume_from("auto") is not None
    assert one.run_dir == folder
    one.run()
    assert len(read_json_lines(folder / "metrics.jsonl")) == 36


def test_an_unrecorded_run_saves_in_the_working_directory() -> None:
    stopped(runs_dir=None)
    assert os.listdir() == ["checkpoints"]
    one = machine(runs_dir=None)
    assert one.resume_from("auto") is not None


def test_an_unrecorded_run_can_be_recorded_from_its_checkpoint_on() -> None:
    stopped(runs_dir=None)
    one = machine()
    one.resume("checkpoints")
    one.run()
    [came] = read_json(Path("runs/0/run.json"))["resumed"]
    assert came["checkpoint"].startswith("../../checkpoints/")
    first = read_json_lines(Path("runs/0/metrics.jsonl"))[0]
    assert (first["epoch"], first["step"]) == (came["epoch"], came["step"])


# ---- which run goes on


def test_resuming_from_a_checkpoint_starts_a_new_run() -> None:
    folder = stopped().run_dir
    assert folder is not None
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for where in (folder / "checkpoints", Store(folder / "checkpoints").load_newest().path):  # type: ignore[union-attr]
        one = machine()
        one.resume(where)
        one.run()
        assert one.run_dir not in (None, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def auto(**more: Any) -> str | None:
    """The folder of the run that ``"auto"`` means; None where it begins anew."""
    one = machine(**more)
    came = one.resume_from("auto")
    assert one._recorder is not None
    if one._recorder._lock_on_folder is not None:
        one._recorder._lock_on_folder.release()
    return None if came is None else came.parents[1].name


def test_auto_means_the_newest_run_with_a_checkpoint() -> None:
    assert auto() is None
    stopped()
    stopped()
    stopped(3)
    shutil.rmtree("runs/2/checkpoints")  # nothing of it was saved
    assert auto() == "1"


def test_the_newest_run_is_the_one_resumed_last_whatever_the_times_of_files_and_the_clock_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped()
    stopped()
    one = machine(callbacks=[StopAt(80)])
    one.resume("runs/0")
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)  # the clock is set back, to 2001
    one.run()
    assert one.state is State.STOPPED
    for number, seconds in (("0", 1e9), ("1", 9e9)):  # as cp -r, and rsync without -t, may leave them
        os.utime(f"runs/{number}/run.json", (seconds, seconds))
        os.utime(f"runs/{number}", (seconds, seconds))
    assert auto() == "0"
    assert find_run_folder(None, Path("runs")) == Path("runs/0")
    shutil.copytree("runs", "copy")
    assert auto(runs_dir="copy") == "0"


def test_auto_skips_runs_of_another_command_name_or_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped()
    stopped(run_name="fold.1")
    assert (auto(), auto(run_name="fold.1"), auto(run_name="fold-1"), auto(run_name="fold")) == ("0", "fold.1", None, None)

    class Other(LoggingModel):
        pass

    assert auto(model=Other()) is None
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--resume", "--quiet"])
    assert auto() == "0"
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--fold", "2"])
    capsys.readouterr()
    assert auto(quiet=False) is None
    said = capsys.readouterr().err
    assert "runs/0, begun by another command, was not finished: machine.resume('runs/0') continues it; a new run begins" in said


def test_resuming_a_finished_run_is_a_warning() -> None:
    machine().run()
    with pytest.warns(UserWarning, match="has already ended: all epochs are done"):
        assert auto() == "0"
    with pytest.warns(UserWarning, match="max_nb_epochs=5, checkpoint has 3"):
        assert auto(max_nb_epochs=5) == "0"


def test_a_run_with_only_damaged_checkpoints_is_an_error_and_not_skipped() -> None:
    stopped()
    stopped()
    for path in Path("runs/1/checkpoints").glob("*/state.json"):
        path.write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=r"none of the \d checkpoints can be loaded"):
        auto()
    assert lock_folder(Path("runs/1")) is not None  # it is let go


def test_a_demanded_checkpoint_that_is_missing_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint in runs of a run that this command began"):
        machine().resume()
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        machine().resume("nowhere")


def test_resume_strict_false_turns_a_resume_error_into_a_warning() -> None:
    def trainer(**more: Any) -> Trainer:
        torch.manual_seed(0)
        given = {"max_nb_epochs": 2, "quiet": True, "device": "cpu", "callbacks": [ModelCheckpoint(every_n_steps=2)], **more}
        return Trainer(resume="auto", **given)

    trainer().fit(Linear(), batches(8))
    refused = r"accumulate_grad_batches=2, checkpoint has 1\. Use the saved value, or pass resume_strict=False\."
    with pytest.raises(ResumeError, match=refused):
        trainer(accumulate_grad_batches=2).fit(Linear(), batches(8))
    with pytest.warns(UserWarning, match="accumulate_grad_batches=2, checkpoint has 1"):
        trainer(accumulate_grad_batches=2, resume_strict=False).fit(Linear(), batches(8))
    assert len(read_json(Path("runs/0/run.json"))["resumed"]) == 1


def test_display_and_recording_flags_may_differ_on_resume(recwarn: pytest.WarningsRecorder) -> None:
    stopped(runs_dir=None)

    class Logger:
        def log_metrics(self, metrics: Any, step: int) -> None: ...

    other = machine(quiet=False, progress_bar=False, run_name="a", logger=Logger())
    other.resume("checkpoints")
    assert not [warning for warning in recwarn if "differences" in str(warning.message)]


# ---- two at once


def test_a_running_run_is_skipped_by_auto_and_an_error_if_named(capsys: pytest.CaptureFixture[str]) -> None:
    stopped()
    first, second = machine(), machine(quiet=False)
    first.resume()
    assert second.resume_from("auto") is None
    said = capsys.readouterr().err
    assert "this command has no run to resume in runs; runs/0 is still running, and was skipped; a new run begins" in said
    with pytest.raises(UsageError, match="runs/0: this run is still running"):
        second.resume("runs/0")
    first.run()
    assert second.resume("runs/0").parent == Path("runs/0/checkpoints")


UPLOADING = """
import shutil, sys, tempfile
from torch.utils.data import DataLoader
from fsmtrain import Callback, ModelCheckpoint, Trainer
from tests.models import Linear, batches

class Uploader(Callback):
    def on_batch_end(self, machine):
        with tempfile.TemporaryDirectory() as elsewhere:
            shutil.copytree(machine.run_dir, elsewhere + "/copy")
        if machine.global_step == 3:
            machine._checkpoints._writer.wait()
            print("uploaded", flush=True)
            sys.stdin.read()

loader = DataLoader(batches(100).dataset, num_workers=1, multiprocessing_context="fork")
trainer = Trainer(quiet=True, device="cpu", callbacks=[Uploader(), ModelCheckpoint(every_n_steps=1)], max_nb_epochs=1)
trainer.fit(Linear(), loader)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no locks")
def test_a_run_with_forked_workers_and_an_uploader_keeps_its_lock_until_it_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", UPLOADING]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(command, env=environment, **pipes)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "uploaded\n"
        assert lock_folder(tmp_path / "runs" / "0") is None
        process.kill()  # its worker lives on for some seconds
        process.wait()
        lock = lock_folder(tmp_path / "runs" / "0")
        assert lock is not None
        lock.release()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
