"""Rows of metrics: notes put together into one row a batch, or one for several batches, with means over them.

A row is plain data, as it is written. How many batches a row stands for is decided in `metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import define, field

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.views.recording.json_csv import number

Row = dict[str, Any]


@define
class Bin:
    """Batches that become one row: the means of their metrics, and the place and learning rates of the last one."""

    time: float = 0.0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    batches: int = 0
    began: float = 0.0
    lr: dict[int, float] = field(factory=dict)
    sums: dict[str, float] = field(factory=dict)
    counts: dict[str, int] = field(factory=dict)

    def add(self, note: MetricRecord) -> None:
        """Take a note. Notes of one batch, of several splits or optimizers, are one batch."""
        is_batch = note.optimizer is not None
        if not self.sums:
            self.began = note.seconds
        if is_batch and (not self.batches or (note.epoch, note.batch) != (self.epoch, self.batch)):
            self.batches += 1
        self.time, self.epoch, self.batch, self.step = note.seconds, note.epoch, note.batch, note.step
        if note.optimizer is not None and note.lr is not None:
            self.lr[note.optimizer] = note.lr
        for name, value in note.values.items():
            self._count(name, value, 1)

    def merge(self, row: Row) -> None:
        """Take a row, as if its batches came after those that are here."""
        self.time, self.epoch, self.batch, self.step = row["time"], row["epoch"], row["batch"], row["step"]
        self.batches += row["batches"]
        self.lr |= {index: float(rate) for index, rate in enumerate(row.get("lr", [])) if rate is not None}
        counts = row.get("counts", {})
        for name, value in row["values"].items():
            self._count(name, float(value), counts.get(name, row["batches"] or 1))

    def _count(self, name: str, value: float, count: int) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value * count
        self.counts[name] = self.counts.get(name, 0) + count

    def row(self) -> Row:
        """The row."""
        counts = {name: count for name, count in self.counts.items() if count != (self.batches or 1)}
        lr = [number(self.lr[i]) if i in self.lr else None for i in range(max(self.lr, default=-1) + 1)]
        return {
            **place("train", self.time, self.epoch, self.batch, self.step),
            "batches": self.batches,
            "values": {name: number(total / self.counts[name]) for name, total in self.sums.items()},
            **({"lr": lr} if lr else {}),
            **({"counts": counts} if counts else {}),
        }


class Bins:
    """Notes in, rows out. `width` is how many batches a row stands for."""

    def __init__(self) -> None:
        self.width = 1
        self._open: Bin | None = None

    def add(self, notes: Iterable[MetricRecord]) -> Iterator[Row]:
        """The rows that are complete with these notes."""
        for note in notes:
            if note.kind != "train":
                yield from self.rest(note.seconds)
                values = {name: number(value) for name, value in note.values.items()}
                yield {**place(note.kind, note.seconds, note.epoch, note.batch, note.step), "values": values}
                continue
            open_bin = self._open
            begins = open_bin is None or (note.epoch, note.batch) != (open_bin.epoch, open_bin.batch)
            if open_bin is not None and open_bin.batches >= self.width and begins:
                yield open_bin.row()
                open_bin = None
            if open_bin is None:
                open_bin = self._open = Bin()
            open_bin.add(note)

    def rest(self, before: float) -> Iterator[Row]:
        """The row that is still open, if it began before this time: nobody knows when the rest of its batches will come."""
        if self._open is not None and self._open.began <= before:
            yield self._open.row()
            self._open = None


def merged(rows: Iterable[Row], width: int) -> Iterator[Row]:
    """Rows of training put together until each stands for so many batches; all others as they are."""
    held: Bin | None = None
    taken = 0
    for row in rows:
        if row["kind"] != "train":
            yield row
            continue
        held = held or Bin()
        held.merge(row)
        taken += max(1, row["batches"])
        if taken >= width:
            yield held.row()
            held, taken = None, 0
    if held is not None:
        yield held.row()


def place(kind: str, time: float, epoch: int, batch: int, step: int) -> Row:
    """What each row begins with."""
    return {"kind": kind, "time": round(time, 6), "epoch": epoch, "batch": batch, "step": step}
