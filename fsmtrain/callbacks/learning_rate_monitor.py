"""`LearningRateMonitor`: log the learning rate of each parameter group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from fsmtrain.errors import OptionsError
from fsmtrain.machine import Machine
from fsmtrain.runtime.hooks.callback import Callback


class LearningRateMonitor(Callback):
    """Log learning rates, under the names that Lightning has.

    ``lr-SGD``; of several groups ``lr-SGD/pg1``, ``lr-SGD/pg2``, ...; of a second optimizer of the class ``lr-SGD-1``.
    The record of a run has the ``lr`` of each optimizer's first group with each batch
    that has a loss or a metric. This is for loggers, and for the other groups.

    Args:
        logging_interval: ``"step"``: with each step, that with which it was made. ``"epoch"``: at the beginning of each epoch.
        log_momentum: Whether to log the momentum, too, as ``lr-SGD-momentum``: of Adam the first beta.

    Raises:
        OptionsError: There is no such interval.

    Example:
        >>> from fsmtrain import Trainer
        >>> trainer = Trainer(callbacks=[LearningRateMonitor("epoch")])
    """

    def __init__(self, logging_interval: Literal["step", "epoch"] = "step", *, log_momentum: bool = False) -> None:
        if logging_interval not in ("step", "epoch"):
            raise OptionsError(f"LearningRateMonitor(logging_interval={logging_interval!r}): must be 'step' or 'epoch'.")
        self.logging_interval, self.log_momentum = logging_interval, log_momentum

    def on_epoch_start(self, machine: Machine) -> None:
        """Log all learning rates, once an epoch."""
        if self.logging_interval == "epoch":
            for optimizer in machine.optimizers:
                self._log(machine, optimizer)

    def on_after_optimizer_step(self, machine: Machine, optimizer: Any) -> None:
        """Log the learning rates of the optimizer that has stepped, before a scheduler changes them."""
        if self.logging_interval == "step":
            self._log(machine, optimizer)

    def _log(self, machine: Machine, optimizer: Any) -> None:
        for name, group in named_groups(machine.optimizers):
            if any(group is own for own in optimizer.param_groups):
                machine.log(name, group["lr"])
                momentum = group.get("momentum", group.get("betas", (None,))[0])
                if self.log_momentum and momentum is not None:
                    machine.log(f"{name}-momentum", momentum)


def named_groups(optimizers: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the parameter groups of all optimizers, each with the name of its learning rate."""
    seen: Counter[str] = Counter()
    for optimizer in optimizers:
        kind = type(optimizer).__name__
        name = f"lr-{kind}-{seen[kind]}" if seen[kind] else f"lr-{kind}"
        seen[kind] += 1
        for number, group in enumerate(optimizer.param_groups, start=1):
            yield name if len(optimizer.param_groups) == 1 else f"{name}/pg{number}", group
