"""Which run a resume continues, and in which folder: at most one run goes on in a folder, and only with its own checkpoints.

A run folder lists, in its ``run.json``, all folders of the run's checkpoints, and has an id. A run goes on in a folder only if
the checkpoint is in one of those listed, and has the same id. What a checkpoint says about the folder of its run is a hint: a
copied or forged checkpoint begins a run of its own.

``"auto"`` is for a command that is started again after it was killed. It means the newest run with a checkpoint that the same
command started: the same program with the same arguments (except ``--resume`` and what only changes the output), the same
``run_name``, a model of the same class. So the jobs of a sweep, which share a folder of runs, do not resume each other.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.errors import CheckpointError, UsageError
from fsmtrain.model_name import model_name
from fsmtrain.options import Options
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpointing.checkpoint_folder import FOLDER, has_checkpoints
from fsmtrain.views.recording.files.json_files import read_json
from fsmtrain.views.recording.folder_lock import LOCK_FILE, FolderLock, is_locked, lock_folder
from fsmtrain.views.recording.list_runs import RUN_FILE, ListedRun, list_runs, read_run, valid_sequence
from fsmtrain.views.recording.run_metadata import comparable_command

RECORD = "record"  # in a checkpoint's metadata: where the run is recorded, which run it is, and the time that it had taken


@frozen
class LockedRun:
    """A run folder, locked so that the run can continue in it."""

    run: ListedRun
    lock: FolderLock

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.run.folder


# ---- one run


def find_run(folder: Path) -> ListedRun | None:
    """Return the run whose folder this is; None if it is not a run folder.

    Raises:
        CheckpointError: It has checkpoints, or is a run folder, but which run it is cannot be read.
    """
    run = read_run(folder)
    if run.is_intact:
        return run
    if os.path.lexists(folder / RUN_FILE) or (folder.is_dir() and has_checkpoints(folder / FOLDER)):
        raise _damaged(folder, folder / FOLDER)
    return None


def is_of_run(run: ListedRun, checkpoint: Path, metadata: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint is one of the checkpoints of a run.

    One that names no run, since recording had failed when it was saved, counts by its place.
    """
    if not any(_is_same(checkpoint.parent, folder) for folder in run.checkpoint_folders):
        return False
    record = record_of(metadata)
    run_id, where = record.get("run"), _recorded_in(record)
    if run_id is not None and run_id != run.run_id:
        return False
    if where is None or _is_same(where, run.folder) or _is_inside(checkpoint, run.folder):
        return True
    return run_id is None or read_run(where).run_id != run_id  # else `run.folder` is a copy of the folder named there


def find_run_of(checkpoint: Path, metadata: Mapping[str, Any]) -> ListedRun | None:
    """Return the run that goes on from a checkpoint in a folder of its own; None if that is a new run.

    Raises:
        CheckpointError: The folder of the run is there, but which run it is cannot be read.
    """
    where = _recorded_in(record_of(metadata))
    if where is None:
        return None
    run = read_run(where)
    if not run.is_intact and any(os.path.lexists(where / name) for name in (RUN_FILE, LOCK_FILE)):
        raise _damaged(where, checkpoint)
    return run if is_of_run(run, checkpoint, metadata) else None


