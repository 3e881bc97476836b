"""A run goes on only in the folder that lists its checkpoints; a damaged ``run.json`` beside checkpoints stops a resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fsmtrain import Machine, ModelCheckpoint
from fsmtrain.errors import CheckpointError
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from tests.resuming.test_kill_matrix import ROOT
from tests.resuming.test_run_folder import machine, stopped
from tests.views.recording.recorded_runs import read_json, read_json_lines


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def outside(folder: str = "outside") -> ModelCheckpoint:
    """Checkpoints in a folder that is not in the run's."""
    return ModelCheckpoint(every_n_steps=4, dirpath=folder, save_top_k=-1)


def files(folder: str) -> dict[str, bytes]:
    """Return the files of a run folder, but not its checkpoints."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def resumed(where: str = "auto", **more: Any) -> Machine:
    """A run that has resumed and ended."""
    one = machine(**more)
    assert one.resume_from(where) is not None
    one.run()
    return one


def new_run(where: str, match: str, **more: Any) -> None:
    """Resume, and assert that a new run has begun and that run 0 is as before."""
    before = files("runs/0")
    with pytest.warns(UserWarning, match=match):
        one = resumed(where, **more)
    assert one.run_dir == Path("runs/1").absolute()
    assert files("runs/0") == before


# ---- one folder, one run


@pytest.mark.parametrize("where", ["auto", "runs/0", "outside"])
def test_a_run_with_a_dirpath_goes_on_in_the_folder_that_lists_it(where: str) -> None:
    stopped(save=outside())
    assert read_json(Path("runs/0/run.json"))["checkpoint_folders"] == [str(Path("outside").absolute())]
    assert resumed(where, save=outside()).run_dir == Path("runs/0").absolute()
    assert os.listdir("runs") == ["0"]
    assert len(read_json_lines(Path("runs/0/metrics.jsonl"))) == 36


def test_a_run_lists_all_folders_that_its_checkpoints_were_ever_saved_to() -> None:
    """And the newest of them all is loaded, whichever folder it is in."""
    stopped(40, save=outside("a"))
    stopped_again = machine(save=outside("b"), max_nb_epochs=2)
    assert stopped_again.resume_from("runs/0").parent == Path("a").absolute()  # type: ignore[union-attr]
    stopped_again.run()
    a, b = str(Path("a").absolute()), str(Path("b").absolute())
    assert read_json(Path("runs/0/run.json"))["checkpoint_folders"] == [b, a]
    third = machine(save=outside("a"))
    assert third.resume("runs/0").parent == Path(b)
    third.run()
    assert read_json(Path("runs/0/run.json"))["checkpoint_folders"] == [a, b]
    assert machine(save=outside("b")).resume("runs/0").parent == Path(a)
    assert len(read_json_lines(Path("runs/0/metrics.jsonl"))) == 36


def test_copied_checkpoints_begin_a_run_of_their_own() -> None:
    stopped(save=outside())
    shutil.copytree("outside", "copy")
    new_run("auto", "does not list .*copy", save=outside("copy"))


def test_checkpoints_that_are_copied_into_another_runs_folder_are_skipped() -> None:
    stopped()
    stopped(90)
    newest = Store("runs/1/checkpoints").numbers()[-1]
    shutil.copytree(f"runs/1/checkpoints/{newest:06d}", "runs/0/checkpoints/000099")
    one = machine()
    with pytest.warns(UserWarning, match="000099: it is of another run"):
        assert one.resume("runs/0").name != "000099"
    one.run()
    assert one.run_dir == Path("runs/0").absolute()


def test_a_folder_with_only_another_runs_checkpoints_is_not_continued() -> None:
    stopped(3)
    stopped()
    shutil.rmtree("runs/0/checkpoints", ignore_errors=True)
    shutil.copytree("runs/1/checkpoints", "runs/0/checkpoints")
    before = [files("runs/0"), files("runs/1")]
    with pytest.warns(UserWarning, match="is of another run than runs/0"):
        one = resumed("runs/0")
    assert one.run_dir == Path("runs/2").absolute()
    assert [files("runs/0"), files("runs/1")] == before


def forge(changes: dict[str, Any]) -> None:
    """Save a checkpoint in ``forged`` whose manifest has another record."""
    loaded = Store("outside").load_newest()
    assert loaded is not None
    record = loaded.metadata["record"]
    Store("forged").save(loaded.tree, {**loaded.metadata, "record": {**record, **changes}})


@pytest.mark.parametrize("names_the_run", [True, False])
def test_a_forged_manifest_changes_nothing_in_the_folder_that_it_names(names_the_run: bool) -> None:
    stopped()
    stopped(save=outside())
    shutil.rmtree("runs/1")
    run_id = read_json(Path("runs/0/run.json"))["id"]
    forge({"folder": str(Path("runs/0").absolute()), "metric_seconds": 0.0, **({"run": run_id} if names_the_run else {})})
    new_run("auto", "does not list", save=outside("forged"))


@pytest.mark.parametrize("folder", ["/", "/dev/null", "relative", "a\0b", 3, None, "/" + "x" * 5000, "\ud800"])
def test_a_manifest_that_names_no_folder_of_a_run_begins_one(folder: Any, recwarn: pytest.WarningsRecorder) -> None:
    stopped(save=outside())
    forge({"folder": folder})
    assert resumed(save=outside("forged")).run_dir == Path("runs/1").absolute()


def test_a_copied_run_folder_is_a_run_of_its_own() -> None:
    """Its checkpoints were copied with it; the first folder stays as it is."""
    stopped()
    shutil.copytree("runs/0", "runs/7")
    before = files("runs/0")
    assert resumed("runs/7").run_dir == Path("runs/7").absolute()
    assert files("runs/0") == before
    assert len(read_json_lines(Path("runs/7/metrics.jsonl"))) == 36


def test_a_copied_run_folder_does_not_share_checkpoints_that_were_not_copied() -> None:
    stopped(save=outside())
    shutil.copytree("runs/0", "runs/7")
    before = [files("runs/0"), files("runs/7")]
    with pytest.warns(UserWarning, match="is of another run than runs/7"):
        assert resumed("runs/7", save=outside("other")).run_dir == Path("runs/8").absolute()
    assert [files("runs/0"), files("runs/7")] == before


def test_a_moved_run_goes_on_where_it_is() -> None:
    stopped()
    stopped(save=outside())
    os.rename("runs", "archive")
    assert resumed("archive/0").run_dir == Path("archive/0").absolute()
    assert resumed("archive/1", save=outside()).run_dir == Path("archive/1").absolute()


def test_a_dirpath_is_absolute_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = ModelCheckpoint(every_n_steps=4, dirpath="outside")
    assert rule.dirpath == str(tmp_path / "outside")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    stopped(save=rule)
    assert Store(tmp_path / "outside").numbers()
    assert os.listdir() == ["runs"]


def test_checkpoints_of_a_run_that_is_not_recorded_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machine(runs_dir=None)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    one.run()
    assert Store(tmp_path / "checkpoints").numbers()
    assert os.listdir() == []


# ---- run.json is as durable as the checkpoints


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "missing": ("missing", Path.unlink),
    "empty": ("damaged", lambda path: path.write_bytes(b"")),
    "zeros": ("damaged", lambda path: path.write_bytes(bytes(path.stat().st_size))),
    "truncated": ("damaged", _truncate),
    "another object": ("damaged", lambda path: path.write_text('{"format": 1}')),
    "a list": ("damaged", lambda path: path.write_text("[1]")),
    "a folder": ("damaged", _make_folder),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("where", ["auto", "runs/0"])
def test_resuming_stops_if_run_json_is_missing_or_damaged_beside_checkpoints(name: str, where: str) -> None:
    """With `quiet`, as everywhere here. It would train from zero otherwise, or under another run's name."""
    stopped()
    what, damage = DAMAGE[name]
    damage(Path("runs/0/run.json"))
    before = sorted(os.listdir("runs/0"))
    with pytest.raises(CheckpointError, match=rf"runs/0: cannot continue this run, since its run\.json is {what}"):
        machine().resume_from(where)
    assert sorted(os.listdir("runs/0")) == before
    assert os.listdir("runs") == ["0"]
    one = machine()  # the way out
    one.resume("runs/0/checkpoints")
    one.run()
    assert one.run_dir == Path("runs/1").absolute()


