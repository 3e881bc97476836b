"""Charts: a frame with ticks at two sides and a picture in it, which a page stretches to the room that it has.

All of it stands in the page as it is; `report.js` only looks closer, and tells the numbers under the pointer. Words and numbers
are text of the page, so that they are as large as others, however wide the picture is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, field, frozen

from fsmtrain.views.recording.report.axes import HIGH, WIDE, Axis, Place, band, dots, line, short
from fsmtrain.views.recording.report.curves import Curve, Grid
from fsmtrain.views.recording.report.html import Markup, joined, tag

SPREAD, SOME = 50.0, 4.0  # how often the least number is in the largest, where logarithms tell more, or may
LINES, MARKS = 6, 4  # looks of lines, and of dots; beyond these they are used again
ENOUGH = 400  # checks beyond which their dots would cover each other
NONE = Markup("")
NOISY, SMOOTH = 200, 60  # points from which on a curve is smoothed, and over which part of them: one in so many
SHOWN = 24  # curves in one chart, at most


@define
class ChartData:
    """The numbers behind the charts of a page, for who looks at them with the pointer. Grids are written once."""

    grids: dict[Grid, int] = field(factory=dict)
    charts: list[dict[str, Any]] = field(factory=list)

    def page_of(self, grid: Grid) -> int:
        """The number of a grid."""
        return self.grids.setdefault(grid, len(self.grids))

    def enter(self, chart: dict[str, Any]) -> int:
        """Write down what a chart shows; returns its number."""
        self.charts.append(chart)
        return len(self.charts) - 1

    def content(self) -> dict[str, Any]:
        """All of it."""
        grids = [{"x": grid.x, "step": grid.steps, "epoch": grid.epochs, "n": grid.batches} for grid in self.grids]
        return {"grids": grids, "charts": self.charts}


@frozen(kw_only=True)
class StepAxis:
    """What the charts over the steps have in common.

    Attributes:
        axis: The steps.
        epochs: Where epochs begin that are marked, as shares of the width.
        checks: Where checks were, the same.
    """

    axis: Axis
    epochs: tuple[float, ...] = ()
    checks: tuple[float, ...] = ()


def curves_chart(
    title: str, drawn: Sequence[Curve], across: StepAxis, book: ChartData, *, last: dict[str, float] | None = None
) -> Markup:
    """A chart of curves that measure the same."""
    sides = [side for curve in drawn for side in (curve.means, curve.lows, curve.highs)]
    numbers = [value for side in sides for value in side if value is not None]
    can_be_log = bool(numbers) and min(numbers) > 0
    means = [value for curve in drawn for value in curve.finite]
    spread = max(means) / min(means) if can_be_log else 1.0
    is_log = spread > SPREAD
    plain, logs = Axis.over(numbers), Axis.over(numbers, is_log=True) if spread > SOME else None
    looks = _looks(drawn)
    number = book.enter(
        {
            "group": "step",
            "x": [across.axis.low, across.axis.high],
            "lin": [plain.low, plain.high],
            "log": [logs.low, logs.high] if logs else None,
            "series": [_numbers(curve, look, book) for curve, look in zip(drawn, looks, strict=True)],
        }
    )
    key = [entry(i, looks[i], curve.name, _last(curve, last or {})) for i, curve in enumerate(drawn)]
    marks = [
        tag("path", class_="epoch", d="".join(f"M{round(share * WIDE)} 0v{HIGH}" for share in across.epochs)),
        tag("path", class_="checked", d="".join(f"M{round(share * WIDE)} {HIGH}v-{HIGH // 30}" for share in across.checks)),
    ]
    layers = [
        *_layers("lin", drawn, looks, across.axis, plain),
        *(_layers("log", drawn, looks, across.axis, logs) if logs else ()),
    ]
    ticks = [_side("lin", plain), *([_side("log", logs)] if logs else [])]
    pressed = str(is_log).lower()
    button = tag("button", "log", type="button", class_="log", aria_pressed=pressed, hidden=True) if logs else NONE
    return figure(
        number,
        title=title,
        key=key,
        button=button,
        picture=joined([picture("", marks, class_="marks"), picture(f"{title} over the steps", layers, class_="curves")]),
        sides=[*ticks, bottom(across.axis)],
        notes=[note for curve in drawn if (note := _odd(curve))],
        is_log=is_log,
    )


def figure(
    number: int,
    *,
    title: str,
    key: Iterable[Markup],
    picture: Markup,
    sides: Iterable[Markup],
    button: Markup = NONE,
    notes: Iterable[str] = (),
    is_log: bool = False,
) -> Markup:
    """The frame of a chart. `number` is that in the book."""
    cursor = tag("i", class_="cursor", hidden=True)
    plot = tag("div", picture, cursor, class_="plot", tabindex="0", role="group", aria_label=title)
    return tag(
        "figure",
        tag(
            "figcaption",
            tag("h3", title),
            tag("output", class_="readout"),
            button,
            tag("button", "whole", type="button", class_="whole", hidden=True),
            tag("div", joined(key), class_="key"),
        ),
        tag("div", joined(sides), plot, class_="frame"),
        joined(tag("p", note, class_="note") for note in notes),
        class_="chart is-log" if is_log else "chart",
        data_chart=number,
    )


def picture(title: str, layers: Iterable[Markup], *, class_: str) -> Markup:
    """A picture that is stretched, with its lines as thick as they are told. One without a title only decorates."""
    told = {"role": "img"} if title else {"aria_hidden": "true"}
    inside = joined([*([tag("title", title)] if title else []), *layers])
    return tag("svg", inside, class_=class_, viewBox=f"0 0 {WIDE} {HIGH}", preserveAspectRatio="none", **told)


def entry(number: int, look: str, name: str, value: str = "") -> Markup:
    """A line of a chart's key. In the place of the value stands the one under the pointer, while there is one."""
    return tag("span", tag("i", class_=look), tag("span", name), " ", tag("b", value), data_series=number)


