"""`CheckpointManager`: save a run, resume it, and roll it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.errors import FsmtrainError, NonFiniteError, ResumeError
from fsmtrain.runtime.actions import Actions
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpointing import run_snapshot
from fsmtrain.runtime.checkpointing.run_snapshot import ResumePoint
from fsmtrain.runtime.checkpointing.selection import (
    BATCH,
    FOLDER,
    CheckpointFolder,
    MetricRanking,
    load_checkpoint,
    retention_policy,
)
from fsmtrain.runtime.rng import RngState
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.nonfinite_policy import validate_rollback
from fsmtrain.user_warnings import warn


class CheckpointManager:
    """The checkpoints of one run.

    Args:
        rule: When to save, and what to keep; None where a guard of the user's says when, and all are kept.
        ranking: What checks have said of the checkpoints, where the rule watches a metric.
        parts, memory: The run's.
        run_dir: Says where the run is recorded, which may be known only when it begins; None where it is not.
        more_about: Says what a checkpoint's manifest is to have besides.
    """

    def __init__(
        self,
        rule: ModelCheckpoint | None,
        ranking: MetricRanking | None,
        parts: RunComponents,
        memory: RunState,
        *,
        run_dir: Callable[[], Path | None],
        more_about: Callable[[ResumePoint], dict[str, Any]],
    ) -> None:
        self._rule, self._ranking = rule, ranking
        self._parts, self._memory = parts, memory
        self._run_dir, self._more_about = run_dir, more_about
        self.actions: Actions  # the run's, which save by this
        self._checkpoints: CheckpointFolder | None = None  # once there is something to save
        self._resumed_from: Path | None = None

    @property
    def has_own_folder(self) -> bool:
        """Whether the user has said where checkpoints are."""
        return self._rule is not None and self._rule.dirpath is not None

    @property
    def folder(self) -> Path:
        """The folder of this run's checkpoints, which is made with the first of them."""
        if self._rule is not None and self._rule.dirpath is not None:
            return Path(self._rule.dirpath)
        run_dir = self._run_dir()
        return FOLDER if run_dir is None else run_dir / FOLDER

    @property
    def best(self) -> Path | None:
        """The checkpoint with the best value of the metric that is watched; None where there is none."""
        if self._ranking is None or self._checkpoints is None:
            return None
        return self._checkpoints.best(self._ranking)

    def last(self) -> Path | None:
        """The last checkpoint of this run that is durable, or the one from which it was resumed; None where there is none."""
        return (None if self._checkpoints is None else self._checkpoints.last()) or self._resumed_from

    # ---- saving

    def save(self, standing: ResumePoint) -> None:
        """Save the run where a guard has said so. Where only the newest is kept, one that waits gives way to it."""
        one_will_do = self._rule is not None and self._ranking is None and self._rule.save_top_k == 1
        self.write(standing, must_keep=not one_will_do)
        self._memory.signals.save_wanted = False

    def write(self, standing: ResumePoint, *, must_keep: bool) -> None:
        """Save the run as it stands; returns when its state is copied."""
        if self._checkpoints is None:
            policy = retention_policy(self._rule, self._ranking) if self._rule is not None else None
            self._checkpoints = CheckpointFolder(self.folder, policy)
        counters = standing.counters
        about = {
            "state": standing.state.value,
            "current_epoch": counters.current_epoch,
            "batch_nb": counters.batch_nb,
            "global_step": counters.global_step,
            BATCH: counters.batches_begun,
            **self._more_about(standing),
        }
        tree = run_snapshot.take_snapshot(self._parts, self._memory, self.actions, standing)
        self._checkpoints.save(tree, about, must_keep=must_keep)

    def save_at_stop(self, standing: ResumePoint) -> None:
        """Save a run that was asked to stop, where it was stopped. That it could not be is told, and is no error."""
        if not self.actions.may_save():
            warn("the run is not saved where it was stopped: a window is open there with numbers that are not finite.")
            return
        try:
            self.write(standing, must_keep=True)
        except FsmtrainError as error:
            warn(f"the run could not be saved where it was stopped; its checkpoints before are untouched: {error}")

    def close(self) -> None:
        """Wait until all is written."""
        if self._checkpoints is not None:
            self._checkpoints.close()

    # ---- going on

    def load(self, loaded: LoadedCheckpoint, *, strict: bool) -> tuple[ResumePoint, RngState]:
        """Bring the run to a checkpoint; returns where it stands there, and the random states to put back last.

        Raises:
            ResumeError: It is not one of a run like this.
        """
        try:
            came = run_snapshot.load_snapshot(loaded.tree, self._parts, self._memory, self.actions, strict=strict)
        except FsmtrainError as error:
            raise ResumeError(f"{loaded.path}: {error}") from error
        self._resumed_from = loaded.path
        return came

    def roll_back(self) -> tuple[ResumePoint, RngState]:
        """Bring the run back to its last checkpoint, the batch whose numbers were not finite left out from now on.

        Returns:
            As `load_state_dict`.

        Raises:
            NonFiniteError: There is no checkpoint, none that can be read, or the run has gone back often enough.
        """
        numbers, most, path = self._memory.nonfinite, self._parts.loop.options.max_nb_rollbacks, self.last()
        spoiled = validate_rollback(numbers, most, path)
        assert numbers.cause is not None
        assert path is not None
        left_out = (*numbers.excluded, numbers.cause)
        self.actions.release()
        try:
            came = run_snapshot.load_snapshot(load_checkpoint(path).tree, self._parts, self._memory, self.actions, strict=True)
        except FsmtrainError as error:
            raise NonFiniteError(f"{spoiled}, and the run cannot go back to its last checkpoint: {path}: {error}") from error
        self._memory.signals.nonfinite = False
        numbers.exclude(left_out)
        warn(f"{spoiled}: the run goes on from {path} and leaves that batch out (rollback {len(left_out)} of at most {most}).")
        return came
