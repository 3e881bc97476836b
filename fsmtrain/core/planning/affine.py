"""Affine ints: a number ``start + slope * k`` that stands for all repetitions k = 0, 1, 2, ... of a stretch at once.

Effects and guards calculate with them as with ints. Sums, differences and multiples are exact. A comparison answers as in
repetition 0, and `Repetitions` records it: `Repetitions.max_count` is the number of repetitions in which all the recorded
answers stay the same. Anything else raises `NotAffineError`. docs/planning.md explains how a plan uses this.

The start may itself be affine, in a repetition around this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, TypeGuard

from attrs import fields

from fsmtrain.core.counters import Counters


class NotAffineError(Exception):
    """A value is not affine, or a stretch cannot be shown to be the same in each repetition."""


class Repetitions:
    """The repetitions of one stretch, with all comparisons made in it.

    Args:
        depth: The number of repetitions around this one.
    """

    __slots__ = ("_negative", "depth")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._negative: list[tuple[Any, int]] = []  # (start, slope) of each number that is below 0 in repetition 0

    def stay_negative(self, start: Any, slope: int) -> None:
        """Record that ``start + slope * k``, which is below 0 for k = 0, has to stay so."""
        self._negative.append((start, slope))

    def max_count(self) -> int | None:
        """Return for how many repetitions, from the first on, every recorded answer is the same; None if for all."""
        return min((-(_first(start) + 1) // slope + 1 for start, slope in self._negative if slope > 0), default=None)

    def confirm(self, count: int) -> None:
        """Check the answers of `count` repetitions, also in each repetition around this one.

        Raises:
            NotAffineError: An answer changes.
        """
        for start, slope in self._negative:  # a straight line is below 0 if both of its ends are
            if not _is_negative(start) or not _is_negative(start + slope * (count - 1)):
                raise NotAffineError


class AffineInt:
    """An int that is ``start + slope * k`` in repetition k of `repetitions`, with ``slope != 0``."""

    __slots__ = ("repetitions", "slope", "start")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, start: Any, slope: int, repetitions: Repetitions) -> None:
        self.start, self.slope, self.repetitions = start, slope, repetitions

    # ---- arithmetic

    def __add__(self, other: Any) -> Any:
        inner = self.repetitions
        if is_affine(other) and other.repetitions.depth > inner.depth:
            inner = other.repetitions
        (start, slope), (other_start, other_slope) = _line(self, inner), _line(other, inner)
        return affine(start + other_start, slope + other_slope, inner)

    __radd__ = __add__

    def __neg__(self) -> Any:
        return affine(-self.start, -self.slope, self.repetitions)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int):
            raise NotAffineError
        return affine(self.start * other, self.slope * other, self.repetitions)

    __rmul__ = __mul__

    def __floordiv__(self, n: Any) -> Any:
        if _is_positive_int(n) and self.slope % n == 0:
            return affine(self.start // n, self.slope // n, self.repetitions)
        return self._multiple_below(n) // n

    def __mod__(self, n: Any) -> Any:
        if _is_positive_int(n) and self.slope % n == 0:
            return self.start % n
        return self - self._multiple_below(n)

    def _multiple_below(self, n: int) -> int:
        """Return the largest multiple of n that is not above the number, and record that it stays the largest."""
        multiple = _first(self) // n * n
        if not multiple <= self < multiple + n:
            raise NotAffineError
        return multiple

    # ---- comparisons: each is a question whether a number is below 0

    def __lt__(self, other: Any) -> bool:
        return _is_negative(self - other)

    def __gt__(self, other: Any) -> bool:
        return _is_negative(other - self)

    def __le__(self, other: Any) -> bool:
        return not self > other

    def __ge__(self, other: Any) -> bool:
        return not self < other

    def __eq__(self, other: object) -> bool:
        return not self < other and not self > other

    def __bool__(self) -> bool:
        return self != 0


def affine(start: Any, slope: int, repetitions: Repetitions) -> Any:
    """Return ``start + slope * k``: an `AffineInt`, or the start itself if the slope is 0."""
    return AffineInt(start, slope, repetitions) if slope else start


def is_affine(number: object) -> TypeGuard[AffineInt]:
    """Return whether a number differs between repetitions."""
    return isinstance(number, AffineInt)


def identical(left: Any, right: Any) -> bool:
    """Return whether two numbers are equal in every repetition. Records no comparison."""
    if is_affine(left) and is_affine(right):
        return left.repetitions is right.repetitions and left.slope == right.slope and identical(left.start, right.start)
    return not is_affine(left) and not is_affine(right) and bool(left == right)


def _line(number: Any, repetitions: Repetitions) -> tuple[Any, int]:
    """Return a number as its start and slope over these repetitions."""
    return (number.start, number.slope) if is_affine(number) and number.repetitions is repetitions else (number, 0)


def _first(number: Any) -> int:
    """Return a number's value in the first of all repetitions."""
    while is_affine(number):
        number = number.start
    return int(number)


def _is_negative(number: Any) -> bool:
    if not is_affine(number):
        return bool(number < 0)
    answer = _first(number) < 0
    negative = number if answer else -number - 1  # x >= 0 is -x - 1 < 0
    number.repetitions.stay_negative(negative.start, negative.slope)
    return answer


def _is_positive_int(n: object) -> TypeGuard[int]:
    if not isinstance(n, int) or n <= 0:
        raise NotAffineError
    return True


# ---- counters made of affine ints

_VALUES = attrgetter(*(f.name for f in fields(Counters)))


def counter_slopes(before: Counters, after: Counters) -> Counters:
    """Return by how much each counter has grown.

    Raises:
        NotAffineError: A flag has changed, or a growth differs between the repetitions around this stretch.
    """
    return _map_counters(_slope, before, after)


def affine_counters(counters: Counters, slopes: Counters, repetitions: Repetitions) -> Counters:
    """Return the counters at the beginning of each repetition."""
    return _map_counters(lambda start, slope: affine(start, slope, repetitions), counters, slopes)


def advanced_counters(counters: Counters, slopes: Counters, count: int) -> Counters:
    """Return the counters after `count` repetitions."""
    return _map_counters(lambda number, slope: number + slope * count if slope else number, counters, slopes)


def identical_counters(left: Counters, right: Counters) -> bool:
    """Return whether all counters are equal in every repetition. Records no comparison."""
    return all(map(identical, _flat(left), _flat(right)))


def _slope(before: Any, after: Any) -> int:
    slope = after - before
    if not isinstance(slope, int) or (slope and isinstance(after, bool)):
        raise NotAffineError
    return slope


def _map_counters(function: Callable[..., Any], *counters: Counters) -> Counters:
    columns = zip(*map(_VALUES, counters), strict=True)
    values: Any = [list(map(function, *column)) if isinstance(column[0], list) else function(*column) for column in columns]
    return Counters(*values)


def _flat(counters: Counters) -> Iterator[Any]:
    for value in _VALUES(counters):
        yield from value if isinstance(value, list) else (value,)
