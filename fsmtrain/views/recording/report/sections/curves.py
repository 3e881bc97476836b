"""Section "Curves": metrics and learning rates over steps, one chart per family of metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, cycle, groupby
from typing import Any

from attrs import evolve

from fsmtrain.plurals import plural
from fsmtrain.views.recording.files.json_files import Row
from fsmtrain.views.recording.read_run_folder import RunRecord
from fsmtrain.views.recording.report.elements.axes import (
    HEIGHT,
    WIDTH,
    Axis,
    Point,
    band_path,
    dots_path,
    line_path,
    round_up,
    value_axes,
)
from fsmtrain.views.recording.report.elements.charts import (
    ChartData,
    axis_ranges,
    figure,
    legend_entry,
    rounded,
    svg_picture,
    y_ticks,
)
from fsmtrain.views.recording.report.elements.curve_points import CURVE_KINDS, Curve, family, metric_curves, x_positions
from fsmtrain.views.recording.report.elements.html import Markup, join, tag
from fsmtrain.views.recording.report.sections.metrics import last_metrics

MAX_CHART_CURVES = 24
MAX_EPOCH_LINES, MAX_VALIDATION_TICKS = 24, 400  # in a chart
LINE_STYLES, DOT_STYLES = 6, 4  # in page.css; more curves repeat them
MAX_DOTS = 400  # validations; more dots would cover each other
DOTTED_KINDS = ("epoch", "validation")
MIN_SMOOTHED_POINTS, SMOOTHING_WINDOWS = 200, 60  # a curve from this length on gets a moving mean over 1/60 of its points


def curves_section(run: RunRecord, data: ChartData) -> Markup | None:
    """Return the section; None if no metric was recorded."""
    all_curves = metric_curves(run.metrics)
    if not all_curves:
        return None
    charts, last = [], last_metrics(run)
    axis, marks = _step_axis(run.metrics)
    rates = [curve for curve in all_curves if curve.kind == "lr"]
    families: dict[str, list[Curve]] = {}
    for curve in all_curves:
        if curve.kind != "lr":
            families.setdefault(family(curve.name), []).append(curve)
    for title, members in families.items():
        for first in range(0, len(members), MAX_CHART_CURVES):
            charts.append(_chart(title, members[first : first + MAX_CHART_CURVES], axis, marks, data, last))
    if rates:
        named = [evolve(curve, name=f"optimizer {curve.name}" if len(rates) > 1 else "lr") for curve in rates]
        charts.append(_chart("learning rate", named, axis, marks, data, {}))
    note = "The x axis is global_step. Ticks at its edge are validations, faint vertical lines are epochs. "
    if any(curve.is_binned for curve in all_curves):
        note += "A point is the mean of several batches; the band shows their minimum and maximum. "
    if any(map(smoothed, all_curves)):
        note += "The strong line is a moving mean. "
    help_text = tag("span", "Drag to zoom in.", class_="help", hidden=True)
    content = tag("p", note, help_text, class_="note"), tag("div", join(charts), class_="charts")
    return tag("section", tag("h2", "Curves"), *content)


def _step_axis(rows: list[Row]) -> tuple[Axis, Markup]:
    """Return the x axis that all charts share, and the picture of its epochs and validations, which lies below the curves."""
    places = [(row, x) for row, x in zip(rows, x_positions(rows), strict=True) if row["kind"] in CURVE_KINDS]
    axis = Axis(0.0, max([1e-9, *(x for _, x in places)]))
    starts = [(epoch, next(group)[1]) for epoch, group in groupby(places, key=lambda place: int(place[0].get("epoch", 0)))]
    spacing = max(1, int(round_up(len(starts) / MAX_EPOCH_LINES)))
    validations = sorted({round(axis.fraction(x), 4) for row, x in places if row["kind"] == "validation"})
    epoch_lines = (f"M{round(axis.fraction(x) * WIDTH)} 0v{HEIGHT}" for epoch, x in starts if epoch and epoch % spacing == 0)
    shown = validations if len(validations) <= MAX_VALIDATION_TICKS else []
    ticks = (f"M{round(x * WIDTH)} {HEIGHT}v-{HEIGHT // 30}" for x in shown)
    paths = [tag("path", class_="epoch", d="".join(epoch_lines)), tag("path", class_="validation", d="".join(ticks))]
    return axis, svg_picture("", paths, class_="marks")


# ---- one chart


def _chart(title: str, curves: Sequence[Curve], x_axis: Axis, marks: Markup, data: ChartData, last: dict[str, float]) -> Markup:
    """Return a chart of curves that measure the same. `last` has the run's last value of each metric."""
    sides = [side for curve in curves for side in (curve.means, curve.lows, curve.highs)]
    values = [value for side in sides for value in side if value is not None]
    means = [value for curve in curves for value in curve.means if value is not None]
    axes, is_log = value_axes(values, means)
    styles = _styles(curves)
    index = data.add_chart(
        {
            "group": "step",
            "x": [x_axis.low, x_axis.high],
            **axis_ranges(axes),
            "series": [_series(curve, data) for curve in curves],
        }
    )
    layers = [_layer(scale, curves, styles, x_axis, axis) for scale, axis in axes.items()]
    return figure(
        index,
        title=title,
        legend=[legend_entry(i, styles[i], curve.name, _last_value(curve, last)) for i, curve in enumerate(curves)],
        picture=join([marks, svg_picture(f"{title} over the steps", layers, class_="curves")]),
        y_labels=[y_ticks(scale, axis) for scale, axis in axes.items()],
        x_axis=x_axis,
        notes=[_nonfinite_note(curve) for curve in curves],
        is_log=is_log,
    )


