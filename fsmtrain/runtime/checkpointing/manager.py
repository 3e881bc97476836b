"""`CheckpointManager`: save a run, resume it, and roll it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fsmtrain.core.model_checkpoint import FOLDER
from fsmtrain.core.resume_point import ResumePoint
from fsmtrain.core.saved_checkpoint import SavedCheckpoint
from fsmtrain.errors import CheckpointError, FsmtrainError, NonFiniteError, ResumeError
from fsmtrain.runtime.actions import Actions
from fsmtrain.runtime.checkpoint_files.store.background_writer import BackgroundWriter
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import RetentionPolicy, Store
from fsmtrain.runtime.checkpointing.best_of_run import best_in, monitors_in
from fsmtrain.runtime.checkpointing.checkpoint_folder import load_checkpoint
from fsmtrain.runtime.checkpointing.run_snapshot import load_run_snapshot, take_run_snapshot
from fsmtrain.runtime.checkpointing.save_rules import (
    FOLDERS,
    RULES,
    SaveRule,
    due_in,
    folders_by_subject,
    require_own_folders,
    rules_due,
    with_saved_folders,
)
from fsmtrain.runtime.checkpointing.save_top_k import BATCH, END, EPOCH, STEP
from fsmtrain.runtime.checkpointing.state_owners import damaged_state_is_an_error
from fsmtrain.runtime.rng import RngState
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.on_nonfinite_policies import validate_rollback
from fsmtrain.user_warnings import warn

_RANKED = 'callbacks=[ModelCheckpoint(monitor="val_loss")]'


class CheckpointManager:
    """The checkpoints of one run.

    Args:
        rules: When to save, where, and what to keep; none if a guard of the user says when, and all are kept.
        components: What the run is made of.
        run: Its state.
        actions: Its actions, parts of which are saved too.
    """

    def __init__(self, rules: Sequence[SaveRule], components: RunComponents, run: RunState, actions: Actions) -> None:
        self._rules = rules
        self._components, self._run, self._actions = components, run, actions
        self._writer: BackgroundWriter | None = None  # from the first save on
        self._resumed_from: Path | None = None
        self._goes_on = False  # whether the run was resumed in its own folders
        self._is_due_in: Sequence[str] = ()  # of the checkpoint resumed from: the folders that it was saved to
        self._unrecorded = Path().absolute()  # of a run that is not recorded; the program may change its working directory

    @property
    def has_own_folder(self) -> bool:
        """Whether the user set ``ModelCheckpoint(dirpath=...)``, of all if there are several."""
        return bool(self._rules) and all(rule.asked.dirpath is not None for rule in self._rules)

    def folders(self, run_dir: Path | None) -> tuple[Path, ...]:
        """Return the folders of the checkpoints of a run recorded in `run_dir`, by rule. A first save makes each."""
        beside = self._unrecorded if run_dir is None else run_dir
        return tuple(rule.folder(beside) for rule in self._rules) or (beside / FOLDER,)

    def best(self, run_dir: Path | None) -> dict[str, SavedCheckpoint]:
        """Return the best checkpoint by each monitored metric that ranks any, in the order of the rules."""
        if self._writer is None and self._resumed_from is None:
            return {}  # what may be in the folders is of other runs
        found: dict[str, SavedCheckpoint] = {}
        for rule, folder in zip(self._rules, self.folders(run_dir), strict=False):
            if rule.ranking is not None and (best := best_in(Store(folder), rule.ranking)) is not None:
                found.setdefault(rule.ranking.metric, best)
        return found

    def why_no_best(self) -> str:
        """Say why there is no best checkpoint, and the way out, in sentences."""
        if not self._rules:
            return f"the run saves no ranked checkpoints. To rank them pass {_RANKED} to the Trainer, and fit."
        monitors = " or ".join(repr(rule.asked.monitor) for rule in self._rules if rule.ranking is not None)
        if not monitors:
            return f'its ModelCheckpoint has no monitor, so none is the best. Pass {_RANKED}, or ckpt_path="last".'
        return (
            f"no checkpoint has a value of {monitors} that ranks it: no validation or epoch that gives one has ended, or all "
            f'values are NaN. Pass ckpt_path="last", or a path.'
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
        into = [0] if is_end else self._rules_due()
        only_newest = bool(self._rules) and all(self._rules[i].only_newest for i in into)
        metadata = {**metadata, END: True} if is_end else metadata
        self._queue(at, run_dir, metadata, before_commit, must_keep=is_end or not only_newest, into=into)
        self._run.signals.save_wanted = False
        for i, clock in enumerate(self._actions.save_clocks):
            if clock is not None and i in into:
                clock.asks = False

    def _rules_due(self) -> list[int]:
        timed = [clock is not None and clock.asks for clock in self._actions.save_clocks]
        run = self._run
        return rules_due(self._rules, self._actions.spec.limits, run.counters, run.signals, timed=timed)

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
        into: Sequence[int] = (0,),
    ) -> BackgroundWriter:
        """Copy the run's state and queue it for writing."""
        if self._writer is None:
            (store, policy), *others = self._stores(run_dir)
            self._writer = BackgroundWriter(store, policy, others=others)
        counters = at.counters
        metadata = {
            "state": at.state.value,
            EPOCH: counters.current_epoch,
            "batch_nb": counters.batch_nb,
            STEP: counters.global_step,
            BATCH: counters.batches_begun,
            **self._about_rules(into),
            **metadata,
        }
        tree = take_run_snapshot(self._components, self._run, self._actions, at)
        self._writer.submit(tree, metadata, must_keep=must_keep, before_commit=before_commit, into=into)
        return self._writer

    def _about_rules(self, into: Sequence[int]) -> dict[str, Any]:
        if len(self._rules) < 2:
            return {}
        return {FOLDERS: [self._rules[i].key for i in into], RULES: folders_by_subject(self._rules)}

    def _stores(self, run_dir: Path | None) -> list[tuple[Store, RetentionPolicy | None]]:
        policies = [rule.policy for rule in self._rules] or [None]
        return [(Store(folder), policy) for folder, policy in zip(self.folders(run_dir), policies, strict=True)]

    def begin(self, run_dir: Path | None) -> None:
        """Note whether the run goes on in the folders of the checkpoint that it was resumed from.

        If so, that checkpoint is saved in all folders that it was due in, and what is not kept is removed: the process may have
        been killed in between.

        Raises:
            OptionsError: Two rules have one folder: the `dirpath` of one is where the run is recorded.
        """
        require_own_folders(self._rules, self._unrecorded if run_dir is None else run_dir)
        if self._resumed_from is None or self._resumed_from.absolute().parent not in self.folders(run_dir):
            return
        self._goes_on = True
        if len(self._rules) > 1:
            stores = self._stores(run_dir)
            batch = stores[0][0].metadata_of(self._resumed_from).get(BATCH)
            for rule, (store, _) in zip(self._rules, stores, strict=True):
                if rule.key in self._is_due_in and all(own.get(BATCH) != batch for own in store.metadata().values()):
                    store.link(self._resumed_from)
            self._prune(run_dir)

    def close(self, run_dir: Path | None) -> None:
        """Wait until all checkpoints are written, and remove those that are not kept."""
        if self._writer is not None:
            self._writer.close()
        if self._goes_on or (self._writer is not None and self._writer.last_saved is not None):
            self._prune(run_dir)

    def _prune(self, run_dir: Path | None) -> None:
        for store, policy in self._stores(run_dir):
            try:
                if policy is not None and store.numbers():
                    store.prune(policy)
            except CheckpointError as error:
                warn(str(error))

    # ---- resuming and rolling back

    def load(
        self, loaded: LoadedCheckpoint, *, strict: bool, new_settings: bool, goes_on: bool
    ) -> tuple[ResumePoint, RngState]:
        """Restore the run from a checkpoint.

        Args:
            loaded: The checkpoint.
            strict: See `load_run_snapshot`.
            new_settings: Likewise.
            goes_on: Whether the run saves on where the checkpoint's run did, and not to a new folder.

        Returns:
            The resume point, and the RNG states, which the caller sets last.

        Raises:
            ResumeError: The checkpoint does not fit this run.
        """
        try:
            with damaged_state_is_an_error():
                resumed = load_run_snapshot(
                    loaded.tree, self._components, self._run, self._actions, strict=strict, new_settings=new_settings
                )
                if goes_on and self._rules:
                    self._rules = with_saved_folders(self._rules, loaded.metadata, monitors_in(loaded.tree["callbacks"]))
        except FsmtrainError as error:
            raise ResumeError(f"{loaded.path}: {error}") from error
        self._resumed_from, self._is_due_in = loaded.path, due_in(loaded.metadata)
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
