"""Charts of the report: a frame with ticks, a legend, and an SVG picture that stretches.

Everything is in the page without scripts; ``page.js`` only zooms, and shows the values under the pointer. Labels are HTML text,
so that they keep their size however wide the picture is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field

from fsmtrain.core.states import State
from fsmtrain.views.recording.report.elements.axes import HEIGHT, WIDTH, Axis, format_tick
from fsmtrain.views.recording.report.elements.curve_points import Grid
from fsmtrain.views.recording.report.elements.html import Markup, join, paragraphs, tag

SHADES = 4  # of a colour, in page.css


@define
class ChartData:
    """The values behind all charts of a page, for ``page.js``. Each grid is stored once."""

    grids: dict[Grid, int] = field(factory=dict)
    charts: list[dict[str, Any]] = field(factory=list)

    def grid_index(self, grid: Grid) -> int:
        """Return the index of a grid, adding it if it is new."""
        return self.grids.setdefault(grid, len(self.grids))

    def add_chart(self, chart: dict[str, Any]) -> int:
        """Add the values of a chart; return its index."""
        self.charts.append(chart)
        return len(self.charts) - 1

    def to_json(self) -> dict[str, Any]:
        """Return all values as JSON data."""
        grids = [{"x": grid.x, "step": grid.steps, "epoch": grid.epochs, "n": grid.batches} for grid in self.grids]
        return {"grids": grids, "charts": self.charts}


def axis_ranges(axes: Mapping[str, Axis]) -> dict[str, Any]:
    """Return the ranges of a chart's axes as ``page.js`` reads them; None for a logarithmic one that there is not."""
    return {scale: [axes[scale].low, axes[scale].high] if scale in axes else None for scale in ("lin", "log")}


def state_css_class(state: State) -> str:
    """Return the CSS classes that colour a state: a hue per kind of state, a shade per state.

    >>> state_css_class(State.TRAIN_BATCH), state_css_class(State.BACKWARD), state_css_class(State.SAVE)
    ('training shade0', 'training shade1', 'saving shade0')
    """
    kind = state.info.kind
    same_kind = [other for other in State if other.info.kind == kind]
    return f"{kind} shade{same_kind.index(state) % SHADES}"


def figure(
    index: int,
    *,
    title: str,
    legend: Iterable[Markup],
    picture: Markup,
    y_labels: Iterable[Markup],
    x_axis: Axis,
    notes: Iterable[str] = (),
    is_log: bool | None = None,
) -> Markup:
    """Return a chart with its frame.

    Args:
        index: The chart's index in `ChartData`.
        title: The heading.
        legend: The entries of the legend.
        picture: The SVG picture.
        y_labels: The ticks of the linear axis, and of the logarithmic one.
        x_axis: The axis below.
        notes: Sentences below the chart.
        is_log: Whether the logarithmic axis is shown first; None if the chart has none.
    """
    x_labels = [tag("span", format_tick(value), style=f"left:{x_axis.fraction(value):.3%}") for value in x_axis.ticks()]
    log_button = tag("button", "log", type="button", class_="log", aria_pressed=str(is_log).lower(), hidden=True)
    cursor = tag("i", class_="cursor", hidden=True)
    plot = tag("div", picture, cursor, class_="plot", tabindex="0", role="group", aria_label=title)
    return tag(
        "figure",
        tag(
            "figcaption",
            tag("h3", title),
            tag("output", class_="readout"),
            "" if is_log is None else log_button,
            tag("button", "reset zoom", type="button", class_="reset", hidden=True),
            tag("div", join(legend), class_="legend"),
        ),
        tag("div", join(y_labels), tag("div", join(x_labels), class_="ticks x"), plot, class_="frame"),
        paragraphs(notes, class_="note"),
        class_="chart is-log" if is_log else "chart",
        data_chart=index,
    )


def svg_picture(title: str, layers: Iterable[Markup], *, class_: str) -> Markup:
    """Return a picture that stretches to its frame. Without a title it is hidden from screen readers."""
    role = {"role": "img"} if title else {"aria_hidden": "true"}
    content = join([*([tag("title", title)] if title else []), *layers])
    return tag("svg", content, class_=class_, viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", **role)


def legend_entry(index: int, css_class: str, name: str, value: str = "", *, run: int | None = None) -> Markup:
    """Return a legend entry. ``page.js`` replaces its value by the one under the pointer. `run` is that of a comparison."""
    return tag("span", tag("i", class_=css_class), tag("span", name), " ", tag("b", value), data_series=index, data_run=run)


def rounded(values: Sequence[float | None], digits: int = 6) -> list[float | None]:
    """Round to significant digits, except the last value, which readers compare with the run's own."""
    return [*(None if value is None else float(f"{value:.{digits}g}") for value in values[:-1]), *values[-1:]]


def y_ticks(scale: str, axis: Axis) -> Markup:
    """Return the ticks beside a chart, for the scale ``lin`` or ``log``."""
    labels = [tag("span", format_tick(value), style=f"top:{1 - axis.fraction(value):.3%}") for value in axis.ticks()]
    return tag("div", join(labels), class_=f"ticks y {scale}")
