"""Skip the repetitions of a simulated run: find a stretch that repeats itself, and how often, and continue after the last one.

A stretch, of some batches or of some epochs, is tried once with affine counters, for all its repetitions at the same time.
If the trial ends as the next repetition begins, then every repetition does the same until the first recorded comparison
would have another answer. docs/planning.md has an example.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from attrs import frozen

from fsmtrain.core.counters import Counters
from fsmtrain.core.planning import affine
from fsmtrain.core.planning.epoch_builder import EpochBuilder
from fsmtrain.core.planning.simulation import Simulation
from fsmtrain.errors import GuardError

FIRST_WINDOW_ITEMS = 8  # of `PeriodDetector`


@frozen
class Skip:
    """A stretch that was skipped `count` times, and by how much each repetition changes the counters."""

    stretch: Stretch
    slopes: Counters
    count: int


Stretch = Sequence["Skip | None"]  # how a part of a run went: None for each batch that was run, and the skips between them


@frozen
class _Trial:
    """A stretch that was run once for all its repetitions."""

    run: Simulation
    slopes: Counters
    repetitions: affine.Repetitions


def skip_repetitions(run: Simulation, stretch: Stretch, before: Counters, min_count: int = 1) -> Skip | None:
    """Continue a run after the last repetition of the stretch that it has just been through.

    Args:
        run: The run, which stands at the end of the stretch.
        stretch: How it went.
        before: The counters when the stretch began.
        min_count: How many repetitions there must be.

    Returns:
        What was skipped; None if nothing was, because the stretch does not repeat itself often enough.
    """
    try:
        trial = _try_repetitions(run, stretch, affine.counter_slopes(before, run.counters))
    except (affine.NotAffineError, GuardError, TypeError):  # a guard that fails does so again when the run comes to it
        return None
    count = trial.repetitions.max_count()
    if count is None or count < min_count:
        return None
    _advance(run, trial, count)
    return Skip(stretch, trial.slopes, count)


def _try_repetitions(run: Simulation, stretch: Stretch, slopes: Counters) -> _Trial:
    """Run a stretch from here on, for all its repetitions at the same time.

    Raises:
        NotAffineError: It does not end as the next repetition begins.
    """
    repetitions = affine.Repetitions(run.depth)
    start = affine.affine_counters(run.counters, slopes, repetitions)
    signals, depth = run.signals.copy(), run.depth + 1
    trial = Simulation(
        run.limits,
        run.node,
        start,
        signals,
        run.exhausted_after,
        run.exhausted_after_epochs,
        depth,
        steps_made=run.steps_made,
        counted=run.counted,
    )
    for skip in stretch:
        if skip is None:
            trial.run_batch()
        else:
            _advance(trial, _try_repetitions(trial, skip.stretch, skip.slopes), skip.count)
    next_start = affine.affine_counters(affine.advanced_counters(run.counters, slopes, 1), slopes, repetitions)
    if trial.node is not run.node or trial.signals != run.signals or not affine.identical_counters(trial.counters, next_start):
        raise affine.NotAffineError
    return _Trial(trial, slopes, repetitions)


def _advance(run: Simulation, trial: _Trial, count: int) -> None:
    """Continue a run, or a trial around this one, after `count` repetitions.

    Raises:
        NotAffineError: In a repetition around these, they are not that many.
    """
    trial.repetitions.confirm(count)
    run.counters = affine.advanced_counters(run.counters, trial.slopes, count)
    epochs = trial.run.epochs
    if epochs:  # the stretch is of whole epochs
        run.epochs.append((count, tuple(epoch for _, [epoch] in epochs)))
        run.epoch = EpochBuilder(run.counters)
    else:
        run.epoch.repeat(trial.run.epoch, count)


class RepetitionFinder:
    """Finds a stretch of a sequence that has come three times in a row, and the counters before its third time."""

    def __init__(self) -> None:
        self._detector, self._length = PeriodDetector(), 0
        self._due: dict[int, tuple[int, Counters]] = {}  # at which length a third time may end: its period, its beginning

    def feed(self, item: Hashable, counters: Counters) -> tuple[int, Counters] | None:
        """Return the length of the stretch that may have come for the third time with this item, and the counters before."""
        self._length += 1
        period = self._detector.feed(item)
        if period:
            self._due[self._length + period] = period, counters.copy()
        return self._due.pop(self._length, None)


class PeriodDetector:
    """Looks at the items since it last started afresh: are they one part, of any length, twice in a row?

    It starts afresh after 8 items without such a part, then after 16, 32 and so on, so that any beginning is left behind.

    >>> detector = PeriodDetector()
    >>> [detector.feed(item) for item in "abcabcabc"]
    [0, 0, 0, 0, 0, 3, 0, 0, 0]
    """

    def __init__(self) -> None:
        self._window = FIRST_WINDOW_ITEMS
        self._items: list[Hashable] = []
        self._borders: list[int] = []  # of each prefix: the length of the longest part that both begins and ends it

    def feed(self, item: Hashable) -> int:
        """Return the length of the part that has come twice with this item; 0 if there is none."""
        if len(self._items) == self._window:
            self._window *= 2
            self._items, self._borders = [], []
        items, borders = self._items, self._borders
        items.append(item)
        border = borders[-1] if borders else 0
        while border and items[border] != item:
            border = borders[border - 1]
        if len(items) > 1 and items[border] == item:
            border += 1
        borders.append(border)
        period = len(items) - border
        return period if len(items) == 2 * period else 0
