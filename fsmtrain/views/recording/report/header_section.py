"""What a report says first: how the run ended, what came of it, and what a person should be warned of."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from fsmtrain.views.number_format import duration
from fsmtrain.views.recording.report.curves import as_number
from fsmtrain.views.recording.report.html import Markup, joined, tag
from fsmtrain.views.recording.report.read_run_folder import Recorded
from fsmtrain.wording import plural

Row = dict[str, Any]

WARNING = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  (?:warning|error|critical): ")
DATED = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ")
TOLD = 100  # warnings that are written out; of more it is said how many there are


def heading(run: Recorded, now: datetime) -> Markup:
    """The title, the reason, and the numbers that one looks for first."""
    model = _model(run)
    kind, short, sentence = header_section(run, now)
    last = run.last
    seconds = as_number(run.end.get("wall_seconds", last.get("time", math.nan)))
    epochs = run.run.get("options", {}).get("max_nb_epochs")
    facts = [
        ("time", duration(seconds) if math.isfinite(seconds) else "unknown"),
        ("epoch", f"{last['epoch'] + 1:,} of {epochs:,}" if "epoch" in last and isinstance(epochs, int) and epochs else ""),
        ("batches", _count(last, "batches")),
        ("steps", _count(last, "step")),
        ("validations", _count(last, "validations")),
    ]
    return tag(
        "header",
        tag("p", tag("span", "run ", run.run.get("name") or run.path.name), class_="over"),
        tag("h1", model),
        tag("p", tag("b", short, class_=f"badge {kind}"), " ", sentence, class_="verdict"),
        tag("dl", *(tag("div", tag("dt", name), tag("dd", told)) for name, told in facts if told), class_="tiles"),
    )


def _model(run: Recorded) -> str:
    return str((run.run.get("model") or {}).get("class") or "a model")


def _count(last: Row, name: str) -> str:
    return f"{last[name]:,}" if isinstance(last.get(name), int) else ""


def header_section(run: Recorded, now: datetime) -> tuple[str, str, str]:
    """How the run ended: good, bad or open, in a word, and in a sentence."""
    if run.has_ended:
        sentence = str(run.end.get("sentence", ""))
        if run.end.get("reason") == "error":
            return "bad", "failed", f"{_first_up(sentence)}."
        return "good", "stopped" if run.end.get("reason") == "requested" else "ended", f"{_first_up(sentence)}."
    written = run.status.get("written")
    said = "It has not written why it ended: it goes on, or its process was killed."
    if not written:
        return "open", "not ended", f"{said} It wrote nothing of where it stands."
    state, ago = run.status.get("state", "?"), _ago(str(written), now)
    return "open", "not ended", f"{said} Its last sign, in the state {state}, is of {written}{ago}."


def _first_up(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:] if not re.match(r"\w*(?:Error|Exception)\b", sentence) else sentence


def _ago(written: str, now: datetime) -> str:
    try:
        seconds = (now - datetime.fromisoformat(written)).total_seconds()
    except (ValueError, TypeError):
        return ""
    return f", {duration(seconds)} before this report" if seconds >= 1 else ""


# ---- what came of it


def metrics_table(run: Recorded) -> Markup | None:
    """For each metric the last value, and the lowest and the highest with their steps."""
    met: dict[str, list[tuple[int, float]]] = {}
    for row in run.metrics:
        for name, value in row["values"].items():
            met.setdefault(name, []).append((row["step"], as_number(value)))
    last = last_metrics(run)
    for name in last:
        met.setdefault(name, [])
    if not met:
        return None
    rule = (run.run.get("options") or {}).get("early_stop_callback")
    watched = rule if isinstance(rule, dict) and run.end.get("reason") != "tested" else {}
    rows = []
    for name, values in met.items():
        finite = [(value, step) for step, value in values if math.isfinite(value)]
        is_watched = name == watched.get("monitor")
        least, most = (choose(finite, key=lambda one: one[0]) if len(finite) > 1 else None for choose in (min, max))
        lows, highs = is_watched and watched.get("mode") == "min", is_watched and watched.get("mode") == "max"
        cells = [tag("td", f"{last[name]:.4g}"), _extreme(least, is_best=lows), _extreme(most, is_best=highs)]
        rows.append(tag("tr", tag("th", name, *([tag("small", " watched")] if is_watched else []), scope="row"), *cells))
    head = tag("tr", *(tag("th", name, scope="col") for name in ("metric", "last", "lowest", "highest")))
    several = max((row.get("batches", 1) for row in run.metrics), default=1)
    note = f"Of training these are means over up to {plural(several, 'batch')}." if several > 1 else ""
    table = tag("div", tag("table", tag("thead", head), tag("tbody", joined(rows)), class_="numbers"), class_="wide")
    return joined([table, *([tag("p", note, class_="note")] if note else [])])


def last_metrics(run: Recorded) -> dict[str, float]:
    """The last value of each metric: what the run itself said at its end, and what a later test added."""
    rows = {name: as_number(value) for row in run.metrics for name, value in row["values"].items()}
    said = {name: as_number(value) for name, value in (run.end.get("metrics") or {}).items()}
    tests = [row for row in run.metrics if row["kind"] in ("test", "validate")]
    return rows | said | {name: as_number(value) for row in tests for name, value in row["values"].items()}


def _extreme(one: tuple[float, int] | None, *, is_best: bool) -> Markup:
    if one is None:
        return tag("td", "")
    value = tag("b", f"{one[0]:.4g}", class_="best") if is_best else f"{one[0]:.4g}"
    return tag("td", value, " ", tag("small", f"step {one[1]:,}"))


# ---- what went wrong


def failure(run: Recorded) -> Markup | None:
    """The error that ended the run, and the way to it."""
    error = run.end.get("error")
    if not isinstance(error, dict):
        return None
    notes = [str(note) for note in error.get("notes") or ()]
    return tag(
        "section",
        tag("h2", "The error"),
        tag("pre", tag("b", str(error.get("type", ""))), ": ", str(error.get("message", "")), class_="error"),
        joined(tag("pre", note) for note in notes),
        tag("details", tag("summary", "traceback"), tag("pre", str(error.get("traceback", "")))),
    )


def warnings(run: Recorded) -> Markup | None:
    """What the log warns of, what could not be read, and metrics that were no numbers."""
    said = Counter(warned(run.log))
    told = [*run.damage, *(f"{message} ({count} times)" if count > 1 else message for message, count in said.items())]
    told += _odd(run)
    if not told:
        return None
    more = [f"{len(told) - TOLD:,} others stand in log.txt."] if len(told) > TOLD else []
    items = (tag("li", message[:4000]) for message in [*told[:TOLD], *more])
    return tag("section", tag("h2", "Warnings"), tag("ul", joined(items)), class_="warnings")


def warned(log: str) -> Iterator[str]:
    """The warnings in a log, those of several lines as one.

    >>> list(warned("2026-01-01 00:00:00  warning: a\\n    b\\n2026-01-01 00:00:01  epoch 3\\n"))
    ['a\\nb']
    """
    open_one: list[str] | None = None
    for line in log.split("\n"):
        if DATED.match(line):
            if open_one:
                yield "\n".join(open_one)
            begins = WARNING.match(line)
            open_one = [line[begins.end() :]] if begins else None
        elif open_one is not None and line.startswith("    "):
            open_one.append(line[4:])
    if open_one:
        yield "\n".join(open_one)


def _odd(run: Recorded) -> list[str]:
    first: dict[str, int] = {}
    for row in run.metrics:
        for name, value in row["values"].items():
            if not math.isfinite(as_number(value)):
                first.setdefault(name, row["step"])
    return [f"{name} was no finite number, first at step {step:,}." for name, step in first.items()]
