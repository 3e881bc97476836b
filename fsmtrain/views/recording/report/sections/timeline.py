"""Section "States over time": the share of each state in the time, over the course of the run."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.json_values import to_float
from fsmtrain.views.recording.read_run_folder import RunRecord
from fsmtrain.views.recording.report.elements.axes import HEIGHT, WIDTH, Axis
from fsmtrain.views.recording.report.elements.charts import ChartData, figure, legend_entry, state_css_class, svg_picture
from fsmtrain.views.recording.report.elements.curve_points import Grid
from fsmtrain.views.recording.report.elements.html import Markup, join, tag

MAX_SPANS = 600
MAX_EDGED_SPANS = 150  # up to which areas have outlines
MIN_SHARE = 0.0005  # of any span; a state that never reaches it is left out
MIN_MOVED_SECONDS = 1e-6
BLANK_NOTE = "Blank areas are time between visits to states: in callbacks, and before the first visit."
UNITS = ((7200.0, 3600.0, "hours"), (300.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))  # from this wall time on, seconds, name


@frozen
class TimeSpan:
    """A part of the run.

    Attributes:
        end: Its end, in seconds since the run began.
        step: ``global_step`` at its end.
        epoch: The epoch at its end.
        shares: The share of it that each state took, from 0 to 1.
    """

    end: float
    step: int
    epoch: int
    shares: tuple[float, ...]


def time_spans(rows: Sequence[Row], states: Sequence[str], max_spans: int = MAX_SPANS) -> list[TimeSpan]:
    """Return the spans between timeline lines, merged to at most about `max_spans` of equal length.

    >>> lines = [{"time": 1.0, "states": {"step": [1, 0.5]}}, {"time": 3.0, "states": {"step": [2, 0.5], "test": [1, 1.0]}}]
    >>> [(span.end, span.shares) for span in time_spans(lines, ["step", "test"])]
    [(1.0, (0.5, 0.0)), (3.0, (0.0, 0.5))]
    """
    if not rows or rows[-1]["time"] <= 0:
        return []
    lines = list({int(row["time"] / rows[-1]["time"] * max_spans): row for row in rows}.values())  # the last of each span
    lengths = [line["time"] - start for line, start in zip(lines, [0.0, *(line["time"] for line in lines)], strict=False)]
    return [
        TimeSpan(line["time"], line.get("step", 0), line.get("epoch", 0), _shares(seconds, length))
        for line, length, seconds in zip(lines, lengths, _seconds_by_state(lines, lengths, states), strict=True)
        if length > 0
    ]


def _shares(seconds: Sequence[float], length: float) -> tuple[float, ...]:
    whole = max(length, sum(seconds))  # the two clocks may differ a little
    return tuple(each / whole for each in seconds)


def _seconds_by_state(lines: Sequence[Row], lengths: Sequence[float], states: Sequence[str]) -> list[list[float]]:
    """Return the seconds of each state in each span.

    The time of a visit is recorded at its end. If the visit began in an earlier span, that span gets its part.
    """
    seconds: list[list[float]] = []
    before = [0.0] * len(states)
    for n, (line, length) in enumerate(zip(lines, lengths, strict=True)):
        now = [to_float((line["states"].get(state) or (0, 0.0))[1]) for state in states]
        seconds.append([max(0.0, after - earlier) for after, earlier in zip(now, before, strict=True)])
        before = now
        visited = str(lines[n - 1].get("state"))
        if n and visited in states:
            _move_to_earlier_spans(seconds, lengths, states.index(visited), sum(seconds[n]) - length)
    return seconds


def _move_to_earlier_spans(seconds: list[list[float]], lengths: Sequence[float], state: int, excess: float) -> None:
    """Move excess seconds of a state from the last span to earlier spans that have time left."""
    for span in range(len(seconds) - 2, -1, -1):
        moved = min(excess, seconds[-1][state], lengths[span] - sum(seconds[span]))
        if moved <= MIN_MOVED_SECONDS:
            return
        seconds[-1][state] -= moved
        seconds[span][state] += moved
        excess -= moved


# ---- the chart


def timeline_section(run: RunRecord, data: ChartData) -> Markup | None:
    """Return the section; None if the timeline has too few lines."""
    states = [state for state in State if any(state.value in row["states"] for row in run.timeline)]
    spans = time_spans(run.timeline, [state.value for state in states])
    if not spans:
        return None
    states = [state for i, state in enumerate(states) if any(span.shares[i] >= MIN_SHARE for span in spans)]
    spans = time_spans(run.timeline, [state.value for state in states])
    wall_seconds = spans[-1].end
    unit, unit_name = next((unit, name) for min_seconds, unit, name in UNITS if wall_seconds >= min_seconds)
    axis = Axis(0.0, wall_seconds / unit)
    grid = Grid(
        x=tuple(round(span.end / unit, 4) for span in spans),
        steps=tuple(span.step for span in spans),
        epochs=tuple(span.epoch for span in spans),
        batches=(),
    )
    grid_index = data.grid_index(grid)
    shares = {state.value: [round(span.shares[i], 4) for span in spans] for i, state in enumerate(states)}
    series = [{"name": name, "grid": grid_index, "y": values} for name, values in shares.items()]
    data_chart = {"group": "time", "x": [0.0, axis.high], "lin": [0.0, 1.0], "log": None, "series": series, "unit": unit_name}
    classes = [state_css_class(state) for state in states]
    percent_ticks = [tag("span", f"{n} %", style=f"top:{100 - n}%") for n in (0, 25, 50, 75, 100)]
    areas = tag("g", join(_areas(spans, classes)), class_="lin")
    chart = figure(
        data.add_chart(data_chart),
        title=f"share of each state, over {unit_name}",
        legend=[legend_entry(i, f"area {classes[i]}", states[i].value) for i in reversed(range(len(states)))],
        picture=svg_picture("Share of the time by state", [areas], class_="curves"),
        y_labels=[tag("div", *percent_ticks, class_="ticks y lin")],
        x_axis=axis,
        notes=[BLANK_NOTE],
    )
    return tag("section", tag("h2", "States over time"), chart)


def _areas(spans: Sequence[TimeSpan], classes: Sequence[str]) -> list[Markup]:
    """Return the area of each state, stacked."""
    ends = [span.end / spans[-1].end for span in spans]
    lower = [0.0] * len(spans)
    area_class = "area edged" if len(spans) <= MAX_EDGED_SPANS else "area"
    areas = []
    for i, css_class in enumerate(classes):
        upper = [edge + span.shares[i] for edge, span in zip(lower, spans, strict=True)]
        areas.append(tag("path", class_=f"{area_class} {css_class}", d=_area_path(lower, upper, ends)))
        lower = upper
    return areas


def _area_path(lower: Sequence[float], upper: Sequence[float], ends: Sequence[float]) -> str:
    """Return the outline between two step functions: along the upper one, back along the lower one."""
    x = [round(end * WIDTH) for end in ends]
    tops, bottoms = ([round((1 - share) * HEIGHT) for share in edge] for edge in (upper, lower))
    forth = f"M0 {tops[0]}" + "".join(f"V{top}H{right}" for top, right in zip(tops, x, strict=True))
    lefts = [0, *x[:-1]]
    back = "".join(f"V{bottom}H{left}" for bottom, left in zip(reversed(bottoms), reversed(lefts), strict=True))
    return f"{forth}{back}z"
