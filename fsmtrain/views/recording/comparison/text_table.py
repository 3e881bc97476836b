"""The table of runs as text, for a terminal, and as JSON data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import asdict

from fsmtrain.views.number_format import duration
from fsmtrain.views.recording.comparison.run_facts import RunFacts
from fsmtrain.views.recording.comparison.run_table import RunTable
from fsmtrain.views.recording.files.json_values import to_json_value

MAX_CELL = 28  # characters


def headings(table: RunTable) -> list[str]:
    """Return the names of the columns."""
    best = [f"best {table.metric}"] if table.metric else []
    return ["run", *best, *table.columns, "state", "steps", "epochs", "time", "started"]


def cells(table: RunTable, run: RunFacts) -> list[str]:
    """Return a run's values as a person reads them, one for each of `headings`."""
    state = run.outcome if run.reason in ("", "error", "requested") else f"{run.outcome}: {run.reason}"
    steps, epochs = ("" if count is None else f"{count:,}" for count in (run.steps, run.epochs))
    time = duration(run.seconds) if math.isfinite(run.seconds) else ""
    best = [_number(table.best(run))] if table.metric else []
    differing = (cell(run.settings.get(name)) for name in table.columns)
    return [run.name, *best, *differing, state, steps, epochs, time, _minute(run.started)]


def cell(value: object) -> str:
    """Return a setting as it stands in a table.

    >>> [cell(value) for value in (0.0001, 1e-7, 0.30000000000000004, True, None, "a\\tb", 3)]
    ['0.0001', '1e-07', '0.3', 'True', '', 'a b', '3']
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def as_text(table: RunTable, damaged: Mapping[str, str]) -> str:
    """Return the table as lines of text.

    Args:
        table: The runs.
        damaged: For each folder that cannot be read, why.
    """
    heads = [*headings(table)]
    rows = [cells(table, run) for run in table.runs]
    best = table.best_run
    if best is not None and table.metric:
        column = heads.index(f"best {table.metric}")
        rows[table.runs.index(best)][column] += " *"
        for row in rows:
            row[column] += "" if row[column].endswith("*") else "  "
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    numeric = [bool(rows) and all(_is_number(text) for text in column) for column in zip(*rows, strict=True)] or [False] * len(
        heads
    )
    lines = [_line(heads, widths, numeric), *(_line(row, widths, numeric) for row in rows)] if rows else []
    if best is not None:
        lines.append(f"* the best of all: the {'least' if table.mode == 'min' else 'greatest'} {table.metric}")
    return "\n".join([*lines, *(f"{name}: {why}" for name, why in damaged.items())])


def as_json(table: RunTable, damaged: Mapping[str, str]) -> dict[str, Any]:
    """Return the runs as JSON data: all values, and the names of the columns that differ."""
    runs = [
        {
            "run": run.name,
            "path": str(run.record.path),
            "state": run.outcome,
            "reason": run.reason or None,
            "started": run.started,
            "seconds": None if math.isnan(run.seconds) else run.seconds,
            "epochs": run.epochs,
            "steps": run.steps,
            "best": to_json_value(table.best(run)) if table.metric in run.metrics else None,
            "metrics": {name: to_json_value(asdict(extremes)) for name, extremes in run.metrics.items()},
            "settings": run.settings,
        }
        for run in table.runs
    ]
    return {"metric": table.metric, "mode": table.mode, "columns": table.columns, "runs": runs, "damaged": dict(damaged)}


def _line(texts: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = [t.rjust(width) if right else t.ljust(width) for t, width, right in zip(texts, widths, numeric, strict=True)]
    return "  ".join(padded).rstrip()


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "").rstrip("* ") or "0")
    except ValueError:
        return False
    return True


def _minute(started: str) -> str:
    """Return a time to the minute.

    >>> _minute("2026-01-02T03:04:05+00:00"), _minute("yesterday")
    ('2026-01-02 03:04', 'yesterday')
    """
    try:
        return f"{datetime.fromisoformat(started):%Y-%m-%d %H:%M}"
    except ValueError:
        return cell(started)
