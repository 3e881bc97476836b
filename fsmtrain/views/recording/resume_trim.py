"""Trim a run folder back to the checkpoint from which the run resumes, and continue its totals.

What was recorded after the checkpoint will be computed again, so it is removed. A checkpoint stores the run's totals as the
timeline has them: counts and seconds. From then on, every cumulative value is the checkpoint's total plus this process's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from fsmtrain.core.metric_record import MetricRecord
from fsmtrain.replace_file import replace_file
from fsmtrain.views.recording.files.json_files import Row, read_json_lines
from fsmtrain.views.recording.files.json_values import json_line

SUMMED_KEYS = frozenset({"time", "states", "device_states", "data_wait", "windows", "row_counts"})  # others are counters


@frozen(kw_only=True)
class CheckpointTotals:
    """The totals of a run at the checkpoint from which it resumes. For a new run, everything is zero.

    Attributes:
        checkpoint: The checkpoint; None for a new run.
        metric_seconds: The time of the checkpoint on the clock of the metric records.
        totals: The totals, as in ``status.json``.
        unfinished: The metric records of the batch in which the run was stopped; empty if that was between two batches.
    """

    checkpoint: Path | None = None
    metric_seconds: float = 0.0
    totals: Mapping[str, Any] = field(factory=dict)
    unfinished: tuple[MetricRecord, ...] = ()

    @classmethod
    def parse(cls, checkpoint: Path, metadata: Mapping[str, Any]) -> CheckpointTotals:
        """Read the totals from a checkpoint's metadata. Incomplete ones count as zero."""
        seconds, totals = metadata.get("metric_seconds"), metadata.get("totals")
        if isinstance(seconds, (int, float)) and isinstance(totals, dict) and isinstance(totals.get("time"), (int, float)):
            unfinished = _parse_records(metadata.get("unfinished", []))
            if unfinished is not None:
                return cls(checkpoint=checkpoint, metric_seconds=seconds, totals=totals, unfinished=unfinished)
        return cls(checkpoint=checkpoint)

    @property
    def seconds(self) -> float:
        """The wall time of the run up to the checkpoint."""
        return float(self.totals.get("time", 0.0))

    def plus(self, totals: Mapping[str, Any]) -> Row:
        """Return the run's totals, given those of this process. Counters already include the checkpoint's.

        >>> before = CheckpointTotals(
        ...     totals={"time": 2.0, "states": {"step": [3, 0.5]}, "windows": [{"1": 3}], "row_counts": [3, 0]}
        ... )
        >>> before.plus(
        ...     {"time": 1.0, "step": 4, "states": {"step": [1, 0.25]}, "windows": [{"2": 1}], "row_counts": [1, 1]}
        ... )
        {'time': 3.0, 'step': 4, 'states': {'step': [4, 0.75]}, 'windows': [{'1': 3, '2': 1}], 'row_counts': [4, 1]}
        """
        return {name: _add(self.totals.get(name), value) if name in SUMMED_KEYS else value for name, value in totals.items()}


def _parse_records(records: Any) -> tuple[MetricRecord, ...] | None:
    """Return metric records that were stored as lists of their fields; None if they are damaged."""
    try:
        parsed = tuple(MetricRecord(*values) for values in records)
    except TypeError:
        return None
    return parsed if all(map(_is_intact, parsed)) else None


def _is_intact(record: MetricRecord) -> bool:
    numbers = (record.seconds, record.epoch, record.batch, record.step)
    optional = (record.optimizer, record.lr)
    values = record.values if isinstance(record.values, dict) else {"": None}
    is_number = all(isinstance(value, (int, float)) for value in (*numbers, *values.values()))
    return record.kind == "train" and is_number and all(isinstance(value, (int, float, type(None))) for value in optional)


def _add(before: Any, now: Any) -> Any:
    """Add two nested numbers. If they do not match, as after a change of the table, return the new one."""
    if now is None:
        return before
    if isinstance(now, dict) and isinstance(before, dict):
        return {name: _add(before.get(name), now.get(name)) for name in {**before, **now}}
    if isinstance(now, list) and isinstance(before, list):
        return [_add(*pair) for pair in zip(before, now, strict=True)] if len(before) == len(now) else now
    if isinstance(now, (int, float)) and isinstance(before, (int, float)):
        return now + before if isinstance(now, int) and isinstance(before, int) else round(now + before, 6)
    return now


def trim_run_folder(folder: Path, totals: CheckpointTotals) -> int:
    """Remove what was recorded after the checkpoint; return how many rows of metrics that were.

    It may be interrupted and repeated. A row of several batches is removed if any of them came after the checkpoint.

    Raises:
        OSError: The folder is not writable.
    """
    (folder / "end.json").unlink(missing_ok=True)
    removed = _trim_lines(folder / "metrics.jsonl", totals.metric_seconds)
    _trim_lines(folder / "timeline.jsonl", totals.seconds)
    return removed


def _trim_lines(path: Path, seconds: float) -> int:
    rows = [row for row in read_json_lines(path) if row is not None and isinstance(row.get("time"), (int, float))]
    kept = [row for row in rows if row["time"] <= seconds]
    replace_file(path, b"".join(map(json_line, kept)))
    return len(rows) - len(kept)
