"""The table of runs as text, for a terminal, and as JSON data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import asdict

from fsmtrain.plurals import plural
from fsmtrain.views.number_format import duration
from fsmtrain.views.recording.comparison.run_facts import RunFacts
from fsmtrain.views.recording.comparison.run_table import FIXED, RunTable
from fsmtrain.views.recording.files.json_values import to_json_value

MAX_CELL = 28  # characters


def headings(table: RunTable, columns: Sequence[str]) -> list[str]:
    """Return the names of the columns: how each run went, then settings, then when it began."""
    best = [f"best {table.metric}"] if table.metric else []
    return ["run", "state", "steps", "time", *best, *columns, "epochs", "started"]


def cells(table: RunTable, run: RunFacts, columns: Sequence[str]) -> list[str]:
    """Return a run's values as a person reads them, one for each of `headings`."""
    best = [_number(table.best(run))] if table.metric else []
    went, began = ("run", "state", "steps", "time"), ("epochs", "started")
    settings = (cell(table.setting(run, name)) for name in columns)
    return [*(_fixed(run, name) for name in went), *best, *settings, *(_fixed(run, name) for name in began)]


def _fixed(run: RunFacts, name: str) -> str:
    """Return one of the values that every run has as a person reads it."""
    value = FIXED[name](run)
    if name == "state":
        return run.outcome if run.reason in ("", "error", "requested") else f"{run.outcome}: {run.reason}"
    if name == "time":
        return duration(run.seconds) if math.isfinite(run.seconds) else ""
    if name == "started":
        return _minute(run.started)
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


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


def as_text(
    table: RunTable,
    damaged: Mapping[str, str],
    *,
    columns: Sequence[str] | None = None,
    shows_all: bool = False,
    width: int | None = None,
) -> str:
    """Return the table as lines of text, the last of which says what was left out.

    Args:
        table: The runs.
        damaged: For each folder that cannot be read, why.
        columns: The columns beside the run's name. None: how it went, and the flags and hyperparameters that differ.
        shows_all: Whether to show all settings that differ, and all columns however wide.
        width: Characters of a line, for columns that were not asked for; None: any number.

    Raises:
        UsageError: No run has such a column.
    """
    settings = table.columns if shows_all else table.typed_columns
    heads = headings(table, settings) if columns is None else ["run", *columns]
    rows = [cells(table, run, settings) if columns is None else _chosen(table, run, columns) for run in table.runs]
    best = table.best_run
    ranked = f"best {table.metric}"
    if best is not None and ranked in heads:
        column = heads.index(ranked)
        rows[table.runs.index(best)][column] += " *"
        for row in rows:
            row[column] += "" if row[column].endswith("*") else "  "
    shown = range(len(heads)) if width is None or shows_all or columns is not None else _fitting(heads, rows, width)
    lines = _aligned([[row[n] for n in shown] for row in (heads, *rows)]) if rows else []
    if best is not None and ranked in heads:
        lines.append(f"* the best of all: the {'least' if table.mode == 'min' else 'greatest'} {table.metric}")
    if rows and columns is None and not shows_all:
        left_out = [name for n, name in enumerate(heads) if n not in shown]
        lines += _note(left_out, len(set(table.columns) - set(settings)), width)
    return "\n".join([*lines, *(f"{name}: {why}" for name, why in damaged.items())])


def _chosen(table: RunTable, run: RunFacts, columns: Sequence[str]) -> list[str]:
    found = {name: table.value(run, name, f"--columns {name}") for name in columns}
    return [
        run.name,
        *(
            _fixed(run, n) if n in FIXED else cell(table.setting(run, n) if value is None else value)
            for n, value in found.items()
        ),
    ]


def _fitting(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the columns that fit into a line, in order; the run's name and state are always among them."""
    shown: list[int] = []
    left = width + 2
    for n, texts in enumerate(zip(heads, *rows, strict=True)):
        left -= max(map(len, texts)) + 2
        if left < 0 and n > 1:
            break
        shown.append(n)
    return shown


def _note(left_out: Sequence[str], derived: int, width: int | None) -> list[str]:
    """Return the line that says what was left out, if anything was."""
    parts = [plural(len(left_out), "column") + " for which the line is too short"] if left_out else []
    parts += [plural(derived, "difference") + " of guards, sizes or versions"] if derived else []
    if not parts:
        return []
    way = " (--all, --columns NAME,...)"
    named = f"not shown: {', '.join(left_out)}{f'; {parts[-1]}' if derived else ''}{way}"
    return [named if left_out and (width is None or len(named) <= width) else f"not shown: {'; '.join(parts)}{way}"]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    columns = [*zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(map(_is_number, texts)) for _, *texts in columns]
    return [_line(row, widths, numeric) for row in rows]


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
