"""Axes: from numbers to places in a picture, the round numbers at its side, and paths through points.

A picture is `WIDE` times `HIGH`, and is stretched to whatever room the page has. `report.js` makes ticks by the same rule when
somebody looks closer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

WIDE, HIGH = 10_000, 1_000
LARGEST = 1e300  # of the numbers that an axis tells apart
MARGIN = 0.04  # of the range, above and below

Place = tuple[float, float]


@frozen
class Axis:
    """A range of numbers, plain or by their logarithms."""

    low: float
    high: float
    is_log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], *, is_log: bool = False) -> Axis:
        """An axis with room for these, and a margin."""
        known = [math.log10(value) if is_log else max(-LARGEST, min(LARGEST, value)) for value in values]
        low, high = min(known, default=0.0), max(known, default=1.0)
        margin = (high - low) * MARGIN or abs(high) * MARGIN or 0.5
        return cls(low - margin, high + margin, is_log)

    def share(self, value: float) -> float:
        """Where a number lies: 0 at the low end, 1 at the high one."""
        return ((math.log10(value) if self.is_log else value) - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers in the range, at most about so many.

        >>> Axis(0.0, 2.4).ticks(), Axis(-3.1, 0.4, is_log=True).ticks(), Axis(0.1, 0.6, is_log=True).ticks()
        ([0.0, 0.5, 1.0, 1.5, 2.0], [0.001, 0.01, 0.1, 1.0], [2.0])
        """
        if not self.is_log:
            step = round_up((self.high - self.low) / most)
            return [float(f"{n * step:.12g}") for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        decades = range(max(-307, math.floor(self.low)), min(307, math.ceil(self.high)) + 1)
        every = max(1, -(-len(decades) // (most + 1)))
        digits = (1,) if self.high - self.low > 1.5 else (1, 2, 5)
        told = [digit * 10.0**decade for decade in decades if decade % every == 0 for digit in digits]
        return [value for value in told if self.low <= math.log10(value) <= self.high]


def round_up(number: float) -> float:
    """The next number that begins with 1, 2 or 5 and ends with zeros.

    >>> round_up(0.3), round_up(70), round_up(1.2)
    (0.5, 100.0, 2.0)
    """
    decade = 10.0 ** math.floor(math.log10(number))
    return next(digit * decade for digit in (1, 2, 5, 10) if digit * decade >= number * 0.999999)


def short(value: float) -> str:
    """A number beside an axis.

    >>> [short(value) for value in (0.5, 1e-7, 1500.0, 12000.0, 2.5e6, 2.5e12)]
    ['0.5', '1e-07', '1500', '12k', '2.5M', '2.5e+12']
    """
    size = abs(value)
    if 1e6 <= size < 1e9:
        return f"{value / 1e6:.4g}M"
    return f"{value / 1e3:.4g}k" if 1e4 <= size < 1e6 else f"{value:.4g}"


# ---- paths


def runs(places: Iterable[Place | None]) -> Iterator[list[Place]]:
    """The places between the gaps."""
    run: list[Place] = []
    for place in places:
        if place is not None:
            run.append(place)
        elif run:
            yield run
            run = []
    if run:
        yield run


def line(places: Iterable[Place | None]) -> str:
    """A path through places, in whole numbers, each told from the one before, with gaps where there is none.

    >>> line([(0, 0), (0.5, 1), None, (1, 0.5)])
    'M0 1000l5000 -1000M10000 500h0'
    """
    return "".join(_opened(run) + ("" if len(run) > 1 else "h0") for run in runs(places))


def band(lows: Sequence[Place | None], highs: Sequence[Place | None]) -> str:
    """The area between two lines."""
    pairs = zip(runs(lows), runs(highs), strict=True)
    return "".join(f"{_opened([*upper, *reversed(lower)])}z" for lower, upper in pairs)


def dots(places: Iterable[Place | None]) -> str:
    """A path that is nothing but a place after the other, which round ends of lines make dots."""
    return "".join(f"M{_x(place)} {_y(place)}h0" for place in places if place is not None)


def _opened(places: Sequence[Place]) -> str:
    x, y = _x(places[0]), _y(places[0])
    parts = []
    for place in places[1:]:
        parts.append(f"{_x(place) - x} {_y(place) - y}")
        x, y = _x(place), _y(place)
    return f"M{_x(places[0])} {_y(places[0])}" + (f"l{' '.join(parts)}" if parts else "")


def _x(place: Place) -> int:
    return round(place[0] * WIDE)


def _y(place: Place) -> int:
    return round((1 - place[1]) * HIGH)
