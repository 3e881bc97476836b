"""Walks through every moment that a run of a loop can come to, as far as its guards can tell moments apart.

What comes from outside is tried in all its ways: patience gives out or does not, a step is skipped or not, a stream ends or
goes on, somebody asks for a stop. Epochs that begin alike are gone through once, and once more as the last epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from attrs import define, field, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.table import Row, Table

# What no built-in guard tells moments of one epoch apart by.
_TOTALS = ("batches_begun", "global_step", "checks_done", "steps_skipped", "round_nb", "optimizer_steps", "stepped_in")


@frozen(eq=False)
class Moment:
    """A moment of a run: the state whose work has just been done, what the guards are asked about, and how it came to it."""

    state: State
    counters: Counters
    signals: Signals
    before: Moment | None = None

    def path(self) -> list[Moment]:
        """The moments from the epoch's beginning to this one."""
        path: list[Moment] = []
        moment: Moment | None = self
        while moment is not None:
            path.append(moment)
            moment = moment.before
        return path[::-1]


@frozen
class Choice:
    """A moment, and the rows of its state that hold in it, by their index. It should be exactly one."""

    moment: Moment
    rows: tuple[int, ...]


@define
class Exploration:
    """What was found on the way.

    Attributes:
        explored: The moments that were looked at.
        taken: The rows that were taken, by their index.
        odd: Choices without a row, or with several, the nearest to an epoch's beginning first.
        bounded: What was not gone through to its end, and why; empty where all was.
    """

    explored: int = 0
    taken: set[int] = field(factory=set)
    odd: list[Choice] = field(factory=list)
    bounded: list[str] = field(factory=list)


class Explorer:
    """Goes through the moments of a table.

    Args:
        table, limits: The loop's.
        tells_totals: Whether a guard may tell moments apart by totals of the whole run.
        most: Moments to look at before it gives up, and says so.
    """

    def __init__(self, table: Table, limits: Limits, *, tells_totals: bool, most: int) -> None:
        self._limits, self._tells_totals, self._most = limits, tells_totals, most
        self._rows: dict[State, list[tuple[int, Row]]] = {state: [] for state in table.states}
        for index, row in enumerate(table):
            self._rows[row.source].append((index, row))
        self._met: set[tuple[object, ...]] = set()
        self.found = Exploration()
        if limits.train_is_stream or limits.evaluates_stream:
            self.found.bounded.append(f"streams were tried up to {self._longest_stream()} batches")
        if limits.splits_batches:
            self.found.bounded.append("batches were tried with up to 3 splits")

    def explore(self) -> Exploration:
        """Everything from the start on."""
        waiting: deque[tuple[State, Counters, Signals, Moment | None]] = deque()
        waiting.append((State.START, Counters.begin(self._limits.optimizers), Signals(), None))
        epochs: dict[tuple[object, ...], Counters] = {}
        while waiting:
            state, counters, signals, before = waiting.popleft()
            for seen in self._visit(state, counters, signals):
                moment = Moment(state, counters, seen, before)
                self.found.explored += 1
                for target, after in self._choose(moment):
                    if target.is_final:
                        continue
                    begins = target is State.FETCH and after.batch_nb == 0
                    if begins:
                        after = self._as_late_as_possible(after, epochs)
                    key = self._key(target, after, seen)
                    if key not in self._met:
                        self._met.add(key)
                        waiting.append((target, after, seen, None if begins else moment))
                if self.found.explored >= self._most:
                    self.found.bounded.append(f"it stopped after {self._most:,} moments")
                    return self.found
        return self.found

    def _visit(self, state: State, counters: Counters, signals: Signals) -> Iterator[Signals]:
        """The signals that the visit may leave, in all its ways."""
        limits = self._limits
        seen = signals.copy()
        ways = [seen]
        if state is State.FETCH and limits.train_is_stream:
            seen.stream_ended = counters.batch_nb + 1 >= self._longest_stream()
            ways = [seen] if seen.stream_ended else _with(ways, "stream_ended", (False, True))
        if state is State.FETCH and limits.splits_batches:
            ways = _with(ways, "splits", (1, 2, 3))
        if state is State.STEP and limits.skips_steps:
            ways = _with(ways, "step_skipped", (False, True))
        if state in (State.SANITY_VAL, State.VAL_CHECK, State.TEST) and limits.evaluates_stream:
            last = counters.eval_nb + 1 >= self._longest_stream()
            ways = _with(ways, "pass_ended", (True,) if last else (False, True))
        if state is State.VAL_CHECK and limits.stops_early:
            ways = _with(ways, "patience_exhausted", (False, True))
        yield from ways

    def _longest_stream(self) -> int:
        return 2 * max(self._limits.check_batches, *(length for _, length in self._limits.windows), 3) + 1

    def _choose(self, moment: Moment) -> Iterator[tuple[State, Counters]]:
        """Where the moment leads; and where it would, if somebody asked for a stop now."""
        for asked in (False, True):
            signals = moment.signals.copy()
            signals.stop_requested = asked
            counters = moment.counters
            holding = [(i, row) for i, row in self._rows[moment.state] if row.holds(self._limits, counters, signals)]
            if len(holding) != 1:
                self.found.odd.append(Choice(moment, tuple(i for i, _ in holding)))
                return
            [(index, row)] = holding
            self.found.taken.add(index)
            if not asked:
                after = counters.copy()
                for effect in row.then:
                    effect(self._limits, after)
                yield row.to, after

    def _as_late_as_possible(self, counters: Counters, epochs: dict[tuple[object, ...], Counters]) -> Counters:
        """An epoch that begins as another did is taken for the run's last one, where it would be like all between."""
        if self._tells_totals:
            return counters
        enough = counters.epochs_done >= self._limits.min_epochs
        alike = (enough, counters.window, tuple(counters.gathered_by), counters.epochs_since_checks, counters.open_windows)
        if alike not in epochs:
            epochs[alike] = counters
            return counters
        last = self._limits.epochs - 1
        if counters.epochs_done < last and self._limits.window_of(last) == counters.window:
            counters.epochs_done = counters.current_epoch = last
        return counters

    def _key(self, state: State, counters: Counters, signals: Signals) -> tuple[object, ...]:
        kept = counters.copy()
        if not self._tells_totals:
            for name in _TOTALS:
                setattr(kept, name, 0)
        return state, kept.values(), signals.splits, signals.patience_exhausted, signals.stream_ended, signals.pass_ended


def _with(ways: list[Signals], name: str, values: tuple[bool | int, ...]) -> list[Signals]:
    """Each of the ways, with each of these values of a signal."""
    several = []
    for way in ways:
        for value in values:
            changed = way.copy()
            setattr(changed, name, value)
            several.append(changed)
    return several
