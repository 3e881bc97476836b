"""Average metrics over the batches of a pass."""

from __future__ import annotations

import torch
from attrs import define, field
from torch import Tensor

from fsmtrain.runtime.metrics.step_outputs import Metrics


@define
class Averages:
    """The mean of each metric over the batches of a pass, all loaders together."""

    sums: Metrics = field(factory=dict)
    counts: dict[str, int] = field(factory=dict)

    def add(self, metrics: Metrics) -> None:
        """Add the metrics of one batch."""
        for name, value in metrics.items():
            if isinstance(value, Tensor) and not value.is_floating_point():
                value = value.to(torch.get_default_dtype())
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> Metrics:
        """Return the means, in the order in which the metrics first occurred."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}
