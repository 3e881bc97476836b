"""The timeline of states: which part of the time each state took, from the beginning of a run to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.views.recording.report.axes import HIGH, WIDE, Axis
from fsmtrain.views.recording.report.charts import ChartData, bottom, entry, figure, picture
from fsmtrain.views.recording.report.curves import Grid, as_number
from fsmtrain.views.recording.report.html import Markup, joined, tag

Row = dict[str, Any]

MOST = 600  # spans of time
EDGED = 150  # spans up to which areas have edges
BLANK = "What is blank lies between the visits to states: in callbacks, and before the first visit."
UNITS = ((7200.0, 3600.0, "hours"), (300.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))  # from how long on, in what


@frozen
class Span:
    """A part of the run.

    Attributes:
        until: Its end, in seconds since the beginning.
        step: ``global_step`` at its end.
        epoch: The epoch at its end.
        shares: The part of it that each state took, from 0 to 1.
    """

    until: float
    step: int
    epoch: int
    shares: tuple[float, ...]


def spans(rows: Sequence[Row], states: Sequence[str], most: int = MOST) -> list[Span]:
    """What lies between the lines of a timeline, in equal parts of the time as far as there are lines for it.

    >>> lines = [{"time": 1.0, "states": {"step": [1, 0.5]}}, {"time": 3.0, "states": {"step": [2, 0.5], "test": [1, 1.0]}}]
    >>> [(span.until, span.shares) for span in spans(lines, ["step", "test"])]
    [(1.0, (0.5, 0.0)), (3.0, (0.0, 0.5))]
    """
    if not rows or rows[-1]["time"] <= 0:
        return []
    slots: dict[int, Row] = {}
    for row in rows:
        slots[int(row["time"] / rows[-1]["time"] * most)] = row  # the last one of each counts
    lines = list(slots.values())
    lengths = [line["time"] - before for line, before in zip(lines, [0.0, *(line["time"] for line in lines)], strict=False)]
    taken = _taken(lines, lengths, states)
    return [
        Span(line["time"], line.get("step", 0), line.get("epoch", 0), _shares(each, length))
        for line, length, each in zip(lines, lengths, taken, strict=True)
        if length > 0
    ]


def _shares(seconds: Sequence[float], length: float) -> tuple[float, ...]:
    whole = max(length, sum(seconds))  # two clocks may differ by a little
    return tuple(each / whole for each in seconds)


def _taken(lines: Sequence[Row], lengths: Sequence[float], states: Sequence[str]) -> list[list[float]]:
    """The seconds of each state in each part.

    A visit's time is told when it is over. Where it began in an earlier part, that part is given its share of it.
    """
    told: list[list[float]] = []
    before = [0.0] * len(states)
    for n, (line, length) in enumerate(zip(lines, lengths, strict=True)):
        spent = [as_number((line["states"].get(state) or (0, 0.0))[1]) for state in states]
        told.append([max(0.0, now - then) for now, then in zip(spent, before, strict=True)])
        before = spent
        under_way = str(lines[n - 1].get("state"))
        if n and under_way in states:
            _hand_back(told, lengths, states.index(under_way), sum(told[n]) - length)
    return told


def _hand_back(told: list[list[float]], lengths: Sequence[float], state: int, excess: float) -> None:
    """Move so many seconds of a state from the last part to what is not accounted for in those before it."""
    for part in range(len(told) - 2, -1, -1):
        moved = min(excess, told[-1][state], lengths[part] - sum(told[part]))
        if moved <= 1e-6:
            return
        told[-1][state] -= moved
        told[part][state] += moved
        excess -= moved


def timeline_chart(rows: Sequence[Row], book: ChartData) -> Markup | None:
    """The chart; None of a run that has not written enough."""
    states = [state.value for state in State if any(state.value in row["states"] for row in rows)]
    parts = spans(rows, states)
    if not parts:
        return None
    length = parts[-1].until
    states = [state for i, state in enumerate(states) if any(part.shares[i] >= 0.0005 for part in parts)]
    parts = spans(rows, states)
    unit, name = next((unit, name) for least, unit, name in UNITS if length >= least)
    axis = Axis(0.0, length / unit)
    edges = [0.0] * len(parts)
    look = "area edged" if len(parts) <= EDGED else "area"
    layers = []
    for i, state in enumerate(states):
        upper = [edge + part.shares[i] for edge, part in zip(edges, parts, strict=True)]
        layers.append(tag("path", class_=f"{look} of-{state}", d=_area(edges, upper, [part.until / length for part in parts])))
        edges = upper
    grid = Grid(
        x=tuple(round(part.until / unit, 4) for part in parts),
        steps=tuple(part.step for part in parts),
        epochs=tuple(part.epoch for part in parts),
        batches=(),
    )
    series = [
        {"name": state, "look": f"of-{state}", "grid": book.page_of(grid), "y": [round(part.shares[i], 4) for part in parts]}
        for i, state in enumerate(states)
    ]
    told = {"group": "time", "x": [0.0, axis.high], "lin": [0.0, 1.0], "log": None, "series": series, "unit": name}
    number = book.enter(told)
    key = [entry(i, f"of-{states[i]}", states[i]) for i in reversed(range(len(states)))]
    sides = [
        tag("div", *(tag("span", f"{n} %", style=f"top:{100 - n}%") for n in (0, 25, 50, 75, 100)), class_="ticks y lin"),
        bottom(axis),
    ]
    shown = picture("Share of the time by state", [tag("g", joined(layers), class_="lin")], class_="curves")
    return figure(number, title=f"share of each state, over {name}", key=key, picture=shown, sides=sides, notes=[BLANK])


def _area(lower: Sequence[float], upper: Sequence[float], until: Sequence[float]) -> str:
    """A step for each span, along the upper edge and back along the lower one."""
    x = [round(place * WIDE) for place in until]
    tops, bottoms = ([round((1 - share) * HIGH) for share in edge] for edge in (upper, lower))
    there = f"M0 {tops[0]}" + "".join(f"V{top}H{right}" for top, right in zip(tops, x, strict=True))
    lefts = [0, *x[:-1]]
    back = "".join(f"V{low}H{left}" for low, left in zip(reversed(bottoms), reversed(lefts), strict=True))
    return f"{there}{back}z"
