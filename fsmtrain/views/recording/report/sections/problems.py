"""Sections "Error" and "Warnings": the run's error, logged warnings, damaged files, NaN metrics."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from fsmtrain.views.recording.files.json_values import to_float
from fsmtrain.views.recording.read_run_folder import RunRecord
from fsmtrain.views.recording.report.elements.html import Markup, join, tag

LOG_ENTRY = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "
LOG_WARNING = re.compile(LOG_ENTRY + "(?:warning|error|critical): ")
MAX_WARNINGS, MAX_WARNING_CHARACTERS = 100, 4_000


def error_section(run: RunRecord) -> Markup | None:
    """Return the error that ended the run, with its notes and traceback; None if there was none."""
    error = run.end.get("error")
    if not isinstance(error, dict):
        return None
    notes = [str(note) for note in error.get("notes") or ()]
    return tag(
        "section",
        tag("h2", "Error"),
        tag("pre", tag("b", str(error.get("type", ""))), ": ", str(error.get("message", "")), class_="error"),
        join(tag("pre", note) for note in notes),
        tag("details", tag("summary", "traceback"), tag("pre", str(error.get("traceback", "")))),
    )


def warnings_section(run: RunRecord) -> Markup | None:
    """Return the warnings; None if there are none."""
    logged = Counter(parse_warnings(run.log))
    messages = [*run.damage, *(f"{message} ({count} times)" if count > 1 else message for message, count in logged.items())]
    messages += _nonfinite_metrics(run)
    if not messages:
        return None
    hidden = len(messages) - MAX_WARNINGS
    more = [f"{hidden:,} more in log.txt."] if hidden > 0 else []
    items = (tag("li", message[:MAX_WARNING_CHARACTERS]) for message in [*messages[:MAX_WARNINGS], *more])
    return tag("section", tag("h2", "Warnings"), tag("ul", join(items)), class_="warnings")


def parse_warnings(log: str) -> Iterator[str]:
    """Yield the warnings and errors of a log, each with all of its lines.

    >>> list(parse_warnings("2026-01-01 00:00:00  warning: a\\n    b\\n2026-01-01 00:00:01  epoch 3\\n"))
    ['a\\nb']
    """
    for entry in re.split(f"^(?={LOG_ENTRY})", log, flags=re.MULTILINE):
        if prefix := LOG_WARNING.match(entry):
            first, *more = entry[prefix.end() :].split("\n")
            yield "\n".join([first, *(line[4:] for line in more if line.startswith("    "))])


def _nonfinite_metrics(run: RunRecord) -> list[str]:
    first_steps: dict[str, int] = {}
    for row in run.metrics:
        for name, value in row["values"].items():
            if not math.isfinite(to_float(value)):
                first_steps.setdefault(name, row["step"])
    return [f"{name} was not finite, first at step {step:,}." for name, step in first_steps.items()]
