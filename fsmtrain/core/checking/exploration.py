"""Walks through every moment that a run of a loop can come to, as far as its guards can tell moments apart.

What comes from outside is tried in all its ways: patience gives out or does not, a step is skipped or not, a stream ends or
goes on, somebody asks for a stop; and so are the answers of guards that cannot be read. Epochs that begin alike are gone
through once, and once more as the last epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from operator import attrgetter

from attrs import define, field, fields, frozen

from fsmtrain.core.checking.cycles import nodes_on_cycles
from fsmtrain.core.checking.row_choices import Disagreement, RowChoices, compare_with_source
from fsmtrain.core.checking.user_guards import user_guards
from fsmtrain.core.counters import SIGNAL_DEFAULTS, Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.folding import may_change
from fsmtrain.core.guard_ast.evaluate import compile_expression
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.table import Table
from fsmtrain.errors import GuardError

# What no built-in guard tells moments of one epoch apart by.
_TOTALS = ("batches_begun", "global_step", "validations_done", "steps_skipped", "round_nb", "optimizer_steps", "stepped_in")
_OF_AN_EPOCH = attrgetter(*(f.name for f in fields(Counters) if f.name not in (*_TOTALS, "gathered_by")))


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
    """What was found on the way. Of each kind the nearest to an epoch's beginning comes first.

    Attributes:
        explored: The moments that were looked at.
        taken: The rows that were taken, by their index.
        odd: Choices without a row, or with several.
        raised: What a guard raised, with its moment.
        disagreements: Guards that answered otherwise than their source says, with the moment.
        held: For each of the user's guards that can be read, by its name, a moment in which it held.
        stepped: The optimizers that stepped.
        unstepped: Moments that end an epoch, or the run, with gathered gradients.
        beyond: A moment beyond the last batch or epoch, which no guard stopped.
        circling: A moment that may come again with all its counters the same.
        is_whole: Whether all was gone through.
        bounded: What was not gone through to its end, and why.
    """

    nb_moments: int = 0
    taken: set[int] = field(factory=set)
    wrong_choices: list[Choice] = field(factory=list)
    guard_errors: list[tuple[str, Moment]] = field(factory=list)
    disagreements: list[tuple[Disagreement, Moment]] = field(factory=list)
    held: dict[str, Moment] = field(factory=dict)
    stepped: set[int] = field(factory=set)
    unstepped_ends: list[Moment] = field(factory=list)
    past_the_end: Moment | None = None
    endless: Moment | None = None
    is_complete: bool = True
    not_explored: list[str] = field(factory=list)


class Explorer:
    """Goes through the moments of a table.

    Args:
        table, limits, guards: The loop's.
        tells_totals: Whether a guard may tell moments apart by totals of the whole run.
        most: Moments to look at before it gives up, and says so.
    """

    def __init__(self, table: Table, limits: Limits, guards: Guards, *, distinguish_totals: bool, max_moments: int) -> None:
        self._table, self._limits, self._distinguish_totals, self._max_moments = table, limits, distinguish_totals, max_moments
        self._row_choices = RowChoices(table, limits)
        self._user_guards = [(own, compile_expression(own.expression)) for own in user_guards(guards) if not own.is_opaque]
        self._nodes: dict[tuple[object, ...], int] = {}
        self._first: list[Moment | None] = []  # of each node
        self._successors: list[set[int]] = []  # from each node to others
        self.found = Exploration()

    def explore(self) -> Exploration:
        """Everything from the start on."""
        found, waiting = self.found, deque[tuple[int, State, Counters, Signals, Moment | None]]()
        counters, signals = Counters.begin(self._limits.optimizers), Signals()
        waiting.append((self._enter(State.START, counters, signals), State.START, counters, signals, None))
        epochs: dict[tuple[object, ...], Counters] = {}
        while waiting:
            node, state, counters, signals, before = waiting.popleft()
            for seen in self._visit(state, counters, signals):
                moment = Moment(state, counters, seen, before)
                found.nb_moments += 1
                self._first[node] = self._first[node] or moment
                for target, after in self._choose(moment):
                    begins = target is State.FETCH and after.batch_nb == 0
                    if (begins or target.is_final) and after.open_windows > 0 and target is not State.ROLLED_BACK:
                        found.unstepped_ends.append(moment)
                    if target.is_final or self._is_past_the_end(after, moment):
                        continue
                    if begins:
                        after = self._postponed(after, epochs)
                    known = len(self._nodes)
                    next_node = self._enter(target, after, seen)
                    self._successors[node].add(next_node)
                    if next_node == known:
                        waiting.append((next_node, target, after, seen, None if begins else moment))
            if found.nb_moments >= self._max_moments and waiting:
                found.not_explored.append(f"it stopped after {self._max_moments:,} moments")
                found.is_complete = False
                break
        self._find_cycles()
        return found

    def _enter(self, state: State, counters: Counters, signals: Signals) -> int:
        """The node of a state that is entered; moments that no guard tells apart are one."""
        key = self._key(state, counters, signals)
        node = self._nodes.setdefault(key, len(self._nodes))
        if node == len(self._first):
            self._first.append(None)
            self._successors.append(set())
        return node

    def _is_past_the_end(self, after: Counters, moment: Moment) -> bool:
        """Whether the run goes on beyond its bounds, where guards that wait for the very last batch no longer hold."""
        limits = self._limits
        ended = 0 < limits.train_batches <= after.batch_nb or after.epochs_done > limits.epochs
        passes = max(limits.sanity_batches, limits.val_batches, limits.test_batches)
        if ended or (0 < passes <= after.eval_nb and not limits.evaluates_stream):
            self.found.past_the_end = self.found.past_the_end or moment
            return True
        return False

    def _find_cycles(self) -> None:
        found = self.found
        circle = nodes_on_cycles(self._successors)
        found.endless = self._first[min(circle)] if circle else None

    def _visit(self, state: State, counters: Counters, signals: Signals) -> Iterator[Signals]:
        """The signals that the visit may leave, in all its ways."""
        ways = [signals.copy()]
        for name in state.info.writes:
            if may_change(name, self._limits):
                ways = _with_values(ways, name, self._values(name, counters))
        yield from ways

    def _values(self, signal: str, counters: Counters) -> tuple[int, ...]:
        """The values that an action may write to a signal."""
        if type(SIGNAL_DEFAULTS[signal]) is int:
            return 1, 2, 3
        is_last = {"stream_ended": counters.batch_nb, "pass_ended": counters.eval_nb}.get(signal, -1) + 1 >= self.longest_stream
        return (True,) if is_last else (False, True)

    @property
    def longest_stream(self) -> int:
        """The batches after which a stream is taken to end."""
        return 2 * max(self._limits.val_check_batches, *(length for _, length in self._limits.windows), 3) + 1

    def _choose(self, moment: Moment) -> Iterator[tuple[State, Counters]]:
        """Where the moment leads; and where it would, if somebody asked for a stop now."""
        found, counters, signals = self.found, moment.counters, moment.signals.copy()
        self._call_user_guards(moment)
        if moment.state is State.STEP:
            found.stepped.add(counters.optimizer_i)
        for asked in (False, True):
            signals.stop_requested = asked
            try:
                choices = self._row_choices.holding_rows(moment.state, counters, signals)
            except GuardError as error:
                found.guard_errors.append((str(error), moment))
                return
            found.disagreements += [(disagreement, moment) for disagreement in self._row_choices.disagreements]
            self._row_choices.disagreements.clear()
            for holding in choices:
                if len(holding) != 1:
                    found.wrong_choices.append(Choice(moment, holding))
                    return
                [index] = holding
                found.taken.add(index)
                if not asked:
                    row, after = self._table.rows[index], counters.copy()
                    for effect in row.then:
                        effect(self._limits, after)
                    yield row.to, after

    def _call_user_guards(self, moment: Moment) -> None:
        """Ask the user's guards themselves, also where something else is in their way."""
        records = (self._limits, moment.counters, moment.signals)
        for own, reading in self._user_guards:
            if not own.decides_at(moment.state, *records):
                continue
            try:
                answer = own.guard(*records)
            except Exception:
                continue  # it may be that a run never asks it here
            disagreement = compare_with_source(own.guard, answer, reading, records)
            if disagreement is not None:
                self.found.disagreements.append((disagreement, moment))
            if answer:
                self.found.held.setdefault(own.name, moment)

    def _postponed(self, counters: Counters, epochs: dict[tuple[object, ...], Counters]) -> Counters:
        """An epoch that begins as another did is taken for the run's last one, where it would be like all between."""
        if self._distinguish_totals:
            return counters
        enough = counters.epochs_done >= self._limits.min_epochs
        alike = (
            enough,
            counters.window_length,
            tuple(counters.gathered_by),
            counters.epochs_since_validation,
            counters.open_windows,
        )
        if alike not in epochs:
            epochs[alike] = counters
            return counters
        last = self._limits.epochs - 1
        if counters.epochs_done < last and self._limits.window_of(last) == counters.window_length:
            counters.epochs_done = counters.current_epoch = last
        return counters

    def _key(self, state: State, counters: Counters, signals: Signals) -> tuple[object, ...]:
        told = counters.values() if self._distinguish_totals else (*_OF_AN_EPOCH(counters), *counters.gathered_by)
        return state, told, signals.splits, signals.patience_exhausted, signals.stream_ended, signals.pass_ended


def _with_values(ways: list[Signals], name: str, values: tuple[bool | int, ...]) -> list[Signals]:
    """Each of the ways, with each of these values of a signal."""
    several = []
    for way in ways:
        for value in values:
            changed = way.copy()
            setattr(changed, name, value)
            several.append(changed)
    return several
