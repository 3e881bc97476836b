"""The best and the newest checkpoint of a run that is on disk, whichever process has recorded it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Literal

from fsmtrain import auto_resume
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.errors import CheckpointError, UsageError
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpoint_files.store.manifest import MANIFEST
from fsmtrain.runtime.checkpointing.best_of_run import best_of_run
from fsmtrain.runtime.checkpointing.checkpoint_folder import FOLDER, has_checkpoints, load_newest, newest_in, saved_checkpoint
from fsmtrain.views.recording.files.json_files import read_json
from fsmtrain.views.recording.list_runs import RUN_FILE, ListedRun, list_runs


def best_checkpoint(run: str | os.PathLike[str]) -> SavedCheckpoint:
    """Return the best checkpoint of a recorded run, which may be running, stopped or killed.

    It is a path: ``Model.load_from_checkpoint(best_checkpoint("runs/3"))``.

    Args:
        run: The run's folder; a folder of runs, for the newest of them that has checkpoints; or a folder of checkpoints.

    Raises:
        UsageError: There is no such run, or none of its checkpoints has a rank.
        CheckpointError: It has no checkpoint that can be read.
    """
    return _checkpoint_in(Path(run), "best")


def last_checkpoint(run: str | os.PathLike[str]) -> SavedCheckpoint:
    """Return the newest checkpoint of a recorded run that can be read. See `best_checkpoint`.

    Args:
        run: The run's folder; a folder of runs, for the newest of them that has checkpoints; or a folder of checkpoints.

    Raises:
        UsageError: There is no such run.
        CheckpointError: It has no checkpoint that can be read.
    """
    return _checkpoint_in(Path(run), "last")


def _checkpoint_in(folder: Path, which: Literal["best", "last"]) -> SavedCheckpoint:
    if not folder.is_dir():
        raise UsageError(f"{which}_checkpoint({str(folder)!r}): there is no such folder. Pass that of a run, such as 'runs/0'.")
    run = auto_resume.find_run(folder) or newest_run(folder)
    if run is not None:
        return checkpoint_of_run(run, which)
    if not has_checkpoints(folder):
        raise UsageError(
            f"{which}_checkpoint({str(folder)!r}): is neither the folder of a run nor one of runs with checkpoints. Train with "
            f"callbacks=[ModelCheckpoint()], in the shell --checkpoint."
        )
    return _chosen_of(load_newest([folder], lambda *_: True), [folder], which, folder)


def newest_run(runs: Path, model_class: str | None = None) -> ListedRun | None:
    """Return the newest run with checkpoints in a folder of runs, of a class of models or of any; None if there is none."""
    runs_of_class = (run for run in list_runs(runs) if run.is_intact and model_class in (None, run.model_class))
    return next((run for run in runs_of_class if any(map(has_checkpoints, map(Path, run.checkpoint_folders)))), None)


def checkpoint_of_run(run: ListedRun, which: Literal["best", "last"]) -> SavedCheckpoint:
    """Return the best or the newest checkpoint of a recorded run, which may be running, stopped or killed.

    Raises:
        UsageError: None of its checkpoints has a rank.
        CheckpointError: It has no checkpoint that can be read.
    """
    folders = [*map(Path, run.checkpoint_folders)]
    if which == "best" and (best := _recorded_best(run)) is not None:
        return best
    return _chosen_of(load_newest(folders, partial(auto_resume.is_of_run, run)), folders, which, run.folder)


def _chosen_of(newest: LoadedCheckpoint, folders: list[Path], which: Literal["best", "last"], where: Path) -> SavedCheckpoint:
    if which == "last":
        return saved_checkpoint(newest.path, newest.metadata)
    found = best_of_run(newest, folders)
    if found is None:
        raise UsageError(
            f"{where}: none of its checkpoints has a rank, so none is the best. Train with "
            f'ModelCheckpoint(monitor="val_loss"), in the shell --checkpoint.monitor val_loss; or take the newest: "last".'
        )
    return found


def _recorded_best(run: ListedRun) -> SavedCheckpoint | None:
    """Return the best checkpoint that ``end.json`` names, if it is there and of this run."""
    best = read_json(run.folder / "end.json").get("best_checkpoint")
    if not isinstance(best, dict) or not isinstance(best.get("path"), str) or not isinstance(best.get("monitor"), str):
        return None
    path, score = run.folder / best["path"], best.get("score")
    try:
        metadata = Store(path.parent).metadata_of(path)
    except (CheckpointError, ValueError):
        return None
    is_own = isinstance(score, float) and auto_resume.is_of_run(run, path, metadata)
    return saved_checkpoint(path, metadata, monitor=best["monitor"], score=score) if is_own else None


# ---- weights at a path


def existing_weights(path: Path, asked: str, *, typed: bool = False) -> Path:
    """Return the path of a checkpoint or a file that exists.

    Args:
        path: The path.
        asked: The call, for messages, as in ``"test(ckpt_path='weights.pt')"``.
        typed: Whether it was typed in the shell.

    Raises:
        CheckpointError: There is nothing, or a folder of something else.
        UsageError: It is a folder of checkpoints: which of them is not said.
    """
    if not path.exists():
        of_run = f' Of a run pass fsmtrain.{path}_checkpoint("runs/0").' if str(path) in ("best", "last") else ""
        raise CheckpointError(f"{asked}: there is no such checkpoint and no such file.{of_run}")
    if not path.is_dir() or os.path.lexists(path / MANIFEST):
        return path
    best, last = (_spelled(which, path, typed=typed) for which in ("best", "last"))
    for folder in (path, path / FOLDER):
        if (newest := newest_in(folder)) is not None:
            raise UsageError(
                f"{asked}: is a folder of several checkpoints. Pass one of them: the newest is {str(newest)!r}; the best is "
                f"{best}."
            )
    if any((newest := newest_in(Path(name))) is not None for run in list_runs(path) for name in run.checkpoint_folders):
        raise UsageError(f"{asked}: is a folder of runs. Pass a checkpoint of one of them: of the newest, {best} or {last}.")
    raise CheckpointError(f"{asked}: is a folder, but no checkpoint: there is no {MANIFEST} in it.")


def _spelled(which: str, folder: Path, *, typed: bool) -> str:
    """Return how to ask for the best or last checkpoint of the run in a folder, of these checkpoints, or of the newest run."""
    if not typed:
        return f"fsmtrain.{which}_checkpoint({str(folder)!r})"
    run = folder.parent if folder.name == FOLDER else folder
    return f"--weights {which} {'--run' if os.path.lexists(run / RUN_FILE) else '--runs_dir'} {run}"
