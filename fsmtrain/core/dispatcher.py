"""The flat dispatcher: runs a table. It visits a state, asks its guards, takes a row, and enters the next state.

It knows nothing of what the states do: it is given the actions, one for each state that has work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter_ns

from attrs import evolve, frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.effects import AnyEffect, CountedEffect, Effect, begin_epoch
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.trace import BLOCK, Trace, Transition, transition, where
from fsmtrain.core.transition_guards import Guard
from fsmtrain.core.transition_table import Row, Table
from fsmtrain.errors import GuardError, UsageError
from fsmtrain.old_names import renamed_attributes

Action = Callable[[], None]
Observer = Callable[[Transition], None]
Bind = Callable[[AnyEffect], Effect]


class Case:
    """A row as the dispatcher takes it: the guard that is still to be asked, the effects, and the next node."""

    __slots__ = ("effects", "guard", "row", "target")

    def __init__(self, row: int, guard: Guard | None, effects: tuple[Effect, ...]) -> None:
        self.row, self.guard, self.effects = row, guard, effects
        self.target: Node


class Node:
    """A state with its action, and its cases in the order in which they are asked."""

    __slots__ = ("action", "cases", "is_final", "later", "nanoseconds", "state", "visits")

    def __init__(self, state: State, action: Action | None, cases: tuple[Case, ...]) -> None:
        self.state, self.action, self.cases, self.is_final = state, action, cases, state.is_final
        self.later: Node | None = None  # the same after the epoch's first batch, without what happens once an epoch
        self.visits = self.nanoseconds = 0


@renamed_attributes(visits="count")
@frozen
class Timing:
    """The number of visits to a state, and the wall time of all of them together, in seconds."""

    count: int
    seconds: float


class Dispatcher:
    """One run of a table: its state, counters, signals and trace.

    Args:
        table: A configuration's table.
        limits: What its guards see as ``limits``.
        counters: The position at the beginning; changed during the run.
        signals: What its guards see as ``signals``; the actions write here.
        actions: The work of a visit to each state. A state without an action has none.
        observer: Called with every transition after it has been taken.
        state: The state that is visited first.

    A guard is asked at most once a visit. Rows are asked in order and the first that holds is taken: the rows of a table
    exclude each other by their ``unless``, so no other could hold.
    """

    def __init__(
        self,
        table: Table,
        limits: Limits,
        counters: Counters,
        signals: Signals,
        actions: Mapping[State, Action],
        *,
        observer: Observer | None = None,
        state: State = State.START,
    ) -> None:
        expected = limits.train_batches, limits.val_check_batches  # until an epoch begins
        if counters.epoch_batches == counters.epoch_val_check_batches == 0:
            counters.epoch_batches, counters.epoch_val_check_batches = expected
        if signals.epoch_length == signals.epoch_val_interval == 0:
            signals.epoch_length, signals.epoch_val_interval = expected
        self.table, self.limits, self.counters, self.signals, self.actions = table, limits, counters, signals, actions
        self.trace = Trace(table, limits, counters)
        self.observer = observer
        self.is_visiting = False  # while the action and the guards of a state run
        self._nodes = nodes_of(table, actions, self.bind)
        self._node = self._nodes[state]

    def set_table(self, table: Table, limits: Limits) -> None:
        """Run another table from now on, in its start: that of a run which is resumed. The trace restarts.

        Raises:
            UsageError: This is called during a visit.
        """
        self.forbid_reentry()
        self.table, self.limits = table, limits
        self.trace = Trace(table, limits, self.counters)
        self._nodes = nodes_of(table, self.actions, self.bind)
        self._node = self._nodes[State.START]

    @property
    def state(self) -> State:
        """The state of the next visit, or of the current one; the final state once the run has ended."""
        return self._node.state

    def set_state(self, state: State, *, work_done: bool, keep_trace: bool = False) -> None:
        """Move to a state, with the counters and signals unchanged; the trace restarts here.

        Args:
            state: One of the table's.
            work_done: Whether its work is done already, so that its next visit only asks its guards.
            keep_trace: Whether the run has returned to an earlier position, so that the trace continues.

        Raises:
            UsageError: The table has no such state, or this is called during a visit.
        """
        self.forbid_reentry()
        if state not in self._nodes:
            raise UsageError(
                f"The run cannot go to the state {state}: its table has only {', '.join(map(str, self.table.states))}."
            )
        if keep_trace:
            self.trace.turn(self.counters)
        else:
            self.trace = Trace(self.table, self.limits, self.counters)
        node = self._nodes[state]
        if node.later is not None and self.counters.batch_nb > 0:
            node = node.later
        self._node = Node(state, None, node.cases) if work_done else node

    def bind(self, effect: AnyEffect) -> Effect:
        """Return an effect as this run applies it; one that counts a signal leaves the value in the trace.

        Raises:
            UsageError: Later, when it is applied: the signal is not an int >= 0.
        """
        if not isinstance(effect, CountedEffect):
            return effect
        function, name, signals, once_an_epoch = effect.function, effect.signal, self.signals, effect.once_an_epoch

        def count(limits: Limits, counters: Counters) -> None:
            if once_an_epoch and counters.batch_nb > 0:
                return
            value = getattr(signals, name)
            if type(value) is not int or value < 0:
                raise UsageError(f"signals.{name}={value!r}: it counts, so it must be an int >= 0.")
            self.trace.counted.append(value)
            function(limits, counters, signals)

        return count

    @property
    def work(self) -> Action | None:
        """The action that the next visit runs before it asks its guards; None if there is none, or its work is done."""
        return self._node.action

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended."""
        return self._node.is_final

    @property
    def times(self) -> dict[State, Timing]:
        """The visits and time of each state so far, in the order of `State`, failed visits included. Others are left out."""
        times = {}
        for state, node in self._nodes.items():
            same = [node] if node.later is None else [node, node.later]
            visits, nanoseconds = sum(n.visits for n in same), sum(n.nanoseconds for n in same)
            if visits or nanoseconds:
                times[state] = Timing(visits, nanoseconds / 1e9)
        return times

    def advance(self) -> Transition:
        """Make one visit: the state's action, its guards, the effects of the row that holds.

        Raises:
            UsageError: The run has ended, or this is called during a visit.
        """
        if self._node.is_final:
            raise UsageError(
                f"The run has ended in the state {self.state}: there is no further transition. Build a new machine."
            )
        self.forbid_reentry()
        if len(self.trace.rows) >= BLOCK:
            self.trace.turn(self.counters)
        node = self._node
        begun = perf_counter_ns()
        self.is_visiting = True
        try:
            if node.action is not None:
                node.action()
            case = choose(node, self.limits, self.counters, self.signals)
            taken = transition(self.table, case.row, self.counters)
            for effect in case.effects:
                effect(self.limits, self.counters)
        except BaseException as error:
            self.record_failure(perf_counter_ns() - begun)
            self.annotate_error(error)
            raise
        finally:
            self.is_visiting = False
        self.record(case.row, perf_counter_ns() - begun)
        if self.observer is not None:
            self.observer(taken)
        return taken

    def record(self, row: int, nanoseconds: int) -> None:
        """Record that a row of the current state has been taken, its effects included, and enter its target.

        For an engine that takes the rows of this run in its own way.

        Args:
            row: The index of the row in the table.
            nanoseconds: The duration of the visit.
        """
        self.trace.rows.append(row)
        self._node.visits += 1
        self._node.nanoseconds += nanoseconds
        self._node = next(case.target for case in self._node.cases if case.row == row)

    def record_failure(self, nanoseconds: int) -> None:
        """Record the duration of a visit to the current state that failed."""
        self._node.nanoseconds += nanoseconds

    def forbid_reentry(self) -> None:
        """Raise if a visit is under way: no other can take place within it.

        Raises:
            UsageError: A hook, a guard or the model asked for the next transition.
        """
        if self.is_visiting:
            raise UsageError(
                f"advance() or run() was called while the state {self.state} was being visited, by a hook, a guard or the "
                f"model. Call it outside of the run."
            )

    def run(self) -> None:
        """Visit one state after the other up to a final one.

        Raises:
            UsageError: This is called during a visit.
        """
        self.forbid_reentry()
        if self.observer is not None:
            while not self._node.is_final:
                self.advance()
            return
        limits, counters, signals, clock = self.limits, self.counters, self.signals, perf_counter_ns
        node, last = self._node, clock()
        self.is_visiting = True
        try:
            while not node.is_final:
                rows = self.trace.rows if len(self.trace.rows) < BLOCK else self.trace.turn(counters)
                record = rows.append
                for _ in range(BLOCK - len(rows)):
                    if node.action is not None:
                        node.action()
                    for case in node.cases:
                        if case.guard is None or case.guard(limits, counters, signals):
                            break
                    else:
                        raise none_holds(node)
                    for effect in case.effects:
                        effect(limits, counters)
                    record(case.row)
                    now = clock()
                    node.nanoseconds += now - last
                    node.visits += 1
                    last = now
                    self._node = node = case.target
                    if node.is_final:
                        break
        except BaseException as error:
            node.nanoseconds += clock() - last
            self.annotate_error(error)
            raise
        finally:
            self.is_visiting = False

    def annotate_error(self, error: BaseException) -> None:
        """Add the position of the run to an error, once, as a note."""
        note = f"in state {self.state}, {where(self.counters)}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)

    @contextmanager
    def ending_on_errors(self, end: Callable[[], None]) -> Iterator[None]:
        """Note the position of the run on an error, and end the run by calling `end`, which is idempotent."""
        try:
            yield
        except BaseException as error:
            self.annotate_error(error)
            end()
            raise


