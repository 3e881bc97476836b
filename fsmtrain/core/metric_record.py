"""`MetricRecord`: the metrics of a run at one moment, as numbers on the host."""

from __future__ import annotations

from typing import Literal

from attrs import define

# "epoch" is training over a whole epoch; "validation" a validation within a run that trains, "validate" a run that only
# validates.
Kind = Literal["train", "epoch", "validation", "test", "validate"]


@define(eq=False)  # not frozen: one is made for each batch, which takes twice as long
class MetricRecord:
    """The metrics of one forward, of an epoch, of one pass over val or test loaders, or of one hook that logged.

    Attributes:
        kind: What they are the metrics of.
        seconds: Since the run began.
        epoch: The index of the epoch, from 0.
        batch: The index of the batch in the epoch, from 0.
        step: ``global_step`` when the metrics were computed: the steps that the weights had taken.
        values: The metrics by name.
        optimizer: The index of the optimizer whose turn it was; None if the record is not of a forward.
        lr: The learning rate of that optimizer's first group; None if there is no such optimizer.
    """

    kind: Kind
    seconds: float
    epoch: int
    batch: int
    step: int
    values: dict[str, float]
    optimizer: int | None = None
    lr: float | None = None
