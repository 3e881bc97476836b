"""Choose which checkpoints to keep and which to delete: ``ModelCheckpoint(save_top_k=..., monitor=...)``.

The newest valid one is always kept. The store in `checkpoint_files` deletes the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from fsmtrain.core.model_checkpoint import ModelCheckpoint
from fsmtrain.runtime.checkpoint_files.store.crash_safe_store import RetentionPolicy
from fsmtrain.runtime.hooks.hook_pair import UnfinishedMetrics
from fsmtrain.runtime.metrics.monitor import Monitor
from fsmtrain.runtime.metrics.step_outputs import Metrics
from fsmtrain.user_warnings import warn

BATCH = "batches_begun"  # the key in a checkpoint's metadata by which a metric finds it: its batch in the whole run, from 1
EPOCH = "current_epoch"  # the key of its epoch, from 0
STEP = "global_step"  # the key of the steps of its weights
END = "ends"  # the key of a checkpoint with which a run ended by itself: it is never ranked

MetadataByNumber = Mapping[int, Mapping[str, Any]]


class MetricRanking:
    """The monitored metric of each checkpoint: a callback whose state is saved.

    A metric of the validation is that of the checkpoint right before it; one of training, over an epoch, that of the epoch's
    last checkpoint.
    """

    can_resume_within_validation = True  # only its end matters here

    def __init__(self, rule: ModelCheckpoint, metric: str) -> None:
        self._rule, self.metric, self.monitor = rule, metric, Monitor("ModelCheckpoint", metric)
        self.mode = rule.mode
        self.values: dict[int, float] = {}
        self.of_epochs: dict[int, float] = {}

    def on_validation_end(self, machine: Any, metrics: Metrics) -> None:
        """Record the metric of the weights that were validated."""
        value = None if isinstance(metrics, UnfinishedMetrics) else self.monitor.of_validation(metrics)
        if value is not None:
            self.values[machine.counters.batches_begun] = value

    def note_epoch(self, epoch: int, value: float) -> None:
        """Record the metric of training over an epoch."""
        self.of_epochs[epoch] = value

    def state_dict(self) -> dict[str, Any]:
        """Return the values so far, by batch and by epoch, and which metric they are of."""
        return {"values": dict(self.values), "of_epochs": dict(self.of_epochs), **self._about()}

    def _about(self) -> dict[str, Any]:
        return {"monitor": self._rule.monitor, "mode": self._rule.mode}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the values of the resumed run over. Those of another metric are not: it would be ranked among them."""
        saved, own = state.get("monitor", self._rule.monitor), self._rule.monitor
        if saved != own:
            warn(
                f"ModelCheckpoint(monitor={own!r}): the checkpoints so far were ranked by {saved!r}. They have no rank any "
                f"more, and make room for those that are ranked by {own!r}."
            )
            return
        self.values, self.of_epochs = dict(state["values"]), dict(state.get("of_epochs", {}))

    def best(self, metadata: MetadataByNumber, count: int = 1) -> list[int]:
        """Return the numbers of the checkpoints with the best values, the best first."""
        ranked = {number: {"value": value} for number, value in self.scores(metadata).items()}
        return [*keep_best(count, "value", self._rule.mode)(ranked)]

    def scores(self, metadata: MetadataByNumber) -> dict[int, float | None]:
        """Return the value of each checkpoint that has a rank; None if it is not known.

        Of several of one batch the newest has it: older ones are of other runs in the same folder, or of before a rollback.
        """
        ranked = {number: own for number, own in sorted(metadata.items()) if not own.get(END)}
        of_batch = {own.get(BATCH, -1): number for number, own in ranked.items()}
        of_epoch = {own.get(EPOCH): number for number, own in ranked.items()}
        epoch_values = {number: self.of_epochs.get(epoch) for epoch, number in of_epoch.items() if epoch is not None}
        return {number: self.values.get(batch, epoch_values.get(number)) for batch, number in of_batch.items()}


RANKING = f"{MetricRanking.__module__}.{MetricRanking.__qualname__}"  # its class, as checkpoints name it


def retention_policy(rule: ModelCheckpoint, ranking: MetricRanking | None) -> RetentionPolicy | None:
    """Return which checkpoints a rule keeps beside the newest; None for all.

    One with which a run ended by itself is kept as long as it is the newest, beside those that the rule counts.
    """
    count = rule.save_top_k
    if count == -1:
        return None
    if ranking is None:
        newest = keep_newest(count)
        return keep_any(keep_newest(1), lambda metadata: newest({n: own for n, own in metadata.items() if not own.get(END)}))
    return keep_any(keep_newest(1), lambda metadata: ranking.best(metadata, count))


# ---- policies


def keep_newest(count: int) -> RetentionPolicy:
    """Keep the last ones.

    >>> keep_newest(2)({1: {}, 2: {}, 5: {}})
    [2, 5]
    """
    return lambda metadata: sorted(metadata)[-count:] if count > 0 else []


def keep_best(count: int, metric: str, mode: Literal["min", "max"] = "min") -> RetentionPolicy:
    """Keep those with the best values of a metric; of equal ones the older.

    A missing value or NaN is never the best.

    >>> keep_best(2, "val_loss")({1: {"val_loss": 0.3}, 2: {"val_loss": 0.1}, 3: {"val_loss": 0.2}, 4: {}})
    [2, 3]
    """
    sign = 1 if mode == "min" else -1

    def policy(metadata: Mapping[int, Mapping[str, Any]]) -> list[int]:
        values = {number: its_metadata.get(metric) for number, its_metadata in metadata.items()}
        ranked = sorted((sign * value, number) for number, value in values.items() if value is not None and value == value)
        return [number for _, number in ranked[: max(count, 0)]]

    return policy


def keep_any(*policies: RetentionPolicy) -> RetentionPolicy:
    """Keep those that any of these policies keeps.

    >>> sorted(keep_any(keep_newest(1), keep_best(1, "val_loss"))({1: {"val_loss": 0.1}, 2: {"val_loss": 0.2}, 3: {}}))
    [1, 3]
    """
    return lambda metadata: {number for policy in policies for number in policy(metadata)}
