"""What the run did and what that took: the diagram with heat, the time by state, the steps and windows of each optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State
from fsmtrain.core.table import Row, Table
from fsmtrain.errors import MissingExtraError
from fsmtrain.views.console.run_summary import bottleneck
from fsmtrain.views.diagrams.diagram_data import DiagramData
from fsmtrain.views.diagrams.edges import kind
from fsmtrain.views.diagrams.svg_png import svg
from fsmtrain.views.diagrams.tally import Tally
from fsmtrain.views.number_format import duration, percent, repeat_count
from fsmtrain.views.recording.report.curves import as_number
from fsmtrain.views.recording.report.html import Content, Markup, joined, printable, tag
from fsmtrain.views.recording.report.read_run_folder import Recorded
from fsmtrain.wording import plural

WINDOWS = 6  # lengths of windows that are told one by one


# ---- the diagram


def diagram(run: Recorded) -> Markup | None:
    """The diagram with what was taken how often, and the same as a table; the table alone where nothing can draw."""
    try:
        sketch = _sketch(run)
    except (KeyError, TypeError, ValueError):
        return None  # of a run with states that this version does not know
    if sketch is None:
        return None
    tally = _tally(run, sketch)
    said = ""
    drawn = None
    try:
        drawn = Markup(svg(sketch, tally))
    except MissingExtraError:
        said = "The picture is missing, since what draws it is not installed: pip install 'fsmtrain[draw]'."
    rows = [_transition(row, label, tally, i) for i, (row, label) in enumerate(zip(sketch.table, sketch.labels, strict=True))]
    head = tag("tr", *(tag("th", name, scope="col") for name in ("from", "to", "if", "taken")))
    table = tag("div", tag("table", tag("thead", head), tag("tbody", joined(rows))), class_="wide")
    return tag(
        "section",
        tag("h2", "The machine"),
        tag("p", said, class_="note") if said else "",
        tag("div", drawn, class_="diagram", tabindex="0", role="group", aria_label="the state diagram") if drawn else "",
        tag("details", tag("summary", "the transitions as a table"), table, open=drawn is None),
    )


def _sketch(run: Recorded) -> DiagramData | None:
    rows = run.table.get("rows")
    if not rows:
        return None
    table = Table(tuple(Row(source=State(row["source"]), to=State(row["to"])) for row in rows))
    return DiagramData(table, tuple(printable(row["label"]) for row in rows))


def _tally(run: Recorded, sketch: DiagramData) -> Tally | None:
    taken = run.last.get("taken", run.status.get("taken"))
    if not isinstance(taken, list) or len(taken) != len(sketch.table):
        return None
    return Tally(sketch.table, tuple(map(int, taken)), {state: each.seconds for state, each in time_section(run).items()})


def _transition(row: Row, label: str, tally: Tally | None, index: int) -> Markup:
    count = "" if tally is None else repeat_count(tally.taken[index])
    return tag("tr", tag("td", str(row.source)), tag("td", str(row.to)), tag("td", label), tag("td", count, class_="number"))


# ---- the time


def time_section(run: Recorded, name: str = "states") -> dict[State, Timing]:
    """Visits and seconds of each state that this version knows."""
    known = {state.value: state for state in State}
    found = run.last.get(name) or {}
    return {known[state]: _spent(pair) for state, pair in found.items() if state in known}


def _spent(pair: Any) -> Timing:
    try:
        visits, seconds = pair
        return Timing(int(visits), float(seconds))
    except (TypeError, ValueError):
        return Timing(0, 0.0)


def states(run: Recorded) -> Markup | None:
    """The table of states with bars, and what held the run up."""
    each, gpu = time_section(run), time_section(run, "device_states")
    inside = sum(one.seconds for one in each.values())
    if not each or not inside:
        return None
    whole = max(inside, as_number(run.end.get("wall_seconds", run.last.get("time", 0.0))))
    loading = _spent(run.last.get("data_wait"))
    names = ("state", "share", "time", "visits", "a visit", *(("GPU",) if gpu else ()))
    rows = [_state(state, each[state], whole, gpu) for state in State if state in each]
    between = Timing(0, whole - inside)
    if between.seconds / whole >= 0.001:
        rows.append(_line("(between visits)", "structural", between, whole, bool(gpu)))
    said = [bottleneck(each, loading, whole)]
    if loading.count:
        share = percent(loading.seconds / whole)
        said.append(f"Loaders were waited for {duration(loading.seconds)} in all, {share} of the time.")
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    table = tag("table", tag("thead", head), tag("tbody", joined(rows)), class_="numbers bars")
    notes = joined(tag("p", sentence) for sentence in said if sentence)
    return tag("section", tag("h2", "Where the time went"), notes, tag("div", table, class_="wide"))


def _state(state: State, one: Timing, whole: float, gpu: dict[State, Timing]) -> Markup:
    return _line(str(state), kind(state), one, whole, bool(gpu), gpu.get(state))


def _line(name: str, kind: str, one: Timing, whole: float, has_gpu: bool, device: Timing | None = None) -> Markup:
    share = one.seconds / whole
    bar = tag("span", tag("i", class_=kind, style=f"width:{share:.2%}"), class_="bar")
    cells: list[Content] = [
        tag("td", bar, " ", percent(share), class_="share"),
        tag("td", duration(one.seconds)),
        tag("td", f"{one.count:,}" if one.count else ""),
        tag("td", duration(one.seconds / one.count) if one.count else ""),
    ]
    if has_gpu:
        cells.append(tag("td", duration(device.seconds) if device else ""))
    return tag("tr", tag("th", name, scope="row"), *cells)


# ---- steps and windows


def optimizers(run: Recorded) -> Markup | None:
    """For each optimizer its steps, those that the plan foretold, and its windows; and how far the plan came true."""
    last, plan = run.last, run.run.get("plan") or {}
    done, foretold = last.get("optimizer_steps") or [], plan.get("optimizer_steps") or []
    if not done:
        return None
    kinds, windows = run.run.get("optimizers") or [], last.get("windows") or []
    columns = ("optimizer", "steps", *(("planned",) if plan else ()), "windows")
    rows = []
    for i, steps in enumerate(done):
        cells = [tag("td", f"{steps:,}")]
        if plan:
            cells.append(tag("td", f"{foretold[i]:,}" if i < len(foretold) else ""))
        cells.append(tag("td", _windows(windows[i] if i < len(windows) else {}), class_="words"))
        rows.append(tag("tr", tag("th", f"{i}  {kinds[i]}" if i < len(kinds) else str(i), scope="row"), *cells))
    head = tag("tr", *(tag("th", name, scope="col", class_="words" if name == "windows" else None) for name in columns))
    skipped = last.get("steps_skipped") or 0
    said = [_against(last, plan)]
    if skipped:
        policy = (run.run.get("options") or {}).get("on_nonfinite")
        whose = "by the gradient scaler, since gradients" if policy is None else "since losses or gradients"
        said.append(f"{plural(skipped, 'step')} skipped {whose} were no finite numbers.")
    if back := last.get("rollbacks"):
        said.append(f"{plural(back, 'rollback')} to a checkpoint, each leaving out a batch whose numbers were not finite.")
    return tag(
        "section",
        tag("h2", "Steps and windows"),
        tag("div", tag("table", tag("thead", head), tag("tbody", joined(rows)), class_="numbers"), class_="wide"),
        joined(tag("p", sentence) for sentence in said if sentence),
    )


def _windows(lengths: dict[str, int]) -> str:
    """How many windows there were of each length, the most frequent first.

    >>> _windows({"1": 18, "2": 702})
    '702 of 2 backwards, 18 of 1'
    """
    ordered = sorted(lengths.items(), key=lambda one: (-one[1], -as_number(one[0])))
    told = [f"{count:,} of {length}" for length, count in ordered[:WINDOWS]]
    if not told:
        return "none closed"
    told[0] += " backward" if ordered[0][0] == "1" else " backwards"
    rest = ordered[WINDOWS:]
    return ", ".join([*told, *([f"{sum(count for _, count in rest):,} of {len(rest)} other lengths"] if rest else [])])


def _against(last: dict[str, Any], plan: dict[str, Any]) -> str:
    pairs = [
        ("steps", last.get("step"), plan.get("global_step")),
        ("validations", last.get("validations"), plan.get("validations")),
    ]
    known: Sequence[tuple[str, Any, Any]] = [pair for pair in pairs if isinstance(pair[1], int) and isinstance(pair[2], int)]
    if not known:
        return ""
    if all(done == planned for _, done, planned in known):
        return "All happened as planned: " + ", ".join(f"{done:,} {name}" for name, done, _ in known) + "."
    return "Of the plan: " + ", ".join(f"{done:,} of {planned:,} {name}" for name, done, planned in known) + "."
