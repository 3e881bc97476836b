"""``metrics.jsonl`` and ``metrics.csv``: append rows of metrics, and merge rows if there are too many."""

from __future__ import annotations

import csv
import io
import math
import time
from collections import deque
from collections.abc import Collection, Iterable
from pathlib import Path

from fsmtrain.views.recording.files.json_files import AppendFile, JsonLinesFile, Row
from fsmtrain.views.recording.files.metric_rows import merge_rows

MAX_TRAIN_ROWS = 10_000  # in the file; beyond, neighbouring rows are merged
FREE_TRAIN_ROWS = 2_000  # rows at the beginning of a run that each stand for one batch, however fast batches are
MAX_ROWS_PER_SECOND = 100  # after those, about
FIXED_COLUMNS = ("kind", "time", "epoch", "batch", "step", "batches")
MAX_BOUNDARIES = 100  # the newest checkpoints, across which no rows are merged
FORMULA_STARTS = ("=", "+", "-", "@", "\t")  # of a cell that spreadsheets would compute
CSV_REST_FACTOR = 20  # after a rewrite of the CSV file, the least pause before the next, in durations of that rewrite


class MetricsFiles:
    """Writes ``metrics.jsonl`` and ``metrics.csv`` of one run.

    A train row is one batch at first, and later if batches are slow enough. Beyond `max_train_rows`, rows are merged so that
    each stands for twice as many batches, and so on: the files stay small, and every part of a run has the same resolution. No
    row stands for batches before and after one of the last checkpoints, so that a resumed run can cut the files there.

    The CSV columns are the metrics in the order in which they first appeared. A new metric adds a column at the right, and the
    CSV file is rewritten from the JSON lines.
    """

    def __init__(self, folder: Path, max_train_rows: int = MAX_TRAIN_ROWS) -> None:
        self._lines = JsonLinesFile(folder / "metrics.jsonl")
        self._csv = AppendFile(folder / "metrics.csv")
        self._max_train_rows = max_train_rows
        self._min_batches_per_row = 1
        self._train_rows = 0
        self._boundaries = deque[float](maxlen=MAX_BOUNDARIES)  # the times of the last checkpoints, rising
        self._columns: dict[str, str] = {}  # metric name -> column name
        self._lr_columns = 0
        self._csv_is_stale, self._next_csv_rewrite = True, 0.0  # the latter on the monotonic clock

    def batches_per_row(self, batches: int, seconds: float) -> int:
        """Return how many batches a row should stand for, if this many came in this time."""
        if self._train_rows < FREE_TRAIN_ROWS or seconds <= 0:
            return self._min_batches_per_row
        return max(self._min_batches_per_row, math.ceil(batches / seconds / MAX_ROWS_PER_SECOND))

    def append(self, rows: list[Row]) -> None:
        """Append rows to both files."""
        if not rows:
            return
        self._lines.append_rows(rows)
        self._train_rows += sum(row["kind"] == "train" for row in rows)
        if self._add_columns(rows):
            self._csv_is_stale = True
        if self._train_rows > self._max_train_rows:
            self._halve_rows()
        if not self._csv_is_stale:
            self._csv.append(self._format_cells(rows))
        elif time.monotonic() >= self._next_csv_rewrite:
            self._rewrite_csv()

    def add_boundary(self, seconds: float) -> None:
        """Keep rows up to this time apart from later ones: a checkpoint was saved then."""
        self._boundaries.append(seconds)

    def cut(self, seconds: float) -> None:
        """Remove the rows that are newer than this time, and bring the CSV file up to date."""
        rows = [row for row in self._lines.read_rows() if is_metric_row(row) and row["time"] <= seconds]
        self._lines.replace_rows(rows)
        self._train_rows = sum(row["kind"] == "train" for row in rows)
        self._rewrite_csv()

    def sync(self) -> None:
        """Make the rows of ``metrics.jsonl`` survive a power cut. The CSV file is made from them when the run is resumed."""
        self._lines.sync()

    def update_csv(self) -> None:
        """Bring the CSV file up to date."""
        if self._csv_is_stale:
            self._rewrite_csv()

    def close(self) -> None:
        """Bring the CSV file up to date, and close both files."""
        try:
            self.update_csv()
        finally:
            self._lines.close()
            self._csv.close()

    def reload(self) -> dict[str, float]:
        """Continue files that exist, at their resolution. Returns the last value of each metric. Damaged rows do not count."""
        rows, last_values = list(self._rows()), dict[str, float]()
        self._add_columns(rows)
        sizes = sorted(row["batches"] for row in rows if row["kind"] == "train")
        self._train_rows, self._min_batches_per_row = len(sizes), max(1, sizes[len(sizes) // 2]) if sizes else 1
        for row in rows:
            last_values |= {name: float(value) for name, value in row["values"].items()}
        self._rewrite_csv()
        return last_values

    def _rows(self) -> Iterable[Row]:
        return filter(is_metric_row, self._lines.read_rows())

    def _halve_rows(self) -> None:
        self._min_batches_per_row *= 2
        rows = list(merge_rows(self._rows(), self._min_batches_per_row, self._boundaries))
        self._lines.replace_rows(rows)
        self._train_rows = sum(row["kind"] == "train" for row in rows)
        self._csv_is_stale, self._next_csv_rewrite = True, 0.0

    # ---- metrics.csv

    def _add_columns(self, rows: Iterable[Row]) -> bool:
        """Add the columns that these rows need. Returns whether one is new."""
        before = len(self._columns), self._lr_columns
        for row in rows:
            self._lr_columns = max(self._lr_columns, len(row.get("lr", ())))
            for name in row["values"]:
                if name not in self._columns:
                    self._columns[name] = column_name(name, self._columns.values())
        return before != (len(self._columns), self._lr_columns)

    def _rewrite_csv(self) -> None:
        start = time.monotonic()
        lr_names = ["lr"] if self._lr_columns == 1 else [f"lr/{i}" for i in range(self._lr_columns)]
        header = _format_csv([[*FIXED_COLUMNS, *lr_names, *self._columns.values()]])
        self._csv.replace(header + self._format_cells(self._rows()))
        self._csv_is_stale = False
        now = time.monotonic()
        self._next_csv_rewrite = now + CSV_REST_FACTOR * (now - start)

    def _format_cells(self, rows: Iterable[Row]) -> bytes:
        def cells(row: Row) -> list[object]:
            lr, values = row.get("lr", []), row["values"]
            fixed_cells = [row.get(name, "") for name in FIXED_COLUMNS]
            lr_cells = [lr[i] if i < len(lr) and lr[i] is not None else "" for i in range(self._lr_columns)]
            return [*fixed_cells, *lr_cells, *(values.get(name, "") for name in self._columns)]

        return _format_csv(map(cells, rows))


def is_metric_row(row: Row) -> bool:
    """Return whether a row of ``metrics.jsonl`` has what every row has, with values of the right types."""
    numbers = all(isinstance(row.get(name), (int, float)) for name in ("time", "epoch", "batch", "step"))
    is_counted = row.get("kind") != "train" or isinstance(row.get("batches"), int)
    return numbers and is_counted and isinstance(row.get("values"), dict) and isinstance(row.get("kind"), str)


def column_name(metric: str, taken: Collection[str]) -> str:
    """Return the name of a metric's column in ``metrics.csv``, which no other column has.

    >>> column_name("loss", []), column_name("time", []), column_name("lr/x", []), column_name("metric/time", ["metric/time"])
    ('loss', 'metric/time', 'metric/lr/x', 'metric/metric/time')

    A name that a spreadsheet would compute begins with an apostrophe:

    >>> column_name("=1+1", []), column_name("=1+1", ["'=1+1"])
    ("'=1+1", 'metric/=1+1')
    """
    name = metric.encode(errors="backslashreplace").decode().replace("\r", r"\r")  # which ends a row even where it is quoted
    if name in FIXED_COLUMNS or name.split("/")[0] == "lr":
        name = f"metric/{name}"
    column = f"'{name}" if name.startswith(FORMULA_STARTS) else name
    while column in taken:
        column = name = f"metric/{name}"
    return column


def _format_csv(rows: Iterable[list[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")
