"""From which checkpoint a machine resumes: that of a path, or the newest of a run, with the lock on the run's folder.

What makes a checkpoint one of a run, and which run ``"auto"`` means, is in `auto_resume`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from attrs import frozen
from torch import nn

from fsmtrain import auto_resume
from fsmtrain.options import Options
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpointing.checkpoint_folder import has_checkpoints, load_checkpoint, load_newest
from fsmtrain.user_warnings import warn
from fsmtrain.views.console.stderr import print_stderr


@frozen(eq=False)
class ResumeSource:
    """A loaded checkpoint, and the locked folder of its run if the run goes on there."""

    loaded: LoadedCheckpoint
    locked: auto_resume.LockedRun | None


@frozen(eq=False, kw_only=True)
class ResumeSources:
    """Finds what a machine resumes from, before it begins.

    Args:
        options: The flags.
        model: The model.
        folders: Returns the folders of the machine's own checkpoints.
        makes_run_folder: Whether the run is recorded in a folder.
        has_own_folders: Whether the user has set the folders of all checkpoints.
        spell: Returns what resumes the run in a folder, in the spelling of the caller, for messages.
    """

    options: Options
    model: nn.Module
    folders: Callable[[], tuple[Path, ...]]
    makes_run_folder: bool
    has_own_folders: bool
    spell: Callable[[Path], str]

    @property
    def looks_for_runs(self) -> bool:
        """Whether the checkpoints are in the run's folder, which is unknown before the run begins or is resumed."""
        return self.makes_run_folder and not self.has_own_folders

    def at(self, path: Path) -> ResumeSource:
        """Return the newest checkpoint of the run in a folder, or the checkpoint at a path, or the newest in a folder of them.

        Raises:
            UsageError: The run in that folder is under way elsewhere.
            CheckpointError: There is no checkpoint, or none that can be read.
        """
        run = auto_resume.find_run(path)
        if run is None:
            return self._of_checkpoint(load_checkpoint(path), path)
        if self.makes_run_folder:
            return self._of_run(auto_resume.lock_run(run))
        return ResumeSource(load_newest([*map(Path, run.checkpoint_folders)], partial(auto_resume.is_of_run, run)), None)

    def newest(self) -> ResumeSource | None:
        """Return the newest checkpoint of the run that ``"auto"`` means; None, which is reported, if there is none.

        Raises:
            CheckpointError: None of its checkpoints can be read.
        """
        if not self.looks_for_runs:
            folders = self.folders()
            if any(map(has_checkpoints, folders)):
                loaded = load_newest(folders, lambda *_: True)
                return self._of_checkpoint(loaded, loaded.path.parent)
            if not self.options.quiet:
                print_stderr(f"there is no checkpoint in {', '.join(map(str, folders))} yet; the run begins")
            return None
        run, notes = auto_resume.find_resumable(self.options, self.model, self.spell)
        if run is not None:
            return self._of_run(run)
        if notes or not self.options.quiet:  # that checkpoints were passed over is never left unsaid
            print_stderr(
                "; ".join((f"this command has no run to resume in {self.options.runs_dir}", *notes, "a new run begins"))
            )
        return None

    def _of_checkpoint(self, loaded: LoadedCheckpoint, path: Path) -> ResumeSource:
        """Return a checkpoint found at a path. Its run goes on if this is a folder of `dirpath`."""
        run = None
        if self.makes_run_folder and self.has_own_folders and path.absolute() in self.folders():
            run = auto_resume.find_run_of(loaded.path, loaded.metadata)
            if run is None and (recorded_in := auto_resume.record_of(loaded.metadata).get("folder")):
                warn(
                    f"{loaded.path} was recorded in {recorded_in}, which is gone, or does not list {path} as a folder of its "
                    f"checkpoints. A new run begins with it, in a folder of its own."
                )
        return ResumeSource(loaded, None if run is None else auto_resume.lock_run(run))

    def _of_run(self, locked: auto_resume.LockedRun) -> ResumeSource:
        """Return the newest checkpoint of a run, which goes on in its folder."""
        run = locked.run
        try:
            loaded = load_newest([*map(Path, run.checkpoint_folders)], partial(auto_resume.is_of_run, run))
        except BaseException:
            locked.lock.release()
            raise
        if auto_resume.is_of_run(run, loaded.path, loaded.metadata):
            return ResumeSource(loaded, locked)
        locked.lock.release()
        warn(f"{loaded.path} is of another run than {run.folder}. A new run begins with it, in a folder of its own.")
        return ResumeSource(loaded, None)
