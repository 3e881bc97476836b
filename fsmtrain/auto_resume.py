"""Which run goes on, and where it is recorded from then on. How a machine is brought to a checkpoint is told in `runtime`.

``"auto"`` is for a command that is started again after it was killed. The run that it means is the newest one with a
checkpoint that the same command began: the same program with the same arguments (but for ``--resume`` and what is shown), under
the same ``run_name``, with a model of the same class. So the jobs of a sweep, which share a folder of runs, do not get each
other's.
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
from fsmtrain.runtime.checkpointing.selection import FOLDER, has_checkpoints
from fsmtrain.views.recording.folder_lock import FolderLock, lock_folder
from fsmtrain.views.recording.folder_names import newest_first
from fsmtrain.views.recording.resume_trim import facts_in
from fsmtrain.views.recording.run_metadata import begun_by


@frozen
class Unfinished:
    """A run's folder that is held for the run to go on in."""

    folder: Path
    held: FolderLock

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return self.folder / FOLDER


def is_run(path: Path) -> bool:
    """Whether this is a run's folder."""
    return (path / "run.json").is_file()


def lock_run(folder: Path) -> Unfinished:
    """This run.

    Raises:
        UsageError: It is being written down by somebody else.
    """
    lock = _hold(folder)
    if lock is None:
        raise UsageError(
            f"{folder}: this run is under way, here or in another process, and a run goes on only once. Stop it first, or "
            f"resume from {folder / FOLDER}: then a run of its own begins at the newest of its checkpoints."
        )
    return Unfinished(folder, lock)


def _hold(folder: Path) -> FolderLock | None:
    try:
        return lock_folder(folder)
    except OSError as error:
        raise UsageError(
            f"{folder}: this run cannot go on there, since nothing can be written: {error.strerror or error}. To begin at one "
            f"of its checkpoints, resume from {folder / FOLDER}."
        ) from error


def finished_reason(folder: Path) -> str:
    """Why a run has come to its own end; empty for one that was stopped, failed or was killed."""
    end = facts_in(folder, "end.json")
    return str(end.get("sentence", "")) if end.get("state") == State.DONE.value else ""


def find_resumable(options: Options, model: object) -> tuple[Unfinished | None, list[str]]:
    """The run that ``"auto"`` means, if there is one, and what is to be said of those that it could have been taken for."""
    said: list[str] = []
    for folder, is_ours in _candidates(options, model):
        if not is_ours:
            said = said or [f"{folder} was begun by another command; resume_from {folder} goes on with it"]
            continue
        lock = _hold(folder)
        if lock is not None:
            return Unfinished(folder, lock), said
        said.append(f"{folder} is under way elsewhere, and was passed over")
    return None, said


def _candidates(options: Options, model: object) -> Iterator[tuple[Path, bool]]:
    """The runs of such a model under this name that have checkpoints, the newest first; and whether this command began it."""
    assert options.runs_dir is not None
    command, kind = begun_by(sys.argv), type(model).__qualname__
    for folder in newest_first(Path(options.runs_dir)):
        if not _is_called(folder.name, options.run_name) or not has_checkpoints(folder / FOLDER):
            continue
        facts = facts_in(folder)
        if (facts.get("model") or {}).get("class") == kind:
            yield folder, begun_by(facts.get("command") or []) == command


def _is_called(name: str, run_name: str | None) -> bool:
    """Whether a run of this name, or without one, has such a folder."""
    if run_name is None:
        return name.isascii() and name.isdecimal()
    return re.fullmatch(rf"{re.escape(run_name)}(-\d+)?", name) is not None
