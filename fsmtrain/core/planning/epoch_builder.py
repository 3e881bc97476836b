"""`Epoch`: the windows, validations and saves of one epoch of a plan; `EpochBuilder` records them during a simulation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from attrs import frozen

from fsmtrain.core.counters import Counters
from fsmtrain.core.planning.affine import AffineInt, NotAffineError, is_affine
from fsmtrain.core.planning.int_ranges import IntRanges, IntRangesBuilder

Windows = tuple[tuple[int, int], ...]  # (length in backwards, how many of this length in a row), in order


@frozen(kw_only=True)
class Epoch:
    """What happens in one epoch. Batches count from 0.

    Attributes:
        batches: The number of train batches; of an epoch that a resumed run is in, those that are left.
        windows: For each optimizer, the lengths of its windows, and how many of each length in a row.
        validations: The batches after which there is a validation.
        saves: The batches after which a checkpoint is written.
        global_steps: The number of rounds in which an optimizer steps.
        ended_early: Whether the epoch ends before its last batch.
    """

    batches: int
    windows: tuple[Windows, ...]
    validations: IntRanges
    saves: IntRanges
    global_steps: int
    ended_early: bool

    @property
    def steps(self) -> tuple[int, ...]:
        """The number of steps of each optimizer."""
        return tuple(sum(count for _, count in windows) for windows in self.windows)


class EpochBuilder:
    """Records an epoch, or a stretch of one that stands for all its repetitions.

    In a stretch, the numbers of the batches are affine, and everything else must be the same in each repetition.

    Args:
        counters: The counters when the epoch or the stretch begins.
        batches_done: The batches of the epoch before that.
    """

    def __init__(self, counters: Counters, batches_done: int = 0) -> None:
        self.windows: list[list[tuple[int, int]]] = [[] for _ in counters.optimizer_steps]
        self.validations, self.saves = _BatchNumbers(), _BatchNumbers()
        self.batches = self.global_steps = 0
        self.is_complete = self.ended_early = False
        self._first_step, self._batches_done = counters.global_step, batches_done

    def add_window(self, optimizer_i: int, length: Any, count: int = 1) -> None:
        """Record `count` windows of this length in a row, each ended by a step of the optimizer."""
        windows = self.windows[optimizer_i]
        length = _constant(length)
        if windows and windows[-1][0] == length:
            windows[-1] = (length, windows[-1][1] + count)
        else:
            windows.append((length, count))

    def end(self, counters: Counters) -> None:
        """Record the end of the epoch."""
        self.is_complete, self.ended_early = True, counters.epoch_ended_early
        self.batches = _constant(counters.batch_nb) + 1 - self._batches_done
        self.global_steps = _constant(counters.global_step - self._first_step)

    def repeat(self, stretch: EpochBuilder, count: int) -> None:
        """Record all the repetitions of a stretch."""
        for i, windows in enumerate(stretch.windows):
            if len(windows) == 1:
                self.add_window(i, windows[0][0], windows[0][1] * count)
            elif windows:
                for _ in range(count):  # the last window of one repetition may have the length of the next one's first
                    self.add_window(i, *windows[0])
                    self.windows[i].extend(windows[1:])
        self.validations.repeat(stretch.validations, count)
        self.saves.repeat(stretch.saves, count)

    def build(self) -> Epoch:
        """Return the epoch, which has ended."""
        return Epoch(
            batches=self.batches,
            windows=tuple(map(tuple, self.windows)),
            validations=self.validations.build(),
            saves=self.saves.build(),
            global_steps=self.global_steps,
            ended_early=self.ended_early,
        )


class _BatchNumbers:
    """Ascending numbers of batches. An affine one, in a stretch, stands for one batch in each repetition."""

    def __init__(self) -> None:
        self._plain = IntRangesBuilder()
        self._affine: list[tuple[AffineInt, int, int]] = []  # (first, step, count)

    def add(self, first: Any, step: int = 1, count: int = 1) -> None:
        """Append `count` numbers, each `step` after the one before."""
        if is_affine(first):
            self._affine.append((first, step, count))
        else:
            self._plain.add_range(first, step, count)

    def repeat(self, stretch: _BatchNumbers, count: int) -> None:
        """Append the numbers of a stretch in each of its repetitions: as one range if all are at equal distance."""
        singles = [number for number, _, n in stretch._affine if n == 1]
        if singles and len(singles) == len(stretch._affine):
            starts = [number.start for number in singles]
            steps = [later - earlier for earlier, later in pairwise([*starts, starts[0] + singles[0].slope])]
            if not any(map(is_affine, steps)) and len(set(steps)) == 1:
                self.add(starts[0], steps[0], count * len(singles))
                return
        for k in range(count if stretch._affine else 0):
            for number, step, n in stretch._affine:
                self.add(number.start + number.slope * k, step, n)

    def build(self) -> IntRanges:
        """Return the numbers."""
        return self._plain.build()


def _constant(number: Any) -> int:
    """Return a number that must be the same in each repetition."""
    if is_affine(number):
        raise NotAffineError
    return int(number)