def bottom(axis: Axis) -> Markup:
    """The ticks below a chart."""
    told = [tag("span", short(value), style=f"left:{axis.share(value):.3%}") for value in axis.ticks()]
    return tag("div", joined(told), class_="ticks x")


def _side(kind: str, axis: Axis) -> Markup:
    told = [tag("span", short(value), style=f"top:{1 - axis.share(value):.3%}") for value in axis.ticks()]
    return tag("div", joined(told), class_=f"ticks y {kind}")


# ---- curves


def _looks(drawn: Sequence[Curve]) -> list[str]:
    """The class of each curve: lines for what training says, dots for checks."""
    counts = {"line": 0, "mark": 0}
    looks = []
    for curve in drawn:
        kind = "mark" if curve.kind == "validation" else "line"
        looks.append(f"{kind}{counts[kind] % (MARKS if kind == 'mark' else LINES)}")
        counts[kind] += 1
    return looks


def _layers(kind: str, drawn: Sequence[Curve], looks: Sequence[str], across: Axis, axis: Axis) -> list[Markup]:
    """The curves on one kind of axis: the bands below, then lines, then dots."""

    def places(curve: Curve, values: Iterable[float | None]) -> list[Place | None]:
        both = zip(curve.grid.x, values, strict=True)
        return [None if value is None else (across.share(x), axis.share(value)) for x, value in both]

    bands, lines, marks = [], [], []
    for curve, look in zip(drawn, looks, strict=True):
        means = places(curve, curve.means)
        if curve.is_binned:
            bands.append(tag("path", class_=f"band {look}", d=band(places(curve, curve.lows), places(curve, curve.highs))))
        smooth = smoothed(curve)
        lines.append(tag("path", class_=f"line {look} pale" if smooth else f"line {look}", d=line(means)))
        if smooth:
            lines.append(tag("path", class_=f"line {look} smooth", d=line(places(curve, smooth))))
        if curve.kind == "validation" and len(means) <= ENOUGH:
            marks.append(tag("path", class_=f"dots {look}", d=dots(means)))
    return [tag("g", joined([*bands, *lines, *marks]), class_=kind)]


def smoothed(curve: Curve) -> list[float | None]:
    """The mean over the points around each, where there are so many of training that the eye needs one; else nothing."""
    if curve.kind != "train" or len(curve.means) < NOISY:
        return []
    half = len(curve.means) // SMOOTH // 2 + 1
    sums, counts = [0.0], [0]
    for mean in curve.means:
        sums.append(sums[-1] + (mean or 0.0))
        counts.append(counts[-1] + (mean is not None))
    around = [(max(0, n - half), min(len(curve.means), n + half + 1)) for n in range(len(curve.means))]
    means = [
        (sums[to] - sums[first]) / (counts[to] - counts[first]) if counts[to] > counts[first] else None for first, to in around
    ]
    return [None if mean is None else smooth for mean, smooth in zip(curve.means, means, strict=True)]


def _numbers(curve: Curve, look: str, book: ChartData) -> dict[str, Any]:
    told: dict[str, Any] = {"name": curve.name, "look": look, "grid": book.page_of(curve.grid), "y": _rounded(curve.means)}
    if curve.is_binned:
        told |= {"low": _rounded(curve.lows, 4), "high": _rounded(curve.highs, 4)}
    return told


def _rounded(values: Sequence[float | None], digits: int = 6) -> list[float | None]:
    """To so many digits; the last one as it is, since others may be compared with it."""
    return [*(None if value is None else float(f"{value:.{digits}g}") for value in values[:-1]), *values[-1:]]


def _last(curve: Curve, last: dict[str, float]) -> str:
    value = curve.means[-1] if curve.kind == "lr" else last.get(curve.name, curve.means[-1])
    return "no number" if value is None else f"{value:.4g}"


def _odd(curve: Curve) -> str:
    if not curve.odd:
        return ""
    rows = "1 row is" if curve.odd == 1 else f"{curve.odd:,} rows are"
    return f"{curve.name}: {rows} no finite number, the first at step {curve.first_odd:,}."