def _styles(curves: Sequence[Curve]) -> list[str]:
    """Return the CSS class of each curve: lines for training and learning rates, dots for epochs and validations.

    Validations have the first dots, also if there are none: these are green, and no line is.
    """
    kinds = [curve.kind for curve in curves]
    lines, dots = cycle(range(LINE_STYLES)), cycle(range(DOT_STYLES))
    of_validations = iter([f"dot{next(dots)}" for _ in range(max(1, kinds.count("validation")))])
    styles = {"validation": of_validations, "epoch": (f"dot{i}" for i in dots)}
    others = (f"line{i}" for i in lines)
    return [next(styles.get(kind, others)) for kind in kinds]


def _layer(scale: str, curves: Sequence[Curve], styles: Sequence[str], x_axis: Axis, y_axis: Axis) -> Markup:
    """Return the curves on one scale: bands below lines below dots."""

    def points(curve: Curve, values: Iterable[float | None]) -> list[Point | None]:
        pairs = zip(curve.grid.x, values, strict=True)
        return [None if value is None else (x_axis.fraction(x), y_axis.fraction(value)) for x, value in pairs]

    bands, lines, dots = [], [], []
    for curve, style in zip(curves, styles, strict=True):
        means = points(curve, curve.means)
        if curve.is_binned:
            outline = band_path(points(curve, curve.lows), points(curve, curve.highs))
            bands.append(tag("path", class_=f"band {style}", d=outline))
        moving_mean = smoothed(curve)
        lines.append(tag("path", class_=f"line {style} pale" if moving_mean else f"line {style}", d=line_path(means)))
        if moving_mean:
            lines.append(tag("path", class_=f"line {style} smooth", d=line_path(points(curve, moving_mean))))
        if curve.kind in DOTTED_KINDS and len(means) <= MAX_DOTS:
            dots.append(tag("path", class_=f"dots {style}", d=dots_path(means)))
    return tag("g", join([*bands, *lines, *dots]), class_=scale)


def smoothed(curve: Curve) -> list[float | None]:
    """Return the moving mean of a long training curve; an empty list for others."""
    if curve.kind != "train" or len(curve.means) < MIN_SMOOTHED_POINTS:
        return []
    half = len(curve.means) // SMOOTHING_WINDOWS // 2 + 1
    sums = list(accumulate((mean or 0.0 for mean in curve.means), initial=0.0))
    counts = list(accumulate((mean is not None for mean in curve.means), initial=0))
    windows = [(max(0, n - half), min(len(curve.means), n + half + 1)) for n in range(len(curve.means))]
    means = [(sums[end] - sums[start]) / max(1, counts[end] - counts[start]) for start, end in windows]
    return [None if value is None else mean for value, mean in zip(curve.means, means, strict=True)]


def _series(curve: Curve, data: ChartData) -> dict[str, Any]:
    band = {"low": rounded(curve.lows, 4), "high": rounded(curve.highs, 4)} if curve.is_binned else {}
    return {"name": curve.name, "grid": data.grid_index(curve.grid), "y": rounded(curve.means), **band}


def _last_value(curve: Curve, last: dict[str, float]) -> str:
    value = curve.means[-1] if curve.kind == "lr" else last.get(curve.name, curve.means[-1])
    return "not finite" if value is None else f"{value:.4g}"


def _nonfinite_note(curve: Curve) -> str:
    steps = curve.nonfinite_steps
    return f"{curve.name}: {plural(len(steps), 'row')} not finite, first at step {steps[0]:,}." if steps else ""
