"""`Monitor`: what watches a metric of the validation or of training, and what to say where the metric is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from attrs import frozen

from fsmtrain.early_stopping import is_of_validation
from fsmtrain.errors import MetricError
from fsmtrain.runtime.metrics.epoch_metrics import epoch_metric
from fsmtrain.runtime.metrics.step_outputs import Metrics, number


@frozen
class Monitor:
    """Early stopping, a plateau scheduler or a `ModelCheckpoint`, and the metric that it watches.

    A metric that a validation returned is one of the validation. Any other is one of training, over the epoch.

    Attributes:
        owner: What watches, in the user's spelling: ``early_stop_callback``.
        metric: The name of the metric.
    """

    owner: str
    metric: str

    @property
    def needs_validation(self) -> bool:
        """Whether the metric is one of the validation by its name: ``val_loss``, or ``val_loss/0`` of the first loader."""
        return is_of_validation(self.metric)

    def of_validation(self, metrics: Metrics) -> float | None:
        """Return the metric of a validation as a number, None if it has none. Waits for its device."""
        return number(metrics[self.metric]) if self.metric in metrics else None

    def of_epoch(self, metrics: Metrics, validation: Mapping[str, object]) -> float | None:
        """Return the metric of training over an epoch as a number, None if there is none. Waits for its device.

        Args:
            metrics: The metrics of the epoch.
            validation: The metrics of the last validation: one of them is never looked up in training.
        """
        value = None if self.metric in validation else epoch_metric(metrics, self.metric)
        return None if value is None else number(value)

    def missing(self, metrics: Collection[str], what: str, training: Collection[str] = ()) -> MetricError:
        """Return the error about a metric that neither a validation nor training gave.

        Args:
            metrics: The names of the metrics of the validation.
            what: The validation.
            training: The names of metrics of training.
        """
        text = self.explain_missing(metrics, what)
        listed = ", ".join(map(repr, sorted(training)))
        return MetricError(f"{text} Training has {listed}." if listed else text)

    def explain_missing(self, metrics: Collection[str], what: str) -> str:
        """Say that a pass did not return the metric, which ones it returned, and what to do."""
        return (
            f"{self.owner} monitors {self.metric!r}, which {what} did not return. It returned "
            f"{', '.join(map(repr, metrics)) or 'no metric'}. Return {self.metric!r} from validation_step or "
            f"validation_end, log it in training, or monitor another metric with monitor=..."
        )


class EpochWatcher(Protocol):
    """A callback that monitors a metric, and gets that of an epoch if it is one of training."""

    monitor: Monitor

    def note_epoch(self, epoch: int, value: float) -> None:
        """Note the metric of the epoch with this index."""
        ...
