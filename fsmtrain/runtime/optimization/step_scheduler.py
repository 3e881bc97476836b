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


def step_scheduler(config: SchedulerConfig, value: Scalar | None = None, *, has_stepped: bool = True) -> None:
    """Step a scheduler.

    Args:
        config: The scheduler.
        value: The metric that it monitors; None if it monitors none.
        has_stepped: Whether its optimizer has made a step. If not, all were skipped or are in an open window, and torch's
            warning of a wrong order of calls is silenced: the order is ours, and right.
    """
    if value is not None:
        config.scheduler.step(value)
        return
    with contextlib.nullcontext() if has_stepped else warnings.catch_warnings():
        if not has_stepped:
            warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)` before", category=UserWarning)
        config.scheduler.step()
