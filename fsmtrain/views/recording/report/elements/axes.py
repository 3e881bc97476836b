"""Axes of the report's charts: scales, round tick values and their labels, SVG paths.

An SVG picture is `WIDTH` by `HEIGHT` units, stretched to the room on the page. ``page.js`` computes ticks by the same rule when
a reader zooms in; a browser test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from attrs import frozen

WIDTH, HEIGHT = 10_000, 1_000  # SVG units
MAX_ABS_VALUE = 1e300  # larger values are drawn at the edge of a linear axis
MIN_LOG_RATIO, MIN_LOG_BUTTON_RATIO = 50.0, 4.0  # largest to smallest mean, from which on a log axis is the default, or offered
MARGIN_FRACTION = 0.04  # of the range, added at both ends

Point = tuple[float, float]  # fractions of width and height, from the lower left corner


@frozen
class Axis:
    """A range of values. On a logarithmic axis, `low` and `high` are powers of ten: -3 is 0.001."""

    low: float
    high: float
    is_log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], *, is_log: bool = False) -> Axis:
        """Return an axis that fits these values, with a margin."""
        scaled = [math.log10(value) if is_log else max(-MAX_ABS_VALUE, min(MAX_ABS_VALUE, value)) for value in values]
        low, high = min(scaled, default=0.0), max(scaled, default=1.0)
        margin = (high - low) * MARGIN_FRACTION or abs(high) * MARGIN_FRACTION or 0.5
        return cls(low - margin, high + margin, is_log)

    def fraction(self, value: float) -> float:
        """Return the position of a value: 0 at the low end, 1 at the high end."""
        return ((math.log10(value) if self.is_log else value) - self.low) / (self.high - self.low)

    def ticks(self, max_ticks: int = 5) -> list[float]:
        """Return round values within the range, about `max_ticks` at most.

        >>> Axis(0.0, 2.4).ticks(), Axis(-3.1, 0.4, is_log=True).ticks(), Axis(0.1, 0.6, is_log=True).ticks()
        ([0.0, 0.5, 1.0, 1.5, 2.0], [0.001, 0.01, 0.1, 1.0], [2.0])
        """
        if not self.is_log:
            step = round_up((self.high - self.low) / max_ticks)
            return [float(f"{n * step:.12g}") for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        decades = range(max(-307, math.floor(self.low)), min(307, math.ceil(self.high)) + 1)
        spacing = max(1, -(-len(decades) // (max_ticks + 1)))  # in decades
        digits = (1,) if self.high - self.low > 1.5 else (1, 2, 5)
        values = [digit * 10.0**decade for decade in decades if decade % spacing == 0 for digit in digits]
        return [value for value in values if self.low <= math.log10(value) <= self.high]


def value_axes(values: Sequence[float], means: Sequence[float]) -> tuple[dict[str, Axis], bool | None]:
    """Return the axes of a chart, ``lin`` and perhaps ``log``, and whether the latter is shown first; None if there is none.

    Args:
        values: All values that must fit.
        means: Those that the curves follow.
    """
    ratio = max(means) / min(means) if values and min(values) > 0 else 1.0
    if not ratio > MIN_LOG_BUTTON_RATIO:
        return {"lin": Axis.over(values)}, None
    return {"lin": Axis.over(values), "log": Axis.over(values, is_log=True)}, ratio > MIN_LOG_RATIO


def round_up(number: float) -> float:
    """Return the next larger 1, 2 or 5 times a power of ten.

    >>> round_up(0.3), round_up(70), round_up(1.2)
    (0.5, 100.0, 2.0)
    """
    decade = 10.0 ** math.floor(math.log10(number))
    return next(digit * decade for digit in (1, 2, 5, 10) if digit * decade >= number * 0.999999)


def format_tick(value: float) -> str:
    """Return the label of a tick.

    >>> [format_tick(value) for value in (0.5, 1e-7, 1500.0, 12000.0, 2.5e6, 2.5e12)]
    ['0.5', '1e-07', '1500', '12k', '2.5M', '2.5e+12']
    """
    size = abs(value)
    if 1e6 <= size < 1e9:
        return f"{value / 1e6:.4g}M"
    return f"{value / 1e3:.4g}k" if 1e4 <= size < 1e6 else f"{value:.4g}"


# ---- SVG paths


def segments(points: Iterable[Point | None]) -> Iterator[list[Point]]:
    """Yield the stretches of points between gaps. A gap is None."""
    for _, group in groupby(points, key=lambda point: point is None):
        if segment := [point for point in group if point is not None]:
            yield segment


def line_path(points: Iterable[Point | None]) -> str:
    """Return a path through points, in whole SVG units relative to the point before.

    >>> line_path([(0, 0), (0.5, 1), None, (1, 0.5)])
    'M0 1000l5000 -1000M10000 500h0'
    """
    return "".join(_segment_path(segment) + ("" if len(segment) > 1 else "h0") for segment in segments(points))


def band_path(lows: Sequence[Point | None], highs: Sequence[Point | None]) -> str:
    """Return the outline of the area between two lines, which have their gaps at the same places."""
    pairs = zip(segments(lows), segments(highs), strict=True)
    return "".join(f"{_segment_path([*upper, *reversed(lower)])}z" for lower, upper in pairs)


def dots_path(points: Iterable[Point | None]) -> str:
    """Return a path of zero-length lines, which round line caps turn into dots."""
    return "".join(f"{_segment_path([point])}h0" for point in points if point is not None)


def _segment_path(points: Sequence[Point]) -> str:
    units = [(round(x * WIDTH), round((1 - y) * HEIGHT)) for x, y in points]
    steps = [f"{x - x_before} {y - y_before}" for (x_before, y_before), (x, y) in pairwise(units)]
    return f"M{units[0][0]} {units[0][1]}" + (f"l{' '.join(steps)}" if steps else "")
