"""`MetricRecord`: the metrics of a run at one moment, as numbers on the host."""

from __future__ import annotations

from typing import Literal

from attrs import define

Kind = Literal["train", "validation", "test", "validate"]  # a batch or a hook, a check, the test, a validation by itself


@define(eq=False)  # not frozen: one is made for each batch, which takes twice as long
class MetricRecord:
    """The metrics of one forward, of one pass over val or test loaders, or those that a hook logged.

    Attributes:
        kind: Where they come from.
        seconds: Since the run began.
        epoch: The index of the epoch, from 0.
        batch: The index of the batch in the epoch, from 0.
        step: ``global_step`` when the metrics were computed: the steps that the weights had behind them.
        values: The metrics by name.
        optimizer: The index of the optimizer whose turn it was; None in a note that is of no forward.
        lr: The learning rate of that optimizer's first group; None where there is no such optimizer.
    """

    kind: Kind
    seconds: float
    epoch: int
    batch: int
    step: int
    values: dict[str, float]
    optimizer: int | None = None
    lr: float | None = None
