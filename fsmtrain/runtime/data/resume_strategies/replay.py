"""Resume any loader by loading the batches of the epoch again, from the random states of its start.

Exact, and slow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from fsmtrain.errors import PositionError
from fsmtrain.plurals import plural
from fsmtrain.runtime.data.resume_strategies.resume_strategy import LoaderProgress, ResumeStrategy
from fsmtrain.runtime.rng import get_global_states, global_states_are
from fsmtrain.user_warnings import warn

_END = object()
_WARN_AFTER_SECONDS = 1.0  # of loading again


class ReplayStrategy(ResumeStrategy):
    """For every other loader: iterables, streams, iterators."""

    kind = "replay"
    loaders = "an iterable other than torch's DataLoader"

    @classmethod
    def supports(cls, loader: object) -> bool:
        """Return true: anything that can be iterated over can be iterated over again."""
        return True

    def resume_pass(self, progress: LoaderProgress, state: dict[str, Any]) -> None:
        """Load the batches of the pass again. An iterator has one pass, which lasts all epochs."""
        count = progress.yielded
        if isinstance(self.loader, Iterator):
            progress.start, count = progress.first_start, progress.fetched
        self.iterator = replay(self, progress, count)

    def restore_between_passes(self, progress: LoaderProgress, state: dict[str, Any]) -> None:
        """Load the batches of an iterator again: its next epoch continues where the last one ended."""
        if isinstance(self.loader, Iterator):
            self.resume_pass(progress, state)


def replay(strategy: ResumeStrategy, progress: LoaderProgress, count: int) -> Iterator[Any]:
    """Begin the last pass again, in the random states of its start, and take its first batches."""
    strategy.rewind(progress)
    iterator: Iterator[Any] = iter(strategy.loader)
    if isinstance(strategy.loader, (list, tuple)):
        for _ in range(count):
            next(iterator)
    elif count:
        load_again(iterator, count, strategy.name)
    return iterator


def load_again(batches: Iterator[Any], count: int, name: str) -> None:
    """Take a number of batches, and warn of what that costs, and if it cannot be exact.

    Raises:
        PositionError: There are fewer.
    """
    start, states, has_warned = time.perf_counter(), None, False
    for i in range(count):
        if next(batches, _END) is _END:
            raise PositionError(
                f"{name}: the saved position is after {plural(count, 'batch')}, but the loader ends after {i}. Pass a loader "
                f"like the one that was saved."
            )
        states = states or get_global_states()
        seconds = time.perf_counter() - start
        if not has_warned and (seconds > _WARN_AFTER_SECONDS or i + 1 == count):
            has_warned, estimate = True, _duration(seconds / (i + 1) * count)
            warn(
                f"{name}: to resume, {plural(count, 'batch')} must be loaded again, which takes {estimate}. "
                f"SeededDataLoader, or any loader with state_dict and load_state_dict, avoids this."
            )
    if states is not None and not global_states_are(states):
        warn(
            f"{name}: the loader draws from a global random generator during the epoch, and so does training, so the rest of "
            f"the epoch may differ. Use SeededDataLoader, or give the loader its own generator."
        )


def _duration(seconds: float) -> str:
    """Return an estimated duration in words.

    >>> _duration(0.00008), _duration(4.26)
    ('less than 0.1 s', 'about 4.3 s')
    """
    return f"about {seconds:.1f} s" if seconds >= 0.1 else "less than 0.1 s"
