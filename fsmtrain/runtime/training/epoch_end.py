"""The action of `epoch_end`: end the loader's epoch, call the hooks, step the schedulers of epochs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch.optim.lr_scheduler import ReduceLROnPlateau

from fsmtrain.runtime.optimization.optimizer_step import own_optimizer_step
from fsmtrain.runtime.optimization.optimizers import OptimizerSetup, SchedulerConfig
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.train_batch import TrainBatch


class EpochEnd:
    """End an epoch. If it ended early, no scheduler is stepped."""

    def __init__(
        self, components: RunComponents, run: RunState, train_batch: TrainBatch, optimizer_setup: OptimizerSetup
    ) -> None:
        self._run, self._train_batch, self._schedulers = run, train_batch, optimizer_setup.epoch_schedulers
        self._hooks = components.hooks.epoch
        self._has_own_step = own_optimizer_step(components.model) is not None

    def visit(self) -> None:
        """Call the hooks; step each scheduler that is due, in the order in which they were returned."""
        counters = self._run.counters
        self._train_batch.end_epoch()
        if self._hooks is not None:
            self._hooks.end()
        if counters.epoch_ended_early:
            return
        for config in self._schedulers:
            if config.schedule.is_due(counters.current_epoch + 1):
                self._step(config, counters.current_epoch)

    def _step(self, config: SchedulerConfig, epoch: int) -> None:
        """Step a scheduler; one that monitors a metric only if this epoch had a validation."""
        monitor = config.metric_monitor
        if not isinstance(config.scheduler, ReduceLROnPlateau) or monitor is None:
            with self._without_order_warning(config):
                config.scheduler.step()
        elif self._run.validation_epoch == epoch:
            config.scheduler.step(monitor.value(self._run.validation_metrics, self._run.metrics))

    @contextmanager
    def _without_order_warning(self, config: SchedulerConfig) -> Iterator[None]:
        """Silence torch's warning of a wrong order of calls, if the optimizer has only skipped steps so far.

        The order is ours, and right. With an ``optimizer_step`` of the model's own torch may be right.
        """
        if self._has_own_step or self._run.counters.optimizer_steps[config.schedule.optimizer_i] > 0:
            yield
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)` before", category=UserWarning)
            yield