@pytest.mark.parametrize("name", DAMAGE)
def test_resuming_stops_if_run_json_is_missing_or_damaged_and_the_checkpoints_are_elsewhere(name: str) -> None:
    stopped(save=outside())
    what, damage = DAMAGE[name]
    damage(Path("runs/0/run.json"))
    with pytest.raises(CheckpointError, match=rf"its run\.json is {what}.*resume from .*outside/\d+"):
        machine(save=outside()).resume_from("auto")
    newest = Store("outside").load_newest()
    assert newest is not None
    one = machine(save=outside())  # the way out
    one.resume(newest.path)
    one.run()
    assert one.run_dir == Path("runs/1").absolute()


def test_a_damaged_run_stops_auto_only_if_no_newer_run_is_meant() -> None:
    """How new it is says its newest checkpoint."""
    for _ in range(2):
        stopped()
    Path("runs/0/run.json").write_bytes(b"")
    assert resumed().run_dir == Path("runs/1").absolute()
    Path("runs/1/run.json").write_bytes(b"")
    with pytest.raises(CheckpointError, match="runs/1: cannot continue"):
        machine().resume_from("auto")


def test_a_damaged_folder_without_checkpoints_or_of_another_name_stops_nothing() -> None:
    stopped(run_name="other")
    Path("runs/other/run.json").unlink()
    Path("runs/5").mkdir()
    Path("runs/6").mkdir()
    Path("runs/6/run.json").write_bytes(b"")
    assert machine().resume_from("auto") is None


