"""`Monitor`: what watches a metric of the validation, and what to say where the metric is missing."""

from __future__ import annotations

from collections.abc import Collection

from attrs import frozen

from fsmtrain.errors import MetricError
from fsmtrain.runtime.metrics.step_outputs import Metrics, number


@frozen
class Monitor:
    """Early stopping, a plateau scheduler or a `ModelCheckpoint`, and the metric that it watches.

    Attributes:
        owner: What watches, in the user's spelling: ``early_stop_callback``.
        metric: The name of the metric.
    """

    owner: str
    metric: str

    def value(self, metrics: Metrics, others: Collection[str] = ()) -> float:
        """Return the metric of a validation as a number. Waits for its device.

        Args:
            metrics: The metrics of the validation.
            others: The names of metrics from elsewhere.

        Raises:
            MetricError: The validation did not return it.
        """
        if self.metric in metrics:
            return number(metrics[self.metric])
        hint = ""
        if self.metric in others:
            hint = (
                f" {self.metric!r} is a metric of training, and only one of a validation can be monitored. To stop by one of "
                f"training, call self.trainer.stop() in on_epoch_end."
            )
        raise MetricError(self.explain_missing(metrics, "the validation") + hint)

    def explain_missing(self, metrics: Metrics, what: str) -> str:
        """Say that a pass did not return the metric, which ones it returned, and what to do."""
        return (
            f"{self.owner} monitors {self.metric!r}, which {what} did not return. It returned "
            f"{', '.join(map(repr, metrics)) or 'no metric'}. Return {self.metric!r} from validation_step or "
            f"validation_end, or monitor another metric with monitor=..."
        )
