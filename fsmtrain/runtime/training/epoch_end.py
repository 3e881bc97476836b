"""The action at the end of an epoch: the hooks, then the schedulers."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim.lr_scheduler import ReduceLROnPlateau

from fsmtrain.runtime.metrics.step_outputs import monitored_value
from fsmtrain.runtime.optimization.optimizers import SchedulerConfig
from fsmtrain.runtime.run_state import RunComponents, RunState
from fsmtrain.runtime.training.train_batch import TrainBatch


class EpochEnd:
    """Ends an epoch. One that was cut short steps no scheduler."""

    def __init__(
        self, parts: RunComponents, memory: RunState, training: TrainBatch, schedulings: Sequence[SchedulerConfig]
    ) -> None:
        self._parts, self._memory, self._training, self._schedulings = parts, memory, training, schedulings

    def visit(self) -> None:
        """Call the hooks; step each scheduler whose turn it is, in the order in which they were returned."""
        parts, memory = self._parts, self._memory
        self._training.end_epoch()
        if parts.hooks.on_epoch_end is not None:
            parts.hooks.on_epoch_end(parts.machine)
        if memory.counters.epoch_ended_early:
            return
        epoch = memory.counters.current_epoch
        for scheduling in self._schedulings:
            if scheduling.schedule.is_due(epoch + 1):
                self._step(scheduling, epoch)

    def _step(self, scheduling: SchedulerConfig, epoch: int) -> None:
        """Step a scheduler: one that watches a metric only where this epoch had a check."""
        if not isinstance(scheduling.scheduler, ReduceLROnPlateau) or scheduling.monitor is None:
            scheduling.scheduler.step()
        elif self._memory.validation_epoch == epoch:
            name = type(scheduling.scheduler).__name__
            scheduling.scheduler.step(monitored_value(self._memory.validation_metrics, scheduling.monitor, name))
