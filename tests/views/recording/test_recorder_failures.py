"""A record that fails in mid-run is reported on the terminal, once, and the run goes on; what was written stays readable."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsmtrain import Callback, Trainer
from fsmtrain.user_warnings import warn
from fsmtrain.views.recording.files import json_files
from fsmtrain.views.recording.read_run_folder import read_run_folder
from fsmtrain.views.recording.run_folder import RunFolder
from tests.views.recording.recorded_runs import LoggingModel, NumberedBatches, read_json_lines
from tests.views.recording.test_recorder import recorded, writing


class After(Callback):
    """Does something after the third batch, when the folder is there."""

    def __init__(self, act: Callable[[Path], object]) -> None:
        self.act, self.batches = act, 0

    def on_batch_end(self, machine: Any) -> None:
        self.batches += 1
        if self.batches == 3:
            machine._recorder.flush()
            self.act(machine.run_dir)


def moved(folder: Path) -> None:
    """Move the folder away."""
    folder.rename(folder.parent / "elsewhere")


def removed(folder: Path) -> None:
    """Remove the folder."""
    shutil.rmtree(folder)


def limited(folder: Path) -> None:
    """Let no file grow further than half a row beyond what there is."""
    size = (folder / "metrics.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))


@pytest.fixture
def _no_limit() -> Iterator[None]:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.usefixtures("_no_limit")
@pytest.mark.parametrize("fail", [moved, removed, limited])
def test_a_record_that_fails_in_mid_run_is_reported_once_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fail: Callable[[Path], object]
) -> None:
    """Whatever handlers `logging` has, and whatever filters `warnings`; ``quiet`` is on."""
    package = logging.getLogger("fsmtrain")
    package.addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings(action="ignore"):
            machine = recorded(tmp_path, train=20, callbacks=[After(fail)])
            assert machine.run().counters.epochs_done == 2
    finally:
        package.removeHandler(package.handlers[-1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    printed = capsys.readouterr().err
    assert printed.startswith(f"warning: recording in {tmp_path}/0 stopped, since it cannot be written: ")
    assert printed.count("\n") == 1
    assert not writing()


@pytest.mark.usefixtures("_no_limit")
def test_after_half_a_line_a_test_is_recorded_and_readers_find_whole_rows(tmp_path: Path) -> None:
    trainer = Trainer(max_nb_epochs=2, quiet=True, device="cpu", runs_dir=tmp_path, callbacks=[After(limited)])
    trainer.fit(LoggingModel(), NumberedBatches(20), val_dataloaders=NumberedBatches(2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert trainer.test(test_dataloaders=NumberedBatches(3)) == {"test_loss": 1.0}
    rows = read_json_lines(tmp_path / "0" / "metrics.jsonl")
    assert rows[0]["values"] == {"loss": 0.0, "twice": 0.0}
    assert (rows[-1]["kind"], rows[-1]["step"]) == ("test", 40)
    assert read_run_folder(tmp_path / "0").metrics == rows


LINES = [b'{"kind":"train","ti', b"\xff\xfe\n", b"{}\n", b"[]\n", b'{"kind":"train","values":{},"step":"x"}\n', b"\0" * 100]


@pytest.mark.parametrize("line", LINES)
def test_a_damaged_line_harms_no_later_test(tmp_path: Path, line: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(max_nb_epochs=1, quiet=True, device="cpu", runs_dir=tmp_path)
    trainer.fit(LoggingModel(), NumberedBatches(3), val_dataloaders=NumberedBatches(2))
    with (tmp_path / "0" / "metrics.jsonl").open("ab") as file:
        file.write(line)
    trainer.test(test_dataloaders=NumberedBatches(3))
    rows = read_run_folder(tmp_path / "0").metrics
    assert [row["kind"] for row in rows] == ["train", "train", "validation", "train", "test"]
    assert capfd.readouterr().err == ""


def test_a_folder_that_could_not_be_written_is_not_touched_once_it_is_closed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder._metrics._csv_is_stale = True
    folder.close()
    before = file_numbers(tmp_path)
    folder._metrics._csv_is_stale = True  # as after an update that failed
    folder.close()
    assert file_numbers(tmp_path) == before


def file_numbers(folder: Path) -> dict[str, int]:
    """Return the number of each file, which a replaced one changes."""
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv", "timeline.jsonl", "log.txt"])
def test_whichever_file_fails_it_is_reported_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    write, is_full = json_files.AppendFile.append, False

    def append(file: json_files.AppendFile, content: bytes) -> None:
        if is_full and file.path.name == name:
            raise OSError(code, os.strerror(code))
        write(file, content)

    def fail(folder: Path) -> None:
        nonlocal is_full
        is_full = True
        with warnings.catch_warnings(action="ignore"):
            warn("something else, which goes into the log")

    monkeypatch.setattr(json_files.AppendFile, "append", append)
    monkeypatch.setattr(json_files.AppendFile, "replace", lambda file, content: append(file, content))
    assert recorded(tmp_path, callbacks=[After(fail)]).run().counters.epochs_done == 2
    printed = capfd.readouterr().err
    assert printed.count(os.strerror(code)) == 1
    assert printed.count("\n") == 1