def choose(node: Node, limits: Limits, counters: Counters, signals: Signals) -> Case:
    """Return the case of this state that holds.

    Raises:
        GuardError: None does.
    """
    for case in node.cases:
        if case.guard is None or case.guard(limits, counters, signals):
            return case
    raise none_holds(node)


def none_holds(node: Node) -> GuardError:
    """Return the error for a state that no row leaves now."""
    asked = ", ".join(f"{guard_name(case.guard)}: False" for case in node.cases)
    return GuardError(f"no transition leaves the state {node.state}: none of its guards holds ({asked or 'it has none'}).")


def nodes_of(table: Table, actions: Mapping[State, Action], bind: Bind) -> dict[State, Node]:
    """Return the table as a graph: each state with its action, its cases in order, and the nodes that they lead to.

    A state whose effects count once an epoch has a second node, `Node.later`, without them: it is entered from all rows that do
    not begin an epoch, so that a batch costs nothing for what happens once.

    Args:
        table: The table.
        actions: The work of a visit to each state.
        bind: Makes an effect of two arguments of each effect in the table.
    """
    nodes = {}
    for state in table.states:
        rows = [(index, row) for index, row in enumerate(table) if row.source is state]
        nodes[state] = Node(state, actions.get(state), _cases(rows, bind))
        later = [(index, evolve(row, then=tuple(e for e in row.then if not _is_once_an_epoch(e)))) for index, row in rows]
        if later != rows:
            nodes[state].later = Node(state, actions.get(state), _cases(later, bind))
    for node in nodes.values():
        for case in (*node.cases, *(node.later.cases if node.later is not None else ())):
            target = nodes[table.rows[case.row].to]
            begins_epoch = begin_epoch in table.rows[case.row].then
            case.target = target if begins_epoch or target.later is None else target.later
    return nodes


def _is_once_an_epoch(effect: AnyEffect) -> bool:
    return isinstance(effect, CountedEffect) and effect.once_an_epoch


def _cases(rows: list[tuple[int, Row]], bind: Bind) -> tuple[Case, ...]:
    """Return the rows of one state in order, without the guards that have already failed when a row is reached."""
    failed: list[Guard] = []
    cases = []
    for index, row in rows:
        remaining = tuple(guard for guard in row.unless if guard not in failed)
        guard = evolve(row, unless=remaining).holds if remaining else row.when
        cases.append(Case(index, guard, tuple(map(bind, row.then))))
        if row.when is not None and not remaining:
            failed.append(row.when)
    return tuple(cases)
