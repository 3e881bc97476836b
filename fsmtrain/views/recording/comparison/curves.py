"""The curves of several runs over each other: a chart for each metric, a colour for each run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal

from attrs import frozen

from fsmtrain.plurals import plural
from fsmtrain.views.recording.comparison.run_table import RunTable
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.files.json_values import to_float
from fsmtrain.views.recording.report.elements.axes import Axis, Point, dots_path, line_path, value_axes
from fsmtrain.views.recording.report.elements.charts import (
    ChartData,
    axis_ranges,
    figure,
    legend_entry,
    rounded,
    svg_picture,
    y_ticks,
)
from fsmtrain.views.recording.report.elements.curve_points import Curve, metric_curves, x_positions
from fsmtrain.views.recording.report.elements.html import Markup, join, tag
from fsmtrain.views.recording.report.sections.curves import smoothed

XAxis = Literal["step", "epoch", "time"]

STYLES = 20  # in compare.css: ten hues, as lines and dashed; more runs repeat them
MAX_PAGE_POINTS = 60_000  # of all runs together
MAX_CHARTS = 60
X_NAMES = {"step": "global_step", "epoch": "epochs, from 0", "time": "seconds of training"}


@frozen
class _RunCurve:
    """A curve, and the index of its run."""

    run: int
    curve: Curve


def curves_section(table: RunTable, x_axis: XAxis, data: ChartData) -> Markup | None:
    """Return the section; None if no run has recorded a metric."""
    charts: dict[tuple[str, str], list[_RunCurve]] = {}  # by kind and metric
    for index, run in enumerate(table.runs):
        rows = run.record.metrics
        for curve in metric_curves(rows, _POSITIONS[x_axis](rows), MAX_PAGE_POINTS // len(table.runs)):
            charts.setdefault((curve.kind, curve.name), []).append(_RunCurve(index, curve))
    if not charts:
        return None
    ordered = sorted(charts.items(), key=lambda item: (item[0][0] == "lr", item[0][1] != table.metric))
    high = max([1e-9, *(x for curves in charts.values() for each in curves for x in each.curve.grid.x)])
    kinds: dict[str, set[str]] = {}
    for kind, name in charts:
        kinds.setdefault(name, set()).add(kind)
    figures = [
        _chart(_title(kind, name, kinds[name]), curves, Axis(0.0, high), x_axis, table, data)
        for (kind, name), curves in ordered[:MAX_CHARTS]
    ]
    note = f"The x axis is {X_NAMES[x_axis]}. The learning rate is that of the first parameter group. "
    if any(smoothed(each.curve) for curves in charts.values() for each in curves):
        note += "Long training curves are moving means. "
    if len(ordered) > MAX_CHARTS:
        note += f"{plural(len(ordered) - MAX_CHARTS, 'chart')} more would not be read, and are left out. "
    help_text = tag(
        "span",
        "Point at a curve or a row to see that run alone; click a row to keep it. Drag to zoom in.",
        hidden=True,
        class_="help",
    )
    body = tag("p", note, help_text, class_="note"), tag("div", join(figures), class_="charts")
    return tag("section", tag("h2", "Curves"), *body)


def run_class(index: int) -> str:
    """Return the CSS class that colours a run."""
    return f"run{index % STYLES}"


def _title(kind: str, name: str, kinds: set[str]) -> str:
    if kind == "lr":
        return f"learning rate of optimizer {name}" if name != "0" else "learning rate"
    return name if len(kinds) == 1 else f"{name} ({kind})"


def _chart(title: str, curves: Sequence[_RunCurve], x_axis: Axis, x_name: str, table: RunTable, data: ChartData) -> Markup:
    drawn = [(each, smoothed(each.curve) or each.curve.means) for each in curves]
    values = [value for _, means in drawn for value in means if value is not None]
    axes, is_log = value_axes(values, values)
    index = data.add_chart(
        {
            "group": x_name,
            "x": [x_axis.low, x_axis.high],
            **axis_ranges(axes),
            "series": [
                {
                    "name": table.runs[each.run].name,
                    "run": each.run,
                    "grid": data.grid_index(each.curve.grid),
                    "y": rounded([*means], 5),
                }
                for each, means in drawn
            ],
        }
    )
    layers = [tag("g", join(_lines(drawn, x_axis, axis)), class_=scale) for scale, axis in axes.items()]
    missing = sum(bool(each.curve.nonfinite_steps) for each in curves)
    return figure(
        index,
        title=title,
        legend=[
            legend_entry(n, run_class(each.run), table.runs[each.run].name, _last(each.curve), run=each.run)
            for n, each in enumerate(curves)
        ],
        picture=svg_picture(f"{title} of {plural(len(curves), 'run')}", layers, class_="curves"),
        y_labels=[y_ticks(scale, axis) for scale, axis in axes.items()],
        x_axis=x_axis,
        notes=[f"{plural(missing, 'run')} had values that are not finite."] if missing else [],
        is_log=is_log,
    )


def _lines(drawn: Sequence[tuple[_RunCurve, Sequence[float | None]]], x_axis: Axis, y_axis: Axis) -> Iterator[Markup]:
    for each, means in drawn:
        points: list[Point | None] = [
            None if value is None else (x_axis.fraction(x), y_axis.fraction(value))
            for x, value in zip(each.curve.grid.x, means, strict=True)
        ]
        style = run_class(each.run)
        yield tag("path", class_=f"line {style}", d=line_path(points), data_run=each.run)
        alone = [point for before, point, after in _with_neighbours(points) if before is None and after is None]
        if any(alone):  # a curve of one point is a dot, or nobody would see it
            yield tag("path", class_=f"dots {style}", d=dots_path(alone), data_run=each.run)


def _with_neighbours(points: Sequence[Point | None]) -> Iterator[tuple[Point | None, Point | None, Point | None]]:
    padded = [None, *points, None]
    for (before, point), (_, after) in pairwise(pairwise(padded)):
        yield before, point, after


def _last(curve: Curve) -> str:
    return "not finite" if curve.means[-1] is None else f"{curve.means[-1]:.4g}"


def _epochs(rows: Sequence[Row]) -> Iterator[float]:
    """Yield the position of each row in epochs, each of which is as long as the longest.

    >>> rows = [{"kind": "train", "epoch": e, "batch": b} for e, b in ((0, 0), (0, 1), (1, 0))]
    >>> list(_epochs([*rows, {"kind": "epoch", "epoch": 1, "batch": 1}]))
    [0.5, 1.0, 1.5, 2.0]
    """
    batches = max((row.get("batch", 0) for row in rows), default=0) + 1
    return (row.get("epoch", 0) + (row.get("batch", 0) + 1) / batches for row in rows)


_POSITIONS: dict[XAxis, Callable[[Sequence[Row]], Iterator[float]]] = {
    "step": x_positions,
    "epoch": _epochs,
    "time": lambda rows: (to_float(row.get("time", 0.0)) for row in rows),
}
