"""Rows of ``metrics.jsonl``: metric records of one batch, or averaged over several fast ones.

How many batches a row stands for is decided in `metrics_jsonl`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from attrs import define, field

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.json_values import json_number


@define
class RowMean:
    """The row of one or several train batches: mean metrics, position and learning rates of the last.

    Attributes:
        time: Seconds since the run began, of the last record.
        epoch: Index of the epoch, from 0.
        batch: Index of the batch in the epoch, from 0.
        step: ``global_step`` of the last record.
        batches: How many batches have been added.
        first_time: Seconds since the run began, of the first record.
        lr: The learning rate of each optimizer, by its index.
        sums: The sum of each metric.
        counts: How many values each sum has.
    """

    time: float = 0.0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    batches: int = 0
    first_time: float = 0.0
    lr: dict[int, float] = field(factory=dict)
    sums: dict[str, float] = field(factory=dict)
    counts: dict[str, int] = field(factory=dict)

    def add(self, record: MetricRecord) -> None:
        """Add a record. Several splits or optimizers of one batch count as one batch."""
        if not self.sums:
            self.first_time = record.seconds
        if record.optimizer is not None:
            self.batches += not self.batches or not self.is_of_same_batch(record)
            if record.lr is not None:
                self.lr[record.optimizer] = record.lr
        self.time, self.epoch, self.batch, self.step = record.seconds, record.epoch, record.batch, record.step
        for name, value in record.values.items():
            self._add_values(name, value, 1)

    def is_of_same_batch(self, record: MetricRecord) -> bool:
        """Return whether a record belongs to the batch that was added last."""
        return (record.epoch, record.batch) == (self.epoch, self.batch)

    def add_row(self, row: Row) -> None:
        """Add a finished row, whose batches follow those added so far."""
        self.time, self.epoch, self.batch, self.step = row["time"], row["epoch"], row["batch"], row["step"]
        self.batches += row["batches"]
        self.lr |= {index: float(rate) for index, rate in enumerate(row.get("lr", [])) if rate is not None}
        counts = row.get("counts", {})
        for name, value in row["values"].items():
            self._add_values(name, float(value), counts.get(name, row["batches"] or 1))

    def _add_values(self, name: str, mean: float, count: int) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + mean * count
        self.counts[name] = self.counts.get(name, 0) + count

    def row(self) -> Row:
        """Return the finished row."""
        counts = {name: count for name, count in self.counts.items() if count != (self.batches or 1)}
        lr = [json_number(self.lr[i]) if i in self.lr else None for i in range(max(self.lr, default=-1) + 1)]
        return {
            **row_position("train", self.time, self.epoch, self.batch, self.step),
            "batches": self.batches,
            "values": {name: json_number(total / self.counts[name]) for name, total in self.sums.items()},
            **({"lr": lr} if lr else {}),
            **({"counts": counts} if counts else {}),
        }


class RowBuilder:
    """Build rows of `batches_per_row` train batches from records. Other kinds are never averaged."""

    def __init__(self) -> None:
        self.batches_per_row = 1
        self._open: RowMean | None = None
        self._boundaries = deque[float]()  # rising times, see `add_boundary`

    def add_boundary(self, seconds: float) -> None:
        """Let no row stand for batches up to this time and for later ones. Times must rise."""
        self._boundaries.append(seconds)

    def add(self, records: Iterable[MetricRecord]) -> Iterator[Row]:
        """Yield the rows that these records complete."""
        for record in records:
            while self._boundaries and self._boundaries[0] < record.seconds:
                yield from self.flush(self._boundaries.popleft())
            if record.kind != "train":
                yield from self.flush(record.seconds)
                values = {name: json_number(value) for name, value in record.values.items()}
                position = row_position(record.kind, record.seconds, record.epoch, record.batch, record.step)
                yield {**position, "values": values}
                continue
            mean = self._open
            # What a hook logged after its batch's row was finished gets no part of the next batch, nor that one's step.
            is_full = mean is not None and (mean.batches >= self.batches_per_row or mean.batches == 0)
            if mean is not None and is_full and not mean.is_of_same_batch(record):
                yield mean.row()
                mean = None
            if mean is None:
                mean = self._open = RowMean()
            mean.add(record)

    def flush(self, before: float) -> Iterator[Row]:
        """Yield the unfinished row if it began at this time or before: more batches may take long to come."""
        if self._open is not None and self._open.first_time <= before:
            yield self._open.row()
            self._open = None

    def drop_open(self) -> None:
        """Forget the unfinished row, and all boundaries."""
        self._open = None
        self._boundaries.clear()


def merge_rows(rows: Iterable[Row], batches_per_row: int, boundaries: Iterable[float] = ()) -> Iterator[Row]:
    """Merge neighbouring train rows until each has this many batches; yield other rows unchanged.

    Args:
        rows: Rows in the order of their times.
        batches_per_row: How many batches a row has at least, unless a boundary follows.
        boundaries: Rising times. Rows up to one are not merged with later ones.
    """
    mean: RowMean | None = None
    batches = 0
    ahead = deque(boundaries)
    for row in rows:
        while ahead and ahead[0] < row["time"]:
            ahead.popleft()
            if mean is not None:
                yield mean.row()
                mean, batches = None, 0
        if row["kind"] != "train":
            yield row
            continue
        mean = mean or RowMean()
        mean.add_row(row)
        batches += max(1, row["batches"])
        if batches >= batches_per_row:
            yield mean.row()
            mean, batches = None, 0
    if mean is not None:
        yield mean.row()


def row_position(kind: str, time: float, epoch: int, batch: int, step: int) -> Row:
    """Return the fields with which every row begins."""
    return {"kind": kind, "time": round(time, 6), "epoch": epoch, "batch": batch, "step": step}
