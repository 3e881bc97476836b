"""The checkpoints of a run: written while it goes on, found when it is resumed. What is in one is told in `state`."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.errors import CheckpointError, OptionsError
from fsmtrain.runtime.checkpoint_files.store.background_writer import BackgroundWriter
from fsmtrain.runtime.checkpoint_files.store.checkpoint import LoadedCheckpoint
from fsmtrain.runtime.checkpoint_files.store.durable_store import Store
from fsmtrain.runtime.checkpoint_files.store.manifest import MANIFEST
from fsmtrain.runtime.checkpoint_files.store.retention import RetentionPolicy, keep_any, keep_best, keep_newest
from fsmtrain.runtime.metrics.step_outputs import Metrics, monitored_value
from fsmtrain.user_warnings import warn

FOLDER = Path("checkpoints")  # in the run's folder, or in the working directory
BATCH = "batches_begun"  # what a checkpoint is known by: the number of its batch in the whole run

Abouts = Mapping[int, Mapping[str, Any]]


class MetricRanking:
    """What checks said of the checkpoints right before them: a callback whose memory is saved with the rest.

    Checkpoints are known by the number of their batch in the whole run.
    """

    def __init__(self, rule: ModelCheckpoint) -> None:
        self._rule = rule
        self.values: dict[int, float] = {}

    def on_validation_end(self, machine: Any, metrics: Metrics) -> None:
        """Note the metric of the weights that were checked."""
        assert self._rule.monitor is not None
        self.values[machine.counters.batches_begun] = monitored_value(metrics, self._rule.monitor, "ModelCheckpoint")

    def state_dict(self) -> dict[str, Any]:
        """The values so far."""
        return {"values": dict(self.values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The values of the run that is resumed."""
        self.values = dict(state["values"])

    def best(self, abouts: Abouts, count: int = 1) -> Collection[int]:
        """The numbers of those with the best values."""
        values = self.values
        ranked = {number: {"value": values.get(about.get(BATCH, -1))} for number, about in abouts.items()}
        return keep_best(count, "value", self._rule.mode)(ranked)


def split_callbacks(callbacks: Iterable[object], guards: Guards) -> tuple[tuple[object, ...], ModelCheckpoint | None]:
    """The callbacks without the `ModelCheckpoint` among them, and that one.

    Raises:
        OptionsError: There are two, or a save guard beside it.
    """
    given = tuple(callbacks)
    rules = [callback for callback in given if isinstance(callback, ModelCheckpoint)]
    if len(rules) > 1:
        raise OptionsError(f"callbacks: there are {len(rules)} ModelCheckpoints, and one says when this run saves. Pass one.")
    if rules and guards.save is not None:
        raise OptionsError("callbacks: a ModelCheckpoint and Guards(save=...) both say when to save. Pass one of them.")
    return tuple(callback for callback in given if not isinstance(callback, ModelCheckpoint)), rules[0] if rules else None


def retention_policy(rule: ModelCheckpoint, ranking: MetricRanking | None) -> RetentionPolicy | None:
    """Which checkpoints a rule keeps, beside the newest; None for all."""
    count = rule.save_top_k
    if count == -1:
        return None
    if ranking is None:
        return keep_newest(count)
    return keep_any(keep_newest(1), lambda abouts: ranking.best(abouts, count))


class CheckpointFolder:
    """A run's folder of checkpoints.

    Args:
        folder: Where they are.
        policy: Which are kept; None keeps all.
    """

    def __init__(self, folder: Path, policy: RetentionPolicy | None) -> None:
        self.folder, self._policy = folder, policy
        self._writer = BackgroundWriter(Store(folder), policy)

    def save(self, tree: Mapping[str, Any], about: Mapping[str, Any], *, must_keep: bool) -> None:
        """Save a state as it is now; returns when it is copied."""
        self._writer.submit(tree, about, must_keep=must_keep)

    def last(self) -> Path | None:
        """The last checkpoint that is durable, if any, once all is written."""
        self._writer.wait()
        return self._writer.last_saved

    def close(self) -> Path | None:
        """Wait until all is written, and remove what is not kept; returns the last checkpoint that is durable, if any."""
        self._writer.close()
        if self._policy is not None and self._writer.last_saved is not None:
            try:
                self._writer.store.prune(self._policy)
            except CheckpointError as error:
                warn(str(error))
        return self._writer.last_saved

    def best(self, ranking: MetricRanking) -> Path | None:
        """The checkpoint with the best value, if there is one."""
        numbers = list(ranking.best(self._writer.store.metadata()))
        return self.folder / f"{numbers[0]:06d}" if numbers else None


def has_checkpoints(folder: Path) -> bool:
    """Whether there is a checkpoint in a folder, valid or not."""
    return bool(Store(folder).numbers())


def load_checkpoint(path: str | os.PathLike[str]) -> LoadedCheckpoint:
    """The checkpoint at a path, or the newest valid one in a folder of them; those skipped are told.

    Raises:
        CheckpointError: There is none, or none that can be read.
    """
    where = Path(path)
    if (where / MANIFEST).exists():
        return Store(where.parent).load(where)
    loaded = Store(where).load_newest()
    if loaded is None:
        raise CheckpointError(f"{where}: there is no checkpoint. Save some first, with ModelCheckpoint() among the callbacks.")
    for skipped in loaded.skipped:
        warn(f"skipped a checkpoint that cannot be read: {skipped}")
    return loaded
