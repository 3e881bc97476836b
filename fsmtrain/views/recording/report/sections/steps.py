"""Section "Optimizer steps": steps and accumulation windows of each optimizer, compared with the plan."""

from __future__ import annotations

from fsmtrain.plurals import plural
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.json_values import to_float
from fsmtrain.views.recording.read_run_folder import RunRecord
from fsmtrain.views.recording.report.elements.html import Markup, paragraphs, table_element, tag

MAX_WINDOW_LENGTHS = 6  # listed one by one


def steps_section(run: RunRecord) -> Markup | None:
    """Return the section; None if no steps were recorded."""
    last, plan = run.last, run.run.get("plan") or {}
    steps, planned = last.get("optimizer_steps") or [], plan.get("optimizer_steps") or []
    if not steps:
        return None
    classes, windows = run.run.get("optimizers") or [], last.get("windows") or []
    rows = []
    for i, count in enumerate(steps):
        cells = [tag("td", f"{count:,}")]
        if plan:
            cells.append(tag("td", f"{planned[i]:,}" if i < len(planned) else ""))
        cells.append(tag("td", _windows(windows[i] if i < len(windows) else {}), class_="words"))
        rows.append(tag("tr", tag("th", f"{i}  {classes[i]}" if i < len(classes) else str(i), scope="row"), *cells))
    windows_head = tag("th", "windows", scope="col", class_="words")
    heads = ("optimizer", "steps", *(["planned"] if plan else []), windows_head)
    sentences = [_compare_with_plan(last, plan)]
    if skipped := last.get("steps_skipped"):
        by_scaler = run.options.get("on_nonfinite") is None
        reason = "by the gradient scaler: gradients" if by_scaler else "by on_nonfinite: losses or gradients"
        sentences.append(f"{plural(skipped, 'step')} skipped {reason} were not finite.")
    if rollbacks := last.get("rollbacks"):
        sentences.append(f"{plural(rollbacks, 'rollback')} to a checkpoint, each excluding a batch that was not finite.")
    return tag("section", tag("h2", "Optimizer steps"), table_element(heads, rows, class_="numbers"), paragraphs(sentences))


def _windows(counts: dict[str, int]) -> str:
    """Return the number of windows of each length (in backwards), the most frequent first.

    >>> _windows({"1": 18, "2": 702})
    '702 of 2 backwards, 18 of 1'
    """
    ordered = sorted(counts.items(), key=lambda item: (-item[1], -to_float(item[0])))
    if not ordered:
        return "none"
    parts = [f"{count:,} of {length}" for length, count in ordered[:MAX_WINDOW_LENGTHS]]
    parts[0] += " backward" if ordered[0][0] == "1" else " backwards"
    rest = ordered[MAX_WINDOW_LENGTHS:]
    if rest:
        parts.append(f"{sum(count for _, count in rest):,} of {len(rest)} other lengths")
    return ", ".join(parts)


def _compare_with_plan(last: Row, plan: Row) -> str:
    pairs = [
        ("steps", last.get("step"), plan.get("global_step")),
        ("validations", last.get("validations"), plan.get("validations")),
    ]
    known = [(name, done, planned) for name, done, planned in pairs if isinstance(done, int) and isinstance(planned, int)]
    if not known:
        return ""
    if all(done == planned for _, done, planned in known):
        return "As planned: " + ", ".join(f"{done:,} {name}" for name, done, _ in known) + "."
    return "Of the plan: " + ", ".join(f"{done:,} of {planned:,} {name}" for name, done, planned in known) + "."