def test_runs_that_are_passed_over_are_named_with_quiet_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert machine().resume_from("auto") is None
    assert capsys.readouterr().err == ""
    stopped()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--fold", "2"])
    assert machine().resume_from("auto") is None
    assert "runs/0, begun by another command" in capsys.readouterr().err


DURABLE = """
import os
from tests.resuming.test_run_folder import machine

events = []
def spy(name, describe):
    original = getattr(os, name)
    def call(*arguments, **more):
        events.append((name, describe(*arguments)))
        return original(*arguments, **more)
    setattr(os, name, call)

def path_of(descriptor):
    return os.path.realpath(f"/proc/self/fd/{descriptor}")

spy("fsync", path_of)
spy("rename", lambda old, new: os.path.realpath(new))
spy("replace", lambda old, new: os.path.realpath(new))
machine().run()
here = os.getcwd()
for name, path in events:
    print(name, os.path.relpath(path, here))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_run_json_and_its_folders_are_flushed_before_the_first_checkpoint(tmp_path: Path) -> None:
    """The file, then its name; and the names of the folders above that were made for it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", DURABLE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    events = done.stdout.splitlines()
    renamed = events.index("replace runs/0/run.json")
    checkpoint = events.index("rename runs/0/checkpoints/000000")
    assert any(event.startswith("fsync runs/0/.run.json.") for event in events[:renamed])
    assert "fsync runs/0" in events[renamed:checkpoint]
    assert "fsync ." in events[:renamed]  # runs is in there
    assert "fsync runs" in events[:renamed]


KILLED = """
import os, signal
from fsmtrain import Callback, ModelCheckpoint
from tests.resuming.test_run_folder import machine

class Bomb(Callback):
    def on_batch_end(self, machine):
        if machine.counters.batches_begun == int(os.environ["KILLED_AFTER"]):
            machine._checkpoints._writer.wait()
            os.kill(os.getpid(), signal.SIGKILL)

one = machine(callbacks=[Bomb()], save=ModelCheckpoint(every_n_steps=4, dirpath="outside"))
one.resume_from("auto")
one.run()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_a_killed_run_with_a_dirpath_goes_on_in_its_folder_and_a_copy_of_its_checkpoints_does_not(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED]
    for batches in ("7", "16"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KILLED_AFTER": batches}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert os.listdir(tmp_path / "runs") == ["0"]
    shutil.copytree("outside", "copy")
    new_run("auto", "does not list", save=outside("copy"))
    assert resumed(save=outside()).run_dir == Path("runs/0").absolute()
    assert len(json.loads(Path("runs/0/run.json").read_bytes())["resumed"]) == 2


@pytest.mark.skipif(os.name == "nt", reason="there is no umask")
@pytest.mark.parametrize("umask", [0o027, 0o077, 0o002])
def test_all_files_and_folders_of_a_run_obey_the_umask(umask: int) -> None:
    before = os.umask(umask)
    try:
        one = machine()
        one.run()
        one.report("report.html")
    finally:
        os.umask(before)
    for path in [Path("report.html"), Path("runs"), *Path("runs").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path
