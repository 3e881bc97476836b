"""Section "Time by state": a bar per state, time waiting for data, and the bottleneck."""

from __future__ import annotations

from typing import Any

from fsmtrain.core.dispatcher import Timing
from fsmtrain.core.states import State
from fsmtrain.views.console.run_summary import bottleneck
from fsmtrain.views.loader_workers import LoaderWorkers
from fsmtrain.views.number_format import duration, percent
from fsmtrain.views.recording.files.json_values import to_float
from fsmtrain.views.recording.read_run_folder import RunRecord, as_dict
from fsmtrain.views.recording.report.elements.charts import state_css_class
from fsmtrain.views.recording.report.elements.html import Markup, paragraphs, table_element, tag

MIN_BETWEEN_FRACTION = 0.001  # of the wall time spent between visits, from which on it has a row


def state_times(run: RunRecord, key: str = "states") -> dict[State, Timing]:
    """Return visits and seconds of each known state. The key ``device_states`` has GPU time."""
    pairs = run.last.get(key) or {}
    return {state: _timing(pairs[state.value]) for state in State if state.value in pairs}


def _timing(pair: Any) -> Timing:
    try:
        visits, seconds = pair
        return Timing(int(visits), float(seconds))
    except (TypeError, ValueError):
        return Timing(0, 0.0)


def _loader_workers(run: RunRecord) -> LoaderWorkers:
    """Return the worker processes of the run's loaders, as far as they were recorded."""
    recorded = as_dict(run.run.get("loader_workers"))
    number, cpus = (value if type(value := recorded.get(key)) is int else None for key in ("num_workers", "cpus"))
    return LoaderWorkers(num_workers=number, restarts=recorded.get("restarts") is True, cpus=cpus)


def time_section(run: RunRecord) -> Markup | None:
    """Return the section; None if no time was recorded."""
    times, gpu_times = state_times(run), state_times(run, "device_states")
    has_gpu = bool(gpu_times)
    inside = sum(timing.seconds for timing in times.values())
    if not times or not inside:
        return None
    wall = max(inside, to_float(run.end.get("wall_seconds", run.last.get("time", 0.0))))
    rows = [
        _row(str(state), state_css_class(state), timing, wall, gpu_times.get(state), has_gpu) for state, timing in times.items()
    ]
    between = Timing(0, wall - inside)
    if between.seconds / wall >= MIN_BETWEEN_FRACTION:
        rows.append(_row("(between visits)", "structural shade1", between, wall, None, has_gpu))
    data_wait = _timing(run.last.get("data_wait"))
    sentences = [bottleneck(times, data_wait, wall, _loader_workers(run))]
    if data_wait.count:
        sentences.append(
            f"Waited {duration(data_wait.seconds)} for data loaders, {percent(data_wait.seconds / wall)} of the time."
        )
    heads = ("state", "share", "time", "visits", "per visit", *(["GPU"] if has_gpu else []))
    return tag("section", tag("h2", "Time by state"), paragraphs(sentences), table_element(heads, rows, class_="numbers bars"))


def _row(name: str, css_class: str, timing: Timing, wall: float, gpu: Timing | None, has_gpu: bool) -> Markup:
    share = timing.seconds / wall
    bar = tag("span", tag("i", class_=css_class, style=f"width:{share:.2%}"), class_="bar")
    return tag(
        "tr",
        tag("th", name, scope="row"),
        tag("td", bar, " ", percent(share), class_="share"),
        tag("td", duration(timing.seconds)),
        tag("td", f"{timing.count:,}" if timing.count else ""),
        tag("td", duration(timing.seconds / timing.count) if timing.count else ""),
        tag("td", duration(gpu.seconds) if gpu else "") if has_gpu else "",
    )
