"""Which run ``resume="auto"`` continues: find the newest resumable run, and lock its folder.

``"auto"`` is for a command that is started again after it was killed. It means the newest run with a checkpoint that the same
command started: the same program with the same arguments (except ``--resume`` and what only changes the output), the same
``run_name``, a model of the same class. So the jobs of a sweep, which share a folder of runs, do not resume each other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.errors import UsageError
from fsmtrain.options import Options
from fsmtrain.runtime.checkpointing.checkpoint_folder import FOLDER, has_checkpoints
from fsmtrain.views.recording.files.json_files import read_json
from fsmtrain.views.recording.folder_lock import FolderLock, lock_folder
from fsmtrain.views.recording.folder_names import runs_newest_first
from fsmtrain.views.recording.run_metadata import comparable_command


@frozen
class LockedRun:
    """A run folder, locked so that the run can continue in it."""

    folder: Path
    lock: FolderLock

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints."""
        return self.folder / FOLDER


def is_run_folder(path: Path) -> bool:
    """Return whether a path is a run folder."""
    return (path / "run.json").is_file()


def lock_run(folder: Path) -> LockedRun:
    """Lock the folder of a run in order to continue it.

    Raises:
        UsageError: The run is running, or the folder is not writable.
    """
    lock = _try_lock(folder)
    if lock is None:
        raise UsageError(
            f"{folder}: this run is still running, in this process or another one. Stop it first, or resume from "
            f"{folder / FOLDER}: that starts a new run from its newest checkpoint."
        )
    return LockedRun(folder, lock)


def _try_lock(folder: Path) -> FolderLock | None:
    try:
        return lock_folder(folder)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot continue this run, since its folder is not writable: {error.strerror or error}. To start a new "
            f"run from its newest checkpoint, resume from {folder / FOLDER}."
        ) from error


def finished_reason(folder: Path) -> str:
    """Return why a run finished; an empty string if it was stopped, failed, was killed, or is running."""
    end = read_json(folder / "end.json")
    return str(end.get("sentence", "")) if end.get("state") == State.DONE.value else ""


def find_resumable(options: Options, model: object) -> tuple[LockedRun | None, list[str]]:
    """Find and lock the run that ``"auto"`` means.

    Returns:
        The run, or None if there is none; and why each newer candidate was skipped.
    """
    skipped: list[str] = []
    for folder, is_same_command in _candidates(options, model):
        if not is_same_command:
            skipped = skipped or [f"{folder} was started by another command; resume_from {folder} continues it"]
            continue
        lock = _try_lock(folder)
        if lock is not None:
            return LockedRun(folder, lock), skipped
        skipped.append(f"{folder} is still running, and was skipped")
    return None, skipped


def _candidates(options: Options, model: object) -> Iterator[tuple[Path, bool]]:
    """Yield runs of this name and model class, newest first, and whether this command started them."""
    assert options.runs_dir is not None
    command, model_class = comparable_command(sys.argv), type(model).__qualname__
    for folder in runs_newest_first(Path(options.runs_dir)):
        if not _name_matches(folder.name, options.run_name) or not has_checkpoints(folder / FOLDER):
            continue
        run = read_json(folder / "run.json")
        if (run.get("model") or {}).get("class") == model_class:
            yield folder, comparable_command(run.get("command") or []) == command


def _name_matches(folder_name: str, run_name: str | None) -> bool:
    """Return whether a run with this name, or an unnamed one, may have this folder name."""
    if run_name is None:
        return folder_name.isascii() and folder_name.isdecimal()
    return re.fullmatch(rf"{re.escape(run_name)}(-\d+)?", folder_name) is not None
