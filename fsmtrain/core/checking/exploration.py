"""Explore every moment of a loop's runs, without training, to find transitions that fail and runs that never end.

Two moments that no guard can tell apart are explored once. Everything from outside is tried with each value: patience is
exhausted or not, ``max_steps`` or ``max_time`` is reached or not, a step is skipped or not, a stream ends or continues, a
stop is requested or not, a forward has a loss or not (in the last batches of an epoch); so are both answers of guards that
cannot be read. Of epochs that begin alike one is explored, and one more as the last epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import product
from operator import attrgetter
from typing import get_args

from attrs import define, evolve, field, fields, frozen

from fsmtrain.core.checking.cycles import nodes_on_cycles
from fsmtrain.core.checking.guards_to_check import RUN_TOTALS, user_guards
from fsmtrain.core.checking.row_choices import Disagreement, RowChoices, compare_with_source
from fsmtrain.core.counters import SIGNALS, Counters, Signals
from fsmtrain.core.custom_guards import Guards
from fsmtrain.core.effects import apply_effects
from fsmtrain.core.folding import may_change
from fsmtrain.core.guard_ast.evaluate import compile_expression
from fsmtrain.core.limits import Limits
from fsmtrain.core.resume_point import ResumePoint
from fsmtrain.core.states import EvalPass, State
from fsmtrain.core.transition_guards import (
    another_optimizer_follows,
    another_split_follows,
    batch_is_last,
    stop_has_waited_long_enough,
)
from fsmtrain.core.transition_table import Table
from fsmtrain.errors import GuardError

_epoch_counters = attrgetter(*(f.name for f in fields(Counters) if f.name not in RUN_TOTALS | {"gathered_by"}))


@frozen(eq=False)
class Moment:
    """A moment of a run at which guards are called: a state whose work is done, with the counters and signals.

    `before` is the moment before it in the epoch, on the shortest path found.
    """

    state: State
    counters: Counters
    signals: Signals
    before: Moment | None = None

    def path(self) -> list[Moment]:
        """Return the moments from the beginning of the epoch to this one."""
        path: list[Moment] = []
        moment: Moment | None = self
        while moment is not None:
            path.append(moment)
            moment = moment.before
        return path[::-1]


@define
class Exploration:
    """What an exploration found. Of each kind, the finding nearest to the beginning of an epoch comes first.

    Attributes:
        nb_moments: The number of moments explored.
        taken: The indices of the rows taken.
        wrong_choices: For a state, and whether any of its rows holds: the indices of those that hold, if they are not one,
            and the first moment.
        guard_errors: For the message of a guard that raised, the first moment.
        disagreements: Guards that contradicted their source, each with the moment.
        held: For the name of each user's guard that can be read, a moment at which it held.
        stepped: The optimizers that stepped.
        unstepped_ends: Moments that end an epoch or the run with gathered gradients.
        past_the_end: A moment at which a run continues after its last batch or epoch.
        endless: A moment that may come again with all counters unchanged.
        is_complete: Whether everything was explored.
        not_explored: What was not, and why.
    """

    nb_moments: int = 0
    taken: set[int] = field(factory=set)
    wrong_choices: dict[tuple[State, bool], tuple[tuple[int, ...], Moment]] = field(factory=dict)
    guard_errors: dict[str, Moment] = field(factory=dict)
    disagreements: list[tuple[Disagreement, Moment]] = field(factory=list)
    held: dict[str, Moment] = field(factory=dict)
    stepped: set[int] = field(factory=set)
    unstepped_ends: list[Moment] = field(factory=list)
    open_after_batch: Moment | None = None  # an end of a batch, not the epoch's last, where a window is open
    closes_all_windows: bool = False  # whether no window is open at some end of a batch, not the epoch's last
    past_the_end: Moment | None = None
    endless: Moment | None = None
    is_complete: bool = True
    not_explored: list[str] = field(factory=list)


class Explorer:
    """Explores the moments of a loop.

    Args:
        table, limits, guards: Those of the loop.
        distinguish_totals: Whether a guard may tell moments apart by counters of the whole run.
        max_moments: The number of moments after which it gives up, and says so.
        beginning: Where the run begins, if not in `start`.
    """

    def __init__(
        self,
        table: Table,
        limits: Limits,
        guards: Guards,
        *,
        distinguish_totals: bool,
        max_moments: int,
        beginning: ResumePoint | None = None,
    ) -> None:
        # Where steps are counted, each batch may be the last one: that is tried as if a clock decided it.
        may_end = limits.has_max_time or limits.max_steps > 0
        limits = evolve(limits, max_steps=0, min_steps=0, has_max_time=may_end)
        self._table, self._limits, self._distinguish_totals, self._max_moments = table, limits, distinguish_totals, max_moments
        self._row_choices = RowChoices(table, limits)
        self._user_guards = [(own, compile_expression(own.expression)) for own in user_guards(guards) if not own.is_opaque]
        self._longest_window = max(length for _, length in limits.windows)
        self._beginning = beginning or ResumePoint(
            state=State.START, work_done=False, counters=Counters.begin(limits.optimizers), signals=limits.begin_signals()
        )
        self._longest_pass = max(map(limits.eval_batches, get_args(EvalPass)))
        self._nodes: dict[tuple[object, ...], int] = {}
        self._first: list[Moment | None] = []  # of each node
        self._successors: list[set[int]] = []  # from each node to others
        self.found = Exploration()

    def explore(self) -> Exploration:
        """Explore everything from the start on."""
        found, waiting = self.found, deque[tuple[int, State, Counters, Signals, Moment | None]]()
        begun = self._beginning
        node = self._enter(begun.state, begun.counters, begun.signals)
        waiting.append((node, begun.state, begun.counters, begun.signals, None))
        epochs: dict[tuple[object, ...], Counters] = {}
        while waiting:
            node, state, counters, signals, before = waiting.popleft()
            is_done = counters is begun.counters and begun.work_done
            for seen in (signals,) if is_done else self._visit(state, counters, signals):
                moment = Moment(state, counters, seen, before)
                found.nb_moments += 1
                self._note_open_windows(moment)
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
                found.not_explored.append(f"the exploration stopped after {self._max_moments:,} moments")
                found.is_complete = False
                break
        cycle = nodes_on_cycles(self._successors)
        found.endless = self._first[min(cycle)] if cycle else None
        return found

    def _enter(self, state: State, counters: Counters, signals: Signals) -> int:
        """Return the node of a state that is entered. Moments that no guard can tell apart have one node."""
        values = counters.values() if self._distinguish_totals else (*_epoch_counters(counters), *counters.gathered_by)
        key = state, values, signals.patience_exhausted, signals.stream_ended, signals.pass_ended
        node = self._nodes.setdefault(key, len(self._nodes))
        if node == len(self._first):
            self._first.append(None)
            self._successors.append(set())
        return node

    def _is_past_the_end(self, after: Counters, moment: Moment) -> bool:
        """Return whether the run continues after its last batch or epoch, where no guard that waits for the last one holds."""
        limits, begun = self._limits, self._beginning.counters
        # A resumed run may begin past its last epoch.
        ended = 0 < after.epoch_batches <= after.batch_nb or after.epochs_done > max(limits.epochs, begun.epochs_done)
        if ended or (0 < self._longest_pass <= after.eval_nb and not limits.evaluates_stream):
            self.found.past_the_end = self.found.past_the_end or moment
            return True
        return False

    def _visit(self, state: State, counters: Counters, signals: Signals) -> Iterator[Signals]:
        """Yield the signals after a visit, in every combination that its action may write."""
        names = [name for name in state.info.writes if may_change(name, self._limits)]
        for values in product(*(self._values(name, counters, signals) for name in names)):
            written = signals.copy()
            for name, value in zip(names, values, strict=True):
                setattr(written, name, value)
            yield written

    def _values(self, signal: str, counters: Counters, signals: Signals) -> tuple[int, ...]:
        """Return the values that an action may write to a signal."""
        if SIGNALS[signal].counter:
            return SIGNALS[signal].tried or (getattr(signals, signal),)
        if signal == "loss_is_none" and 0 < counters.epoch_batches - self._longest_window > counters.batch_nb + 1:
            return (False,)  # windows end anywhere then; only at the end of an epoch does it matter
        is_last = {"stream_ended": counters.batch_nb, "pass_ended": counters.eval_nb}.get(signal, -1) + 1 >= self.longest_stream
        return (True,) if is_last else (False, True)

    @property
    def longest_stream(self) -> int:
        """The number of batches of the longest stream that is tried."""
        return 2 * max(self._limits.val_check_batches, self._longest_window, 3) + 1

    def _note_open_windows(self, moment: Moment) -> None:
        """Note whether a window is open at the end of a batch, unless the batch has closed all because a stop waits."""
        records = (self._limits, moment.counters, moment.signals)
        if (
            moment.state is not State.ROUND_END
            or stop_has_waited_long_enough(*records)
            or another_optimizer_follows(*records)
            or another_split_follows(*records)
            or batch_is_last(*records)
        ):
            return
        if moment.counters.open_windows == 0:
            self.found.closes_all_windows = True
        else:
            self.found.open_after_batch = self.found.open_after_batch or moment

    def _choose(self, moment: Moment) -> Iterator[tuple[State, Counters]]:
        """Yield where the moment leads. The choice of a row is checked with a stop request, too."""
        found, counters, signals = self.found, moment.counters, moment.signals.copy()
        self._call_user_guards(moment)
        if moment.state is State.STEP:
            found.stepped.add(counters.optimizer_i)
        for stop_requested in (False, True):
            signals.stop_requested = stop_requested
            try:
                choices = self._row_choices.holding_rows(moment.state, counters, signals)
            except GuardError as error:
                found.guard_errors.setdefault(str(error), moment)
                return
            found.disagreements += [(disagreement, moment) for disagreement in self._row_choices.disagreements]
            self._row_choices.disagreements.clear()
            for holding in choices:
                if len(holding) != 1:
                    found.wrong_choices.setdefault((moment.state, bool(holding)), (holding, moment))
                    return
                [index] = holding
                found.taken.add(index)
                if not stop_requested:
                    row, after = self._table.rows[index], counters.copy()
                    apply_effects(row.then, self._limits, after, signals)
                    yield row.to, after

    def _call_user_guards(self, moment: Moment) -> None:
        """Call the user's guards, even if another guard comes first and a run would not call them here."""
        records = (self._limits, moment.counters, moment.signals)
        for own, evaluate in self._user_guards:
            if not own.decides_at(moment.state, *records):
                continue
            try:
                answer = own.guard(*records)
            except Exception:
                continue  # a run may never call it here
            disagreement = compare_with_source(own.guard, answer, evaluate, records)
            if disagreement is not None:
                self.found.disagreements.append((disagreement, moment))
            if answer:
                self.found.held.setdefault(own.name, moment)

    def _postponed(self, counters: Counters, epochs: dict[tuple[object, ...], Counters]) -> Counters:
        """Return the counters of the last epoch instead of an epoch that begins as one before did, if all between are alike."""
        if self._distinguish_totals:
            return counters
        start = (
            counters.epochs_done >= self._limits.min_epochs,
            counters.window_length,
            tuple(counters.gathered_by),
            counters.epochs_since_validation,
            counters.open_windows,
        )
        if start not in epochs:
            epochs[start] = counters
            return counters
        last = self._limits.epochs - 1
        if counters.epochs_done < last and self._limits.window_of(last) == counters.window_length:
            counters.epochs_done = counters.current_epoch = last
        return counters
