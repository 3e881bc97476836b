"""The action of `epoch_end`: end the loader's epoch, call the hooks, finish the epoch's metrics, step its schedulers."""

from __future__ import annotations

from fsmtrain.plurals import plural
from fsmtrain.runtime.feed_early_stopping import feed_early_stopping
from fsmtrain.runtime.metrics.epoch_metrics import epoch_metric
from fsmtrain.runtime.metrics.metric_queue import MetricQueue
from fsmtrain.runtime.metrics.monitor import Monitor
from fsmtrain.runtime.metrics.step_outputs import Metrics
from fsmtrain.runtime.optimization.optimizer_step import own_optimizer_step
from fsmtrain.runtime.optimization.optimizers import OptimizerSetup, SchedulerConfig
from fsmtrain.runtime.optimization.step_scheduler import monitors_a_metric, step_scheduler
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.train_batch import TrainBatch


class EpochEnd:
    """End an epoch. If it ended early, its metrics are recorded, but nothing that monitors one gets it."""

    def __init__(
        self,
        components: RunComponents,
        run: RunState,
        train_batch: TrainBatch,
        optimizer_setup: OptimizerSetup,
        metric_queue: MetricQueue | None,
    ) -> None:
        self._run, self._train_batch, self._schedulers = run, train_batch, optimizer_setup.epoch_schedulers
        self._hooks, self._metric_queue = components.hooks.epoch, metric_queue
        self._required, self._watchers = components.strict_monitors, components.epoch_watchers
        self._spec = components.spec
        self._validates = components.spec.limits.validates
        self._has_own_step = own_optimizer_step(components.model) is not None

    def visit(self) -> None:
        """Call the hooks, which find the epoch's metrics in ``machine.metrics``; then give each monitor its metric."""
        counters = self._run.counters
        self._train_batch.end_epoch()
        self._publish()
        if self._hooks is not None:
            self._hooks.end()
        metrics = self._publish()  # with what the hooks have logged
        self._record(metrics)
        if not counters.epoch_ended_early:
            self._give_to_monitors(metrics, counters.current_epoch)
            if self._spec.limits.train_is_stream and self._validates:
                self._warn_if_too_short_to_validate()
        self._run.epoch_metrics.reset()

    def _warn_if_too_short_to_validate(self) -> None:
        """Say that an interval is longer than a stream turned out to be: of a loader with a length it is an error at once."""
        counters, limits = self._run.counters, self._spec.limits
        batches, is_first = counters.batch_nb + 1, counters.current_epoch + 1 == limits.val_check_epochs
        if is_first and batches < limits.val_check_batches and self._spec.guards.validate is None:
            self._run.warn_once(
                f"val_check_interval={self._spec.options.val_check_interval}: the train loader had {plural(batches, 'batch')} "
                f"in this epoch, so it had no validation; the count begins anew in each epoch. Lower the flag, or let the "
                f"stream go on without an end and limit the run by max_steps."
            )

    def _publish(self) -> Metrics:
        epoch = self._run.epoch_metrics
        metrics = epoch.results()
        if metrics:
            self._run.metrics.update(metrics)
            self._run.progress_bar_metrics.update((name, metrics[name]) for name in epoch.bar_names)
        return metrics

    def _record(self, metrics: Metrics) -> None:
        hidden = self._run.epoch_metrics.unrecorded
        recorded = {name: metrics[name] for name in metrics if name not in hidden} if hidden else metrics
        if self._metric_queue is not None and recorded:
            self._metric_queue.metrics("epoch", recorded)

    def _give_to_monitors(self, metrics: Metrics, epoch: int) -> None:
        """Feed early stopping and rank the epoch's checkpoint if they monitor training; step each scheduler that is due."""
        run = self._run
        for monitor in self._required:
            if monitor.metric not in run.validation_metrics and epoch_metric(metrics, monitor.metric) is None:
                self._explain_missing(monitor, metrics)
        if run.early_stopping is not None:
            monitor = Monitor("early_stop_callback", run.early_stopping.rule.monitor)
            feed_early_stopping(run, monitor.of_epoch(metrics, run.validation_metrics))
        for watcher in self._watchers:
            value = watcher.monitor.of_epoch(metrics, run.validation_metrics)
            if value is not None:
                watcher.note_epoch(epoch, value)
        for config in self._schedulers:
            if config.schedule.is_due(epoch + 1):
                self._step(config, metrics, epoch)

    def _explain_missing(self, monitor: Monitor, metrics: Metrics) -> None:
        """Raise an error if there has been a validation, which would have had the metric; warn if there can be none.

        Raises:
            MetricError: Neither a validation nor training has the metric.
        """
        run = self._run
        if run.validation_epoch >= 0:
            others = {*run.metrics, *metrics} - run.validation_metrics.keys()
            raise monitor.missing(run.validation_metrics, "the validation", others)
        if not self._validates and not monitor.needs_validation:  # of the others `build` has warned
            listed = ", ".join(map(repr, {**run.metrics, **metrics})) or "no metric"
            run.warn_once(
                f"{monitor.owner} monitors {monitor.metric!r}, so it cannot act: there is nothing to validate, and training "
                f"has {listed}. Return or log {monitor.metric!r} in training_step, or monitor another metric with monitor=..."
            )

    def _step(self, config: SchedulerConfig, metrics: Metrics, epoch: int) -> None:
        """Step a scheduler; one that monitors a metric of the validation only if this epoch had one."""
        monitor = config.metric_monitor
        if not monitors_a_metric(config) or monitor is None:
            # With an optimizer_step of the model's own torch's warning may be right.
            has_stepped = self._has_own_step or self._run.counters.optimizer_steps[config.schedule.optimizer_i] > 0
            step_scheduler(config, has_stepped=has_stepped)
            return
        validation = self._run.validation_metrics
        value = monitor.of_epoch(metrics, validation)
        if value is None and self._run.validation_epoch == epoch:
            value = monitor.of_validation(validation)
            if value is None:
                raise monitor.missing(validation, "the validation", {*self._run.metrics, *metrics} - validation.keys())
        if value is not None:
            step_scheduler(config, value)
