"""The metrics' two files: ``metrics.jsonl``, which grows by lines and is thinned out now and then, and its table as CSV."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterable
from pathlib import Path

from fsmtrain.views.recording.append_files import Appended, RowFile
from fsmtrain.views.recording.metric_rows import Row, merged

MOST = 10_000  # rows of training in the file; beyond these, rows are put together
FREE = 2_000  # rows of training at the beginning that may come as fast as they do
RATE = 100  # rows of training a second, about, after these
FIXED = ("kind", "time", "epoch", "batch", "step", "batches")
REST = 20  # a table with a new column is written anew only after so many times the time that it takes


class MetricsFiles:
    """The two files of one run, from now to `close`.

    A row is one batch at first, and later where batches are not too fast for that. When there are more than `MOST`, rows are
    put together, each for twice as many batches, with means over them, and so on: the files stay small, and each part of a run
    is told as finely as any other.

    The columns of the CSV file are the metrics, in the order in which they first came. One that comes later is a new column at
    the right, for which the table is written anew from the JSON lines.
    """

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self._lines = RowFile(folder / "metrics.jsonl")
        self._table = Appended(folder / "metrics.csv")
        self._most = most
        self._width = 1  # batches that a row of training stands for, at least
        self._train_rows = 0
        self._columns: dict[str, str] = {}  # a metric's column
        self._rates = 0  # columns of learning rates
        self._stale, self._rested_until = True, 0.0

    def width(self, batches: int, seconds: float) -> int:
        """How many batches a row is to stand for, where so many have come in this time."""
        if self._train_rows < FREE or seconds <= 0:
            return self._width
        return max(self._width, math.ceil(batches / seconds / RATE))

    def add(self, rows: list[Row]) -> None:
        """Write rows."""
        if not rows:
            return
        self._lines.add_rows(rows)
        self._train_rows += sum(row["kind"] == "train" for row in rows)
        if self._know(rows):
            self._stale = True
        if self._train_rows > self._most:
            self._thin_out()
        if not self._stale:
            self._table.add(self._cells(rows))
        elif time.monotonic() >= self._rested_until:
            self._write_table()

    def close(self) -> None:
        """No more is added."""
        if self._stale:
            self._write_table()
        self._lines.close()
        self._table.close()

    def reread(self) -> dict[str, float]:
        """Go on with files that are there already: as finely as they are. Returns the last value of each metric."""
        rows, last = list(self._lines.rows()), dict[str, float]()
        self._know(rows)
        sizes = sorted(row["batches"] for row in rows if row["kind"] == "train")
        self._train_rows, self._width = len(sizes), max(1, sizes[len(sizes) // 2]) if sizes else 1
        for row in rows:
            last |= {name: float(value) for name, value in row["values"].items()}
        self._write_table()
        return last

    def _thin_out(self) -> None:
        self._width *= 2
        rows = list(merged(self._lines.rows(), self._width))
        self._lines.replace_rows(rows)
        self._train_rows = sum(row["kind"] == "train" for row in rows)
        self._stale, self._rested_until = True, 0.0

    # ---- the table

    def _know(self, rows: Iterable[Row]) -> bool:
        """Take in the columns of these rows; returns whether one is new."""
        before = len(self._columns), self._rates
        for row in rows:
            self._rates = max(self._rates, len(row.get("lr", ())))
            for name in row["values"]:
                if name not in self._columns:
                    taken = name in FIXED or name.split("/")[0] == "lr"
                    self._columns[name] = f"metric/{name}" if taken else name
        return before != (len(self._columns), self._rates)

    def _write_table(self) -> None:
        begun = time.monotonic()
        rates = ["lr"] if self._rates == 1 else [f"lr/{i}" for i in range(self._rates)]
        header = _csv([[*FIXED, *rates, *self._columns.values()]])
        self._table.replace(header + self._cells(self._lines.rows()))
        self._stale = False
        now = time.monotonic()
        self._rested_until = now + REST * (now - begun)

    def _cells(self, rows: Iterable[Row]) -> bytes:
        def cells(row: Row) -> list[object]:
            rates, values = row.get("lr", []), row["values"]
            places = [row.get(name, "") for name in FIXED]
            rates = [rates[i] if i < len(rates) and rates[i] is not None else "" for i in range(self._rates)]
            return [*places, *rates, *(values.get(name, "") for name in self._columns)]

        return _csv(map(cells, rows))


def _csv(rows: Iterable[list[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="replace")
