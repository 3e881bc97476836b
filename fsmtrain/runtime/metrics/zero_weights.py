"""Warn of metrics that are NaN because every batch of a pass had the weight 0."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from torch import Tensor

from fsmtrain.runtime.metrics.host_transfer import HostTransfer, PendingMetrics
from fsmtrain.runtime.metrics.step_outputs import Metrics, number


class ZeroWeights:
    """Looks for weights that sum to 0. Those on a device are copied to the host meanwhile, so that nothing waits for them.

    Args:
        step: The step method that gave the weights.
        warn: Is called with the text of a warning.
    """

    def __init__(self, step: str, warn: Callable[[str], None]) -> None:
        self._step, self._warn = step, warn
        self._on_device: Metrics = {}
        self._pending: PendingMetrics | None = None  # the same, on their way

    def find(self, weights: Metrics) -> None:
        """Look at the summed weights of a pass that has ended; at those on a device when they have arrived."""
        self.find_arrived()
        self._on_device = {name: weight for name, weight in weights.items() if isinstance(weight, Tensor)}
        if self._on_device:
            self._pending = HostTransfer().copy_async(self._on_device)
        self._find({name: number(weight) for name, weight in weights.items() if name not in self._on_device})

    def find_arrived(self) -> None:
        """Look at the weights of the pass before, if they have arrived. Never waits."""
        if self._pending is not None and self._pending.arrived:
            self._find(self._pending.values())
            self._pending = None

    def finish(self) -> None:
        """Look at the last weights, at the end of a run. Waits for the device, unless an error has ended the run."""
        if self._pending is not None and sys.exception() is None:
            self._find({name: number(weight) for name, weight in self._on_device.items()})
        self._pending = None

    def _find(self, weights: Mapping[str, float]) -> None:
        names = [name for name, weight in weights.items() if weight == 0]
        if names:
            what = "is NaN, because every batch that gave it has" if len(names) == 1 else "are NaN: all their batches have"
            self._warn(f"{self._step}: {', '.join(names)} {what} the weight 0.")
