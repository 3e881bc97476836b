"""What a plan says of one epoch, `Epoch`, and how it is written down while the epoch goes by, `EpochBuilder`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from attrs import frozen

from fsmtrain.core.counters import Counters
from fsmtrain.core.planning.affine import AffineInt, NotAffineError, is_affine
from fsmtrain.core.planning.int_ranges import IntRanges, IntRangesBuilder

Windows = tuple[tuple[int, int], ...]  # (length in backwards, how many of it in a row), in order


@frozen(kw_only=True)
class Epoch:
    """What happens in one epoch. Batches count from 0.

    Attributes:
        batches: Train batches.
        windows: For each optimizer, its windows: how long, and how many in a row.
        checks: The batches after which there is a check.
        saves: The batches after which a checkpoint is written.
        global_steps: Rounds in which an optimizer steps.
        cut: Whether the epoch ends before its last batch.
    """

    batches: int
    windows: tuple[Windows, ...]
    validations: IntRanges
    saves: IntRanges
    global_steps: int
    ended_early: bool

    @property
    def steps(self) -> tuple[int, ...]:
        """For each optimizer, its steps."""
        return tuple(sum(count for _, count in windows) for windows in self.windows)


class EpochBuilder:
    """What is written down of an epoch, or of a part of it that repeats itself.

    Where they are of a part that stands for all its repetitions, the numbers of its batches grow; nothing else may.
    """

    def __init__(self, optimizers: int) -> None:
        self.windows: list[list[tuple[int, int]]] = [[] for _ in range(optimizers)]
        self.validations, self.saves = _Marks(), _Marks()
        self.batches = 0
        self.is_over = self.ended_early = False

    def step(self, optimizer_i: int, length: Any, count: int = 1) -> None:
        """An optimizer steps, after a window of this length; or after `count` of them in a row."""
        windows = self.windows[optimizer_i]
        length = _the_same(length)
        if windows and windows[-1][0] == length:
            windows[-1] = (length, windows[-1][1] + count)
        else:
            windows.append((length, count))

    def end(self, counters: Counters) -> None:
        """The epoch ends here."""
        self.is_over, self.batches, self.ended_early = True, _the_same(counters.batch_nb) + 1, counters.epoch_ended_early

    @property
    def has_places(self) -> bool:
        """Whether there is a check or a save after a batch that is not another in each repetition."""
        return bool(self.validations.build() or self.saves.build())

    def repeat(self, part: EpochBuilder, times: int) -> None:
        """Add a part of the epoch that stands for all its repetitions, so many times."""
        for i, windows in enumerate(part.windows):
            if len(windows) == 1:
                self.step(i, windows[0][0], windows[0][1] * times)
            elif windows:
                for _ in range(times):  # the last window of one time may go on with the first of the next
                    self.step(i, *windows[0])
                    self.windows[i].extend(windows[1:])
        self.validations.repeat(part.validations, times)
        self.saves.repeat(part.saves, times)

    def build(self, global_steps: Any) -> Epoch:
        """What there is to say of the whole epoch."""
        return Epoch(
            batches=self.batches,
            windows=tuple(map(tuple, self.windows)),
            validations=self.validations.build(),
            saves=self.saves.build(),
            global_steps=_the_same(global_steps),
            ended_early=self.ended_early,
        )


class _Marks:
    """Batches after which something happens. Those of a part that repeats itself stand for one batch in each repetition."""

    def __init__(self) -> None:
        self._growth = IntRangesBuilder()
        self._growing: list[tuple[AffineInt, int, int]] = []  # (first, step, count)

    def add(self, first: Any, step: int = 1, count: int = 1) -> None:
        """`count` more, each `step` behind the other."""
        if is_affine(first):
            self._growing.append((first, step, count))
        else:
            self._growth.add_range(first, step, count)

    def repeat(self, part: _Marks, times: int) -> None:
        """Those of a part, in each of its repetitions."""
        singles = [number for number, _, count in part._growing if count == 1]
        if singles and len(singles) == len(part._growing):
            first = [number.start for number in singles]
            steps = [later - earlier for earlier, later in pairwise([*first, first[0] + singles[0].slope])]
            if not any(map(is_affine, steps)) and len(set(steps)) == 1:
                self.add(first[0], steps[0], times * len(singles))
                return
        for k in range(times if part._growing else 0):
            for number, step, count in part._growing:
                self.add(number.start + number.slope * k, step, count)

    def build(self) -> IntRanges:
        """The batches."""
        return self._growth.build()


def _the_same(number: Any) -> int:
    """A number that has to be the same in each repetition."""
    if is_affine(number):
        raise NotAffineError
    return int(number)
