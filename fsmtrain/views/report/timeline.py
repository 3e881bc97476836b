"""The timeline of states: which part of the time each state took, from the beginning of a run to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from fsmtrain.core.states import State
from fsmtrain.views.report.axes import HIGH, WIDE, Axis
from fsmtrain.views.report.charts import Book, bottom, entry, figure, picture
from fsmtrain.views.report.curves import Grid
from fsmtrain.views.report.html import Markup, joined, tag

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
    told = []
    before, since = [0.0] * len(states), 0.0
    for row in slots.values():
        spent = [float(row["states"].get(state, (0, 0.0))[1]) for state in states]
        length = row["time"] - since
        if length <= 0:
            continue
        shares = [max(0.0, now - then) / length for now, then in zip(spent, before, strict=True)]
        whole = max(1.0, sum(shares))  # two clocks may differ by a little
        told.append(Span(row["time"], row.get("step", 0), row.get("epoch", 0), tuple(share / whole for share in shares)))
        before, since = spent, row["time"]
    return told


def timeline_chart(rows: Sequence[Row], book: Book) -> Markup | None:
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
