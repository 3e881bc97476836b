"""`CheckpointManager`: save a run, resume it, and roll it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.core.resume_point import ResumePoint
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.errors import CheckpointError, FsmtrainError, NonFiniteError, ResumeError
from fsmtrain.runtime.actions import Actions
from fsmtrain.runtime.checkpoint_files.store.background_writer import BackgroundWriter
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import Store
from fsmtrain.runtime.checkpointing.best_of_run import best_in
from fsmtrain.runtime.checkpointing.checkpoint_folder import FOLDER, load_checkpoint
from fsmtrain.runtime.checkpointing.run_snapshot import load_run_snapshot, take_run_snapshot
from fsmtrain.runtime.checkpointing.save_top_k import BATCH, END, EPOCH, STEP, MetricRanking, retention_policy
from fsmtrain.runtime.checkpointing.state_owners import damaged_state_is_an_error
from fsmtrain.runtime.rng import RngState
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.on_nonfinite_policies import validate_rollback
from fsmtrain.user_warnings import warn

_RANKED = 'callbacks=[ModelCheckpoint(monitor="val_loss")]'


class CheckpointManager:
    """The checkpoints of one run.

    Args:
        rule: When to save and what to keep; None if a guard of the user says when, and all are kept.
        ranking: The metric of each checkpoint, if the rule monitors one.
        components: What the run is made of.
        run: Its state.
        actions: Its actions, parts of which are saved too.
    """

    def __init__(
        self,
        rule: ModelCheckpoint | None,
        ranking: MetricRanking | None,
        components: RunComponents,
        run: RunState,
        actions: Actions,
    ) -> None:
        self._rule, self._ranking = rule, ranking
        self._components, self._run, self._actions = components, run, actions
        self._policy = retention_policy(rule, ranking) if rule is not None else None
        self._writer: BackgroundWriter | None = None  # from the first save on
        self._resumed_from: Path | None = None
        self._unrecorded = FOLDER.absolute()  # of a run that is not recorded; the program may change its working directory

    @property
    def has_own_folder(self) -> bool:
        """Whether the user set ``ModelCheckpoint(dirpath=...)``."""
        return self._rule is not None and self._rule.dirpath is not None

    def folder(self, run_dir: Path | None) -> Path:
        """Return the folder of the checkpoints of a run recorded in `run_dir`. The first save makes it."""
        if self._rule is not None and self._rule.dirpath is not None:
            return Path(self._rule.dirpath)
        return self._unrecorded if run_dir is None else run_dir / FOLDER

    def best(self, run_dir: Path | None) -> SavedCheckpoint | None:
        """Return the checkpoint with the best value of the monitored metric; None if there is none."""
        if self._ranking is None or (self._writer is None and self._resumed_from is None):
            return None  # what may be in the folder is of other runs
        return best_in(Store(self.folder(run_dir)), self._ranking)

    def why_no_best(self) -> str:
        """Say why there is no best checkpoint, and the way out, in sentences."""
        if self._rule is None:
            return f"the run saves no ranked checkpoints. To rank them pass {_RANKED} to the Trainer, and fit."
        if self._rule.monitor is None:
            return f'its ModelCheckpoint has no monitor, so none is the best. Pass {_RANKED}, or ckpt_path="last".'
        return (
            f"no checkpoint has a value of {self._rule.monitor!r} that ranks it: no validation or epoch that gives one has "
            f'ended, or all values are NaN. Pass ckpt_path="last", or a path.'
        )

    def last(self) -> Path | None:
        """Return the newest durable checkpoint of this run, or else the one that it was resumed from, if any."""
        if self._writer is None:
            return self._resumed_from
        self._writer.wait()
        return self._writer.last_saved or self._resumed_from

    # ---- saving

    def save(
        self,
        at: ResumePoint,
        run_dir: Path | None,
        metadata: dict[str, Any],
        before_commit: Callable[[], object] | None,
        *,
        is_end: bool = False,
    ) -> None:
        """Queue a checkpoint. If only the newest is kept, it replaces one that is still waiting to be written.

        Args:
            at: Where the run resumes.
            run_dir: Its folder.
            metadata: What the manifest says about it.
            before_commit: See `BackgroundWriter.submit`.
            is_end: Whether the run ends by itself here. Such a checkpoint is not ranked, and replaces none.
        """
        only_newest = self._rule is not None and self._ranking is None and self._rule.save_top_k == 1
        metadata = {**metadata, END: True} if is_end else metadata
        self._queue(at, run_dir, metadata, before_commit, must_keep=is_end or not only_newest)
        self._run.signals.save_wanted = False

    def save_at_stop(
        self,
        at: ResumePoint,
        run_dir: Path | None,
        metadata: dict[str, Any],
        before_commit: Callable[[], object] | None,
        *,
        must_save: bool,
    ) -> None:
        """Save a run where it was stopped.

        Args:
            at: Where it resumes.
            run_dir: Its folder.
            metadata: What the manifest says about it.
            before_commit: See `BackgroundWriter.submit`.
            must_save: Whether a failure is an error: a signal ends the program, so that nobody could save in another way.
                If not, it is a warning.

        Raises:
            FsmtrainError: It could not be saved.
        """
        if not self._actions.may_save():
            warn("the run is not saved where it stopped: an open window has gradients that are inf or NaN.")
            return
        failed = "the run could not be saved where it stopped; earlier checkpoints are unchanged"
        try:
            writer = self._queue(at, run_dir, metadata, before_commit, must_keep=True)
        except FsmtrainError as error:
            if must_save:
                raise CheckpointError(f"{failed}: {error}") from error
            warn(f"{failed}: {error}")
            return
        if must_save:
            writer.wait()
            if (failure := writer.last_error) is not None:
                raise CheckpointError(f"{failed}: {failure}") from failure

    def _queue(
        self,
        at: ResumePoint,
        run_dir: Path | None,
        metadata: dict[str, Any],
        before_commit: Callable[[], object] | None,
        *,
        must_keep: bool,
    ) -> BackgroundWriter:
        """Copy the run's state and queue it for writing."""
        if self._writer is None:
            self._writer = BackgroundWriter(Store(self.folder(run_dir)), self._policy)
        counters = at.counters
        metadata = {
            "state": at.state.value,
            EPOCH: counters.current_epoch,
            "batch_nb": counters.batch_nb,
            STEP: counters.global_step,
            BATCH: counters.batches_begun,
            **metadata,
        }
        tree = take_run_snapshot(self._components, self._run, self._actions, at)
        self._writer.submit(tree, metadata, must_keep=must_keep, before_commit=before_commit)
        return self._writer

    def close(self) -> None:
        """Wait until all checkpoints are written, and remove those that are not kept."""
        if self._writer is None:
            return
        self._writer.close()
        if self._policy is not None and self._writer.last_saved is not None:
            try:
                self._writer.store.prune(self._policy)
            except CheckpointError as error:
                warn(str(error))

    # ---- resuming and rolling back

    def load(self, loaded: LoadedCheckpoint, *, strict: bool, new_settings: bool) -> tuple[ResumePoint, RngState]:
        """Restore the run from a checkpoint. Returns the resume point, and the RNG states, which the caller sets last.

        Raises:
            ResumeError: The checkpoint does not fit this run.
        """
        try:
            with damaged_state_is_an_error():
                resumed = load_run_snapshot(
                    loaded.tree, self._components, self._run, self._actions, strict=strict, new_settings=new_settings
                )
        except FsmtrainError as error:
            raise ResumeError(f"{loaded.path}: {error}") from error
        self._resumed_from = loaded.path
        return resumed

    def roll_back(self) -> tuple[ResumePoint, RngState, LoadedCheckpoint]:
        """Restore the run from its last checkpoint, and exclude the batch whose loss or gradient was not finite.

        Returns:
            As `load`, and the checkpoint.

        Raises:
            NonFiniteError: There is no checkpoint, none that can be read, or the run has gone back ``max_nb_rollbacks`` times.
        """
        nonfinite, max_rollbacks, path = self._run.nonfinite, self._components.spec.options.max_nb_rollbacks, self.last()
        cause = validate_rollback(nonfinite, max_rollbacks, path)
        assert nonfinite.cause is not None
        assert path is not None
        excluded = (*nonfinite.excluded, nonfinite.cause)
        self._actions.release()
        try:
            loaded = load_checkpoint(path)
            with damaged_state_is_an_error():
                resumed = load_run_snapshot(loaded.tree, self._components, self._run, self._actions, strict=True)
        except FsmtrainError as error:
            raise NonFiniteError(f"{cause}, and the run cannot go back to its last checkpoint: {path}: {error}") from error
        self._run.signals.nonfinite = False
        nonfinite.exclude(excluded)
        warn(
            f"{cause}: the run goes back to {path} and excludes that batch. This is rollback {len(excluded)} of at most "
            f"{max_rollbacks}."
        )
        return (*resumed, loaded)