def record_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says about the record of its run; empty if it was not recorded."""
    record = metadata.get(RECORD)
    return record if isinstance(record, dict) else {}


def lock_run(run: ListedRun) -> LockedRun:
    """Lock the folder of a run in order to continue it.

    Raises:
        UsageError: The run is running, or the folder is not writable.
    """
    lock = _try_lock(run)
    if lock is None:
        raise UsageError(
            f"{run.folder}: this run is still running, in this process or another one. Stop it first, or resume from "
            f"{_checkpoints(run)}: that starts a new run from its newest checkpoint."
        )
    return LockedRun(run, lock)


def finished_reason(folder: Path) -> str:
    """Return why a run finished; an empty string if it was stopped, failed, was killed, or is running."""
    end = read_json(folder / "end.json")
    return str(end.get("sentence", "")) if end.get("state") == State.DONE.value else ""


def _try_lock(run: ListedRun) -> FolderLock | None:
    try:
        return lock_folder(run.folder)
    except OSError as error:
        raise UsageError(
            f"{run.folder}: cannot continue this run, since its folder is not writable: {error.strerror or error}. To start a "
            f"new run from its newest checkpoint, resume from {_checkpoints(run)}."
        ) from error


def _checkpoints(run: ListedRun) -> Path:
    """Return the first folder of a run that has checkpoints."""
    folders = [*map(Path, run.checkpoint_folders), run.folder / FOLDER]
    return next((folder for folder in folders if has_checkpoints(folder)), folders[0])


def _damaged(folder: Path, checkpoint: Path) -> CheckpointError:
    what = "damaged" if os.path.lexists(folder / RUN_FILE) else "missing"
    return CheckpointError(
        f"{folder}: cannot continue this run, since its {RUN_FILE} is {what}. Nothing was trained. Restore that file; or "
        f"resume from {checkpoint}, which starts a new run from the newest checkpoint; or, to train from the beginning, move "
        f"the folder away."
    )


def _recorded_in(record: Mapping[str, Any]) -> Path | None:
    folder = record.get("folder")
    return Path(folder) if isinstance(folder, str) and os.path.isabs(folder) and "\0" not in folder else None


def _is_same(one: str | Path, other: str | Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


# ---- "auto"


def find_resumable(options: Options, model: object, spell: Callable[[Path], str]) -> tuple[LockedRun | None, list[str]]:
    """Find and lock the run that ``"auto"`` means.

    Args:
        options: The flags.
        model: The model.
        spell: Returns what resumes the run in a folder, in the spelling of the caller.

    Returns:
        The run, or None if there is none; and why each newer candidate was skipped.

    Raises:
        CheckpointError: The newest run has checkpoints, but which run it is cannot be read.
    """
    skipped: list[str] = []
    others: list[ListedRun] = []
    command, model_class = comparable_command(sys.argv), model_name(model)
    for run in _newest_first(options):
        if not run.is_intact:
            raise _damaged(run.folder, run.folder / FOLDER)
        is_same_command = comparable_command(run.command) == command
        if run.model_class != model_class:
            continue
        if not any(has_checkpoints(Path(folder)) for folder in run.checkpoint_folders):
            continue
        if not is_same_command:
            others.append(run)
            continue
        lock = _try_lock(run)
        if lock is not None:
            return LockedRun(run, lock), skipped
        skipped.append(f"{run.folder} is still running, and was skipped")
    return None, skipped or list(_of_other_commands(others, spell))


def _of_other_commands(runs: Sequence[ListedRun], spell: Callable[[Path], str]) -> Iterator[str]:
    """Yield how to continue the newest unfinished run of other commands; first the newest of all, if that one has ended."""
    for run in runs:
        if is_locked(run.folder):
            continue
        began = f"{run.folder}, begun by another command, "
        if not finished_reason(run.folder):
            yield f"{began}was not finished: {spell(run.folder)} continues it"
            return
        if run is runs[0]:
            yield f"{began}has ended: {spell(run.folder)} with a higher limit trains it longer"


def _newest_first(options: Options) -> list[ListedRun]:
    """Return the runs of this name, newest first. Without a readable ``run.json`` they count only if they have checkpoints."""
    assert options.runs_dir is not None
    runs = [run for run in list_runs(Path(options.runs_dir)) if _name_matches(run.name, options.run_name)]
    intact = [run for run in runs if run.is_intact]
    damaged = [run for run in runs if not run.is_intact and has_checkpoints(run.folder / FOLDER)]
    return sorted((*damaged, *intact), key=_sequence, reverse=True) if damaged else intact


def _sequence(run: ListedRun) -> float:
    """Return a run's place in the order; if its ``run.json`` is damaged, what its newest checkpoint says, or else infinity."""
    if run.is_intact:
        return run.sequence
    store = Store(run.folder / FOLDER)
    try:
        record = record_of(store.metadata_of(store.numbers()[-1]))
    except CheckpointError:
        record = {}
    return valid_sequence(record.get("sequence")) or float("inf")


def _name_matches(folder_name: str, run_name: str | None) -> bool:
    """Return whether a run with this name, or an unnamed one, may have this folder name."""
    if run_name is None:
        return folder_name.isascii() and folder_name.isdecimal()
    return re.fullmatch(rf"{re.escape(run_name)}(-\d+)?", folder_name) is not None
