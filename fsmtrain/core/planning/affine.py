"""How often a stretch of a run repeats itself: numbers that grow evenly, and all that is asked of them on the way.

A stretch is walked once with numbers that stand for every repetition at the same time: ``start + slope * k`` in the k-th one.
Each comparison answers as it does in the first repetition, and is written down with its answer: `Repetitions.most` is how
often all the answers stay the same. What does not grow evenly is refused, so that what comes out is exact or nothing.

The start of a number may grow in its turn, in a repetition around this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, TypeGuard

from fsmtrain.core.counters import Counters


class NotAffineError(Exception):
    """A stretch is not, or cannot be shown to be, the same in each repetition."""


class Repetitions:
    """The repetitions of one stretch, k = 0, 1, 2, ...: what has been asked of the numbers that grow with k.

    Args:
        depth: How many repetitions are around this one.
    """

    __slots__ = ("_negative", "depth")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._negative: list[tuple[Any, int]] = []  # (start, slope) of what is below 0 in the first repetition

    def stays_negative(self, start: Any, slope: int) -> None:
        """Write down that ``start + slope * k`` has to stay below 0."""
        self._negative.append((start, slope))

    def most(self) -> int | None:
        """How many repetitions there are, from the first on, in which every answer is the same; None for any number."""
        return min((-(_first(start) + 1) // slope + 1 for start, slope in self._negative if slope > 0), default=None)

    def confirm(self, times: int) -> None:
        """See to it that this many repetitions are the same, and stay so in each repetition around them.

        Raises:
            UnevenError: They are not.
        """
        for start, slope in self._negative:  # a straight line is below 0 where both of its ends are
            if not _is_negative(start) or not _is_negative(start + slope * (times - 1)):
                raise NotAffineError


class AffineInt:
    """A whole number that is ``start + slope * k`` in the k-th repetition. `slope` is not 0."""

    __slots__ = ("of", "slope", "start")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, start: Any, slope: int, of: Repetitions) -> None:
        self.start, self.slope, self.of = start, slope, of

    # ---- arithmetic

    def __add__(self, other: Any) -> Any:
        of = other.of if isinstance(other, AffineInt) and other.of.depth > self.of.depth else self.of
        (start, slope), (more, steeper) = _line(self, of), _line(other, of)
        return affine(start + more, slope + steeper, of)

    __radd__ = __add__

    def __neg__(self) -> Any:
        return affine(-self.start, -self.slope, self.of)

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, int):
            raise NotAffineError
        return affine(self.start * other, self.slope * other, self.of)

    __rmul__ = __mul__

    def __floordiv__(self, n: Any) -> Any:
        if _whole(n) and self.slope % n == 0:
            return affine(self.start // n, self.slope // n, self.of)
        return self._multiple_below(n) // n

    def __mod__(self, n: Any) -> Any:
        if _whole(n) and self.slope % n == 0:
            return self.start % n
        return self - self._multiple_below(n)

    def _multiple_below(self, n: int) -> int:
        """The multiple of n from which this number is not n away, as long as that does not change."""
        below = _first(self) // n * n
        if not below <= self < below + n:
            raise NotAffineError
        return below

    # ---- questions

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

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        return self != 0

    def __index__(self) -> int:
        first = _first(self)
        if self != first:
            raise NotAffineError
        return first


def affine(start: Any, slope: int, of: Repetitions) -> Any:
    """The number that is ``start + slope * k``: a plain one where it does not grow."""
    return AffineInt(start, slope, of) if slope else start


def is_affine(number: object) -> TypeGuard[AffineInt]:
    """Whether a number is another in another repetition."""
    return isinstance(number, AffineInt)


def _line(number: Any, of: Repetitions) -> tuple[Any, int]:
    """A number as start and slope over these repetitions."""
    return (number.start, number.slope) if isinstance(number, AffineInt) and number.of is of else (number, 0)


def _first(number: Any) -> int:
    """A number in the first of all repetitions."""
    while isinstance(number, AffineInt):
        number = number.start
    return int(number)


def _is_negative(number: Any) -> bool:
    if not isinstance(number, AffineInt):
        return bool(number < 0)
    answer = _first(number) < 0
    negative = number if answer else -number - 1
    number.of.stays_negative(negative.start, negative.slope)
    return answer


def _whole(n: object) -> TypeGuard[int]:
    if not isinstance(n, int) or n <= 0:
        raise NotAffineError
    return True


# ---- counters

_NAMES = tuple(name for name in Counters.__slots__ if not name.startswith("__"))
Change = dict[str, Any]  # by how much each counter grows; a list for one that has a value for each optimizer


def change(before: Counters, after: Counters) -> Change:
    """By how much the counters have grown.

    Raises:
        UnevenError: By a number that is another in another repetition, or a flag has changed.
    """
    return {name: _difference(getattr(before, name), getattr(after, name)) for name in _NAMES}


def _difference(before: Any, after: Any) -> Any:
    if isinstance(after, list):
        return [_difference(b, a) for b, a in zip(before, after, strict=True)]
    if isinstance(after, bool):
        if after is not before:
            raise NotAffineError
        return 0
    difference = after - before
    if not isinstance(difference, int):
        raise NotAffineError
    return difference


def grown(counters: Counters, by: Change, of: Repetitions) -> Counters:
    """The counters as each repetition finds them when it begins."""
    return _each(counters, by, lambda number, slope: affine(number, slope, of))


def moved(counters: Counters, by: Change, times: int) -> Counters:
    """The counters after so many repetitions."""
    return _each(counters, by, lambda number, slope: number + slope * times)


def _each(counters: Counters, by: Change, new: Any) -> Counters:
    values: dict[str, Any] = {}
    for name in _NAMES:
        value, slopes = getattr(counters, name), by[name]
        if isinstance(value, list):
            values[name] = [new(number, slope) for number, slope in zip(value, slopes, strict=True)]
        else:
            values[name] = value if isinstance(value, bool) else new(value, slopes)
    return Counters(**values)


def identical(left: Any, right: Any) -> bool:
    """Whether two counters, lists or numbers are the same in each repetition, without asking anything of them."""
    if isinstance(left, Counters):
        return all(identical(getattr(left, name), getattr(right, name)) for name in _NAMES)
    if isinstance(left, list):
        return all(map(identical, left, right))
    if isinstance(left, AffineInt) and isinstance(right, AffineInt):
        return left.of is right.of and left.slope == right.slope and identical(left.start, right.start)
    if isinstance(left, AffineInt) or isinstance(right, AffineInt):
        return False
    return bool(left == right)


def each_moment(counters: Counters) -> Iterator[Counters]:
    """The counters of one moment in each repetition, as plain numbers, without an end: the same object with other numbers.

    Args:
        counters: As a trial finds them, with numbers that grow, in a stretch that no other is around.
    """
    plain = counters.copy()
    single: list[tuple[str, Iterator[int]]] = []
    listed: list[tuple[list[int], int, Iterator[int]]] = []
    for name in _NAMES:
        value = getattr(plain, name)
        if is_affine(value):
            single.append((name, count(value.start, value.slope)))
        elif isinstance(value, list):
            listed += [(value, i, count(one.start, one.slope)) for i, one in enumerate(value) if is_affine(one)]
    while True:
        for name, numbers in single:
            setattr(plain, name, next(numbers))
        for values, i, numbers in listed:
            values[i] = next(numbers)
        yield plain
