"""Step a learning-rate scheduler at the end of an epoch or of a validation."""

from __future__ import annotations

import contextlib
import warnings

from torch.optim.lr_scheduler import ReduceLROnPlateau

from fsmtrain.runtime.metrics.step_outputs import Scalar
from fsmtrain.runtime.optimization.optimizers import SchedulerConfig


def monitors_a_metric(config: SchedulerConfig) -> bool:
    """Return whether a scheduler's step needs a metric."""
    return isinstance(config.scheduler, ReduceLROnPlateau) and config.monitor is not None


def step_scheduler(config: SchedulerConfig, value: Scalar | None = None, *, order_is_ours: bool) -> None:
    """Step a scheduler.

    Args:
        config: The scheduler.
        value: The metric that it monitors; None if it monitors none.
        order_is_ours: Whether to silence torch's warning of a wrong order of calls, because its optimizer has only skipped
            steps so far.
    """
    if value is not None:
        config.scheduler.step(value)
        return
    with warnings.catch_warnings() if order_is_ours else contextlib.nullcontext():
        if order_is_ours:
            warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)` before", category=UserWarning)
        config.scheduler.step()
