"""The flat dispatcher: runs a table. It visits a state, asks its guards, takes a row, and enters the next state.

It knows nothing of what the states do: the actions are handed in, one for each state that has something to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter_ns

from attrs import frozen

from fsmtrain.core.counters import Counters, Signals
from fsmtrain.core.effects import Effect
from fsmtrain.core.guard_ast.parse import guard_name
from fsmtrain.core.guards import Guard
from fsmtrain.core.limits import Limits
from fsmtrain.core.states import State
from fsmtrain.core.table import Row, Table
from fsmtrain.core.trace import BLOCK, Trace, Transition, transition, where
from fsmtrain.errors import GuardError, UsageError

Action = Callable[[], None]
Observer = Callable[[Transition], None]


class Case:
    """A row as the dispatcher takes it: the guard that is still to be asked when its turn comes, and where it leads."""

    __slots__ = ("effects", "guard", "row", "target")

    def __init__(self, row: int, guard: Guard | None, effects: tuple[Effect, ...]) -> None:
        self.row, self.guard, self.effects = row, guard, effects
        self.target: Node


class Node:
    """A state with its action and its cases, in the order in which they are asked."""

    __slots__ = ("action", "cases", "is_final", "nanoseconds", "state", "visits")

    def __init__(self, state: State, action: Action | None, cases: tuple[Case, ...]) -> None:
        self.state, self.action, self.cases, self.is_final = state, action, cases, state.is_final
        self.visits = self.nanoseconds = 0


@frozen
class Timing:
    """How often a state was visited, and the wall time that all its visits took together, in seconds."""

    count: int
    seconds: float


class Dispatcher:
    """One run of a table: its state, counters, signals and trace.

    Args:
        table: A configuration's table.
        limits: What its guards see as ``limits``.
        counters: Where the run begins; changed as it goes on.
        signals: What its guards see as ``signals``; the actions write here.
        actions: What is done at a visit to a state. A state without an action is passed through.
        observer: Called with every transition after it has been taken.
        state: The state that is visited first.

    A guard is asked at most once a visit. Rows are asked in order and the first that holds is taken: the rows of a table
    exclude each other by their ``unless``, so that no other could hold.
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
        self.table, self.limits, self.counters, self.signals, self.actions = table, limits, counters, signals, actions
        self.trace = Trace(table, limits, counters)
        self.observer = observer
        self.is_visiting = False  # while a state's work is done and its guards are asked
        self._nodes = nodes_of(table, actions)
        self._node = self._nodes[state]

    @property
    def state(self) -> State:
        """The state that is visited next, or under way; the final one when the run has ended."""
        return self._node.state

    def set_state(self, state: State, *, work_done: bool, keep_trace: bool = False) -> None:
        """Stand in a state, with the counters and signals as they are now; the trace begins here.

        Args:
            state: One of the table's.
            work_done: Whether its work is done already, so that its next visit only asks its guards.
            keep_trace: Whether the run has gone back to where it was before, so that the trace goes on from here.

        Raises:
            UsageError: The table has no such state, or a visit is under way.
        """
        self.forbid_reentry()
        if state not in self._nodes:
            raise UsageError(f"The run cannot stand in the state {state}: the states of its table are {_listed(self.table)}.")
        if keep_trace:
            self.trace.turn(self.counters)
        else:
            self.trace = Trace(self.table, self.limits, self.counters)
        node = self._nodes[state]
        self._node = Node(state, None, node.cases) if work_done else node

    @property
    def work(self) -> Action | None:
        """What the next visit does before it asks its guards; None where there is nothing to do, or it is done already."""
        return self._node.action

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended."""
        return self._node.is_final

    @property
    def times(self) -> dict[State, Timing]:
        """What each state has taken so far, in the order of `State`, a visit that failed included; the others are left out."""
        return {s: Timing(n.visits, n.nanoseconds / 1e9) for s, n in self._nodes.items() if n.visits or n.nanoseconds}

    def advance(self) -> Transition:
        """One visit: the state's action, its guards, the effect of the row that holds.

        Raises:
            UsageError: The run has ended, or a visit is under way.
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
        except BaseException as error:
            self.record_failure(perf_counter_ns() - begun)
            self.annotate_error(error)
            raise
        finally:
            self.is_visiting = False
        taken = transition(self.table, case.row, self.counters)
        for effect in case.effects:
            effect(self.limits, self.counters)
        self.record(case.row, perf_counter_ns() - begun)
        if self.observer is not None:
            self.observer(taken)
        return taken

    def record(self, row: int, nanoseconds: int) -> None:
        """Write down that a row of the present state has been taken, its effects included, and enter its target.

        For an engine that takes the rows of this run in its own way. `nanoseconds` is what the visit took.
        """
        self.trace.rows.append(row)
        self._node.visits += 1
        self._node.nanoseconds += nanoseconds
        self._node = self._nodes[self.table.rows[row].to]

    def record_failure(self, nanoseconds: int) -> None:
        """Write down that a visit to the present state took so long and failed."""
        self._node.nanoseconds += nanoseconds

    def forbid_reentry(self) -> None:
        """See to it that no visit is under way: none can take place within another.

        Raises:
            UsageError: One is. A hook, a guard or the model asked for the next transition.
        """
        if self.is_visiting:
            raise UsageError(
                f"advance() or run() was called while the state {self.state} was being visited, by a hook, a guard or the "
                f"model. Call it outside of the run."
            )

    def run(self) -> None:
        """Visit one state after the other up to a final one.

        Raises:
            UsageError: A visit is under way.
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
        """Note on an error where the run stood, once."""
        note = f"in state {self.state}, {where(self.counters)}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def _listed(table: Table) -> str:
    return ", ".join(map(str, table.states))


def choose(node: Node, limits: Limits, counters: Counters, signals: Signals) -> Case:
    """The case of this state that holds.

    Raises:
        GuardError: None does.
    """
    for case in node.cases:
        if case.guard is None or case.guard(limits, counters, signals):
            return case
    raise none_holds(node)


def none_holds(node: Node) -> GuardError:
    """The error for a state that no row leaves now."""
    asked = ", ".join(f"{guard_name(case.guard)}: False" for case in node.cases)
    return GuardError(f"no transition leaves the state {node.state}: none of its guards holds ({asked or 'there is none'}).")


def nodes_of(table: Table, actions: Mapping[State, Action]) -> dict[State, Node]:
    """The table as a graph to walk along: each state with its action, its cases in order, and where they lead."""
    rows = list(table)
    nodes = {}
    for state in table.states:
        cases = _cases([(index, row) for index, row in enumerate(rows) if row.source is state])
        nodes[state] = Node(state, actions.get(state), cases)
    for node in nodes.values():
        for case in node.cases:
            case.target = nodes[rows[case.row].to]
    return nodes


def _cases(rows: list[tuple[int, Row]]) -> tuple[Case, ...]:
    """The rows of one state in order, without the guards that have been asked, and have failed, when a row's turn comes."""
    failed: list[Guard] = []
    cases = []
    for index, row in rows:
        left = tuple(guard for guard in row.unless if guard not in failed)
        cases.append(Case(index, _both(row.when, left), row.then))
        if row.when is not None and not left:
            failed.append(row.when)
    return tuple(cases)


def _both(when: Guard | None, unless: tuple[Guard, ...]) -> Guard | None:
    if not unless:
        return when

    def holds(limits: Limits, counters: Counters, signals: Signals) -> bool:
        return (when is None or when(limits, counters, signals)) and not any(
            guard(limits, counters, signals) for guard in unless
        )

    return holds
