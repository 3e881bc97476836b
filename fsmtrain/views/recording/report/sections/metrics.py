"""Section "Metrics": the last value, the minimum and the maximum of each metric."""

from __future__ import annotations

import math

from fsmtrain.plurals import plural
from fsmtrain.views.recording.files.json_values import to_float
from fsmtrain.views.recording.read_run_folder import RunRecord
from fsmtrain.views.recording.report.elements.html import Markup, paragraphs, table_element, tag


def metrics_section(run: RunRecord) -> Markup | None:
    """Return the section; None if no metric was recorded."""
    last = last_metrics(run)
    if not last:
        return None
    recorded: dict[str, list[tuple[float, int]]] = {name: [] for name in last}  # name -> (value, step)
    for row in run.metrics:
        for name, value in row["values"].items():
            recorded[name].append((to_float(value), row["step"]))
    early_stopping = run.options.get("early_stop_callback")
    rule = early_stopping if isinstance(early_stopping, dict) and run.end.get("reason") != "tested" else {}
    monitor = rule.get("monitor")
    rows = []
    for name, values in recorded.items():
        finite = [(value, step) for value, step in values if math.isfinite(value)]
        is_monitored = name == (monitor if f"{monitor}_epoch" not in recorded else f"{monitor}_epoch")
        best = rule.get("mode") if is_monitored else None
        low, high = (choose(finite, key=lambda pair: pair[0]) if len(finite) > 1 else None for choose in (min, max))
        cells = [tag("td", f"{last[name]:.4g}"), _extreme(low, is_best=best == "min"), _extreme(high, is_best=best == "max")]
        rows.append(tag("tr", tag("th", name, *([tag("small", " monitored")] if is_monitored else []), scope="row"), *cells))
    batches = max((row.get("batches", 1) for row in run.metrics), default=1)
    note = f"Training values are means over up to {plural(batches, 'batch')}." if batches > 1 else ""
    heads = ("metric", "last", "minimum", "maximum")
    return tag("section", tag("h2", "Metrics"), table_element(heads, rows, class_="numbers"), paragraphs([note], class_="note"))


def last_metrics(run: RunRecord) -> dict[str, float]:
    """Return the last value of each metric, including those of a later test or validation."""
    rows = {name: value for row in run.metrics for name, value in row["values"].items()}
    end = run.end.get("metrics") or {}
    later = {name: value for row in run.metrics if row["kind"] in ("test", "validate") for name, value in row["values"].items()}
    return {name: to_float(value) for name, value in (rows | end | later).items()}


def _extreme(extreme: tuple[float, int] | None, *, is_best: bool) -> Markup:
    if extreme is None:
        return tag("td", "")
    value, step = extreme
    text = f"{value:.4g}"
    return tag("td", tag("b", text, class_="best") if is_best else text, " ", tag("small", f"step {step:,}"))
